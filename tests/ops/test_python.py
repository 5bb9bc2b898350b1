"""Layers written in Python, pycaffe's kind: what they get, what they give, and that nets learn through them."""

import sys

import numpy as np
import pytest
import torch
from training import write_job

import netspec as caffe
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.train.solver import get_solver

HERE = __name__


class Square(caffe.Layer):
    def setup(self, bottom, top):
        self.calls = []

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        self.calls.append(bottom[0].num)
        top[0].data[...] = bottom[0].data ** 2

    def backward(self, top, propagate_down, bottom):
        self.asked = propagate_down
        bottom[0].diff[...] = 2 * bottom[0].data * top[0].diff


class Times(caffe.Layer):
    """By the number in param_str."""

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = float(self.param_str) * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = float(self.param_str) * top[0].diff


class Euclidean(caffe.Layer):
    """A loss as the examples of Caffe write it: the gradient without its weight."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise ValueError("two bottoms, please")

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        self.asked = propagate_down
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                bottom[i].diff[...] = sign * self.diff / bottom[i].num * top[0].diff[0]


class Shift(caffe.Layer):
    """Adds a parameter of its own, which starts at 3."""

    def setup(self, bottom, top):
        self.blobs.add_blob(bottom[0].channels)
        self.blobs[0].data[...] = 3

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + self.blobs[0].data.reshape(1, -1, 1, 1)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff
        self.blobs[0].diff[...] += top[0].diff.sum((0, 2, 3))


class Counting(caffe.Layer):
    """A data layer: image k holds k and is of another size."""

    def setup(self, bottom, top):
        self.next = 0

    def reshape(self, bottom, top):
        top[0].reshape(1, 3, 4 + self.next % 2, 5)
        top[1].reshape(1, 1, 4 + self.next % 2, 5)

    def forward(self, bottom, top):
        top[0].data[...] = self.next
        top[1].data[...] = self.next % 3
        self.next += 1

    def backward(self, top, propagate_down, bottom):
        pass


class Facts(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        assert str(self.phase) == ("TRAIN" if self.phase == caffe.TRAIN else "TEST") and self.param_str_ == self.param_str
        top[0].data[()] = self.phase


class InPlace(caffe.Layer):
    def reshape(self, bottom, top):
        assert top[0] is bottom[0]

    def forward(self, bottom, top):
        top[0].data[...] *= 3

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 3 * top[0].diff


class Broken(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        raise LookupError("from the layer")


NotALayer = dict


def python(name, kind, bottoms="x", tops="y", more="", param=""):
    return (f'layer {{ name: "{name}" type: "Python" {" ".join(f"bottom: {b!r}" for b in bottoms.split())} '
            f'{" ".join(f"top: {t!r}" for t in tops.split())} python_param {{ module: "{HERE}" layer: "{kind}" '
            f'param_str: "{param}" share_in_parallel: true }} {more} }}\n')


INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }\n'
CONV = ('layer { name: "conv" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 3 kernel_size: 3 pad: 1 '
        'weight_filler { type: "xavier" } } }\n')


@pytest.fixture
def net_of(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")

    def make(text, phase=caffe.TRAIN):
        path = tmp_path / "net.prototxt"
        path.write_text("force_backward: true\n" + text)
        net = caffe.Net(str(path), phase)
        for name in net.inputs:
            net.blobs[name].data[...] = np.random.default_rng(0).standard_normal(net.blobs[name].shape)
        return net
    return make


def compiled(text, phase=caffe.TRAIN):
    torch.manual_seed(0)
    return Net(build(prototext.parse(text, caffe_pb2.NetParameter), phase))


def gradients(text, seed=0):
    """The objective, the gradient of x and those of the parameters of a compiled net."""
    net = compiled(text)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 3, 4, 5)).astype(np.float32)).requires_grad_()
    loss = net.loss(net({"x": x}))
    loss.backward()
    return loss.item(), x.grad, [p.grad for p in net.parameters()]


def same_gradients(a, b):
    (loss, x, params), (other_loss, other_x, other_params) = gradients(a), gradients(b)
    assert loss == pytest.approx(other_loss, rel=1e-5) and len(params) == len(other_params)
    for one, other in zip((x, *params), (other_x, *other_params), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


POWER = 'layer { name: "p" type: "Power" bottom: "c" top: "y" power_param { power: 2 } }\n'
SUM = 'layer { name: "s" type: "Reduction" bottom: "y" top: "s" loss_weight: 0.5 }\n'


def test_compiled_nets_learn_through_layers_in_python():
    same_gradients(INPUT + CONV + python("p", "Square", "c") + SUM, INPUT + CONV + POWER + SUM)


def test_two_instances_with_settings_of_their_own():
    scale = 'layer {{ name: "{0}" type: "Power" bottom: "{1}" top: "{2}" power_param {{ scale: {3} }} }}\n'
    same_gradients(
        INPUT + CONV + python("a", "Times", "c", "a", param="2") + python("b", "Times", "a", "y", param="-3") + SUM,
        INPUT + CONV + scale.format("a", "c", "a", 2) + scale.format("b", "a", "y", -3) + SUM)


def test_a_loss_in_python_counts_with_its_weight():
    loss = 'layer { name: "l" type: "EuclideanLoss" bottom: "c" bottom: "x" top: "l" loss_weight: 0.7 }\n'
    same_gradients(INPUT + CONV + python("l", "Euclidean", "c x", "l", "loss_weight: 0.7"), INPUT + CONV + loss)


def test_parameters_in_python_start_as_the_layer_says_and_learn():
    bias = 'layer { name: "b" type: "Bias" bottom: "c" top: "y" bias_param { filler { value: 3 } } }\n'
    same_gradients(INPUT + CONV + python("b", "Shift", "c") + SUM, INPUT + CONV + bias + SUM)


def test_what_propagate_down_says():
    net = compiled(INPUT + CONV + python("p", "Square", "c") + SUM)
    net.loss(net({"x": torch.ones(2, 3, 4, 5)})).backward()
    assert net.graph.node("p").op.instance.asked == [True]
    net = compiled(INPUT + CONV + python("l", "Euclidean", "x c", "l", "loss_weight: 1"))
    net.loss(net({"x": torch.ones(2, 3, 4, 5)})).backward()
    assert net.graph.node("l").op.instance.asked == [False, True]
    assert net.layers_with_params()["conv"][0].grad.abs().max() > 0


def test_backward_is_not_called_where_nothing_below_learns():
    net = compiled(INPUT + python("b", "Broken") + SUM)
    with pytest.raises(LookupError, match="from the layer"):
        net({"x": torch.ones(2, 3, 4, 5)})
    net = compiled(INPUT + python("p", "Facts") + SUM.replace('"Reduction"', '"Power"'))
    assert not net.loss(net({"x": torch.ones(2, 3, 4, 5)})).requires_grad


def test_in_pycaffe_nets(net_of):
    net = net_of(INPUT + python("one", "Times", "x", "a", param="10") + python("two", "Square", "a", "y"))
    x = net.blobs["x"].data.copy()
    np.testing.assert_allclose(net.forward()["y"], 100 * x**2, rtol=1e-6)
    net.backward(y=np.ones_like(x))
    np.testing.assert_allclose(net.blobs["x"].diff, 200 * x, rtol=1e-6)
    np.testing.assert_allclose(net.blobs["a"].diff, 20 * x, rtol=1e-6)
    assert isinstance(net.layers[2], Square) and net.layer_dict["two"] is net.layers[2] and net.layers[2].calls == [2]
    net.blobs["x"].reshape(1, 2, 3)
    assert net.forward()["y"].shape == (1, 2, 3) and net.layers[2].calls == [2, 1]


def test_backward_before_any_forward(net_of):
    net = net_of(INPUT + python("one", "Times", param="10"))
    net.blobs["y"].diff[...] = 7
    net.backward()
    assert (net.blobs["x"].diff == 70).all()


def test_in_place(net_of):
    net = net_of(INPUT + CONV + python("t", "InPlace", "c", "c"))
    kernel, bias = (blob.data for blob in net.params["conv"])
    kernel[...], bias[...] = 0, 2
    assert (net.forward()["c"] == 6).all()
    net.backward(c=np.ones(net.blobs["c"].shape))
    assert (net.params["conv"][1].diff == 3 * 2 * 4 * 5).all()


def test_parameters_in_python_are_blobs_of_the_net(net_of, tmp_path):
    net = net_of(INPUT + python("b", "Shift"))
    assert net.params["b"][0].data.tolist() == [3, 3, 3] and net.layer_dict["b"].blobs[0] is net.params["b"][0]
    for total in (40, 80):  # gradients of parameters add up
        net.forward()
        net.backward(y=np.ones(net.blobs["y"].shape))
        assert net.params["b"][0].diff.tolist() == [total] * 3
    net.layer_dict["b"].blobs[0].data[...] = 5
    np.testing.assert_allclose(net.forward()["y"], net.blobs["x"].data + 5, rtol=1e-6)
    net.save(tmp_path / "w.caffemodel")
    net.params["b"][0].data[...] = -1
    net.copy_from(tmp_path / "w.caffemodel")
    assert net.layer_dict["b"].blobs[0].data.tolist() == [5, 5, 5]
    other = net_of(INPUT + python("b", "Shift"))
    other.share_with(net)
    assert other.layer_dict["b"].blobs[0].data.tolist() == [5, 5, 5]


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_phase_and_scalar_tops(net_of, phase):
    net = net_of(python("p", "Facts", "", "phase", param="here"), phase)
    assert net.layers[0].param_str_ == "here"
    assert net.forward()["phase"] == phase and net.blobs["phase"].shape == ()


SCORE = ('layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 3 kernel_size: 1 '
         'weight_filler { type: "xavier" } } }\n'
         'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }\n')


def test_data_layers_in_python_of_changing_size(net_of):
    net = net_of(python("data", "Counting", "", "data label") + SCORE)
    for k in range(4):
        net.forward()
        assert net.blobs["data"].data.shape == (1, 3, 4 + k % 2, 5) and (net.blobs["data"].data == k).all()
    assert net.layers[0].next == 4 and net.inputs == []


@pytest.mark.parametrize("face", [get_solver, caffe.get_solver])
def test_training_through_layers_in_python_equals_training_without(tmp_path, monkeypatch, face):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.chdir(tmp_path)
    body = CONV.replace('"x"', '"data"').replace('"c"', '"y"') + "{}" + (
        'layer { name: "t" type: "Convolution" bottom: "z" top: "score" convolution_param { num_output: 4 kernel_size: 1 '
        'weight_filler { type: "xavier" } } }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" '
        'loss_param { ignore_label: 255 } }\n')
    found = []
    power = 'layer { name: "m" type: "Power" bottom: "y" top: "z" power_param { power: 2 } }'
    for middle in (python("m", "Square", "y", "z"), power):
        write_job(tmp_path, body=body.replace("{}", middle), solver='net: "net.prototxt" base_lr: 1e-4 lr_policy: "fixed" '
                  'momentum: 0.9 random_seed: 5 iter_size: 2 max_iter: 6 snapshot_prefix: "s"')
        solver = face("solver.prototxt")
        solver.step(6)
        net = getattr(solver, "_solver", solver).net
        found.append([p.detach().clone() for p in net.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_solver_with_a_data_layer_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, data=python("data", "Counting", "", "data label"), body=SCORE)
    solver = get_solver("solver.prototxt")
    solver.step(5)
    assert solver.net.graph.node("data").op.instance.next == 5


def test_modules_in_the_current_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "only_here_layers.py").write_text(
        "import netspec as caffe\nclass Two(caffe.Layer):\n    def reshape(self, bottom, top):\n        top[0].reshape(1)\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = 2\n")
    net = compiled(INPUT + python("t", "Two").replace(HERE, "only_here_layers"))
    assert net({"x": torch.zeros(2, 3, 4, 5)})["y"].tolist() == [2]


def test_modules_that_import_caffe_get_this_package_and_nobody_else_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "caffe" / "python").mkdir(parents=True)  # Caffe's sources, never built
    (tmp_path / "of_caffe_layers.py").write_text(
        "import caffe\nclass Two(caffe.Layer):\n    def reshape(self, bottom, top):\n        import caffe.io\n"
        "        top[0].reshape(1)\n    def forward(self, bottom, top):\n        from caffe import TEST\n"
        "        top[0].data[...] = 2 + TEST\n")
    net = compiled(INPUT + python("t", "Two").replace(HERE, "of_caffe_layers"))
    assert net({"x": torch.zeros(2, 3, 4, 5)})["y"].tolist() == [3]
    assert not {"caffe", "caffe.io"} & sys.modules.keys()


@pytest.mark.parametrize("layer, words", [
    (python("p", "Sqare"), r"layer 'p' \(Python\): module '" + HERE + "' has no class 'Sqare'; did you mean 'Square'"),
    (python("p", "Square").replace(HERE, "no_such_module"), "module 'no_such_module' cannot be imported .* the current folder"),
    (python("p", "Square").replace(HERE, ""), "python_param gives no module"),
    (python("p", "NotALayer"), "is neither a netspec.Layer nor a netspec Operation"),
])
def test_layers_that_cannot_be_had_are_errors(layer, words):
    with pytest.raises(caffe.Error, match=words):
        compiled(INPUT + layer)


def test_errors_of_the_layer_come_through(net_of):
    with pytest.raises(ValueError, match="two bottoms, please"):
        net_of(INPUT + python("l", "Euclidean"))
    net = net_of(INPUT + python("b", "Broken"))
    with pytest.raises(LookupError, match="from the layer"):
        net.forward()
    net = net_of(INPUT + python("f", "Facts"))
    net.forward()
    with pytest.raises(NotImplementedError, match="Facts has no backward"):
        net.backward()


@pytest.mark.gpu
def test_on_a_gpu():
    text = INPUT + CONV + python("b", "Shift", "c", "d") + python("p", "Square", "d") + SUM
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32))
    found = []
    for device in ("cpu", "cuda"):
        net = compiled(text).to(device)
        net.loss(net({"x": x.to(device)})).backward()
        found.append([p.grad.cpu() for p in net.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
