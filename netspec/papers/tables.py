"""The papers' tables beside what is measured here, a record a net, and where each figure comes from."""

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..base import table as texts
from ..base.errors import Error, closest
from ..base.machine import choose
from ..base.metrics import MEASURES
from ..base.names import net_file, solver_file, solver_names
from ..data import zoo
from ..look.costs import table1
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..proto.caffe_pb2 import TEST
from ..proto.text import read_net, read_solver
from . import published, record
from .measure import seconds
from .record import Record, Settings

SIZE, REPEATS, WARM = 500, 20, 3  # of a timing: pixels along a side, passes, passes before
SCORES = dict(MEASURES)
GEOMETRIC = {"geometric": "geom. acc."}
FACTS = {"mean_iu": "mean IU", "milliseconds": "forward ms", "convolution_layers": "conv. layers",
         "parameters": "parameters, M", "receptive_field": "rec. field", "maximum_stride": "stride"}
SERVER = {"voc2011": "VOC2011 test", "voc2012": "VOC2012 test", "milliseconds": "inference ms"}
STRIDES = ("fcn32s-fixed", "fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")  # Table 2's nets, of any data set
BESIDE = ("segnet-basic", "segnet")  # shown under them
WHOLE = {"milliseconds", "convolution_layers", "receptive_field", "maximum_stride"}  # others have one decimal
Cells = dict[str, float | None]


class Row(NamedTuple):
    """A line of a table: a net or method, whose figures these are, where those measured here come from."""

    net: str
    whose: str
    cells: Cells
    origin: dict[str, str] | None = None


class Table(NamedTuple):
    """A table of the papers, for one data set."""

    number: int
    title: str
    columns: dict[str, str]  # key -> title
    nets: Sequence[str]
    kinds: tuple[str, ...]  # what is measured of each net: scores, time


def table(number: int, family: str | None) -> Table:
    """One of the papers' tables; the first two are of any data set that has solvers/FAMILY-fcn32s.prototxt
    and so on.

    Raises Error for a family without solvers.
    """
    own = family or {4: "nyud", 5: "siftflow"}.get(number, "voc")
    if number == 3:
        return Table(number, "VOC test servers", SERVER, ("voc-fcn8s",), ("time",))
    if number > 3:
        nets = [net for net in published.PAPER if net.startswith(f"{own}-")]
        title, columns = ("NYUDv2", SCORES) if number == 4 else ("SIFT Flow", SCORES | GEOMETRIC)
        return Table(number, title, columns, nets, ("scores",))
    here = solver_names()
    variants = STRIDES + (BESIDE if number == 2 else ())
    nets = [net for net in (f"{own}-{variant}" for variant in variants) if net in here]
    if not nets:
        known = sorted(net.removesuffix("-fcn32s") for net in here if net.endswith("-fcn32s"))
        raise Error(f"there is no solvers/{own}-fcn32s.prototxt{closest(own, known)} (families: "
                    f"{', '.join(known)})")
    if number == 2:
        return Table(number, f"strides ({own})", SCORES, nets, ("scores",))
    nets = list(published.TABLE1) if own == "voc" else nets
    return Table(number, f"nets made convolutional ({own})", FACTS, nets, ("time", "scores"))


def measure_all(tables: Sequence[Table], settings: Settings) -> list[str]:
    """Measure what the tables lack; a sentence for each thing that could not be measured."""
    failed = []
    todo = dict.fromkeys((net, kind) for t in tables for net in t.nets for kind in t.kinds)
    todo |= dict.fromkeys((net, "released") for net, kind in list(todo)
                          if kind == "scores" and released_file(net, settings))
    for net, kind in todo:
        try:
            measure(net, kind, settings)
        except Error as e:
            failed.append(f"{net}: no {kind} measured: {e}")
    return failed


def measure(net: str, kind: str, settings: Settings) -> Record:
    """A net's record, measured if it is missing or of other weights.

    kind: time; or scores, of the weights trained here, or released, of those, on its test images, or val
    where there is no test.
    """
    if kind == "time":
        return timed(net, settings)
    solver = solver_file(net)
    weights = released_file(net, settings) if kind == "released" else record.weights_of(solver, settings)
    if weights is None:
        raise Error(f"{settings.released} has no released weights of {net}")
    param = read_solver(solver)
    path = record.test_net(solver, param)
    made = build(record.relocated(read_net(path), settings.data), TEST, path=path)
    if kind != "released":
        weights = record.testable(solver, param, weights, made, settings)
    tops = [top.blob for node in made.sources for top in node.tops]
    heads = [("score_sem", "sem"), ("score_geo", "geo")] if "sem" in tops else record.BLOBS
    return record.scored(record.place(net, kind, settings), made, weights, settings, blobs=heads)


def timed(net: str, settings: Settings) -> Record:
    """The record of a forward pass over SIZE x SIZE pixels: median, least and most of REPEATS, in ms."""
    path = net_file(net)

    def measure() -> Record:
        place = choose(settings.device, settings.precision)
        run = Net(deploy(path, size=(SIZE, SIZE), losses=True)).to(place).eval()
        inputs = {blob: torch.randn(*run.graph.shape(blob), device=place) * 50 for blob in run.graph.inputs}
        with torch.inference_mode():  # the sum waits for a GPU
            spent = seconds(lambda: next(iter(run(inputs).values())).sum().item(), WARM + REPEATS)[WARM:]
        median, least, most = (1000 * f(spent) for f in (statistics.median, min, max))
        return {"net": net, "milliseconds": median, "least": least, "most": most, "runs": REPEATS}

    mark = record.digest(path, f"{settings.precision} {settings.device}")
    return record.recorded(record.place(net, "time", settings), mark, measure, settings.device)


def released_file(net: str, settings: Settings) -> Path | None:
    """The release's weights of a net, if they are there."""
    return zoo.stored(net, settings.released) if settings.released and net in zoo.table() else None


def verified(settings: Settings) -> Iterator[tuple[str, Record]]:
    """The nets of published.VERIFIED, a record each, as released; Error names every file that is missing."""
    lacking = [net for net in published.VERIFIED if not released_file(net, settings)]
    if lacking:
        raise Error(f"{settings.released} lacks the weights of {', '.join(lacking)}; 'netspec weights get "
                    f"{' '.join(lacking)}' gets them, --weights-root says where yours are")
    for net in published.VERIFIED:
        try:
            yield net, measure(net, "released", settings)
        except Error as e:
            raise Error(f"{net}: {e} (seg11valid is VOC2011's val without SBD's train, see docs/voc.md; "
                        "--data says where they are)") from None


def rows(t: Table, settings: Settings) -> list[Row]:
    """A table's lines: of each net the paper's, the release's, this machine's, and the differences."""
    papers = {1: published.TABLE1, 3: published.TABLE3}.get(t.number, published.PAPER)
    lines = []
    for net in t.nets:
        paper = _cells(t, zip(t.columns, papers.get(net, ()), strict=False))
        # the released 32s is Table 2's
        known = "scores" in t.kinds and not (t.number == 1 and net == "voc-fcn32s")
        others = _cells(t, zip(SCORES, published.RELEASED.get(net, ()) if known else (), strict=False))
        for whose, stated in (("paper", paper), ("released net, scored by others", others)):
            if any(value is not None for value in stated.values()):
                lines.append(Row(net, whose, stated))
        for kind, whose, name, stated in (("scores", "here", "paper", paper),
                                          ("released", "released net, scored here", "others", others)):
            cells, origins = _measured(t, net, kind, settings)
            if kind == "scores" or origins:
                lines.append(Row(net, whose, cells, origins or None))
                if apart := _apart(cells, stated):
                    lines.append(Row(net, f"  less {name}", _cells(t, apart)))
    family = t.nets[0].partition("-")[0]
    cited = {1: {}, 3: published.TABLE3}.get(t.number, published.OTHERS.get(family, {}))
    return lines + [Row(name, "cited", _cells(t, zip(t.columns, values, strict=False)))
                    for name, values in cited.items() if name not in t.nets]


def _apart(cells: Cells, stated: Cells) -> Cells:
    """The differences of what both have, times aside."""
    both = [(key, value, stated[key]) for key, value in cells.items() if key != "milliseconds"]
    return {key: ours - theirs for key, ours, theirs in both if ours is not None and theirs is not None}


def _cells(t: Table, values: Cells | Iterable[tuple[str, float | None]]) -> Cells:
    """Values by name in the order of a table's columns; None for those that are not there."""
    named = dict(values)
    return {key: named.get(key) for key in t.columns}


def _measured(t: Table, net: str, kind: str, settings: Settings) -> tuple[Cells, dict[str, str]]:
    """The cells of what was measured of a net, and the origin of each record behind them.

    kind: scores, with whatever else the table has of a net trained here, or released.
    """
    found: Cells = {}
    origins = {}
    for part in t.kinds if kind == "scores" else [kind] if "scores" in t.kinds else ():
        known = record.read(record.place(net, part, settings))
        heads = zip(GEOMETRIC, known.get("heads", {}).values(), strict=False)
        scores = {key: known.get(key) for key in SCORES} | dict(heads)
        found |= {key: 100 * value for key, value in scores.items() if value is not None}
        found |= {key: known[key] for key in ("milliseconds",) if key in known}
        if said := known.get("origin"):
            origins[part] = "; ".join(str(said.get(key)) for key in ("command", "device", "date", "netspec"))
    if t.number == 1 and kind == "scores":
        facts = table1(deploy(net_file(net), losses=True))
        found |= {key.replace(" ", "_"): value for key, value in facts.items()}
        found["parameters"] = (facts["parameters"] or 0) / 1e6
    return _cells(t, found), origins


def shown(t: Table, lines: Sequence[Row], kind: str) -> str:
    """A table as text, markdown, csv, json or latex; what is not measured is empty ("-" in text)."""
    title = f"Table {t.number}: {t.title}"
    if kind == "json":
        return json.dumps({"table": title, "rows": [row._asdict() for row in lines]}, indent=1)
    if kind == "csv":
        return texts.as_csv([["table", "net", "whose", *t.columns, "origin"], *(
            [title, row.net, row.whose.strip(), *row.cells.values(), " | ".join((row.origin or {}).values())]
            for row in lines)])
    header = ["", "", *t.columns.values()]
    body = [[row.net, row.whose, *(_figure(key, value, row.whose) for key, value in row.cells.items())]
            for row in lines]
    if kind == "latex":
        return _latex(title, header, body)
    bullet, hashes = ("- ", "### ") if kind == "markdown" else ("", "")
    notes = [f"{bullet}{row.net}, {name}: {said}"
             for row in lines for name, said in (row.origin or {}).items()]
    remark = published.REMARKS.get(t.number) if t.nets[0] in published.PAPER else None
    text = texts.table(body, header, markdown=kind == "markdown")
    return "\n\n".join(filter(None, [hashes + title, text, remark, "\n".join(notes)]))


def _latex(title: str, header: Sequence[str], body: Sequence[Sequence[str | None]]) -> str:
    first, *rest = [" & ".join((cell or "").strip().replace("_", r"\_") for cell in line) + r" \\"
                    for line in (header, *body)]
    columns = "ll" + "r" * (len(header) - 2)
    return "\n".join([f"% {title}", rf"\begin{{tabular}}{{{columns}}}", r"\hline", first, r"\hline", *rest,
                      r"\hline", r"\end{tabular}"])


def _figure(key: str, value: float | None, whose: str) -> str | None:
    if value is None:
        return None
    sign, digits = "+" if whose.startswith("  less") else "", 0 if key in WHOLE else 1
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # 0.0 makes of -0.0 plain 0
