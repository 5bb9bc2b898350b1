"""The tab in which nets, solvers, weights and data are checked by `netspec doctor` and `data check`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error, count
from ..data.layouts import BOXED, LAYOUTS
from ..papers.page import Html, table, tag
from .desk import NETS, WEIGHTS, Desk, Session, said
from .panel import Panel, Update, drawn, output

if TYPE_CHECKING:
    import gradio as gr

DOCTOR, DATA = "a net, solver or weights", "data"
SETS = (".txt",)  # data set files
LEVELS = "problem", "error", "note", "warning", "ok"  # of findings, the worst first
MOST = 100  # places of one finding that are shown


def words(how: str, what: str, dataset: str | None, sheet: Path) -> list[str]:
    """The command that checks something. dataset: what is in a folder, where its look does not tell it.
    sheet: the file of images beside their labels."""
    if how == DOCTOR:
        return ["doctor", what, "--json"]
    named = ["--dataset", dataset] if dataset else []
    return ["data", "check", what, *named, "--json", "--sheet", str(sheet)]


def listed(checked: Mapping[str, Any]) -> Html:
    """The findings out of what such a command printed, the worst first, with the way out; those of a kind, as
    data have them, are one, with its places."""
    notes = [{"level": "note", "kind": "", "what": note, "where": ""} for note in checked.get("notes", ())]
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in sorted([*checked["findings"], *notes], key=lambda one: LEVELS.index(one["level"])):
        what, where = (one["what"], one["where"]) if "kind" in one else (f"{one['where']}: {one['what']}", "")
        found.setdefault((one["level"], what, one.get("do", "")), []).append(where)
    lines = []
    for (level, what, do), places in found.items():
        below = [*filter(None, places[:MOST]), *[f"... and {len(places) - MOST} more"] * (len(places) > MOST)]
        lines.append(tag("li", tag("b", level, class_=level), f" {what}",
                         *(tag("div", place, class_="where") for place in below),
                         *([tag("div", f"\u2192 {do}")] if do else [])))
    return tag("ul", *lines, class_="findings")


def counted(checked: Mapping[str, Any]) -> str:
    """How many findings of each level but the last there are."""
    many = Counter(one["level"] for one in checked["findings"])
    return ", ".join(count(many[level], level) for level in LEVELS[:-1] if many[level]) or "nothing is wrong"


def tables(checked: Mapping[str, Any]) -> list[Html]:
    """The gradients of layers, the splits of data and their classes, as far as they were printed."""
    classes = [[{"class": one["name"]} | {f"{split} {what}": number for split, found in one["splits"].items()
                                          for what, number in found.items()} for one in each]
               for each in checked.get("classes", {}).values()]
    return [table([[_cell(cell) for cell in row.values()] for row in rows],
                  [head.replace("_", " ") for head in rows[0]])
            for rows in (checked.get("flow"), checked.get("splits"), *classes) if rows]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value)) if value and not isinstance(value[0], list) else \
            " to ".join(dict.fromkeys("x".join(map(_cell, each)) for each in value))
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value}"


class Checking:
    """The tab. What is found is what one command said."""

    def __init__(self, desk: Desk) -> None:
        global gr
        import gradio as gr

        self.desk = desk
        with gr.Row():
            with gr.Column(scale=2, min_width=260):
                self.how = gr.Radio([DOCTOR, DATA], value=DOCTOR, label="check", elem_id="check-how")
                self.what = gr.Dropdown(label="which", info="others below the folders can be typed",
                                        allow_custom_value=True, elem_id="check-what")
                self.dataset = gr.Dropdown(["", *sorted(LAYOUTS | BOXED)], label="data set in a folder",
                                           info="if its look does not tell it", visible=False,
                                           elem_id="check-dataset")
                self.panel = Panel(desk, "check", "check", "doctor", "data")
            with gr.Column(scale=5, min_width=500):
                self.found = gr.HTML(elem_id="check-found")
                self.sheet = gr.HTML(elem_id="check-sheet")
        self.panel.does(self.check, [self.how, self.what, self.dataset], [self.found, self.sheet])
        self.how.change(self.begin, self.how, [self.what, self.dataset], show_progress="hidden")

    def begin(self, how: str = DOCTOR) -> list[Any]:
        """What can be chosen now."""
        folders = self.desk.folders
        there = [*self.desk.nets(), *folders.files(*WEIGHTS)] if how == DOCTOR else [
            *(str(path) for path in folders.named if path.is_dir()), *folders.files(*NETS, *SETS)]
        return [gr.Dropdown(choices=there, value=there[0] if there else None),
                gr.Dropdown(visible=how == DATA)]

    def check(self, session: Session, how: str, what: str | None, dataset: str | None) -> Iterator[Update]:
        """Check something, and list what is found."""
        if not what:
            raise Error("nothing is chosen to be checked")
        file = self.desk.nets().get(what) or str(self.desk.folders.open(what))
        sheet = session.place() / "sheet.png"
        argv = words(how, file, dataset, sheet) + ["--trust"] * self.desk.commands.trusted
        run = yield from self.panel.follow(session, argv)
        found, trouble = output(run), run.trouble()
        yield {self.panel.said: said(trouble or counted(found), bad=bool(trouble)),
               self.found: tag("div", listed(found), *tables(found)),
               self.sheet: drawn(sheet) if sheet.exists() else ""}
