"""pycaffe's interface: nets and solvers give Caffe's numbers through it, and its arrays are live."""

import re
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_case import close
from training import BODY, changed, params_of, same, write_job

import netspec as caffe
from netspec.ops import blobs as memories
from netspec.proto.model import read_weights
from netspec.pycaffe import session
from netspec.train import updates

GOLDEN = Path(__file__).parents[1] / "golden"
LAYERS = sorted(path.stem for path in (GOLDEN / "layers").glob("*.prototxt"))
JOBS = sorted(path.name for path in (GOLDEN / "solvers").iterdir())
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    caffe.set_mode_cpu()
    session._Mode.seeded, session._Mode.minimum = False, None


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Both devices; the GPU only where there is one."""
    if request.param == "gpu":
        caffe.set_device(0)
        caffe.set_mode_gpu()
    return request.param


INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 6 } } }\n'
LABEL = 'layer { name: "lab" type: "Input" top: "label" input_param { shape { dim: 2 dim: 1 dim: 5 dim: 6 } } }\n'
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }\n'


@pytest.fixture
def net_of(tmp_path):
    def make(text, phase=caffe.TEST, **options):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), phase, **options)
    return make


def filled(net, seed=0):
    """The net with noise in its inputs and labels 0, 1, 2."""
    rng = np.random.default_rng(seed)
    for name in net.inputs:
        shape = net.blobs[name].shape
        net.blobs[name].data[...] = rng.integers(0, 3, shape) if name == "label" else rng.standard_normal(shape)
    return net


# -- nets against Caffe ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_what_caffe_computes(name, device):
    case = dict(np.load(GOLDEN / "layers" / f"{name}.npz"))
    net = caffe.Net(str(GOLDEN / "layers" / f"{name}.prototxt"), getattr(caffe, str(case.pop("phase"))))
    parts = {}
    for key, value in case.items():
        kind, _, rest = key.partition(":")
        parts.setdefault(kind, {})[rest] = value

    def param(key):
        layer, index = key.rsplit(":", 1)
        return net.params[layer][int(index)]

    for blob, value in parts.get("in", {}).items():
        net.blobs[blob].data[...] = value
    for key, value in parts.get("param", {}).items():
        param(key).data[...] = value
    net.forward()
    for blob, value in parts["out"].items():
        close(f"out:{blob}", net.blobs[blob].data, value)
    for key, value in parts.get("param_after", {}).items():
        close(f"param_after:{key}", param(key).data, value)
    if "indiff" not in parts and "paramdiff" not in parts:
        return
    if set(parts.get("topdiff", ())) == set(net.outputs):
        net.backward(**parts["topdiff"])
    else:
        for blob, value in parts.get("topdiff", {}).items():
            net.blobs[blob].diff[...] = value
        net.backward()
    for blob, value in parts.get("indiff", {}).items():
        close(f"indiff:{blob}", net.blobs[blob].diff, value)
    for key, value in parts.get("paramdiff", {}).items():
        close(f"paramdiff:{key}", param(key).diff, value)


@pytest.mark.parametrize("file", ["v1.caffemodel", "double.caffemodel", "small.caffemodel", "small.caffemodel.h5"])
def test_weights_come_from_every_kind_of_file(file, tmp_path):
    text = str(GOLDEN / "weights" / "v1.prototxt")
    net = caffe.Net(text, caffe.TEST, weights=str(GOLDEN / "weights" / file))
    stored = read_weights(GOLDEN / "weights" / file)
    assert list(net.params) == ["conv", "ip"]
    for layer, blobs in net.params.items():
        for blob, value in zip(blobs, stored[layer], strict=True):
            np.testing.assert_allclose(blob.data.ravel(), np.ravel(value), rtol=1e-6)
    filled(net).forward()
    before = net.blobs["prob"].data.copy()
    for path, save in ((tmp_path / "a.caffemodel", net.save), (tmp_path / "a.caffemodel.h5", net.save_hdf5)):
        save(str(path))
        again = filled(caffe.Net(text, str(path), caffe.TEST))  # the older order
        np.testing.assert_array_equal(again.forward()["prob"], before)


@pytest.mark.parametrize("file", ["mismatch.caffemodel", "truncated.caffemodel"])
def test_weights_that_do_not_fit_are_refused_whole(file):
    net = caffe.Net(str(GOLDEN / "weights" / "v1.prototxt"), caffe.TEST)
    before = {layer: [blob.data.copy() for blob in blobs] for layer, blobs in net.params.items()}
    with pytest.raises(caffe.Error, match=file):
        net.copy_from(GOLDEN / "weights" / file)
    for layer, blobs in net.params.items():
        for blob, value in zip(blobs, before[layer], strict=True):
            np.testing.assert_array_equal(blob.data, value)


def test_names_and_order_are_caffes(net_of):
    net = net_of(INPUT + LABEL + CONV + LOSS + 'layer { name: "a" type: "ArgMax" bottom: "score" top: "best" }')
    assert list(net.blobs) == ["data", "label", "conv", "score", "loss", "best"]
    assert list(net.params) == ["conv", "score"] and [len(blobs) for blobs in net.params.values()] == [2, 2]
    assert (net.inputs, net.outputs) == (["data", "label"], ["best", "loss"])
    assert net._layer_names == list(net.layer_dict) == ["in", "lab", "conv", "relu", "score", "loss", "a"]
    assert [layer.type for layer in net.layers][2:4] == ["Convolution", "ReLU"]
    assert net.layers[2].blobs[0] is net.params["conv"][0]
    assert net.bottom_names["loss"] == ["score", "label"] and net.top_names["relu"] == ["conv"]
    assert net.blob_loss_weights == {"data": 0, "label": 0, "conv": 0, "score": 0, "loss": 1, "best": 0}
    blob = net.blobs["score"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 5, 6, 180)
    assert net.blobs["loss"].shape == () and net.blobs["loss"].data.shape == () and net.blobs["loss"].num == 1


def test_phase_level_and_stages(net_of):
    text = INPUT + "".join(
        f'layer {{ name: "{name}" type: "AbsVal" bottom: "data" top: "{name}" {rule} }}\n' for name, rule in {
            "train": "include { phase: TRAIN }", "deep": "include { min_level: 2 }", "extra": 'include { stage: "s" }'}.items())
    assert net_of(text).outputs == ["data"] and net_of(text, caffe.TRAIN).outputs == ["train"]
    assert net_of(text, caffe.TEST, level=2).outputs == ["deep"]
    assert net_of(text, caffe.TEST, stages=["s"]).outputs == ["extra"]


# -- live arrays -----------------------------------------------------------------------------------------------


def test_arrays_are_live(net_of, device):
    net = filled(net_of("force_backward: true\n" + INPUT + CONV))
    data, score = net.blobs["data"].data, net.blobs["score"].data
    assert data.dtype == np.float32 and data.flags.writeable and data.flags.c_contiguous
    first = net.forward()["score"].copy()
    net.blobs["data"].data[...] *= 2  # asked for again, as Caffe on a GPU needs it too
    second = net.forward()["score"].copy()
    assert not np.allclose(first, second)
    if device == "cpu":  # arrays that are held see what comes, and are seen
        np.testing.assert_array_equal(score, second)
        data[...] /= 2
        np.testing.assert_allclose(net.forward()["score"], first, rtol=1e-6)
    net.params["score"][0].data[...] = 0
    net.params["score"][1].data[...] = [1, 2, 3]
    np.testing.assert_array_equal(net.forward()["score"][0, :, 0, 0], [1, 2, 3])
    net.params["score"][0].data.flat = np.arange(12)
    np.testing.assert_array_equal(net.params["score"][0].data.ravel(), np.arange(12))
    net.params["score"][0].data.reshape(-1)[5] = -1
    assert net.params["score"][0].data[1, 1, 0, 0] == -1


def test_arrays_outlive_their_net(net_of):
    net = filled(net_of(INPUT + CONV))
    net.forward()
    blobs, params = list(net.blobs.values()), net.params["conv"]
    del net
    assert sum(blob.data.sum() + blob.diff.sum() for blob in (*blobs, *params)) != 0


def test_gradients_of_parameters_add_up_and_those_of_blobs_do_not(net_of, device):
    net = filled(net_of("force_backward: true\n" + INPUT + LABEL + CONV + LOSS))
    net.forward()
    net.backward()
    param, data = net.params["conv"][0].diff.copy(), net.blobs["data"].diff.copy()
    assert np.abs(param).max() > 0 and np.abs(data).max() > 0
    net.backward()
    np.testing.assert_allclose(net.params["conv"][0].diff, 2 * param, rtol=1e-6)
    np.testing.assert_array_equal(net.blobs["data"].diff, data)
    net.clear_param_diffs()
    assert not net.params["conv"][0].diff.any()
    net.blobs["loss"].diff[...] = 3  # of the weight that a loss passes down
    net.backward()
    np.testing.assert_allclose(net.params["conv"][0].diff, 3 * param, rtol=1e-5, atol=1e-7)


def test_without_force_backward_inputs_and_nets_without_loss_get_no_gradient(net_of):
    net = filled(net_of(INPUT + LABEL + CONV + LOSS))
    net.forward()
    net.backward()
    assert not net.blobs["data"].diff.any() and net.blobs["conv"].diff.any()
    net = filled(net_of(INPUT + CONV))
    net.forward()
    with pytest.warns(UserWarning, match="no loss and no force_backward"):
        net.backward(score=np.ones(net.blobs["score"].shape))
    assert not net.params["conv"][0].diff.any()


def test_reshape(net_of):
    net = filled(net_of("force_backward: true\n" + INPUT + CONV))
    net.blobs["data"].reshape(1, 3, 7, 4)
    net.reshape()
    assert net.blobs["score"].shape == (1, 3, 7, 4) == net.blobs["score"].diff.shape
    assert net.forward(data=np.ones((1, 3, 7, 4)))["score"].shape == (1, 3, 7, 4)
    net.backward(score=np.ones((1, 3, 7, 4)))
    assert net.blobs["data"].diff.shape == (1, 3, 7, 4)
    net.blobs["data"].reshape(2, 3, 3, 3)  # and forward reshapes by itself
    assert net.forward()["score"].shape == (2, 3, 3, 3)
    with pytest.raises(caffe.Error, match="cannot be reshaped"):
        net.params["conv"][0].reshape(1)
    with pytest.raises(caffe.Error, match=r"cannot have the shape \[-1\]"):
        net.blobs["data"].reshape(-1)
    net.blobs["data"].reshape(1, 4, 5, 5)
    with pytest.raises(caffe.Error, match="layer 'conv'"):
        net.forward()


def test_parts_of_a_net(net_of):
    net = filled(net_of("force_backward: true\n" + INPUT + CONV))
    out = net.forward(blobs=["conv"], end="relu")
    assert list(out) == ["conv"] and (out["conv"] >= 0).all() and not net.blobs["score"].data.any()
    net.blobs["conv"].data[...] = 1
    kernel, bias = (blob.data for blob in net.params["score"])
    np.testing.assert_allclose(net.forward(start="score")["score"][0, :, 0, 0], kernel.sum((1, 2, 3)) + bias, rtol=1e-5)
    net.blobs["score"].diff[...] = 1
    diffs = net.backward(start="score", end="score")
    np.testing.assert_allclose(diffs["conv"][0, :, 0, 0], kernel.sum((0, 2, 3)), rtol=1e-5)
    assert not net.blobs["data"].diff.any() and not net.params["conv"][0].diff.any()
    net.forward()
    net.blobs["conv"].diff[...] = 1  # from inside the net down, as deep dreams do
    net.backward(start="relu")
    expected = net.blobs["data"].diff.copy()
    assert expected.any() and set(net.backward(diffs=["conv"], score=np.ones((2, 3, 5, 6)))) == {"data", "conv"}
    assert not np.allclose(expected, net.blobs["data"].diff)


@pytest.mark.parametrize("call, words", [
    (lambda net: net.forward(dada=0), r"takes all of its inputs \(data, label\) or none, found dada"),
    (lambda net: net.forward(data=np.zeros((2, 3, 5, 6))), "takes all of its inputs"),
    (lambda net: net.forward(data=np.zeros((1, 3, 5, 6)), label=np.zeros((2, 1, 5, 6))), "reshape the blob"),
    (lambda net: net.forward(end="los"), "no layer 'los'; did you mean 'loss'"),
    (lambda net: net.forward(["scores"]), "no blob 'scores'; did you mean 'score'"),
    (lambda net: net.backward(scroe=0), "no blob 'scroe'; did you mean 'score'"),
    (lambda net: net.backward(score=np.zeros((2, 4, 5, 6))), r"blob 'score' has shape \[2, 3, 5, 6\], its diff was given as"),
    (lambda net: net.copy_from("nowhere.caffemodel"), "weights 'nowhere.caffemodel' is not there"),
    (lambda net: caffe.Net("nowhere.prototxt", caffe.TEST), "net 'nowhere.prototxt' is not there"),
    (lambda net: caffe.get_solver("nowhere.prototxt"), "solver 'nowhere.prototxt' is not there"),
])
def test_mistakes_are_errors(net_of, call, words):
    with pytest.raises(caffe.Error, match=words):
        call(net_of(INPUT + LABEL + CONV + LOSS))


def test_share_with(net_of):
    one, two = filled(net_of(INPUT + CONV)), filled(net_of(INPUT + CONV))
    assert not np.allclose(one.forward()["score"], two.forward()["score"])
    two.share_with(one)
    np.testing.assert_array_equal(one.forward()["score"], two.forward()["score"])
    one.params["conv"][1].data[...] = 5
    np.testing.assert_array_equal(two.params["conv"][1].data, 5)
    other = net_of(INPUT + CONV.replace("num_output: 4", "num_output: 6"))
    with pytest.raises(caffe.Error, match="layer 'conv': parameter 0"):
        other.share_with(one)


def test_data_layers_go_on_with_every_pass(net_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, data='layer { name: "data" type: "HDF5Data" top: "data" top: "label" '
                             'hdf5_data_param { source: "data.txt" batch_size: 2 } }')
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    assert net.inputs == []
    seen = []
    for _ in range(8):
        net.forward()
        seen.append(net.blobs["data"].data.copy())
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[7])  # 7 rows, two at a time


def test_constant_dummy_data_keeps_what_is_written(net_of):
    net = net_of("""layer { name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 4 } shape { dim: 4 }
                    data_filler { type: "gaussian" } data_filler { value: 3 } } }""")
    assert net.blobs["b"].data.tolist() == [3] * 4 and net.blobs["a"].data.any()
    net.blobs["b"].data[...] = 1
    before = net.blobs["a"].data.copy()
    net.forward()
    net.forward()
    assert net.blobs["b"].data.tolist() == [1] * 4 and not np.array_equal(before, net.blobs["a"].data)


def test_seed(net_of):
    text = INPUT + CONV + 'layer { name: "drop" type: "Dropout" bottom: "score" top: "score" }'
    found = []
    for _ in range(2):
        caffe.set_random_seed(3)
        found.append(filled(net_of(text, caffe.TRAIN)).forward()["score"].copy())
    np.testing.assert_array_equal(*found)


# -- solvers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def golden(request, tmp_path, monkeypatch):
    shutil.copytree(GOLDEN / "solvers" / request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return dict(np.load("expected.npz"))


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    return tmp_path


def check_params(net, expected, prefix):
    for key, value in expected.items():
        if key.startswith(prefix):
            layer, index = key.removeprefix(prefix).rsplit(":", 1)
            close(key, net.params[layer][int(index)].data, value)


@pytest.mark.parametrize("golden", JOBS, indirect=True)
def test_solvers_compute_what_caffe_computes(golden):
    solver = caffe.get_solver("solver.prototxt")
    solver.net.copy_from("init.caffemodel")
    losses, rates = [], []
    for k in range(1, 31):
        rates.append(solver.lr)
        solver.step(1)
        assert solver.iter == k
        losses.append(float(solver.net.blobs["loss"].data))
        check_params(solver.net, golden, f"at:{k}:")
    close("loss", np.array(losses), golden["loss"][:30])
    close("lr", np.array(rates), golden["lr"][:30])
    again = caffe.get_solver("solver.prototxt")
    again.restore("final_iter_30.solverstate")
    losses = []
    for _ in range(10):
        again.step(1)
        losses.append(float(again.net.blobs["loss"].data))
    assert again.iter == 40
    close("resumed_loss", np.array(losses), golden["resumed_loss"])
    check_params(again.net, golden, "resumed:")


@pytest.mark.parametrize("golden", ["sgd_fcn_paper"], indirect=True)
def test_steps_at_once_equal_steps_one_by_one(golden, device):
    found = []
    for steps in ([1] * 6, [6], [2, 3, 1]):
        solver = caffe.get_solver("solver.prototxt")
        solver.net.copy_from("init.caffemodel")
        for count in steps:
            solver.step(count)
        found.append(([b.data.copy() for blobs in solver.net.params.values() for b in blobs],
                      {name: (b.data.copy(), b.diff.copy()) for name, b in solver.net.blobs.items()}))
    for params, blobs in found[1:]:
        for a, b in zip(params, found[0][0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        for name in blobs:
            for a, b in zip(blobs[name], found[0][1][name], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=name)


def test_after_a_step_the_diffs_hold_the_update(job, device):
    solver = caffe.get_solver("solver.prototxt")
    solver.step(2)
    before = solver.net.params["conv"][0].data.copy()
    solver.step(1)
    np.testing.assert_allclose(before - solver.net.params["conv"][0].data, solver.net.params["conv"][0].diff, atol=1e-7)
    solver.net.params["score"][1].data[...] = 4  # between steps
    solver.step(1)
    np.testing.assert_allclose(solver.net.params["score"][1].data + solver.net.params["score"][1].diff, 4, rtol=1e-5)


def test_diffs_that_were_looked_at_do_not_count_in_the_next_step(job, monkeypatch):
    """Where arrays are copies of what the net has, as on a GPU."""
    monkeypatch.setattr(memories, "CPU", torch.device("meta"))  # where no tensor is
    found = []
    for look in (False, True):
        caffe.set_random_seed(1)
        solver = caffe.get_solver("solver.prototxt")
        for _ in range(3):
            solver.step(1)
            assert not look or solver.net.params["conv"][0].diff.any()
        found.append(solver.net.params["conv"][0].data.copy())
    np.testing.assert_array_equal(*found)


def test_update_by_hand(job):
    solver = caffe.SGDSolver("solver.prototxt")
    solver.net.params["conv"][0].data[...] = 0
    solver.net.params["conv"][0].diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(solver.net.params["conv"][0].data, -0.05, rtol=1e-6)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_the_class_decides_the_rule(job, kind):
    text = Path("solver.prototxt").read_text().replace("momentum: 0.9", "momentum: 0" if kind in ("AdaGrad", "RMSProp") else
                                                       "momentum: 0.9")
    Path("solver.prototxt").write_text(text)
    made = getattr(caffe, f"{kind}Solver")("solver.prototxt")
    assert made.param.type == kind and isinstance(made, caffe.SGDSolver)
    Path("solver.prototxt").write_text(f'type: "{kind}"\n' + text)
    assert type(caffe.get_solver("solver.prototxt")) is type(made)
    made.step(2)
    assert made.iter == 2


def test_a_rule_without_a_class_of_its_own(job, monkeypatch):
    monkeypatch.setitem(updates.RULES, "Mine", updates.RULES["SGD"])
    text = Path("solver.prototxt").read_text()
    Path("solver.prototxt").write_text(f'type: "Mine"\n{text}')
    solver = caffe.get_solver("solver.prototxt")
    solver.step(1)
    assert type(solver) is caffe.pycaffe.Solver and solver.iter == 1
    Path("solver.prototxt").write_text(f'type: "Mien"\n{text}')
    with pytest.raises(caffe.Error, match="solver type 'Mien' is not known; did you mean 'Mine'"):
        caffe.get_solver("solver.prototxt")


def test_solvers_in_threads_that_draw_nothing_compute_what_they_do_alone(job):
    write_job(job, changed("random_seed: 5"), "".join(line for line in BODY.splitlines(True) if "Dropout" not in line))
    alone, one, two = (caffe.get_solver("solver.prototxt") for _ in range(3))
    alone.step(5)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda solver: solver.step(5), (one, two)))
    for each in (one, two):
        same(params_of(each._solver), params_of(alone._solver))


def test_solve_snapshots_and_resumes(job):
    solver = caffe.get_solver("solver.prototxt")
    solver.solve()
    assert solver.iter == 12 and solver.net.blobs["loss"].data > 0
    assert Path("run/snap_iter_12.solverstate").exists()
    again = caffe.get_solver("solver.prototxt")
    again.restore("run/snap_iter_9.solverstate")
    again.solve()
    for a, b in zip(solver.net.params["conv"], again.net.params["conv"], strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    assert again.snapshot() == Path("run/snap_iter_12.solverstate")


def test_test_nets_share_the_parameters(job):
    solver_file = Path("solver.prototxt")
    solver_file.write_text(solver_file.read_text() + "\ntest_iter: 2 test_interval: 5")
    solver = caffe.get_solver("solver.prototxt")
    (test,) = solver.test_nets
    first = float(test.forward()["loss"])
    second = float(test.forward()["loss"])
    assert first != second  # its data go on
    solver.step(10)
    for layer, blobs in test.params.items():
        for a, b in zip(blobs, solver.net.params[layer], strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    test.params["conv"][1].data[...] = 9
    assert (solver.net.params["conv"][1].data == 9).all()


def test_a_pass_over_the_solvers_net_takes_its_next_batch(job):
    one, two = caffe.get_solver("solver.prototxt"), caffe.get_solver("solver.prototxt")
    one.net.forward()
    first = one.net.blobs["data"].data.copy()
    one.net.backward()  # is forgotten by the step
    one.step(1)
    assert not np.array_equal(one.net.blobs["data"].data, first)
    two.step(1)
    np.testing.assert_array_equal(two.net.blobs["data"].data, first)


def test_a_solver_trains_on_arrays(job):
    write_job(job, data='layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: 2 dim: 3 dim: 4 '
                        'dim: 4 } shape { dim: 2 dim: 1 dim: 4 dim: 4 } } }', body=BODY)
    solver = caffe.get_solver("solver.prototxt")
    rng = np.random.default_rng(0)
    solver.net.blobs["label"].data[...] = rng.integers(0, 4, (2, 1, 4, 4))
    losses = []
    for _ in range(4):
        solver.net.blobs["data"].data[...] = 10 * solver.net.blobs["label"].data + rng.standard_normal((2, 3, 4, 4))
        solver.step(5)
        losses.append(float(solver.net.blobs["loss"].data))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("test", ["", "test_iter: 1 test_interval: 2"])
def test_debug_info_of_a_job(job, capfd, monkeypatch, test):
    monkeypatch.setenv("GLOG_minloglevel", "0")
    path = Path("solver.prototxt")
    path.write_text(path.read_text() + f"\ndebug_info: true display: 3 {test}")
    caffe.get_solver("solver.prototxt").step(5)
    said = capfd.readouterr().err
    assert len(re.findall(r"\] Iteration \d+ \(", said)) == 2  # 0 and 3
    passes = 2 + (3 if test else 0)
    assert len(re.findall(r"net.cpp:593\]     \[Forward\] Layer conv, top blob conv data: ", said)) == passes
    assert len(re.findall(r"E\d{4} .* net.cpp:721\]     \[Backward\] All net params \(data, diff\): L1 norm = ", said)) == 2


# -- the package as a module -----------------------------------------------------------------------------------


def test_the_package_is_caffe():
    code = ("import sys, netspec as caffe; assert 'torch' not in sys.modules; caffe.layers.ReLU; caffe.params.Pooling.MAX; "
            "n = caffe.NetSpec(); n.x = caffe.layers.Input(shape=dict(dim=[1])); caffe.to_proto(n.x); "
            "caffe.proto.caffe_pb2.NetParameter; assert (caffe.TRAIN, caffe.TEST) == (0, 1); assert 'torch' not in sys.modules; "
            "caffe.Net, caffe.Layer, caffe.coord_map.crop, caffe.io.blobproto_to_array; assert 'torch' in sys.modules; "
            "assert {'Net', 'coord_map', 'SGDSolver'} <= set(dir(caffe)); print(hasattr(caffe, 'Nett'))")
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr
    assert {"Convolution", "Python", "Data"} <= set(caffe.layer_type_list())


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_gpu_mode_without_a_gpu_stays_on_the_cpu(net_of):
    caffe.set_device(1)
    with pytest.warns(UserWarning, match="run on the CPU"):
        caffe.set_mode_gpu()
    filled(net_of(INPUT + CONV)).forward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caffe.set_mode_cpu()


def test_blobs_and_their_messages():
    blob = caffe.io.array_to_blobproto(np.arange(6).reshape(2, 3), diff=np.ones((2, 3)))
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), np.ones((2, 3)))
    old = caffe.proto.caffe_pb2.BlobProto(num=1, channels=1, height=2, width=1, double_data=[1, 2])
    assert caffe.io.blobproto_to_array(old).shape == (1, 1, 2, 1)
    with pytest.raises(ValueError):
        caffe.io.blobproto_to_array(caffe.proto.caffe_pb2.BlobProto(data=[1, 2]))
