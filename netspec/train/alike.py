"""What the ranks of a run must have alike, held together by checksums before the first step."""

import zlib
from collections.abc import Iterable, Sized

import numpy as np
import torch
from google.protobuf.message import Message

from ..base import __version__
from ..base.errors import Error
from ..base.machine import PACKAGE
from ..ops.source import Source
from ..proto.wire import floats
from .solver import Solver


def check_shared(solver: Solver) -> None:
    """Refuse what several ranks cannot do, or have not alike, and say how what they share is meant."""
    ranks, net = solver.ranks, solver.net.graph
    if ranks.size == 1:
        return
    if solver.skips.most:
        raise Error("--skip-bad puts the next batch in the place of one that cannot be read, and several "
                    "processes cannot agree on it; mend the data, or train in one process")
    if solver.param.debug_info:
        raise solver.error("debug_info runs each layer by itself, which several processes do not; leave it "
                           "out, or train in one process")
    if not net.readers:
        raise solver.error("the train net reads no data, so there is nothing that processes could share")
    ranks.same(facts(solver))
    solver.log("netspec", f"{ranks.size} processes, each with one batch in {ranks.size}: an iteration sees "
               f"what one process sees with iter_size {ranks.size * solver.param.iter_size}")


def facts(solver: Solver) -> dict[str, str]:
    """What must be alike, by name: checksums, and versions."""
    graphs = [net.graph for net in (solver.net, *solver.test_nets)]
    learned = [*solver.net.parameters(), *solver.history]
    return {
        "versions": f"netspec {__version__}, torch {torch.__version__}, numpy {np.__version__}",
        "code": _crc(file.read_bytes() for file in sorted(PACKAGE.rglob("*.py"))),
        "options": f"{solver.precision} {solver.iter} {solver.data.seed}",
        "solvers": _crc([_bytes(solver.param)]),
        "nets": _crc(_bytes(graph.proto) for graph in graphs),
        "weights or histories": _crc(bytes(floats(blob).data) for blob in learned),
        "data": _crc(each for graph in graphs for source in graph.readers for each in _data(source)),
    }


def _data(source: Source) -> Iterable[bytes]:
    """Of a source its first batch, and if it has a list the names in it."""
    if source.fed:
        return
    yield from (array.tobytes() for array in source.load(0))
    for position in range(-(-len(source) // source.batch_size)) if isinstance(source, Sized) else ():
        yield repr(source.image_names(position)).encode()


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _crc(parts: Iterable[bytes]) -> str:
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"
