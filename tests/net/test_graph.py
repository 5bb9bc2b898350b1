"""Nets as graphs: what is kept in which state, versions of blobs, sharing, shapes, and errors that name the place."""

import pytest
import torch

from netspec.base.errors import Error
from netspec.net import build as builds
from netspec.net.build import load
from netspec.net.graph import Value
from netspec.net.layerwise import Layerwise
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 9 } } }\n'


def net(text, name="n"):
    return prototext.parse(f'name: "{name}"\n{text}', caffe_pb2.NetParameter, "net")


def build(text, phase=TEST, **options):
    return builds.build(net(text), phase, **options)


def conv(name, bottom, outputs=4, extra="", more=""):
    return (f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {extra} '
            f'convolution_param {{ num_output: {outputs} kernel_size: 1 {more} }} }}\n')


def relu(name, bottom, top=None):
    return f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{top or bottom}" }}\n'


def refused(text, phase=TEST, **options):
    with pytest.raises(Error) as caught:
        build(text, phase, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# what is kept

RULES = DATA + "".join(
    f'layer {{ name: "{name}" type: "ReLU" bottom: "data" top: "{name}" {rule} }}\n'
    for name, rule in {
        "always": "",
        "train": "include { phase: TRAIN }",
        "test": "include { phase: TEST }",
        "not_test": "exclude { phase: TEST }",
        "low": "include { max_level: 1 }",
        "high": "include { min_level: 2 }",
        "deep": 'include { stage: "deep" }',
        "deep_wide": 'include { stage: "deep" stage: "wide" }',
        "shallow": 'include { not_stage: "deep" }',
        "either": 'include { phase: TRAIN stage: "deep" } include { min_level: 2 }',
        "neither": 'exclude { phase: TRAIN } exclude { stage: "wide" }',
    }.items()
)


@pytest.mark.parametrize("phase, level, stages, kept", [
    (TEST, 0, (), "always test low shallow neither"),
    (TRAIN, 0, (), "always train not_test low shallow"),
    (TEST, 2, (), "always test high shallow either neither"),
    (TEST, 1, ("deep",), "always test low deep neither"),
    (TRAIN, 0, ("deep",), "always train not_test low deep either"),
    (TEST, 0, ("deep", "wide", "other"), "always test low deep deep_wide"),
])
def test_rules_keep_the_layers_that_caffe_keeps(phase, level, stages, kept):
    made = build(RULES, phase, level=level, stages=stages)
    assert [node.name for node in made.nodes] == kept.split()


def test_stages_of_the_net_itself_count():
    assert "deep" in [n.name for n in build('state { stage: "deep" }\n' + RULES).nodes]


def test_include_and_exclude_together_are_refused():
    message = refused(DATA + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" include { phase: TEST } '
                      "exclude { phase: TRAIN } }")
    assert "layer 'r'" in message and "not both" in message


def test_a_layer_may_have_a_phase_of_its_own():
    text = DATA + 'layer { name: "d" type: "Dropout" bottom: "data" top: "d" phase: TRAIN }'
    assert build(text, TEST).nodes[0].op.context.training
    assert not build(text.replace("phase: TRAIN", ""), TEST).nodes[0].op.context.training


# blobs

def test_in_place_layers_make_versions():
    made = build(DATA + conv("c", "data") + relu("r", "c") + relu("s", "c") + conv("e", "c", 2))
    assert [(n.name, n.bottoms[0], n.tops[0]) for n in made.nodes] == [
        ("c", Value("data"), Value("c")), ("r", Value("c"), Value("c", 1)),
        ("s", Value("c", 1), Value("c", 2)), ("e", Value("c", 2), Value("e")),
    ]
    assert made.outputs == ("e",) and made.inputs == ("data",)
    assert made.shape("c") == made.shapes[Value("c", 2)] == (2, 4, 8, 9)


def test_a_layer_reads_the_newest_version_above_it():
    made = build(DATA + conv("c", "data") + conv("before", "c") + relu("r", "c") + conv("after", "c"))
    assert made.node("before").bottoms == (Value("c"),) and made.node("after").bottoms == (Value("c", 1),)


def test_outputs_are_the_unread_blobs_in_alphabetical_order():
    text = DATA + conv("z", "data") + conv("b", "z") + conv("a", "z") + relu("in_place", "b")
    assert build(text).outputs == ("a", "b")
    assert build(DATA + relu("r", "data")).outputs == ("data",)


def test_unknown_bottom_names_the_closest_blob():
    message = refused(DATA + conv("conv1", "data") + relu("r", "conv_1"))
    assert message == "layer 'r' (ReLU): bottom 'conv_1' is no top of a layer above; did you mean 'conv1'?"
    assert "is no top" in refused(relu("r", "data") + DATA)  # order counts


def test_a_blob_has_one_maker():
    assert "top 'c' is there already" in refused(DATA + conv("c", "data") + conv("d", "data").replace('top: "d"', 'top: "c"'))
    split = 'layer { name: "s" type: "Slice" bottom: "data" top: "a" top: "b" top: "a" }'
    assert "top 'a' is there already" in refused(DATA + split)
    # in place only where bottom and top stand in the same place
    two = 'layer { name: "e" type: "Eltwise" bottom: "data" bottom: "c" top: "c" }'
    assert "top 'c' is there already" in refused(DATA + conv("c", "data", 3) + two)


def test_layer_names_are_unique():
    assert "two layers of this name" in refused(DATA + conv("c", "data") + relu("c", "c"))
    both = DATA + 'layer { name: "x" type: "ReLU" bottom: "data" top: "x" include { phase: TRAIN } }\n' \
        'layer { name: "x" type: "TanH" bottom: "data" top: "x" include { phase: TEST } }'
    assert [build(both, phase).node("x").type for phase in (TRAIN, TEST)] == ["ReLU", "TanH"]


def test_layers_without_parameters_of_their_own_may_share_a_name():
    crops = """layer { name: "r" type: "Input" top: "r" input_param { shape { dim: [2, 3, 2, 2] } } }
        layer { name: "crop" type: "Crop" bottom: "data" bottom: "r" top: "a" crop_param { axis: 2 offset: 1 } }
        layer { name: "crop" type: "Crop" bottom: "data" bottom: "r" top: "b" crop_param { axis: 2 offset: 0 } }
        layer { type: "ReLU" bottom: "a" top: "a" } layer { type: "TanH" bottom: "a" top: "a" }
        layer { type: "Power" bottom: "a" top: "a" power_param { scale: 2 } } layer { type: "AbsVal" bottom: "b" top: "c" }
        layer { type: "EuclideanLoss" bottom: "a" bottom: "c" } layer { type: "EuclideanLoss" bottom: "b" bottom: "c" }"""
    made = Net(build(DATA + crops, TRAIN))
    run, x = Layerwise(made), torch.randn(made.graph.shape("data"))
    run.blobs["data"].data[...] = x
    run.forward()
    run.backward()
    fast = made({"data": x, "r": torch.zeros(2, 3, 2, 2)}, want=["a", "b"])
    a, b = x[:, :, 1:3, 1:3].relu().tanh() * 2, x[:, :, :2, :2]
    for blob, value in (("a", a), ("b", b)):
        torch.testing.assert_close(fast[blob], value)
        torch.testing.assert_close(torch.tensor(run.blobs[blob].data), value)
    torch.testing.assert_close(made.loss(fast), ((a - b.abs()).square().sum() + (b - b.abs()).square().sum()) / 4)


def test_a_name_of_two_layers_that_share_their_parameters():
    def pair(first, second):
        return DATA + conv("c", "data", extra=first) + conv("c", "data", extra=second).replace('top: "c"', 'top: "d"')
    made = build(pair(*['param { name: "w" } param { name: "b" }'] * 2))
    assert [slot.key for slot in made.params] == ["c.weight", "c.bias"]
    assert made.layers[-1].params == made.layers[-2].params
    for first, second in (("", ""), ('param { name: "w" }',) * 2, ('param { name: "w" } param { name: "b" }', "")):
        assert "two layers of this name" in refused(pair(first, second))
    assert "two layers of this name" in refused(DATA + relu("c", "data", "r") + conv("c", "data"))
    assert "two layers of this name" in refused(DATA + conv("", "data") + conv("", "data").replace('top: ""', 'top: "d"'))


def test_layers_and_blobs_are_found_by_name_or_the_closest_is_named():
    made = build(DATA + conv("score_fr", "data"))
    assert made.node("score_fr").type == "Convolution" and made.node("data").type == "Input"
    with pytest.raises(Error, match="no layer 'score_fc'; did you mean 'score_fr'"):
        made.node("score_fc")
    with pytest.raises(Error, match="no blob 'score_f'; did you mean 'score_fr'"):
        made.shape("score_f")


# types and counts

def test_unknown_types_name_the_closest():
    assert "did you mean 'Convolution'" in refused(DATA + conv("c", "data").replace("Convolution", "Convolutoin"))
    assert "did you mean 'ReLU'" in refused(DATA + relu("r", "data").replace('"ReLU"', '"relu"'))
    message = refused(DATA + relu("r", "data").replace('"ReLU"', '"Qwertzuiop"'))
    assert "which is not known" in message and "Python" in message


def test_wrong_numbers_of_bottoms_and_tops_are_refused():
    assert "takes exactly 1 bottom, 0 given" in refused('layer { name: "r" type: "ReLU" top: "r" }')
    assert "2 or more bottoms, 1 given" in refused(DATA + 'layer { name: "e" type: "Eltwise" bottom: "data" top: "e" }')


# parameters

def shared(first="", second="", outputs=4, mode=""):
    return (DATA + conv("a", "data", 4, f'param {{ name: "w" {first} }}')
            + conv("b", "data", outputs, f'param {{ name: "w" {second} {mode} }}'))


def slots(text):
    return {slot.key: slot for slot in build(text, TRAIN).params}


def test_slots_have_keys_shapes_and_multipliers():
    text = DATA + conv("a/x.1", "data", 4, "param { lr_mult: 0.5 } param { lr_mult: 2 decay_mult: 0 }") + conv("b", "a/x.1", 2)
    found = slots(text)
    assert {key: (s.layer, s.index, s.shape, s.lr_mult, s.decay_mult) for key, s in found.items()} == {
        "a/x.1.weight": ("a/x.1", 0, (4, 3, 1, 1), 0.5, 1), "a/x.1.bias": ("a/x.1", 1, (4,), 2, 0),
        "b.weight": ("b", 0, (2, 4, 1, 1), 1, 1), "b.bias": ("b", 1, (2,), 1, 1),
    }
    lone = DATA + conv("c", "data", 4, more="bias_term: false")
    assert list(slots(lone)) == ["c.weight"]
    norm = DATA + 'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }'
    assert list(slots(norm)) == ["bn.0", "bn.1", "bn.2"]


def test_named_parameters_are_shared():
    made = build(shared())
    assert [slot.key for slot in made.params] == ["a.weight", "a.bias", "b.bias"]
    assert made.node("b").params[0] is made.node("a").params[0]


def test_whoever_says_a_multiplier_first_says_it_for_all():
    assert slots(shared(second="lr_mult: 0.1"))["a.weight"].lr_mult == pytest.approx(0.1)
    assert slots(shared(first="lr_mult: 0.1"))["a.weight"].lr_mult == pytest.approx(0.1)
    both = build(shared("lr_mult: 3", "lr_mult: 3 decay_mult: 0"), TRAIN)
    assert (both.params[0].lr_mult, both.params[0].decay_mult) == (3, 0)
    assert both.node("a").params[0] is both.node("b").params[0] is both.params[0]


@pytest.mark.parametrize("field", ["lr_mult", "decay_mult"])
def test_two_multipliers_for_one_parameter_are_refused(field):
    message = refused(shared(f"{field}: 1", f"{field}: 2"))
    assert "layer 'b' (Convolution): gives the shared parameter 'w'" in message
    assert f"{field} 2, layer 'a' gave 1" in message
    third = shared("", f"{field}: 2") + conv("c", "data", 4, f'param {{ name: "w" {field}: 5 }}')
    assert f"{field} 5" in refused(third)


def test_shared_shapes_must_agree_unless_permissive():
    assert "which has shape [4, 3, 1, 1], but needs [5, 3, 1, 1]" in refused(shared(outputs=5))
    inner = ('layer { name: "b" type: "InnerProduct" bottom: "data" top: "b" param { name: "w" MODE }'
             " inner_product_param { num_output: 4 axis: 1 bias_term: false } }")
    one = DATA.replace("dim: 8 dim: 9", "dim: 1 dim: 1") + conv("a", "data", 4, 'param { name: "w" }')
    assert "needs [4, 3]" in refused(one + inner.replace("MODE", ""))
    assert len(build(one + inner.replace("MODE", "share_mode: PERMISSIVE")).params) == 2
    assert "needs [6, 3]" in refused(one + inner.replace("MODE", "share_mode: PERMISSIVE").replace("output: 4", "output: 6"))


def test_too_many_param_are_refused():
    assert "has 3 param for 2 parameters" in refused(DATA + conv("c", "data", 4, "param { } param { } param { }"))


# losses and gradients

LABEL = DATA + 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 dim: 1 dim: 8 dim: 9 } } }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "loss" MORE }\n'


def loss(more=""):
    return LABEL + conv("c", "data") + LOSS.replace("MORE", more)


def test_losses_count_once_unless_told_otherwise():
    assert build(loss()).node("loss").loss_weights == (1.0,)
    assert build(loss("loss_weight: 0.25")).node("loss").loss_weights == (0.25,)
    assert build(loss('loss_weight: 0.25 top: "prob" loss_weight: 0')).node("loss").loss_weights == (0.25, 0)
    assert build(loss('top: "prob"')).node("loss").loss_weights == (1.0, 0.0)
    assert build(loss()).node("c").loss_weights == (0.0,)
    assert "has 1 loss_weight for 2 tops" in refused(loss('loss_weight: 1 top: "prob"'))


def test_a_loss_without_a_top_counts_but_is_no_output():
    made = build(loss().replace('top: "loss"', ""))
    assert made.node("loss").loss_weights == (1.0,) and made.outputs == ()


def test_a_loss_may_not_be_overwritten():
    message = refused(loss() + relu("r", "loss"))
    assert "layer 'loss' (SoftmaxWithLoss): its loss 'loss' is overwritten in place by layer 'r'" in message
    assert build(loss() + relu("r", "loss", "r")).outputs == ("r",)


def test_propagate_down():
    assert build(loss()).node("loss").propagate == (True, False)  # labels never get a gradient
    assert build(loss("propagate_down: true propagate_down: true")).node("loss").propagate == (True, False)
    assert build(loss("propagate_down: false propagate_down: true")).node("loss").propagate == (False, False)
    assert "has 1 propagate_down for 2 bottoms" in refused(loss("propagate_down: true"))


# shapes

def test_shapes_of_all_blobs_and_for_other_sizes():
    pool = 'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 } }\n'
    made = build(DATA + conv("c", "data") + relu("r", "c") + pool)
    assert dict(made.shapes) == {Value("data"): (2, 3, 8, 9), Value("c"): (2, 4, 8, 9), Value("c", 1): (2, 4, 8, 9),
                                 Value("p"): (2, 4, 4, 5)}
    assert made.infer({"data": (1, 3, 101, 50)})[Value("p")] == (1, 4, 51, 25)
    with pytest.raises(Error, match="layer 'c'.*3 channels"):
        made.infer({"data": (1, 5, 101, 50)})
    with pytest.raises(Error, match="needs the blob 'data'"):
        made.infer({})


def test_shapes_can_be_given_from_outside():
    assert build(DATA + conv("c", "data"), shapes={"data": (1, 3, 20, 30)}).shape("c") == (1, 4, 20, 30)
    hidden = ('layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "not.there" layer: "X" } }\n'
              + conv("c", "data"))
    made = build(hidden, shapes={"data": (1, 3, 5, 6), "label": (1, 1, 5, 6)})
    assert made.shape("c") == (1, 4, 5, 6) and made.inputs == ("data", "label") and made.sources[0].op.fed
    assert "module 'not.there'" in refused(hidden)
    assert build(LABEL, shapes={"label": (7,)}).shape("label") == (7,)
    two = ('layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 } } }\n')
    made = build(two, shapes={"b": (9,)})
    assert (made.shape("a"), made.shape("b")) == ((2,), (9,))
    dummy = two.replace("Input", "DummyData").replace("input_param", "dummy_data_param")
    assert "for 'b' from outside but not for its other tops" in refused(dummy, shapes={"b": (9,)})


def test_shapes_for_blobs_that_are_not_there_or_are_computed_are_refused():
    assert "no blob 'dat' to give a shape to; did you mean 'data'" in refused(DATA, shapes={"dat": (1,)})
    assert "computes blob 'c'" in refused(DATA + conv("c", "data"), shapes={"c": (1, 4, 8, 9)})


# places

def test_errors_name_file_and_line(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('name: "n"\n' + DATA + "# a comment\n\n" + conv("c", "data") + relu("r", "d") )
    with pytest.raises(Error) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:6: layer 'r' (ReLU): bottom 'd'")
    path.write_text('name: "n"\n' + DATA + "\n" + conv("c", "data", 0))
    with pytest.raises(Error) as caught:  # the file has changed: so have the lines
        load(path)
    assert str(caught.value).startswith(f"{path}:4: layer 'c' (Convolution): needs num_output")
    path.write_text('name: "n"\n' + DATA + conv("c", "data").replace("Convolution", "Convolve"))
    with pytest.raises(Error) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:3: layer 'c' has type 'Convolve'")


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(Error, match="nowhere.prototxt' is not there"):
        load(tmp_path / "nowhere.prototxt")


@pytest.mark.parametrize("layer, what", [
    ('type: "Input" top: "x" input_param { shape { dim: -1 dim: 3 } }', "top 'x' would have shape"),
    ('type: "Input" top: "x" input_param { shape { dim: 99999999 dim: 99999999 } }', "top 'x' would have shape"),
    ('type: "Convolution" bottom: "data" top: "x" convolution_param { num_output: 2000000000 kernel_size: 3 }', "parameter 0"),
    ('type: "Tile" bottom: "data" top: "x" tile_param { tiles: 2000000000 }', "top 'x' would have shape"),
])
def test_shapes_that_no_blob_can_have_are_refused_before_they_are_made(layer, what):
    text = ('layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } } '
            f'layer {{ name: "l" {layer} }}')
    with pytest.raises(Error, match=f"layer 'l' .*{what}"):
        builds.build(prototext.parse(text, caffe_pb2.NetParameter))
