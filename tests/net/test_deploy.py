"""Nets without their data: what stays of a net, and which of a data layer's tops are images, which labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.net import weights
from netspec.net.build import build
from netspec.net.deploy import deploy, scored
from netspec.net.module import Net
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import TEST, TRAIN, NetParameter
from netspec.score import predict

MODELS = Path(__file__).resolve().parents[2] / "models"
VOC = [path.parent.name for path in sorted(MODELS.glob("voc-fcn*/deploy.prototxt"))]
ABSENT = 'python_param { module: "absent" layer: "Absent" }'
DATA = f'layer {{ name: "d" type: "Python" top: "data" top: "label" {ABSENT} }}'
IMAGE = 'layer { name: "d" type: "Input" top: "data" '\
        'input_param { shape { dim: 1 dim: 3 dim: 20 dim: 26 } } }'
CONV = ('layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        'convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }')
STAGED = ('state { stage: "deploy" level: 2 }' + DATA + CONV + '''
    layer { name: "score" type: "Softmax" bottom: "c" top: "score" include { stage: "deploy" } }
    layer { name: "high" type: "Power" bottom: "score" top: "high" include { min_level: 2 } }
    layer { name: "low" type: "Power" bottom: "score" top: "low" include { max_level: 1 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "loss"
            exclude { stage: "deploy" } }''')


def parsed(text):
    return prototext.parse(text, NetParameter)


def layer(kind, bottoms, tops="", settings=""):
    ends = (("bottom", bottoms), ("top", tops))
    said = "".join(f'{end}: "{blob}" ' for end, blobs in ends for blob in blobs.split())
    return f'layer {{ name: "{kind} {bottoms}" type: "{kind}" {said}{settings} }}'


@pytest.fixture
def staged(tmp_path, monkeypatch):
    """A net with a stage and a level of its own, weights of it, and an image."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(STAGED)
    weights.save("w.caffemodel", Net(deploy("net.prototxt")))
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save("a.png")
    return tmp_path


@pytest.mark.parametrize("suffix", ["torch", "onnx"])
@pytest.mark.usefixtures("forked")
def test_a_nets_own_stage_and_level_hold_when_it_is_converted(staged, capsys, suffix):
    if suffix == "onnx":
        pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    out = f"out.{dict(torch='py', onnx='onnx')[suffix]}"
    assert cli.main(["convert", suffix, "net.prototxt", "w.caffemodel", out]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "1x500x500" in line]
    assert "high" in rows and not {"low", "c"} & set(rows)


def test_a_nets_own_stage_and_level_hold_in_infer(staged, capsys):
    options = ["--out", "o", "--device", "cpu", "--mean", "1,2,3"]
    assert cli.main(["infer", "net.prototxt", "w.caffemodel", "a.png", *options]) == 0
    assert Path("o/a_labels.png").exists()
    assert cli.main(["infer", "net.prototxt", "w.caffemodel", "a.png", *options, "--score-blob", "high"]) == 0
    assert cli.main(["infer", "net.prototxt", "w.caffemodel", "a.png", *options, "--score-blob", "low"]) == 2
    assert "no blob 'low'" in capsys.readouterr().err


def test_a_nets_own_stage_and_level_hold_with_losses_and_in_a_oneof_its_own():
    made = deploy(parsed(STAGED), losses=True)
    assert [node.name for node in made.layers] == ["d", "c", "score", "high"]
    assert made.outputs == ("high", "label")
    without = parsed(STAGED.replace(DATA, IMAGE))
    assert [node.name for node in build(without).nodes] == ["c", "score", "high"]
    assert [node.name for node in build(without, level=0).nodes] == ["c", "score", "low"]


@pytest.mark.parametrize("name", ["nyud-fcn32s-color-hha", "nyud-fcn16s-color-hha"])
@pytest.mark.parametrize("split", ["test", "trainval"])
def test_two_images_are_no_image_and_its_label(name, split):
    made = deploy(MODELS / name / f"{split}.prototxt", size=(64, 96))
    assert made.inputs == ("color", "hha") and made.outputs == ("score",)
    assert made.shape("color") == made.shape("hha") == (1, 3, 64, 96)


def test_depth_beside_an_image_has_one_channel():
    made = deploy(MODELS / "nyud-fcn32s-color-d/test.prototxt", size=(64, 96))
    assert [made.shape(blob) for blob in ("color", "depth")] == [(1, 3, 64, 96), (1, 1, 64, 96)]
    assert made.inputs == ("color", "depth") and made.outputs == ("score",)


def test_regions_given_with_four_axes_are_no_image():
    made = deploy(parsed('layer { name: "i" type: "Input" top: "data" top: "rois" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } '
                         'shape { dim: 1 dim: 5 dim: 1 dim: 1 } } } layer { name: "p" type: "ROIPooling" bottom: "data" '
                         'bottom: "rois" top: "p" roi_pooling_param { pooled_h: 2 pooled_w: 2 } }'), size=(16, 24), losses=True)
    assert made.shape("data") == (1, 3, 16, 24) and made.shape("rois") == (1, 5, 1, 1)


@pytest.mark.parametrize("name", VOC)
def test_a_training_net_deployed_is_its_deploy_net(name):
    kinds = [kind for kind in ("train", "val") if (MODELS / name / f"{kind}.prototxt").exists()]
    assert kinds
    own = deploy(MODELS / name / "deploy.prototxt", losses=True)
    for made in (deploy(MODELS / name / f"{kind}.prototxt") for kind in kinds):
        assert made.inputs == own.inputs == ("data",) and made.outputs == own.outputs == ("score",)
        bodies = [[(n.name, n.type, [(top.blob, one.shapes[top]) for top in n.tops]) for n in one.nodes
                   if n.type != "Dropout"] for one in (made, own)]  # which deploy nets have not
        assert bodies[0] == bodies[1]
        assert {slot.key: slot.shape for slot in made.params} == {slot.key: slot.shape for slot in own.params}


BODY = CONV + layer("SoftmaxWithLoss", "c label", "loss")
TWO_FILES = (f'layer {{ name: "a" type: "Python" top: "label" {ABSENT} }}'
             f'layer {{ name: "b" type: "Python" top: "data" {ABSENT} }}')


@pytest.mark.parametrize("text, inputs, outputs", [
    (DATA + BODY, "data", "c"),
    (DATA.replace('top: "data" top: "label"', 'top: "label" top: "data"') + BODY, "data", "c"),
    (TWO_FILES + BODY, "data", "c"),
    (IMAGE.replace('top: "data"', 'top: "data" top: "label"') + BODY, "data", "c"),  # one Input
    # labels that a layer prepares, for a loss that looks alike on both, and for one of the other phase
    (DATA + CONV + layer("Power", "label", "half") + layer("EuclideanLoss", "c half", "loss"), "data", "c"),
    (DATA + CONV + layer("Power", "label", "half")
     + layer("SoftmaxWithLoss", "c half", "loss", "include { phase: TRAIN }"), "data", "c"),
    (DATA + CONV + layer("Power", "label", "half") + layer("Silence", "half"), "data", "c"),
    (DATA + CONV + layer("EuclideanLoss", "label c", "loss"), "data", "c"),
    (DATA + CONV + layer("HDF5Output", "c label"), "data", "c"),
    (DATA + CONV + layer("Concat", "c label", "y") + layer("SoftmaxWithLoss", "c label", "loss"),
     "data label", "y"),
    # a pair, of which a loss reads both
    (DATA.replace('"label"', '"pair" top: "label"') + CONV
     + CONV.replace('"c"', '"p"').replace('"data"', '"pair"')
     + layer("ContrastiveLoss", "c p label", "loss"), "data pair", "c p"),
])
def test_who_reads_it_tells_an_image_from_a_label(text, inputs, outputs):
    made = deploy(parsed(text))
    assert (made.inputs, made.outputs) == (tuple(inputs.split()), tuple(outputs.split()))
    assert not any(node.op.loss for node in made.nodes)


def test_labels_have_the_shapes_that_their_readers_take():
    made = deploy(parsed(TWO_FILES + BODY), TRAIN, (10, 12), losses=True)
    assert [made.shape(blob) for blob in ("label", "data", "loss")] == [(1, 1, 10, 12), (1, 3, 10, 12), ()]
    for kind in ("Data", "ImageData", "WindowData", "MemoryData"):
        data = (f'layer {{ name: "d" type: "{kind}" top: "data" top: "label" '
                "transform_param { crop_size: 7 } }")
        made = deploy(parsed(data + CONV), losses=True)
        assert [made.shape(blob) for blob in ("data", "label")] == [(1, 3, 7, 7), (1,)]
    made = deploy(parsed(IMAGE + CONV), size=(5, 6), losses=True)
    assert made.shape("data") == (1, 3, 5, 6)
    assert deploy(parsed(IMAGE + CONV), size=(5, 6)).shape("data") == (1, 3, 20, 26)  # for an export, its own


FC = layer("InnerProduct", "data", "f", "inner_product_param { num_output: 3 }")
LOSS = layer("SoftmaxWithLoss", "f label", "loss")
TWO_TOPS = 'layer { name: "d" top: "data" top: "label" '


@pytest.mark.parametrize("source, shapes", [
    ('type: "DummyData" dummy_data_param { shape { dim: [2, 1, 28, 28] } shape { dim: 2 } }', [(2, 1, 28, 28), (2,)]),
    ('type: "DummyData" dummy_data_param { num: 2 channels: 5 height: [4, 1] width: [6, 1] }'.replace("5", "[5, 1]"),
     [(2, 5, 4, 6), (2, 1, 1, 1)]),
    ('type: "MemoryData" memory_data_param { batch_size: 2 channels: 1 height: 28 width: 27 }', [(2, 1, 28, 27), (2,)]),
    ('type: "WindowData" window_data_param { source: "x" batch_size: 2 } transform_param { crop_size: 20 }',
     [(2, 3, 20, 20), (2,)]),
    ('type: "ImageData" image_data_param { source: "x" new_height: 8 new_width: 9 is_color: false batch_size: 4 }',
     [(4, 1, 8, 9), (4,)]),
    ('type: "ImageData" image_data_param { source: "x" new_height: 8 new_width: 9 } transform_param { crop_size: 5 }',
     [(1, 3, 5, 5), (1,)]),
    ('type: "Data" data_param { source: "x" batch_size: 7 } transform_param { crop_size: 5 }', [(7, 3, 5, 5), (7,)]),
    ('type: "Data" data_param { source: "x" } transform_param { force_gray: true }', [(1, 1, 500, 500), (1,)]),
    ('type: "HDF5Data" hdf5_data_param { source: "x" batch_size: 7 }', [(1, 3, 500, 500), (1,)]),
], ids=str)
def test_data_layers_have_the_shapes_that_they_state(source, shapes):
    made = deploy(parsed(TWO_TOPS + source + " }" + FC + LOSS), losses=True)
    assert [made.shape(blob) for blob in ("data", "label")] == shapes
    assert made.shape("f") == (shapes[0][0], 3)
    sized = deploy(parsed(TWO_TOPS + source + " }" + FC + LOSS), losses=True, size=(11, 12))
    assert [sized.shape(blob) for blob in ("data", "label")] == [(*shapes[0][:2], 11, 12), shapes[1]]
    alone = deploy(parsed(TWO_TOPS + source + " }" + FC + LOSS))
    assert alone.inputs == ("data",) and alone.shape("data") == (1, *shapes[0][1:])


def test_a_top_of_another_size_keeps_it():
    rows = 'type: "DummyData" dummy_data_param { num: 2 channels: [5, 1] height: [4, 1] width: [6, 6] } }'
    sized = deploy(parsed(TWO_TOPS + rows + FC), losses=True, size=(11, 12))
    assert [sized.shape(blob) for blob in ("data", "label")] == [(2, 5, 11, 12), (2, 1, 1, 6)]


@pytest.mark.parametrize("settings, data, label", [
    ("new_height: 8 new_width: 10 label_divide_factor: 2", (3, 8, 10), (1, 4, 5)),
    ("new_height: 8 new_width: 10 is_color: false", (1, 8, 10), (1, 8, 10)),
    ("new_height: 8 new_width: 10 crop_height: 4 crop_width: 6", (3, 4, 6), (1, 4, 6)),
    ("", (3, 500, 500), (1, 500, 500)),
])
def test_label_maps_have_the_size_that_is_stated(settings, data, label):
    source = f'type: "DenseImageData" dense_image_data_param {{ source: "x" batch_size: 2 {settings} }} }}'
    made = deploy(parsed(TWO_TOPS + source + CONV), losses=True)
    assert [made.shape(blob)[1:] for blob in ("data", "label")] == [data, label]


def test_what_nothing_states_is_what_fits_the_net():
    """As in BVLC's nets of MNIST: two grey images of a pair, and an image that is its own truth."""
    data = 'layer { name: "d" type: "Data" top: "data" data_param { source: "x" batch_size: 2 } }'
    pair = data + layer("Slice", "data", "a b", "slice_param { slice_point: 1 }") + "".join(
        layer("InnerProduct", one, f"{one}f", 'param { name: "w" } param { name: "b" } inner_product_param { num_output: 2 }')
        for one in "ab")
    assert deploy(parsed(pair), size=(28, 28), losses=True).shape("data") == (2, 2, 28, 28)
    own = (data + FC.replace("num_output: 3", "num_output: 784") + layer("Flatten", "data", "flat")
           + layer("SigmoidCrossEntropyLoss", "f flat", "loss"))
    assert deploy(parsed(own), losses=True).shape("data") == deploy(parsed(own), size=(28, 28), losses=True).shape("data") == (2, 1, 28, 28)
    with pytest.raises(Error, match="750000"):
        deploy(parsed(own.replace("784", "785")), losses=True)


@pytest.mark.parametrize("settings, size", [
    # 500 is halved to 63, and back to 64
    ('pooling_param { pool: MAX kernel_size: 8 stride: 8 } } layer { name: "up" type: "Deconvolution" bottom: "p" top: "up" '
     'convolution_param { num_output: 1 kernel_size: 8 stride: 8 } } layer { name: "e" type: "Eltwise" bottom: "up" bottom: "data" '
     'top: "e" }', (512, 512)),
    # digits as MNIST has them, coded and made again
    ('pooling_param { global_pooling: true } } layer { name: "f" type: "Flatten" bottom: "data" top: "f" } layer { name: "ip" '
     'type: "InnerProduct" bottom: "f" top: "ip" inner_product_param { num_output: 784 } } layer { name: "l" type: "EuclideanLoss" '
     'bottom: "ip" bottom: "f" top: "l" }', (28, 28)),
])
def test_images_have_another_size_where_nothing_says_it_and_the_net_takes_no_500(settings, size):
    net = parsed(f'layer {{ name: "d" type: "Data" top: "data" }} layer {{ name: "p" type: "Pooling" bottom: "data" top: "p" {settings}')
    assert deploy(net, losses=True).shape("data")[2:] == size


def test_regions_that_a_layer_of_others_gives_have_five_columns():
    net = parsed('layer { name: "d" type: "Python" top: "data" top: "rois" top: "masks" python_param { module: "their.own" layer: "X" } }'
                 + layer("Convolution", "data", "c", "convolution_param { num_output: 2 kernel_size: 3 }")
                 + layer("ROIPooling", "c rois", "r", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"))
    assert deploy(net, losses=True).shape("r") == (1, 2, 2, 2)


def test_what_leads_to_a_blob():
    text = IMAGE.replace('top: "data"', 'top: "left" top: "data"').replace("dim: 3 ", "dim: 7 ").replace(
        "} }", "} shape { dim: 1 dim: 1 dim: 8 dim: 8 } }", 1) + CONV + layer("ReLU", "left", "other")
    pruned, top, channels, _ = predict.image_net(parsed(text), "c", Path("x.prototxt"))
    assert [each.name for each in pruned.layer] == ["d", "c"] and (top, channels) == ("data", 1)
    assert build(pruned).shape("c") == (1, 4, 8, 8)  # its own shape stays with it


@pytest.mark.parametrize("text, message", [
    ('layer { name: "x" type: "Power" include { phase: TRAIN } }', "the net has no layers in phase TEST"),
    (DATA + layer("SoftmaxWithLoss", "data label", "loss"), "nothing is left without data layers and losses"),
    (DATA + CONV.replace("Convolution", "Konvolution", 1), "'Konvolution', which is not known"),
])
def test_what_cannot_be_deployed(text, message):
    with pytest.raises(Error, match=message):
        deploy(parsed(text))


def test_a_net_in_a_file_is_named_with_its_line(tmp_path):
    (tmp_path / "n.prototxt").write_text(DATA + "\n" + layer("ReLU", "gone", "x"))
    for losses in (True, False):
        with pytest.raises(Error, match=r"n\.prototxt:2: layer 'ReLU gone'.*'gone' is no top"):
            deploy(tmp_path / "n.prototxt", TEST, losses=losses)


def unpooling(*settings):
    """A net of as many poolings as Upsample layers, the innermost first, whose data do not say how large images are."""
    depth = len(settings)
    text = ('layer { name: "d" type: "DenseImageData" top: "p0" top: "label" '
            'dense_image_data_param { source: "/absent/train.txt" batch_size: 2 } }')
    for i in range(1, depth + 1):
        text += layer("Pooling", f"p{i - 1}", f"p{i} m{i}", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    at = f"p{depth}"
    for i, said in zip(range(depth, 0, -1), settings, strict=True):
        text += layer("Upsample", f"{at} m{i}", f"u{i}", f"upsample_param {{ scale: 2 {said} }}")
        at = f"u{i}"
    return parsed(text)


@pytest.mark.parametrize("settings, size", [
    (["upsample_h: 23 upsample_w: 30", "upsample_h: 45 upsample_w: 60"], (45, 60)),
    (["upsample_h: 23 upsample_w: 30", "upsample_h: 45 upsample_w: 60", "", ""], (180, 240)),
    (["pad_out_h: true", "", "", ""], (488, 496)),  # of SegNet basic: 8 times an odd number, and 16 times any
    (["", ""], (500, 500)),
])
def test_images_have_the_size_that_un_pooling_is_made_for_where_nothing_says_it(settings, size):
    net = unpooling(*settings)
    assert deploy(net).shape("u1")[2:] == deploy(net, losses=True).shape("p0")[2:] == size
    assert predict.sample(predict.image_net(net, "u1", Path("x"))[0], "p0", 3).shape("u1")[2:] == size


def test_un_pooling_that_fits_no_size_tried_asks_for_it():
    net = unpooling("upsample_h: 23 upsample_w: 30", "upsample_h: 44 upsample_w: 60")
    with pytest.raises(Error, match="mask.*data do not say how large images are.*give --size HxW"):
        deploy(net)
    with pytest.raises(Error, match="mask"):
        predict.sample(predict.image_net(net, "u1", Path("x"))[0], "p0", 3)


@pytest.mark.parametrize("text, blob", [
    (DATA + CONV, "c"), (DATA + CONV + layer("Softmax", "c", "prob"), "prob"),
    (DATA + CONV + layer("SoftmaxWithLoss", "c label", "loss") + layer("Accuracy", "c label", "acc"), "c"),
    (DATA + CONV + layer("Softmax", "c", "score") + layer("ReLU", "c", "other"), "score"),
    (DATA + CONV + layer("Softmax", "c", "prob") + layer("ReLU", "c", "other"), "score"),
    (DATA + FC + layer("Softmax", "f", "prob"), "score"),
])
def test_the_scores_are_the_only_result_of_a_net_that_does_not_call_one_so(text, blob):
    assert scored(parsed(text)) == blob
