"""What runs left behind, on one HTML page that needs nothing beside it."""

import base64
import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

from ..base.errors import Error, listed
from ..base.machine import origin
from ..base.metrics import BINARY, MEASURES, titled
from ..base.table import numeric
from ..data.facts import Known, known
from ..data.segmentation import SegmentationData
from ..look import pictures
from ..look.curves import Training, draw_curves, read_log
from ..look.shapes import printable
from ..net.build import load
from ..net.deploy import feeds
from ..net.graph import Graph
from ..net.judged import Judged
from ..proto.caffe_pb2 import TEST, SolverParameter
from ..proto.text import SOLVER, read_net, read_solver, read_text
from ..score import predict
from ..score.sheet import Folder, sheet, worst
from ..train import jobs, snapshot
from . import record
from .record import Record, Settings

PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".svg": "svg+xml"}
KINDS = {".json": "Scores", ".log": "Curves", **dict.fromkeys(PICTURES, "Pictures"),
         ".prototxt": "Solvers and nets", ".caffemodel": "Weights", ".h5": "Weights"}
STYLE = """
:root { color-scheme: light dark; --line: 1px solid #8885; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: var(--line); }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .2rem .8rem; border-bottom: var(--line); text-align: left; vertical-align: top; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } img { max-width: 100%; background: #fff; } summary { cursor: pointer; }
pre { overflow-x: auto; font-size: .85rem; padding: .8rem; border: var(--line); }
"""


Found = TypeVar("Found")


class Html(str):
    """Text that is HTML already; all other text is escaped where `tag` takes it in."""


def tag(name: str, /, *inside: str, **attributes: str) -> Html:
    """<name attributes>inside</name>; a final _ in an attribute's name is left out."""
    given = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    body = "".join(part if isinstance(part, Html) else html.escape(part) for part in inside)
    return Html(f"<{name}{given}>" + ("" if name in ("img", "input", "meta") else f"{body}</{name}>"))


def table(rows: Sequence[Sequence[str]], headers: Sequence[str] = ()) -> Html:
    """Rows of texts, below headers if any; the first cell names its row, numbers stand to the right."""
    kinds = ["number" if all(map(numeric, column)) else "text" for column in zip(*rows, strict=True)]
    lines = []
    for first, *cells in rows:
        others = [tag("td", cell, class_=kind) for cell, kind in zip(cells, kinds[1:], strict=True)]
        lines.append(tag("tr", tag("th", first, scope="row"), *others))
    head = [tag("th", header, scope="col", class_=kind) for header, kind in zip(headers, kinds, strict=False)]
    return tag("table", *([tag("thead", tag("tr", *head))] if head else []), tag("tbody", *lines))


def folded(title: str, text: str) -> Html:
    return tag("details", tag("summary", title), tag("pre", text))


def image(title: str, content: bytes, kind: str) -> Html:
    """A picture that is part of the page, with its title below."""
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return tag("figure", tag("img", src=data, alt=title), tag("figcaption", title))


def score_tables(records: Mapping[str, Record]) -> list[Html]:
    """Tables of what `score --json`, `demo` and others recorded: measures, classes, bands, origins."""
    measured = [[titled(name, r.get("unseen", [])), *_cells(r, MEASURES), f"{r.get('images', '-')}",
                 "-" if r.get("loss") is None else f"{r['loss']:.4g}"] for name, r in records.items()]
    ious = {name: {each["name"]: _cells(each, ["iu"])[0] for each in r.get("classes", [])}
            for name, r in records.items()}
    bands = [[f"{name}, within {width} px", *_cells(found, MEASURES)] for name, r in records.items()
             for width, found in r.get("trimap", {}).items()]
    binary = [[name, *_cells(r["binary"], BINARY)] for name, r in records.items() if r.get("binary")]
    origins = {name: r["origin"] for name, r in records.items() if r.get("origin")}
    parts = (("In percent, but for images and loss", measured, ["net", *MEASURES.values(), "images", "loss"]),
             ("IU of each class, in percent", _turned(ious, "-"), ["class", *ious]),
             ("Near boundaries", bands, ["net", *MEASURES.values()]),
             ("One class against the others", binary, ["net", *BINARY.values()]),
             ("Where they come from", _turned(origins, ""), ["", *origins]))
    return [part for title, rows, head in parts if rows for part in (tag("h3", title), table(rows, head))]


def _cells(found: Record, keys: Iterable[str]) -> list[str]:
    return ["-" if found.get(key) is None else f"{100 * found[key]:.1f}" for key in keys]


def _turned(of: Mapping[str, Mapping[str, str]], absent: str) -> list[list[str]]:
    """A row for each key of the inner mappings, a column for each outer one."""
    keys = dict.fromkeys(chain.from_iterable(of.values()))
    return [[key, *(inner.get(key, absent) for inner in of.values())] for key in keys]


def gather(path: Path) -> list[Path]:
    """The files of a folder (not of folders in it), the oldest first; a solver, its nets and what lies under
    its snapshot_prefix; or a file."""
    if path.is_dir():
        there = [file for file in path.iterdir() if file.suffix.lower() in KINDS]
        return sorted(there, key=lambda file: file.stat().st_mtime)
    param = solver_in(path)
    if param is None:
        return [path]
    prefix = Path(param.snapshot_prefix)
    begin = f"{prefix.name}.", f"{prefix.name}_"
    made = [file for file in prefix.parent.glob("*")
            if file.name.startswith(begin) and file.suffix.lower() in KINDS]
    return [path, *jobs.files(param, path), *sorted(made)]


def solver_in(path: Path) -> SolverParameter | None:
    """The solver in a file; None for a folder, and for a file that is none."""
    told = ""
    with suppress(Error):  # which the page says
        told = read_text(path) if path.suffix == ".prototxt" and path.is_file() else ""
    return read_solver(path) if SOLVER.search(told) else None


def score_newest(solvers: Mapping[Path, SolverParameter], settings: Settings) -> list[str]:
    """Score the weights of each solver that were written last on the test.prototxt or val.prototxt beside its
    net, unless that is recorded; a sentence about each. Record and predictions lie under its snapshot_prefix;
    with those of the last net of the same images, a sheet of all such nets."""
    told = []
    groups: dict[tuple, list[tuple[str, Graph, SegmentationData]]] = {}
    for path, param in solvers.items():
        prefix = param.snapshot_prefix
        weights = snapshot.kept(prefix, "caffemodel")
        if not weights:
            name = snapshot.stem(prefix, "N")
            raise Error(f"{path}: there is no {name}.caffemodel to score; train it first")
        made = load(record.test_net(path, param), TEST)
        predictions = Path(f"{prefix}_predictions")
        _, newest = max(weights, key=lambda each: (each[1].stat().st_mtime_ns, each[0]))
        last = weights[-1][1]
        told.append(f"scored {newest}" + (f", written after {last.name}" if newest != last else ""))
        ready = record.testable(path, param, newest, made, settings)
        record.scored(Path(f"{prefix}.json"), made, ready, settings, save=predictions)
        source = made.readers[0]
        if isinstance(source, SegmentationData):
            groups.setdefault(source.pictures, []).append((prefix, made, source))
    for found in groups.values():
        prefix, made, source = found[-1]
        looks = predict.looks(source.facts, Judged(made).classes)
        nets: dict[str, Folder] = {Path(each).name: f"{each}_predictions" for each, _, _ in found}
        chosen = worst(source, looks, f"{prefix}_predictions", 8)
        pictures.save(f"{prefix}_worst.png", sheet(source, looks, nets, chosen))
    return told


def said_of_images(paths: Iterable[Path]) -> list[Html]:
    """Tables of the classes, with their colours, and the mean that nets in files say, each once."""
    found: dict[tuple, tuple[list[str], Known]] = {}
    for path in paths:
        with suppress(Error):  # a solver, or a net that another program reads
            for told in (known(layer, path) for layer in read_net(path).layer if feeds(layer)):
                if told.facts:
                    key = told.facts.names, told.facts.palette.tobytes(), told.mean
                    found.setdefault(key, ([], told))[0].append(str(path))
    parts = []
    for files, told in found.values():
        assert told.facts
        colours = told.facts.palette.tolist()
        rows = [(name, tag("span", "\u25a0", style=f"color: rgb({r},{g},{b})"), f"{r} {g} {b}")
                for name, (r, g, b) in zip(told.facts.names, colours, strict=True)]
        mean = f", mean B,G,R {', '.join(f'{m:g}' for m in told.mean)}" if told.mean else ""
        parts += [tag("h3", f"Classes of {listed(files)}{mean}"), table(rows, ["class", "", "colour"])]
    return parts


def _read(paths: Iterable[Path], reader: Callable[[Path], Found], problems: list[Error]
          ) -> Iterator[tuple[Path, Found]]:
    """What is in each of the files that can be read; why others can't is added to the problems."""
    for path in paths:
        try:
            yield path, reader(path)
        except Error as problem:
            problems.append(problem)


def _log(path: Path, remark: Callable[[str], object]) -> tuple[list[Training], list[str]]:
    """The runs of a log, and what netspec said in it."""
    said: list[str] = []

    def heard(text: str) -> None:
        if re.match(r"[WE]\d", text) or " netspec] " in text:
            said.append(text.rstrip())

    return read_log(path, remark, heard), said


def _picture(path: Path) -> bytes:
    if path.stat().st_size > record.MOST:
        raise Error(f"{path}: has more than {record.MOST >> 20} MiB, too much for a page")
    return path.read_bytes()


def page(title: str, paths: Sequence[Path], remark: Callable[[str], object] = lambda text: None) -> str:
    """The whole page about files of the kinds in KINDS, a section for each kind.

    remark: is told which files are something else, and passed over. Raises Error if nothing else is there.
    """
    kinds: dict[str, list[Path]] = {kind: [] for kind in KINDS.values()}
    for path in paths:
        if kind := KINDS.get(path.suffix.lower()):
            kinds[kind].append(path)
    problems: list[Error] = []
    records = {path.stem: found for path, found in _read(kinds["Scores"], record.read, problems)
               if "mean_iu" in found}
    drawn = {f"{path.resolve()}.png" for path in kinds["Curves"]}  # anew, from their logs
    curves = []  # and what netspec said in a log of nets, origin and trouble
    for path, (runs, said) in _read(kinds["Curves"], lambda path: _log(path, remark), problems):
        curves.append(image(path.name, draw_curves(runs).content("SVG"), "svg+xml"))
        curves += [folded(f"{path.name}: what was said", "\n".join(said))] if said else []
    shown = [path for path in kinds["Pictures"] if str(path.resolve()) not in drawn]
    images = [image(path.name, content, PICTURES[path.suffix.lower()])
              for path, content in _read(shown, _picture, problems)]
    nets = [folded(str(path), told) for path, told in _read(kinds["Solvers and nets"], read_text, problems)]
    if len(problems) == len(paths):
        raise problems[0]
    for problem in problems:
        remark(f"{problem}; passed over")
    weights = [[str(path), f"{path.stat().st_size / 1e6:.1f}"] for path in kinds["Weights"]]
    sections = {
        "Scores": score_tables(records) if records else [],
        "Curves": curves,
        "Pictures": images,
        "Solvers and nets": [*nets, *said_of_images(kinds["Solvers and nets"])],
        "Weights": [table(weights, ["file", "MB"])] if weights else [],
        "This page": [table(list(origin().items()))],
    }
    body = [tag("h1", title),
            *(tag("section", tag("h2", name), *parts) for name, parts in sections.items() if parts)]
    policy = {"http-equiv": "Content-Security-Policy",
              "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'"}
    head = [tag("meta", charset="utf-8"), tag("meta", **policy),
            tag("meta", name="viewport", content="width=device-width"), tag("title", title),
            tag("style", Html(STYLE))]
    whole = tag("html", tag("head", *head), tag("body", tag("main", *body)), lang="en")
    return printable(f"<!DOCTYPE html>\n{whole}\n")
