"""Many images by actors of Ray: the same results, each once, whatever dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from programs import environment

from netspec.base.errors import Error
from netspec.proto.model import write_weights
from netspec.score import rayed
from netspec.score.archive import Job

from .test_archive import EACH, ODD, lines, many, names, results, run, wait_for  # noqa: F401 - a fixture
from .test_infer import NET, thirds
from .test_infer import place as folder  # noqa: F401 - a fixture of another

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")
HIT = "if bottom[0].data.shape[2:] == (13, 17):"
DEADLY = 'layer { name: "odd" type: "Python" bottom: "data" top: "seen" python_param { module: "odd" layer: "Odd" } }\n'


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """What finds a Ray of 2 cores, whose processes find the current folder's modules."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus", "2", "--port", str(port),
           "--include-dashboard", "false", "--disable-usage-stats"]
    said = tmp_path_factory.mktemp("ray") / "said"
    with open(said, "w") as file:
        head = subprocess.Popen(ray, env=environment(PYTHONPATH=f"{environment()['PYTHONPATH']}:.", RAY_USAGE_STATS_ENABLED="0"),
                                stdout=file, stderr=file)
    wait_for(lambda: "Ray runtime started" in said.read_text())
    yield "auto"
    head.terminate()
    head.wait(60)


@pytest.fixture
def deadly(many, monkeypatch):  # noqa: F811
    """20 images more, among them one of 17x13, at which a process dies by SIGKILL where the file `spare` is not."""
    monkeypatch.syspath_prepend(str(many))
    Path("odd.py").write_text(ODD.replace(HIT, f"{HIT[:-1]} and not os.path.exists('spare'):"))
    Path("net.prototxt").write_text(NET.replace('layer { name: "score"', DEADLY + 'layer { name: "score"').replace(
        'bottom: "data" top: "score"', 'bottom: "seen" top: "score"'))
    for i in range(20):
        thirds(*((17, 13) if i == 9 else (9, 9 + i))).save(f"many/more{i}.png")
    Path("spare").touch()
    return many


@pytest.mark.slow
@needs_ray
def test_an_actor_that_is_killed_costs_nothing(deadly, capsys, cluster):
    """It dies at an image in the middle, and its task is repeated by the next one."""
    assert run(capsys, out="straight")[0] == 0
    once = Path("odd.py").read_text().replace("os.kill", "open('spare', 'w').close(); os.kill")
    Path("odd.py").write_text(once)
    Path("spare").unlink()
    status, out, err = run(capsys, "--ray", cluster, "--jobs", "2")
    assert (status, err) == (0, "") and out.startswith("32 images in ") and Path("spare").exists()
    assert results() == results("straight") and sorted(names()) == sorted(names("straight"))
    assert sorted(lines()[1:], key=str) == sorted(lines("straight")[1:], key=str)
    assert run(capsys, "--ray", cluster)[:2] == (0, "nothing to do\n")


@pytest.mark.slow
@needs_ray
def test_an_image_that_kills_every_process_has_an_error(deadly, capsys, cluster):
    Path("spare").unlink()
    status, out, err = run(capsys, "--ray", cluster, "--jobs", "2")
    assert status == 2 and out.startswith("31 images in ")
    assert "image many/more9.png: a process that computed it ended, 4 times; where memory ran out, fewer --jobs" in err
    assert len(names()) == len(set(names())) == 32 and len(results()) == 2 * 31
    assert [row["image"] for row in lines()[1:] if "error" in row] == ["more9.png"]


@pytest.mark.slow
@needs_ray
def test_what_ends_all_is_said_as_without_ray(many, capsys, cluster, monkeypatch):  # noqa: F811
    write_weights("other.caffemodel", "x", {"x": ("Convolution", [np.ones((3, 3, 3, 3), np.float32)])})
    said = run(capsys, weights="other.caffemodel")[2]
    assert run(capsys, "--ray", cluster, weights="other.caffemodel") == (2, "", said) and len(said.splitlines()) == 1
    monkeypatch.setattr(rayed, "_token", lambda out: nullcontext("absent"))  # as on a node that has another disk
    status, _, err = run(capsys, "--ray", cluster)
    assert status == 2 and "o is another folder than where the run was started; net, weights, images and --out must lie" in err
    assert run(capsys, "--ray", cluster, "--jobs", 9)[2] == \
        "netspec infer: the cluster that --ray found has 2 CPU cores, fewer than --jobs 9\n"


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_ray_of_its_own_ends_with_it(many, capsys, number):  # noqa: F811
    for i in range(600):
        shutil.copy("many/im1.png", f"many/copy{i}.png")
    process = subprocess.Popen([sys.executable, "-m", "netspec", "infer", "net.prototxt", "net.caffemodel", "--list", "many", "--out",
                                "o", "--device", "cpu", "--ray", "--jobs", "2"], env=environment(MARK=str(many)), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(lines()) > 20)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 143), err
    if number == signal.SIGTERM:
        assert err.count("\n") == 1 and "stopped by SIGTERM" in err and not marked(many) and not [*Path("o").glob(".*")]
    gone = time.monotonic() + 180  # Ray's agents ask several times
    while marked(many):
        assert time.monotonic() < gone
        time.sleep(1)
    assert run(capsys)[0] == 0 and len(names()) == len(set(names())) == 612
    with rayed._token("o") as token:
        assert [path.name for path in Path("o").glob(".*")] == [token]


def marked(mark):
    """The processes with MARK in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [process.name] * (f"MARK={mark}".encode() in (process / "environ").read_bytes())
        except OSError:
            pass
    return found


@pytest.mark.slow
@needs_ray
def test_a_worker_serves_in_a_pipeline_of_ones_own(many, cluster):  # noqa: F811
    """As docs/scale.md shows."""
    with rayed.connected(cluster) as ray:
        job = Job(*map(os.path.abspath, ("net.prototxt", "net.caffemodel", "o")), device="cpu")

        class Actor:
            def __init__(self):
                self.worker = job.open()

            def __call__(self, batch):
                return {"row": [json.dumps(self.worker(name)) for name in batch["item"]]}

        pictures = [os.path.abspath(f"many/{name}") for name in EACH]
        found = ray.data.from_items(pictures).map_batches(Actor, compute=ray.data.ActorPoolStrategy(size=2), batch_size=4)
        told = [json.loads(row["row"]) for row in found.iter_rows()]
    assert sorted(row["image"] for row in told) == sorted(pictures) and all(Path("o", row["files"]["labels"]).exists() for row in told)


@needs_ray
def test_an_address_where_no_ray_is(many, capsys):  # noqa: F811
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        for given in (address, "nowhere", "127.0.0.1:x"):
            began = time.monotonic()
            status, out, err = run(capsys, "--ray", given)
            assert (status, out) == (2, "") and err.startswith(f"netspec infer: --ray {given}: no Ray cluster answers; give HOST:PORT")
            assert len(err.splitlines()) == 1 and time.monotonic() - began < 30


@needs_ray
def test_a_cluster_that_ended_long_ago(many, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setenv("RAY_TMPDIR", os.getcwd())
    Path("ray").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        Path("ray/ray_current_cluster").write_text(address)
        assert run(capsys, "--ray", "auto")[2].startswith(f"netspec infer: --ray {address}: no Ray cluster answers")


def test_it_needs_its_library_and_a_list(many, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(capsys, "--ray") == (2, "", "netspec infer: --ray needs ray[data]: pip install ray[data]\n")
    assert not Path("o").exists()


def node(cpus, gpus=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}}


@pytest.mark.parametrize("nodes, cuda, many, share", [
    ([node(2)], False, None, (2, 1, 0)), ([node(16)], False, 3, (3, 5, 0)), ([node(4), node(4)], False, 3, (3, 2, 0)),
    ([node(4), node(4)], False, 1, (1, 4, 0)), ([node(8), node(2), node(64, alive=False)], False, 3, (3, 2, 0)),
    ([node(32, 8), node(4)], True, None, (8, 4, 1)), ([node(8, 2)], True, 4, (4, 2, 0.5)), ([node(8, 2)], True, 1, (1, 8, 1))])
def test_shares(nodes, cuda, many, share):  # noqa: F811
    found = rayed._share(nodes, cuda, many)
    assert (found.actors, found.cpus, found.gpus) == share


@pytest.mark.parametrize("nodes, cuda, many", [([node(2)], False, 3), ([node(8)], True, None), ([], False, None)])
def test_no_shares(nodes, cuda, many):  # noqa: F811
    with pytest.raises(Error, match="the cluster that --ray found has"):
        rayed._share(nodes, cuda, many)


