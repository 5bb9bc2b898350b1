"""Many images by several processes of this machine, each with a net of its own."""

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from ..base.errors import Error
from ..base.machine import choose
from ..base.processes import begin, order
from .archive import Job, Row, stamp

Image = tuple[str, str]  # its name, and where it is
CURE = "where memory ran out, fewer --jobs or --tile auto take less"


@dataclass
class _Member:
    """A process, and the image that it has; `open` once its net is."""

    process: BaseProcess
    device: str
    image: Image | None = None
    open: bool = False


def devices(job: Job, many: int | None) -> list[str]:
    """The device of each of `many` processes; None: one for each GPU, where the job's is no certain one.

    GPUs are dealt out. Without several of them, and of no number, there is none: this process computes.
    """
    found = choose(job.device, job.precision)
    gpus = torch.cuda.device_count() if found.type == "cuda" and found.index is None else 0
    each = [f"cuda:{n}" for n in range(gpus)] or [str(found)]
    return [each[n % len(each)] for n in range(many or (gpus if gpus > 1 else 0))]


def shared(job: Job, images: Iterable[Image], places: Sequence[str], say: Callable[[str], object]
           ) -> Iterator[Row]:
    """The rows of images, as processes compute them, one on each device of `places`; in no certain order.

    A process has one image at a time. One that dies (killed, or out of memory) costs that image: it is given
    to another process, once. say: is told of the weights what a person should know. Raises Error where a
    process dies before it holds the net, and what Worker raises.
    """
    crew = _Crew(job, iter(images), max(1, torch.get_num_threads() // len(places)), say)
    try:
        for device in places:
            crew.start(device)
        while crew.members:
            for line in wait([*crew.members]):
                assert isinstance(line, Connection)
                if row := crew.hear(line):
                    yield row
    finally:
        for member in crew.members.values():
            member.process.kill()
            member.process.join()


class _Crew:
    """The processes, each by the line to it, and the images that they are given."""

    def __init__(self, job: Job, images: Iterator[Image], threads: int, say: Callable[[str], object]) -> None:
        self.job, self.images, self.threads, self.say = job, images, threads, say
        self.members = dict[Connection, _Member]()
        self.again, self.tried = deque[Image](), set[Image]()

    def start(self, device: str) -> None:
        """Start a process. It is deaf to Ctrl-C, which a terminal sends to all."""
        spawn = multiprocessing.get_context("spawn")
        mine, its = spawn.Pipe()
        process = spawn.Process(target=begin, args=(its,), daemon=True)
        with _deaf():
            process.start()
        its.close()
        with suppress(OSError):  # it is dead, which is heard
            order(mine, _serve, replace(self.job, device=device), self.threads)
        self.members[mine] = _Member(process, device)

    def hear(self, line: Connection) -> Row | None:
        """What a process says, a row or that it holds the net, after which it gets another image; or that it
        is dead. Raises what it raised."""
        member = self.members[line]
        try:
            told = line.recv()
        except (EOFError, OSError):
            del self.members[line]
            row = self.dead(member)
            self.start(member.device)
            return row
        if isinstance(told, Exception):
            raise told
        if not member.open:
            while told:
                self.say(told.pop())
            self.say, member.open = _nothing, True  # it is the same of all
        image = member.image
        member.image = self.again.popleft() if self.again else next(self.images, None)
        with suppress(OSError):  # it died since, which is heard next
            line.send(member.image)
        if member.image is None:
            del self.members[line]
            member.process.join()
        return told if image else None

    def dead(self, member: _Member) -> Row | None:
        """What comes of the image of a process that died: it is tried again, or has a row. Error where there
        is none."""
        member.process.join()
        code = member.process.exitcode or 0
        by = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        if member.image is None:
            raise Error(f"a process that was to hold the net ended {by}; {CURE}")
        if member.image not in self.tried:
            self.tried.add(member.image)
            self.again.append(member.image)
            return None
        name, path = member.image
        return {"image": name, **stamp(path),
                "error": f"image {path}: a process that computed it ended {by}, twice; {CURE}"}


def _nothing(text: str) -> None:
    pass


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started within hears no SIGINT, from its first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(job: Job, threads: int, line: Connection) -> None:
    """A process: says what is to be said of the weights, then a row for each image, until there is none."""
    torch.set_num_threads(threads)
    try:
        worker = job.open()
        line.send(worker.remarks)
        while image := line.recv():
            line.send(worker(*image))
    except (Error, OSError) as error:
        with suppress(OSError):
            line.send(error)
