"""`netspec convert fcn`: what it makes computes, at every place of a larger image, what the classifier does on that crop."""

from pathlib import Path

import numpy as np
import pytest
import torch

from netspec import NetSpec
from netspec import layers as L
from netspec.cli.main import main
from netspec.net import weights
from netspec.net.build import load
from netspec.net.module import Net
from netspec.net.rewrite import randomise
from netspec.proto import text as prototext
from netspec.proto.model import write_weights

SIZE = (12, 15)  # of the classifier's image


def trunk(n, **options):
    n.data = L.Input(shape=dict(dim=[4, 3, *SIZE]))
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
    n.relu = L.ReLU(n.conv, in_place=True)
    return L.Pooling(n.relu, **(options or dict(kernel_size=2, stride=2, round_mode=1)))  # 4 x 5 x 6


def plain(n):
    n.pool = trunk(n)
    n.fc1 = L.InnerProduct(n.pool, num_output=6)
    n.act = L.ReLU(n.fc1, in_place=True)
    n.drop = L.Dropout(n.act, in_place=True)
    n.fc2 = L.InnerProduct(n.drop, num_output=5)
    n.prob = L.Softmax(n.fc2)


def flattened(n):
    """Flatten and Reshape, with a layer in place between."""
    n.pool = trunk(n)
    n.flat = L.Flatten(n.pool)
    n.act = L.TanH(n.flat, in_place=True)
    n.again = L.Reshape(n.act, shape=dict(dim=[0, -1]))
    n.fc = L.InnerProduct(n.again, num_output=5, bias_term=False)
    n.prob = L.Softmax(n.fc)


def transposed(n):
    n.pool = trunk(n)
    n.fc1 = L.InnerProduct(n.pool, num_output=7, transpose=True)
    n.prob = L.Softmax(L.InnerProduct(n.fc1, num_output=5, transpose=True))


def normalised(n):
    """Layers along the channels of a vector, and two vectors joined."""
    n.pool = trunk(n)
    n.one = L.InnerProduct(n.pool, num_output=3)
    n.bn = L.BatchNorm(n.one, in_place=True)
    n.scale = L.Scale(n.bn, bias_term=True, in_place=True)
    n.two = L.PReLU(L.InnerProduct(n.pool, num_output=4))
    n.prob = L.Softmax(L.InnerProduct(L.Concat(n.scale, n.two), num_output=5))


def pooled(n):
    n.pool = trunk(n, pool=1, global_pooling=True)
    n.prob = L.Softmax(L.InnerProduct(n.pool, num_output=5))


def write(tmp_path, build) -> Path:
    n = NetSpec()
    build(n)
    prototext.write(tmp_path / "net.prototxt", n.to_proto())
    return tmp_path / "net.prototxt"


def trained(path) -> Net:
    net = Net(load(path))
    randomise(net, seed=3)
    weights.save(path.with_name("w.caffemodel"), net)
    return net


@pytest.mark.parametrize("build", [plain, flattened, transposed, normalised, pooled])
def test_dense_scores_are_those_of_the_crops(tmp_path, build, capsys):
    path = write(tmp_path, build)
    old = trained(path)
    assert main(["convert", "fcn", str(path), str(tmp_path / "w.caffemodel")]) == 0
    assert "equal within" in capsys.readouterr().out
    new = Net(load(tmp_path / "net-fcn.prototxt"))
    assert "InnerProduct" not in {node.type for node in new.graph.nodes}
    report = weights.load(tmp_path / "net-fcn.caffemodel", new.layers_with_params(), strict=True)
    assert not report.reshaped
    step = 1 if build is pooled else 2
    image = torch.randn(1, 3, SIZE[0] + 2 * step, SIZE[1] + 3 * step, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        dense = new({"data": image})["prob"]
        assert dense.shape == (1, 5, 3, 4)
        for y in range(3):
            for x in range(4):
                crop = image[..., y * step : y * step + SIZE[0], x * step : x * step + SIZE[1]]
                torch.testing.assert_close(dense[..., y, x], old({"data": crop})["prob"], rtol=1e-4, atol=1e-5)


def test_a_net_that_averages_its_scores_at_its_end(tmp_path, capsys):
    """As SqueezeNet, without a fully connected layer."""
    def build(n):
        n.score = L.Convolution(trunk(n), num_output=5, kernel_size=1)
        n.average = L.Pooling(n.score, pool=1, global_pooling=True)
        n.prob = L.Softmax(n.average)

    path = write(tmp_path, build)
    trained(path)
    assert main(["convert", "fcn", str(path), str(tmp_path / "w.caffemodel")]) == 0
    assert "made convolutional: average;" in capsys.readouterr().out
    new = load(tmp_path / "net-fcn.prototxt", shapes={"data": (1, 3, SIZE[0] + 2, SIZE[1] + 4)})
    assert new.shape("prob") == (1, 5, 2, 3)
    assert main(["time", "dense", str(path), "--size", "20x21", "--repeats", "1"]) == 0
    assert "differ by" in capsys.readouterr().out


def test_the_classifiers_own_weights_fit_by_name(tmp_path):
    """As long as nothing is transposed: the by-name rule reshapes a fully connected weight for a convolution."""
    path = write(tmp_path, plain)
    trained(path)
    assert main(["convert", "fcn", str(path), str(tmp_path / "w.caffemodel"), "--out", str(tmp_path / "a" / "n.prototxt"),
                 "--out-weights", str(tmp_path / "b" / "w.caffemodel")]) == 0
    first, second = (Net(load(tmp_path / "a" / "n.prototxt")) for _ in range(2))
    assert weights.load(tmp_path / "w.caffemodel", first.layers_with_params(), strict=True).reshaped == ["fc1", "fc2"]
    weights.load(tmp_path / "b" / "w.caffemodel", second.layers_with_params(), strict=True)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_training_nets_lose_labels_losses_and_accuracies(tmp_path, capsys):
    """The data need not be there; the classifier's size is the readers' crop_size."""
    (tmp_path / "net.prototxt").write_text("""
        layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
                data_param { source: "absent" batch_size: 9 } transform_param { crop_size: 12 } }
        layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
                data_param { source: "absent" batch_size: 5 } transform_param { crop_size: 12 } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
                convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
        layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 4 } }
        layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }""")
    assert main(["convert", "fcn", str(tmp_path / "net.prototxt")]) == 0
    assert "left out: acc, loss" in capsys.readouterr().out
    new = load(tmp_path / "net-fcn.prototxt")
    assert [(x.name, x.type) for x in new.layers] == [("data", "Input"), ("conv", "Convolution"), ("fc", "Convolution")]
    assert new.shape("data") == (1, 3, 12, 12) and new.outputs == ("fc",)


def test_a_form_that_computes_something_else_is_not_written(tmp_path, capsys):
    """Here the flattened blob is read after a layer in place has changed the map it was made of."""
    def build(n):
        n.pool = trunk(n)
        n.flat = L.Flatten(n.pool)
        n.later = L.Sigmoid(n.pool, in_place=True)
        n.fc = L.InnerProduct(n.flat, num_output=5)
        n.rest = L.Silence(n.later, ntop=0)

    path = write(tmp_path, build)
    text = path.read_text()  # NetSpec puts the layer in place last
    parts = ["layer {" + part for part in text.split("layer {")[1:]]
    order = sorted(parts, key=lambda part: ['"data"', '"conv"', '"relu"', '"pool"', '"flat"', '"later"', '"fc"', '"rest"'].index(
        part.split("name: ")[1].split()[0]))
    path.write_text("".join(order))
    assert main(["convert", "fcn", str(path)]) == 1
    assert "nothing is written" in capsys.readouterr().out and not (tmp_path / "net-fcn.prototxt").exists()


def behind(make):
    def build(n):
        n.pool = trunk(n)
        n.end = make(n)
    return build


@pytest.mark.parametrize("build, said", [
    (behind(lambda n: L.InnerProduct(n.pool, num_output=5, axis=2)), "'end' (InnerProduct): has axis 2"),
    (behind(lambda n: L.ArgMax(L.InnerProduct(n.pool, num_output=5))), "(ArgMax): works on a vector"),
    (behind(lambda n: L.InnerProduct(L.SPP(n.pool, pyramid_height=2), num_output=5)), "(SPP): works on a vector"),
    (behind(lambda n: L.InnerProduct(L.Softmax(L.Flatten(n.pool)), num_output=5)), "(Softmax): works on a vector"),
    (behind(lambda n: L.ReLU(n.pool)), "no InnerProduct layer"),
])
def test_what_has_no_convolutional_form_is_refused(tmp_path, build, said, capsys):
    assert main(["convert", "fcn", str(write(tmp_path, build))]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_weights_must_be_whole(tmp_path, capsys):
    path = write(tmp_path, plain)
    net = trained(path)
    some = {name: blobs for name, blobs in weights.layers_of(net).items() if name != "fc2"}
    write_weights(tmp_path / "some.caffemodel", "some", some)
    assert main(["convert", "fcn", str(path), str(tmp_path / "some.caffemodel")]) == 2
    assert "no weights for layer fc2" in capsys.readouterr().err
    assert main(["convert", "fcn", str(path), "--out-weights", str(tmp_path / "x.caffemodel")]) == 2
    assert "needs WEIGHTS" in capsys.readouterr().err
