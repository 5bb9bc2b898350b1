"""Any number of images by one net: what is made of each, by whichever process holds the net."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..base import __version__
from ..base.errors import Error, Final, said
from ..base.files import FULL, native
from ..base.machine import choose
from ..base.names import net_file
from ..data.get import digest
from ..net import judged
from ..net.deploy import scored
from ..proto.text import read_net
from . import predict
from .frames import STDIN, stem_of
from .loaded import PRETRAINED, weights_file
from .predict import Looks
from .results import Outputs, Wanted
from .sampled import Draws, random
from .segment import Segmenter
from .stream import Told, segmented
from .tiles import Tiler

ENDS_ALL = {*FULL, errno.EROFS}  # what the system says of a disk, not of an image
Row = dict[str, Any]  # what a manifest says of an image: see Worker


@dataclass(frozen=True, eq=False)
class Job:
    """What is made of every image: plain values, which go to other processes and machines by pickle.

    net, weights: as netspec.load takes them, looked for where the job is opened. out: the folder of the
    results. device, precision: see netspec.load. strict: refuse weights that lack a layer, or hold another.
    score_blob: the scores (empty: "score", or the only result). mean: B, G, R to subtract, 0 to 255 (None:
    as the net says). looks: names and colours of the classes (None: as the net says). wanted: what is
    written. scales, flip: looks that are averaged. tile: the side of tiles of larger images in pixels, or
    "auto", as in `netspec infer`, of one look. draws: of nets that drop at random, how often each image is
    seen, and where its random numbers begin, of one look; `wanted` says so too (unsure).
    """

    net: str
    weights: str = PRETRAINED
    out: str = "."
    device: str | None = None
    precision: str = "fp32"
    strict: bool = False
    score_blob: str = ""
    mean: tuple[float, ...] | None = None
    looks: Looks | None = None
    wanted: Wanted = Wanted(0.55)
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tile: int | str | None = None
    draws: Draws | None = None

    def open(self) -> "Worker":
        """What holds the net, on the job's device. Raises Error as netspec.load does."""
        return Worker(self)

    def facts(self) -> dict[str, Any]:
        """All that results depend on, for JSON: of files their checksums. Raises Error for what is not there.
        """
        path = net_file(self.net)
        file, looks = weights_file(path, self.weights), None
        if self.looks:
            looks = hashlib.sha256(json.dumps([*self.looks.names]).encode() + self.looks.palette.tobytes())
        return {"netspec": __version__, "torch": torch.__version__, "net": f"sha256:{digest(path)}",
                "weights": f"sha256:{digest(file)}" if file else None, "score_blob": self.score_blob,
                "device": choose(self.device, self.precision).type, "precision": self.precision,
                "mean": self.mean and [*self.mean], "looks": looks and f"sha256:{looks.hexdigest()}",
                **json.loads(json.dumps(asdict(self.wanted))),
                "scales": [*self.scales], "flip": self.flip, "tile": self.tile,
                "draws": self.draws and [*self.draws]}


class Worker:
    """A job's net, which is called with images, one after the other, and gives a manifest's row for each.

    remarks: what a person should know of the weights.
    """

    def __init__(self, job: Job) -> None:
        path = net_file(job.net)
        proto = read_net(path)
        blob = job.score_blob or scored(proto)
        net, top, channels, known = predict.image_net(proto, blob, path)
        made = predict.sample(net, top, channels, path)
        mean = known.mean if job.mean is None else job.mean
        if mean is None:
            raise Error(f"{path} does not say which mean to subtract: give the job one, (B, G, R), from 0 to "
                        "255")
        if len(mean) not in (1, channels):
            raise Error(f"a mean of {len(mean)} numbers is given for images of {channels} channels")
        if job.tile and (job.flip or tuple(job.scales) != (1.0,) or job.draws):
            raise Error("tiles go without scales, flip and draws: they are of one look")
        if not job.draws and random(made):
            raise Error(f"net '{made.name}' drops at random in TEST too, and no two runs would give the "
                        "same: --samples N (of a Job its draws) gives the mean of N passes")
        self.job, self.resize, self.notes = job, known.resize, list[str]()
        self.looks = job.looks or predict.looks(known.facts, judged.classes(made, blob))
        file = weights_file(path, job.weights)
        if file is None:
            raise Error(f"{path}: has no weights by its name; give the job a file")
        filled, self.remarks = predict.load(made, file, job.device, job.precision, job.strict,
                                            job.weights == PRETRAINED)
        self.segmenter = Tiler(filled, blob, mean, known.scale, None if job.tile == "auto" else int(job.tile)
                               ) if job.tile else Segmenter(filled, blob, mean, known.scale, job.scales,
                                                            job.flip, None, job.draws, self.notes.append)

    def __call__(self, name: str, path: str | os.PathLike | None = None) -> Row:
        """An image's results, written whole or not at all, and its row.

        name: of the image, under which the manifest knows it; its results are OUT/NAME_labels.png and so on,
        see `place`. path: where the image is (None: `name` says it). The row, all of it for JSON: image, the
        name; bytes and mtime_ns, of the file; notes, what a person should know, if there is anything; and
        as `netspec infer --json` says them, size (width, height), classes (name, class, pixels, share) and
        files (what -> path from OUT on). Of a file with several pictures, `frames` has these of each, in
        their order. Where something is wrong with the image, `error` says it.
        Raises Error and OSError for what is wrong with more than this image, such as a full disk.
        """
        file = os.fspath(name if path is None else path)
        file = os.path.join(os.curdir, file) if file == STDIN else file
        row: Row = {"image": name, **stamp(file)}
        frames, errors, notes = [], [], []
        with closing(self._told(name, file)) as results:
            for told in results:
                notes += told.notes
                try:
                    frames.append(self._from_out(told.result()))
                except (Error, OSError) as error:
                    if isinstance(error, Final) or isinstance(error, OSError) and error.errno in ENDS_ALL:
                        raise
                    errors.append(said(error) if isinstance(error, OSError) else str(error))
        if notes := [*notes, *self.notes]:
            row["notes"] = notes
        self.notes.clear()
        if errors:
            row["error"] = errors[0]
        elif len(frames) == 1 and frames[0]["files"]["labels"].removesuffix("_labels.png") == place(name):
            return row | frames[0]  # else it has a number, as a video's only picture has
        return row | ({"frames": frames} if frames else {})

    def _told(self, name: str, file: str) -> Generator[Told]:
        outputs = _Place(Path(self.job.out), place(name), stem_of(file), self.job.wanted.files)
        return segmented([file], self.segmenter, outputs, self.looks, self.job.wanted, self.resize)

    def _from_out(self, found: Row) -> Row:
        """What is said of a picture, its files as they are called from the job's folder on."""
        files = {what: Path(path).relative_to(self.job.out).as_posix()
                 for what, path in found["files"].items()}
        return found | {"files": files}


class _Place(Outputs):
    """Where the results of one image go: its place is its own already."""

    def __init__(self, folder: Path, at: str, stem: str, ends: dict[str, str]) -> None:
        self.folder, self.at, self.stem, self.ends = folder, at, stem, ends

    def of(self, stem: str, file: str) -> dict[str, Path]:
        frame = stem.removeprefix(self.stem)  # of several pictures, its number
        return {what: self.folder / f"{self.at}{frame}{end}" for what, end in self.ends.items()}


def place(name: str) -> str:
    """What the results of an image of this name are called, from the folder of results on and without their
    ends: the name without its ending, in its folders. Of an absolute name the root is left out, of one that
    leads up, the `..` that it begins with, so that none leads out."""
    path = os.path.splitdrive(os.path.normpath(native(name)))[1]
    parts = [part for part in path.split(os.sep) if part not in ("", os.curdir, os.pardir)]
    return os.path.splitext("/".join(parts))[0]


def stamp(file: str | os.PathLike) -> Row:
    """A file's size in bytes and the time of its last change, by which one that changed is known; None of
    what is not there."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return {"bytes": None, "mtime_ns": None}
    return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def computed(job: Job, images: Iterable[tuple[str, str]], say: Callable[[str], object]) -> Iterator[Row]:
    """The rows of images, (name, path) each, as this process computes them. say: is told the remarks."""
    worker = job.open()
    for remark in worker.remarks:
        say(remark)
    for name, path in images:
        yield worker(name, path)
