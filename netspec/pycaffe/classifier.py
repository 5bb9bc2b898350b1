"""pycaffe's Classifier: class probabilities of whole images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..proto.caffe_pb2 import TEST
from . import io
from .net import Net


class ImageNet(Net):
    """A net with one input blob, for images H x W x K in RGB as `io.load_image` gives them.

    mean, input_scale, raw_scale, channel_swap: see `io.Transformer`; those left out are not applied.
    """

    def __init__(self, model_file: Any, pretrained_file: Any, mean: np.ndarray | None = None, input_scale: float | None = None,
                 raw_scale: float | None = None, channel_swap: Sequence[int] | None = None) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        name = self.inputs[0]
        self.transformer = io.Transformer({name: self.blobs[name].shape})
        self.transformer.set_transpose(name, (2, 0, 1))
        for setting, value in dict(mean=mean, input_scale=input_scale, raw_scale=raw_scale, channel_swap=channel_swap).items():
            if value is not None:
                getattr(self.transformer, f"set_{setting}")(name, value)

    def _outputs_of(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The net's first output for images of any size."""
        name = self.inputs[0]
        return self.forward_all(**{name: np.array([self.transformer.preprocess(name, im) for im in images])})[self.outputs[0]]


class Classifier(ImageNet):
    """image_dims: (height, width) that images are resized to before they are cropped to the net's input (default: that)."""

    def __init__(self, model_file: Any, pretrained_file: Any, image_dims: Sequence[int] | None = None, *settings: Any,
                 **named: Any) -> None:
        super().__init__(model_file, pretrained_file, *settings, **named)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else image_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Class probabilities (N, classes) of images H x W x K: of the center, or the mean over ten crops."""
        images = np.array([io.resize_image(im, self.image_dims) for im in inputs])
        if oversample:
            found = self._outputs_of(io.oversample(images, self.crop_dims))
            return found.reshape(len(images), 10, -1).mean(1)
        y, x = ((np.array(self.image_dims) - self.crop_dims) / 2).astype(int)
        return self._outputs_of(images[:, y : y + self.crop_dims[0], x : x + self.crop_dims[1]])
