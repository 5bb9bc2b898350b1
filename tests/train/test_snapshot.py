"""Snapshots and what is gone on from them: bit for bit, whole or not at all, wherever they were moved."""

import gc
import json
import os
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from programs import environment, run
from training import BODY, HDF5, SOLVER, VOC, changed, make_solver, params_of, same, write_job

from netspec.base.errors import Error
from netspec.base.log import Log
from netspec.cli import main as cli
from netspec.proto.model import read_state, write_state
from netspec.pycaffe import solver as pycaffe
from netspec.train import snapshot
from netspec.train.snapshot import at, kept, prefix_of
from netspec.train.solver import get_solver

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = {
    "SGD": "momentum: 0.9", "Nesterov": "momentum: 0.9", "AdaGrad": "momentum: 0", "RMSProp": "momentum: 0 rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9", "Adam": "momentum: 0.9 momentum2: 0.99",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_a_resumed_run_is_the_uninterrupted_one(job, kind, form):
    text = SOLVER.replace("momentum: 0.9", KINDS[kind]).replace("base_lr: 0.05", "base_lr: 0.01")
    write_job(job, text + f' type: "{kind}" snapshot_format: {form} average_loss: 4')
    end = ".solverstate.h5" if form == "HDF5" else ".solverstate"
    straight = get_solver("solver.prototxt")
    straight.step(9)
    again = get_solver("solver.prototxt")
    again.restore(f"run/snap_iter_6{end}")
    assert again.iter == 6 and again.loaded == {"conv": "copied", "score": "copied"}
    again.step(3)
    same(params_of(straight), params_of(again))
    for mine, theirs in zip(straight.history, again.history, strict=True):
        assert torch.equal(mine, theirs)
    assert straight.smoothed_loss == again.smoothed_loss
    assert straight.positions(straight.net) == again.positions(again.net) == [9]
    straight.close()
    again.close()


@pytest.mark.parametrize("data", [HDF5, VOC])
def test_a_run_without_a_seed_resumes_too(job, data):
    write_job(job, SOLVER.replace("random_seed: 5", ""), data=data)
    straight, other = get_solver("solver.prototxt"), get_solver("solver.prototxt")
    assert straight.data.seed != other.data.seed
    straight.step(6)
    straight.close()
    other.restore("run/snap_iter_3.solverstate")
    other.step(3)
    other.close()
    same(params_of(straight), params_of(other))


def test_the_order_of_data_follows_the_solvers_seed(job):
    orders = []
    for seed in (5, 5, 6):
        one = make_solver(SOLVER.replace("random_seed: 5", f"random_seed: {seed}"), path="solver.prototxt")
        orders.append(one.net.graph.sources[0].op.load(0)[0])
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    write_job(job, data=VOC)  # which has a seed of its own
    names = {tuple(get_solver("solver.prototxt").net.graph.sources[0].op.image_names(k)[0] for k in range(9)) for _ in range(2)}
    assert len(names) == 1


def test_a_moved_folder_of_snapshots_is_found_whole(job):
    one = get_solver("solver.prototxt")
    one.step(3)
    after = params_of(one)
    one.step(3)
    one.close()
    Path("run").rename("moved")
    Path("run").mkdir()
    shutil.copy("moved/snap_iter_6.caffemodel", "run/snap_iter_3.caffemodel")  # another file where it was written
    other = get_solver("solver.prototxt")
    other.restore("moved/snap_iter_3.solverstate")
    same(params_of(other), after)


def test_states_that_do_not_fit_change_nothing(job):
    one = get_solver("solver.prototxt")
    one.step(3)
    one.close()
    write_job(job, body=BODY.replace("num_output: 5", "num_output: 6"))
    other = get_solver("solver.prototxt")
    before = params_of(other)
    with pytest.raises(Error, match="its history is not that of net 'tiny' under SGD"):
        other.restore("run/snap_iter_3.solverstate")
    adam = make_solver(SOLVER + ' type: "Adam"', path="solver.prototxt")
    with pytest.raises(Error, match="was trained by SGD, this solver is Adam"):
        adam.restore("run/snap_iter_3.solverstate")
    write_job(job)
    third = get_solver("solver.prototxt")
    fresh = params_of(third)
    Path("run/snap_iter_3.resume").write_text('{"iter": 3}')
    with pytest.raises(Error, match="snap_iter_3.resume: lacks cpu, losses, test, train; delete it to start the data"):
        third.restore("run/snap_iter_3.solverstate")
    Path("run/snap_iter_3.resume").write_text('nonsense')
    with pytest.raises(Error, match="not a resume file"):
        third.restore("run/snap_iter_3.solverstate")
    Path("run/snap_iter_3.caffemodel").unlink()
    with pytest.raises(Error, match="weights '.*snap_iter_3.caffemodel' is not there"):
        third.restore("run/snap_iter_3.solverstate")
    assert (other.iter, third.iter) == (0, 0)
    same(before, params_of(other))
    same(fresh, params_of(third))
    with pytest.raises(Error, match="solver state 'nowhere' is not there"):
        third.restore("nowhere")


def test_histories_of_old_files_have_four_axes(job):
    one = get_solver("solver.prototxt")
    one.step(3)
    one.close()
    state = read_state("run/snap_iter_3.solverstate")
    old = [np.array(h).reshape((1,) * (4 - h.ndim) + h.shape) for h in state.history]
    assert [h.shape for h in old] == [(5, 3, 3, 3), (1, 1, 1, 5), (4, 5, 1, 1), (1, 1, 1, 4)]
    write_state("run/old.solverstate", iteration=3, learned_net=state.learned_net, history=old)
    other = get_solver("solver.prototxt")
    other.restore("run/old.solverstate")
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("full", [False, True])
def test_a_snapshot_replaces_an_older_one_whole_or_not_at_all(job, monkeypatch, full):
    """Stopped while it writes over the snapshot of an earlier run, by Ctrl-C or a full disk, a run leaves that as it was."""
    one = get_solver("solver.prototxt")
    one.step(3)
    one.close()
    files = {p.suffix: p.read_bytes() for p in Path("run").iterdir()}
    assert set(files) == {".caffemodel", ".resume", ".solverstate"}
    other = make_solver(SOLVER.replace("0.05", "0.01"), path="solver.prototxt")
    if full:  # for the second of its files
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(files[".resume"]) // 2, limits[1]))
    else:
        monkeypatch.setattr(snapshot, "write_state", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        with pytest.raises(Error if full else KeyboardInterrupt, match="cannot be written: File too large" if full else None):
            other.step(3)
    finally:
        if full:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    other.close()
    assert {p.suffix: p.read_bytes() for p in Path("run").iterdir()} == files


def test_a_snapshot_replaces_one_of_the_other_format_too(job):
    """They have one .resume file, which belongs to the newer."""
    for form in ("HDF5", "BINARYPROTO"):
        one = make_solver(changed(f"snapshot_format: {form}"), path="solver.prototxt")
        one.step(3)
        one.close()
        assert [p.name for p in Path("run").glob("*.solverstate*")] == [f"snap_iter_3.solverstate{'.h5' * (form == 'HDF5')}"]


@pytest.mark.parametrize("prefix, stem", [("run/snap", "run/snap"), ("new/", "new/solver"), ("", "solver"), (".", "./solver")])
def test_where_snapshots_go(job, prefix, stem):
    write_job(job, SOLVER.replace('snapshot_prefix: "run/snap"', f'snapshot_prefix: "{prefix}"' if prefix else ""))
    one = get_solver("solver.prototxt")
    one.step(3)
    one.close()
    assert Path(f"{stem}_iter_3.solverstate").exists() and Path(f"{stem}_iter_3.caffemodel").exists()


def test_snapshots_without_a_place_to_go_are_an_error(job):
    one = make_solver(SOLVER.replace("run/snap", "solver.prototxt/snap"), path="solver.prototxt")
    with pytest.raises(Error, match="snapshot of iteration 3 cannot be written: .*the last good one is none"):
        one.step(3)
    one.close()


def test_a_state_without_its_resume_file_is_a_warning(job, capsys):
    one = get_solver("solver.prototxt")
    one.step(3)
    one.close()
    Path("run/snap_iter_3.resume").unlink()
    other = get_solver("solver.prototxt", log=Log(quiet=True))
    other.restore("run/snap_iter_3.solverstate")
    assert "snap_iter_3.solverstate has no .resume file beside it: data and random state start again" in capsys.readouterr().err
    assert other.positions(other.net) == [0]


def test_the_files_under_a_prefix_are_known_by_their_names(tmp_path):
    for name in ("a_iter_9.caffemodel.h5", "a_iter_10.caffemodel", "b_iter_11.caffemodel", "a_iter_12.solverstate",
                 "a_iter_13.caffemodel.part", "aa_iter_14.caffemodel", "a_iter_9.caffemodel"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(len(name), len(name)))  # of iteration 9's two, the HDF5 file is newer
    found = kept(tmp_path / "a", "caffemodel")
    assert [(n, file.name) for n, file in found] == [
        (9, "a_iter_9.caffemodel"), (9, "a_iter_9.caffemodel.h5"), (10, "a_iter_10.caffemodel")]
    assert found[1][1] == at(tmp_path / "a", 9, hdf5=True).weights
    assert [prefix_of(p) for p in ("x/a_iter_9.caffemodel.h5", "a_iter_b_iter_1.solverstate", "vgg16.caffemodel")] == [
        "a", "a_iter_b", ""]


def snapshots(*settings, data=HDF5):
    """What a run with other settings writes, by its files' names."""
    write_job(Path(), changed(*settings), data=data)
    one = get_solver("solver.prototxt")
    one.step(6)
    one.close()
    found = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    shutil.rmtree("run")
    return found


def refusal(files, solver="solver.prototxt"):
    """What is said of files of which snap_iter_6 is to be gone on from; "" if nothing is."""
    Path("run").mkdir(exist_ok=True)
    for name, content in files.items():
        Path("run", name).write_bytes(content)
    (state,) = Path("run").glob("snap_iter_6.solverstate*")
    one = get_solver(solver)
    fresh = params_of(one)
    try:
        one.restore(state)
        return ""
    except Error as error:
        same(fresh, params_of(one))
        return str(error)
    finally:
        one.close()
        shutil.rmtree("run")


@pytest.mark.parametrize("end", ["", ".h5"])
def test_files_of_several_snapshots_are_refused(job, end):
    form = "snapshot_format: HDF5" if end else ""
    other, mine = snapshots("random_seed: 6", form), snapshots(form)
    assert refusal(mine) == ""
    mixtures = {name: other[name] for name in (f"snap_iter_6.caffemodel{end}", f"snap_iter_6.solverstate{end}", "snap_iter_6.resume")}
    for name, content in [*mixtures.items(), (f"snap_iter_6.caffemodel{end}", mine[f"snap_iter_3.caffemodel{end}"])]:
        said = refusal(mine | {name: content})
        assert "they are not of one snapshot" in said and name in said
    of_caffe = mine | {f"snap_iter_6.caffemodel{end}": content}  # which cannot be told from each other
    del of_caffe["snap_iter_6.resume"]
    assert refusal(of_caffe) == ""


def test_a_history_of_another_rule_is_refused_though_it_has_as_many_blobs(job):
    mine = snapshots()
    Path("other.prototxt").write_text(changed('type: "Nesterov"'))
    assert "was trained by SGD, this solver is Nesterov" in refusal(mine, "other.prototxt")


def test_resume_files_of_older_versions_serve(job):
    mine = snapshots()
    facts = json.loads(mine["snap_iter_6.resume"])
    for name in ("type", "weights", "history"):
        del facts[name]
    mine["snap_iter_6.resume"] = json.dumps(facts).encode()
    assert refusal(mine) == ""


@pytest.mark.parametrize("key, value", [
    ("train", [-1]), ("train", [1e3]), ("train", 5), ("train", [True]), ("train", [1 << 70]), ("test", [3]), ("test", [["a"]]),
    ("cpu", {"bytes": "AA=="}), ("cpu", {"bytes": "AAAA"}), ("cpu", "word"), ("seed", -4), ("seed", "5"), ("skipped", "abc"),
    ("skipped", [1]), ("losses", [None]), ("losses", [float("nan")]), ("losses", [-float("inf")]), ("losses", [10**400]), ("losses", 3), ("iter", -6), ("weights", 7), ("type", 1)])
def test_what_no_run_leaves_in_a_resume_file_is_refused(job, resumable, key, value):
    facts = json.loads(resumable["snap_iter_6.resume"]) | {key: value}
    said = refusal(resumable | {"snap_iter_6.resume": json.dumps(facts).encode()})
    assert f"run/snap_iter_6.resume: its '{key}' is not what a run leaves there" in said


@pytest.fixture(scope="module")
def resumable(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("resumable"))
        return snapshots()


def test_of_two_writers_of_one_prefix_the_second_is_refused_while_the_first_lives(job, capsys):
    code = "import time; from pathlib import Path; from netspec.base.files import holding\nwith holding(Path('run/snap')):\n    print(flush=True); time.sleep(60)"
    Path("run").mkdir()
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment())
    try:
        first.stdout.readline()
        assert cli.main(["solve", "solver.prototxt", "--iterations", "2", "--quiet"]) == 2
        assert "another run that is at work writes run/snap_*" in capsys.readouterr().err
        one = pycaffe.get_solver("solver.prototxt")
        for write in (partial(one.step, 1), one.snapshot, get_solver("solver.prototxt").snapshot):
            with pytest.raises(Error, match=r"another run that is at work writes run/snap_\*"):
                write()
        write_job(job, changed('snapshot_prefix: "run/snap2"'), name="beside.prototxt")
        assert cli.main(["solve", "beside.prototxt", "--iterations", "2", "--quiet"]) == 0
    finally:
        first.kill()
        first.communicate()
    assert Path("run/.snap.lock.part").exists()
    assert cli.main(["solve", "solver.prototxt", "--iterations", "2", "--quiet"]) == 0
    assert not list(Path("run").glob(".*"))


def test_pycaffes_solver_keeps_its_prefix_as_long_as_it_lives(job):
    code = "import sys; from netspec.cli.main import main; sys.exit(main(['solve', 'solver.prototxt', '--iterations', '2', '--quiet']))"
    one, two = (pycaffe.get_solver("solver.prototxt") for _ in range(2))  # of one process, as a notebook has them
    one.step(1)
    two.step(1)
    for solvers in (1, 0):
        one = None
        done = run("-c", code, cwd=job)
        assert (done.returncode, "another run that is at work" in done.stderr) == ((2, True) if solvers else (0, False)), done.stderr
        two = None
        gc.collect()
    assert not list(Path("run").glob(".*"))


def test_a_run_that_is_refused_leaves_no_empty_folder(job):
    Path("data.h5").unlink()
    assert cli.main(["solve", "solver.prototxt", "--quiet"]) == 2
    assert sorted(map(str, job.iterdir())) == sorted(str(job / name) for name in ("data.txt", "net.prototxt", "solver.prototxt"))
