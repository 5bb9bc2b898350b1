"""How long `netspec infer` takes as a whole beside plain scripts that do the same job, each a process."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..base.errors import Error, count, one_line
from ..base.processes import again
from ..convert import engines, onnx
from ..convert.agree import filled
from ..data.layouts import ILSVRC
from ..net import weights
from ..proto.text import read_net
from ..score import predict
from ..score.frames import expand
from . import plain
from .contenders import Contender, asked_for, check_precisions
from .measure import rounds, untold
from .speed import beside, enliven

BLOB = "score"
MEANING = "the share of pixels that get the first row's label"
TOLD = "channels_last, torch.inference_mode, autocast in bf16", "--device cpu"


def time_infer(path: Path, given: Path | None, pictures: str, precisions: Sequence[str], only: Sequence[str],
               repeats: int) -> str:
    """Wall seconds of `netspec infer` over a folder and of plain scripts that do the same, which take turns.

    given: the weights; None: some are drawn. pictures: a folder or a pattern. Ratios are of one round each,
    to the fastest script around an engine. Raises Error where one of them fails, and for a precision that
    the CPU does not have.
    """
    check_precisions(precisions, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(path, given, pictures, Path(folder))
        left: list[str] = []
        found = list(programs.all(precisions, only, left))
        if not found:
            why = "; ".join(left) or "no program has such a name"
            raise Error(f"{path}: there is nothing to time; {why}")
        spent = rounds({each: each.call for each in found}, repeats)
        first = programs.labels(found[0])
        alike = {each: f"{share(first, programs.labels(each)):.4%}" for each in found}
        table = beside(alike, spent, MEANING, "agrees")
    head = (f"{programs.net.graph.name}, infer, {count(len(programs.files), 'picture')}, whole processes, "
            f"{count(repeats, 'round')} after one to warm up")
    return "\n".join([one_line(head), table, *left])


class Programs:
    """The commands that segment some pictures with a net; `folder` gets what else they read, and write."""

    def __init__(self, path: Path, given: Path | None, pictures: str, folder: Path) -> None:
        """Raises Error for a net that does not take colour pictures less a mean: plain scripts do no more."""
        self.path, self.pictures, self.folder = path, pictures, folder
        self.files = expand(pictures)[0]
        proto, self.top, channels, known = predict.image_net(read_net(path), BLOB, path)
        if channels != 3 or known.resize != 1 or known.scale != 1:
            raise Error(f"{path}: takes pictures of {channels} channels, resized by {known.resize:g} and "
                        f"multiplied by {known.scale:g}; plain scripts feed colours less a mean alone")
        graph = predict.sample(proto, self.top, channels, path)
        self.net = predict.load(graph, given, "cpu")[0] if given else filled(graph)
        if not given:
            enliven(self.net)
        self.mean = [*(known.mean or ILSVRC)]
        self.palette = predict.looks(known.facts, graph.shape(BLOB)[1]).palette.tolist()
        self.weights = folder / "net.caffemodel"
        weights.save(self.weights, self.net)

    def all(self, precisions: Sequence[str], only: Sequence[str], left: list[str]) -> Iterator[Contender]:
        """Each program, netspec's first. left: gets a sentence for each that is left out."""
        here = engines.available()
        ours = {"netspec": "torch", **{f"infer --engine {name}": name for name in here}}
        scripts = {"plain PyTorch": "torch", **{f"plain {name}": name for name in here}}
        for name, engine in (*ours.items(), *scripts.items()):
            for precision in precisions if asked_for(name, only) else ():
                try:
                    if engine != "torch":
                        engines.check(engine, precision)
                    words = (self._command if name in ours else self._script)(name, engine, precision)
                except Error as problem:
                    left.append(f"{name} in {precision} is left out: {problem}")
                    continue
                rival = name in scripts and engine != "torch"
                told = ", ".join(f"{key} {value}" for key, value in engines.settings(
                    engine, torch.get_num_threads(), precision).items()) if rival else TOLD[name in ours]
                yield Contender(name, precision, partial(_run, words), told, rival)

    def out(self, name: str, precision: str) -> Path:
        """The folder of a program's results."""
        found = self.folder / f"{name} {precision}"
        found.mkdir(exist_ok=True)
        return found

    def labels(self, of: Contender) -> dict[str, np.ndarray]:
        """The label files that a program has written, by name."""
        found = {}
        for path in self.out(of.name, of.precision).glob("*_labels.png"):
            with Image.open(path) as image:
                found[path.name] = np.asarray(image)
        return found

    def _command(self, name: str, engine: str, precision: str) -> list[str]:
        return [sys.executable, "-m", "netspec", "infer", str(self.path), str(self.weights), self.pictures,
                "--out", str(self.out(name, precision)), "--mean", ",".join(map(str, self.mean)),
                "--device", "cpu", "--precision", precision, "--engine", engine, *again()]

    def _script(self, name: str, engine: str, precision: str) -> list[str]:
        job = {"engine": engine, "precision": precision, "threads": torch.get_num_threads(),
               "pictures": self.files, "mean": self.mean, "palette": self.palette, "input": self.top,
               "output": BLOB, "out": str(out := self.out(name, precision)),
               "model": str(self._module() if engine == "torch" else self._onnx())}
        file = out.with_suffix(".json")
        file.write_text(json.dumps(job))
        return [sys.executable, "-m", f"{__package__}.whole_plain", str(file)]

    def _module(self) -> Path:
        """What plain.FCN is made of, as torch.save writes it."""
        path = self.folder / "net.pt"
        if not path.exists():
            made = plain.of(self.net.graph, self.net.state_dict())
            if made is None:
                raise Error("it is written for FCN-32s, 16s and 8s on a trunk like VGG's")
            torch.save({"arguments": made.arguments, "weights": made.channels_last().state_dict()}, path)
        return path

    def _onnx(self) -> Path:
        path = self.folder / "net.onnx"
        if not path.exists():
            path.write_bytes(onnx.model(self.net).SerializeToString())
        return path


def share(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The share of pixels that two programs give the same label; in a file that one lacks none is."""
    both = [name for name in a.keys() & b.keys() if a[name].shape == b[name].shape]
    alike = sum(int((a[name] == b[name]).sum()) for name in both)
    return alike / max(1, *(sum(x.size for x in each.values()) for each in (a, b)))


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(words, env=untold(), capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing was said"]
        raise Error(f"{' '.join(words[1:4])} ended with status {done.returncode}: {said[-1]}")
