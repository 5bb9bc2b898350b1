"""`netspec doctor`: find out what is wrong with a net, weights, a script or this installation."""

import argparse
from collections import Counter

import torch

from ..base.files import find
from ..base.table import table
from ..check.batch import NOTE, PROBLEM
from ..check.doctor import environment, nets, weights_file
from ..check.script import script
from ..net.build import standing
from ..ops import REGISTRY
from ..proto import text as prototext
from ..proto.caffe_pb2 import TEST, TRAIN, NetState
from ..proto.text import SOLVER
from ..proto.wire import head, is_text
from ..train import jobs, updates
from . import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", nargs="?", metavar="NET|SOLVER|WEIGHTS|SCRIPT",
                        help="what to look at (default: this installation)")
    parser.add_argument("--weights", metavar="FILE[,FILE]", help="of the net (default: what the solver says)")
    parser.add_argument("--size", type=options.size, metavar="HxW", help="look with random images of this size")
    parser.add_argument("--image", metavar="FILE", help="look with this picture, or with an array in .npy as a script feeds it")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")


def run(args: argparse.Namespace) -> int:
    """The `doctor` command; 1 if there is a problem."""
    path, flow = find(args.subject) if args.subject else None, []
    torch.manual_seed(0)
    if path is None:
        found = environment()
    elif path.suffix == ".py":
        found = script(path)
    elif not is_text(head(path)):
        found, _ = weights_file(path)
    elif SOLVER.search(prototext.read_text(path)):
        param = prototext.read_solver(path)
        updates.check(param)
        train, tests = jobs.jobs(param, str(path))
        found, flow = nets([train, *tests], path.resolve().parent, param, args)
    else:
        layers = standing(prototext.read_net(path), TRAIN)
        learns = any(any(x.loss_weight) or x.type in REGISTRY and REGISTRY[x.type].loss for x in layers)
        job = jobs.Job(TRAIN if learns else TEST, "net", str(path), NetState())
        found, flow = nets([job], path.resolve().parent, None, args)
    if flow:
        rows = [[f.layer, f.type, f"{f.weight:.3g}", f.gradient if f.gradient is None else f"{f.gradient:.3g}",
                 f"{f.gradient / f.weight:.2g}" if f.gradient and f.weight else None, f.verdict] for f in flow]
        print(table(rows, ["layer", "type", "|weight|", "|gradient|", "by weight", ""]), end="\n\n")
    for f in found:
        print(f"{f.level:8}{f.where}: {f.what}" + (f"\n{'':8}-> {f.do}" if f.do else ""))
    count = Counter(f.level for f in found)
    print(f"\n{count[PROBLEM]} problem{'s' * (count[PROBLEM] != 1)}, {count[NOTE]} note{'s' * (count[NOTE] != 1)}")
    return int(count[PROBLEM] > 0)
