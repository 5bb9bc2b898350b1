"""Whether a file that a command wrote can be read again."""

import json
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from netspec.score.windows import any_size


def wrong(path: Path) -> str:
    """What is wrong with a new file, by its ending; "" if nothing is, or nobody knows the kind."""
    read = READERS.get(path.suffix)
    if read is None or not path.is_file():
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except Exception as problem:
        return f"writes a {path.suffix} that cannot be read ({type(problem).__name__})"
    return ""


def _image(path: Path) -> None:
    with any_size(), Image.open(path) as image:  # a large picture has large results
        image.load()


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: None)


def _net(path: Path) -> None:
    from netspec.proto.caffe_pb2 import NetParameter, SolverParameter
    from netspec.proto.text import SOLVER, parse

    text = path.read_text()
    parse(text, SolverParameter if SOLVER.search(text) else NetParameter)


def _weights(path: Path) -> None:
    from netspec.proto.model import read_weights

    read_weights(path)


def _state(path: Path) -> None:
    from netspec.proto.model import read_state

    read_state(path)


READERS: dict[str, Any] = {
    ".png": _image, ".jpg": _image, ".svg": ElementTree.parse, ".json": lambda path: json.loads(path.read_text()),
    ".npy": np.load, ".npz": lambda path: dict(np.load(path)), ".h5": _hdf5, ".prototxt": _net,
    ".caffemodel": _weights, ".solverstate": _state,
}
