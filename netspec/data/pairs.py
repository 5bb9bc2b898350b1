"""Sources that read lists of images and maps of labels by image_data_param: DeepLab's and HED's."""

from pathlib import Path

import numpy as np

from ..ops.base import Shape
from ..ops.source import Batch
from ..proto.caffe_pb2 import ImageDataParameter, LayerParameter
from .images import decode, open_image, read_label
from .listed import PIXELS, Line, Paired, labelled
from .opencv import resize

VOID = 255  # the label where there is none


class LabelMaps(Paired):
    """Images and maps of labels; transform_param crops and mirrors both alike."""

    anywhere = False  # crops are random in TEST too

    def label(self, line: Line, size: Shape) -> np.ndarray:
        """The labels (H, W) of an image of a size."""
        raise NotImplementedError

    def fitted(self, pixels: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An image (C, H, W) and its labels (1, H, W) before they are cropped."""
        return pixels, label

    def shapes(self) -> list[Shape]:
        channels, *size = self.pixels(self.line(0)).shape
        size = [self.transform.crop] * 2 if self.transform.crop else size
        return [(self.batch_size, channels, *size), (self.batch_size, 1, *size)]

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        known = super().stated(layer, size)[:1]
        return known + [(data[0], 1, *data[2:]) for data in known]

    def image(self, item: int) -> tuple[str, np.ndarray, np.ndarray]:
        line = self.line(item)
        pixels = self.pixels(line)
        label = self.label(line, pixels.shape[1:])
        if label.shape != pixels.shape[1:]:
            raise self.error(f"image {line.image} is {list(pixels.shape[1:])} and its label {line.label} "
                             f"{list(label.shape)}; they must be equal in size")
        fitted, random = self.fitted(pixels, label[None]), self.generator(PIXELS, item)
        return f"image {line.image}", *self.transform.both(*fitted, random, self.anywhere)


class ImageSegData(LabelMaps, type="ImageSegData", tops=(2, 3)):
    """Tops: data (N, C, H, W), label (N, 1, H, W) and the size of each image (N, 1, 1, 2): height, width.

    A list line is an image and, by label_type, its labels (PIXEL: a grey or palette image of class indices),
    one label for all of it (IMAGE), or nothing (NONE: all is void, 255). Labels are resized as images are,
    between the classes too. An image smaller than crop_size is padded below and at its right: with the mean,
    its labels with void.
    """

    def setup(self) -> None:
        super().setup()
        if self.transform.whole_mean is not None:
            raise self.error("takes mean_value, no mean_file")

    def read(self, path: Path) -> list[Line]:
        kind = self.layer.image_data_param.label_type
        if kind == ImageDataParameter.PIXEL:
            return super().read(path)
        if kind == ImageDataParameter.IMAGE:
            return [line for line in labelled(self.text(), path, self.error) if line.image.strip()]
        return [Line(words[0], VOID) for line in self.text() if (words := line.split())]

    def shapes(self) -> list[Shape]:
        return [*super().shapes(), (self.batch_size, 1, 1, 2)][: len(self.layer.top)]

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        known = super().stated(layer, size)
        return known + [(data[0], 1, 1, 2) for data in known[:1]]

    def label(self, line: Line, size: Shape) -> np.ndarray:
        if not isinstance(line.label, str):
            return np.full(size, line.label)
        label = read_label(self.path(line.label))
        return resize(label[None], *self.new)[0] if self.new else label

    def fitted(self, pixels: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (channels, high, wide), mean = pixels.shape, self.transform.mean
        size = max(high, self.transform.crop), max(wide, self.transform.crop)
        image, labels = np.empty((channels, *size), np.float32), np.full((1, *size), VOID)
        image[:] = mean if len(mean) else 0
        image[:, :high, :wide], labels[:, :high, :wide] = pixels, label
        return image, labels

    def load(self, position: int) -> Batch:
        data, label = super().load(position)
        lines = map(self.line, self.items(position) if len(self.layer.top) > 2 else ())
        sizes = [self.new or open_image(self.path(line.image)).size[::-1] for line in lines]
        told = np.minimum(np.array(sizes, np.float32).reshape(-1, 1, 1, 2), data.shape[2:])
        return (data, label, told.astype(np.float32))[: len(self.layer.top)]


class ImageLabelmapData(LabelMaps, type="ImageLabelmapData"):
    """Tops: data (N, C, H, W) and label (N, 1, H, W), 1 where the label is grey of 128 or more, else 0.

    A list line is an image and its label, a grey image. Both are resized alike; crops are random in TEST too.
    So it is in HED's fork; in RCF's the label is grey / 255.
    """

    anywhere = True

    def label(self, line: Line, size: Shape) -> np.ndarray:
        path = self.path(line.label)
        grey = decode(open_image(path), f"label {path}", False)
        return (resize(grey, *self.new) if self.new else grey)[0] >= 128
