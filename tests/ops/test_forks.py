"""Layers of Caffe's forks beside their arithmetic: what they refuse, old forms of their nets, foreign files."""

import math
import re
from pathlib import Path

import golden_case
import h5py
import numpy as np
import pytest
import torch
from fork_cases import layer

from netspec import NetSpec, layers, params
from netspec.base.errors import Error
from netspec.look.crops import explain
from netspec.net import weights
from netspec.net.build import build, load
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.ops import REGISTRY
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.proto.model import read_weights
from netspec.proto.upgrade import upgrade_net
from netspec.proto.wire import delimited, varint

LAYERS = Path(__file__).parents[1] / "golden/layers"
X = (2, 3, 4, 6)
MINED = "box_annotator_ohem_param { roi_per_img: 2 }"
REFUSED = [
    (layer("Interp"), [X], "zoom_factor, shrink_factor, or height"),
    (layer("Interp", "interp_param { zoom_factor: 2 pad_beg: 1 }"), [X], "0 and below"),
    (layer("Interp", "interp_param { zoom_factor: 0 }"), [X], "above 0"),
    (layer("Interp", "interp_param { height: 3 width: 0 }"), [X], "above 0"),
    (layer("Interp", "interp_param { zoom_factor: 2 pad_beg: -2 pad_end: -2 }"), [X], "leave nothing"),
    (layer("Interp", "interp_param { zoom_factor: 2 }"), [(2, 3)], "N x C x H x W"),
    (layer("GSTiling", "gs_tiling_param { stride: 2 }", "x"), [(1, 4, 4, 5)], "must divide"),
    (layer("GSTiling", "gs_tiling_param { stride: 2 reverse: true }", "x"), [(1, 3, 4, 5)], "must divide"),
    (layer("GSTiling", "", "x"), [X], "stride above 0"),
    (layer("Upsample", "", "x"), [X], "a bottom and scale alone"),
    (layer("Upsample", "upsample_param { scale: 2 pad_out_h: true }", "x"), [X], "a bottom and scale alone"),
    (layer("Upsample", "upsample_param { scale: 0 }", "x"), [X], "above 0"),
    (layer("Interp", "interp_param { zoom_factor: 2 }", "xz"), [X, X], "use_blob_size: true"),
    (layer("Interp", "interp_param { use_blob_size: true }", "x"), [X], "a second bottom"),
    (layer("Interp", "interp_param { use_blob_size: true }", "xz"), [X, (2, 3)], "N x C x H x W"),
    (layer("Axpy", "", "xzw"), [(2, 3), X, (2, 3, 4, 5)], "N x C"),
    (layer("Axpy", "", "xzw"), [(2, 2), X, X], "N x C"),
    (layer("ShuffleChannel", "shuffle_channel_param { group: 2 }"), [X], "must divide"),
    (layer("Reorg", "reorg_param { stride: 2 }"), [(1, 3, 4, 4)], "must divide"),
    (layer("Reorg", "reorg_param { stride: 2 }"), [(1, 4, 4, 5)], "must divide"),
    (layer("Reorg"), [X], "stride above 0"),
    (layer("ROIAlign", "roi_pooling_param { pooled_h: 2 }", "xz"), [X, (4, 5)], "pooled_w above 0"),
    (layer("Convolution3D", "convolution_param { num_output: 2 kernel_size: 1 kernel_depth: 1 }"), [X], "N x C x L x H x W"),
    (layer("NdConvolution", "convolution_param { num_output: 2 kernel_shape { dim: 1 } }"), [X], "expected 2 sizes"),
    (layer("Pooling3D", "pooling_param { kernel_size: 1 kernel_depth: 1 }"), [X], "3 spatial axes"),
    (layer("Pooling3D", "pooling_param { kernel_size: 1 temporal_stride: 2 }"), [(1, 2, 3, 4, 5)], "go with kernel_depth"),
    (layer("NdPooling", "pooling_param { kernel_shape { dim: 1 } }"), [(2, 3, 4)], "2 or 3 spatial axes"),
    (layer("Pooling3D", "pooling_param { pool: STOCHASTIC kernel_size: 1 kernel_depth: 1 }"), [(1, 2, 3, 4, 5)], "2 spatial axes"),
    (layer("BatchNorm", "batch_norm_param { filler { value: 1 } } param { lr_mult: 1 }"), [X], "lr_mult: 0"),
    (layer("Upsample", "", "xz"), [X, (2, 3, 4, 5)], "mask of the bottom's shape"),
    (layer("Upsample", "upsample_param { scale_h: 2 }", "xz"), [X, X], "upsample_h and"),
    (layer("Upsample", "upsample_param { scale: 1 }", "xz"), [X, X], "above 1"),
    (layer("Upsample", "upsample_param { scale: 3 pad_out_h: true }", "xz"), [X, X], "a scale of 2"),
    (layer("Unpooling", "unpooling_param { kernel_size: 2 stride: 2 }"), [X], "unpool_size"),
    (layer("Unpooling", "unpooling_param { kernel_size: 2 unpool_size: 4 unpool_h: 4 unpool_w: 4 }"), [X], "unpool_size"),
    (layer("Unpooling", "unpooling_param { kernel_size: 2 pad: 1 unpool_size: 8 }"), [X], "no pad"),
    (layer("Unpooling", "unpooling_param { unpool_size: 8 }"), [X], "kernel_size"),
    (layer("BN", "bn_param { bn_mode: LEARN frozen: true }"), [X], r"bn_mode \(SegNet\) or frozen"),
    (layer("BN", "bn_param { bn_mode: INFERENCE }", tops="ym"), [X], "mode LEARN"),
    (layer("BN", "", tops="ym"), [X], "SegNet's form"),
    (layer("BN"), [(2, 3, 4, 5, 6)], "2 to 4 axes"),
    (layer("Normalize"), [(3,)], "2 axes or more"),
    (layer("Permute", "permute_param { order: 0 order: 0 }"), [X], "each once"),
    (layer("Permute", "permute_param { order: 4 }"), [X], "each once"),
    (layer("ROIPooling", "", "xz"), [X, (4, 5)], "pooled_h"),
    (layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", "xz"), [X, (4, 4)], "R x 5"),
    (layer("PSROIPooling", "psroi_pooling_param { output_dim: 1 group_size: 2 }", "xz"), [X, (4, 5)], "spatial_scale"),
    (layer("PSROIPooling", "psroi_pooling_param { output_dim: 1 group_size: 2 spatial_scale: 1 }", "xz"), [X, (4, 5)], "= 4 channels, 'x' has 3"),
    (layer("SegAccuracy", "", "xz"), [X, (2, 4, 6)], "a label for each position"),
    (layer("SmoothL1Loss", "", "xz"), [X, (2, 3, 4)], "a target for each"),
    (layer("SmoothL1Loss", "smooth_l1_loss_param { sigma: 3 }", "xzw"), [X, X, X], "sigma 1 in this form"),
    (layer("SmoothL1Loss", "", "xz", "abc"), [X, X], "0 to 2 tops"),
    (layer("SmoothL1LossOHEM", "smooth_l1_loss_param { sigma: 3 }", "xz"), [X, X], "sigma 1 in this form"),
    (layer("BoxAnnotatorOHEM", "", "xzzw", "ab"), [(4, 5), (4,), (4, 8)], "roi_per_img above 0"),
    (layer("BoxAnnotatorOHEM", MINED, "xzzw", "ab"), [(4, 4), (4,), (4, 8)], "R x 5"),
    (layer("BoxAnnotatorOHEM", MINED, "xzzw", "ab"), [(4, 5), (3,), (4, 8)], "for each region"),
    (layer("BoxAnnotatorOHEM", MINED, "xzzw", "ab"), [(4, 5), (4,), (8, 4)], "for each region"),
    (layer("SoftmaxWithLoss", "loss_param { weight_by_label_freqs: true class_weighting: 1 }", "xz"), [X, (2, 4, 6)],
     "3 classes"),
    (layer("HDF5Output", "", "xz", ""), [X, X], "file_name"),
    (layer("HDF5Output", "hdf5_output_param { file_name: 'f.h5' }", "xz", ""), [X, (3,)], "as many items"),
    (layer("AutoCrop", "", "x"), [X], "exactly 2 bottoms"),
    (layer("Pooling", "pooling_param { kernel_size: 2 round_mode: CEIL ceil_mode: false }"), [X], "contradict"),
    (layer("Dropout", "dropout_param { dropout_ratio: 1 }"), [X], "below 1"),
    (layer("AutoCrop", "", "xz"), [X, X], "no coordinate map leads from 'x' to 'z'"),
]


def net(text, *shapes, phase=caffe_pb2.TEST):
    """Input layers x, z, w of these shapes and the layers of `text`."""
    inputs = "".join(f'layer {{ name: "{b}" type: "Input" top: "{b}" input_param {{ shape {{ '
                     f'{" ".join(f"dim: {n}" for n in shape)} }} }} }}\n' for b, shape in zip("xzw", shapes, strict=False))
    return Net(build(prototext.parse(inputs + text, caffe_pb2.NetParameter), phase))


@pytest.mark.parametrize("text,shapes,words", REFUSED, ids=[f"{text.split()[4]} {w}" for text, _, w in REFUSED])
def test_refuses(text, shapes, words):
    with pytest.raises(Error, match=f"layer 'l' .*{words}"):
        net(text, *shapes)


@pytest.mark.parametrize("settings, size", [("", (5, 5)), ("ceil_mode: true", (5, 5)), ("ceil_mode: false", (4, 4)),
                                            ("ceil_mode: false round_mode: FLOOR", (4, 4))])
@pytest.mark.parametrize("how", ["MAX", "AVE"])
def test_ceil_mode_says_how_sizes_are_rounded(settings, size, how):
    x = torch.rand(1, 1, 8, 8)
    text = layer("Pooling", f"pooling_param {{ pool: {how} kernel_size: 3 stride: 2 pad: 1 {settings} }}")
    other = text.replace(settings, "" if size == (5, 5) else "round_mode: FLOOR")
    y = net(text, x.shape)({"x": x})["y"]
    assert y.shape[2:] == size and torch.equal(y, net(other, x.shape)({"x": x})["y"])


@pytest.mark.parametrize("settings, train, test", [
    ("sample_weights_test: true", [0, 4 / 3], [0, 4 / 3]), ("scale_train: false", [0, 1], [0.75]),
    ("sample_weights_test: true scale_train: false", [0, 1], [0, 1]), ("dropout_ratio: 0", [1], [1]),
    ("dropout_ratio: 0 scale_train: false sample_weights_test: true", [1], [1]), ("", [0, 4 / 3], [1])])
@pytest.mark.parametrize("top", ["y", "x"], ids=["", "in place"])
def test_dropout_of_the_forks(settings, train, test, top):
    ratio = "" if "ratio" in settings else "dropout_ratio: 0.25"
    for phase, values in ((caffe_pb2.TRAIN, train), (caffe_pb2.TEST, test)):
        made = net(layer("Dropout", f"dropout_param {{ {ratio} {settings} }}", tops=top), (4000,), phase=phase)
        x = torch.ones(4000, requires_grad=True)
        y = made({"x": x})[top]
        assert y.detach().unique().tolist() == pytest.approx(values)
        assert abs(float((y == 0).float().mean()) - (0.25 if 0 in values else 0)) < 0.05
        y.sum().backward()
        assert torch.equal(x.grad, y)


@pytest.mark.parametrize("value", [-1, 48])
def test_a_mask_that_points_outside_is_an_error(value):
    mask = torch.zeros(X)
    mask[1, 2, 3, 4] = value
    for text in (layer("Upsample", "upsample_param { upsample_h: 6 upsample_w: 8 }", "xz"),
                 layer("Unpooling", "unpooling_param { kernel_size: 2 unpool_h: 6 unpool_w: 8 }", "xz")):
        with pytest.raises(Error, match=f"layer 'l' .*positions from.*{value}"):
            net(text, X, X)({"x": torch.zeros(X), "z": mask})


def test_a_region_of_an_item_that_is_not_there():
    for text in (layer("ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 }", "xz"),
                 layer("PSROIPooling", "psroi_pooling_param { output_dim: 3 group_size: 1 spatial_scale: 1 }", "xz")):
        made = net(text, X, (2, 5))
        assert made({"x": torch.zeros(X), "z": torch.tensor([[0.0, 0, 0, 1, 1], [1, 0, 0, 1, 1]])})["y"].shape == (2, 3, 1, 1)
        for region in ([2.0, 0, 0, 1, 1], [-1, 0, 0, 1, 1], [0, 0, math.nan, 1, 1], [0, 0, 0, math.inf, 1]):
            said = re.escape(f"region 1 of 'z' is {[float(number) for number in region]}, expected one of the 2 items of 'x', counted from 0, and finite")
            with pytest.raises(Error, match=f"layer 'l' .*{said}"):
                made({"x": torch.zeros(X), "z": torch.tensor([[0.0, 0, 0, 1, 1], region])})


def test_no_regions_give_nothing():
    for text in (layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", "xz"),
                 layer("PSROIPooling", "psroi_pooling_param { output_dim: 3 group_size: 1 spatial_scale: 1 }", "xz")):
        y = net(text, X, (0, 5))({"x": torch.zeros(X), "z": torch.zeros(0, 5)})["y"]
        assert y.shape[:2] == (0, 3)
    made = net(layer("BoxAnnotatorOHEM", MINED, "xzzw", "ab"), (0, 5), (0,), (0, 8))
    blobs = made({"x": torch.zeros(0, 5), "z": torch.zeros(0), "w": torch.zeros(0, 8)})
    assert blobs["a"].shape == (0, 1, 1, 1) and blobs["b"].shape == (0, 8, 1, 1)


@pytest.mark.parametrize("name", ["head_k3_ohem", "matlab_smoothl1_per_roi", "smoothl1_weights_sigma3"])
def test_without_regions_the_losses_are_0(name):
    """An image may have none that is large enough."""
    case = golden_case.load(LAYERS / f"{name}.prototxt")
    made, inputs = case.build(), {blob: torch.from_numpy(value) for blob, value in case.part("in").items()}
    blobs = made({blob: value if blob == "x" and name.startswith("head") else value[:0] for blob, value in inputs.items()})
    assert made.loss(blobs) == 0
    if name.startswith("head"):
        made.loss(blobs).backward()
        assert not any(p.grad.any() for p in made.parameters())


def test_hard_examples_of_each_position():
    """Regions may lie along H x W too: R x 5 x H x W, as the release's shapes allow."""
    regions = torch.zeros(2, 5, 1, 3)
    regions[:, 0] = torch.tensor([[[0.0, 1, 0]], [[1, 0, 1]]])
    loss = torch.tensor([[[[3.0, 1, 2]]], [[[5, 9, 4]]]])
    weights = torch.arange(1.0, 13).reshape(2, 2, 1, 3)
    made = net(layer("BoxAnnotatorOHEM", MINED, "xzzw", "ab"), regions.shape, loss.shape, weights.shape)
    blobs = made({"x": regions, "z": loss, "w": weights})
    assert blobs["a"].tolist() == [[[[3, -1, -1]]], [[[5, 9, 4]]]]
    assert torch.equal(blobs["b"], weights * (blobs["a"] >= 0))


def test_an_image_before_the_first_is_an_error():
    made = net(layer("BoxAnnotatorOHEM", MINED, "xzzw", "ab"), (2, 5), (2,), (2, 8))
    regions = torch.tensor([[0.0, 0, 0, 1, 1], [-1, 0, 0, 1, 1]])
    with pytest.raises(Error, match="layer 'l' .*'x' names items -1 to 0; they count from 0"):
        made({"x": regions, "z": torch.zeros(2), "w": torch.zeros(2, 8)})


def test_hard_example_mining_is_no_part_of_a_deployed_net():
    made = deploy(prototext.read_net(LAYERS / "head_k3_ohem.prototxt"))
    assert [node.name for node in made.nodes if node.bottoms][-2:] == ["psroipooled_bbox", "ave_bbox"]
    assert set(made.outputs) == {"cls_score", "bbox_pred"}


def test_upsampling_by_the_mask_of_the_pooling_puts_maxima_back():
    text = (layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops="pm").replace('"l"', '"p"')
            + layer("Upsample", "upsample_param { upsample_h: 5 upsample_w: 7 }", "pm"))
    x = torch.rand(2, 3, 5, 7)
    y = net(text, x.shape)({"x": x})["y"]
    assert ((y == 0) | (y == x)).all() and (y != 0).sum() == 2 * 3 * 3 * 4
    before, after = (torch.nn.functional.max_pool2d(t, 2, 2, ceil_mode=True) for t in (x, y))
    assert torch.equal(before, after)


def test_a_position_listed_twice_gives_its_gradient_to_both():
    made = net(layer("Upsample", "upsample_param { scale: 2 }", "xz"), (1, 1, 1, 2), (1, 1, 1, 2))
    x = torch.tensor([[[[3.0, 5.0]]]], requires_grad=True)
    y = made({"x": x, "z": torch.full((1, 1, 1, 2), 6.0)})["y"]
    assert y.flatten()[6] == 5 and y.sum() == 5
    (y * 7).sum().backward()
    assert x.grad.tolist() == [[[[7, 7]]]]


# BN


def test_the_rates_of_bn():
    def rates(settings, extra=""):
        return [slot.lr_mult for slot in net(layer("BN", f"bn_param {{ {settings} }} {extra}"), X).graph.params]

    assert rates("") == [1, 1, 0, 0]
    assert rates("", "param { lr_mult: 3 } param { lr_mult: 4 } param { lr_mult: 5 } param { lr_mult: 6 }") == [3, 4, 0, 0]
    assert rates("frozen: true", "param { lr_mult: 3 }") == [0] * 4
    assert rates("bn_mode: LEARN", "param { lr_mult: 3 } param { lr_mult: 4 }") == [3, 4]


def test_bn_is_filled_as_its_fork_fills_it():
    def filled(settings):
        return [float(p.detach().flatten()[0]) for p in net(layer("BN", f"bn_param {{ {settings} }}"), X).parameters()]

    assert filled("slope_filler { value: 2 } bias_filler { value: 3 }") == [2, 3, 0, 0]
    assert filled("frozen: true slope_filler { value: 2 }") == [2, 0, 0, 1]
    assert filled("scale_filler { value: 1 } shift_filler { value: 0.001 }") == pytest.approx([1, 0.001])


def test_bn_of_one_value_a_channel():
    made = net(layer("BN", "bn_param { slope_filler { value: 1 } }"), (1, 3), phase=caffe_pb2.TRAIN)
    x = torch.randn(1, 3)
    torch.testing.assert_close(made({"x": x})["y"], torch.zeros(1, 3), atol=1e-4, rtol=0)
    mean, variance = made.layers_with_params()["l"][2:]
    torch.testing.assert_close(mean.detach().flatten(), 0.1 * x[0])
    assert not variance.any()


def test_a_weighted_loss_says_nothing_about_chance():
    def loss(settings):
        return net(layer("SoftmaxWithLoss", f"loss_param {{ {settings} }}", "xz"), X, (2, 4, 6)).graph.nodes[0].op

    assert loss("").per_position
    assert loss("class_weighting: 2").per_position, "weights without weight_by_label_freqs have no effect"
    assert not loss("weight_by_label_freqs: true" + 3 * " class_weighting: 2").per_position


# SegAccuracy


@pytest.mark.parametrize("reset", [True, False])
def test_accuracy_of_all_passes_so_far(reset):
    made = net(layer("SegAccuracy", f"seg_accuracy_param {{ reset: {str(reset).lower()} }}", "xz"), (1, 2, 1, 2), (1, 1, 1, 2))
    scores, labels = torch.tensor([[[[2.0, 2]], [[1, 1]]]]), torch.tensor([[[[0.0, 0]]], [[[0, 1]]]])
    found = [made({"x": scores, "z": label[None]})["y"].flatten().tolist() for label in labels]
    assert found[0] == [1, 1, 1]
    assert found[1] == pytest.approx([0.5, 0.5, 0.25] if reset else [0.75, 0.5, 0.375])


def test_accuracy_of_a_label_that_is_no_class():
    made = net(layer("SegAccuracy", "", "xz"), (1, 2, 1, 2), (1, 1, 1, 2))
    with pytest.raises(Error, match="labels are -1 to 0, expected 0 to 1 or an ignore_label"):
        made({"x": torch.zeros(1, 2, 1, 2), "z": torch.tensor([[[[-1.0, 0]]]])})


# AutoCrop: the graph works the offset out


def auto(pad=100, kernel=64, stride=32):
    n = NetSpec()
    n.data = layers.Input(shape=dict(dim=[1, 3, 80, 90]))
    n.conv = layers.Convolution(n.data, num_output=1, kernel_size=3, pad=pad)
    n.relu = layers.ReLU(n.conv, in_place=True)
    for i in range(5):
        n[f"pool{i}"] = layers.Pooling(n[f"pool{i - 1}"] if i else n.relu, kernel_size=2, stride=2, pool=params.Pooling.MAX)
    n.up = layers.Deconvolution(n.pool4, num_output=1, kernel_size=kernel, stride=stride, bias_term=False)
    n.score = layers.AutoCrop(n.up, n.data)
    return n.to_proto()


def test_auto_crop_becomes_the_crop_that_the_maps_give():
    node = build(auto()).node("score")
    assert node.type == "Crop" and node.op.layer.crop_param.axis == 2
    assert list(node.op.layer.crop_param.offset) == [115]  # 99 + 16: the first of each pooling's window, 31/2, and (64 - 1)/2
    explained = explain(build(auto()), "score")
    assert explained.agrees


@pytest.mark.parametrize("settings,words", [
    (dict(stride=16), "upsample or downsample first"),
    (dict(pad=0, kernel=32), "pad more"),
    (dict(kernel=63), "whole offset"),
])
def test_auto_crop_that_cannot_align(settings, words):
    with pytest.raises(Error, match=rf"layer 'score' \(AutoCrop\): .*{words}"):
        build(auto(**settings))


# Old forms, and files of forks whose field numbers mean other things here


def test_v1_layers_of_the_forks():
    old = prototext.parse("""
        layers { name: "a" type: BN bottom: "x" top: "a" bn_param { bn_mode: INFERENCE scale_filler { value: 1 } } blobs_lr: 0 }
        layers { name: "b" type: POOLING bottom: "a" top: "b" top: "m" pooling_param { kernel_size: 2 stride: 2 } }
        layers { name: "c" type: UNPOOLING bottom: "b" bottom: "m" top: "c" unpooling_param { kernel_size: 2 unpool_size: 8 } }
        layers { name: "d" type: UPSAMPLE bottom: "b" bottom: "m" top: "d" upsample_param { scale: 2 } }
        layers { name: "e" type: CROP bottom: "c" bottom: "a" top: "e" }
        layers { name: "f" type: DENSE_IMAGE_DATA top: "f" dense_image_data_param { source: "s" } }
    """, caffe_pb2.NetParameter)
    upgrade_net(old)
    assert [n.type for n in old.layer] == ["BN", "Pooling", "Unpooling", "Upsample", "AutoCrop", "DenseImageData"]
    assert old.layer[0].bn_param.bn_mode == caffe_pb2.BNParameter.INFERENCE
    assert old.layer[2].unpooling_param.unpool_size == 8 and old.layer[3].upsample_param.scale == 2
    assert old.layer[5].dense_image_data_param.source == "s"


def test_weights_of_a_fork_whose_fields_collide(tmp_path):
    """SegNet's bn_param has number 45, its upsample_param 137, that of BVLC's embed_param; and so on."""
    blob = caffe_pb2.BlobProto(shape=caffe_pb2.BlobShape(dim=[1, 2, 1, 1]), data=[3, 4]).SerializeToString()
    parts = []
    for number, content in ((45, b"\x18\x01"), (137, b"\x18\x05\x20\x01"), (147, b"\xff\xff\xff"), (2000, b"\x08")):
        head = caffe_pb2.LayerParameter(name=f"l{number}", type="BN", bottom=["x"]).SerializeToString()
        body = head + delimited(number, len(content)) + content + delimited(7, len(blob)) + blob
        body += varint(138 << 3) + varint(5)  # a number where this schema has a message
        parts.append(delimited(100, len(body)) + body)
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(b"".join(parts))
    found = read_weights(path)
    assert list(found) == ["l45", "l137", "l147", "l2000"]
    assert all(blobs[0].ravel().tolist() == [3, 4] for blobs in found.values())
    made = net(layer("BN", "bn_param { bn_mode: INFERENCE }").replace('"l"', '"l137"'), (1, 2, 1, 1))
    with pytest.raises(Error, match="have 1 blobs.*the net has 2"):
        weights.copy(found, made.layers_with_params())


# Types that are not known


def test_an_unknown_type_says_where_what_is_near_and_the_way_out(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('name: "n"\n' + layer("Input", "", "").replace('"l"', '"i"') + "\n" + layer("UnPooling", "", "y", "z"))
    with pytest.raises(Error) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}:4: layer 'l' has type 'UnPooling', which is not known; did you mean 'Unpooling'? A layer of your own "
        'can be given as type "Python" with python_param { module: ... layer: ... }, or its type by --ops MODULE')
    with pytest.raises(Error, match="which is not known; A layer of your own"):
        net(layer("Zzz"), X)
    assert "Unpooling" in REGISTRY


# HDF5Output


def test_hdf5_output_collects_the_batches_of_a_run(tmp_path):
    path = tmp_path / "sub" / "out.h5"
    made = net(layer("HDF5Output", f"hdf5_output_param {{ file_name: '{path}' }}", "xz", ""), (2, 3, 4, 6), (2, 1))
    assert not path.exists(), "nothing is written before there are data"
    xs, zs = [torch.rand(2, 3, 4, 6) for _ in range(3)], [torch.rand(2, 1) for _ in range(3)]
    for i, (x, z) in enumerate(zip(xs, zs, strict=True), 1):
        made({"x": x, "z": z})
        assert [p.name for p in path.parent.iterdir()] == ["out.h5"]
        with h5py.File(path) as file:
            assert np.array_equal(file["data"], torch.cat(xs[:i])) and file["data"].dtype == np.float32
            assert file["label"].shape == (2 * i, 1, 1, 1)
            assert np.array_equal(file["label"][:, :, 0, 0], torch.cat(zs[:i]))
    with pytest.raises(Error, match="holds rows of shapes"):
        made({"x": torch.rand(2, 3, 5, 6), "z": zs[0]})
    again = net(layer("HDF5Output", f"hdf5_output_param {{ file_name: '{path}' }}", "xz", ""), (1, 2), (1,))
    again({"x": torch.ones(1, 2), "z": torch.zeros(1)})
    with h5py.File(path) as file:
        assert file["data"].shape == (1, 2, 1, 1), "a new run starts the file anew"
    assert Path(path).exists()


@pytest.mark.parametrize("region", [[0, 20, 0, 25, 3], [0, 0, 20, 3, 25], [0, 20, 20, 25, 25]])
def test_a_region_beside_the_image_is_0(region):
    x = torch.rand(1, 2, 6, 7) + 1
    made = net(layer("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", "xz"), x.shape, (1, 5))
    assert not made({"x": x, "z": torch.tensor([region], dtype=torch.float32)})["y"].any()
