"""Attempts with HDF5, LMDB, weights and the states of runs."""

import json
import random
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
from training import SOLVER, write_job

from .changing import REAL, TEXTS, bytes_changed, changed, json_changed, wire_changed
from .drawing import Area
from .nets import ONE_LABEL, job
from .runner import door, tried

HEAD = 3000  # bytes of an HDF5 file: where most of what is no number stands
KINDS = ("f2", "<f4", ">f4", "f8", "i1", "u1", ">i4", "u8", "?", "c8", "S5", "f4", "f4", "f4")
LMDB = """layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "base" batch_size: 2 backend: LMDB } }"""
FILTERS = ({}, {"chunks": True}, {"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True, "compression": "gzip"},
           {"fletcher32": True}, {"scaleoffset": 2}, {"maxshape": None, "chunks": True})


@door
def read_weights(path: str) -> None:
    from netspec.proto.model import read_weights

    read_weights(path)


@door
def read_state(path: str) -> None:
    from netspec.proto.model import read_state

    read_state(path)


@door
def read_mean(path: str) -> None:
    from netspec.proto.model import read_mean

    read_mean(path)


def _array(numbers: random.Random, shape: tuple[int, ...], kind: str) -> np.ndarray:
    array = np.array([numbers.randrange(5) for _ in range(int(np.prod(shape)))]).reshape(shape).astype(kind)
    if array.size and kind.strip("<>")[0] == "f":
        array.flat[0] = numbers.choice(REAL[:6] + REAL[9:])
    return array


def _shape(numbers: random.Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape, most often as it was."""
    if numbers.random() < 0.7:
        return shape
    at = numbers.randrange(len(shape) + 1)
    return numbers.choice(((), (0,), (*shape[:at], numbers.choice((0, 1, 3, 9)), *shape[at:]), shape[:at], shape[at:], (1,) * 30))


def dataset(group: Any, name: str, shape: tuple[int, ...], numbers: random.Random) -> None:
    """A dataset that HDF5 can hold, which may be a strange one; or something else of that name, or nothing."""
    with suppress(ValueError, TypeError, OSError, RuntimeError, KeyError), np.errstate(all="ignore"):
        _dataset(group, name, shape, numbers)


def _dataset(group: Any, name: str, shape: tuple[int, ...], numbers: random.Random) -> None:
    kind = numbers.randrange(14)
    if kind == 0:
        group[name] = h5py.SoftLink(numbers.choice(("/nowhere", "/", f"/{name}", "label")))
    elif kind == 1:
        group[name] = h5py.ExternalLink(numbers.choice(("other.h5", "data.h5", "/dev/null", "../beside")), "/data")
    elif kind == 2:
        group.create_group(name)[numbers.choice(("0", "1", "data"))] = _array(numbers, (2,), "f4")
    elif kind == 3:
        group[name] = numbers.choice((h5py.Empty("f4"), "text", b"bytes", np.void(b"opaque"), 3, np.dtype("f4"),
                                      np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")])))
    elif kind == 4:  # declares much and stores nothing
        most = numbers.choice(((1 << 40,), (7, 3, 1 << 20, 1 << 20), (2**31, 4), (7, 3, 8, 9), (1 << 62,)))
        group.create_dataset(name, most, "f4", chunks=tuple(min(64, d) for d in most), maxshape=(None,) * len(most),
                             fillvalue=numbers.choice((0, 1, np.nan)))
    elif kind == 5:
        group.create_dataset(name, shape, "f4", external=[(numbers.choice(("raw", "/dev/zero", "../beside", "data.txt")), 0, h5py.h5f.UNLIMITED)])
    elif kind == 6:
        layout = h5py.VirtualLayout(shape, "f4")
        if shape:
            layout[...] = h5py.VirtualSource(numbers.choice((".", "other.h5", "data.h5")), "data", shape)
        group.create_virtual_dataset(name, layout)
    elif kind == 7:
        special = numbers.choice((h5py.special_dtype(vlen=str), h5py.special_dtype(vlen=np.float32), h5py.ref_dtype,
                                  h5py.special_dtype(enum=("i4", {"a": 1})), np.dtype(("f4", (2,)))))
        group.create_dataset(name, shape, special)
    else:
        array = _array(numbers, _shape(numbers, shape), numbers.choice(KINDS))
        options = numbers.choice(FILTERS)
        if not array.shape or not array.size or array.dtype.kind not in "fiu":
            options = {}
        if "maxshape" in options:
            options = {"maxshape": (None,) * array.ndim, "chunks": True}
        group.create_dataset(name, data=array, **options)


def _file(path: Path, numbers: random.Random, **options: Any) -> Any:
    return h5py.File(path, "w", libver=numbers.choice(("earliest", "latest")), userblock_size=numbers.choice((0, 0, 0, 512)), **options)


def _flipped(path: Path, numbers: random.Random) -> None:
    for _ in range(numbers.choice((0, 1, 1, 2, 4))):
        path.write_bytes(bytes_changed(path.read_bytes(), numbers, HEAD))


def hdf5(numbers: random.Random, folder: Path) -> list:
    """Data for HDF5Data, weights, a state, or Keras' weights."""
    kind = numbers.randrange(6)
    if kind < 3:
        job(folder)
        if numbers.random() < 0.6:
            with _file(folder / "data.h5", numbers) as file:
                for name, shape in (("data", (7, 3, 8, 9)), ("label", (7, 1, 8, 9))):
                    if numbers.random() < 0.6:
                        file[name] = _array(numbers, shape, "f4")
                    else:
                        dataset(file, name, shape, numbers)
        else:
            _flipped(folder / "data.h5", numbers)
        if numbers.random() < 0.2:
            (folder / "data.txt").write_text(numbers.choice(("data.h5\n" * 40, "data.h5\ndata.txt\n", "../beside\n", *TEXTS)))
        return ["netspec", *numbers.choice((["solve", "solver.prototxt"], ["solve", "solver.prototxt"], ["describe", "net.prototxt", "--phase", "TRAIN"]))]
    name = "new.caffemodel.h5" if kind < 5 else "keras.h5"
    if numbers.random() < 0.4 and kind < 5:
        (folder / name).write_bytes(states()[numbers.choice(("weights.h5", "state.h5"))])
    else:
        with _file(folder / name, numbers) as file:
            inside = file.create_group("data") if kind < 5 and numbers.random() < 0.9 else file
            for layer in ("conv", "score", numbers.choice(("block1_conv1", "conv", *TEXTS))):
                if layer not in inside and layer.strip("/.") and "\0" not in layer:
                    group = inside.create_group(layer)
                    for blob, shape in zip(numbers.choice((("0", "1"), ("kernel:0", "bias:0"), ("0", "2"))), ((5, 3, 3, 3), (5,)), strict=True):
                        dataset(group, blob, shape, numbers)
                    if numbers.random() < 0.3:
                        group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
            if numbers.random() < 0.2:
                inside["again"] = numbers.choice((inside, h5py.SoftLink("/data"), file))
    if numbers.random() < 0.6:
        _flipped(folder / name, numbers)
    if kind == 5:
        return ["netspec", *numbers.choice((["convert", "weights", name, "new.caffemodel"], ["doctor", name],
                                            ["convert", "trunk", name, "out", "--arch", "resnet50"]))]
    return numbers.choice((["read_weights", name], ["read_state", name], ["netspec", "doctor", name],
                           ["netspec", "convert", "upgrade", name, "new.caffemodel"]))


def _datum(numbers: random.Random) -> Any:
    from netspec.proto.caffe_pb2 import Datum

    from .pictures import pictures

    if numbers.random() < 0.4:
        data = numbers.choice(list(pictures().values()))
        if numbers.random() < 0.5:
            data = bytes_changed(data, numbers, 60)
        return Datum(data=data, encoded=True, label=1)
    if numbers.random() < 0.2:
        return Datum(channels=3, height=8, width=9, float_data=[1.0] * 216, label=2)
    return Datum(channels=3, height=8, width=9, data=bytes(216), label=3)


def base(numbers: random.Random, place: Path, many: int = 3, folder: bool = True) -> Path:
    """A small LMDB with Datums that may be changed; the file."""
    with lmdb.open(str(place), map_size=1 << 24, subdir=folder, lock=False, max_dbs=2) as environment:
        named = environment.open_db(b"named", dupsort=True) if numbers.random() < 0.05 else None
        with suppress(lmdb.BadTxnError), environment.begin(write=True) as transaction:  # of one too large the base is empty
            for item in range(many):
                datum = _datum(numbers)
                if numbers.random() < 0.3:
                    changed(datum, numbers)
                data = datum.SerializeToString()
                if numbers.random() < 0.3:
                    data = wire_changed(data, numbers)
                key = numbers.choice((b"%08d" % item, b"%08d" % item, b"\xff\0" + bytes([item]), b"k" * (400 + item)))
                with suppress(lmdb.Error):  # duplicates are short
                    transaction.put(key, data, db=named if named and numbers.random() < 0.5 else None)
    return place / "data.mdb" if folder else place


def database(numbers: random.Random, folder: Path) -> list:
    write_job(folder, solver=SOLVER.replace("max_iter: 12", "max_iter: 2"), data=LMDB, body=ONE_LABEL)
    file = base(numbers, folder / "base", numbers.choice((0, 1, 3, 3, 40)), numbers.random() < 0.9)
    if numbers.random() < 0.5:
        data = file.read_bytes()
        for _ in range(numbers.choice((1, 1, 2, 5))):
            at = 4096 * numbers.randrange(max(1, len(data) // 4096))  # mostly the head of a page
            data = data[:at] + bytes_changed(data[at:], numbers, numbers.choice((16, 40, 150)))
        file.write_bytes(data)
    if numbers.random() < 0.1:
        text = (folder / "net.prototxt").read_text()
        (folder / "net.prototxt").write_text(text.replace('source: "base"', f'source: "{numbers.choice(("base/data.mdb", "net.prototxt", "."))}"'))
    return ["netspec", *(["solve", "solver.prototxt"] if numbers.random() < 0.9 else numbers.choice((
        ["describe", "net.prototxt"], ["doctor", "net.prototxt"])))]


@cache
def states() -> dict[str, bytes]:
    """Files that small runs leave, by what they are."""
    found: dict[str, bytes] = {}
    for kind in ("SGD", "Adam", "AdaDelta", "SGD.h5"):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "work").mkdir()
            job(folder / "work")
            settings = f'type: "{kind[:-3] if kind[-1] == "5" else kind}" {"snapshot_format: HDF5" if kind[-1] == "5" else ""}'
            with open(folder / "work/solver.prototxt", "a") as file:
                file.write(f"\n{settings}" + (" momentum2: 0.99" if kind == "Adam" else ""))
            what = tried(folder, ["netspec", "solve", "solver.prototxt"])
            assert not what and (folder / "work/run").is_dir(), what or (folder / "err").read_text()
            for path in (folder / "work/run").iterdir():
                found[f"{kind}{path.name.removeprefix('snap_iter_3')}"] = path.read_bytes()
    return found | {"weights.h5": found["SGD.h5.caffemodel.h5"], "state.h5": found["SGD.h5.solverstate.h5"]}


def _told(data: bytes, numbers: random.Random) -> bytes:
    """What a .resume says, changed."""
    if numbers.random() < 0.2:
        return bytes_changed(data, numbers)
    return json.dumps(json_changed(json.loads(data), numbers)).encode()


def _wire(data: bytes, numbers: random.Random) -> bytes:
    kind = numbers.randrange(4)
    return data if kind == 0 else bytes_changed(data, numbers, 200) if kind == 1 else wire_changed(data, numbers)


def state(numbers: random.Random, folder: Path) -> list:
    """Weights and states that are changed, cut, or of other runs."""
    job(folder)
    end = numbers.choice((".h5", "", ""))
    own = "SGD.h5" if end else "SGD"
    with open(folder / "solver.prototxt", "a") as file:
        file.write(f" max_iter: 5 {'snapshot_format: HDF5' if end else ''}".replace("max_iter: 5", ""))
    (folder / "run").mkdir()
    names = [name for name in states() if name.startswith(own + ".")]
    for name in names:
        data = states()[name]
        if numbers.random() < 0.15:  # of another run
            others = [other for other in states() if other.rpartition(".")[2] == name.rpartition(".")[2]]
            data = states()[numbers.choice(others)]
        if numbers.random() < 0.5:
            for _ in range(numbers.choice((1, 1, 2))):
                with suppress(ValueError):  # no JSON any more
                    data = _told(data, numbers) if "resume" in name else bytes_changed(data, numbers, HEAD) if end else _wire(data, numbers)
        if numbers.random() < 0.95:
            (folder / f"run/snap_iter_3{name.removeprefix(own)}").write_bytes(data)
    weights, snapshot = f"run/snap_iter_3.caffemodel{end}", f"run/snap_iter_3.solverstate{end}"
    if numbers.random() < 0.1:
        (folder / "mean").write_bytes(wire_changed(b"\x08\x01\x10\x03\x18\x01\x20\x01\x2a\x0c" + bytes(12), numbers))
        return ["read_mean", "mean"]
    return numbers.choice((["netspec", "solve", "solver.prototxt", "--snapshot", snapshot, "--iterations", "4"],
                           ["netspec", "solve", "solver.prototxt", "--snapshot", snapshot, "--iterations", "4"],
                           ["netspec", "solve", "solver.prototxt", "--weights", weights],
                           ["netspec", "doctor", "net.prototxt", "--weights", weights], ["netspec", "doctor", weights],
                           ["netspec", "convert", "upgrade", weights, "new.caffemodel"],
                           ["netspec", "convert", "transplant", "net.prototxt", "new.caffemodel", weights],
                           ["read_state", snapshot], ["read_weights", weights]))


AREAS = {"hdf5": Area(hdf5, 9_000), "lmdb": Area(database, 8_000), "states": Area(state, 8_000)}
