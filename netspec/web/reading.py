"""The tab in which nets are read: their layers, drawings, differences, in the browser."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import names
from ..base.errors import Error
from ..look.costs import in_all, pixels
from ..papers.page import Html, tag
from .desk import Desk, Session, said
from .panel import Panel, Update, drawn
from .viewer import Viewer, folder

if TYPE_CHECKING:
    import gradio as gr

LAYERS, DRAWING, FIGURE3, DIFFERENCES = "layers", "drawing", "figure 3", "differences"
# of the table of layers: heading -> whether it has numbers
COLUMNS = {"layer": False, "type": False, "shape": False, "parameters": True, "M multiply-adds": True,
           "receptive field": True, "stride": True, "MiB": True}
MARKS = {"+": "added", "-": "gone", "@": "place"}  # how lines of differences begin -> their class


def words(what: str, net: str, other: str | None, out: Path) -> list[str]:
    """The command that makes what is to be seen of a net. other: to compare with; out: the file of a drawing.
    """
    if what == LAYERS:
        return ["describe", net, "--json"]
    if what == DIFFERENCES:
        if other is None:
            raise Error("choose a second net, to compare with")
        return ["diff-net", net, other]
    return ["draw", net, *(["--style", "figure3"] if what == FIGURE3 else []), "--out", str(out)]


def rows(told: Mapping[str, Any]) -> list[list[Any]]:
    """The table of layers, out of what `describe --json` printed."""
    return [[cost["layer"], cost["type"], " x ".join(map(str, cost["shape"])), cost["parameters"],
             round(cost["macs"] / 1e6, 1), _one(cost["field"]), _one(cost["stride"]),
             round(cost["memory"] / 2**20, 2)] for cost in told["layers"]]


def _one(values: Sequence[float] | None) -> float | str | None:
    """A number, which can be sorted, where all axes agree."""
    return values[0] if values and len(set(values)) == 1 else pixels(values)


def coloured(text: str) -> Html:
    """Lines of differences, to be coloured by how they begin."""
    lines = [tag("span", f"{line}\n", class_=MARKS.get(line[:1], "same")) for line in text.splitlines()]
    return tag("pre", *lines, class_="differences")


class Reading:
    """The tab. What is seen of a net is what one command made."""

    def __init__(self, desk: Desk) -> None:
        global gr
        import gradio as gr

        self.desk = desk
        with gr.Row():
            with gr.Column(scale=2, min_width=260):
                self.net = gr.Dropdown(label="net", elem_id="read-net")
                self.what = gr.Radio([LAYERS, DRAWING, FIGURE3, DIFFERENCES], value=LAYERS, label="show",
                                     elem_id="read-what")
                self.other = gr.Dropdown(label="compared with", visible=False, elem_id="read-other")
                self.panel = Panel(desk, "read", "read", "describe", "draw", "diff-net")
                self.file = gr.DownloadButton("download the picture", size="sm", visible=False,
                                               elem_id="read-file")
                if root := folder():
                    self.viewer = Viewer(root, desk.temporary)
                    self.view = gr.Button("open in Netron", size="sm", elem_id="read-netron")
                    self.link = gr.HTML(elem_id="read-link")
                    self.panel.does(self.viewed, [self.net], [self.link], self.view.click)
            with gr.Column(scale=5, min_width=500):
                kinds = ["number" if numbers else "str" for numbers in COLUMNS.values()]
                self.table = gr.Dataframe(headers=list(COLUMNS), datatype=kinds, interactive=False,
                                          type="array", max_height=800, visible=False, show_search="filter",
                                          elem_id="read-layers")
                self.seen = gr.HTML(elem_id="read-seen")
        self.panel.does(self.read, [self.net, self.what, self.other], [self.table, self.seen, self.file])
        self.what.change(lambda what: gr.Dropdown(visible=what == DIFFERENCES), self.what, self.other,
                         show_progress="hidden")

    def begin(self) -> list[Any]:
        """What can be chosen now."""
        nets = list(self.desk.nets())
        return [gr.Dropdown(choices=nets, value=nets[0] if nets else None), gr.Dropdown(choices=nets)]

    def read(self, session: Session, net: str | None, what: str, other: str | None) -> Iterator[Update]:
        """Show something of a net."""
        out = session.place() / "net.svg"
        argv = words(what, self._chosen(net), self.desk.nets().get(other or ""), out)
        run = yield from self.panel.follow(session, argv + ["--trust"] * self.desk.commands.trusted)
        told = json.loads(run.output) if what == LAYERS else None
        seen = "" if told else coloured(run.output) if what == DIFFERENCES else drawn(out)
        yield {self.panel.said: said(in_all(told["totals"]) if told else f"{what} of {net}"),
               self.table: gr.Dataframe(value=rows(told) if told else None, visible=bool(told)),
               self.seen: gr.HTML(seen, visible=not told),
               self.file: gr.DownloadButton(value=str(out) if out.exists() else None, visible=out.exists())}

    def viewed(self, session: Session, net: str | None) -> Iterator[Update]:
        """Show where a net is to be seen in Netron."""
        where = self.viewer.open(names.net_file(self._chosen(net)))
        link = tag("a", f"{net} in Netron", href=where, target="_blank", rel="noopener noreferrer")
        yield {self.link: tag("p", link, ", on this machine alone. Netron's page reports its use to others; "
                              "as it is served here, it is kept from that.", class_="said")}

    def _chosen(self, net: str | None) -> str:
        known = self.desk.nets()
        if net not in known:
            raise Error("no net is chosen")
        return known[net]
