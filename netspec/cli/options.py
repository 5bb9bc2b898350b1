"""Options that several commands share, what their values may be, and how commands say what they wrote."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..base.asked import asked
from ..base.errors import Error, shortened
from ..base.machine import PRECISIONS
from ..base.trust import leave
from .terminal import say

if TYPE_CHECKING:
    from ..net.graph import Graph
    from ..net.module import Net
    from ..papers.record import Settings
    from ..score.engined import Engine
    from ..score.sampled import Draws

BESIDE = "only warnings and errors beside the results"  # what --quiet leaves


def add_device_arguments(parser: argparse.ArgumentParser, quiet: str = "") -> None:
    """The options that say where and how exactly a net runs; --quiet, if there is a help for it."""
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps (default: a GPU if there is one)")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS,
                        help="of convolutions (default fp32)")
    if quiet:
        parser.add_argument("--quiet", action="store_true", help=quiet)


def add_net_arguments(parser: argparse.ArgumentParser, net: str, quiet: str = "") -> None:
    """A net, which `net` says more of, its scores, and where it runs."""
    parser.add_argument("net", metavar="NET", help=net)
    parser.add_argument("--score-blob", metavar="BLOB",
                        help="the scores (default score, or the only result; of nets that detect, cls_prob)")
    add_strict_argument(parser)
    add_device_arguments(parser, quiet)


def mixed(parser: argparse.ArgumentParser) -> None:
    """Let positions stand among options, also where the last may be missing or several."""
    def parse(args: Sequence[str] | None, namespace: argparse.Namespace | None) -> object:
        del vars(parser)["parse_known_args"]  # which argparse calls for either half
        try:
            return parser.parse_known_intermixed_args(args, namespace)
        finally:
            vars(parser)["parse_known_args"] = parse

    vars(parser)["parse_known_args"] = parse


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """For a command that only looks at nets: `main` lets their layers write nothing, nor import anything
    without this."""
    parser.add_argument("--trust", action="store_true",
                        help="import the modules of the net's Python layers, which may do whatever you may")


def add_reading_arguments(parser: argparse.ArgumentParser, reads: bool, solver: bool) -> None:
    """In which state nets are built, where the command has no such options, and whether what is not
    understood of them is passed by. reads: it is, and said; solver: the phases are the solver's."""
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        choices: Any = action.choices
        kinds = {kind: name for name, kind in choices.items()}  # which may have two names
        for kind, name in kinds.items():
            if name == "upgrade":  # which keeps the layers of every state
                kind.set_defaults(unknown_fields="pass")
            else:
                add_reading_arguments(kind, reads, solver)
        return
    group = parser.add_argument_group("nets as they are read")
    known = parser._option_string_actions
    if "--phase" not in known and not solver:
        group.add_argument("--phase", choices=("TEST", "TRAIN"), help="to build nets in (default: the "
                           "command's)")
    if "--level" not in known:
        group.add_argument("--level", type=int, metavar="N", help="the NetState's level (default: the net's)")
    if "--stage" not in known:
        group.add_argument("--stage", action="append", default=[], metavar="NAME[,NAME]",
                           help="a stage of the NetState, beside the net's own; may be given again")
    if not reads:
        group.add_argument("--unknown-fields", choices=("refuse", "pass"), default="refuse",
                           help="what is no field of Caffe's or of a known fork, and what would change "
                           "numbers and is not computed: refuse the net (default), or say it and go on")
    else:
        parser.set_defaults(unknown_fields="pass")


@contextmanager
def reading(args: argparse.Namespace) -> Iterator[None]:
    """Within, what `add_reading_arguments` added holds for all nets."""
    given, before = vars(args), (leave.unknown, vars(asked).copy())
    leave.unknown = given.get("unknown_fields") == "pass"
    asked.phase = {"TRAIN": 0, "TEST": 1}.get(given.get("phase") or "")
    asked.level = given.get("level")
    asked.stages = tuple(name for each in given.get("stage") or () for name in each.split(",") if name)
    try:
        yield
    finally:
        leave.unknown = before[0]
        vars(asked).update(before[1])


def note(remark: str) -> None:
    """What a person should know, on standard error."""
    say(f"note: {remark}", file=sys.stderr)


def tell_opaque(graph: "Graph") -> None:
    """Say why layers of a graph that is looked at could not be built."""
    for why in list(graph.opaque.values())[:5]:
        note(shortened(why, 400))
    if (rest := len(graph.opaque) - 5) > 0:
        note(f"so are {rest} more layers")
    if graph.opaque:
        note("the shapes of these layers' tops, and of what is made of them, are not known and stand as '?'")


def loaded(args: argparse.Namespace, made: "Graph", weights: Path, named: bool) -> "Net":
    """The net of a graph with weights, as the options say; what a person should know of them is said.

    named: they are those of a name, which must fill the net.
    """
    from ..score import predict

    net, remarks = predict.load(made, weights, args.device, args.precision, args.strict, named)
    for remark in remarks:
        note(remark)
    return net


def add_strict_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true",
                        help="refuse weights that lack a layer or hold another")


def add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """At which scales a net looks at an image, whether mirrored too, and what runs it."""
    parser.add_argument("--scales", type=scales, default=(1.0,), metavar="S,S,...",
                        help="look at each image at these scales, such as 0.75,1,1.25, and average the "
                        "probabilities")
    parser.add_argument("--flip", action="store_true", help="look at each image mirrored too, and average")
    parser.add_argument("--engine", default="torch", metavar="NAME",
                        help="what runs the net: torch (default), or on a CPU openvino or onnxruntime, where "
                        "they are installed, whose first scores are held against torch's")
    parser.add_argument("--samples", type=whole, default=0, metavar="N",
                        help="of nets that drop in TEST too (Bayesian SegNet): the mean of the probabilities "
                        "over N passes, and their variance as the uncertainty")
    parser.add_argument("--seed", type=whole, metavar="S",
                        help="with --samples: where the random numbers of each image begin (default 0)")


def add_box_arguments(parser: argparse.ArgumentParser) -> None:
    """Which boxes of a net that detects count."""
    parser.add_argument("--nms", type=fraction, default=0.3, metavar="IOU",
                        help="nets that detect: a box goes from this overlap with a surer one of its class "
                        "on (default 0.3)")
    parser.add_argument("--most", type=whole, default=400, metavar="N",
                        help="nets that detect: so many boxes of an image, the surest (default 400; 0: all)")


def only(args: argparse.Namespace, add_arguments: Callable[[argparse.ArgumentParser], None],
         strange: Sequence[str], why: str) -> None:
    """Error, which says why, for one of the options `strange` of a command's, if it is given."""
    known = argparse.ArgumentParser()
    add_arguments(known)
    for name in strange:
        if vars(args)[name] != known.get_default(name):
            raise Error(f"--{name.replace('_', '-')}: {why}")


def engine(args: argparse.Namespace, weights: Path, say: Callable[[str], object]) -> "Engine | None":
    """What --engine asks for (None: torch). Error, before weights are read, where it cannot be had."""
    from ..base.machine import choose
    from ..score.engined import Engine

    if args.engine == "torch":
        return None
    asked = Engine(args.engine, weights, say)
    asked.check(choose(args.device, args.precision), args.precision)
    return asked


def draws(args: argparse.Namespace, made: "Graph", say: Callable[[str], object]) -> "Draws | None":
    """What --samples and --seed ask for (None: one pass). Error where they cannot be had; that a net drops
    at random and nobody asked for samples is said."""
    from ..score.sampled import Draws, random

    if args.seed is not None and not args.samples:
        raise Error("--seed goes with --samples N")
    if (args.seed or 0) >= 1 << 63:
        raise Error(f"--seed is from 0 to 2^63 - 1, found {args.seed}")
    if args.samples and (args.flip or args.scales != (1.0,) or args.engine != "torch"):
        raise Error("--samples goes without --scales, --flip and --engine: samples are of one look by torch")
    if not args.samples and random(made):
        say(f"net '{made.name}' drops at random in TEST too, and this is one pass of it; --samples N gives "
            "the mean of N and their variance")
    return Draws(args.samples, args.seed or 0) if args.samples else None


def scales(given: str) -> tuple[float, ...]:
    """Factors above 0 to 8, with commas between them; argparse's error for anything else."""
    with suppress(ValueError):
        found = tuple(dict.fromkeys(float(word) for word in given.split(",")))
        if all(0 < scale <= 8 for scale in found):
            return found
    raise argparse.ArgumentTypeError(f"expected factors above 0 to 8 such as 0.75,1,1.25, found '{given}'")


def fraction(given: str) -> float:
    """A number from 0 to 1; argparse's error for anything else."""
    with suppress(ValueError):
        found = float(given)
        if 0 <= found <= 1:
            return found
    raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found '{given}'")


def whole(given: str) -> int:
    """A whole number from 0 on; ValueError, which argparse words, for anything else."""
    if (found := int(given)) < 0:
        raise ValueError(given)
    return found


def tile(given: str) -> int | str:
    """The side of tiles in pixels, or the word auto; argparse's error for anything else."""
    with suppress(ValueError):
        if given == "auto" or int(given) >= 16:
            return given if given == "auto" else int(given)
    raise argparse.ArgumentTypeError(f"expected auto or pixels from 16 on, found '{given}'")


def size(given: str) -> tuple[int, int]:
    """HxW as two numbers above 0; ValueError, which argparse words, for anything else."""
    high, across = map(int, given.lower().split("x"))
    if min(high, across) < 1:
        raise ValueError(given)
    return high, across


def add_place_arguments(parser: argparse.ArgumentParser) -> None:
    """Where weights, data and records are, and where nets run."""
    root = parser.add_argument("--weights-root", type=Path, dest="released", metavar="DIR",
                               help="the folder of the released caffemodels, to score them")
    renamed(parser, "--weights", root)
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="what stands for the folder data/ (it has voc/VOC2011, ...)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR",
                        help="records of what was measured (default results)")
    add_device_arguments(parser, BESIDE)


def settings(args: argparse.Namespace) -> "Settings":
    """What these options and --quiet say."""
    from ..papers.record import Settings

    known = Settings._fields
    return Settings(**{name: value for name, value in vars(args).items() if name in known})


def ending(option: str, path: str | None, *ends: str) -> None:
    """Error for a file of an option, if it is given, whose name ends otherwise."""
    if path and Path(path).suffix.lower() not in ends:
        raise Error(f"{option}: '{path}' must end in {' or '.join(ends)}")


def apart(option: str, path: str | Path | None, read: Iterable[str | Path]) -> None:
    """Error for a file of an option, if it is given, that is one of those read."""
    if path and os.path.realpath(path) in map(os.path.realpath, read):
        raise Error(f"{option}: '{path}' is read here, and would be written over; give another name")


def wrote(*paths: str | Path, note: str = "", file: TextIO | None = None) -> None:
    """Print what a command wrote, and maybe what is in it; the one line that says so in all of them."""
    say(f"wrote {', '.join(map(str, paths))}" + (f": {note}" if note else ""), file=file)


def renamed(parser: argparse.ArgumentParser, old: str, new: argparse.Action) -> None:
    """Let what `add_argument` returned go by an option's old name too, for this release: unlisted, with a
    pointer. Where `new` is a position, what is given under the old name is kept under that name, else None.
    """
    option = bool(new.option_strings)
    now = new.option_strings[0] if option else f"the argument {new.metavar}"

    class Renamed(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
                     values: str | Sequence[Any] | None, option_string: str | None = None) -> None:
            say(f"netspec: {option_string} is now {now}; the old spelling goes on working for this release",
                file=sys.stderr)
            if option:
                new(parser, namespace, values, option_string)
            else:
                setattr(namespace, self.dest, values)

    parser.add_argument(old, action=Renamed, dest=new.dest if option else old.lstrip("-").replace("-", "_"),
                        nargs=new.nargs if option else None, default=argparse.SUPPRESS if option else None,
                        type=new.type or str, choices=new.choices, help=argparse.SUPPRESS)
