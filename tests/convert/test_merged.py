"""`convert merge-bn`: batch norms and scales become part of convolutions, and the files compute what the old ones do."""

from pathlib import Path

import numpy as np
import pytest
import torch

from netspec.cli.main import main
from netspec.convert import merged
from netspec.net import weights
from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.rewrite import randomise
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.model import read_weights, write_weights
from netspec.proto.text import parse, read_net

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 10 } } }\n'


def layer(name, kind, bottom, top, settings=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {settings} }}\n'


def conv(name, bottom, outputs, settings="", kind="Convolution"):
    return layer(name, kind, bottom, name, f"convolution_param {{ num_output: {outputs} {settings} }}")


def norm(of, scale="scale_param { bias_term: true }"):
    return layer(f"{of}/bn", "BatchNorm", of, of, "batch_norm_param { eps: 0.001 }") + layer(f"{of}/scale", "Scale", of, of, scale)


MOBILE = ('name: "mobile"\n' + DATA + conv("c1", "data", 4, "kernel_size: 3 pad: 1 stride: 2 bias_term: false") + norm("c1")
          + layer("r", "ReLU", "c1", "c1") + conv("dw", "c1", 4, "kernel_size: 3 group: 4 bias_term: false") + norm("dw")
          + conv("up", "dw", 6, "kernel_size: 2 stride: 2 group: 2", "Deconvolution") + norm("up")
          + layer("own", "BN", "up", "own", "bn_param { scale_filler { value: 1 } bn_mode: INFERENCE }")
          + layer("shift", "Bias", "own", "shift") + layer("prob", "Softmax", "shift", "prob"))
GONE = ["c1/bn", "c1/scale", "dw/bn", "dw/scale", "up/bn", "up/scale", "own", "shift"]


@pytest.fixture
def converted(tmp_path, capsys):
    """Runs the command on a net of random numbers: its status, what it said, and its files."""
    def run(text, *, batch_norm=(7.0, 2.0)):
        (tmp_path / "net.prototxt").write_text(text)
        net = Net(build(tmp_path / "net.prototxt"))
        randomise(net)
        with torch.no_grad():
            for node in net.graph.nodes:
                if node.type == "BatchNorm":  # sums of two steps
                    net.parameter(node.params[0]).sub_(1).mul_(batch_norm[0])
                    net.parameter(node.params[2]).fill_(batch_norm[1])
        weights.save(tmp_path / "w.caffemodel", net)
        status = main(["convert", "merge-bn", *(str(tmp_path / name) for name in (
            "net.prototxt", "w.caffemodel", "new.prototxt", "new.caffemodel"))])
        said = capsys.readouterr()
        return status, said.out + said.err, tmp_path / "new.prototxt", tmp_path / "new.caffemodel"
    return run


def plain(x, read):
    """The values of `shift` in MOBILE, float64, channel by channel and by Caffe's formulas."""
    def normalised(x, name):
        mean, variance, count = (np.ravel(blob).astype(float) for blob in read[f"{name}/bn"])
        factor, term = (np.ravel(blob).astype(float) for blob in read[f"{name}/scale"])
        return np.stack([(x[:, c] - mean[c] / count[0]) / np.sqrt(variance[c] / count[0] + 0.001) * factor[c] + term[c]
                         for c in range(x.shape[1])], 1)

    w = {name: torch.from_numpy(np.array(read[name][0], float)) for name in ("c1", "dw", "up")}
    x = torch.nn.functional.conv2d(torch.from_numpy(x), w["c1"], stride=2, padding=1).numpy()
    x = np.maximum(normalised(x, "c1"), 0)
    x = normalised(torch.nn.functional.conv2d(torch.from_numpy(x), w["dw"], groups=4).numpy(), "dw")
    bias = torch.from_numpy(np.array(read["up"][1], float))
    x = normalised(torch.nn.functional.conv_transpose2d(torch.from_numpy(x), w["up"], bias, stride=2, groups=2).numpy(), "up")
    slope, term = (np.reshape(np.array(blob, float), (1, 6, 1, 1)) for blob in read["own"])
    return x * slope + term + np.reshape(np.array(read["shift"][0], float), (1, 6, 1, 1))


def test_what_is_written_computes_the_same(converted, tmp_path):
    status, said, text, model = converted(MOBILE)
    assert status == 0 and f"wrote {text}, {model}: 8 layers merged" in said and "stays" not in said
    old, new = read_net(tmp_path / "net.prototxt"), read_net(text)
    assert [each.name for each in new.layer] == [each.name for each in old.layer if each.name not in GONE]
    assert all(each.convolution_param.bias_term for each in new.layer if each.type.endswith("onvolution"))
    assert [list(blob.shape) for blob in read_weights(model)["up"]] == [[4, 3, 2, 2], [6]]
    net = Net(build(text)).double()
    weights.load(model, net.layers_with_params(), strict=True)
    x = np.random.default_rng(0).normal(0, 50, (2, 3, 8, 10))
    with torch.no_grad():
        ours = net({"data": torch.from_numpy(x)}, ["shift"])["shift"].numpy()
    theirs = plain(x, read_weights(tmp_path / "w.caffemodel"))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())


STAY = (conv("a", "data", 3, "kernel_size: 1"), norm("a"))
OTHERS = {  # what stays, and why -> layers behind the data and a convolution with its batch norm
    "p/bn stays: follows p (Pooling)": layer("p", "Pooling", "a", "p", "pooling_param { kernel_size: 2 }") + norm("p"),
    "f/bn stays: follows f (InnerProduct)": layer("f", "InnerProduct", "a", "f", "inner_product_param { num_output: 3 }")
    + norm("f"),
    "b2 stays: b is read elsewhere too": conv("b", "a", 2, "kernel_size: 1") + layer("b2", "BatchNorm", "b", "b2")
    + layer("e", "Eltwise", "b", "e").replace('top: "e"', 'bottom: "b2" top: "e"'),
    "s/bn stays: s shares its parameters": "".join(
        conv(name, "a", 2, "kernel_size: 1 bias_term: false").replace("convolution_param", 'param { name: "w" } convolution_param')
        + norm(name) for name in "st"),
    "n stays: normalises by its batch": conv("b", "a", 2, "kernel_size: 1")
    + layer("n", "BatchNorm", "b", "b", "batch_norm_param { use_global_stats: false }"),
    "l stays: normalises by its batch": conv("b", "a", 2, "kernel_size: 1")
    + layer("l", "BN", "b", "b", "bn_param { scale_filler { value: 1 } }"),
    "m stays: has not a number a channel": layer("m", "Scale", "a", "m", "scale_param { num_axes: 3 }"),
    "x stays: has not a number a channel": conv("b", "a", 2, "kernel_size: 1") + layer("x", "Scale", "b", "x", "scale_param { axis: 2 }"),
    "w/bn stays: w is no convolution of one blob along its last two axes": conv("w", "a", 2, "kernel_size: 1 axis: 2") + norm("w"),
    "g stays: has a second bottom": layer("g", "Scale", "a", "g", "scale_param { axis: 0 }").replace('top: "g"', 'bottom: "a" top: "g"'),
}


@pytest.mark.parametrize("why", OTHERS)
def test_what_cannot_be_merged_stays_and_is_named(converted, why, tmp_path):
    status, said, text, model = converted(DATA + "".join(STAY) + OTHERS[why])
    assert status == 0 and why in said.splitlines() and "2 layers merged" in said
    names = [each.name for each in read_net(text).layer]
    assert why.split()[0] in names and not {"a/bn", "a/scale"} & {*names}
    nets = [Net(build(file)).double() for file in (tmp_path / "net.prototxt", text)]
    for net, file in zip(nets, ("w", "new"), strict=True):
        weights.load(tmp_path / f"{file}.caffemodel", net.layers_with_params(), strict=True)
    x = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    with torch.no_grad():
        old, new = (net({"data": x}) for net in nets)
    assert old.keys() == new.keys()
    for blob, theirs in old.items():
        assert float((new[blob] - theirs).abs().max()) < 1e-6 * float(theirs.abs().max())


def test_a_training_net_becomes_one_for_inference(converted):
    data = 'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param { shape { dim: 2 dim: 3 dim: 8 dim: 10 } ' \
           'shape { dim: 2 dim: 1 dim: 8 dim: 10 } } }\n'
    loss = layer("loss", "SoftmaxWithLoss", "a", "loss").replace('top: "loss"', 'bottom: "label" top: "loss"')
    status, _, text, _ = converted(data + "".join(STAY) + loss)
    new = read_net(text)
    assert status == 0 and [(each.name, each.type) for each in new.layer] == [("data", "Input"), ("a", "Convolution")]
    assert list(new.layer[0].top) == ["data"] and list(new.layer[0].input_param.shape[0].dim) == [1, 3, 8, 10]


def test_a_net_that_draws_in_test_draws_the_same_in_both(converted):
    drop = layer("drop", "Dropout", "a", "a", "dropout_param { sample_weights_test: true }")
    status, said, *_ = converted(DATA + "".join(STAY) + drop)
    assert status == 0 and "2 layers merged" in said


def test_nothing_is_written_where_the_nets_differ(converted, monkeypatch):
    true = merged.folded
    monkeypatch.setattr(merged, "folded", lambda *given: [each * (1 + 1e-5) for each in true(*given)])
    status, said, text, model = converted(MOBILE)
    assert status == 1 and "not equal" in said and not text.exists() and not model.exists()


@pytest.mark.parametrize("text, what", [
    (DATA + conv("a", "data", 3, "kernel_size: 1"), "has nothing to merge: no BatchNorm"),
    (DATA + norm("data"), "has nothing to merge: data/bn follows data (Input), data/scale follows data/bn (BatchNorm) (2)"),
])
def test_a_net_with_nothing_to_merge_is_refused(converted, text, what):
    status, said, new, _ = converted(text)
    assert status == 2 and what in said and not new.exists()


def test_weights_that_lack_a_layer_are_refused(tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(MOBILE)
    weights.save(tmp_path / "w.caffemodel", Net(build(parse(DATA + STAY[0], NetParameter))))
    assert main(["convert", "merge-bn", *(str(tmp_path / name) for name in ("net.prototxt", "w.caffemodel", "n", "m"))]) == 2
    assert "has no weights for layer c1, c1/bn" in capsys.readouterr().err and not Path(tmp_path / "n").exists()


@pytest.mark.parametrize("new, out", [("net.prototxt", "m"), ("n", "w.caffemodel"), ("n", "n")])
def test_what_is_read_is_not_written_over(tmp_path, capsys, new, out):
    (tmp_path / "net.prototxt").write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }')
    write_weights(tmp_path / "w.caffemodel", "n", {})
    before = [(tmp_path / name).read_bytes() for name in ("net.prototxt", "w.caffemodel")]
    assert main(["convert", "merge-bn", *(str(tmp_path / name) for name in ("net.prototxt", "w.caffemodel", new, out))]) == 2
    assert "is read here, and would be written over" in capsys.readouterr().err
    assert before == [(tmp_path / name).read_bytes() for name in ("net.prototxt", "w.caffemodel")]
