"""`netspec layers`: every layer type with what it takes, what it gives and what it computes."""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from ..base.errors import closest
from ..base.files import find
from ..look.layer_types import entries, markdown, plain
from ..proto import caffe_pb2
from ..proto import text as prototext


def count_results(folder: Path) -> Counter[str]:
    """Layer type -> nets in a folder of results (tests/golden) that have it, in .prototxt files or in a packed .npz."""
    nets = [prototext.read_net(path) for path in sorted((folder / "layers").glob("*.prototxt"))]
    packed = folder / "settings.npz"
    if packed.exists():
        with np.load(packed) as file:
            index = json.loads(file["index"].tobytes())
        nets += [prototext.parse(entry["net"], caffe_pb2.NetParameter) for entry in index.values()]
    return Counter(kind for net in nets for kind in {layer.type for layer in net.layer})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", nargs="*", help="only these types")
    parser.add_argument("--markdown", action="store_true", help="as the page docs/layers.md")
    parser.add_argument("--results", metavar="FOLDER", help="count the nets in this folder that Caffe has run (tests/golden)")


def run(args: argparse.Namespace) -> int:
    """The `layers` command; 1 if a type that is asked for is not known."""
    found = entries(count_results(find(args.results, what="results")) if args.results else None)
    known = {entry.type for entry in found if entry.family != "missing"}
    unknown = [name for name in args.type if name not in known]
    if args.type:
        found = [entry for entry in found if entry.type in args.type]
    if found:
        print(markdown(found) if args.markdown else plain(found))
    for name in unknown:
        print(f"'{name}' is not known{closest(name, known)}")
    return int(bool(unknown))
