"""pycaffe's `caffe.io`: blobs between their message and NumPy."""

from typing import Any

import numpy as np

from .proto import caffe_pb2


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """The data (or diff) of a BlobProto, float32, with its axes; ValueError if the numbers are too many or too few."""
    data = np.array((blob.double_diff or blob.diff) if return_diff else (blob.double_data or blob.data), np.float32)
    old = any(blob.HasField(axis) for axis in ("num", "channels", "height", "width"))
    shape = (blob.num, blob.channels, blob.height, blob.width) if old else tuple(blob.shape.dim)
    return data.reshape(shape)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Any:
    """The BlobProto of an array of any axes, and of the diff if one is given."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(np.asarray(arr, np.float32).ravel())
    if diff is not None:
        blob.diff.extend(np.asarray(diff, np.float32).ravel())
    return blob
