"""The tab in which nets are read: layers, drawings, differences, kernels, activations, in the browser."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..base import names
from ..base.errors import Error
from ..look.costs import in_all, pixels
from ..papers.page import Html, tag
from .commands import Run
from .desk import IMAGES, Desk, Session, said
from .panel import Panel, Update, drawn, output
from .trying import checked
from .viewer import Viewer, folder

if TYPE_CHECKING:
    import gradio as gr

LAYERS, DRAWING, FIGURE3, DIFFERENCES = "layers", "drawing", "figure 3", "differences"
KERNELS, ACTIVATIONS = "kernels", "activations"
# what is to be seen -> what that takes beside the net
TAKES = {LAYERS: (), DRAWING: (), FIGURE3: (), DIFFERENCES: ("other",), KERNELS: ("weights", "layer"),
         ACTIVATIONS: ("weights", "image", "blob")}
FIELDS = {"other": "second net", "weights": "weights (else those of the net's name)", "image": "picture",
          "layer": "layer", "blob": "blob"}
# of the table of layers: heading -> whether it has numbers
COLUMNS = {"layer": False, "type": False, "shape": False, "parameters": True, "M MACs": True, "field": True,
           "stride": True, "MiB": True}
MARKS = {"+": "added", "-": "gone", "@": "place"}  # how lines of differences begin -> their class


class Asked(NamedTuple):
    """What is to be seen of which net, and what that takes, as TAKES says."""

    what: str
    net: str
    other: str | None = None
    weights: str | None = None
    image: str | None = None
    layer: str | None = None
    blob: str | None = None

    def words(self, out: Path) -> list[str]:
        """The command that makes it. out: the file of a drawing. Raises Error where something lacks."""
        for field in TAKES[self.what]:
            if field != "weights" and not getattr(self, field):
                raise Error(f"choose the {FIELDS[field]}")
        with_weights = [self.net, self.weights] if self.weights else [self.net]
        return {LAYERS: ["describe", self.net, "--json"],
                DIFFERENCES: ["diff-net", self.net, f"{self.other}"],
                DRAWING: ["draw", self.net, "--out", f"{out}"],
                FIGURE3: ["draw", self.net, "--style", "figure3", "--out", f"{out}"],
                KERNELS: ["draw", *with_weights, f"--kernels={self.layer}", "--out", f"{out}"],
                ACTIVATIONS: ["draw", *with_weights, f"{self.image}", f"--activations={self.blob}",
                              "--out", f"{out}"]}[self.what]


def rows(costs: Mapping[str, Any]) -> list[list[Any]]:
    """The table of layers, out of what `describe --json` printed."""
    return [[cost["layer"], cost["type"], " x ".join(map(str, cost["shape"])), cost["parameters"],
             round(cost["macs"] / 1e6, 1), _one(cost["field"]), _one(cost["stride"]),
             round(cost["memory"] / 2**20, 2)] for cost in costs["layers"]]


def _one(values: Sequence[float] | None) -> float | str | None:
    """A number, which can be sorted, where all axes agree."""
    return values[0] if values and len(set(values)) == 1 else pixels(values)


def inside(costs: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The layers with kernels, and the blobs with channels, out of what `describe --json` printed."""
    maps = [cost for cost in costs["layers"] if len(cost["shape"]) == 4]
    return [cost["layer"] for cost in maps if cost["macs"]], list(dict.fromkeys(cost["top"] for cost in maps))


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
                self.what = gr.Radio(list(TAKES), value=LAYERS, label="show", elem_id="read-what")
                self.fields = [gr.Dropdown(label=label, visible=False, elem_id=f"read-{field}")
                               for field, label in FIELDS.items()]
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
        self.panel.does(self.read, [self.what, self.net, *self.fields], [self.table, self.seen, self.file])
        self.panel.does(self.offer, [self.what, self.net], self.fields, self.what.change, self.net.change,
                        again=True)

    def begin(self) -> Any:
        """The nets that can be chosen now."""
        nets = list(self.desk.nets())
        return gr.Dropdown(choices=nets, value=nets[0] if nets else None)

    def offer(self, session: Session, what: str, net: str | None) -> Iterator[Update]:
        """Ask for what it takes to see something of a net, and say what there is."""
        fields = dict(zip(FIELDS, self.fields, strict=True))
        yield {field: gr.Dropdown(visible=name in TAKES[what]) for name, field in fields.items()}
        if "other" in TAKES[what]:
            yield {fields["other"]: gr.Dropdown(choices=list(self.desk.nets()))}
        if "weights" in TAKES[what]:
            run = yield from self._follow(session, Asked(LAYERS, self._chosen(net)).words(session.place()))
            layers, blobs = inside(output(run))
            own, pairs = names.net_file(self._chosen(net)).resolve(), self.desk.pairs()
            fitting = [name for name, pair in pairs.items() if Path(pair.net).resolve() == own]
            images = self.desk.folders.files(*IMAGES)
            choices = {"weights": fitting, "image": images, "layer": layers, "blob": blobs}
            yield {fields[name]: gr.Dropdown(choices=there, value=there[0] if there else None)
                   for name, there in choices.items()} | {self.panel.said: ""}

    def read(self, session: Session, what: str, net: str | None, other: str | None, weights: str | None,
             image: str | None, *rest: str | None) -> Iterator[Update]:
        """Show something of a net."""
        out = session.place() / ("net.png" if "weights" in TAKES[what] else "net.svg")
        pair = self.desk.pairs().get(weights or "")
        asked = Asked(what, self._chosen(net), self.desk.nets().get(other or ""), pair and pair.weights,
                      image and str(self.desk.folders.open(image)), *rest)
        if image and what == ACTIVATIONS:
            checked([image], self.desk.pixels)
        run = yield from self._follow(session, asked.words(out))
        costs = output(run) if what == LAYERS else None
        seen = "" if costs else coloured(run.output) if what == DIFFERENCES else drawn(out)
        last = run.output.strip().rpartition("\n")[2].replace(str(out), out.name)
        yield {self.panel.said: said(in_all(costs["totals"]) if costs else last),
               self.table: gr.Dataframe(value=rows(costs) if costs else None, visible=bool(costs)),
               self.seen: gr.HTML(seen, visible=not costs),
               self.file: gr.DownloadButton(value=str(out) if out.exists() else None, visible=out.exists())}

    def viewed(self, session: Session, net: str | None) -> Iterator[Update]:
        """Say where a net is to be seen in Netron."""
        where = self.viewer.open(names.net_file(self._chosen(net)))
        link = tag("a", f"{net} in Netron", href=where, target="_blank", rel="noopener noreferrer")
        yield {self.link: tag("p", link, ", on this machine alone. Netron's page reports its use to others; "
                              "as it is served here, it is kept from that.", class_="said")}

    def _follow(self, session: Session, argv: list[str]) -> Generator[Update, None, Run]:
        return self.panel.follow(session, argv + ["--trust"] * self.desk.commands.trusted)

    def _chosen(self, net: str | None) -> str:
        known = self.desk.nets()
        if net not in known:
            raise Error("no net is chosen")
        return known[net]
