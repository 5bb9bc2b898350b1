"""The `layers` command: every layer type with what it takes, what it gives and what it computes."""

import inspect
from collections import Counter
from typing import NamedTuple

from ..base.table import table
from ..net import build  # noqa: F401 - which registers the sources
from ..ops import REGISTRY, Operation
from ..proto import spec
from ..proto import text as prototext  # noqa: F401 - graph: which registers the sources
from ..proto.text import CAFFE
from . import pictures as report  # noqa: F401 - graph: which registers the sources


class Entry(NamedTuple):
    """One layer type, in words."""

    type: str
    family: str
    origin: str  # Caffe or fork; missing: a type of Caffe that is not here
    bottoms: str
    tops: str
    settings: str  # the messages of LayerParameter that it reads
    gradient: str  # to which bottoms
    coord_map: str
    results: str  # nets of this type whose results from Caffe it is checked against
    what: str


def entries(results: Counter[str] | None = None) -> list[Entry]:
    """Every known type in the order of families; results: how many nets of each type Caffe has computed."""
    results = results or Counter()
    known = [_entry(name, cls, results[name]) for name, cls in REGISTRY.items() if cls.__module__.startswith("netspec.")]
    missing = [Entry(name, "missing", "missing", *[""] * 7) for name in CAFFE - set(REGISTRY)]
    return sorted([*known, *missing], key=lambda entry: (entry.family, entry.type))


def _entry(name: str, cls: type[Operation], results: int) -> Entry:
    mapped = cls.coord_map.__func__ is not Operation.coord_map.__func__
    what = " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())
    return Entry(name, cls.family, "Caffe" if name in CAFFE else "fork", _range(cls.bottoms), _range(cls.tops),
                 " ".join(spec.own_fields(name)), _gradient(cls), "yes" if mapped else "", str(results or ""), what)


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
    here = [entry for entry in found if entry.family != "missing"]
    lines = ["# Layer types", "",
             "Written by `netspec layers --markdown --results tests/golden > docs/layers.md`; a test compares.", "",
             f"{sum(e.origin == 'Caffe' for e in here)} of the {len(CAFFE)} types of BVLC Caffe 1.0, and "
             f"{sum(e.origin == 'fork' for e in here)} of its forks (marked \\*). Any other can be given as a layer in Python "
             "([how](pycaffe.md)). In the tables:", "",
             "- settings: the messages of `LayerParameter` that the type reads;",
             "- gradient: the bottoms that get one (all parameters do);",
             "- map: whether the type has a coordinate map, so that crop offsets are derived through it;",
             "- nets: how many nets with it Caffe has run to check it against; types without have tests of their own."]
    for family in dict.fromkeys(entry.family for entry in found):
        lines += ["", f"## {family.capitalize()}", "",
                  "| type | bottoms | tops | settings | gradient | map | nets | what it computes |", "| --- " * 8 + "|"]
        for e in (e for e in found if e.family == family):
            what, mark = e.what.replace("|", "\\|").replace("*", "\\*"), "" if e.origin == "Caffe" else " \\*"
            lines.append(f"| {' | '.join([e.type + mark, *e[3:-1], what])} |")
    return "\n".join(lines)


def plain(found: list[Entry]) -> str:
    """One line a type, in columns."""
    head = Entry("type", "family", "origin", "bottoms", "tops", "settings", "gradient", "map", "nets", "what it computes")
    used = [i for i in range(len(head)) if any(entry[i] for entry in found)]
    return table([[entry[i] for i in used] for entry in found], [head[i] for i in used])
