"""The tab in which nets are tried on pictures: what `netspec infer` makes, in the browser."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..base.errors import Error, listed
from ..data.images import DAMAGE
from ..net.detections import pools_regions
from ..papers.page import Html, table, tag
from ..proto.text import read_net
from ..score.frames import SINGLE
from ..score.windows import any_size
from .desk import IMAGES, Desk, Pair, Session, said
from .panel import Panel, Update, output
from .trial import Detected, Seen, Segmented, seen

if TYPE_CHECKING:
    import gradio as gr

MOST = 50  # pictures at once
BESIDE = 3  # nets side by side at most
LEAST = 0.05  # the score from which on boxes are kept for the slider
FILES = "labels", "scores", "boxes"  # of an image, to download
OVERLAY, LABELS, MAP, PICTURE = "overlay", "labels", "probability of one class", "picture"


def checked(files: Sequence[str], pixels: float) -> list[str]:
    """Pictures that may be shown to a net. Raises Error for none, for a file that holds none or several, and
    for one of more pixels, in millions."""
    if not 0 < len(files) <= MOST:
        raise Error(f"{len(files)} pictures are given, and this page takes {MOST}" if files else
                    "no picture is given: drop one, or choose one of the folders")
    for file in files:
        name = Path(file).name
        if Path(file).suffix.lower() not in IMAGES:
            raise Error(f"{name} is no picture by its name (they end in {', '.join(IMAGES)})")
        try:
            with any_size(), Image.open(file) as image:  # reads no pixels
                width, height = image.size
                many = 1 if image.format in SINGLE else getattr(image, "n_frames", 1)
        except DAMAGE:
            continue  # which infer says better
        if many > 1:
            raise Error(f"{name} has {many} pictures, and this page shows one of a file; netspec infer takes "
                        "all")
        if width * height > pixels * 1e6:
            raise Error(f"{name} has {width} x {height} = {width * height / 1e6:.1f} million pixels, and "
                        f"this page takes {pixels:g} million: make it smaller, or start it with --pixels")
    return list(dict.fromkeys(files))


def in_common(found: Sequence[dict[str, Any]]) -> str | None:
    """Leave what several nets say of the pictures that all of them showed, in one order; the pictures that
    are left out, in a sentence."""
    told = [{one["image"]: one for one in each["images"]} for each in found]
    every = [file for file in told[0] if all(file in each for each in told)]
    others = sorted({Path(file).name for each in told for file in each} - {Path(file).name for file in every})
    for each, known in zip(found, told, strict=True):
        each["images"] = [known[file] for file in every]
    return f"not all nets show {listed(others)}, which is left out" if others else None


def words(pair: Pair, files: Sequence[str], out: Path) -> list[str]:
    """The command that shows pictures to a net."""
    argv = ["infer", pair.net, pair.weights, *files, "--out", str(out), "--json"]
    boxes = pools_regions(read_net(Path(pair.net)).layer)
    return argv + (["--threshold", str(LEAST)] if boxes else ["--scores"])


def shown(one: Seen, what: str, alpha: float, classes: Sequence[str], name: str, score: float
          ) -> Image.Image:
    """What is to be seen of a picture."""
    if isinstance(one, Detected):
        return one.image if what == PICTURE else one.drawn(score)
    assert isinstance(one, Segmented)
    if what == MAP:
        return one.map(name)
    if what == PICTURE:
        return one.overlay(0, ())
    return one.overlay(1 if what == LABELS else alpha, classes)


def _seconds(told: dict[str, Any]) -> float:
    """What a net's passes over all pictures took."""
    return sum(one.get("seconds", 0.0) for one in told["images"])


def about(one: Seen, score: float) -> Html:
    """What there is to say of a picture: classes with their shares, or boxes."""
    if isinstance(one, Detected):
        rows = [[box["name"], f"{box['score']:.3f}", " ".join(f"{at:.0f}" for at in box["box"])]
                for box in one.above(score)]
        return table(rows, ["class", "score", "x1 y1 x2 y2"]) if rows else said(f"no box above {score:g}")
    return table([[c["name"], f"{c['pixels']}", f"{100 * c['share']:.1f}"] for c in one.told["classes"]],
                 ["class", "pixels", "%"])


def _kept(file: str, session: Session) -> str:
    """What was dropped, in a folder of the tab's: Gradio's own goes after a while, under an open tab too."""
    kept = session.place() / Path(file).name
    shutil.copyfile(file, kept)
    return str(kept)


class Trying:
    """The tab. Pictures are shown to the chosen nets, one command a net; what is then asked of the results
    is read out of the files that they left."""

    def __init__(self, desk: Desk) -> None:
        global gr  # in the hints of what it calls, too, which it reads
        import gradio as gr

        self.desk = desk
        with gr.Row():
            with gr.Column(scale=2, min_width=260):
                self.pairs = gr.Dropdown(label="nets (up to three, side by side)", multiselect=True,
                                         max_choices=BESIDE, elem_id="pairs")
                self.files = gr.File(label="pictures: drop one or many", file_count="multiple", height=150,
                                     elem_id="drop")
                self.picked = gr.Dropdown(label="or out of the folders", multiselect=True, elem_id="picked")
                self.panel = Panel(desk, "try", "try", "infer")
                self.pixel = gr.HTML(said("click on a picture: what the nets say of that pixel"),
                                     elem_id="pixel")
            with gr.Column(scale=5, min_width=320, visible=False) as self.results:
                with gr.Row():
                    self.which = gr.Dropdown(label="picture", elem_id="which")
                    self.what = gr.Dropdown([OVERLAY, LABELS, MAP, PICTURE], value=OVERLAY, label="show",
                                            elem_id="what")
                    self.name = gr.Dropdown(label="of class", elem_id="number")
                self.alpha = gr.Slider(0, 1, 0.55, step=0.05, label="share of the colours", elem_id="alpha")
                self.score = gr.Slider(LEAST, 1, 0.5, step=0.01, label="boxes with a score above",
                                       visible=False, elem_id="score")
                self.classes = gr.CheckboxGroup(label="classes", show_select_all=True, elem_id="classes")
                with gr.Row():
                    self.columns = [self._column(number) for number in range(BESIDE)]
        self._wire()

    def _column(self, number: int) -> tuple[Any, ...]:
        """The place of one net's results: its column, picture, table, and the files to download."""
        with gr.Column(visible=False, min_width=220) as column:
            picture = gr.Image(interactive=False, format="png", show_label=True, buttons=["fullscreen"],
                               elem_id=f"seen{number}")
            told = gr.HTML(elem_id=f"told{number}", elem_classes="told")
            with gr.Row():
                files = [gr.DownloadButton(f"download the {what}", size="sm", elem_id=f"{what}{number}",
                                           visible=False) for what in FILES]
        return column, picture, told, *files

    def _wire(self) -> None:
        shown = [part for column in self.columns for part in column[1:3]]
        asked = [self.which, self.what, self.alpha, self.classes, self.name, self.score]
        outputs = [self.results, self.which, self.name, self.alpha, self.score, self.classes,
                   *(part for column in self.columns for part in column)]
        ran = self.panel.does(self.run, [self.pairs, self.files, self.picked], outputs,
                              self.panel.go.click, self.files.upload)
        ran.then(self.show, asked, shown, show_progress="hidden")
        picked = self.which.change(self.chosen, [self.which], [self.classes, *self._files()],
                                   show_progress="hidden")
        picked.then(self.show, asked, shown, show_progress="hidden")
        for part in asked[1:]:
            part.change(self.show, asked, shown, show_progress="hidden", trigger_mode="always_last")
        for column in self.columns:
            column[1].select(self.at, asked, self.pixel, show_progress="hidden")

    def begin(self) -> list[Any]:
        """What can be chosen now."""
        pairs = list(self.desk.pairs())
        return [gr.Dropdown(choices=pairs, value=pairs[:1]),
                gr.Dropdown(choices=self.desk.folders.files(*IMAGES))]

    def run(self, session: Session, chosen: list[str], dropped: list[str] | None, picked: list[str]
            ) -> Iterator[Update]:
        """Show pictures to nets."""
        known = self.desk.pairs()
        if not chosen:
            raise Error("no net is chosen; name one with its weights, or a folder of a run, on the command "
                        "line")
        pairs = {name: known[name] for name in chosen if name in known}
        if len(pairs) < len(chosen):
            raise Error(f"not there any more: {', '.join(name for name in chosen if name not in known)}")
        named = [str(self.desk.folders.open(name)) for name in picked or ()]
        files = checked([*(dropped or ()), *named], self.desk.pixels)
        files = [_kept(file, session) if file in (dropped or ()) else file for file in files]
        found, ran, trouble = dict[str, dict[str, Any]](), list[list[str]](), None
        for name, pair in pairs.items():
            argv = words(pair, files, session.place() / "results")
            run = yield from self.panel.follow(session, argv, ran)
            found[name], trouble = output(run), trouble or run.trouble()
            ran.append(argv)
        trouble = in_common([*found.values()]) or trouble
        if not all(told["images"] for told in found.values()):
            raise Error(trouble or "the command showed nothing")
        session.told = [*found.values()]
        yield self._results(found, trouble)

    def _results(self, found: Mapping[str, dict[str, Any]], trouble: str | None) -> Update:
        """The page with new results, by what their nets are called. trouble: with some of the pictures."""
        first = next(iter(found.values()))
        files = [one["image"] for one in first["images"]]
        boxes, labels = (any(key in told["images"][0] for told in found.values())
                         for key in ("boxes", "classes"))
        names = list(dict.fromkeys(name for told in found.values() for name in told["names"]))
        spent = "; ".join(f"{name}: {_seconds(told):.2f} s" for name, told in found.items())
        update: Update = {
            self.results: gr.Column(visible=True), self.panel.said: said(trouble or spent, bad=bool(trouble)),
            self.which: gr.Dropdown(choices=[(Path(file).name, i) for i, file in enumerate(files)], value=0),
            self.name: gr.Dropdown(choices=names, value=names[0], visible=labels),
            self.alpha: gr.Slider(visible=labels), self.score: gr.Slider(visible=boxes)}
        for number, (column, picture, *_) in enumerate(self.columns):
            update[column] = gr.Column(visible=number < len(found))
            update[picture] = gr.Image(label=[*found, "", ""][number])
        shown = self._chosen([*found.values()], 0)
        return update | dict(zip([self.classes, *self._files()], shown, strict=True))

    def _files(self) -> list[Any]:
        return [file for column in self.columns for file in column[3:]]

    def chosen(self, which: int, request: "gr.Request") -> list[Any]:
        """Another picture is to be seen: its classes, and its files."""
        return self._chosen(self.desk.session(request.session_hash).told, which)

    def _chosen(self, found: Sequence[dict[str, Any]], which: int) -> list[Any]:
        classes = [one for told in found for one in told["images"][which].get("classes", ())]
        there = list(dict.fromkeys(one["name"] for one in sorted(classes, key=lambda one: one["class"])))
        files = [told["images"][which]["files"] for told in found]
        files += [{}] * (BESIDE - len(files))
        return [gr.CheckboxGroup(choices=there, value=there, visible=bool(there)),
                *(gr.DownloadButton(value=each.get(what), visible=what in each)
                  for each in files for what in FILES)]

    def show(self, which: int, what: str, alpha: float, classes: list[str], name: str, score: float,
             request: "gr.Request") -> list[Any]:
        """The pictures as they are to be seen, and what there is to say of each."""
        made: list[Any] = []
        for told in self.desk.session(request.session_hash).told:
            try:
                one = seen(told, which)
                made += [shown(one, what, alpha, classes, name, score), about(one, score)]
            except (Error, OSError) as error:
                made += [None, said(str(error), bad=True)]
        return made + [None, ""] * (BESIDE - len(made) // 2)

    def at(self, which: int, what: str, alpha: float, classes: list[str], name: str, score: float,
           event: "gr.SelectData", request: "gr.Request") -> Html:
        """What the nets say of a pixel that is clicked."""
        parts = []
        try:
            for told in self.desk.session(request.session_hash).told:
                one = seen(told, which)
                if isinstance(one, Segmented):
                    width = shown(one, what, alpha, classes, name, score).width
                    x, y = one.pixel(int(event.index[0]), int(event.index[1]), width)
                    rows = [[name, f"{100 * odds:.1f}", f"{value:.2f}"] for name, odds, value in one.at(x, y)]
                    parts += [tag("p", f"pixel {x},{y}"), table(rows, ["class", "%", "score"])]
        except (Error, OSError) as error:
            return said(str(error), bad=True)
        return tag("div", *parts)
