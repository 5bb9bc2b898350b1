"""Options that several commands share, and what their values may be."""

import argparse
from pathlib import Path

import numpy as np

from ..base.machine import PRECISIONS


def widths(text: str) -> list[int]:
    found = [int(word) for word in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where and how exactly a net runs."""
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of convolutions (default fp32)")



def size(given: str) -> tuple[int, int]:
    """HxW as two numbers above 0; ValueError, which argparse words, for anything else."""
    high, across = map(int, given.lower().split("x"))
    if min(high, across) < 1:
        raise ValueError(given)
    return high, across



def _three(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3) or not all(map(np.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected three numbers B,G,R, found '{text}'")
    return numbers



def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """Where weights, data and records are, and where nets run."""
    parser.add_argument("--weights", type=Path, metavar="ROOT", help="the folder of the released caffemodels, to score them")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="what stands for the folder data/ (it has voc/VOC2011, ...)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="records of what was measured "
                        "(default results)")
    add_device_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors beside the results")
