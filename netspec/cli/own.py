"""`netspec own`: nets and solvers for images of one's own."""

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..base import log, names
from ..base.errors import Error, count, listed
from ..base.machine import PROJECT
from .finding import find_net, find_weights
from .options import wrote
from .terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = ("FCN-32s, 16s and 8s for the images that a data set file describes, or an R-FCN where "
                     "it names boxes (docs/datasets.md); images without lists are split by chance, and a "
                     "mean that it lacks is computed.")
    parser.add_argument("dataset", type=Path, metavar="SET.txt",
                        help="the data set file; all is written beside it")
    parser.add_argument("--from", dest="base", metavar="NET",
                        help="a net of models/, such as voc-fcn8s, to be trained on in one stage: its "
                             "weights are kept, with the scores of classes of the same name; others "
                             "begin at zero")
    parser.add_argument("--weights", metavar="FILE",
                        help="weights to start from: VGG16's, or with --from that net's; the name of a net "
                             "that has them, such as voc-fcn8s, means --from too (default: a small trunk, "
                             "from scratch)")
    parser.add_argument("--iterations", type=int, metavar="N",
                        help="of each stage (default 600; with boxes 2000)")
    parser.add_argument("--batch", type=int, metavar="N", help="images a step (default 5; with boxes 2)")
    parser.add_argument("--scale", type=int, metavar="PIXELS",
                        help="with boxes: what the shorter side of images is brought to (default: as most "
                             "images are, at most 600); less takes less time")
    parser.add_argument("--seed", type=int, default=1, metavar="N",
                        help="random_seed of the solvers (default 1); with another their names and those of "
                             "the snapshots end in -seedN; not with boxes")
    parser.add_argument("--splits", nargs=2, metavar=("TRAIN", "VAL"),
                        help="lists (default train val)")


def run(args: argparse.Namespace) -> int:
    from ..check import own
    from ..data.options import read_file
    from ..pycaffe.script import generator

    path, asked = args.dataset, args.splits is not None
    args.splits = train, val = args.splits or ("train", "val")
    found = path.is_file() and path.suffix == ".txt" and "boxes" in read_file(path)
    _checked(args, found)
    args.base = _base(args, found)
    data = own.tree(path, args.splits)
    made = own.split(data, train, val, asked)
    images = {split: own.names(data, split, made) for split in args.splits}
    weights = _weights_of(args) if args.base else args.weights
    known = args.base or "mean" in read_file(path)
    mean = None if known else own.mean(data, train, images[train], log.make())
    with own.written(made.lists):
        writer = generator(PROJECT / "models" / ("ownboxes.py" if found else "own.py"))
        result = writer.write(path, weights, args.iterations, args.batch, (train, val), mean,
                              *([args.scale] if found else [args.base, args.seed]))
    for file, listing in made.lists.items():
        wrote(file, note=f"{count(len(listing), 'image')}, drawn with seed {own.SEED}")
    kind = "box file" if found else "label"
    for what, without in ((f"images without a {kind}", made.unlabelled),
                          (f"{kind}s without an image", made.unpictured)):
        if without:
            say(f"left out, {what}: {listed(without)}")
    if mean:
        say(f"the nets subtract the mean of the {count(len(images[train]), 'image')} of '{train}', B,G,R; "
            f"{path} could say it by the line", f"    mean: {', '.join(map(str, mean))}")
    if result.replaced:
        say(f"kept what said something else before: {', '.join(map(str, result.replaced))}")
    if args.base:
        same = ", ".join(f"{new} from '{old}'" for new, old in result.same.items())
        wrote(result.start, note=f"{args.base}'s weights with the scores of {same or 'no class'}; the scores "
              "of the other classes begin at zero, and the nets subtract the mean of its data set")
    elif weights:
        _needed(weights)
    seen = Path("photo.jpg") if data.layout.shards else data.files("data", val, images[val][0])[0]
    _end(path, result.solvers, args, seen, found)
    return 0


def _checked(args: argparse.Namespace, found: bool) -> None:
    """Numbers that are not given, and Error for those that cannot be. found: there are boxes."""
    args.iterations = _usual(args.iterations, 2000 if found else 600)
    args.batch = _usual(args.batch, 2 if found else 5)
    if not 0 < args.iterations < 1 << 31 or not 0 < args.batch < 1 << 31:
        raise Error("--iterations and --batch must be from 1 to 2147483647, found "
                    f"{args.iterations} and {args.batch}")
    if args.scale is not None and not (found and args.scale >= 32):
        raise Error(f"--scale {args.scale}: " + ("must be at least 32 pixels" if found else
                                                 f"is for images with boxes, and {args.dataset} has labels"))
    if args.seed != 1 and (found or not 0 < args.seed < 1 << 31):
        raise Error(f"--seed {args.seed}: " + ("is for images with labels, and these have boxes" if found else
                                               "must be from 1 to 2147483647"))
    train, val = args.splits
    if len({train, val, "deploy"}) < 3:
        raise Error(f"--splits {train} {val}: the two must differ, also from 'deploy', the net without data")


def _usual(given: int | None, usual: int) -> int:
    return usual if given is None else given


def _base(args: argparse.Namespace, found: bool) -> str | None:
    """The net to go on from; none where there are boxes."""
    if found and args.base:
        raise Error(f"--from {args.base} is for labels of pixels, and {args.dataset} has boxes; --weights "
                    "takes VGG16's")
    return None if found else args.base or _trained(args.weights)


def _trained(weights: str | None) -> str | None:
    """The name given as weights, if it is that of a net of other classes, and of no classifier or file."""
    folders = [] if Path(weights or "").is_file() else names.nets().get(weights or "", [])
    return weights if any((folder / f"train{names.ENDING}").is_file() for folder in folders[:1]) else None


def _weights_of(args: argparse.Namespace) -> str:
    """The file with the weights of the net that --from names."""
    net = find_net(args.base)
    try:
        return str(find_weights(args.weights, net))
    except Error as error:
        needs = "" if args.weights else f"--from {args.base} needs its weights, or --weights FILE: "
        raise Error(f"{needs}{error}") from None


def _needed(weights: str) -> None:
    """Say it if weights that solve needs are not there."""
    from ..data import zoo

    if not Path(weights).is_file() and not zoo.here(weights):
        said = zoo.missing(weights) if zoo.is_name(weights) else f"{weights} is not there yet"
        say(f"note: {said}; solve needs it", file=sys.stderr)


def _end(path: Path, solvers: list[str], args: argparse.Namespace, image: Path, boxes: bool) -> None:
    """Say what was written, and what to do with it."""
    from ..proto.text import read_solver

    nets = [Path(read_solver(solver).train_net).parent for solver in solvers]
    last, run = nets[-1], Path(solvers[-1]).stem
    splits = ",".join((*args.splits, "deploy"))
    for solver, net in zip(solvers, nets, strict=True):
        wrote(solver, f"{net}/{{{splits}}}.prototxt")
    weights = f"{path.parent / 'snapshot' / run}_iter_{args.iterations}.caffemodel"
    often = count(read_solver(solvers[0]).test_interval, "iteration")
    what = "each stage" if len(solvers) > 1 else "the net"
    say(f"{what} is tested on '{args.splits[1]}' every {often}, which takes about a tenth of its time; "
        "the best weights are kept too, as NAME_best.caffemodel")
    _commands([["data", "check", solvers[0], "--sheet", f"{path.parent / 'sheet.png'}"],
               ["solve", *solvers], ["score", f"{last / args.splits[1]}.prototxt", weights],
               ["infer", f"{last / 'deploy.prototxt'}", weights, f"{image}",
                "--out", f"{path.parent / ('found' if boxes else 'segmented')}"]])


def _commands(commands: Iterable[Sequence[str]]) -> None:
    """Say what to do next."""
    say("", "Now check the data, train, score what comes of it, and use it:", "")
    for command in commands:
        say(f"    {shlex.join(['netspec', *command])}")
