"""Attempts with nets, solvers and what their Python layers are told: prototxt x commands."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message
from training import BODY, SOLVER, write_job

from .changing import REAL, TEXTS, WHOLE, bytes_changed, changed, text_changed
from .drawing import Area

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MODELS = GOLDEN.parents[1] / "models"
SMALL = 12_000  # bytes of a net that is quick to look at
ONE_LABEL = """
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }"""  # of an image


@cache
def nets() -> list[tuple[str, Path]]:
    """The texts of small nets, and where they are."""
    found = [*sorted(GOLDEN.glob("layers/*.prototxt")), *sorted(GOLDEN.glob("solvers/*/net.prototxt")),
             *sorted(MODELS.glob("shapes-*/*.prototxt"))]
    return [(path.read_text(), path) for path in found if path.stat().st_size < SMALL]


@cache
def types() -> list[str]:
    from netspec.ops.base import REGISTRY

    return sorted(REGISTRY)


def spelt(message: Message, numbers: random.Random) -> str:
    """A changed message as text, whose text may be changed too."""
    text = text_format.MessageToString(message, as_utf8=True)
    for _ in range(numbers.choice((0, 0, 0, 0, 1, 2))):
        text = text_changed(text, numbers)
    return text


def read(text: str, kind: type[Message]) -> Message:
    return text_format.Parse(text, kind())


def some_net(numbers: random.Random, folder: Path, name: str = "net.prototxt") -> Path:
    """Write a net that is changed in some places, and what its original had beside it; the original's path."""
    from netspec.proto.caffe_pb2 import NetParameter

    text, path = numbers.choice(nets())
    net = read(text, NetParameter)
    if numbers.random() < 0.15:  # two nets in one
        net.MergeFrom(read(numbers.choice(nets())[0], NetParameter))
    for _ in range(numbers.choice((1, 1, 1, 2, 3, 6))):
        changed(net, numbers, types())
    text = spelt(net, numbers).encode("utf-8", "replace")
    (folder / name).write_bytes(bytes_changed(text, numbers) if numbers.random() < 0.03 else text)
    return path


def _size(numbers: random.Random) -> list[str]:
    if numbers.random() < 0.6:
        return []
    return ["--size", f"{numbers.choice((1, 7, 32, 64, 0, 99999, 10**9))}x{numbers.choice((1, 9, 33, 64, -1, 99999))}"]


def _describe(numbers: random.Random, folder: Path, original: Path) -> list:
    more = numbers.choice(([], [], ["--json"], ["--csv"], ["--table1"], ["--phase", "TRAIN"], ["--layer", numbers.choice(("l", *TEXTS))]))
    return ["describe", "net.prototxt", *more, *_size(numbers)]


def _draw(numbers: random.Random, folder: Path, original: Path) -> list:
    return ["draw", "net.prototxt", "--out", f"out.{numbers.choice(('svg', 'svg', 'svg', 'png'))}",
            *numbers.choice(([], [], ["--style", "figure3"])), *_size(numbers)]


def _doctor(numbers: random.Random, folder: Path, original: Path) -> list:
    return ["doctor", "net.prototxt", *_size(numbers), *numbers.choice(([], ["--device", "cpu"]))]


def _diff(numbers: random.Random, folder: Path, original: Path) -> list:
    if numbers.random() < 0.3:
        return ["diff-net", "net.prototxt", "--figure3", *_size(numbers)]
    (folder / "other.prototxt").write_text(original.read_text())
    return ["diff-net", "net.prototxt", "other.prototxt", *_size(numbers), *numbers.choice(([], ["--body"], ["--phase", "TRAIN"]))]


def _parity(numbers: random.Random, folder: Path, original: Path) -> list:
    case = original.with_suffix(".npz")
    (folder / "case.npz").write_bytes((case if case.exists() else GOLDEN / "layers/absval.npz").read_bytes())
    return ["parity", "net.prototxt", "case.npz", *numbers.choice(([], ["--phase", "TRAIN"], ["--rtol", str(numbers.choice(REAL))]))]


def _convert(numbers: random.Random, folder: Path, original: Path) -> list:
    return numbers.choice((["convert", "upgrade", "net.prototxt", "new.prototxt"], ["convert", "fcn", "net.prototxt", "new.prototxt"],
                           ["convert", "torch", "net.prototxt", "out.py"], ["convert", "onnx", "net.prototxt", "out.onnx"]))


COMMANDS: tuple[tuple[int, Callable[[random.Random, Path, Path], list]], ...] = (
    (6, _describe), (3, _draw), (4, _doctor), (4, _diff), (2, lambda numbers, folder, original: ["explain-crop", "net.prototxt"]),
    (3, _parity), (3, _convert), (1, lambda numbers, folder, original: ["data", "check", "net.prototxt", "--jobs", "1"]),
)


def prototxt(numbers: random.Random, folder: Path) -> list:
    original = some_net(numbers, folder)
    commands = [make for weight, make in COMMANDS for _ in range(weight)]
    return ["netspec", *numbers.choice(commands)(numbers, folder, original)]


def job(folder: Path) -> None:
    """A small training job of few steps."""
    write_job(folder, solver=SOLVER.replace("max_iter: 12", "max_iter: 3"))


def solver(numbers: random.Random, folder: Path) -> list:
    from netspec.proto.caffe_pb2 import NetParameter, SolverParameter
    from netspec.train.updates import POLICIES, RULES

    job(folder)
    param = read((folder / "solver.prototxt").read_text(), SolverParameter)
    known = ["net.prototxt", "run/snap", *POLICIES, *RULES, *TEXTS]
    for _ in range(numbers.choice((1, 1, 2, 3, 5))):
        changed(param, numbers, known)
    if any(part.startswith(".") for part in Path(param.snapshot_prefix).parts):  # outside, or like a temporary: as asked for
        param.snapshot_prefix = "run/snap"
    for field in ("max_iter", "iter_size"):  # what takes long as it should
        if getattr(param, field) > 20:
            setattr(param, field, numbers.randrange(5))
    (folder / "solver.prototxt").write_text(spelt(param, numbers), errors="replace")
    if numbers.random() < 0.3:
        net = read((folder / "net.prototxt").read_text(), NetParameter)
        changed(net, numbers, types())
        (folder / "net.prototxt").write_text(spelt(net, numbers), errors="replace")
    if numbers.random() < 0.2:
        return ["netspec", numbers.choice(("doctor", "doctor", "report")), "solver.prototxt"]
    return ["netspec", "solve", "solver.prototxt", *numbers.choice(([], [], ["--quiet"], ["--checkpoint"], ["--log", "a.log"],
                                                                    ["--iterations", str(numbers.choice((0, 2, 4, -1)))]))]


def _told(numbers: random.Random) -> Any:
    """A value that a param_str may give."""
    kind = numbers.randrange(8)
    if kind < 2:
        return numbers.choice(WHOLE)
    if kind == 2:
        return numbers.choice(REAL)
    if kind == 3:
        return numbers.choice(TEXTS)
    if kind == 4:
        return [_told(numbers) for _ in range(numbers.randrange(5))]
    if kind == 5:
        return tuple(_told(numbers) for _ in range(numbers.randrange(5)))
    if kind == 6:
        return {str(_told(numbers)): _told(numbers) for _ in range(numbers.randrange(3))}
    return numbers.choice((None, True, False, ...))


OPTIONS = ("dataset", "root", "split", "mean", "seed", "tops", "batch_size", "crop", "mirror", "scale", "resize", "overlap", "shuffle",
           "classes", "void", "labels", "images", "own", "jitter", "ignore", "zoom", "random", "weights", "sbdd_dir", "voc_dir")
DATA = """layer {{ name: "data" type: "Python" top: "data" top: "label" python_param {{ module: "{module}" layer: "{layer}" param_str: "" }} }}"""
CLASSES = (("netspec.datasets", "SegmentationData"), ("netspec.datasets", "DetectionData"), ("voc_layers", "VOCSegDataLayer"),
           ("voc_layers", "SBDDSegDataLayer"), ("rpn.proposal_layer", "ProposalLayer"), ("os", "system"))


def param_str(numbers: random.Random, folder: Path) -> list:
    from netspec.proto.caffe_pb2 import NetParameter

    options = dict(dataset="voc", root="images", split="train", mean=(104, 117, 123), seed=11, overlap=True)
    for _ in range(numbers.choice((1, 1, 2, 3))):
        name = numbers.choice((*OPTIONS, *options, *options))
        if numbers.random() < 0.2:
            options.pop(name, None)
        else:
            options[name] = _told(numbers)
    text = str(options)
    if numbers.random() < 0.3:
        text = "\n".join(f"{name}: {value}" for name, value in options.items())
    for _ in range(numbers.choice((0, 0, 1, 2))):
        text = text_changed(text, numbers)
    write_job(folder, solver=SOLVER.replace("max_iter: 12", "max_iter: 2"), data="SegmentationData")
    module, layer = CLASSES[0] if numbers.random() < 0.7 else numbers.choice(CLASSES)
    net = read(DATA.format(module=module, layer=layer) + BODY, NetParameter)
    net.layer[0].python_param.param_str = text.encode("utf-8", "replace").decode()
    (folder / "net.prototxt").write_text(text_format.MessageToString(net, as_utf8=True))
    return ["netspec", *numbers.choice((["describe", "net.prototxt"], ["data", "check", "net.prototxt", "--jobs", "1"],
                                        ["solve", "solver.prototxt"], ["doctor", "net.prototxt"], ["draw", "net.prototxt", "--out", "a.svg"]))]


AREAS = {"prototxt": Area(prototxt, 15_000), "solver": Area(solver, 8_000), "param_str": Area(param_str, 8_000)}
