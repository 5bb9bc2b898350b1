"""Caffe's draw: pictures of nets as they are written, without graphviz."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..look.diagram import draw_layers
from ..look.streams import outline
from ..proto.caffe_pb2 import NetParameter, Phase
from ..proto.upgrade import upgrade_net

__all__ = ["draw_net", "draw_net_to_file", "get_pydot_graph"]


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


class _Graph:
    """Of pydot's graphs what scripts call: create, write, and create_png, write_svg, ... for its kinds."""

    def __init__(self, net: NetParameter, phase: "Phase | None") -> None:
        self._net, self._phase = net, phase

    def create(self, prog: Any = None, format: str = "png") -> bytes:
        return draw_net(self._net, ext=format, phase=self._phase)

    def write(self, path: str | Path, prog: Any = None, format: str = "") -> bool:
        """Write the file, of the kind that its name says; True, as pydot."""
        return bool(Path(path).write_bytes(self.create(format=format or Path(path).suffix[1:])))

    def __getattr__(self, name: str) -> Any:
        does, _, kind = name.partition("_")
        if does not in ("create", "write") or not kind:
            raise AttributeError(f"a net's drawing has no '{name}', but create and write")
        return partial(getattr(self, does), format=kind)


def get_pydot_graph(caffe_net: NetParameter, rankdir: str = "LR", label_edges: bool = True,
                    phase: "Phase | None" = None, display_lrm: bool = False) -> _Graph:
    """The drawing of `draw_net`, with the methods of pydot that give its bytes or write its file."""
    return _Graph(caffe_net, phase)
