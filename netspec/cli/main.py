"""The `netspec` command: one door for every subcommand, and one place where errors become a sentence."""

import argparse
import importlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import chain
from types import FrameType
from typing import Any, NoReturn

from ..base import __version__
from ..base.errors import Error, Interrupted, Told, closest, exhausted, one_line, said, shortened
from ..base.files import FULL
from ..base.machine import prepare_torch
from ..base.trust import leave, looking
from . import options
from .terminal import say

GROUPS = {  # what for -> command -> help; a file a command, cli/NAME.py, with add_arguments and run
    "train": {
        "solve": "train nets by solver files",
        "caffe": "Caffe's programs by their names and flags: train, convert_imageset and others",
        "own": "write nets and solvers for images of your own",
        "demo": "train stages, score them, show them side by side",
        "curves": "draw the training curves of a log",
        "report": "what runs left behind, on one HTML page",
    },
    "use": {
        "infer": "segment images, or find objects in them",
        "serve": "nets, runs and data in the browser",
        "score": "score a net on its data set",
        "weights": "published weights: what there is, what is here, how to get it",
    },
    "nets": {
        "describe": "what each layer costs and sees of the data",
        "draw": "draw the layers of a net, its streams, kernels or activations",
        "votes": "draw the score maps by which the bins of a region vote",
        "diff-net": "compare two nets, or a net with figure 3",
        "explain-crop": "the arithmetic behind crop offsets",
        "layers": "list the layer types",
    },
    "data": {"data": "get a data set, or check one"},
    "convert": {"convert": "convert weights and old nets"},
    "check": {
        "doctor": "find out what is wrong with a net, weights, a script or this installation",
        "parity": "compare a net with what another program computed",
        "verify": "whether the published nets give their published scores",
        "corpus": "how much of a folder of nets is read, built and run",
        "time": "measure the parts of a job on this machine",
    },
    "papers": {
        "tables": "the papers' tables beside what is measured here",
        "studies": "the papers' studies, each with a figure",
    },
}
WITHOUT_NETS = ("caffe", "corpus", "own", "demo", "curves", "report", "serve", "weights", "layers", "tables",
                "studies")
LOOKS = ("describe", "draw", "diff-net", "doctor")  # which say what they do not understand, and read the rest
MOST = 2000  # letters of an error: what it quotes of a file may have any number
SIGPIPE = 13  # its number, also where a system has no such signal
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    The exit status: 0 done, 1 the answer is no, 2 bad input (one sentence on standard error), 128 + the
    signal's number after an interruption, or where whoever read what is printed went away (141).
    """
    _stand_ins()
    argv = list(sys.argv[1:] if argv is None else argv)
    chosen = next((a for a in argv if not a.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        return refuse("netspec", f"'{chosen}' is no command{closest(chosen, COMMANDS)} (commands: "
                                 f"{', '.join(COMMANDS)})")
    try:
        args = _parser(chosen).parse_args(argv)  # which may print help, to a reader that goes away
        _prepare()
        leave.say = partial(_remark, f"netspec {chosen}")
        _load(vars(args).get("ops", ()))
        with options.reading(args), looking(args.trust) if "trust" in args else nullcontext():
            status = args.run(args)
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not after the last line of Python
        return status
    except Error as e:
        return refuse(f"netspec {chosen}", ": ".join([*getattr(e, "__notes__", ()), str(e)]))
    except BrokenPipeError:  # what was still to do is not done
        _drop_output()
        return 128 + SIGPIPE
    except OSError as e:
        if e.filename is None and e.errno in FULL:  # most likely of what is printed
            _drop_output()
            return refuse(f"netspec {chosen}", f"the output cannot be written: {e.strerror}")
        if e.filename is None:
            raise
        return refuse(f"netspec {chosen}", said(e))
    except (MemoryError, RuntimeError) as e:
        return refuse(f"netspec {chosen}", exhausted(e))
    except (Interrupted, Told) as e:
        return e.status
    except KeyboardInterrupt:
        say(f"netspec {chosen}: stopped by Ctrl-C", file=sys.stderr)
        return 130


class _Remark(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(one_line(shortened(message, MOST)))


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of one command, whose module alone is imported, or of none."""
    parser = _Parser(
        "netspec", description="Caffe's fully convolutional networks on PyTorch.",
        epilog="netspec COMMAND --help says more.", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"netspec {__version__}")
    groups = (f"{group}:\n" + "".join(f"  {name:<14}{text}\n" for name, text in commands.items())
              for group, commands in GROUPS.items())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands",
                                     description="\n".join(groups))
    if chosen is not None:
        text = COMMANDS[chosen]
        command = importlib.import_module(f".{chosen.replace('-', '_')}", __package__)
        sub = commands.add_parser(chosen, description=text[0].upper() + text[1:] + ".")
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
        if chosen not in WITHOUT_NETS:
            options.add_reading_arguments(sub, reads=chosen in LOOKS, solver=chosen == "solve")
        _add_ops(sub)
    return parser


def _add_ops(parser: argparse.ArgumentParser) -> None:
    """Give a command, or each of its kinds, the option that all have."""
    kinds = [a.choices.values() for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for kind in set(chain(*kinds)):  # some have two names
        _add_ops(kind)
    if not kinds:
        parser.add_argument("--ops", action="append", default=[], metavar="MODULE",
                            help="know the layer types of a module of yours, or FILE.py; may be repeated")


def _load(modules: Sequence[str]) -> None:
    """Have the layer types of modules known; torch is not loaded for none."""
    if modules:
        from ..ops.own import load

        for module in modules:
            load(module)


def _prepare() -> None:
    """What holds for all of this process, before a command runs."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that it cannot encode end nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    if logging.lastResort:  # which prints what wings remark
        logging.lastResort.setFormatter(_Remark())
    warnings.showwarning = _warned
    try:
        os.getcwd()
    except FileNotFoundError:  # torch's libraries would end the process
        raise Error("the current folder is not there any more; go to another") from None
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    prepare_torch()


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Ctrl-C. While torch is imported the process ends here: its C++ aborts at an exception."""
    if getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False):
        os.write(2, b"netspec: stopped by Ctrl-C\n")
        os._exit(128 + number)
    signal.default_int_handler(number, frame)


def _stand_ins() -> None:
    """What was closed from the start is nothing: else a file that is opened would get what is printed."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - open as long as the process lives
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _drop_output() -> None:
    """What is still to be flushed goes nowhere, so that Python's end does not complain of it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse(who: str, message: str) -> int:
    _remark(who, shortened(message))  # no longer than one has to be
    return 2


def _remark(who: str, message: str) -> None:
    with suppress(OSError):  # standard error may be what cannot be written
        say(f"{who}: {shortened(message, MOST)}", file=sys.stderr)


def _warned(message: Warning | str, *place: Any, **more: Any) -> None:
    """What a library warns of, such as Pillow of damaged tags, in place of two lines with a place in it."""
    _remark("note", str(message))
