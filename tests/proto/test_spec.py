"""spec.py: the text that pycaffe's net_spec gives, and mistakes named at the line where they are."""

import sys
import threading

import numpy as np
import pytest

from netspec.base.errors import Error
from netspec.proto import caffe_pb2
from netspec.proto.spec import NetSpec, to_proto
from netspec.proto.spec import layers as L  # noqa: N812 (the names that scripts use)
from netspec.proto.spec import params as P  # noqa: N812
from netspec.proto.text import parse, to_text


def same(net, expected):
    assert to_text(net) == to_text(parse(expected, caffe_pb2.NetParameter))


def mistake(line, **names):
    """What is said about `line`, run as line 1 of a script."""
    names = {"L": L, "P": P, "n": NetSpec(), **names}
    names["n"].x = L.Input()
    with pytest.raises(Error) as error:
        exec(compile(line, "script.py", "exec"), names)
    place, _, said = str(error.value).partition(": ")
    assert place == "script.py:1"
    return said


def test_names_order_in_place_and_automatic_names():
    """By pycaffe's rule: depth first from the assigned tops; the others are called by type and number."""
    n = NetSpec()
    data, n.label = L.Python(module="m", layer="Seg", param_str="{}", ntop=2)
    n.conv = L.Convolution(
        data, num_output=4, kernel_size=3, pad=[1, 2], param=[dict(lr_mult=1), dict(lr_mult=2)]
    )
    n.relu = L.ReLU(n.conv, in_place=True)
    pooled = L.Pooling(n.relu, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    n["score"] = L.Deconvolution(L.Pooling(pooled), convolution_param=dict(num_output=2, bias_term=False))
    n.quiet = L.Silence(n.label, ntop=0)
    n.loss = L.SoftmaxWithLoss(
        n.score, n.label, loss_weight=0.5, loss_param=dict(normalize=False), name="final"
    )
    same(
        n.to_proto(),
        """layer { name: "Python1" type: "Python" top: "Python1" top: "label"
                   python_param { module: "m" layer: "Seg" param_str: "{}" } }
           layer { name: "conv" type: "Convolution" bottom: "Python1" top: "conv"
                   param { lr_mult: 1 } param { lr_mult: 2 }
                   convolution_param { num_output: 4 pad: 1 pad: 2 kernel_size: 3 } }
           layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
           layer { name: "Pooling1" type: "Pooling" bottom: "conv" top: "Pooling1"
                   pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
           layer { name: "Pooling2" type: "Pooling" bottom: "Pooling1" top: "Pooling2" }
           layer { name: "score" type: "Deconvolution" bottom: "Pooling2" top: "score"
                   convolution_param { num_output: 2 bias_term: false } }
           layer { name: "quiet" type: "Silence" bottom: "label" }
           layer { name: "final" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
                   loss_weight: 0.5 loss_param { normalize: false } }""",
    )
    assert to_text(n.to_proto()) == to_text(n.to_proto())


def test_python_values():
    n = NetSpec()
    n.x = L.Input(input_param=dict(shape=[dict(dim=(1, 2)), dict(dim=3)]))
    n.y = L.Convolution(
        n.x,
        num_output=np.int64(3),
        kernel_size=np.array([3, 5]),
        stride=64 / 32,
        pad=[2 / 2],
        weight_filler=dict(type="msra", variance_norm="FAN_OUT"),
        include=dict(phase="TRAIN", stage=["a", "b"]),
        param=caffe_pb2.ParamSpec(name="w"),
        engine="CAFFE",
    )
    same(
        n.to_proto(),
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } shape { dim: 3 } } }
           layer { name: "y" type: "Convolution" bottom: "x" top: "y" param { name: "w" }
                   include { phase: TRAIN stage: "a" stage: "b" }
                   convolution_param { num_output: 3 kernel_size: 3 kernel_size: 5 stride: 2 pad: 1 engine: CAFFE
                                       weight_filler { type: "msra" variance_norm: FAN_OUT } } }""",
    )


def test_own_fields_as_keywords_of_types_with_another_message():
    net = to_proto(
        L.Deconvolution(num_output=2),
        L.LSTM(num_output=3),
        L.SoftmaxWithLoss(ignore_label=255, axis=2),
        L.ImageData(source="s", mean_value=[1, 2]),
        L.Normalize(across_spatial=False),
        L.NobodyKnows(loss_weight=1),
    )
    assert net.layer[0].convolution_param.num_output == 2
    assert net.layer[1].recurrent_param.num_output == 3
    assert (net.layer[2].loss_param.ignore_label, net.layer[2].softmax_param.axis) == (255, 2)
    assert list(net.layer[3].transform_param.mean_value) == [1, 2]
    assert net.layer[4].norm_param.across_spatial is False
    assert net.layer[5].type == "NobodyKnows"


def test_single_tops_and_free_function():
    x = L.Input()
    assert [n.name for n in L.ReLU(L.ReLU(x)).to_proto().layer] == ["Input1", "ReLU1", "ReLU2"]
    assert [n.name for n in to_proto(x, L.Silence(x, ntop=0)).layer] == ["Input1", "Silence1"]


def test_several_tops_may_have_a_name_until_one_of_them_takes_it():
    """As helpers have it that assign what a layer returned, whatever it is, and leave its tops to their caller."""
    n = NetSpec()
    n["data"] = tops = L.MemoryData(ntop=2)
    n.data, n.label = tops
    assert list(n.to_proto().layer[0].top) == ["data", "label"]


def test_tops_are_there_or_not():
    n = NetSpec()
    n.x = L.Input()
    assert hasattr(n, "x") and "x" in n and n["x"] is n.x and list(n.tops) == ["x"]
    assert not hasattr(n, "y") and "y" not in n
    with pytest.raises(KeyError):
        n["to_proto"]
    with pytest.raises(AttributeError):
        n.y  # noqa: B018
    assert not hasattr(P.Pooling, "MX") and P.Pooling.MAX == 0 and P.Filler.AVERAGE == 2


def test_a_keyword_is_refused_at_its_line():
    def script():
        x = L.Input()
        return L.Convolution(x, num_ouput=3)

    with pytest.raises(Error) as error:
        script()
    line = script.__code__.co_firstlineno + 2
    assert str(error.value) == (
        f"{__file__}:{line}: Convolution: no field 'num_ouput' in convolution_param or LayerParameter; "
        "did you mean 'num_output'?"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "L.Convolution(n.x, weight_filler=dict(typ='x'))",
            "no field 'typ' in FillerParameter; did you mean 'type'?",
        ),
        (
            "L.Convolution(n.x, param=[dict(lr_mul=1)])",
            "no field 'lr_mul' in ParamSpec; did you mean 'lr_mult'?",
        ),
        ("L.Convolution(n.x, convolution_parm=dict())", "did you mean 'convolution_param'?"),
        ("L.ReLU(n.x, inplace=True)", "did you mean 'in_place'?"),
        (
            "L.Convolutoin(n.x, num_output=1)",
            "no field 'num_output' in LayerParameter; did you mean 'Convolution'?",
        ),
        ("L.Convolution(n.x, num_output='x')", "num_output must be uint32, not str 'x'"),
        ("L.Convolution(n.x, num_output=2.5)", "num_output must be uint32, not float 2.5"),
        ("L.Convolution(n.x, num_output=-1)", "num_output must be uint32, not int -1"),
        ("L.Convolution(n.x, num_output=[1])", "num_output must be uint32, not list [1]"),
        ("L.Convolution(n.x, pad=None)", "pad must be uint32, not None"),
        ("L.Eltwise(n.x, coeff=10**400)", "coeff must be float, not a int"),
        ("L.Pooling(n.x, pool='max')", "pool must be one of MAX, AVE, STOCHASTIC, not str 'max'"),
        (
            "L.Convolution(n.x, weight_filler='xavier')",
            "weight_filler must be dict(...) of FillerParameter's fields",
        ),
        ("L.ReLU(in_place=True)", "in_place needs an input for each of 1 top(s), found 0"),
        ("L.ReLU(n.x, ntop=-1)", "ntop must be a number of tops"),
        ("n.y = L.Python(ntop=2)\nn.to_proto()", "'y' must be a Top (what a layer returns), not 2 values"),
        ("n.y = [3]", "'y' must be a Top (what a layer returns), not list [3]"),
        ("n.y", "the net has no top 'y'"),
        ("P.Pooling.MAXX", "'Pooling' has no value 'MAXX'; did you mean 'MAX'?"),
        ("P.Poling.MAX", "no parameters 'Poling'; did you mean 'Pooling'?"),
    ],
)
def test_mistakes(line, said):
    assert said in mistake(line)


def test_an_input_that_is_no_top_is_caffes_type_error():
    with pytest.raises(TypeError) as caught:
        L.Silence(L.DummyData(ntop=2), ntop=0)
    assert str(caught.value) == "Silence input 0 is not a Top (type is <class 'tuple'>)"
    assert caught.value.__notes__ == [f"{__file__}:{caught.traceback[0].lineno + 1}"]  # shown below the sentence


def test_changed_params_count():
    """Scripts that change a layer after writing it, through `fn.params`."""
    n = NetSpec()
    n.x = L.Convolution(L.Input(), num_output=1)
    n.x.fn.params.update(num_output=2)
    assert n.to_proto().layer[1].convolution_param.num_output == 2


def test_a_deep_net_needs_no_deep_stack():
    x = L.Input()
    for _ in range(3 * sys.getrecursionlimit()):
        x = L.ReLU(x)
    sizes = []
    thread = threading.Thread(target=lambda: sizes.append(len(x.to_proto().layer)))
    thread.start()
    thread.join()
    assert sizes == [3 * sys.getrecursionlimit() + 1]


def test_tops_are_listed_changed_and_taken_out_as_in_ssds_caffe():
    n = NetSpec()
    n.data, n.label = L.DummyData(shape=[dict(dim=[1, 3, 8, 8]), dict(dim=[1])], ntop=2)
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=3)
    assert n.keys() == ["data", "label", "conv"] and n.keys()[-1] in n and n.vals()[0] is n.data
    n.update("conv", {"dilation": 2, "num_output": 4, "param": dict(lr_mult=0)})
    layer = n.to_proto().layer[1]
    assert (list(layer.convolution_param.dilation), layer.convolution_param.num_output, layer.param[0].lr_mult) == ([2], 4, 0)
    with pytest.raises(Error, match="no field 'dilatoin'"):
        n.update("conv", {"dilatoin": 2})
    n = NetSpec()
    n.a, n.b = L.Input(shape=dict(dim=[1])), L.Input(shape=dict(dim=[2]))
    del n["a"]
    assert [layer.name for layer in n.to_proto().layer] == ["b"]
    with pytest.raises(Error, match="no top 'c'"):
        del n["c"]
