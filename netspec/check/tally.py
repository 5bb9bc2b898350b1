"""The tally of a folder of Caffe's files, from what came of each: how many pass, and why others do not."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from ..base.errors import count
from ..base.table import table
from ..ops import REGISTRY

Row = dict[str, Any]
LOOKS, OPENCV = ("described", "drawn", "compared"), "agrees with OpenCV"
# a sentence -> what it is counted under; the first that fits
REASONS = [(re.compile(pattern), said) for pattern, said in (
    (r"(\w+) has no field '(\w+)'", r"field \1.\2"),
    (r"((?:solver|filler) )?type '([^']+)',? (?:which )?is not known", r"\1type \2"),
    (r"(?:in )?module '([^']+)'", r"python module \1"),
    (r"(\w+) has no value ([^ ;]+)", r"value \1 \2"),
    (r"lr_policy '([^']+)' is not known", r"lr_policy \1"),
    (r"([\w.]+) would change numbers", r"\1, which changes numbers"),
    (r"two layers of this name", "two layers of one name"),
    (r"has no layers in phase (\w+)", r"no layers in phase \1"),
    (r"must name one train net", "solver names no train net, or several"),
    (r"is no top of a layer above", "a bottom that no layer above makes"),
)]


def reason(sentence: str) -> str:
    """What a sentence is counted under: itself without places, names and numbers, if nothing shorter fits."""
    for pattern, said in REASONS:
        if found := pattern.search(sentence):
            return found.expand(said)
    plain = re.sub(r"^\S+?:(\d+:(\d+:)?)? ", "", sentence)
    plain = re.sub(r"layer '[^']*' \((\w+)\)", r"\1", plain)
    plain = re.sub(r"'[^']*'", "'..'", plain)
    return re.sub(r"\[[\d, ]*\]|\d[\d.]*", "N", plain)[:110]


def totals(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """What is counted -> how many files of it pass, and of how many."""
    nets, solvers, files = ([row for row in rows if row["kind"] == kind]
                            for kind in ("net", "solver", "weights"))

    def passed(some: Sequence[Row], *steps: str) -> tuple[int, int]:
        return sum(all(row["steps"].get(step) == "" for step in steps) for row in some), len(some)

    ran = [row for row in nets if row["steps"].get("run") == ""]
    return {
        "nets described, drawn and compared": passed(nets, *LOOKS),
        **{f"- {look}": passed(nets, look) for look in LOOKS},
        "nets that build and run forward": passed(nets, "run"),
        "- computed": (sum(row["how"] == "computed" for row in ran), len(ran)),
        "- by shapes alone: large": (sum(row["how"] == "meta" for row in ran), len(ran)),
        "- with losses, in each phase and stage": passed(nets, "run", "built"),
        "solvers": passed(solvers, "taken"),
        "weights that are read": passed(files, "read"),
        "- that run in a net beside them": passed([row for row in files if "run" in row["steps"]], "run"),
        "- that agree with OpenCV": passed([row for row in files if OPENCV in row["steps"]], OPENCV),
        "files that are none of these": (len(rows) - len(nets) - len(solvers) - len(files), len(rows)),
        "tracebacks": (sum(bool(row["tracebacks"]) for row in rows), len(rows)),
        "time-outs": (sum("ended" in row["steps"] for row in rows), len(rows)),
    }


def reasons(rows: Iterable[Row], steps: Sequence[str]) -> list[tuple[int, int, str, str]]:
    """(files, repositories, reason, a file) of those that stop at one of these steps, at its first stop."""
    found = defaultdict[str, list[Row]](list)
    for row in rows:
        if stop := next(filter(None, (row["steps"].get(step) for step in ("ended", *steps))), ""):
            found[reason(stop)].append(row)
    lines = ((len(each), len(repositories(each)), why, min((row["path"] for row in each), key=len))
             for why, each in found.items())
    return sorted(lines, key=lambda line: (-line[0], -line[1], line[2]))


def repositories(rows: Iterable[Row]) -> set[str]:
    """The first folders of all places of some files."""
    return {place.split("/")[0] for row in rows for place in row["places"]}


def text(rows: Sequence[Row], before: Sequence[Row] | None, most: int) -> str:
    """The tally for people, beside that of other rows of the same contents if there are any; at most so many
    lines a table."""
    known, both = {row["sha"] for row in rows}, [totals(rows)]
    if before is not None:
        both.insert(0, totals([row for row in before if row["sha"] in known]))
    lines = [[name, *(f"{n} of {of}" + (f" ({100 * n / of:.1f} %)" if of else "")
                      for n, of in (each[name] for each in both))] for name in both[0]]
    parts = [table(lines, ["", *["before"][: len(both) - 1], "now"])]

    def add(title: str, lines: Sequence[Sequence[Any]], headers: Sequence[str]) -> None:
        if lines:
            rest = f"\n... and {len(lines) - most} more" if len(lines) > most else ""
            parts.append(f"{title}\n\n{table(lines[:most], headers)}{rest}")

    ran = [row for row in rows if row["steps"].get("run") == ""]
    for title, kinds, some, steps in (
            ("Nets that are not described, drawn or compared", ("net", ""), rows, ["read", *LOOKS]),
            ("Nets that do not build and run", ("net", ""), rows, ["read", "run"]),
            ("Nets that run, but do not build in each phase and stage", ("net",), ran, ["built"]),
            ("Solvers that are not taken", ("solver",), rows, ["read", "taken"]),
            ("Weights", ("weights",), rows, ["read", "run", OPENCV])):
        add(f"{title}, by the first reason", reasons([row for row in some if row["kind"] in kinds], steps),
            ["files", "repositories", "reason", "such as"])
    add("Layer types", types(rows), ["layers", "nets", "repositories", "type", ""])
    slow = sorted(((sum(taken.values()), max(taken, key=taken.__getitem__), row["path"])
                   for row in rows if (taken := row["seconds"])), reverse=True)
    add("Slowest", [[f"{seconds:.1f}", *rest] for seconds, *rest in slow[:10]],
        ["seconds", "most in", "file"])
    traces = defaultdict[str, list[str]](list)
    for row in rows:
        for trace in row["tracebacks"]:
            traces[trace].append(row["path"])
    parts += [f"{count(len(paths), 'file')}, such as {paths[0]}:\n{trace}" for trace, paths in traces.items()]
    return "\n\n".join(parts)


def types(rows: Iterable[Row]) -> list[tuple[int, int, int, str, str]]:
    """(layers, nets, repositories, type, whether it is not known), those that are not first."""
    found = defaultdict[str, list[Row]](list)  # a row for each layer
    for row in rows:
        for kind in row["types"]:
            found[kind].append(row)
    lines = [(len(each), len({row["sha"] for row in each}), len(repositories(each)), kind,
              "" if kind in REGISTRY else "not known") for kind, each in found.items()]
    return sorted(lines, key=lambda line: (not line[4], -line[1], line[3]))
