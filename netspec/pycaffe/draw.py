"""Caffe's draw: pictures of nets as they are written, without graphviz."""

from pathlib import Path
from tempfile import TemporaryDirectory

from ..look.diagram import draw_layers
from ..look.streams import outline
from ..proto.caffe_pb2 import NetParameter, Phase
from ..proto.upgrade import upgrade_net

__all__ = ["draw_net", "draw_net_to_file"]


def draw_net_to_file(caffe_net: NetParameter, filename: str | Path, rankdir: str = "LR",
                     phase: "Phase | None" = None, display_lrm: bool = False) -> None:
    """A picture (.svg, .png, .pdf) of all layers of a net, or of those in a phase.

    Nothing of the net has to fit or be there, so there are no shapes. Layers go from top to bottom whatever
    `rankdir` says, and learning rates are not shown. Raises Error for other kinds of file.
    """
    net = type(caffe_net).FromString(caffe_net.SerializeToString())
    upgrade_net(net, net.name)
    draw_layers(outline(net, phase, lenient=True)).save(filename)


def draw_net(caffe_net: NetParameter, rankdir: str = "LR", ext: str = "png", phase: "Phase | None" = None,
             display_lrm: bool = False) -> bytes:
    """The content of the file that `draw_net_to_file` writes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"net.{ext}"
        draw_net_to_file(caffe_net, path, rankdir, phase, display_lrm)
        return path.read_bytes()
