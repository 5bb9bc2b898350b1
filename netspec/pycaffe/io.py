"""pycaffe's `caffe.io`: images for nets, and blobs and datums between their messages and NumPy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..base.errors import Error
from ..proto import caffe_pb2
from ..proto.wire import RAW

Dims = Sequence[int] | np.ndarray  # (height, width)
BYTES = 3 * (1 + 8 + 4)  # of memory that load_image takes for a pixel at once: uint8, float64, float32


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """The data (or diff) of a BlobProto, float64, with its axes; ValueError for too few or many numbers."""
    numbers: Any = (blob.double_diff or blob.diff) if return_diff else (blob.double_data or blob.data)
    if blob.raw_data and not return_diff:
        numbers = np.frombuffer(blob.raw_data, RAW[blob.raw_data_type])
    old = any(blob.HasField(axis) for axis in ("num", "channels", "height", "width"))
    shape = (blob.num, blob.channels, blob.height, blob.width) if old else tuple(blob.shape.dim)
    return np.array(numbers, np.float64).reshape(shape)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """The BlobProto of an array of any axes, and of the diff if one is given."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(np.asarray(arr, np.float32).ravel())
    if diff is not None:
        blob.diff.extend(np.asarray(diff, np.float32).ravel())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Arrays as the bytes of a BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=map(array_to_blobproto, arraylist)).SerializeToString()


def blobprotovector_str_to_arraylist(text: bytes) -> list[np.ndarray]:
    """The arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(text).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """The Datum of an array C x H x W: uint8 as bytes, other types as floats. ValueError for other axes."""
    if arr.ndim != 3:
        raise ValueError(f"a datum holds an array C x H x W, not one of shape {arr.shape}")
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2], label=label)
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel())
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """The array of a Datum, C x H x W: uint8 of bytes, else float64. Its label is `datum.label`."""
    flat = np.frombuffer(datum.data, np.uint8).copy() if datum.data else np.array(datum.float_data, float)
    return flat.reshape(datum.channels, datum.height, datum.width)


def load_image(filename: Any, color: bool = True) -> np.ndarray:
    """An image file as float32 in [0, 1], H x W x 3 in RGB, or without `color` H x W x 1 of intensity.

    An alpha channel is dropped. Intensity is skimage's rgb2gray: 0.2125 R + 0.7154 G + 0.0721 B. Raises
    OSError for a file that is not there, or is damaged, and Error for one that the memory has no room for.
    """
    import torch
    from PIL import Image

    from ..base.machine import check_room
    from ..data.images import DAMAGE

    try:
        with Image.open(filename) as image:
            check_room(BYTES * image.width * image.height, torch.device("cpu"),
                       f"image {filename} is {image.width}x{image.height}: to read it takes",
                       "make it smaller")
            grey = image.mode in ("1", "L", "F") or image.mode.startswith("I")
            array = np.asarray(image if grey else image.convert("RGB"))
    except OSError:
        raise
    except DAMAGE as error:
        raise OSError(f"image {filename} cannot be read: {error}") from None
    if array.dtype.kind == "u":
        full = np.iinfo(array.dtype).max
    else:
        full = 1 if array.dtype.kind in "bf" else 65535
    array = array / float(full)
    if array.ndim == 3 and not color:
        array = array @ np.array([0.2125, 0.7154, 0.0721])
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3 if color else 1, axis=2)
    return array.astype(np.float32)


def resize_image(im: np.ndarray, new_dims: Dims, interp_order: Literal[0, 1, 2, 3, 4, 5] = 1) -> np.ndarray:
    """An image H x W x K in other dimensions (height, width), float32.

    As Caffe does it: one or three channels by skimage's resize without anti-aliasing, which takes what lies
    outside the image for its least value, so that an enlarged border darkens; others by scipy's zoom, which
    aligns the centers of the corners.
    """
    from scipy.ndimage import zoom

    scale = [int(new) / old for new, old in zip(new_dims, im.shape[:2], strict=True)]
    low, high = im.min(), im.max()
    if im.shape[-1] not in (1, 3):
        return zoom(im, (*scale, 1), order=interp_order).astype(np.float32)
    unit = ((im - low) / (high - low) if high > low else np.zeros_like(im)).astype(float)
    unit = zoom(unit, (*scale, 1), order=interp_order, mode="grid-constant", grid_mode=True)
    return (np.clip(unit, 0, 1) * (high - low) + low).astype(np.float32)


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Dims) -> np.ndarray:
    """Ten crops of each image H x W x K: corners, center, these mirrored; float32 (10N, height, width, K)."""
    (h, w), (height, width) = images[0].shape[:2], (int(n) for n in crop_dims)
    places = [(y, x) for y in (0, h - height) for x in (0, w - width)]
    places.append((int(h / 2 - height / 2), int(w / 2 - width / 2)))
    crops = [[im[y : y + height, x : x + width] for y, x in places] for im in images]
    return np.array([crop for five in crops for crop in (*five, *(c[:, ::-1] for c in five))], np.float32)


class Transformer:
    """Makes images ready for a net, by the steps that are set. inputs: blob -> its shape (N, C, H, W)."""

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise Error(f"'{in_}' is not one of the net's inputs ({', '.join(self.inputs)})")
        return tuple(self.inputs[in_])

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """An image H x W x K for blob `in_`, float32: resize, transpose, channel_swap, raw_scale, mean and
        input_scale, in this order."""
        dims, made = self._shape(in_)[2:], np.array(data, np.float32)
        if made.shape[:2] != dims:
            made = resize_image(made, dims)
        made = made.transpose(self.transpose.get(in_, range(made.ndim)))
        if in_ in self.channel_swap:
            made = made[list(self.channel_swap[in_])]
        made *= self.raw_scale.get(in_, 1)  # in place: float32 stays, whatever the type of the settings
        made -= self.mean.get(in_, 0)
        made *= self.input_scale.get(in_, 1)
        return made

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The image of a blob's data, the steps of `preprocess` undone (not its size)."""
        self._shape(in_)
        made = data.copy().squeeze()
        made /= self.input_scale.get(in_, 1)
        made += self.mean.get(in_, 0)
        made /= self.raw_scale.get(in_, 1)
        if in_ in self.channel_swap:
            made = made[np.argsort(self.channel_swap[in_])]
        return made.transpose(np.argsort(self.transpose.get(in_, range(made.ndim))))

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The axes of an image in the order of the blob: (2, 0, 1) for H x W x K."""
        if len(order) != len(self._shape(in_)) - 1:
            raise Error(f"transpose of '{in_}' needs {len(self._shape(in_)) - 1} axes, found {list(order)}")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The channels (after `transpose`) in the order of the blob: (2, 1, 0) from RGB to BGR."""
        if len(order) != self._shape(in_)[1]:
            raise Error(f"channel_swap of '{in_}' needs {self._shape(in_)[1]} channels, found {list(order)}")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor before the mean is subtracted: 255 for images in [0, 1]."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor after the mean was subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """What is subtracted: a number for each channel, or an array K x H x W (or H x W), resized to the
        blob if need be. ValueError for other shapes.
        """
        shape = self._shape(in_)[1:]
        if mean.ndim == 1 and len(mean) == shape[0]:
            mean = mean[:, None, None]
        elif mean.ndim not in (2, 3):
            raise ValueError(f"a mean of shape {mean.shape} does not fit '{in_}', which is {shape}")
        elif (*(1,) * (3 - mean.ndim), *mean.shape) != shape:
            low, high = mean.min(), mean.max()
            unit = (mean.reshape(-1, *mean.shape[-2:]) - low) / (high - low)
            mean = resize_image(unit.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1) * (high - low) + low
        self.mean[in_] = mean
