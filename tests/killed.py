"""Runs commands in children that are killed, at one point of one snapshot or at random moments.

    python tests/killed.py --count 500 --seed 1
    python tests/killed.py --list 10000 --count 20 --seed 1

kills so many runs of solve (with snapshots, tests and a process that reads), infer, convert and data, half of them with their whole
process group, the others alone; one in 20 is a fresh interpreter. After each the files that have their names must be whole,
nothing that was there may be missing, and no process be left; the next start must end with the very files of a run that nobody
killed, and with nothing beside them. A line a kind: kills, lost, unequal, orphans, stray; the exit status is 1 if one of these
is not 0. With --list N it is one run of infer --list over N small images that is killed so often (--jobs J: with J processes beside
it), before it may end; repeated are images that have several rows. Without --count: for tests/train/test_stages_stopped.py, a case a line, as JSON, answered with the child's exit status.

A process of its own, which has done no training: only such a one can be forked safely, and quickly, many times.
"""

import argparse
import hashlib
import importlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also by python -m

import torch
from PIL import Image
from programs import alive, environment
from training import BODY, VOC, changed, write_job

from netspec.base import files
from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.data import get as getdata
from netspec.proto import hdf5 as hdf5file
from netspec.proto import model
from netspec.train import snapshot

for name in ("cli.solve", "cli.infer", "cli.convert", "cli.data", "train.stages", "look.curves", "score.segment", "net.transplant",
             "score.crew", "score.manifest", "cli.archive"):
    with suppress(ModuleNotFoundError):  # loaded once, not in every child
        importlib.import_module(f"netspec.{name}")

os.fsync = lambda file: None  # as in conftest.py
WRITE, RENAME = files.writing, os.replace


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(name, when):
    """Kill this process before, within or after the writing of the file whose path ends so, when it gets its name, or
    when it is in its place."""
    @contextmanager
    def writing(path, mode="wb"):
        hit = str(path).endswith(name)
        if hit and when == "before":
            die()
        with WRITE(path, mode) as file:
            if hit and when == "within":
                file.write(b"half" if "b" in mode else "half")
                file.flush()
                die()
            yield file
        if hit and when == "after":
            die()

    def replace(source, target):
        if str(target).endswith(name) and when == "named":
            die()
        RENAME(source, target)
        if str(target).endswith(name) and when == "moved" and ".part" not in str(target):
            die()

    os.replace = replace
    for module in (files, snapshot, model, hdf5file):
        assert hasattr(module, "writing")
        module.writing = writing


def begun(args, folder, named=None):
    """A child in a group of its own that runs a command in a folder, with its last words in the file `said`."""
    child = os.fork()
    with suppress(PermissionError):  # it is another program already
        os.setpgid(child, child)
    if child:
        return child
    os.chdir(folder)
    os.environ["TMPDIR"] = str(folder)
    torch.set_num_threads(1)
    said = os.open("../said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if named == "fresh":
        os.execve(sys.executable, [sys.executable, "-m", "netspec", *args], environment(TMPDIR=str(folder)))
    os._exit(cli.main([*args]))


def ended(child, timeout=60):
    """Its exit status; None if it is at work still."""
    end = time.monotonic() + timeout
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            return None
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(found[1])


class Kind:
    """One command in a folder: `make` writes what it is given, `args` are those of the next start."""

    def make(self, folder):
        write_job(folder, changed("max_iter: 24 snapshot: 2 average_loss: 7 test_iter: 1 test_interval: 6 iter_size: 2"), data=VOC)

    def results(self, folder):
        """Files that nobody may find half written."""
        return {path: path.read_bytes() for path in sorted(folder.glob(self.made)) if path.is_file() and not path.name.startswith(".")}


class Solve(Kind):
    made = "run/*"

    def args(self, folder):
        states = sorted(folder.glob("run/*.solverstate"), key=lambda path: int(re.search(r"iter_(\d+)", path.name)[1]))
        return ["solve", "solver.prototxt", "--quiet", *(["--snapshot", str(states[-1])] if states else [])]

    def whole(self, path):
        if path.suffix == ".solverstate":
            snapshot.read_snapshot(path)
        elif path.suffix == ".caffemodel":
            assert model.read_weights(path)
        elif path.suffix == ".resume":
            snapshot.read_facts(path, {"iter", "weights", "history"})
        else:
            json.loads(path.read_text())


class Infer(Kind):
    made = "out/*"
    mean = ["--mean", "104,117,123", "--scores", "--out", "out"]

    def make(self, folder):
        super().make(folder)
        body = BODY.partition('layer { name: "loss"')[0]
        (folder / "deploy.prototxt").write_text('name: "tiny" layer { name: "data" type: "Input" top: "data" input_param { '
                                                "shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }" + body)
        rng = random.Random(2)
        (folder / "pictures").mkdir()
        for number in range(12):
            Image.frombytes("RGB", (90, 60), rng.randbytes(16200)).save(folder / f"pictures/{number}.png")
        child = begun(["solve", "solver.prototxt", "--quiet", "--iterations", "2"], folder)
        assert ended(child) == 0

    def args(self, folder):
        return ["infer", "deploy.prototxt", "run/snap_iter_2.caffemodel", "pictures", *self.mean]

    def whole(self, path):
        if path.suffix == ".npy":
            import numpy as np

            assert np.load(path).shape == (4, 60, 90)
        else:
            Image.open(path).load()


class Convert(Infer):
    made = "new/*"

    def args(self, folder):
        return ["convert", "transplant", "deploy.prototxt", "new/a.caffemodel", "run/snap_iter_2.caffemodel"]

    def whole(self, path):
        assert model.read_weights(path)


class Archive(Infer):
    """So many images of 16x16 in folders of 100, listed; `jobs` processes compute."""

    made = "out/**/*"

    def __init__(self, images, jobs=0):
        self.images, self.jobs = images, jobs

    def make(self, folder):
        super().make(folder)
        rng = random.Random(3)
        for number in range(self.images):
            at = folder / f"many/{number // 100:03}"
            at.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", (16, 16), rng.randbytes(768)).save(at / f"{number}.png")

    def args(self, folder):
        return ["infer", "deploy.prototxt", "run/snap_iter_2.caffemodel", "--list", "many", *self.mean[:2], "--out", "out",
                *["--jobs", str(self.jobs)] * bool(self.jobs)]

    def whole(self, path):
        if path.name == "manifest.jsonl":
            *lines, _ = path.read_bytes().split(b"\n")  # of the last line there may be a part
            assert all(json.loads(line) for line in lines)
        else:
            Image.open(path).load()


class Data(Kind):
    made = "images/**/*"

    def make(self, folder):
        rng = random.Random(5)
        contents = {f"kit/VOC/img/{number}.jpg": rng.randbytes(20_000) for number in range(300)}
        with tarfile.open(folder / "toy.tar", "w") as tar:
            for name, content in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        facts = {"what": "Toy images", "terms": "none", "site": "here", "root": "images", "top": "VOC", "counts": {"img/*.jpg": 300},
                 "archives": [{"name": "toy.tar", "url": "nowhere", "stated_by": "this", "checksum": "sha256:" + hashlib.sha256(
                     (folder / "toy.tar").read_bytes()).hexdigest()}]}
        getdata.SOURCES = folder.parent / "sources.json"
        getdata.SOURCES.write_text(json.dumps({"toy": facts}))

    def args(self, folder):
        return ["data", "toy", "--archives", "."]

    def whole(self, path):
        assert path.stat().st_size == 20_000 and len(list(path.parent.iterdir())) == 300


def tried(kind, folder, rng):
    """A generator of one kind's kills: each what was found wrong after it, the empty list for nothing."""
    straight, given = folder / "straight", folder / "given"
    given.mkdir(parents=True)
    kind.make(given)
    shutil.copytree(given, straight)
    begin = time.monotonic()
    assert ended(begun(kind.args(straight), straight)) == 0, (folder / "said").read_text()
    long, wanted = time.monotonic() - begin, inventory(straight)
    again = None
    while True:
        place = folder / "killed"
        if again is None:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(given, place)
        before, fresh = kind.results(place), rng.random() < 0.05 and not isinstance(kind, Data)
        child = begun(kind.args(place), place, "fresh" * fresh)
        time.sleep(rng.random() * (4 if fresh else 1.05 * long))
        if ended(child, 0) is not None:
            again = None
            continue
        (os.killpg if rng.random() < 0.5 else os.kill)(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wrong = ["orphans"] * alive(child, 3)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        after = kind.results(place)
        wrong += ["lost"] * (not before.keys() <= after.keys() or not all(readable(kind, path) for path in after))
        again = None if rng.random() < 0.7 or wrong else True  # the next start is killed too
        if again is None:
            status = ended(begun(kind.args(place), place))
            found = inventory(place)
            wrong += ["lost"] * (status != 0) + ["stray"] * bool(found.keys() - wanted.keys())
            wrong += ["unequal"] * any(found.get(name) != content for name, content in wanted.items())
        yield wrong


def killed_list(images, count, seed, jobs):
    """One run over a list that is killed so often, then let to its end; whether all was well."""
    rng, kind, begin, found = random.Random(seed), Archive(images, jobs), time.monotonic(), Counter()
    with tempfile.TemporaryDirectory() as top:
        folder, straight = Path(top) / "killed", Path(top) / "straight"
        folder.mkdir()
        kind.make(folder)
        shutil.copytree(folder, straight)
        start = time.monotonic()
        assert ended(begun(kind.args(straight), straight, "fresh" * bool(jobs)), 36000) == 0, (Path(top) / "said").read_text()
        long, manifest = time.monotonic() - start, folder / "out/manifest.jsonl"
        print(f"{images} images, uninterrupted: {long:.0f} s", flush=True)
        before = {}
        for number in range(1, count + 1):
            child = begun(kind.args(folder), folder, "fresh" * bool(jobs))
            time.sleep(rng.random() * 2 * long / (count + 1) + 4 * bool(jobs))
            if ended(child, 0) is not None:
                print(f"kill {number}: the run was at its end")
                continue
            (os.killpg if rng.random() < 0.5 else os.kill)(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found["kills"] += 1
            found["orphans"] += alive(child, 3)
            after = kind.results(folder)
            lost = [path for path in before if path not in after] + [path for path in after if path not in before and not readable(kind, path)]
            found["lost"] += len(lost)
            before = dict.fromkeys(after)
            done = manifest.read_bytes().count(b"\n") - 1 if manifest.exists() else 0
            print(f"kill {number}: {max(done, 0)} images have rows", flush=True)
        status = ended(begun(kind.args(folder), folder, "fresh" * bool(jobs)), 36000)
        mine, wanted = ({name: content for name, content in inventory(each).items() if not name.endswith("manifest.jsonl")}
                        for each in (folder, straight))
        names = [json.loads(line)["image"] for line in manifest.read_text().splitlines()[1:]]
        found.update({"images": len(set(names)), "repeated": len(names) - len(set(names)), "lost": (status != 0) + images - len(set(names)),
                      "stray": len(mine.keys() - wanted.keys()),
                      "unequal": sum(mine.get(name) != content for name, content in wanted.items())})
    columns = ("kills", "images", "lost", "unequal", "repeated", "orphans", "stray")
    print("".join(f"{column:>10}" for column in columns), "".join(f"{found[column]:10}" for column in columns),
          f"{time.monotonic() - begin:.0f} s", sep="\n")
    return not any(found[column] for column in columns[2:])


def inventory(folder):
    """The bytes of all files; of folders without files, that they are there."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def readable(kind, path):
    try:
        kind.whole(path)
    except (Error, OSError, ValueError, AssertionError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return False
    return True


def kill(count, seed):
    """So many kills, of all kinds in turn; whether all was well."""
    rng, kinds, begin = random.Random(seed), (Solve(), Infer(), Convert(), Data()), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        running = {kind: tried(kind, Path(folder) / type(kind).__name__, rng) for kind in kinds}
        counts = {kind: Counter() for kind in kinds}
        for number in range(count):
            kind = kinds[(0, 1, 0, 2, 0, 3)[number % 6]]
            found = next(running[kind])
            counts[kind].update(["kills", *set(found)])
            if found:
                print(f"{type(kind).__name__}, kill {counts[kind]['kills']}: {', '.join(found)}", file=sys.stderr)
    columns = ("kills", "lost", "unequal", "orphans", "stray")
    print("".join(f"{each:>10}" for each in ("kind", *columns)))
    for kind, found in counts.items():
        print(f"{type(kind).__name__.lower():>10}" + "".join(f"{found[column]:10}" for column in columns))
    print(f"{time.monotonic() - begin:.0f} s")
    return not any(found[column] for found in counts.values() for column in columns[1:])


def nurse():
    for line in sys.stdin:
        case = json.loads(line)
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            os.chdir(case["folder"])
            if case.get("name"):
                die_at(case["name"], case["when"])
            os._exit(cli.main(["solve", *case["args"]]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", type=int, metavar="N")
    parser.add_argument("--jobs", type=int, default=0)
    given = parser.parse_args()
    if given.list:
        sys.exit(not killed_list(given.list, given.count or 20, given.seed, given.jobs))
    sys.exit(nurse() if given.count is None else not kill(given.count, given.seed))
