"""Files of other frameworks' weights: Keras' HDF5, and state dicts as torch or safetensors keeps them."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base.errors import Error, lacking
from ..proto import hdf5
from ..proto.wire import is_hdf5

NORMALISATION = {  # Keras' names, of all its versions, of the numbers of a normalisation -> torch's
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
    "0": "weight", "1": "bias", "2": "running_mean", "3": "running_var",
}
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
MOST_SHARED = 4  # times a file's bytes: what layers that share numbers may have together


class Stored(NamedTuple):
    """A layer of a file: where it is, what it is called, and its arrays, float32, under torch's names.

    A convolution's weight is O x I x H x W, a fully connected layer's O x I, as in torch and Caffe.
    """

    place: str
    names: list[str]
    parts: dict[str, np.ndarray]


def read_layers(path: Path) -> tuple[list[Stored], bool]:
    """The layers of a file, and whether it is Keras', as its content tells. Raises Error for other files."""
    keras = is_hdf5(path)
    return (_keras(path) if keras else _torch(path)), keras


def _keras(path: Path) -> list[Stored]:
    """Named as the group is, then as its attribute `name` says (.weights.h5); in the order of their numbers.

    Keras 3 names the groups by class and number (conv2d_1), and its first versions wrote no other name.
    """
    layers = hdf5.taken(path, _keras_layers)
    # conv2d, conv2d_2, conv2d_10 in this order
    ordered = sorted(layers.values(), key=lambda layer: [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", layer.place)])
    return [layer._replace(parts=_in_torchs_form(layer.parts)) for layer in ordered]


def _keras_layers(file: Any) -> dict[str, Stored]:
    """By group."""
    layers: dict[str, Stored] = {}
    for name, item in hdf5.walk(file):
        if hasattr(item, "keys") or "optimizer" in name or getattr(item, "ndim", 0) not in (1, 2, 4):
            continue
        group, _, part = name.rpartition("/")
        given = item.parent.attrs
        said = given["name"] if "name" in given and given.get_id("name").shape == () else None
        words = group.removesuffix("/vars").rpartition("/")[2], said
        layer = layers.setdefault(group, Stored(group, [word for word in words if isinstance(word, str)], {}))
        layer.parts[part.partition(":")[0]] = hdf5.array(item)
    return layers


def _in_torchs_form(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One array of several axes is a weight, what is beside it a bias; other groups are normalisations."""
    weights = [x for x in parts.values() if x.ndim > 1]
    if len(weights) != 1:
        return {NORMALISATION.get(name, name): x for name, x in parts.items() if x.ndim == 1}
    weight = weights[0].transpose((3, 2, 0, 1) if weights[0].ndim == 4 else (1, 0))
    biases = [x for x in parts.values() if x.ndim == 1]
    return {"weight": weight, **({"bias": biases[0]} if biases else {})}


def _torch(path: Path) -> list[Stored]:
    with open(path, "rb") as file:
        head = file.read(9)  # a .safetensors begins with the length of a header, and this with a brace
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_HEADER:
        library = safetensors("reading")
        try:
            state = library.torch.load_file(path)
        except (library.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as problem:
            raise Error(f"{path}: is a damaged .safetensors file ({problem}); get it again") from None
    else:
        state = _state_dict(path)
    layers: dict[str, Stored] = {}
    left = MOST_SHARED * path.stat().st_size
    for key, tensor in state.items():
        if isinstance(tensor, torch.Tensor) and tensor.dtype in FLOATS and tensor.layout == torch.strided:
            left -= tensor.nbytes
            if left < 0:
                raise Error(f"{path}: declares more numbers than it has, at '{key}'; get it again")
            name, _, part = str(key).removeprefix("module.").rpartition(".")
            layers.setdefault(name, Stored(name, [name], {})).parts[part] = tensor.detach().float().numpy()
    return list(layers.values())


def _state_dict(path: Path) -> Mapping[Any, Any]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:  # torch compresses nothing
                if sum(info.file_size for info in packed.infolist()) > path.stat().st_size:
                    raise ValueError("its parts are larger than the file")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # whatever a damaged or foreign file makes of unpickling
        # only the first sentence: after it torch advises to load unsafely
        reason = str(problem).partition(". ")[0].partition("\n")[0] or type(problem).__name__
        raise Error(f"{path}: is neither Keras HDF5 nor a state dict that torch loads safely ({reason}); of "
                    "a whole pickled model, save the state_dict()") from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise Error(f"{path}: holds a {type(state).__name__} where a state dict belongs")
    return state


def safetensors(what: str) -> Any:
    """The library with its part for torch; Error for those who want to do `what` without it."""
    try:
        import safetensors.torch
    except ImportError:
        raise Error(lacking(f"{what} .safetensors", "safetensors")) from None
    return safetensors
