"""netspec.load: a net for one's own loops, and one line from a picture to its labels."""

import copy
import pickle
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from programs import PROJECT, run

import netspec
from netspec.base.errors import Error
from netspec.data.layouts import facts
from netspec.net import weights
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

NET = PROJECT / "models/shapes-fcn8s/deploy.prototxt"
SHAPES = facts("shapes")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights that tell the classes apart somehow."""
    path = tmp_path_factory.mktemp("weights") / "w.caffemodel"
    torch.manual_seed(0)
    net = netspec.TorchNet(netspec.deploy(NET))
    weights.interp(net, weights.unfilled_upsampling(net))
    with torch.no_grad():
        for slot, p in net.parameters_by_slot():
            if not slot.layer.startswith("up"):
                p.normal_(0, (2 / p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1)
    weights.save(path, net)
    return path


@pytest.fixture
def net(file):
    return netspec.load(NET, file, device="cpu")


def picture(size=(52, 41), seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def test_it_is_an_ordinary_module_in_eval_mode(net, file):
    assert isinstance(net, torch.nn.Module) and not net.training and net.device == torch.device("cpu")
    x = torch.randn(1, 3, 40, 48)
    plain = netspec.TorchNet(netspec.deploy(NET))
    weights.load(file, plain.layers_with_params())
    assert torch.equal(net(x), plain({"data": x})["score"]) and net(x).shape == (1, 5, 40, 48)
    assert net.features(x, "pool4").shape[1] == 96


@pytest.mark.parametrize("given", [str(NET), NET, "shapes-fcn8s", "shapes-fcn8s/val", "message"])
def test_nets_are_given_as_path_name_or_message(given, file, monkeypatch):
    monkeypatch.chdir(PROJECT)
    given = prototext.read_net(NET) if given == "message" else given
    net = netspec.load(given, file, device="cpu")
    assert list(net.classes) == list(SHAPES.names) and net(torch.zeros(1, 3, 40, 48)).shape == (1, 5, 40, 48)


def test_what_it_wants_and_gives(net):
    assert list(net.classes) == list(SHAPES.names) and net.palette.shape == (5, 3)
    assert net.preprocess.mean == tuple(SHAPES.mean) and net.preprocess.channels == 3
    x = net.preprocess(picture())
    assert x.shape == (1, 3, 41, 52) and x.dtype == torch.float32
    expected = np.asarray(picture())[..., ::-1].astype(np.float32) - np.array(SHAPES.mean, np.float32)
    np.testing.assert_array_equal(x[0].permute(1, 2, 0).numpy(), expected)
    assert "BGR" in repr(net.preprocess)


def test_segment_takes_a_path_a_picture_an_array_and_a_batch(net, tmp_path):
    image = picture()
    image.save(tmp_path / "photo.png")
    expected = net(net.preprocess(image)).argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    for given in (tmp_path / "photo.png", str(tmp_path / "photo.png"), image, np.asarray(image), image.convert("RGBA")):
        found = net.segment(given)
        assert found.dtype == np.uint8 and found.shape == (41, 52)
        np.testing.assert_array_equal(found, expected)
    batch = net.segment([image, picture((60, 44))])
    assert [one.shape for one in batch] == [(41, 52), (44, 60)] and np.array_equal(batch[0], expected)
    stack = net.segment(np.stack([image, image]))
    assert len(stack) == 2 and np.array_equal(stack[1], expected)
    assert net.segment([]) == []


def test_segment_is_what_infer_writes(net, file, tmp_path):
    picture().save(tmp_path / "photo.png")
    done = run("-m", "netspec", "infer", NET, file, tmp_path / "photo.png", "--out", tmp_path, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(net.segment(tmp_path / "photo.png"), np.asarray(Image.open(tmp_path / "photo_labels.png")))


@pytest.mark.parametrize("given, words", [
    (np.zeros((41, 52, 3)), r"array \(41, 52, 3\) of float64, expected \(H, W, 3\) RGB or \(H, W\) grey, uint8"),
    (np.zeros((41, 52, 4), np.uint8), r"array \(41, 52, 4\) of uint8"),
    (np.zeros(7, np.uint8), r"array \(7,\)"),
    (torch.zeros(3, 41, 52), "Tensor"),
    (None, "NoneType"),
    ("not/there.jpg", "not/there.jpg"),
    (np.zeros((9, 9, 3), np.uint8), "too small for net 'shapes-fcn8s', which needs 33x33"),
])
def test_what_is_no_picture_is_refused(given, words, net):
    with pytest.raises(netspec.Error, match=words):
        net.segment(given)


def test_segment_in_other_types_and_while_training(net):
    image = np.asarray(picture())
    expected = net.segment(image)
    np.testing.assert_array_equal(copy.deepcopy(net).double().segment(image), expected)
    assert (copy.deepcopy(net).bfloat16().segment(image) == expected).mean() > 0.8
    net.train()
    np.testing.assert_array_equal(net.segment(image), expected)
    assert net.training


def changed(*pairs):
    text = NET.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return prototext.parse(text, NetParameter, "net")


def test_labels_have_the_size_of_the_picture_where_the_net_sees_halves(file):
    half = netspec.load(changed(("{\\'dataset\\': \\'shapes\\'}", "{\\'dataset\\': \\'shapes\\', \\'resize\\': 0.5}")), file, device="cpu")
    assert half.preprocess(picture((104, 82))).shape == (1, 3, 41, 52)
    assert half.segment(picture((104, 82))).shape == (82, 104)


def test_a_net_that_says_no_mean_asks_for_it(file):
    net = netspec.load(changed(("{\\'dataset\\': \\'shapes\\'}", ""), ('"shapes-fcn8s"', '"mine"')), file, device="cpu")
    assert net.classes == [f"class {i}" for i in range(5)]
    with pytest.raises(netspec.Error, match="net 'mine' does not say which mean to subtract: set net.preprocess.mean"):
        net.segment(picture())
    net.preprocess.mean = (1, 2, 3)
    assert net.segment(picture()).shape == (41, 52)
    net.preprocess.mean = (1, 2)
    with pytest.raises(netspec.Error, match="mean of 2 numbers"):
        net.preprocess(picture())
    for mean in ((float("nan"),) * 3, (1, 2, float("inf")), ("a", "b", "c"), 5):
        net.preprocess.mean = mean
        with pytest.raises(netspec.Error, match=r"net.preprocess.mean is .*, expected numbers \(B, G, R\)"):
            net.segment(picture())


def test_dropout_follows_the_mode(file):
    dropped = changed(('layer {\n  name: "score_fr"', 'layer { name: "drop7" type: "Dropout" bottom: "fc7" top: "fc7" }\n'
                       'layer {\n  name: "score_fr"'))
    net, x = netspec.load(dropped, file, device="cpu"), torch.randn(1, 3, 40, 48)
    assert torch.equal(net(x), net(x))
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x)) and torch.equal(net(x), netspec.load(NET, file, device="cpu")(x))
    twin = copy.deepcopy(net).train()
    assert torch.equal(net(x), net(x)) and not torch.equal(twin(x), twin(x))


def test_weights_that_are_left_out_or_do_not_fit(file, tmp_path):
    assert torch.equal(netspec.load(NET, None, device="cpu").upscore2.weight[0, 0], torch.from_numpy(weights.bilinear_kernel(4)))
    renamed = changed(('name: "fc7"', 'name: "fc7_new"'))
    with pytest.warns(UserWarning, match="lacks fc7_new: left at their fillers"):
        netspec.load(renamed, file, device="cpu")
    with pytest.raises(netspec.Error, match="w.caffemode'?.*is not there|no.*w.caffemode"):
        netspec.load(NET, tmp_path / "w.caffemode")
    with pytest.raises(netspec.Error, match="precision 'half' is not known"):
        netspec.load(NET, file, precision="half")
    with pytest.raises(netspec.Error, match="device 'gpu' is not known"):
        netspec.load(NET, file, device="gpu")


@pytest.mark.parametrize("given", [("shapes-fcn8s",), (NET,), ("shapes-fcn8s/val",), ("shapes-fcn8s", "pretrained"), (NET, "shapes-fcn8s")])
def test_a_name_has_weights(given, file, tmp_path, monkeypatch):
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # no demo's here
    shutil.copy(file, tmp_path / "shapes-fcn8s.caffemodel")
    x = torch.randn(1, 3, 40, 48)
    assert torch.equal(netspec.load(*given, device="cpu")(x), netspec.load(NET, file, device="cpu")(x))


@pytest.mark.parametrize("given, words", [
    (("voc-fcn8s",), "the weights of voc-fcn8s are not here .*'netspec weights get voc-fcn8s' gets them"),
    (("voc-fcn8s", "voc-fcn16s"), "the weights of voc-fcn16s are not here"),
    (("mine.prototxt",), "mine.prototxt: has no pretrained weights, .*: give weights a file, or None for what the net's fillers draw"),
    (("voc-fcn8",), "did you mean .*'voc-fcn8s'"),
    ((NET, "voc-fcn8"), "voc-fcn8"),
])
def test_fillers_never_stand_for_weights_that_are_not_here(given, words, tmp_path, monkeypatch):
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copy(NET, "mine.prototxt")
    with pytest.raises(netspec.Error, match=words):
        netspec.load(*given, device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.prototxt"]  # nothing was fetched


def test_precision_and_the_meta_device(file, net):
    x = torch.randn(1, 3, 40, 48)
    assert netspec.load(NET, file, device="cpu", precision="bf16")(x).dtype == torch.bfloat16
    empty = netspec.load(NET, device="meta")
    assert empty(x.to("meta")).is_meta
    with torch.device("meta"):
        assert netspec.load(NET).conv1_1.weight.is_meta
    empty.load_state_dict(net.state_dict(), assign=True)
    assert torch.equal(empty(x), net(x))


def test_nets_that_give_no_scores_of_one_picture():
    two = netspec.load(prototext.parse("".join(
        f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ dim: 1 dim: 3 dim: 9 dim: 9 }} }} }}' for n in "ab")
        + 'layer { name: "s" type: "Eltwise" bottom: "a" bottom: "b" top: "s" }', NetParameter, "net"), device="cpu")
    assert two(a=torch.ones(1, 3, 9, 9), b=torch.ones(1, 3, 9, 9))["s"].eq(2).all()
    with pytest.raises(netspec.Error, match="2 inputs"):
        two.segment(picture())
    flat = netspec.load(prototext.parse(
        'name: "flat" layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }'
        'layer { name: "ip" type: "InnerProduct" bottom: "a" top: "ip" inner_product_param { num_output: 4 } }',
        NetParameter, "net"), device="cpu")
    assert flat(torch.ones(1, 3, 9, 9)).shape == (1, 4)
    with pytest.raises(netspec.Error, match=re.escape("'ip' of net 'flat' has shape [1, 4], scores have N x C x H x W")):
        flat.segment(picture())


def test_of_several_outputs_the_one_with_the_named_classes_has_the_scores(tmp_path):
    net = netspec.load(PROJECT / "models/siftflow-fcn8s/deploy.prototxt", device="meta")
    assert net.score_blob == "score_sem" and len(net.classes) == 33
    assert set(net(torch.zeros(1, 3, 64, 64, device="meta"))) == {"score_sem", "score_geo"}
    pair = netspec.load(prototext.parse(
        'name: "pair" layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }' + "".join(
            f'layer {{ name: "{top}" type: "Convolution" bottom: "a" top: "{top}" convolution_param {{ num_output: {n} kernel_size: 1 }} }}'
            for top, n in (("x", 4), ("y", 4))), NetParameter, "net"), device="cpu")
    pair.preprocess.mean = (0,)
    with pytest.raises(netspec.Error, match="net 'pair' has the outputs x, y: set net.score_blob to the one with the scores"):
        pair.segment(picture())
    pair.score_blob = "y"
    assert pair.segment(picture()).shape == (41, 52)


def test_it_goes_to_other_processes(net, tmp_path):
    torch.save(net, tmp_path / "net.pt")
    back = torch.load(tmp_path / "net.pt", weights_only=False)
    np.testing.assert_array_equal(back.segment(picture()), net.segment(picture()))
    assert back.classes == net.classes and back.preprocess == net.preprocess


def test_fine_tuning_with_adamw(net):
    x = torch.cat([net.preprocess(picture(seed=i)) for i in range(2)])
    truth = torch.from_numpy(np.stack([np.asarray(picture(seed=i).convert("L")) > 127 for i in range(2)])).long()
    optimizer = torch.optim.AdamW(net.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_exported_it_needs_no_netspec(net, tmp_path):
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, (torch.randn(1, 3, 96, 128),), dynamic_shapes=({2: free, 3: free},))
        torch.export.save(program, tmp_path / "net.pt2")
    assert set(program.state_dict) == set(net.state_dict())
    given = [torch.randn(1, 3, *size) for size in ((96, 128), (70, 101), (113, 66))]  # a map of 1 x 1 would be a case of its own for torch.export
    torch.save([(x, net(x)) for x in given], tmp_path / "cases.pt")
    code = ("import sys, torch\nback = torch.export.load('net.pt2').module()\nfor x, y in torch.load('cases.pt'):\n"
            "    torch.testing.assert_close(back(x), y)\nassert 'netspec' not in sys.modules")
    (tmp_path / "alone.py").write_text(code)
    done = run("alone.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["classes", "palette", "preprocess", "score_blob", "segment", "detect", "finds"])
def test_a_layer_may_have_the_name_of_what_it_knows(name, file):
    with pytest.warns(UserWarning, match=f"lacks {name}"):
        net = netspec.load(changed(('name: "fc7"', f'name: "{name}"')), file, device="cpu")
    assert net.classes == list(SHAPES.names) and net.palette.shape == (5, 3)
    assert net.segment(picture()).shape == (41, 52) and f"{name}.weight" in net.state_dict()


@pytest.mark.parametrize("scales", [(), (0,), (-1,), (float("nan"),), (float("inf"),), (1, 9)])
def test_scales_that_are_none(net, scales):
    with pytest.raises(Error, match="factors above 0 to 8"):
        net.segment(np.zeros((60, 60, 3), np.uint8), scales=scales)


def test_nothing_is_segmented_on_the_meta_device():
    with pytest.raises(Error, match="meta device"):
        netspec.load(NET, None, device="meta").segment(np.zeros((60, 60, 3), np.uint8))


def test_without_gradients_its_plan_runs_and_gives_the_same(file):
    net = netspec.load(NET, file, device="cpu")
    x = torch.rand(1, 3, 40, 46) * 255
    expected = net(x)

    def same(scores):
        assert (scores - expected).abs().max() < 1e-5 * expected.abs().max()

    assert expected.requires_grad and "_plan" not in vars(net)
    with torch.no_grad():
        same(net(x))
        assert "_plan" in vars(net)
        kept = vars(net)["_plan"]
        assert net(data=x).keys() == {"score"} == net({"data": x}).keys()
        other = copy.deepcopy(net)
        same(other(x))
        assert vars(other)["_plan"].net is other
        net.segment(np.zeros((40, 46, 3), np.uint8))
        assert vars(net)["_plan"] is kept  # weights are made ready once
        same(pickle.loads(pickle.dumps(net))(x))
        stranger = torch.func.vmap(lambda one: net(one[None]))(torch.cat([x, x]))
        same(stranger[0])
        with torch.autocast("cpu", torch.bfloat16):
            assert net(x).dtype == torch.bfloat16  # as torch users expect, and not by the plan
        with pytest.raises(Error, match="no input 'label'"):
            net(label=x)
        halved = net.double()(x.double())
        assert halved.dtype == torch.float64
