"""`netspec time`: measure the parts of a job on this machine."""

import argparse

import torch

from ..base.errors import Error
from ..base.machine import cores
from ..papers.timing import time_data, time_dense, time_load
from .options import add_device_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    data = kinds.add_parser("data", help="whether reading data keeps ahead of training")
    data.add_argument("solver", metavar="SOLVER")
    data.add_argument("--iterations", type=int, default=10, metavar="N", help="to time after 2 to warm up (default 10)")
    add_device_arguments(data)
    data.set_defaults(measure=time_data)
    load = kinds.add_parser("load", help="reading a weights file into a net")
    load.add_argument("net", metavar="NET", help="a prototxt; its data need not be there")
    load.add_argument("weights", metavar="WEIGHTS", help="a file to read; made from the net's fillers if it is not there")
    load.add_argument("--runs", type=int, default=5, metavar="N", help="after 1 to warm up (default 5)")
    load.set_defaults(measure=time_load)
    dense = kinds.add_parser("dense", help="a classifier's convolutional form against the classifier on each crop")
    dense.add_argument("net", metavar="NET", nargs="?", default="models/alexnet/deploy.prototxt",
                       help="a classifier of one path (default %(default)s)")
    dense.add_argument("--size", type=int, default=500, metavar="PIXELS", help="side of the image (default 500)")
    dense.add_argument("--repeats", type=int, default=5, dest="runs", metavar="N", help="after 1 to warm up (default 5)")
    dense.set_defaults(measure=time_dense)


def run(args: argparse.Namespace) -> int:
    """Measure and print; medians, with the least and most."""
    if getattr(args, "iterations", 1) < 1 or getattr(args, "runs", 1) < 1:
        raise Error("the number of measurements must be at least 1")
    if getattr(args, "size", 1) < 1:
        raise Error(f"--size must be at least 1, found {args.size}")
    print(f"{cores()} CPU cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    args.measure(args)
    return 0
