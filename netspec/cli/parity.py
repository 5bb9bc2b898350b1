"""`netspec parity`: compare a net with what another program computed."""

import argparse

from ..base.errors import Error, listed
from ..base.files import find
from ..check.parity import ATOL, KINDS, RTOL, compare, read_results
from ..proto import caffe_pb2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET.prototxt")
    parser.add_argument("results", metavar="RESULTS.npz", help="what the other program was fed and computed (docs/pycaffe.md)")
    parser.add_argument("--weights", metavar="FILE", help="parameters that RESULTS does not hold")
    parser.add_argument("--phase", choices=("TEST", "TRAIN"), default="TEST", help="where RESULTS does not say it (default TEST)")
    parser.add_argument("--rtol", type=float, default=RTOL, help=f"of a number or the blob's rms, the larger (default {RTOL:g})")
    parser.add_argument("--atol", type=float, default=ATOL, help=f"absolute tolerance (default {ATOL:g})")


def run(args: argparse.Namespace) -> int:
    """The `parity` command; 1 if anything is out of tolerance."""
    results = read_results(find(args.results, what="results"))
    given = find(args.weights, what="weights") if args.weights else None
    found = compare(find(args.net, what="net"), results, given, caffe_pb2.Phase.Value(args.phase), args.rtol, args.atol)
    if not found.rows:
        raise Error(f"{args.results}: holds nothing to compare ({', '.join(KINDS[3:])})")
    print(found.table())
    if found.unchecked:
        print(f"not in the results: {listed(found.unchecked, 12)}")
    bad = [row for row in found.rows if row.verdict != "ok"]
    print(f"{len(found.rows) - len(bad)} of {len(found.rows)} agree" + (
        f"; the first that does not, in the order of the passes: {found.first.key}, layer '{found.first.layer}'" if bad else ""))
    return int(bool(bad))
