"""R-FCN on the shapes data: trained end to end and in the four steps of alternating training, and scored."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..base import __version__, log
from ..base.log import Part
from ..base.machine import PROJECT, asked
from ..base.names import solver_file
from ..base.table import percent, table
from ..data.proposals import redirected
from ..net.build import build
from ..proto.caffe_pb2 import TEST, NetParameter, SolverParameter
from ..proto.text import read_solver, to_text
from ..pycaffe.script import read_or_generate
from ..score import predict
from ..score.boxscore import BoxScoring
from ..train import proposals
from . import record
from .record import Record, Settings

NAME = "shapes-rfcn"
STEPS = ("rpn1", "rfcn1", "rpn2", "rfcn2")
WAYS: Mapping[str, Sequence[str]] = {"end to end": ("train",), "four steps": STEPS}
VARIANTS = {"k = 3": NAME, "k = 3, OHEM": f"{NAME}-ohem",
            "k = 1": f"{NAME}-k1", "k = 1, OHEM": f"{NAME}-k1-ohem"}


def net(name: str, split: str) -> NetParameter:
    """A net of models/rfcn.py."""
    return read_or_generate(f"{PROJECT / 'models/rfcn.py'}:{name}/{split}")


class Place:
    """Where the runs of a seed lie, and how they are made; those that are there are not made again."""

    def __init__(self, folder: Path, seed: int, settings: Settings, iterations: int | None = None) -> None:
        """iterations: of every stage, in place of the solvers'; rates fall in proportion."""
        self.folder, self.seed = folder / f"seed{seed}", seed
        self.settings, self.iterations = settings, iterations

    def stages(self, name: str, way: str) -> list[tuple[Path, SolverParameter]]:
        """The solvers of a way to train a net, the nets inside; other nets than NAME have NAME's settings."""
        found = []
        for split in WAYS[way]:
            ending = f"-{split}" * (len(WAYS[way]) > 1)
            path = solver_file(f"{NAME}{ending}")
            param = read_solver(path)
            param.random_seed, param.snapshot_prefix = self.seed, str(self.folder / f"{name}{ending}")
            if self.iterations:
                param.stepsize = max(1, param.stepsize * self.iterations // param.max_iter)
                param.max_iter = self.iterations
                param.snapshot = min(param.snapshot, param.max_iter)
            param.ClearField("train_net")
            param.train_net_param.CopyFrom(redirected(net(name, split), self.folder))
            if way == "end to end" and (self.iterations or name != NAME):  # the tests are of NAME's own net
                for field in ("test_net", "test_iter", "test_interval"):
                    param.ClearField(field)
            found.append((path, param))
        return found

    def trained(self, name: str, way: str) -> Path:
        """The weights of a net, trained as far as they are not there."""
        stages, settings = self.stages(name, way), self.settings
        self.folder.mkdir(parents=True, exist_ok=True)
        steps, done = [param.max_iter for _, param in stages], dict[str, str]()
        for number, (path, param) in enumerate(stages):
            carried = [*done.values()][-1:] or None
            if reader := proposals.wanted(param, path) if done else None:
                with closing(log.make(settings.quiet)) as said:
                    proposals.make(reader, [*done.values()][-1], settings.device or asked(param),
                                   settings.precision, said)
                carried = proposals.begins(param, done, None)
            before = Path(carried[0]) if carried else None
            param.ClearField("weights")
            mark = record.digest(f"{__version__} {settings.precision}", to_text(param), before,
                                 Path(reader.place) if reader else None)
            part = partial(Part, name=f"{name}, seed {self.seed}, {way}, stage {number + 1} of {len(stages)}",
                           before=sum(steps[:number]), total=sum(steps))
            weights, _ = record.trained(path, param, before, settings, mark, part=part)
            done[Path(param.snapshot_prefix).name] = str(weights)
        if len(stages) == 1:
            return weights
        whole = proposals.join(param, path, *[*done.values()][-2:])
        assert whole, "the last step keeps the layers that both have"
        return whole

    def scored(self, name: str, way: str, draw: Callable[[BoxScoring, Any], None] | None = None) -> Record:
        """The average precision on the held-out images, trained for if it is not there.

        draw: gets what was scored and the result, if it is scored now.
        """
        made, weights = build(net(name, "val"), TEST, base=PROJECT), self.trained(name, way)

        def measure() -> Record:
            scoring = BoxScoring(made)
            loaded, _ = predict.load(made, weights, self.settings.device, self.settings.precision)
            result = scoring.run(loaded)
            if draw:
                draw(scoring, result)
            return {"net": name, "way": way, **result.as_dict(), "weights": str(weights)}

        mark = record.digest(to_text(made.proto), weights, self.settings.precision)
        return record.recorded(self.folder / f"{name}, {way}.json".replace(", ", "-").replace(" ", "-"), mark,
                               measure, self.settings.device)


def measures(rows: Sequence[tuple[str, Record]]) -> str:
    """A line for each record, in percent: the mean over classes by both measures, then each class."""
    names = [each["name"] for each in rows[0][1]["classes"]]
    numbers = [[found["map"], found["map_11_point"], *(each["ap"] for each in found["classes"])]
               for _, found in rows]
    cells = [[each if each is None else percent(each) for each in row] for row in numbers]
    return table([[label, *row] for (label, _), row in zip(rows, cells, strict=True)],
                 ["", "AP50", "11 points", *names])


def study(places: Sequence[Place], tell: Callable[[str], None]) -> str:
    """The table of VARIANTS over seeds, and what they differ by."""
    found: dict[str, list[float]] = {}
    for place in places:
        for label, name in VARIANTS.items():
            found.setdefault(label, []).append(place.scored(name, "end to end")["map"])
            tell(f"{label}, seed {place.seed}: AP50 {percent(found[label][-1])}")
    rows = [[label, *(percent(float(measure(each))) for measure in (np.mean, min, max))]
            for label, each in found.items()]
    lines = [table(rows, ["AP50", "mean", "least", "most"], markdown=True)]
    for first, second, says in (("k = 1", "k = 3", "in the paper k = 1 does not converge"),
                                ("k = 3, OHEM", "k = 3", "in the paper OHEM helps"),
                                ("k = 1, OHEM", "k = 1", "the paper has no figure")):
        apart = np.array(found[first]) - np.array(found[second])
        lines.append(f"- {first} less {second}: {100 * apart.mean():+.1f} ({100 * apart.min():+.1f} to "
                     f"{100 * apart.max():+.1f} over {len(apart)} seeds); {says}")
    return "\n\n".join([lines[0], "\n".join(lines[1:])])
