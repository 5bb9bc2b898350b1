"""What is said of the machine, and which device is taken."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from programs import environment

from netspec.base.errors import Error, count
from netspec.base.machine import amount, asked, choose, cores, device_name, gpu, prepare_torch, room, share


@pytest.mark.parametrize("size, words", [
    (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1e6, "1.0 MB"), (187_230_000, "187.2 MB"), (1e9, "1.0 GB"),
    (12.34e9, "12.3 GB"),
])
def test_amounts_have_the_largest_unit_that_they_reach(size, words):
    assert amount(size) == words


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:x", "cpu:"])  # torch knows some of them
def test_devices_that_are_not_known(name):
    with pytest.raises(Error, match=f"device '{name}' is not known; use cpu, cuda, cuda:N or mps"):
        choose(name)


def test_the_cpu():
    assert choose("cpu") == torch.device("cpu")
    assert device_name("cpu").endswith(f", {count(cores(), 'core')}, {count(torch.get_num_threads(), 'thread')}")


THREADS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def in_a_process(code, **environ):
    """What a fresh Python says to code."""
    env = {k: v for k, v in environment().items() if k not in THREADS} | environ
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


COMMAND = "import sys; from netspec.cli.main import main; main(['layers', 'ReLU']); "


def test_commands_choose_how_threads_wait_before_torch_loads():
    said = in_a_process(COMMAND + "assert 'torch' in sys.modules or __import__('torch')", OMP_DISPLAY_ENV="verbose")
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("this torch has another OpenMP than GNU's")
    assert "GOMP_SPINCOUNT = '10000'" in said


@pytest.mark.parametrize("name, value", [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "7"), ("KMP_BLOCKTIME", "9")])
def test_what_the_user_says_of_waiting_stays(name, value):
    given = {name: value}
    prepare_torch(given, loaded=False)
    assert {k: v for k, v in given.items() if k != "OMP_NUM_THREADS"} == {name: value}


def test_a_process_that_has_torch_is_left_alone():
    show = f"import os; print({{k: v for k, v in os.environ.items() if k in {THREADS}}})"
    said = in_a_process(f"import netspec; netspec.build, netspec.Net; {show}; assert 'torch' in __import__('sys').modules; {COMMAND}{show}")
    assert said.startswith("{}\n") and said.endswith("\n{}\n")


@pytest.mark.parametrize("files, cpus", [
    ({}, None),
    ({"cpu.max": "max 100000\n"}, None),
    ({"cpu.max": "250000 100000\n"}, 2),
    ({"cpu.max": "50000 100000\n"}, 1),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ({"cpu.max": "nonsense"}, None),
])
def test_a_containers_share_of_the_cores(tmp_path, monkeypatch, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert share(tmp_path) == cpus


@pytest.mark.parametrize("files, size", [({"memory.max": "2000000000\n"}, 2e9), ({"memory.max": "max\n"}, float("inf")),
                                         ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 9223372036854771712),
                                         ({"user/me/memory.max": "7\n", "user/memory.max": "5\n", "other/memory.max": "3"}, 5),
                                         ({"memory/me/memory.limit_in_bytes": "7\n", "memory/memory.limit_in_bytes": "9"}, 7),
                                         ({}, float("inf"))])
def test_the_memory_that_a_container_is_allowed(tmp_path, monkeypatch, files, size):
    from netspec.base import machine

    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "cgroup").write_text("4:memory:/me\n1:cpu:/\n0::/user/me\n")
    assert machine.allowed(tmp_path, tmp_path / "cgroup") == size
    monkeypatch.setattr(machine, "allowed", lambda: 5e7)
    assert room(torch.device("cpu")) == 5e7


def test_the_room_is_what_the_process_may_have():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    there = int(room(torch.device("cpu"))) - 1
    resource.setrlimit(resource.RLIMIT_AS, (there, hard))
    try:
        assert room(torch.device("cpu")) == there
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert room(torch.device("meta")) == float("inf")


def test_no_more_threads_than_a_containers_share(monkeypatch):
    from netspec.base import machine

    monkeypatch.setattr(machine, "share", lambda: 2)
    given: dict[str, str] = {}
    prepare_torch(given, loaded=False)
    assert given["OMP_NUM_THREADS"] == "2" and cores() <= 2
    for mine in ({"OMP_NUM_THREADS": "5"}, {"MKL_NUM_THREADS": "5"}):
        given = dict(mine)
        prepare_torch(given, loaded=False)
        assert {k: v for k, v in given.items() if k.endswith("_NUM_THREADS")} == mine
    monkeypatch.setattr(machine, "share", lambda: None)
    given = {}
    prepare_torch(given, loaded=False)
    assert "OMP_NUM_THREADS" not in given  # torch's own: one for each physical core


def test_apples_gpu_is_taken_where_torch_has_it(monkeypatch):
    """Here by what torch says of it: there is no such machine among those that tests run on."""
    from netspec.proto.caffe_pb2 import SolverParameter

    if torch.cuda.is_available():
        pytest.skip("CUDA comes first")
    assert (choose().type, gpu(), asked(SolverParameter())) == ("cpu", None, "cpu")
    with pytest.raises(Error, match=r"device 'mps' is not here \(it is Apple's GPU, .*use --device cpu"):
        choose("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose() == choose("mps") == torch.device("mps") and gpu() == "mps"
    assert asked(SolverParameter(solver_mode="GPU", device_id=1)) == "mps" and asked(SolverParameter(solver_mode="CPU")) == "cpu"
    assert device_name("mps").startswith("mps, ")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_tries_few_ways_of_each_convolution(monkeypatch, precision):
    """cuDNN chooses among them for each size of its bottom, once."""
    cudnn, matmul = SimpleNamespace(), SimpleNamespace()
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose("cuda", precision) == torch.device("cuda")
    assert cudnn.benchmark and cudnn.benchmark_limit == 4
    assert cudnn.allow_tf32 == matmul.allow_tf32 == (precision != "fp32")


def test_memory_that_the_system_does_not_tell(monkeypatch):
    assert room(torch.device("cpu")) > 1e8
    monkeypatch.delattr("os.sysconf")
    assert amount(room(torch.device("cpu"))) == "memory of unknown size"
