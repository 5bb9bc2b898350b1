"""The tab in which trainings are watched and scored: what `netspec curves` and `netspec score` tell."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..base.errors import Error
from ..papers.page import image, table
from . import runs
from .desk import Desk, Session, said
from .panel import Panel, Update, output

if TYPE_CHECKING:
    import gradio as gr

EVERY = 2  # seconds between two looks at the logs
PICTURES = "sheet", "confusion"


class Watching:
    """The tab. It looks at files alone: a training is started, and stopped, in a shell."""

    def __init__(self, desk: Desk) -> None:
        global gr  # in the hints of what it calls, too, which it reads
        import gradio as gr

        self.desk = desk
        with gr.Row():
            with gr.Column(scale=2, min_width=260):
                self.logs = gr.Dropdown(label="logs of trainings, the newest first", multiselect=True,
                                        elem_id="logs")
                self.said = gr.HTML(elem_id="watch-said")
                self.words = gr.Code(label="the command", language="shell", lines=1, wrap_lines=True,
                                     elem_id="watch-words", visible=False)
                self.which = gr.Dropdown(label="weights, the newest run first", elem_id="weights")
                self.live = gr.Checkbox(label="predictions of the newest snapshot", elem_id="live",
                                        info="of three images, whenever there is one: it takes its time from "
                                        "the training")
                self.recorded = gr.HTML(elem_id="recorded")
                self.panel = Panel(desk, "score", "score", "score")
                self.measures = gr.HTML(elem_id="measures")
            with gr.Column(scale=5, min_width=500):
                self.table = gr.HTML(elem_id="runs")
                self.curves = gr.HTML(elem_id="curves")
                with gr.Row():
                    self.classes = gr.Dataframe(interactive=False, type="array", visible=False,
                                                label="classes, in percent", elem_id="classes-scored")
                    confusion = self._picture("confusion")
                self.pictures = [self._picture("sheet"), confusion]
        self.chosen = [self.logs, self.which, self.said]
        clock = gr.Timer(EVERY)
        scored = [self.measures, *self.pictures, self.classes]
        gr.on([clock.tick, self.logs.change], self._ticked, self.logs,
              [self.said, self.words, self.table, self.curves, self.which], concurrency_limit=None,
              show_progress="hidden")
        self.logs.focus(lambda: gr.Dropdown(choices=runs.logs(desk.folders)), None, self.logs,
                        show_progress="hidden")
        self.panel.does(self.score, [self.which], scored)
        self.panel.does(self.look, [self.live, self.which], [self.recorded, *scored], clock.tick)
        self.panel.does(self.turned, [self.which], scored, self.which.change)

    @staticmethod
    def _picture(name: str) -> Any:
        return gr.Image(interactive=False, format="png", buttons=["fullscreen", "download"], visible=False,
                        show_label=False, min_width=260, elem_id=name)

    def begin(self, logs: list[str], which: str | None, told: str) -> list[Any]:
        """What can be chosen now; what is chosen stays."""
        there, prefixes = runs.logs(self.desk.folders), runs.prefixes(self.desk.folders)
        kept = [name for name in logs or () if name in there]
        if not there:
            folder = next((path for path in self.desk.folders.named if path.is_dir()), Path("FOLDER"))
            told = said("There is no log of a training in the folders. One begins in a shell, which stops it "
                        f"too: netspec solve SOLVER --log {folder / 'run.log'}")
        if which not in prefixes:
            which = next(iter(prefixes), None)
        return [gr.Dropdown(choices=there, value=kept or there[:1], multiselect=True),
                gr.Dropdown(choices=prefixes, value=which), told]

    def _ticked(self, logs: list[str], request: "gr.Request") -> Iterator[Update]:
        yield gr.skip()  # else what yields nothing leaves the parts empty
        session = self.desk.session(request.session_hash)
        try:
            yield from self.follow(session, logs)
        except (Error, OSError) as error:
            yield {self.said: said(str(error), bad=True)}

    def follow(self, session: Session, logs: Sequence[str]) -> Iterator[Update]:
        """Draw the chosen logs, if one of them has changed."""
        files = [self.desk.folders.open(name) for name in logs or ()]
        if not session.news("logs", runs.marks(files)):
            return
        ready = [str(file) for file in files if runs.begun(file)]
        waiting = [file.name for file in files if str(file) not in ready]
        note = {self.said: said(f"no numbers yet in {', '.join(waiting)}") if waiting else ""}
        if not ready:
            yield note | {self.words: gr.Code(visible=False), self.table: "", self.curves: ""}
            return
        yield note | self._drawn(session, ready)
        prefix = runs.saved(Path(ready[0]))
        if session.news("saved", prefix) and prefix:  # a snapshot of it is there now
            there = runs.prefixes(self.desk.folders)
            yield {self.which: gr.Dropdown(choices=there, value=runs.likely(prefix, there))}

    def _drawn(self, session: Session, logs: Sequence[str]) -> Update:
        """The page with what a picture and the numbers of logs say."""
        out = session.place()
        try:
            argv = ["curves", *logs, "--overlay", "--out", str(out / "curves.png"), "--json"]
            *_, run = self.desk.follow(session, argv)
            told, drawn = output(run), (out / "curves.png").read_bytes()
            shutil.rmtree(run.folder, ignore_errors=True)  # there are many in a day
        finally:
            shutil.rmtree(out, ignore_errors=True)
        return {self.words: gr.Code(self.desk.words(argv), visible=True),
                self.table: table(runs.rows(told), runs.COLUMNS),
                self.curves: image(", ".join(told["runs"]), drawn, "png")}

    def look(self, session: Session, live: bool, which: str | None) -> Iterator[Update]:
        """Show new records, and the predictions of a new snapshot, if they are asked for."""
        files = runs.records(which, self.desk.folders) if which else []
        if session.news("records", runs.marks(files)):
            yield {self.recorded: runs.measures("recorded, %", runs.recorded(files))}
        if live and which and not any(run.argv[0] == "score" for run in session.runs):
            weights = runs.newest(which, self.desk.folders)
            if session.news("weights", runs.marks([weights])):
                yield from self._scored(session, which, weights, runs.FIXED)

    def score(self, session: Session, which: str | None) -> Iterator[Update]:
        """Score the newest weights on all images of the net that tests them."""
        if not which:
            raise Error("no weights are chosen: there are none of a training in the folders")
        yield from self._scored(session, which, runs.newest(which, self.desk.folders))

    def _scored(self, session: Session, which: str, weights: Path, images: str = "") -> Iterator[Update]:
        out = session.place()
        try:
            argv = runs.words(runs.test_net(which, self.desk.folders), weights, out, images)
            run = yield from self.panel.follow(session, argv)
            told = output(run)
            pictures = [_picture(out / f"{name}.png") for name in PICTURES]
            done = f"{weights.name}: {told['images']} images in {told['seconds']:.1f} s"
            found = runs.NOTHING  # of three images no measures are wanted
            if not images:
                done, found = f"{done}; the worst are shown", runs.Scored.of(told)
            yield {self.panel.said: said(done)} | self._results(found, weights.name, pictures)
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def turned(self, session: Session, which: str | None) -> Iterator[Update]:
        """Other weights are chosen: of them there is what records say of classes, and nothing else yet."""
        found = runs.recorded(runs.records(which, self.desk.folders)) if which else {}
        yield {self.panel.said: ""} | self._results(runs.NOTHING) | self._classes(found.values())

    def _results(self, found: runs.Scored, name: str = "", pictures: Sequence[Any] = (None, None)) -> Update:
        shown = {place: gr.Image(value=picture, visible=picture is not None)
                 for place, picture in zip(self.pictures, pictures, strict=True)}
        return {self.measures: runs.measures("%", {name: found}), **shown} | self._classes([found])

    def _classes(self, found: Iterable[runs.Scored]) -> Update:
        """The table of classes, of the first of what is known that has some."""
        one = next((one for one in found if one.classes), runs.NOTHING)
        kinds = ["str", *("number" for _ in one.columns[1:])]
        return {self.classes: gr.Dataframe(value=one.classes, headers=one.columns, datatype=kinds,
                                           visible=bool(one.classes))}


def _picture(path: Path) -> Any:
    """A picture that a command drew, read whole; None where it drew none."""
    if not path.exists():
        return None
    with Image.open(path) as drawn:
        return drawn.copy()
