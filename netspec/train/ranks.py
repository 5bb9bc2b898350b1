"""The processes of one training, each with its share of the positions: how they meet, agree and part.

What torchrun calls a rank is one of them; torch.distributed does the arithmetic between them, by gloo between
CPUs and for numbers of the host, by NCCL between GPUs. A process that no launcher started is alone.
"""

import atexit
import io
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..base.errors import Error, Interrupted, Told, listed
from ..net.module import Net

BEAT = 0.5  # seconds between two signs of life
SILENT = 3.0  # seconds without one after which a rank is gone
PATIENCE = 600.0  # seconds that ranks wait for each other, if nobody says otherwise
MOST_PORT = 65535
LAST = "netspec/last"  # the key of the last snapshot, in a store that outlives restarts


class Ranks:
    """Process number `rank` of `size`, `local` on its machine; alone it does nothing of all this.

    launched: by torchrun or its like."""

    rank, size, local = 0, 1, 0
    launched = lost = _hosting = False
    doing = ""  # what this rank does that others wait for
    _store: dist.Store | None = None
    _life: dist.Store | None = None
    _end: threading.Event | None = None

    # -- arithmetic ------------------------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether nobody is to be asked: there is one rank, or the others are gone."""
        return self.size == 1 or self.lost or not dist.is_initialized()

    def gather(self, *arrays: Any) -> list[list[np.ndarray]]:
        """Arrays, numbers or texts of every rank, in their order; their number and shapes may differ."""
        if self.alone:
            return [[*map(np.asarray, arrays)]]
        file = io.BytesIO()
        np.savez(file, *arrays)
        mine = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(mine)]))
        parts = [torch.zeros(int(max(sizes)), dtype=torch.uint8) for _ in sizes]
        dist.all_gather(parts, nn.functional.pad(mine, (0, len(parts[0]) - len(mine))))
        found = [np.load(io.BytesIO(part[: int(size)].numpy().tobytes()), allow_pickle=False)
                 for part, size in zip(parts, sizes, strict=True)]
        return [[each[name] for name in each.files] for each in found]

    def most(self, *numbers: int) -> list[int]:
        """The most of each number that any rank has; whoever comes first waits for all."""
        self.doing = ""
        if self.alone:
            return [*numbers]
        found = torch.tensor(numbers)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.tolist()

    def mean_(self, *tensors: Tensor) -> None:
        """Make tensors of one device the mean over all ranks, in place."""
        if self.alone:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        with torch.no_grad():
            for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(mean.view(tensor.shape))

    def parallel(self, net: Net, run: "Pass") -> "Parallel | None":
        """`run` of a net so that the last backward pass of an iteration leaves the mean gradients; None for
        one rank."""
        if self.size == 1:
            return None
        reached = {slot.key for node in net.graph.under_loss() for slot in node.params}
        unused = any(p.requires_grad and slot.key not in reached for slot, p in net.parameters_by_slot())
        return Parallel(_Learning(net, run), init_sync=False, gradient_as_bucket_view=True,
                        find_unused_parameters=unused)

    def sow(self, device: torch.device, *numbers: int) -> None:
        """Let the random numbers that follow be those of these numbers, so that any number of ranks draw the
        same for a batch. Without a launcher they follow from each other."""
        if not self.launched:
            return
        seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def device(self, given: str | None, asked: str) -> str:
        """The device of this rank: the GPUs of a machine are dealt out. given: by a person, or None; asked:
        by a solver."""
        name = given or asked.replace("cuda:0", "cuda")
        if self.size > 1 and (name == "mps" or name.startswith("cuda:")):
            raise Error(f"device {name} is one GPU, and each of {self.size} processes needs one; "
                        "give --device cuda, or --device cpu")
        return f"cuda:{self.local}" if self.size > 1 and name == "cuda" else given or asked

    # -- failures --------------------------------------------------------------------------------------------

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block whose end by an exception is the end of all ranks, told by one of them.

        Raises the exception where this rank is the first that has one, and Told where another says it. A
        rank that is gone, or does not come within the time, is an Error that names it.
        """
        try:
            yield
        except (Interrupted, KeyboardInterrupt, Told):
            self._part()
            raise
        except Exception as problem:
            if self.size == 1:
                raise
            if _of_connections(problem):
                self.lost = True
                self._say("lost", "1")
                atexit.register(_end)
                raise self._cause(problem) from None
            self._say("end", "1")
            self._part()
            if self._first_to_end():
                raise
            raise Told from None

    def _say(self, what: str, text: str) -> None:
        with suppress(RuntimeError):
            if self._life is not None:
                self._life.set(f"{what}/{self.rank}", text)

    def _hear(self, what: str, rank: int) -> str:
        """What a rank said; "" for nothing yet. Raises RuntimeError where the store is gone."""
        assert self._life is not None
        key = f"{what}/{rank}"
        return self._life.get(key).decode() if self._life.check([key]) else ""

    def _first_to_end(self) -> bool:
        """Whether no rank before this one ends by an exception of its own, given some seconds to say so."""
        before, until = range(self.rank), time.monotonic() + 2 * SILENT
        with suppress(RuntimeError):
            while time.monotonic() < until and not all(self._hear("lost", rank) for rank in before):
                if any(self._hear("end", rank) for rank in before):
                    return False
                time.sleep(0.1)
        return True

    def _cause(self, problem: Exception) -> Exception:
        """Why the others cannot be reached: an Error at the first rank that lives, Told at the others, and
        where a rank has said it."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        try:
            before, until = dict[int, str](), time.monotonic() + SILENT
            while others and time.monotonic() < until:
                if any(self._hear("end", rank) for rank in others):
                    return Told()
                before = before or {rank: self._hear("beat", rank) for rank in others}
                time.sleep(BEAT)
            beats = {rank: self._hear("beat", rank) for rank in others}
        except RuntimeError:
            return Error(f"rank 0 of {self.size} is gone ({_short(problem)}); {CURE}")
        gone = [rank for rank in others if beats[rank].split(" ")[0] == before[rank].split(" ")[0]]
        busy = {rank: beats[rank].partition(" ")[2] for rank in others if rank not in gone}
        busy = {rank: doing for rank, doing in busy.items() if doing}
        if any(rank not in gone and rank not in busy for rank in range(self.rank)):
            return Told()
        if gone:
            names = listed(map(str, gone))
            return Error(f"rank {names} of {self.size} is gone: killed, or hanging; {CURE}")
        told = listed(f"rank {rank} is still {doing}" for rank, doing in busy.items())
        return Error(f"{told or 'the ranks do not come together'} ({_short(problem)}); {CURE}")

    def _part(self) -> None:
        """Close the connections, so that whoever waits for this rank hears of it."""
        if dist.is_initialized() and not self.lost:
            with suppress(RuntimeError):
                dist.destroy_process_group()

    def _leave(self) -> None:
        """Close what is open. What hosts the store stays until the others have left, or for some seconds."""
        self._part()
        self._say("left", "1")
        if self._hosting and self._life is not None:
            with suppress(RuntimeError):
                self._life.wait([f"left/{rank}" for rank in range(self.size)], timedelta(seconds=2 * SILENT))
        if self._end:
            self._end.set()

    # -- from the beginning to the end -----------------------------------------------------------------------

    def remember(self, snapshot: Path) -> None:
        """The last snapshot of this job, for the ranks that torchrun may start in the place of these."""
        if self._store is not None and self.rank == 0:
            with suppress(RuntimeError):
                self._store.set(LAST, str(snapshot.absolute()))

    def remembered(self) -> str | None:
        """What `remember` was told before a restart."""
        if self._store is None or not self._store.check([LAST]):
            return None
        return self._store.get(LAST).decode()

    def same(self, facts: Mapping[str, str]) -> None:
        """Error where a rank has other facts than rank 0: their names are said."""
        first, *others = ([*map(str, each)] for each in self.gather(*facts.values()))
        for rank, each in enumerate(others, 1):
            apart = [name for name, a, b in zip(facts, first, each, strict=True) if a != b]
            if apart:
                raise Error(f"rank {rank} has other {listed(apart)} than rank 0 (by checksums): give all the "
                            "same files and the same version of netspec")


Pass = Callable[[Mapping[str, Tensor], Sequence[str]], dict[str, Tensor]]
CURE = "the last snapshot is whole, and the same command with --snapshot goes on from it"
ALONE = Ranks()


class _Learning(nn.Module):
    """A net as DistributedDataParallel wants it: a module with its parameters, whose call runs it."""

    def __init__(self, net: nn.Module, run: "Pass") -> None:
        super().__init__()
        self.net, self.run = net, run

    def forward(self, inputs: Mapping[str, Tensor], want: Sequence[str]) -> dict[str, Tensor]:
        return self.run(inputs, want)


class Parallel(DistributedDataParallel):
    """A net whose gradients are reduced in buckets, while the backward pass goes on."""

    def pass_number(self, turn: int, turns: int) -> AbstractContextManager[Any]:
        """Around pass `turn` of the `turns` of an iteration: only the last one's gradients are reduced."""
        return nullcontext() if turn == turns - 1 else self.no_sync()


@contextmanager
def joined(patience: float = PATIENCE) -> Iterator[Ranks]:
    """The ranks among which torchrun started this process, or whatever else set RANK, WORLD_SIZE, MASTER_ADDR
    and MASTER_PORT; without those a process is alone. patience: seconds to wait for others, always.

    Raises Error for variables that say nothing, a port in use and ranks that do not come.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        yield ALONE
        return
    ranks = _met(timedelta(seconds=patience))
    try:
        with ranks.watched():
            yield ranks
            ranks.most(0)  # none leaves before all are done
    finally:
        ranks._leave()


def _met(patience: timedelta) -> Ranks:
    """This rank, when all have come."""
    def number(name: str, least: int, default: str = "") -> int:
        found = os.environ.get(name, default)
        if not found.isdecimal() or int(found) < least:
            raise Error(f"the environment's {name} must be a number from {least} on, found '{found}'; start "
                        "processes by torchrun, which sets it")
        return int(found)

    ranks, host = Ranks(), os.environ.get("MASTER_ADDR", "")
    ranks.launched = True
    ranks.rank, ranks.size = number("RANK", 0), number("WORLD_SIZE", 1)
    ranks.local, port = number("LOCAL_RANK", 0, "0"), number("MASTER_PORT", 1)
    if port > MOST_PORT:
        raise Error(f"the environment's MASTER_PORT must be a number from 1 to {MOST_PORT}, found {port}")
    if ranks.rank >= ranks.size:
        raise Error(f"RANK {ranks.rank} is none of WORLD_SIZE {ranks.size}, which count from 0")
    ranks._hosting = hosting = ranks.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if hosting:
        _check_free(port)
    try:
        ranks._store, life = (dist.TCPStore(host, port, None, hosting and first, patience, False, True)
                              for first in (True, False))
    except RuntimeError as problem:
        raise Error(f"rank 0 does not answer at {host}:{port} within {patience.total_seconds():g} s "
                    f"({_short(problem)})") from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    ranks._life = dist.PrefixStore(f"netspec/{attempt}", life)
    _await(ranks, patience)
    if ranks.size > 1:
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        store = dist.PrefixStore(f"netspec/{attempt}/group", ranks._store)
        dist.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=patience, store=store,
                                rank=ranks.rank, world_size=ranks.size)
        ranks._end = threading.Event()
        threading.Thread(target=_beat, args=(ranks, ranks._end), daemon=True).start()
    return ranks


def _check_free(port: int) -> None:
    try:
        socket.create_server(("", port)).close()
    except OSError as problem:
        raise Error(f"port {port} cannot be had ({os.strerror(problem.errno or 0)}); give another as "
                    "MASTER_PORT, or by torchrun --master-port") from None


def _await(ranks: Ranks, patience: timedelta) -> None:
    """Wait for all ranks. Error at the first that came where some did not, Told at the others."""
    assert ranks._life is not None
    ranks._say("here", "1")
    try:
        ranks._life.wait([f"here/{rank}" for rank in range(ranks.size)], patience)
    except RuntimeError:
        came = [rank for rank in range(ranks.size) if ranks._hear("here", rank)]
        if ranks.rank != came[0]:
            raise Told from None
        missing = listed(str(rank) for rank in range(ranks.size) if rank not in came)
        raise Error(f"rank {missing} of {ranks.size} has not come within {patience.total_seconds():g} s; "
                    "start it, or wait longer by --rank-timeout") from None


def _beat(ranks: Ranks, end: threading.Event) -> None:
    """Give signs of life, by a connection of its own, until the end."""
    number = 0
    while not end.wait(BEAT):
        number += 1
        ranks._say("beat", f"{number} {ranks.doing}")


def _end() -> None:
    """End this process at once: the library would wait for what the lost ranks never send."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(Told.status)


def _of_connections(problem: Exception) -> bool:
    """Whether an exception is of the connections between ranks."""
    if isinstance(problem, dist.DistError):
        return True
    words = "gloo", "NCCL", "process group"
    return isinstance(problem, RuntimeError) and any(word in str(problem) for word in words)


def _short(problem: Exception) -> str:
    """The first line of what a library says, without the place in its source."""
    return str(problem).splitlines()[0].rpartition("] ")[2][:200]
