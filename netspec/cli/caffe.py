"""`netspec caffe`: Caffe's programs by their names and flags, each a door to what does its work here."""

import argparse
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..base import log
from ..base.errors import Error, Interrupted, closest, count, one_line
from ..base.processes import again
from ..base.trust import leave
from . import imagesets, solve
from .convert import upgrade_file
from .finding import find_net

if TYPE_CHECKING:
    from ..pycaffe.net import Net

Flags = dict[str, Any]
FALSE = ("0", "f", "false", "n", "no")
SOLVER: Flags = dict(solver="", model="", snapshot="", weights="", iterations=50, gpu="", phase="", level=0,
                     stage="", sigint_effect="stop", sighup_effect="snapshot")
IMAGES: Flags = dict(gray=False, shuffle=False, backend="lmdb", resize_width=0, resize_height=0,
                     check_size=False, encoded=False, encode_type="")
LOGGING: Flags = dict(minloglevel=0, log_dir="", logtostderr=False, alsologtostderr=False, stderrthreshold=0,
                      v=0)
CHOICES = {"phase": ("", "TRAIN", "TEST"), "backend": ("lmdb",),
           **dict.fromkeys(("sigint_effect", "sighup_effect"), ("stop", "snapshot", "none"))}


class Program(NamedTuple):
    """words: what stands beside flags, in brackets what may be left out. needs: flags that must be given."""

    run: Callable[[Flags, list[str], log.Log], Any]
    flags: Flags
    words: str = ""
    needs: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def take(args: Sequence[str] | None, namespace: argparse.Namespace | None) -> Any:
        found, given = plain(["-h" if word == "-help" else word for word in args or ()], namespace)
        found.given = given
        return found, []

    plain = parser.parse_known_args  # which hands on what is none of its own: gflags' flags
    parser.add_argument("--unknown-fields", choices=("refuse", "pass"), default="refuse",
                        help="of a net: refuse it (default), or say it and go on")
    vars(parser)["parse_known_args"] = take
    parser.usage = "netspec caffe PROGRAM [-FLAG VALUE ...] [WORD ...] [--ops MODULE] [--unknown-fields pass]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(" ".join([name, *(f"-{flag}" for flag in each.flags), each.words])
                              for name, each in PROGRAMS.items())


def run(args: argparse.Namespace) -> int:
    """Do what the program does, which the first word names."""
    name, *given = args.given or [""]
    if name not in PROGRAMS:
        raise Error(f"'{name}' is none of Caffe's programs{closest(name, PROGRAMS)} (they are "
                    f"{', '.join(PROGRAMS)})")
    program = PROGRAMS[name]
    flags, words = read_flags(name, {**program.flags, **LOGGING}, given)
    known = program.words.split()
    if not sum(word[0] != "[" for word in known) <= len(words) <= len(known):
        raise Error(f"{name} takes {program.words or 'flags alone'}, found {' '.join(words) or 'nothing'}")
    for flag, value in flags.items():
        if flag in program.needs and (value < 1 if isinstance(value, int) else not value):
            raise Error(f"{name} needs -{flag} {'N, above 0' if flag == 'iterations' else 'FILE'}")
        if value not in CHOICES.get(flag, (value,)):
            raise Error(f"{name}: -{flag} takes {' or '.join(filter(None, CHOICES[flag]))}, found '{value}'")
    quiet = flags["minloglevel"] > 0 or os.environ.get("GLOG_minloglevel", "0") != "0"
    with closing(log.make(quiet)) as said:
        return program.run(flags, words, said) or 0


def read_flags(program: str, known: Flags, given: Sequence[str]) -> tuple[Flags, list[str]]:
    """The values of a program's flags, and the words that are none, as gflags reads them. known: flag -> what
    it is by itself, whose type is that of the value. Raises Error for what is no flag, or no value of one."""
    values, words, left = dict(known), list[str](), list(given)
    while left:
        word = left.pop(0)
        if word == "--":
            return values, words + left
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, told, value = word.lstrip("-").partition("=")
        if name.startswith("no") and isinstance(known.get(name[2:]), bool):
            name, value = name[2:], "no"
        if name not in known:
            raise Error(f"{program} has no flag -{name}{closest(name, known)} (flags: {', '.join(known)})")
        kind = type(known[name])
        if kind is not bool and not told:
            if not left:
                raise Error(f"{program}: -{name} needs a value")
            value = left.pop(0)
        try:
            values[name] = value.lower() not in FALSE if kind is bool else kind(value)
            if kind is int and abs(values[name]) >= 1 << 31:
                raise ValueError
        except ValueError:
            raise Error(f"{program}: -{name} takes a whole number, found '{value}'") from None
    return values, words


def _state(flags: Flags) -> dict[str, Any]:
    return dict(level=flags["level"], stages=[stage for stage in flags["stage"].split(",") if stage])


def _gpus(flags: Flags) -> list[int]:
    """The numbers of the GPUs that -gpu names."""
    import torch

    numbers = flags["gpu"].split(",") if flags["gpu"] else []
    if numbers == ["all"]:
        return list(range(torch.cuda.device_count() or 1))
    if not all(number.isdecimal() for number in numbers):
        raise Error(f"-gpu takes numbers with commas between them, or all; found '{flags['gpu']}'")
    return [int(number) for number in numbers]


def _train(flags: Flags, words: list[str], said: log.Log) -> int:
    from ..proto.caffe_pb2 import NetState
    from ..train import stopping

    gpus, parser = _gpus(flags), argparse.ArgumentParser()
    if len(gpus) > 1 and "WORLD_SIZE" not in os.environ:  # a process a GPU, each of which comes here again
        shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(
            shown[number] if number < len(shown) > 1 else str(number) for number in gpus)
        os.execv(sys.executable, [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(gpus)}",
            "-m", "netspec", "caffe", "train", *(f"-{flag}={value}" for flag, value in flags.items()),
            f"--unknown-fields={'pass' if leave.unknown else 'refuse'}", *again()])
    solve.add_arguments(parser)
    args = parser.parse_args(["--", flags["solver"]])
    args.weights, args.snapshot, args.quiet = flags["weights"], flags["snapshot"], said.quiet
    if gpus:
        device = imagesets.device(gpus)
        args.device = device.partition(":")[0] if len(gpus) > 1 else device
    if flags["log_dir"]:
        args.log = os.path.join(flags["log_dir"], "caffe.INFO")
    state = _state(flags)
    args.state = NetState(level=state["level"], stage=state["stages"])
    args.effects = {**stopping.EFFECTS, signal.SIGINT: flags["sigint_effect"],
                    stopping.HUNG_UP: flags["sighup_effect"]}
    try:
        return solve.run(args)
    except Interrupted as stop:
        if stop.number == signal.SIGTERM:  # which Caffe has no word for
            raise
        return 0


def _test(flags: Flags, words: list[str], said: log.Log) -> None:
    import numpy as np

    from ..train.display import MOST_SHOWN

    net = imagesets.net(flags["model"], flags["weights"], imagesets.device(_gpus(flags)), **_state(flags))
    number, loss, sums = flags["iterations"], np.float32(0), dict[str, np.ndarray]()  # float32, as in Caffe
    said("caffe.cpp:281", f"Running for {number} iterations.")
    for i, blobs in enumerate(imagesets.passes(net, number, net.graph.outputs)):
        loss += np.float32(net.loss(blobs).item())
        for name in net.graph.outputs:
            scores = blobs[name].float().cpu().numpy().ravel()
            before = sums.setdefault(name, np.zeros_like(scores))
            if len(scores) != len(before) or len(scores) > MOST_SHOWN:  # no mean, or none to read
                sums[name] = scores[:0]
                continue
            sums[name] = before + scores
            for score in scores:
                said("caffe.cpp:304", f"Batch {i}, {name} = {score:g}")
    said("caffe.cpp:309", f"Loss: {loss / number:g}")
    for name, total in sums.items():
        weight = net.losses.get(name, 0)
        for mean in total / number:
            tail = f" (* {weight:g} = {weight * mean:g} loss)" if weight else ""
            said("caffe.cpp:321", f"{name} = {mean:g}{tail}")


def _time(flags: Flags, words: list[str], said: log.Log) -> None:
    from ..pycaffe import session
    from ..pycaffe.net import Net

    session.set_mode_cpu()
    for number in _gpus(flags)[:1]:
        session.set_device(number)
        session.set_mode_gpu()
    net = Net(find_net(flags["model"]), int(flags["phase"] == "TEST"), **_state(flags))
    said("caffe.cpp:351", "Performing Forward")
    net._forward()
    losses = (weight * net.blobs[blob].data.sum() for blob, weight in net.blob_loss_weights.items() if weight)
    said("caffe.cpp:356", f"Initial loss: {sum(losses):g}")
    said("caffe.cpp:357", "Performing Backward")
    net._backward()
    _benchmark(net, flags["iterations"], said)


def _benchmark(net: "Net", number: int, said: log.Log) -> None:
    """Time so many passes, and each layer in them, in milliseconds."""
    from ..pycaffe.session import Timer

    spent, ways = defaultdict[Any, float](float), {"forward": net._forward, "backward": net._backward}
    whole, clock = Timer(), Timer()

    def add(way: str, layer: int) -> None:
        spent[way, layer] += clock.ms

    for way in ways:
        getattr(net, f"before_{way}")(lambda layer: clock.start())
        getattr(net, f"after_{way}")(partial(add, way))
    said("caffe.cpp:365", "*** Benchmark begins ***")
    said("caffe.cpp:366", f"Testing for {number} iterations.")
    for i in range(number):
        before = spent["all"]
        for way, run in ways.items():
            whole.start()
            run()
            spent[way] += whole.ms
            spent["all"] += whole.ms
        said("caffe.cpp:394", f"Iteration: {i + 1} forward-backward time: {spent['all'] - before:g} ms.")
    said("caffe.cpp:397", "Average time per layer: ")
    for layer, name in enumerate([] if said.quiet else net._layer_names):
        for line, way in ((400, "forward"), (403, "backward")):
            took = f"{one_line(name):>10}\t{way}: {spent[way, layer] / number:g} ms."
            said.say(f"caffe.cpp:{line}", took, "I")  # as it is: the tab is Caffe's
    for what, key in ("Forward pass", "forward"), ("Backward pass", "backward"), ("Forward-Backward", "all"):
        said("caffe.cpp:408", f"Average {what}: {spent[key] / number:g} ms.")
    said("caffe.cpp:414", f"Total Time: {spent['all']:g} ms.")
    said("caffe.cpp:415", "*** Benchmark ends ***")


def _device_query(flags: Flags, words: list[str], said: log.Log) -> None:
    import torch

    here = torch.cuda.device_count()
    said("caffe.cpp:138", f"Querying GPUs {flags['gpu']}")
    for number in _gpus(flags) if flags["gpu"] else range(here):
        if number >= here:
            raise Error(f"GPU {number} is not here ({count(here, 'CUDA device')} found)")
        found = torch.cuda.get_device_properties(number)
        for what, value in {"Device id": number, "Major revision number": found.major, "Name": found.name,
                            "Minor revision number": found.minor, "Total global memory": found.total_memory,
                            "Number of multiprocessors": found.multi_processor_count}.items():
            said("common.cpp:178", f"{what + ':':<31}{value}")


def _upgrading(kind: str) -> Program:
    return Program(lambda flags, words, said: upgrade_file(words[0], words[1], kind), {}, "OLD NEW")


PROGRAMS = {
    "train": Program(_train, SOLVER, needs=("solver",)),
    "test": Program(_test, SOLVER, needs=("model", "weights", "iterations")),
    "time": Program(_time, SOLVER, needs=("model", "iterations")),
    "device_query": Program(_device_query, SOLVER),
    "convert_imageset": Program(imagesets.convert, IMAGES, "ROOTFOLDER/ LISTFILE DB_NAME"),
    "compute_image_mean": Program(imagesets.mean, {"backend": "lmdb"}, "INPUT_DB [OUTPUT_FILE]"),
    "extract_features": Program(imagesets.extract, {},
                                "WEIGHTS NET BLOB[,BLOB] DB[,DB] BATCHES lmdb [CPU|GPU] [DEVICE_ID=N]"),
    "upgrade_net_proto_text": _upgrading("a net in text"),
    "upgrade_net_proto_binary": _upgrading("a net in binary"),
    "upgrade_solver_proto_text": _upgrading("a solver in text"),
}
