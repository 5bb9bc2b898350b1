"""The `layers` command: every layer type with what it takes, what it gives and what it computes."""

import inspect
import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.table import table
from ..net import build  # noqa: F401 - it registers the sources of data
from ..ops import REGISTRY, Operation
from ..ops.base import Kind
from ..proto.caffe_pb2 import NetParameter
from ..proto.text import parse, read_net
from ..proto.types import CAFFE, own_fields

HEAD = """# Layer types

Written by `netspec layers --markdown --results tests/golden > docs/layers.md`; a test compares.

{} of the {} types of BVLC Caffe 1.0, and {} of its forks (marked \\*). Any other can be given as a layer in \
Python ([how](pycaffe.md)), or in torch under its own name ([how](own-layers.md)). In the tables:

- settings: the messages of `LayerParameter` that the type reads;
- gradient: the bottoms that get one (all parameters do);
- map: whether the type has a coordinate map, so that crop offsets are derived through it;
- nets: how many nets with it Caffe has run to check it against; types without have tests of their own."""


class Entry(NamedTuple):
    """One layer type, in words."""

    type: str
    family: str
    origin: str  # Caffe, fork or own; missing: a type of Caffe that is not here
    bottoms: str
    tops: str
    settings: str  # the messages of LayerParameter that it reads
    gradient: str  # to which bottoms
    coord_map: str
    results: str  # nets of this type whose results from Caffe it is checked against
    what: str


def count_results(folder: Path) -> Counter[str]:
    """Layer type -> nets with it in a folder of results (tests/golden): .prototxt files and a packed .npz."""
    nets = [read_net(path) for path in sorted((folder / "layers").glob("*.prototxt"))]
    packed = folder / "settings.npz"
    if packed.exists():
        with np.load(packed) as file:
            index = json.loads(file["index"].tobytes())
        nets += [parse(entry["net"], NetParameter) for entry in index.values()]
    return Counter(kind for net in nets for kind in {layer.type for layer in net.layer})


def entries(results: Counter[str] | None = None, own: Collection[Kind] = ()) -> list[Entry]:
    """Every known type in the order of families, and those of one's own that are given; results: how many
    nets of each type Caffe has computed."""
    results = results or Counter()
    found = [Entry(name, "missing", "missing", *[""] * 7) for name in CAFFE - set(REGISTRY)]
    for name, cls in REGISTRY.items():
        if cls.__module__.startswith("netspec.") or cls in own:
            mapped = cls.own_map or next(c for c in cls.__mro__ if "coord_map" in vars(c)) is not Operation
            what = " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())
            origin = "own" if cls in own else "Caffe" if name in CAFFE else "fork"
            found.append(Entry(name, cls.family, origin, _range(cls.bottoms),
                               _range(cls.tops), " ".join(own_fields(name)), _gradient(cls),
                               "yes" if mapped else "", str(results[name] or ""), what))
    return sorted(found, key=lambda entry: (entry.family, entry.type))


def _ends(count: int | tuple[int, int | None]) -> tuple[int, int | None]:
    """The least and the greatest number of bottoms or tops."""
    return (count, count) if isinstance(count, int) else count


def _range(count: int | tuple[int, int | None]) -> str:
    low, high = _ends(count)
    return str(low) if low == high else f"{low}+" if high is None else f"{low}-{high}"


def _gradient(cls: type[Operation]) -> str:
    (low, high), never = _ends(cls.bottoms), sorted(cls.undifferentiable)
    if high == 0 or cls.tops == 0 and not never:
        return ""
    if cls.differentiable or not never:
        return cls.differentiable or "all"
    return "none" if never == list(range(high or low)) else f"all but {' and '.join(map(str, never))}"


def markdown(found: list[Entry]) -> str:
    """The page docs/layers.md."""
    origins = Counter(entry.origin for entry in found)
    lines = [HEAD.format(origins["Caffe"], len(CAFFE), origins["fork"])]
    for family in dict.fromkeys(entry.family for entry in found):
        lines += ["", f"## {family.capitalize()}", "",
                  "| type | bottoms | tops | settings | gradient | map | nets | what it computes |",
                  "| --- " * 8 + "|"]
        for e in (e for e in found if e.family == family):
            name = e.type if e.origin == "Caffe" else f"{e.type} \\*"
            what = e.what.replace("|", "\\|").replace("*", "\\*")
            lines.append(f"| {' | '.join([name, *e[3:-1], what])} |")
    return "\n".join(lines)


def plain(found: list[Entry]) -> str:
    """One line a type, in columns."""
    head = [*Entry._fields[:7], "map", "nets", "what it computes"]
    used = [i for i in range(len(head)) if any(entry[i] for entry in found)]
    return table([[entry[i] for i in used] for entry in found], [head[i] for i in used])
