"""pycaffe's Classifier and Detector: what a net says of whole images, and of windows in them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..base.errors import Error
from ..proto.caffe_pb2 import TEST
from . import io
from .net import Net


class ImageNet(Net):
    """A net with one input blob, for images H x W x K in RGB as `io.load_image` gives them.

    mean, input_scale, raw_scale, channel_swap: see `io.Transformer`; those left out are not applied.
    """

    def __init__(self, model_file: Any, pretrained_file: Any, mean: np.ndarray | None = None,
                 input_scale: float | None = None, raw_scale: float | None = None,
                 channel_swap: Sequence[int] | None = None) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        name = self.inputs[0]
        self.transformer = io.Transformer({name: self.blobs[name].shape})
        self.transformer.set_transpose(name, (2, 0, 1))
        given = dict(mean=mean, input_scale=input_scale, raw_scale=raw_scale, channel_swap=channel_swap)
        for setting, value in given.items():
            if value is not None:
                getattr(self.transformer, f"set_{setting}")(name, value)

    def _outputs_of(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """The net's first output for images of any size."""
        name = self.inputs[0]
        arrays = {name: np.array([self.transformer.preprocess(name, im) for im in images])}
        return self._all(arrays, lambda batch: [self.forward(**batch)])[0][self.outputs[0]]


class Classifier(ImageNet):
    """image_dims: (height, width) of images before the net's input is cropped out of them (default: its)."""

    def __init__(self, model_file: Any, pretrained_file: Any, image_dims: Sequence[int] | None = None,
                 *settings: Any, **named: Any) -> None:
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


class Detector(ImageNet):
    """context_pad: pixels of the net's input on each side that show what surrounds the window."""

    def __init__(self, model_file: Any, pretrained_file: Any, *settings: Any, context_pad: int | None = None,
                 **named: Any) -> None:
        super().__init__(model_file, pretrained_file, *settings, **named)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[Any, Iterable[Sequence[int]]]]
                       ) -> list[dict[str, Any]]:
        """A dict of filename, window and prediction for each window.

        images_windows: (file, windows [ymin, xmin, ymax, xmax]) for each file.
        """
        asked = [(name, window) for name, windows in images_windows for window in windows]
        images = {name: io.load_image(name) for name in dict.fromkeys(name for name, _ in asked)}
        found = self._outputs_of([self.crop(images[name], window) for name, window in asked])
        return [dict(window=window, prediction=prediction, filename=name)
                for (name, window), prediction in zip(asked, found, strict=True)]

    def detect_selective_search(self, image_fnames: Iterable[Any]) -> list[dict[str, Any]]:
        """Error: the proposals come from a MATLAB program; find windows another way, for detect_windows."""
        raise Error("selective search is a MATLAB program, which is not run from here; give its windows to "
                    "detect_windows")

    def crop(self, im: np.ndarray, window: Sequence[int] | np.ndarray) -> np.ndarray:
        """A window of an image H x W x K; with context_pad in the net's size, with what surrounds it, the
        mean where the image ends."""
        window = np.array(window)
        first, last = window[:2], window[2:]
        if not self.context_pad:
            return im[first[0] : last[0], first[1] : last[1]]
        size = self.blobs[self.inputs[0]].width  # of the crop, which is square
        scale = size / (size - 2.0 * self.context_pad)
        half = (last - first + 1) / 2.0
        box = np.round(np.tile(first + half, 2) + scale * np.concatenate([-half, half]))
        stretch = size / (box[2:] - box[:2] + 1)
        pad = _nearest(np.maximum(0, -box[:2]) * stretch)
        box = np.clip(box, 0, im.shape[:2] * 2).astype(int)
        part = np.minimum(_nearest((box[2:] - box[:2] + 1) * stretch), size - pad)
        if not part.all():
            raise Error(f"window {window.tolist()} lies outside its image of {im.shape[0]}x{im.shape[1]}")
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        seen = io.resize_image(im[box[0] : box[2], box[1] : box[3]], part)
        crop[pad[0] : pad[0] + part[0], pad[1] : pad[1] + part[1]] = seen
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Set context_pad, and crop_mean: the mean as an image before preprocessing, for where images end."""
        name = self.inputs[0]
        self.context_pad = context_pad
        self.crop_dims = np.array(self.blobs[name].shape[1:])[[1, 2, 0]]
        self.crop_mean = np.zeros(self.crop_dims, np.float32)
        mean = self.transformer.mean.get(name)
        if mean is not None:
            swap = self.transformer.channel_swap.get(name, range(len(mean)))
            image = mean.transpose(1, 2, 0)[..., np.argsort(swap)]
            self.crop_mean = image / self.transformer.raw_scale.get(name, 1)


def _nearest(values: np.ndarray) -> np.ndarray:
    """Whole numbers, a half rounded up."""
    return np.floor(values + 0.5).astype(int)
