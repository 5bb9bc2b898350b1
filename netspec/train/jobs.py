"""The nets that a solver file names, each with the phase, level and stages that it is built in."""

import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..base.asked import asked
from ..base.errors import Error
from ..base.files import find
from ..data import zoo
from ..net.build import build
from ..net.graph import Graph
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState, Phase, SolverParameter
from ..proto.text import SOLVER, read_net, read_solver, read_text
from . import snapshot

TRAIN_FIELDS = ("net", "train_net", "net_param", "train_net_param")


class Job(NamedTuple):
    """One net of a solver: the field that names it, what is in that field, and its own NetState."""

    phase: "Phase"  # quoted: an enum's type is no class, which Python 3.10 asks for
    field: str
    net: str | NetParameter  # str: a path
    state: NetState

    @property
    def said(self) -> str:
        """How Caffe's log names where the net comes from."""
        return f"{self.field} file: {self.net}" if isinstance(self.net, str) else self.field

    def opened(self, base: Path | None = None) -> "OpenedNet":
        """The net read; its path is tried from the current folder, then from `base` upwards.

        The solver's state for the net overrides what the net states itself, which overrides the phase.
        """
        path, net, where = None, self.net, self.field
        if isinstance(net, str):
            path = find(net, base, "net")
            net, where, base = read_net(path), str(path), path.resolve().parent
        state = NetState(phase=self.phase)
        state.MergeFrom(net.state)
        state.MergeFrom(self.state)
        return OpenedNet(net, state, where, path, base)

    def graph(self, base: Path | None = None) -> Graph:
        """The graph of the net, as `opened` finds it."""
        return self.opened(base).graph()


class OpenedNet(NamedTuple):
    """A net and the state that it is built in. where: its file, or the field of the solver that holds it."""

    net: NetParameter
    state: NetState
    where: str
    path: Path | None
    base: Path | None  # where relative paths start

    def graph(self) -> Graph:
        return build(self.net, self.state.phase, level=self.state.level, stages=self.state.stage,
                     base=self.base, path=self.path)


def jobs(param: SolverParameter, where: str = "solver") -> tuple[Job, list[Job]]:
    """The train net and the test nets of a SolverParameter; Error if their numbers do not go together."""
    named = [field for field in TRAIN_FIELDS if param.HasField(field)]
    if len(named) != 1:
        raise Error(f"{where}: must name one train net, by {', '.join(TRAIN_FIELDS[:-1])} or "
                    f"{TRAIN_FIELDS[-1]}, found {', '.join(named) or 'none'}")
    tests: list[tuple[str, str | NetParameter]] = [("test_net_param", net) for net in param.test_net_param]
    tests += [("test_net", net) for net in param.test_net]
    shared = [(field, getattr(param, field)) for field in ("net", "net_param") if param.HasField(field)]
    tests += shared * (len(param.test_iter) - len(tests))
    if len(param.test_iter) != len(tests):
        raise Error(f"{where}: has {len(param.test_iter)} test_iter for {len(tests)} test nets")
    if tests and param.test_interval <= 0:
        raise Error(f"{where}: has a test net but no test_interval above 0")
    if len(param.test_state) not in (0, len(tests)):
        raise Error(f"{where}: has {len(param.test_state)} test_state for {len(tests)} test nets")
    states = list(param.test_state) or [NetState()] * len(tests)
    train = Job(TRAIN, named[0], getattr(param, named[0]), _asked(param.train_state))
    return train, [Job(TEST, *test, state) for test, state in zip(tests, states, strict=True)]


def of_file(path: Path) -> tuple[list[Job], SolverParameter | None]:
    """The nets of the solver in a file, that to train first, and the solver; or the net in it, to train."""
    if not SOLVER.search(read_text(path)):
        return [Job(TEST if asked.phase else TRAIN, "net", str(path), _asked(NetState()))], None
    param = read_solver(path)
    train, tests = jobs(param, str(path))
    return [train, *tests], param


def _asked(own: NetState) -> NetState:
    """A state with the level and the stages that the command line asks for."""
    state = NetState(stage=[*own.stage, *asked.stages])
    if own.HasField("level"):
        state.level = own.level
    if own.HasField("phase"):
        state.phase = own.phase
    if asked.level is not None:
        state.level = asked.level
    return state


def files(param: SolverParameter, path: Path) -> list[Path]:
    """The files of the nets that the solver in `path` names, that of its train net first."""
    train, tests = jobs(param, str(path))
    names = dict.fromkeys(job.net for job in (train, *tests) if isinstance(job.net, str))
    return [find(name, path.resolve().parent, "net") for name in names]


def check(param: SolverParameter, path: Path, weights: Iterable[str]) -> None:
    """Error if a net that the solver in `path` names cannot be built, or weights are not there."""
    train, tests = jobs(param, str(path))
    for job in (train, *tests):
        job.graph(path.resolve().parent)
    for name in weights_names(weights):
        weights_file(name, path)


def weights_names(given: Iterable[str]) -> list[str]:
    """The files that `weights`, or --weights, lists: several in one stand between commas."""
    return [name.strip() for name in ",".join(given).split(",") if name.strip()]


def weights_file(name: str, path: Path | None) -> Path:
    """The weights file that a solver names, or --weights for it. path: the solver's file, if it is in one.

    Raises Error if it is not there, with the stage that makes it, by its snapshot_prefix.
    """
    base = path and path.resolve().parent
    try:
        return zoo.found(name, base)
    except Error as error:
        stem = Path(name).name.partition(".")[0]
        get = f" ('netspec weights get {stem}')" if stem != name and zoo.is_published(stem) else ""
        cure = f"the comment at the top of the solver says how to get them{get}, --weights names others"
        stages = _makers(name, [path]) if path else []
        if len(stages) > 1:
            cure = (f"{stages[-2]} makes it, and stages go on from each other: "
                    f"{shlex.join(['netspec', 'solve', *map(str, stages)])}")
        raise Error(f"{path or 'solver'}: {error}; {cure}") from None


def _makers(name: str, stages: list[Path]) -> list[Path]:
    """`stages` after those that make a weights file that is not there, of solvers in the same folder."""
    for file in sorted(stages[0].parent.glob("*.prototxt")):
        with suppress(Error):
            param = read_solver(file) if file not in stages and SOLVER.search(read_text(file)) else None
            if param and snapshot.prefix_of(name) == Path(snapshot.prefixed(param, file, "")).name:
                lacking = [each for each in weights_names(param.weights) if not Path(each).exists()]
                return _makers(next(iter(lacking), ""), [file, *stages])
    return stages
