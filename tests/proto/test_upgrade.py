"""upgrade.py against what BVLC Caffe makes of old nets, and case by case."""

import json
from pathlib import Path

import pytest

from netspec.base.errors import Error
from netspec.proto import caffe_pb2
from netspec.proto.text import parse
from netspec.proto.upgrade import current, upgrade_net, upgrade_solver

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"


def upgraded(text, name="net"):
    net = parse(text, caffe_pb2.NetParameter)
    upgrade_net(net, name)
    return net


def same(text, expected):
    net, wanted = upgraded(text), parse(expected, caffe_pb2.NetParameter)
    assert str(net) == str(wanted)


@pytest.mark.parametrize("name", ["v0", "legacy_input"])
def test_layers_are_those_of_caffe(name):
    net = upgraded((GOLDEN / f"{name}.prototxt").read_text())
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    assert [[layer.name, layer.type] for layer in net.layer] == expected["layers"]
    inputs = dict(zip(net.layer[0].top, net.layer[0].input_param.shape, strict=True))
    for top, shape in inputs.items():
        assert list(shape.dim) == expected["blobs"][top]
    assert not net.layers and not net.input and not net.input_dim and not net.input_shape


def test_v0_in_detail():
    net = upgraded((GOLDEN / "v0.prototxt").read_text())
    layer = {layer.name: layer for layer in net.layer}
    conv = layer["conv1"]
    assert list(conv.bottom) == ["data"]
    assert list(conv.convolution_param.pad) == [2]  # of the padding layer
    assert list(conv.convolution_param.kernel_size) == [3]
    assert conv.convolution_param.weight_filler.type == "gaussian"
    assert [(p.lr_mult, p.decay_mult) for p in conv.param] == [(1, 1), (2, 0)]
    assert layer["pool1"].pooling_param.stride == 2
    assert layer["norm1"].lrn_param.alpha == pytest.approx(0.0001)
    assert layer["fc"].inner_product_param.num_output == 5


def test_v0_data_layer_and_renamed_fields():
    same(
        """layers { layer { name: "d" type: "images" source: "list" batchsize: 3 shuffle_images: true
                           scale: 0.5 meanfile: "m" cropsize: 7 mirror: true } top: "d" }
           layers { layer { name: "w" type: "window_data" det_fg_threshold: 0.25 det_crop_mode: "q" } }""",
        """layer { name: "d" type: "ImageData" top: "d"
                   image_data_param { source: "list" batch_size: 3 shuffle: true }
                   transform_param { scale: 0.5 mean_file: "m" crop_size: 7 mirror: true } }
           layer { name: "w" type: "WindowData" window_data_param { fg_threshold: 0.25 crop_mode: "q" } }""",
    )


def test_v0_field_without_use_is_reported(caplog):
    net = upgraded('layers { layer { name: "r" type: "relu" kernelsize: 3 } }', "old.prototxt")
    assert net.layer[0].type == "ReLU"
    assert "old.prototxt: layer 'r' (relu) has no use for kernelsize" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('layers { layer { name: "a" type: "convv" } }', "unknown V0 type 'convv'; did you mean 'conv'?"),
        ('layers { layer { name: "a" type: "relu" } bottom: "x" }', "unknown bottom 'x'"),
        (
            """input: "x" layers { layer { name: "p" type: "padding" } bottom: "x" top: "p" }
               layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }""",
            "layer 'r' \\(relu\\) follows the padding layer 'p'",
        ),
        *(
            (
                f"""input: "x" input: "z" layers {{ layer {{ name: "p" type: "padding" }} {more} bottom: "x" top: "p" }}
                    layers {{ layer {{ name: "c" type: "conv" }} bottom: "p" top: "c" }}""",
                "padding layer 'p' must have one bottom and one top",
            )
            for more in ('bottom: "z"', 'top: "q"')
        ),
        ("layers { type: RELU } layer { type: 'ReLU' }", "both 'layer' and 'layers'"),
        ("input: 'a' input_dim: 1", "need 4 input_dim field\\(s\\), found 1"),
        ("input: 'a' input: 'b' input_shape { dim: 1 }", "need 2 input_shape field\\(s\\), found 1"),
    ],
)
def test_refused(text, said):
    with pytest.raises(Error, match="^net: .*" + said):
        upgraded(text)


def test_v1():
    same(
        """layers { name: "a" type: CONVOLUTION bottom: "x" top: "y" param: "w" param: "b"
                    blobs_lr: 1 blobs_lr: 2 blob_share_mode: PERMISSIVE loss_weight: 2
                    weight_decay: 0 weight_decay: 0.5 weight_decay: 3
                    include { phase: TRAIN } convolution_param { num_output: 3 } relu_param { } }
           layers { type: SOFTMAX_LOSS loss_param { ignore_label: 255 } }
           layers { type: SIGMOID_CROSS_ENTROPY_LOSS }
           layers { type: IM2COL } layers { type: NONE } layers { }""",
        """layer { name: "a" type: "Convolution" bottom: "x" top: "y" loss_weight: 2 include { phase: TRAIN }
                   param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 0 }
                   param { name: "b" lr_mult: 2 decay_mult: 0.5 } param { decay_mult: 3 }
                   convolution_param { num_output: 3 } relu_param { } }
           layer { type: "SoftmaxWithLoss" loss_param { ignore_label: 255 } }
           layer { type: "SigmoidCrossEntropyLoss" } layer { type: "Im2col" } layer { type: "" } layer { }""",
    )


def test_every_v1_type_has_a_known_name():
    irregular = "AbsVal ArgMax BNLL HDF5Data HDF5Output LRN MVN ReLU SoftmaxWithLoss TanH".split()
    net = caffe_pb2.NetParameter()
    for number in caffe_pb2.V1LayerParameter.LayerType.values():
        net.layers.add(type=number)
    upgrade_net(net)
    types = [layer.type for layer in net.layer]
    assert set(irregular) < set(types)
    assert {"InnerProduct", "MultinomialLogisticLoss", "Im2col", "DummyData"} < set(types)


def test_v1_weights_from_a_binary_file():
    net = caffe_pb2.NetParameter.FromString((GOLDEN / "v1.caffemodel").read_bytes())
    before = {layer.name: [list(blob.data) for blob in layer.blobs] for layer in net.layers}
    upgrade_net(net)
    assert net.layer[0].type == "Input"
    assert {layer.name: [list(blob.data) for blob in layer.blobs] for layer in net.layer[1:]} == before
    assert sum(map(len, before.values())) == 4
    text = upgraded((GOLDEN / "v1.prototxt").read_text())
    for layer in net.layer:
        layer.ClearField("blobs")
    assert [(n.name, n.type) for n in net.layer] == [(n.name, n.type) for n in text.layer]


def test_v1_transform_moves_in_all_data_layers_if_one_needs_it():
    same(
        """layers { type: DATA data_param { source: "s" scale: 0.5 mirror: true } }
           layers { type: IMAGE_DATA transform_param { crop_size: 3 } } layers { type: RELU }""",
        """layer { type: "Data" data_param { source: "s" } transform_param { scale: 0.5 mirror: true } }
           layer { type: "ImageData" image_data_param { } transform_param { crop_size: 3 } }
           layer { type: "ReLU" }""",
    )
    same(
        'layers { type: DATA data_param { source: "s" } }',
        'layer { type: "Data" data_param { source: "s" } }',
    )


def test_input_without_shape_is_dropped_and_layers_keep_their_order():
    same('input: "x" layer { name: "a" } layer { name: "b" }', 'layer { name: "a" } layer { name: "b" }')
    same(
        """input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4
           layer { name: "a" } layer { name: "b" }""",
        """layer { name: "input" type: "Input" top: "x"
                   input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }
           layer { name: "a" } layer { name: "b" }""",
    )


def test_batch_norm_statistics_are_not_learned():
    param = "param { name: 's' lr_mult: 1 } " * 3
    fixed = "param { name: 's' lr_mult: 0 decay_mult: 0 } " * 3
    same(f"layer {{ type: 'BatchNorm' {param} }}", f"layer {{ type: 'BatchNorm' {fixed} }}")
    same(
        "layer { type: 'BatchNorm' param { lr_mult: 1 } }", "layer { type: 'BatchNorm' param { lr_mult: 1 } }"
    )


def test_holes_of_deeplab_are_dilation():
    same('layers { name: "c" type: CONVOLUTION bottom: "x" top: "y" convolution_param { num_output: 3 kernel_size: 3 hole: 4 } }',
         'layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 3 kernel_size: 3 dilation: 4 } }')


def test_a_current_net_stays_as_it_is():
    text = 'name: "n" layer { name: "a" type: "Data" data_param { scale: 2 } }'
    same(text, text)


@pytest.mark.parametrize(("old", "new"), [("NESTEROV", "Nesterov"), ("SGD", "SGD"), ("ADADELTA", "AdaDelta")])
def test_solver_type(old, new):
    solver = parse(f"solver_type: {old} net_param {{ layers {{ type: RELU }} }}", caffe_pb2.SolverParameter)
    upgrade_solver(solver)
    assert solver.type == new
    assert not solver.HasField("solver_type")
    assert solver.net_param.layer[0].type == "ReLU"


def test_nets_inside_a_solver():
    old = "{ layers { type: RELU } }"
    text = f"net_param {old} train_net_param {old} test_net_param {old} test_net_param {old}"
    solver = parse(text, caffe_pb2.SolverParameter)
    upgrade_solver(solver)
    for net in (solver.net_param, solver.train_net_param, *solver.test_net_param):
        assert [layer.type for layer in net.layer] == ["ReLU"] and not net.layers


def test_two_solver_types_are_refused():
    solver = parse("solver_type: ADAM type: 'Adam'", caffe_pb2.SolverParameter)
    with pytest.raises(Error, match="^s: .*solver_type"):
        upgrade_solver(solver, "s")


@pytest.mark.parametrize("old, new", [("images", "ImageData"), ("conv", "Convolution"), ("DATA", "Data"), ("CROP", "AutoCrop"),
                                      ("SOFTMAX_LOSS", "SoftmaxWithLoss"), ("LSTM", "LSTM"), ("Crop", "Crop"), ("Odd", "Odd")])
def test_types_of_old_caffes_have_names_of_today(old, new):
    assert current(old) == new
