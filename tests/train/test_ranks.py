"""Several processes as one training: the arithmetic of one process with more iter_size, and what each failure says."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty

import numpy as np
import pytest
import torch
from programs import PROJECT, SERVER, Program, environment
from training import BODY, changed, make_solver, write_job

from netspec.base.errors import Error, Interrupted
from netspec.base.log import Log
from netspec.proto.model import read_state
from netspec.train.ranks import Ranks, joined

RULES = {"SGD": "", "Nesterov": 'type: "Nesterov"', "AdaGrad": 'type: "AdaGrad" momentum: 0',
         "RMSProp": 'type: "RMSProp" momentum: 0 rms_decay: 0.9', "AdaDelta": 'type: "AdaDelta" momentum: 0.9 delta: 1e-4',
         "Adam": 'type: "Adam" base_lr: 0.01'}
STEPS, CLIP = {"2": 10, "2 for long": 30, "4": 30}, 0.1  # of groups
TESTED = """
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" include { phase: TEST }
  accuracy_param { ignore_label: 255 } }"""
TESTS = "test_iter: 5 test_interval: 1000 test_initialization: false test_compute_loss: true"
IDLE = """
layer { name: "idle" type: "Convolution" bottom: "conv" top: "idle" convolution_param { num_output: 2 kernel_size: 1 } }"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def variables(rank, size, port, **more):
    return dict(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), **more)


def made(ranks, *settings, double=False):
    """A solver of the job in the current folder; in float64 if asked."""
    solver = make_solver(changed("max_iter: 1000 snapshot: 0", *settings), ranks=ranks, log=Log(quiet=True))
    if double:
        following = solver.data.next
        solver.data.next = lambda net: {blob: x.double() for blob, x in following(net).items()}
        solver.net.double()
        solver.history = [x.double() for x in solver.history]
    return solver


def numbers(solver):
    return [p.detach().numpy().copy() for p in solver.net.parameters()]


def stepped(solver, steps):
    """Its losses and its parameters after some iterations."""
    losses = [solver.step() for _ in range(steps)]
    solver.close()
    return [np.array(losses), *numbers(solver)]


def cases(ranks, size, steps):
    """What the ranks of a group compute, case by case; a process alone does it with iter_size `size`."""
    more = f"iter_size: {size // ranks.size}"
    for name, text in RULES.items():
        for double in (False, True):
            yield f"{name} {'float64' if double else 'float32'}", lambda t=text, d=double: stepped(
                made(ranks, t, more, double=d), steps)
    clip = f"clip_gradients: {CLIP * size / ranks.size}"  # of the mean over the ranks, as Caffe's
    yield "clipped", lambda: stepped(made(ranks, clip, more), 5)
    yield "unused", lambda: stepped(made(ranks, more, 'net: "idle.prototxt"'), 5)
    yield "twice", lambda: stepped(made(ranks, f"iter_size: {2 * size // ranks.size}"), 5)  # some passes unreduced


def one_of(rank, size, steps, port, folder, queue):
    """One rank of a group: all cases, and what would go wrong if it shared nothing or the same."""
    os.chdir(folder)
    torch.set_num_threads(1)
    os.environ.update(variables(rank, size, port))
    with joined(60) as ranks:
        found = {name: case() for name, case in cases(ranks, size, steps)}
        apart = made(ranks)
        apart.parallel = None  # no reduction
        found["unreduced"] = stepped(apart, 5)
        alike = made(ranks)
        alike.data.batches[alike.net].part, alike.data.batches[alike.net].parts = 0, 1
        found["same positions"] = stepped(alike, 5)
        tested = made(ranks, TESTS)
        found["tests"] = [[*tested.test().values()], tested.positions(tested.test_nets[0]), np.array(tested.validated)]
        tested.close()
        kept = made(ranks, f'snapshot_prefix: "of{size}"')
        kept.step(3)
        kept.snapshot()
        found["kept"] = stepped(kept, 3)
        other = made(ranks, 'snapshot_prefix: "other"')
        ranks.most(0)
        other.restore("one_iter_3.solverstate")
        found["gone on"] = stepped(other, 3)
    queue.put((rank, found))


def waited(queue, processes):
    """What the next process found."""
    while True:
        try:
            return queue.get(timeout=0.5)
        except Empty:
            assert not any(process.exitcode for process in processes)


@pytest.fixture(scope="module", params=["2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("2 for long", "4"))])
def group(request, tmp_path_factory):
    """What one process finds with as much iter_size as a group has ranks, and what each of those finds."""
    size, steps = int(request.param[0]), STEPS[request.param]
    folder, before = tmp_path_factory.mktemp("group"), Path.cwd()
    write_job(folder, body=BODY + TESTED)
    write_job(folder, body=BODY + IDLE, net="idle.prototxt")
    alone = Ranks()
    alone.launched = True  # so that dropout draws by position
    os.chdir(folder)
    try:
        one = made(alone, f'iter_size: {size} snapshot_prefix: "one"')
        one.step(3)
        one.snapshot()
        expected = {"gone on": stepped(one, 3)}
        queue, port = SERVER.Queue(), free_port()
        processes = [SERVER.Process(target=one_of, args=(rank, size, steps, port, folder, queue), daemon=True)
                     for rank in range(size)]
        for process in processes:
            process.start()
        expected |= {name: case() for name, case in cases(alone, size, steps)}
        tested = made(alone, TESTS)
        expected["tests"] = [[*tested.test().values()], tested.positions(tested.test_nets[0]), np.array(tested.validated)]
        ranks = dict(waited(queue, processes) for _ in processes)
        for process in processes:
            process.join(60)
        again = made(alone, f"iter_size: {size}")
        again.restore(f"of{size}_iter_3.solverstate")
        expected["kept"] = stepped(again, 3)
        yield expected, [ranks[rank] for rank in range(size)]
    finally:
        os.chdir(before)


def largest(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind, bound", [("float64", 1e-9), ("float32", 1e-4)])
def test_ranks_are_one_process_with_as_much_iter_size(group, rule, kind, bound):
    expected, ranks = group
    for found in ranks:
        name = f"{rule} {kind}"
        assert largest(found[name][1:], expected[name][1:]) < bound  # parameters; losses are float32 in either
        assert largest(found[name][:1], expected[name][:1]) < 1e-4
        for a, b in zip(found[name], ranks[0][name], strict=True):
            np.testing.assert_array_equal(a, b)  # no rank drifts


@pytest.mark.parametrize("case", ["clipped", "unused", "twice", "kept", "gone on"])
def test_clipping_unused_layers_accumulation_and_snapshots_are_too(group, case):
    expected, ranks = group
    for found in ranks:
        assert largest(found[case], expected[case]) < 1e-4


@pytest.mark.parametrize("case", ["unreduced", "same positions"])
def test_they_are_not_where_gradients_stay_apart_or_images_come_twice(group, case):
    expected, ranks = group
    assert largest(ranks[-1][case][1:], made_five(expected)[1:]) > 1e-3


def made_five(expected):
    """Five iterations of plain SGD, which no clipping, layer or iter_size changes: those with an idle layer beside."""
    losses, *params = expected["unused"]
    return [losses, *params[:4]]


def test_ranks_share_the_test_set_and_add_counts(group):
    expected, ranks = group
    means, positions, told = expected["tests"]
    for found in ranks:
        assert largest(found["tests"][0], means) < 1e-5
        assert found["tests"][1] == positions == [5] and str(found["tests"][2]) == str(told) != ""


# -- the command -------------------------------------------------------------------------------------------------------------


def start(folder, rank, size, port, *args, **more):
    return Program(PROJECT / "tools/solve.py", *args, cwd=folder, env=environment(**variables(rank, size, port, **more)))


def ends(programs, seconds=60):
    """(exit status, standard error) of each."""
    return [(program.returncode, err) for program, (_, err) in [(p, p.communicate(seconds)) for p in programs]]


def sentences(ended):
    return [line for _, err in ended for line in err.splitlines() if line.startswith("netspec solve: ")]


@pytest.fixture
def long(job):
    """A job of which an iteration is quick and the end is far."""
    write_job(job, solver=changed("max_iter: 1000000 snapshot: 5 display: 1"))
    return job


def under_way(folder, programs):
    """Wait until a snapshot is there."""
    for _ in range(600):
        if any((folder / "run").glob("snap_iter_*.solverstate")) or any(p.poll() is not None for p in programs):
            return
        time.sleep(0.1)
    raise AssertionError("no snapshot came")


@pytest.mark.slow
@pytest.mark.parametrize("victim, number", [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_rank_that_is_killed_or_hangs_ends_all_with_a_sentence_that_names_it(long, victim, number):
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    more = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    programs = [start(long, rank, 2, store.port, "solver.prototxt", "--rank-timeout", "4", **more) for rank in (0, 1)]
    under_way(long, programs)
    begin = time.monotonic()
    programs[victim].send_signal(number)
    [(status, err)] = ended = ends([programs[1 - victim]])
    spent = time.monotonic() - begin
    programs[victim].kill()
    assert status == 2 and sentences(ended) == [
        f"netspec solve: rank {victim} of 2 is gone: killed, or hanging; the last snapshot is whole, and the same command with "
        "--snapshot goes on from it"], err
    assert spent < 30
    states = sorted((long / "run").glob("*.solverstate"))
    assert states and all(read_state(state).iteration for state in states)


@pytest.mark.slow
def test_what_is_started_again_goes_on_from_the_last_snapshot_by_itself(long):
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's agent has one
    (long / "run").mkdir()

    def attempt(number, *args):
        more = dict(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT=str(number))
        return [start(long, rank, 2, store.port, "solver.prototxt", *args, **more) for rank in (0, 1)]

    programs = attempt(0)
    under_way(long, programs)
    programs[1].kill()
    ends(programs[:1])
    last = Path(store.get("netspec/last").decode())
    iteration = read_state(last).iteration
    assert iteration >= 5 and last.parent == long / "run"
    (_, err), _ = ended = ends(attempt(1, "--iterations", str(iteration + 2)))
    assert [status for status, _ in ended] == [0, 0] and f"Resuming from {last}" in err
    assert (long / f"run/snap_iter_{iteration + 2}.solverstate").exists()


def ranked(launcher, rank):
    """The number of the process that torchrun started as a rank."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in words and int((path.parent / "stat").read_text().rpartition(")")[2].split()[1]) == launcher:
                return int(path.parent.name)
    raise AssertionError(f"no rank {rank}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found as Linux shows them")
def test_torchrun_itself_starts_ranks_again_that_end_the_job(long):
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1",
         PROJECT / "tools/solve.py", "solver.prototxt", "--iterations", "600", "--rank-timeout", "10"],
        cwd=long, env=environment(), stderr=subprocess.PIPE, text=True)
    under_way(long, [launcher])
    os.kill(ranked(launcher.pid, 1), signal.SIGKILL)
    _, err = launcher.communicate(300)
    assert launcher.returncode == 0 and "Resuming from" in err, err[-2000:]
    assert "netspec solve: rank 1 of 2 is gone: killed, or hanging" in err
    assert (long / "run/snap_iter_600.solverstate").exists() and err.count("caffe.cpp:250] Optimization Done.") == 1


def test_what_one_is_asked_for_while_ranks_agree_is_not_forgotten(job):
    solver, asked = make_solver(changed("snapshot: 0")), iter([2])
    ranks = Ranks()
    ranks.size = 2

    def most(*numbers):  # the signal comes while this rank waits for the other
        solver.stop = solver.stop or next(asked)
        return [*numbers]

    solver.ranks, ranks.most = ranks, most
    assert not solver.leave_if_asked()
    with pytest.raises(Interrupted):
        solver.leave_if_asked()
    solver.close()


def test_ctrl_c_at_one_rank_stops_all_with_one_snapshot(long):
    port = free_port()
    programs = [start(long, rank, 2, port, "solver.prototxt") for rank in (0, 1)]
    under_way(long, programs)
    programs[1].send_signal(signal.SIGINT)
    (first, err), (second, silent) = ends(programs)
    assert (first, second) == (130, 130) and "stopped by Ctrl-C after" in err and silent == ""


def test_a_rank_that_does_not_come_is_named(job):
    ended = ends([start(job, 0, 2, free_port(), "solver.prototxt", "--rank-timeout", "1")])
    assert [status for status, _ in ended] == [2] and not (job / "run").exists()
    assert sentences(ended) == ["netspec solve: rank 1 of 2 has not come within 1 s; start it, or wait longer by --rank-timeout"]


def test_a_port_in_use_is_a_sentence(job):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        [(status, err)] = ends([start(job, 0, 2, port, "solver.prototxt")])
    assert (status, err) == (2, f"netspec solve: port {port} cannot be had (Address already in use); give another as MASTER_PORT, "
                                "or by torchrun --master-port\n")


def test_ranks_with_other_files_are_refused(job):
    write_job(job, solver=changed("base_lr: 0.04"), name="other.prototxt")
    port = free_port()
    ended = ends([start(job, rank, 2, port, file) for rank, file in enumerate(["solver.prototxt", "other.prototxt"])])
    assert [status for status, _ in ended] == [2, 2] and not any((job / "run").glob("*.solverstate"))
    assert sentences(ended) == ["netspec solve: rank 1 has other solvers than rank 0 (by checksums): give all the same files and the "
                                "same version of netspec"]


@pytest.mark.parametrize("args, words", [
    (["missing.prototxt"], "missing.prototxt"), (["solver.prototxt", "--skip-bad", "1"], "--skip-bad puts the next batch")])
def test_what_all_ranks_find_wrong_is_said_once(job, args, words):
    port = free_port()
    ended = ends([start(job, rank, 2, port, *args) for rank in (0, 1)])
    assert [status for status, _ in ended] == [2, 2]
    [said] = sentences(ended)
    assert words in said


@pytest.mark.parametrize("name, value", [("RANK", "one"), ("WORLD_SIZE", "0"), ("MASTER_PORT", ""), ("MASTER_PORT", "65536"), ("RANK", "7")])
def test_variables_that_say_nothing_are_a_sentence(monkeypatch, name, value):
    for each, given in (variables(0, 2, 1) | {name: value}).items():
        monkeypatch.setenv(each, given)
    with pytest.raises(Error, match=name), joined():
        pass


def test_gpus_are_dealt_out():
    ranks = Ranks()
    ranks.rank, ranks.size, ranks.local = 5, 8, 1
    assert ranks.device(None, "cuda:0") == ranks.device("cuda", "cpu") == "cuda:1"
    assert ranks.device("cpu", "cuda:0") == "cpu" and Ranks().device(None, "cuda:0") == "cuda:0"
