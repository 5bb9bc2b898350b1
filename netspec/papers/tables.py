"""The `tables` command: the papers' tables beside what is measured here, and where each measured figure comes from."""

import argparse
import csv
import io
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..base import table as tables
from ..base.errors import Error, closest
from ..base.files import find
from ..base.machine import PROJECT, choose
from ..base.metrics import MEASURES
from ..look import costs
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..proto import caffe_pb2
from ..proto import text as prototext
from . import published
from . import record as experiment
from .record import Record

SCORES = dict(MEASURES)
GEOMETRIC = {"geometric": "geom. acc."}
FACTS = {"mean_iu": "mean IU", "milliseconds": "forward ms", "convolution_layers": "conv. layers", "parameters": "parameters, M",
         "receptive_field": "rec. field", "maximum_stride": "stride"}
SERVER = {"voc2011": "VOC2011 test", "voc2012": "VOC2012 test", "milliseconds": "inference ms"}
STRIDES = ("fcn32s-fixed", "fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")  # Table 2's nets, of any data set
SIZE, RUNS, WARM = 500, 20, 3  # of a timing: pixels along a side, passes, passes before
FORMATS = ("text", "markdown", "csv", "json", "latex")
Cells = dict[str, float | None]


class Row(NamedTuple):
    """A line of a table: a net or method, whose figures these are, and, if measured here, where they come from."""

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
    """One of the papers' tables; the first two are of any data set that has solvers/FAMILY-fcn32s.prototxt and so on."""
    own = family or {4: "nyud", 5: "siftflow"}.get(number, "voc")
    if number == 3:
        return Table(number, "VOC test servers", SERVER, ("voc-fcn8s",), ("time",))
    if number > 3:
        nets = [net for net in published.PAPER if net.startswith(f"{own}-")]
        title, columns = ("NYUDv2", SCORES) if number == 4 else ("SIFT Flow", SCORES | GEOMETRIC)
        return Table(number, title, columns, nets, ("scores",))
    here = {p.stem for base in (Path(), PROJECT) for p in base.glob("solvers/*.prototxt")}
    nets = [net for net in (f"{own}-{variant}" for variant in STRIDES) if net in here]
    if not nets:
        known = sorted(net.removesuffix("-fcn32s") for net in here if net.endswith("-fcn32s"))
        raise Error(f"there is no solvers/{own}-fcn32s.prototxt{closest(own, known)} (families: {', '.join(known)})")
    if number == 2:
        return Table(number, f"strides ({own})", SCORES, nets, ("scores",))
    return Table(number, f"nets made convolutional ({own})", FACTS, tuple(published.TABLE1) if own == "voc" else nets,
                 ("scores", "time"))


# What is measured


def scored(net: str, weights: Path, kind: str, args: argparse.Namespace) -> Record:
    """The record of a net on its test images, or val where there is no test, scored if it is missing or of other weights."""
    path = experiment.test_net(_solver(net), prototext.read_solver(_solver(net)))
    made = build(experiment.relocated(prototext.read_net(path), args.data), caffe_pb2.TEST, path=path)
    tops = [top.blob for node in made.sources for top in node.tops]
    heads = [("score_sem", "sem"), ("score_geo", "geo")] if "sem" in tops else experiment.BLOBS
    return experiment.scored(_record(net, kind, args), made, weights, args, blobs=heads)


def timed(net: str, args: argparse.Namespace) -> Record:
    """The record of a forward pass over one image of SIZE x SIZE: median, least and most of RUNS, in milliseconds."""
    path = _deploy_net(net)

    def measure() -> Record:
        place = choose(args.device, args.precision)
        run = Net(deploy(path, size=(SIZE, SIZE), losses=True)).to(place).eval()
        inputs = {blob: torch.randn(*run.graph.shape(blob), device=place) * 50 for blob in run.graph.inputs}
        spent = []
        with torch.inference_mode():
            for _ in range(WARM + RUNS):
                begun = time.perf_counter()
                next(iter(run(inputs).values())).sum().item()  # which waits for a GPU
                spent.append(1000 * (time.perf_counter() - begun))
        spent = spent[WARM:]
        return {"net": net, "milliseconds": statistics.median(spent), "least": min(spent), "most": max(spent), "runs": RUNS}

    return experiment.recorded(_record(net, "time", args), experiment.digest(path, f"{args.precision} {args.device}"), measure,
                               args.device)


def measure(tables: Sequence[Table], args: argparse.Namespace) -> list[str]:
    """Measure what the tables lack; a sentence for each thing that could not be measured."""
    failed = []
    todo = dict.fromkeys((net, kind) for t in tables for net in t.nets for kind in t.kinds)
    todo |= dict.fromkeys((net, "released") for net, kind in list(todo) if kind == "scores" and released_file(net, args))
    for net, kind in todo:
        try:
            if kind == "time":
                timed(net, args)
            else:
                made = experiment.weights_of(_solver(net), args) if kind == "scores" else released_file(net, args)
                scored(net, made, kind, args)
        except Error as e:
            failed.append(f"{net}: no {kind} measured: {e}")
    return failed


def released_file(net: str, args: argparse.Namespace) -> Path | None:
    """The release's weights of a net, if they lie in --weights."""
    path = args.weights and net in published.RELEASED_FILES and args.weights / f"{published.RELEASED_FILES[net]}.caffemodel"
    return path if path and path.exists() else None


def _solver(net: str) -> Path:
    return find(f"solvers/{net}.prototxt", PROJECT, "solver")


def _deploy_net(net: str) -> Path:
    """The net without data, in models/ or a folder below."""
    there = (path for base in (Path(), PROJECT) for path in base.glob(f"models/**/{net}/deploy.prototxt"))
    return next(there, None) or find(f"models/{net}/deploy.prototxt", PROJECT, "net")


def _record(net: str, kind: str, args: argparse.Namespace) -> Path:
    return args.results / f"{net}.{kind}.json"


# What is shown


def rows(t: Table, args: argparse.Namespace) -> list[Row]:
    """A table's lines: of each net those of the paper, of the release, of this machine, and the differences."""
    found: list[Row] = []
    for net in t.nets:
        paper, others = _paper(t, net), _cells(t, published.RELEASED.get(net, ()) if "scores" in t.kinds else ())
        if t.columns is FACTS and net == "voc-fcn32s":
            others = {}  # the released one is Table 2's
        found += [Row(net, whose, cells) for whose, cells in (("paper", paper), ("released net, scored by others", others))
                  if any(v is not None for v in cells.values())]
        for kind, whose, name, stated in (("scores", "here", "paper", paper),
                                          ("released", "released net, scored here", "others", others)):
            cells, origins = _measured(t, net, kind, args)
            if kind == "scores" or origins:
                found.append(Row(net, whose, cells, origins))
                apart = {key: cells[key] - value for key, value in stated.items()
                         if value is not None and cells[key] is not None and key != "milliseconds"}
                found += [Row(net, f"  less {name}", {key: apart.get(key) for key in t.columns})] if apart else []
    cited = published.OTHERS.get(t.nets[0].partition("-")[0], {}) if t.columns is not FACTS else {}
    cited = published.TABLE3 if t.columns is SERVER else cited
    return found + [Row(name, "cited", _cells(t, values)) for name, values in cited.items() if name not in t.nets]


def _cells(t: Table, values: Sequence[float | None]) -> Cells:
    named = dict(zip(SCORES if t.columns is FACTS else t.columns, values, strict=False))
    return {key: named.get(key) for key in t.columns}


def _paper(t: Table, net: str) -> Cells:
    if t.columns is FACTS:
        cells = published.TABLE1[net]._asdict() if net in published.TABLE1 else _cells(t, ())
        return cells | {"parameters": cells["parameters"] and cells["parameters"] / 1e6}
    stated = published.TABLE3.get(net, ()) if t.columns is SERVER else published.PAPER.get(net, ())
    return _cells(t, (*stated, *published.GEOMETRIC.get(net, ())))


def _measured(t: Table, net: str, kind: str, args: argparse.Namespace) -> tuple[Cells, dict[str, str] | None]:
    """The cells of what was measured, and the origin of each record behind them."""
    kinds = [k for k in t.kinds if k != "scores"] * (kind == "scores") + [kind] * ("scores" in t.kinds)
    found: Cells = {}
    origins = {}
    for part in kinds:
        record = experiment.read(_record(net, part, args))
        found |= {key: 100 * record[key] for key in SCORES if record.get(key) is not None}
        found |= {key: record[key] for key in ("milliseconds",) if key in record}
        found |= {key: 100 * v for key, v in zip(GEOMETRIC, record.get("heads", {}).values(), strict=False)}
        if said := record.get("origin"):
            origins[part] = "; ".join(str(said.get(key)) for key in ("command", "device", "date", "netspec"))
    if t.columns is FACTS and kind == "scores":
        known = costs.table1(deploy(_deploy_net(net), losses=True))
        found |= {key.replace(" ", "_"): value for key, value in known.items()} | {"parameters": known["parameters"] / 1e6}
    return {key: found.get(key) for key in t.columns}, origins or None


def shown(t: Table, lines: Sequence[Row], kind: str) -> str:
    """A table in one of FORMATS; what is not measured is empty ("-" in text)."""
    title = f"Table {t.number}: {t.title}"
    header = ["", "", *t.columns.values()]
    body = [[row.net, row.whose, *(_figure(key, v, row.whose) for key, v in row.cells.items())] for row in lines]
    if kind == "json":
        return json.dumps({"table": title, "rows": [row._asdict() for row in lines]}, indent=1)
    if kind == "csv":
        out = io.StringIO()
        cells = [[title, r.net, r.whose.strip(), *r.cells.values(), " | ".join((r.origin or {}).values())] for r in lines]
        csv.writer(out, lineterminator="\n").writerows([["table", "net", "whose", *t.columns, "origin"], *cells])
        return out.getvalue().rstrip("\n")
    if kind == "latex":
        written = [" & ".join(str(c or "").strip().replace("_", r"\_") for c in line) + r" \\" for line in [header, *body]]
        return "\n".join([f"% {title}", rf"\begin{{tabular}}{{ll{'r' * len(t.columns)}}}", r"\hline", written[0], r"\hline",
                          *written[1:], r"\hline", r"\end{tabular}"])
    mark = kind == "markdown"
    notes = [f"{'- ' * mark}{row.net}, {name}: {said}" for row in lines for name, said in (row.origin or {}).items()]
    remark = published.REMARKS.get(t.number) if t.nets[0] in published.PAPER else None
    return "\n\n".join(filter(None, ["### " * mark + title, tables.table(body, header, markdown=mark), remark, "\n".join(notes)]))


def _figure(key: str, value: float | None, whose: str) -> str | None:
    sign = "+" if whose.startswith("  less") else ""
    digits = 0 if key == "milliseconds" or key in FACTS and key not in ("mean_iu", "parameters") else 1
    return None if value is None else f"{round(value, digits) + 0.0:{sign}.{digits}f}"  # 0.0 makes of -0.0 plain 0
