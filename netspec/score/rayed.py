"""Many images by a pipeline of Ray Data, whose actors hold the net: on all cores, or on a cluster."""

import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..base.errors import Error, exhausted, lacking, one_line, said
from .archive import Job, Row, Worker, stamp
from .crew import CURE, Image

BLOCK = 8  # images of a task, which is what Ray repeats when an actor dies
RETRIES = 1  # times that Ray repeats a task of a dead actor
LOST = 16  # tasks lost among those of BLOCK images, after which the images are computed one by one
SECONDS = 5  # for a cluster to answer
TOKEN = ".ray-"  # begins the name of a file by which an actor knows the run's folder
SHARED = "net, weights, images and --out must lie on a disk that all nodes share, under the same paths"


def library() -> Any:
    """ray, with ray.data, silent and telling nobody of its use; Error where it is not there."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of what is written in C++, see _hushed
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # what a cluster tells, on standard output
    os.environ.setdefault("RAY_gcs_rpc_server_connect_timeout_s", str(SECONDS))
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        with _hushed():
            import ray
            import ray.data
            context = ray.data.DataContext.get_current()
    except ImportError:
        raise Error(lacking("--ray", "ray[data]")) from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a video takes what it takes
    context.target_max_block_size = None  # results come image by image, not when a task ends
    return ray


@contextmanager
def _hushed() -> Iterator[None]:
    """Within, nobody is warned, and standard error gets nothing, not even C++'s line on how silent it is."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        with warnings.catch_warnings():  # its action= is younger than Python 3.10
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def shared(job: Job, images: Iterable[Image], facts: Row, address: str, many: int | None,
           say: Callable[[str], object], stop: Callable[[], bool]) -> Iterator[Row]:
    """The rows of images, as actors compute them; in no certain order, each image once.

    facts: Job.facts, which each actor holds its own against. address: of a cluster, see `connected`. many:
    actors (None: one for each GPU, where the job computes on them, else for each CPU core). say: is told of
    the weights what a person should know. stop: says whether to end, with the images that actors are at.
    Ray starts an actor that died anew, and repeats its task. What is lost again is computed once more, an
    image a task; an image that is lost then too has an error. Raises Error where there is no Ray, no cluster,
    no process that lives to hold the net, and a GPU's number, and what Worker raises, as Error.
    """
    if ":" in (job.device or ""):
        raise Error(f"--ray deals GPUs out and takes no certain one, as --device {job.device} is; give "
                    "--device cuda")
    left = dict(images)
    if not left:
        return
    with connected(address) as ray, _token(job.out) as token:
        share = _share(ray.nodes(), facts["device"] == "cuda", many)
        here = ray.get_runtime_context().get_node_id()
        made = _Made(replace(job, device=facts["device"]), facts, os.getcwd(), token, share.threads, here)
        run = _Run(ray, made, left, say, stop)
        for size in (BLOCK, 1):
            if left and not stop():
                yield from run.rows(share, size)
    if not stop():
        for name, path in left.items():
            yield {"image": name, **stamp(path), "error": f"image {path}: a process that computed it ended, "
                                                          f"{2 * (1 + RETRIES)} times; {CURE}"}


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """ray within a cluster, which is left in the end.

    address: HOST:PORT of its head, or "auto" on one of its nodes; empty: what RAY_ADDRESS says, else one that
    is started on this machine, with all its cores, and ends. Raises Error where none answers.
    """
    ray = library()
    address = address or os.environ.get("RAY_ADDRESS", "") or "local"
    if address != "local" and (head := _last_started() if address == "auto" else address):
        _reach(head)
    mine = {"include_dashboard": False} if address == "local" else {}
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with _hushed():
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL,
                     **mine)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise Error(f"--ray {address}: {_none(address)}; one that asks for a token wants RAY_AUTH_MODE=token "
                    f"({one_line(str(error))[:200]})") from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray's would end this process at once
    try:
        yield ray
    finally:
        ray.shutdown()


def _last_started() -> str | None:
    """The head of the cluster that this machine is said to be of, long after it may have ended: Ray itself
    would wait for it for minutes."""
    with suppress(ImportError):  # a name of Ray's own, which another version may not have
        from ray._private.utils import read_ray_address

        found: str | None = read_ray_address()
        return found
    return None


def _reach(address: str) -> None:
    """Error where nothing listens."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise Error(f"--ray {address}: {_none(address)} ({one_line(str(error))})") from None


def _none(address: str) -> str:
    return ("no Ray could be started on this machine" if address == "local" else
            "no Ray cluster answers; give HOST:PORT of its head (6379 is the usual port) or auto, on one of "
            "its nodes, or no address for the cores of this machine")


@contextmanager
def _token(out: str) -> Iterator[str]:
    """The name of a file in the folder of results while the run goes on."""
    for old in Path(out).glob(f"{TOKEN}*"):  # of a run that was killed: there is one at a time
        old.unlink(missing_ok=True)
    path = Path(out, TOKEN + secrets.token_hex(8))
    path.touch()
    try:
        yield path.name
    finally:
        with suppress(OSError):
            path.unlink()


@dataclass(frozen=True)
class _Share:
    """How many actors there are, and what each has of its node."""

    actors: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))


def _share(nodes: Iterable[Row], cuda: bool, many: int | None) -> _Share:
    """Shares with which so many actors fit on the nodes that are alive: as many whole cores as they can have,
    and of GPUs one, or a part if there are more actors. Raises Error where they don't fit."""
    found = [node["Resources"] for node in nodes if node["Alive"]]
    cores = [int(each.get("CPU", 0)) for each in found]
    cards = [int(each.get("GPU", 0)) for each in found] if cuda else []
    if cuda and not sum(cards):
        raise Error("the cluster that --ray found has no GPU; --device cpu computes without")
    many = many or sum(cards) or sum(cores)
    fits = [n for n in range(1, max(cores, default=0) + 1) if sum(each // n for each in cores) >= many]
    if not many or not fits:
        raise Error(f"the cluster that --ray found has {sum(cores)} CPU cores, fewer than --jobs {many}")
    return _Share(many, fits[-1], 1 / -(-many // sum(cards)) if cuda else 0)


@dataclass(frozen=True)
class _Made:
    """What makes an actor; see `Actor`."""

    job: Job
    facts: Row
    folder: str
    token: str
    threads: int
    home: str


class Actor:
    """What an actor of Ray calls with a batch of images: opens the job first, and gives their rows as JSON.

    In place of rows it may tell what was `raised`, a sentence; of the weights `remarks`; and that it has
    `ended`, since the run's file is gone.
    """

    def __init__(self, made: _Made) -> None:
        self.made, self.name = made, secrets.token_hex(8)
        self.worker: Worker | None = None  # opened later, where what it says becomes a row

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        told: list[Row] = []
        try:
            if self.worker is None:
                self.worker = self._open()
                told.append({"remarks": self.worker.remarks})
            told += [self.worker(*json.loads(image)) if self._goes_on() else {"ended": self.name}
                     for image in batch["image"]]
        except Error as error:
            told.append({"raised": str(error), "ended": self.name})
        except OSError as error:
            told.append({"raised": said(error) if error.filename else str(error), "ended": self.name})
        except (MemoryError, RuntimeError) as error:
            told.append({"raised": exhausted(error), "ended": self.name})
        return {"row": [json.dumps(each) for each in told]}

    def _goes_on(self) -> bool:
        return os.path.exists(os.path.join(self.made.job.out, self.made.token))

    def _open(self) -> Worker:
        import ray

        made, home = self.made, ray.get_runtime_context().get_node_id() == self.made.home
        torch.set_num_threads(made.threads)
        try:
            try:
                os.chdir(made.folder)
            except OSError as error:
                raise Error(f"{said(error)}; {SHARED}") from None
            if not self._goes_on():
                raise Error(f"{made.job.out} is another folder than where the run was started; {SHARED}")
            facts = made.job.facts()
            if others := [key for key in facts if facts[key] != made.facts[key]]:
                raise Error(f"other {', '.join(others)} than where the run was started; {SHARED}, and the "
                            "same netspec and torch must be installed")
            return made.job.open()
        except Error as error:
            raise error if home else Error(f"node {socket.gethostname()}: {error}") from None


@dataclass
class _Run:
    """A run over the images that are left, which become fewer."""

    ray: Any
    made: _Made
    left: dict[str, str]
    say: Callable[[str], object]
    stop: Callable[[], bool]

    def rows(self, share: _Share, size: int) -> Iterator[Row]:
        """The rows from one pipeline with tasks of so many images, but for those of tasks that are lost."""
        began, share = len(self.left), replace(share, actors=min(share.actors, len(self.left)))
        ended = set[str]()
        try:
            for told in self._told(share, size):
                if "image" not in told:
                    self._hear(told, ended)
                elif self.left.pop(told["image"], None) is not None:  # else it was repeated
                    yield told
                if self.stop():
                    Path(self.made.job.out, self.made.token).unlink(missing_ok=True)  # which the actors see
                    if len(ended) == share.actors:
                        return
        except self.ray.exceptions.RayError as error:
            if size == 1 or len(self.left) == began:
                raise Error(f"Ray gave up, after actors ended again and again or the cluster did; {CURE} "
                            f"({one_line(str(error))[:200]}); the same command goes on") from None

    def _hear(self, told: Row, ended: set[str]) -> None:
        if "ended" in told:
            ended.add(told["ended"])
        if "raised" in told and not self.stop():
            raise Error(told["raised"])
        if "remarks" in told:
            for remark in told["remarks"]:
                self.say(remark)
            self.say = _nothing  # it is the same of all

    def _told(self, share: _Share, size: int) -> Iterator[Row]:
        import pyarrow

        data = self.ray.data
        data.DataContext.get_current().max_errored_blocks = LOST if size > 1 else -1
        names = [json.dumps(image) for image in self.left.items()]
        size = max(1, min(size, len(names) // (4 * share.actors)))  # each actor has several, to end together
        pool = data.ActorPoolStrategy(size=share.actors, max_tasks_in_flight_per_actor=2 if size > 1 else 1)
        tasks = [pyarrow.table({"image": names[n : n + size]}) for n in range(0, len(names), size)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = data.from_arrow(tasks).map_batches(
                Actor, fn_constructor_args=[self.made], batch_size=1, compute=pool, num_cpus=share.cpus,
                num_gpus=share.gpus, max_restarts=-1, max_task_retries=RETRIES)
            for block in found.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from map(json.loads, block["row"].to_pylist())


def _nothing(text: str) -> None:
    pass
