"""`netspec data labels`: what people drew, as palette PNGs."""

import argparse
from contextlib import closing
from pathlib import Path

from ..base import log
from ..base.errors import Error
from ..base.files import find
from .terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("drawn", metavar="FOLDER|FILE.json",
                        help="labelme's or COCO's JSON, or the unpacked masks of CVAT or Supervisely")
    parser.add_argument("--set", required=True, type=Path, metavar="FILE.txt", dest="file",
                        help="the data set file, which says where labels go; where there is none, it is "
                             "written, and they go to labels beside it")
    parser.add_argument("--images", type=Path, metavar="DIR",
                        help="the images that were drawn on (default: where the data set file or the tool "
                             "says)")
    parser.add_argument("--split", metavar="NAME", help="what {split} in the data set file stands for")
    parser.add_argument("--as", dest="renamed", action="append", default=[], metavar="NAME=CLASS",
                        help="take a class of the tool for one of the list, or void; '*=CLASS': all that it "
                             "lacks")
    parser.add_argument("--rest", metavar="CLASS", help="what pixels are where nothing was drawn: a class, "
                                                        "or void (default: the list's background)")
    parser.add_argument("--overlap", choices=("last", "first", "void"), default="last",
                        help="which shape counts where two classes lie on each other (default last)")
    parser.add_argument("--exif", choices=("stored", "turned"),
                        help="how images with an EXIF turn were drawn on, where their size does not tell")
    parser.add_argument("--empty", action="store_true", help="a label for pictures without a shape, too")
    parser.add_argument("--overwrite", action="store_true", help="replace other labels that are there")


def run(args: argparse.Namespace) -> int:
    from ..data.drawn import drawing
    from ..data.labels import Choices, target
    from ..data.painting import make_labels

    renamed = {}
    for text in args.renamed:
        old, equals, new = text.rpartition("=")
        if not (old and equals and new):
            raise Error(f"--as '{text}': expected NAME=CLASS")
        renamed[old] = new
    found = drawing(find(args.drawn, what="what was drawn"))
    place = target(args.file, found, args.images and find(args.images, what="folder of images"), args.split)
    choices = Choices(args.overlap, args.rest, args.exif, renamed, args.empty, args.overwrite)
    with closing(log.make()) as said:
        lines = make_labels(found, place, choices,
                            lambda done, total: said.progress("labels", done, total, "", 0.5))
    say(*lines)
    return 0
