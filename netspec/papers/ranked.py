"""How fast several processes train beside one with as many threads, and what being one of them costs."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from ..base import log
from ..base.errors import Error, count, one_line
from ..base.machine import cores
from ..base.table import table
from ..proto.text import read_solver
from ..train.ranks import joined
from ..train.solver import Solver
from .measure import child, ratios, rounds, spread
from .steps import bare

ALONE, FIRST = "one process", "one rank"


def time_ranks(path: Path, size: tuple[int, int] | None, ranks: int, repeats: int) -> str:
    """Images/s of a solver's training by so many ranks, by one, and by one process that no launcher started.

    An iteration is the mean gradient of `ranks` images, made as `steps.bare` makes them, one after the other
    in one process. Ranks meet by gloo, and have the cores shared out among them; one process has a thread on
    each. All take turns. Raises Error for more ranks than cores.
    """
    if not 1 < ranks <= cores():
        raise Error(f"--ranks must lie between 2 and the {count(cores(), 'core')} of this machine, "
                    f"found {ranks}")
    bare(path, size)  # its mistakes are told here
    several = f"{ranks} ranks"
    with ExitStack() as stack:
        turns = {name: stack.enter_context(_group(path, size, members, ranks))
                 for name, members in ((ALONE, 0), (FIRST, 1), (several, ranks))}
        spent = rounds(turns, repeats)
    rows = [[name, *spread([ranks / s for s in each], 3),
             *ratios([1 / s for s in each], [1 / s for s in spent[ALONE]])] for name, each in spent.items()]
    threads = {name: count(cores() // of, "thread") for name, of in ((FIRST, 1), (several, ranks))}
    return "\n".join([
        one_line(f"{read_solver(path).net or path.stem}, training, {count(ranks, 'image')} an iteration, "
                 f"{count(repeats, 'round')} after one to warm up"),
        table(rows, ["", "images/s", "least", "most", "ratio", "least", "most"]),
        f"ratio: to {ALONE}, of one round each; {ALONE} and {FIRST}: {threads[FIRST]}, iter_size {ranks}; "
        f"{several}: {threads[several]} each, by gloo"])


@contextmanager
def _group(path: Path, size: tuple[int, int] | None, ranks: int, images: int) -> Iterator[Callable[[], None]]:
    """An iteration, as a call, of some ranks (0: of a process that is none) over so many images together."""
    members = max(1, ranks)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    meeting = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ExitStack() as stack:
        asked = [stack.enter_context(child(
            _steps, path, size, images // members, OMP_NUM_THREADS=str(cores() // members),
            **(meeting | {"RANK": str(number)} if ranks else {}))) for number in range(members)]

        def turn() -> None:
            for each in asked:
                each.send(True)
            for each in asked:
                each.recv()

        yield turn
        for each in asked:  # all, before one is waited for: none leaves before the others
            each.send(False)


def _steps(asked: Connection, path: Path, size: tuple[int, int] | None, iter_size: int) -> None:
    """An iteration each time that one is asked for."""
    asked.send(None)  # before it meets the others, which are not there yet
    param, quiet = bare(path, size), log.Log(quiet=True)
    param.iter_size = iter_size
    with joined() as ranks, closing(Solver(param, path=path, log=quiet, ranks=ranks)) as solver, \
            suppress(EOFError):
        while asked.recv():
            solver.step()
            asked.send(True)
