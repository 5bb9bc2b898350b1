"""What is measured here of the papers' nets, a record each: scores, of the released nets too, and times."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from ..base.errors import Error
from ..base.machine import choose
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..proto.caffe_pb2 import TEST
from ..proto.text import read_net, read_solver
from ..train.jobs import deploy_file, solver_file
from . import published, record
from .record import Record, Settings
from .timing import seconds

SIZE, REPEATS, WARM = 500, 20, 3  # of a timing: pixels along a side, passes, passes before


def record_file(net: str, kind: str, settings: Settings) -> Path:
    """Where the record of a net's scores, released scores or time is."""
    return settings.results / f"{net}.{kind}.json"


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
    path = record.test_net(solver, read_solver(solver))
    made = build(record.relocated(read_net(path), settings.data), TEST, path=path)
    tops = [top.blob for node in made.sources for top in node.tops]
    heads = [("score_sem", "sem"), ("score_geo", "geo")] if "sem" in tops else record.BLOBS
    return record.scored(record_file(net, kind, settings), made, weights, settings, blobs=heads)


def timed(net: str, settings: Settings) -> Record:
    """The record of a forward pass over SIZE x SIZE pixels: median, least and most of REPEATS, in ms."""
    path = deploy_file(net)

    def measure() -> Record:
        place = choose(settings.device, settings.precision)
        run = Net(deploy(path, size=(SIZE, SIZE), losses=True)).to(place).eval()
        inputs = {blob: torch.randn(*run.graph.shape(blob), device=place) * 50 for blob in run.graph.inputs}
        with torch.inference_mode():  # the sum waits for a GPU
            spent = seconds(lambda: next(iter(run(inputs).values())).sum().item(), WARM + REPEATS)[WARM:]
        median, least, most = (1000 * f(spent) for f in (statistics.median, min, max))
        return {"net": net, "milliseconds": median, "least": least, "most": most, "runs": REPEATS}

    mark = record.digest(path, f"{settings.precision} {settings.device}")
    return record.recorded(record_file(net, "time", settings), mark, measure, settings.device)


def released_file(net: str, settings: Settings) -> Path | None:
    """The release's weights of a net, if they are there."""
    if settings.released is None or net not in published.RELEASED_FILES:
        return None
    path = settings.released / f"{published.RELEASED_FILES[net]}.caffemodel"
    return path if path.exists() else None


def verified(settings: Settings) -> Iterator[tuple[str, Record]]:
    """The nets of published.VERIFIED, a record each, as released; Error names every file that is missing."""
    lacking = [f"{published.RELEASED_FILES[net]}.caffemodel" for net in published.VERIFIED
               if not released_file(net, settings)]
    if lacking:
        raise Error(f"{settings.released} lacks {', '.join(lacking)}; the FCN release has them at "
                    f"{published.RELEASED_FROM}NAME, --weights-root says where yours are")
    for net in published.VERIFIED:
        try:
            yield net, measure(net, "released", settings)
        except Error as e:
            raise Error(f"{net}: {e} (seg11valid is VOC2011's val without SBD's train, see docs/voc.md; "
                        "--data says where they are)") from None
