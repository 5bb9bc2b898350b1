"""`netspec parity`: compare a net with what another program computed."""

import argparse

from ..base.errors import Error, listed
from ..base.files import find
from .finding import find_net, find_weights, weights_here
from .options import add_trust_argument
from .terminal import say, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="a prototxt, or NAME of models/")
    parser.add_argument("results", metavar="RESULTS.npz",
                        help="what the other program was fed and computed (docs/pycaffe.md)")
    parser.add_argument("--weights", metavar="FILE", help="parameters that RESULTS does not hold")
    parser.add_argument("--phase", choices=("TEST", "TRAIN"), default="TEST",
                        help="where RESULTS does not say it (default TEST)")
    parser.add_argument("--rtol", type=float, default=1e-4,
                        help="of a number or of its blob's rms, whichever is larger (default 0.0001)")
    parser.add_argument("--atol", type=float, default=1e-5, help="absolute tolerance (default 1e-05)")
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    """The `parity` command; 1 if anything is out of tolerance."""
    from ..check.parity import KINDS, PHASES, compare, read_results

    results = read_results(find(args.results, what="results"))
    path = find_net(args.net)
    weights = find_weights(args.weights, path) if args.weights else weights_here(args.net, path)
    found = compare(path, results, weights, PHASES[args.phase], args.rtol, args.atol)
    if found.remark:
        say(found.remark)
    if not found.rows:
        raise Error(f"{args.results}: holds nothing to compare ({', '.join(KINDS[3:])})")
    show(found.table())
    if found.unchecked:
        say(f"not in the results: {listed(found.unchecked, 12)}")
    agree = sum(row.verdict == "ok" for row in found.rows)
    said = f"{agree} of {len(found.rows)} agree"
    if found.first:
        said += (f"; the first that does not, in the order of the passes: {found.first.key}, layer "
                 f"'{found.first.layer}'")
    say(said)
    return int(found.first is not None)
