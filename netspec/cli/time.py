"""`netspec time`: measure the parts of a job on this machine."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import Error, count
from ..base.files import find
from .finding import find_net, find_solver
from .options import add_device_arguments, renamed, wrote
from .terminal import show

OTHERS = ("forward", "train", "infer", "grow", "start")  # whose figures stand below all that tells where


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    data = kinds.add_parser("data", help="whether reading data keeps ahead of training")
    data.add_argument("solver", metavar="SOLVER", help="whose data and steps are timed")
    data.add_argument("--iterations", type=int, default=10, metavar="N",
                      help="to time after 2 to warm up (default 10)")
    add_device_arguments(data)
    load = kinds.add_parser("load", help="reading a weights file into a net")
    load.add_argument("net", metavar="NET", help="a prototxt; its data need not be there")
    load.add_argument("weights", metavar="WEIGHTS", help="the file to read")
    load.add_argument("--make", action="store_true", help="make it from the net's fillers if it is not there")
    dense = kinds.add_parser("dense", help="a classifier as a convolutional net against itself on each crop")
    dense.add_argument("net", metavar="NET", nargs="?", default="models/alexnet/deploy.prototxt",
                       help="a classifier of one path (default %(default)s)")
    dense.add_argument("--size", type=_size, default=(500, 500), metavar="HxW",
                       help="of the image; one number for both (default 500)")
    wait = kinds.add_parser("wait", help="how threads should wait, on a quiet and on a busy machine")
    wait.add_argument("solver", metavar="SOLVER", nargs="?", default="solvers/shapes-fcn32s.prototxt",
                      help="whose data are here (default %(default)s)")
    detect = kinds.add_parser("detect", help="a net that finds objects, from pixels to boxes, and its parts")
    detect.add_argument("net", metavar="NET", help="a deploy net, or a val net without its data")
    detect.add_argument("--size", type=_size, default=(375, 500), metavar="HxW",
                        help="of the image (default 375x500)")
    detect.add_argument("--weights", metavar="FILE", help="of the net (default: some are drawn)")
    ranks = kinds.add_parser("ranks", help="training by several processes beside one, on made images")
    ranks.add_argument("solver", metavar="SOLVER", nargs="?", default="solvers/shapes-fcn32s.prototxt",
                       help="(default %(default)s)")
    ranks.add_argument("--ranks", type=int, default=2, metavar="N", help="processes (default 2)")
    ranks.add_argument("--size", type=_size, metavar="HxW",
                       help="of the images (default: as the solver's data say, else 500)")
    others = *_add_among_others(kinds), *_add_from_start_to_growth(kinds)
    for kind in (dense, load, wait, detect, ranks, *others):
        repeats = kind.add_argument("--repeats", type=int, default=5, metavar="N",
                                    help="after 1 to warm up (default 5)")
    renamed(load, "--runs", repeats)


def _add_among_others(kinds: Any) -> Sequence[argparse.ArgumentParser]:
    """Forward passes, training steps and `infer` beside other programs."""
    forward = kinds.add_parser("forward", help="a forward pass beside plain PyTorch and engines")
    forward.add_argument("net", metavar="NET", nargs="+", help="deploy nets, or val nets without their data")
    forward.add_argument("--size", type=_size, metavar="HxW",
                         help="of the image (default 375x500; of a net that takes no other, its own)")
    train = kinds.add_parser("train", help="a training step beside plain PyTorch's, on made images")
    train.add_argument("solver", metavar="SOLVER", help="whose step is timed; its data need not be there")
    train.add_argument("--size", type=_size, metavar="HxW",
                       help="of the images (default: as the solver's data say, else 500)")
    train.add_argument("--steps", type=int, default=1, metavar="N",
                       help="in a row in each round, the loss read behind the last (default 1)")
    train.add_argument("--checkpoint", action="store_true", help="also netspec with solve's --checkpoint")
    train.add_argument("--compile", action="store_true", help="also netspec with solve's --compile")
    infer = kinds.add_parser("infer", help="netspec infer beside scripts around plain PyTorch and engines")
    infer.add_argument("net", metavar="NET", help="a deploy net, or a val net without its data")
    infer.add_argument("folder", metavar="FOLDER", help="of pictures, of any sizes")
    infer.add_argument("--weights", metavar="FILE", help="of the net (default: some are drawn)")
    for kind, batch in ((forward, "1"), (train, "as the solver's data say")):
        kind.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps (default cpu)")
        kind.add_argument("--batch", type=int, metavar="N", help=f"images in a batch (default {batch})")
        kind.add_argument("--rewrites", action="store_true", help="also netspec without each of its rewrites")
        kind.add_argument("--profile", action="store_true",
                          help="also milliseconds by operation of what runs by torch, as its profiler finds")
    for kind in (forward, train, infer):
        kind.add_argument("--precision", type=_precisions, default=("fp32", "bf16"), metavar="P,...",
                          help="some of fp32, tf32 (NVIDIA's GPUs alone) and bf16 (default fp32,bf16)")
        kind.add_argument("--only", type=_words, default=(), metavar="WORD,...",
                          help="time those alone whose name has one of these words, such as netspec,openvino")
    return forward, train, infer


def _add_from_start_to_growth(kinds: Any) -> Sequence[argparse.ArgumentParser]:
    """How long netspec takes to begin, and as images grow."""
    grow = kinds.add_parser("grow", help="time and memory of a forward pass as images and batches grow")
    grow.add_argument("net", metavar="NET", help="a deploy net, or a val net without its data")
    grow.add_argument("--sides", type=_sides, default=_sides("256,512,1024,2048"), metavar="N|HxW,...",
                      help="of images, in pixels: one number for both (default 256,512,1024,2048)")
    grow.add_argument("--batches", type=_numbers, default=(1, 2, 4), metavar="N,...",
                      help="images in a batch (default 1,2,4; more than the first at the first side alone)")
    grow.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="(default fp32)")
    grow.add_argument("--plot", metavar="FILE", help="draw it as .svg, .png or .pdf too")
    start = kinds.add_parser("start", help="from a prototxt to a module, and netspec infer on a small image")
    start.add_argument("net", metavar="NET", help="a deploy net, or a val net without its data")
    start.add_argument("weights", metavar="WEIGHTS", nargs="?", help="of the net (default: the module's "
                       "are its fillers', those for infer are drawn)")
    return grow, start


def _size(text: str) -> tuple[int, int]:
    high, _, wide = text.lower().partition("x")
    return int(high), int(wide or high)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(word) for word in _words(text))
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers above 0 with commas between them, found '{text}'")
    return tuple(dict.fromkeys(found))


def _sides(text: str) -> tuple[tuple[int, int], ...]:
    try:
        found = tuple(map(_size, _words(text)))
    except ValueError:
        found = ()
    if not found or min(map(min, found)) < 1:
        raise argparse.ArgumentTypeError("expected numbers above 0, or two with an x, with commas between, "
                                         f"found '{text}'")
    return tuple(dict.fromkeys(found))


def _precisions(text: str) -> tuple[str, ...]:
    found = _words(text)
    if not found or set(found) - {"fp32", "tf32", "bf16"}:
        raise argparse.ArgumentTypeError("expected some of fp32, tf32 and bf16 with commas between them, "
                                         f"found '{text}'")
    return tuple(dict.fromkeys(found))


def run(args: argparse.Namespace) -> int:
    """Measure and print; medians, with the least and most."""
    if getattr(args, "iterations", 1) < 1 or getattr(args, "repeats", 1) < 1:
        raise Error("the number of measurements must be at least 1")
    for name in ("batch", "steps"):
        if (given := getattr(args, name, None)) is not None and given < 1:
            raise Error(f"--{name} must be at least 1, found {given}")
    if min(getattr(args, "size", None) or (1,)) < 1:
        raise Error(f"--size must be at least 1, found {'x'.join(map(str, args.size))}")
    for text in (_among_others if args.kind in OTHERS else _alone)(args):
        show(text)
    return 0


def _alone(args: argparse.Namespace) -> Iterator[str]:
    """Lines about what is measured of netspec alone."""
    import torch

    from ..base.machine import cores
    from ..papers import detecting, ranked, timing

    yield (f"{count(cores(), 'CPU core')}, {count(torch.get_num_threads(), 'thread')}, "
           f"torch {torch.__version__}")
    if args.kind == "data":
        path = find_solver(args.solver)
        yield timing.time_data(path, args.iterations, args.device or "cpu", args.precision)
    elif args.kind == "load":
        net = find_net(args.net)
        if args.make and not Path(args.weights).exists():
            timing.make_weights(net, Path(args.weights))
            wrote(args.weights, note="of the net's fillers")
        yield timing.time_load(net, find(args.weights, what="weights"), args.repeats)
    elif args.kind == "detect":
        given = find(args.weights, what="weights") if args.weights else None
        yield detecting.time_detect(find_net(args.net, "deploy"), given, args.size, args.repeats)
    elif args.kind == "ranks":
        yield ranked.time_ranks(find_solver(args.solver), args.size, args.ranks, args.repeats)
    elif args.kind == "wait":
        yield timing.time_wait(find_solver(args.solver), args.repeats)
    else:
        yield timing.time_dense(find_net(args.net), args.size, args.repeats)


def _among_others(args: argparse.Namespace) -> Iterator[str]:
    """Lines about what is measured beside other programs."""
    from ..base.machine import choose
    from ..look.charts import require_matplotlib
    from ..papers import growth, speed, starts, steps, whole

    if getattr(args, "plot", None):
        require_matplotlib()
    yield speed.where(choose(getattr(args, "device", "cpu")))
    given = find(args.weights, what="weights") if getattr(args, "weights", None) else None
    if args.kind == "forward":
        for name in args.net:
            yield "\n" + speed.time_forward(find_net(name, "deploy"), args.size, args.precision, args.only,
                                            args.rewrites, args.repeats, args.device, args.batch or 1,
                                            args.profile)
    elif args.kind == "infer":
        yield "\n" + whole.time_infer(find_net(args.net, "deploy"), given, args.folder, args.precision,
                                      args.only, args.repeats)
    elif args.kind == "start":
        yield "\n" + starts.time_start(find_net(args.net, "deploy"), given, args.repeats)
    elif args.kind == "grow":
        path = find_net(args.net, "deploy")
        points = list(growth.time_grow(path, args.sides, args.batches, args.precision, args.repeats))
        yield f"\n{path}, forward, {args.precision}\n{growth.grown(points)}"
        if args.plot:
            growth.draw_growth(points, f"{path.parent.name}, {args.precision}").save(args.plot)
            wrote(args.plot)
    else:
        ways = steps.forms_of(args.rewrites, args.checkpoint, args.compile)
        yield "\n" + steps.time_train(find_solver(args.solver), args.size, args.precision, args.only,
                                      args.repeats, args.device, args.batch, args.steps, ways,
                                      args.profile)
