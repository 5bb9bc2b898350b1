"""Sources whose data are not read here; the shapes that they give follow from their settings."""

from typing import Any

from ..ops.base import Shape
from ..proto.caffe_pb2 import LayerParameter, VideoDataParameter
from .listed import Listed


class Described(Listed):
    """A source that gives the shapes of its tops, and no data."""

    def setup(self) -> None:
        raise self.error("its data are not read here; nets are looked at, deployed and fed without them")


class AnnotatedData(Described, type="AnnotatedData", tops=(1, 2)):
    """SSD's images and their boxes, of which the shapes alone are known: data (N, C, H, W) and label
    (1, 1, boxes, 8).

    A row of the label is item, class, instance, corners from 0 to 1, difficult; of YOLO's it is (N, 1, 300,
    5), of class, centre, size. As many boxes as there are count; one stands for them.
    """

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        yolo = layer.annotated_data_param.yolo_data_type
        return [known if len(known) > 1 else (*known, 1, 300, 5) if yolo else (1, 1, 1, 8)
                for known in super().stated(layer, size)]


class VideoData(Described, type="VideoData", tops=(1, 2), one_label=True):
    """Pieces of videos, of which the shapes alone are known: data (N, C, L, H, W), or with yjxiong's settings
    (N, C L segments, H, W), and label (N).

    A webcam's are single images.
    """

    @classmethod
    def message(cls, layer: LayerParameter) -> Any:
        old = layer.image_data_param  # of C3D's first form
        return old if old.HasField("new_length") else super().message(layer)

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        p = cls.message(layer)
        if not (known := super().stated(layer, size)) or not p.HasField("new_length"):
            return known
        count, channels, *sides = known[0]
        if isinstance(p, VideoDataParameter) and (p.HasField("num_segments") or p.HasField("modality")):
            channels = (2 if p.modality == p.FLOW else 3) * p.new_length * p.num_segments
            return [(count, channels, *sides), (count, 1, 1, 1)]
        return [(count, channels, p.new_length, *sides), *known[1:]]
