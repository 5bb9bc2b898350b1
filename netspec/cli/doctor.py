"""`netspec doctor`: find out what is wrong with a net, weights, a script or this installation."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error, count
from ..base.files import find
from ..base.table import table
from . import options
from .finding import find_any, weights_here
from .terminal import say, show

if TYPE_CHECKING:  # these load torch, which help does without
    from ..check import Finding
    from ..check.batch import Flow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", nargs="?", metavar="NET|SOLVER|WEIGHTS|SCRIPT",
                        help="what to look at (default: this installation; with --ops, whether their "
                        "shapes and gradients are right)")
    parser.add_argument("--weights", metavar="FILE[,FILE]",
                        help="of the net (default: those that the solver names)")
    parser.add_argument("--size", type=options.size, metavar="HxW", help="use random images of this size")
    parser.add_argument("--image", metavar="FILE",
                        help="use this picture, or an array in .npy as a script feeds it")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps (default: a GPU if there is one)")
    parser.add_argument("--json", action="store_true",
                        help="the findings, and the gradient of each layer, as JSON")
    options.add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    """The `doctor` command; 1 if there is a problem."""
    from ..check import NOTE, PROBLEM

    found, flow = _examined(args)
    levels = Counter(each.level for each in found)
    if args.json:
        told = {"findings": [each._asdict() for each in found], "flow": list(map(_numbers, flow))}
        show(json.dumps(told, indent=2, allow_nan=False))
        return int(levels[PROBLEM] > 0)
    if flow:
        rows = [[f.layer, f.type, f"{f.weight:.3g}", None if f.gradient is None else f"{f.gradient:.3g}",
                 f"{f.gradient / f.weight:.2g}" if f.gradient and f.weight else None, f.verdict]
                for f in flow]
        show(table(rows, ["layer", "type", "|weight|", "|gradient|", "by weight", ""]) + "\n")
    for each in found:
        say(f"{each.level:8}{each.where}: {each.what}")
        if each.do:
            say(f"{'':8}-> {each.do}")
    say("", ", ".join(count(levels[word], word) for word in (PROBLEM, NOTE)))
    return int(levels[PROBLEM] > 0)


def _numbers(row: Flow) -> dict[str, Any]:
    """A layer's row for JSON; None in place of numbers that are not finite."""
    return {what: value if isinstance(value, str) or value is not None and math.isfinite(value) else None
            for what, value in row._asdict().items()}


def _examined(args: argparse.Namespace) -> tuple[list[Finding], list[Flow]]:
    """Look at what is given, as what it is by its name and content."""
    import torch

    from ..base.machine import choose
    from ..check import doctor
    from ..check.gradients import checked
    from ..check.script import script
    from ..check.weights import weights_file
    from ..data import zoo
    from ..ops.own import load
    from ..proto.wire import head, is_text

    if not args.subject and args.ops:
        return [found for module in args.ops for kind in load(module) for found in checked(kind)], []
    if not args.subject:
        return doctor.environment(), []
    path = find_any(args.subject, "file", "deploy")
    if path.suffix == ".py":
        return script(path), []
    if not is_text(head(path)):
        return weights_file(path)[0], []
    nets, param = doctor.nets_of(path)
    names = args.weights or ",".join(param.weights if param else [])
    weights: dict[str, Path | Error] = {}  # or why there is no such file
    if not names and (mine := weights_here(args.subject, path)):
        weights[str(mine)] = mine
    for name in filter(None, names.split(",")):
        try:
            weights[name] = zoo.found(name, path.resolve().parent)
        except Error as e:
            weights[name] = e
    image = doctor.picture(find(args.image, what="image")) if args.image else None
    torch.manual_seed(0)
    return doctor.look_at(nets, weights, choose(args.device), args.size, image, param)
