"""Every layer type against Caffe's results, its gradient against differences, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fork_layers import CASES as FORKS
from golden_case import Case, load, load_all, run
from scipy import stats

from netspec.base.errors import Error
from netspec.net.build import build
from netspec.net.module import Net
from netspec.ops import REGISTRY
from netspec.ops.source import Source
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {path.stem: load(path) for path in sorted((GOLDEN / "layers").glob("*.prototxt"))}
CASES |= load_all(GOLDEN / "settings.npz")
CASES |= FORKS
BY_HAND = {"DetectionEvaluate", "DetectionOutput", "HDF5Output", "Proposal", "YoloDetectionOutput",
           "Yolov3DetectionOutput"}  # types with tests of their own alone


@pytest.mark.parametrize("name", CASES)
def test_computes_what_caffe_computes(name):
    run(CASES[name])


def test_every_type_has_a_case():
    types = {t for t, op in REGISTRY.items() if op.__module__.startswith("netspec.") and not issubclass(op, Source)}
    covered = {layer.type for case in CASES.values() for layer in case.net.layer}
    assert types - {"Python"} - covered == BY_HAND


# Where Caffe's gradient is not that of its forward pass: what bounds a logarithm counts in the value alone, the
# distance of ContrastiveLoss has 1e-4 more below the line, and MVN's divisor counts as the deviation. TILE of
# Unpooling has the gradient of AVE. A lone weight of SmoothL1Loss does not count in its gradient.
OTHER_GRADIENT = {f"{kind}-{i}" for kind, last in (("SoftmaxWithLoss", 3), ("ContrastiveLoss", 3), ("MVN", 4))
                  for i in range(1, last + 1)} | {"Unpooling TILE 6", "Unpooling TILE 7", "SmoothL1Loss inside",
                   "matlab_smoothl1_weights_not_binary", "smoothl1ohem_weights_not_binary"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in OTHER_GRADIENT])
def test_gradient_and_shapes_in_float64(name):
    torch.manual_seed(0)
    case = CASES[name]
    net = case.build().double()
    nodes = net.graph.nodes
    smooth = {b.blob for node in nodes for b, ok in zip(node.bottoms, node.propagate, strict=True) if ok}
    inputs = {k: torch.from_numpy(v).double() for k, v in case.part("in").items()}
    for blob in smooth & set(inputs):  # noise, so that nothing stands on a kink or in a tie
        inputs[blob] = (inputs[blob] + 0.01 * torch.rand_like(inputs[blob])).requires_grad_()
    outputs = net.graph.outputs

    def function(*_):
        for node in nodes:
            if hasattr(node.op, "carried"):
                node.op.carried = []
        blobs = net(inputs, want=outputs)
        for blob in outputs:
            assert blobs[blob].dtype == torch.float64
            if nodes[-1].type != "Filter":
                assert tuple(blobs[blob].shape) == net.graph.shape(blob)
        return tuple(blobs[blob] for blob in outputs if blobs[blob].requires_grad)

    variables = [x for x in (*inputs.values(), *net.parameters()) if x.requires_grad]
    if function():
        assert torch.autograd.gradcheck(function, variables, eps=1e-6, atol=1e-5, fast_mode=True)


def made(text, *shapes, phase=caffe_pb2.TEST):
    """A net of Input layers x, z, w with these shapes and the layers of `text`."""
    inputs = "".join(
        f'layer {{ name: "{blob}" type: "Input" top: "{blob}" input_param {{ shape {{ '
        f'{" ".join(f"dim: {n}" for n in shape)} }} }} }}\n' for blob, shape in zip("xzw", shapes, strict=False))
    return Net(build(prototext.parse(inputs + text, caffe_pb2.NetParameter), phase))


def layer(kind, settings="", bottoms="x", tops="y"):
    return (f'layer {{ name: "l" type: "{kind}" {" ".join(f"bottom: {b!r}" for b in bottoms)} '
            f'{" ".join(f"top: {t!r}" for t in tops)} {settings} }}\n')


X = (2, 4, 5, 6)
REFUSED = [
    (layer("AbsVal", tops="x"), [X], "in place"),
    (layer("Flatten", tops="x"), [X], "in place"),
    (layer("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }"), [X], "one -1"),
    (layer("Reshape", "reshape_param { shape { dim: 7 dim: -1 } }"), [X], "are not 240"),
    (layer("Reshape", "reshape_param { axis: 3 shape { dim: 1 dim: 0 } }"), [X], "does not have"),
    (layer("Flatten", "flatten_param { axis: 3 end_axis: 1 }"), [X], "behind end_axis"),
    (layer("Slice", "slice_param { slice_point: 3 slice_point: 2 }", tops="abc"), [X], "growing"),
    (layer("Slice", tops="abc"), [X], "3 equal tops"),
    (layer("Tile"), [X], "tiles above 0"),
    (layer("Exp", "exp_param { base: -2 }"), [X], "above 0"),
    (layer("Log", "log_param { base: 1 }"), [X], "base 1"),
    (layer("PReLU"), [(3,)], "2 axes"),
    (layer("InnerProduct"), [X], "num_output"),
    (layer("InnerProduct", "inner_product_param { num_output: 2 axis: 4 }"), [X], "axis 4 is outside"),
    (layer("Embed", "embed_param { num_output: 2 }"), [X], "input_dim"),
    (layer("Scale", "scale_param { axis: 2 num_axes: 3 }"), [X], "does not fit"),
    (layer("Scale", bottoms="xz"), [X, (5,)], "differ"),
    (layer("Bias", bottoms="xz"), [X, (4, 5, 6, 1)], "differ"),
    (layer("LRN", "lrn_param { local_size: 4 }"), [X], "odd"),
    (layer("LRN"), [(2, 3)], "N x C x H x W"),
    (layer("BatchNorm", "param { lr_mult: 1 }"), [X], "lr_mult: 0"),
    (layer("Im2col"), [X], "kernel_size"),
    (layer("Im2col", "convolution_param { kernel_size: 3 kernel_h: 3 kernel_w: 3 }"), [X], "come together"),
    (layer("Convolution", "convolution_param { num_output: 2 kernel_h: 3 }"), [X], "come together"),
    (layer("Convolution", "convolution_param { num_output: 3 group: 2 kernel_size: 1 }"), [X], "group 2"),
    (layer("Pooling", "pooling_param { kernel_size: 2 kernel_h: 2 kernel_w: 2 }"), [X], "come together"),
    (layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 pad: 1 }"), [X], "no pad"),
    (layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 }", tops="ym"), [X], "second top"),
    (layer("Pooling", "pooling_param { kernel_size: 2 pad_h: 2 pad_w: 1 }"), [X], "must be smaller than the kernel"),
    (layer("Pooling", "pooling_param { kernel_size: 1 stride: 2 }"), [(1, 1, 6, 6)], "memory"),
    (layer("Pooling", "pooling_param { global_pooling: true pad: 1 }"), [X], "pad 0 and stride 1 only"),
    (layer("Pooling", "pooling_param { global_pooling: true pad_h: 0 pad_w: 1 }"), [X], "pad 0 and stride 1 only"),
    (layer("Pooling", "pooling_param { global_pooling: true stride: 2 }"), [X], "pad 0 and stride 1 only"),
    (layer("Pooling", "pooling_param { kernel_size: 2 stride_h: 0 stride_w: 2 }"), [X], "stride must be above 0"),
    (layer("Pooling", "pooling_param { kernel_size: 2 stride_h: 2 stride_w: 0 }"), [X], "stride must be above 0"),
    (layer("SPP", "spp_param { pyramid_height: 4 }"), [(1, 1, 5, 5)], "smaller than the kernel"),
    (layer("Reduction", "reduction_param { axis: 4 }"), [X], "outside"),
    (layer("ArgMax", "argmax_param { axis: 1 top_k: 5 }"), [X], "the 4 values"),
    (layer("BatchReindex", bottoms="xz"), [X, (2, 1)], "list of indices"),
    (layer("Filter", bottoms="xz"), [X, (2, 2)], "one value an item"),
    (layer("Filter", bottoms="xzw"), [X, X, (2,)], "one top for each"),
    (layer("EuclideanLoss", bottoms="xz"), [(3, 4), (3, 5)], "a target for each"),
    (layer("EuclideanLoss", bottoms="xz"), [(3, 4), (4, 3)], "as many items"),
    (layer("SigmoidCrossEntropyLoss", bottoms="xz"), [(2, 3), (2, 4)], "a target for each"),
    (layer("HingeLoss", bottoms="xz"), [(3, 4), (3, 2)], "one label an item"),
    (layer("SoftmaxWithLoss", bottoms="xz"), [X, (2, 4)], "one label a position"),
    (layer("Accuracy", "accuracy_param { top_k: 5 }", bottoms="xz"), [X, (2, 5, 6)], "the 4 classes"),
    (layer("InfogainLoss", bottoms="xzw"), [(3, 4), (3,), (3, 3)], "4 x 4"),
    (layer("InfogainLoss", bottoms="xz"), [(3, 4), (3,)], "third bottom"),
    (layer("InfogainLoss", "loss_param { normalize: true }", bottoms="xzw"), [(3, 4), (3,), (4, 4)], "normalization"),
    (layer("InfogainLoss", "infogain_loss_param { source: 'none.binaryproto' }", bottoms="xz"), [(3, 4), (3,)], "not there"),
    (layer("ContrastiveLoss", bottoms="xzw"), [(3, 2, 2), (3, 2, 2), (3,)], "N x C"),
    (layer("RNN", "recurrent_param { num_output: 2 }", bottoms="xz"), [(3, 2), (3, 2)], "T x N x values"),
    (layer("LSTM", "recurrent_param { num_output: 2 }", bottoms="xz"), [(3, 2, 4), (3, 3)], "one cont"),
    (layer("LSTM", "recurrent_param { num_output: 2 expose_hidden: true }", bottoms="xz"), [(3, 2, 4), (3, 2)], "bottoms"),
    (layer("LSTMUnit", bottoms="xzw", tops="ab"), [(1, 2, 3), (1, 2, 11), (1, 2)], "4D"),
    (layer("ArgMax"), [()], "outside a blob of 0 axes"),
    (layer("BatchNorm"), [()], "bottom with axes"),
    (layer("BatchNorm", "batch_norm_param { eps: -1 }"), [X], "eps of 0 or more"),
    (layer("Reshape", "reshape_param { shape { " + "dim: 9 " * 33 + "} }"), [X], "at most 32"),
    (layer("LSTM", "recurrent_param { num_output: 2 }", bottoms="xz"), [(0, 2, 4), (0, 2)], "T x N x values"),
    (layer("Deconvolution", "convolution_param { num_output: 2 kernel_size: 3 }"), [(1, 4, 0, 5)], "does not fit"),
    (layer("Pooling", "pooling_param { kernel_size: 3 pad: 1 }"), [(1, 4, 0, 5)], "does not fit"),
    (layer("SoftmaxWithLoss", bottoms="xz"), [(3, 0), (3,)], "1 class or more"),
    (layer("Pooling", "pooling_param { kernel_size: 1000000 pad: 999990 stride: 1000000 }"), [X], "pad .* makes a map of"),
    (layer("Im2col", "convolution_param { kernel_size: 3 dilation: 1000000 pad: 1000000 }"), [X], "pad .* makes a map of"),
    (layer("Power", "power_param { power: nan }"), [X], "power is NaN"),
    (layer("Scale", "scale_param { filler { value: nan } }"), [X], "value is NaN"),
    (layer("Pooling", "pooling_param { kernel_size: 2 stride: 4294967295 }"), [X], "stride is 4294967295; sizes are at most"),
    (layer("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 2 }", bottoms="xz"), [X, X], "SUM only"),
]


@pytest.mark.parametrize("text,shapes,words", REFUSED, ids=[f"{text.split()[4]} {w}" for text, _, w in REFUSED])
def test_refuses_what_caffe_refuses(text, shapes, words):
    with pytest.raises(Error, match=f"layer 'l' .*{words}"):
        made(text, *shapes)


@pytest.mark.parametrize("text,shapes,index", [
    (layer("Embed", "embed_param { num_output: 2 input_dim: 3 }"), [(2,)], "x"),
    (layer("BatchReindex", bottoms="xz"), [(3, 2), (2,)], "z"),
    (layer("SoftmaxWithLoss", bottoms="xz"), [(2, 3), (2,)], "z"),
    (layer("HingeLoss", bottoms="xz"), [(2, 3), (2,)], "z"),
    (layer("MultinomialLogisticLoss", bottoms="xz"), [(2, 3), (2,)], "z"),
])
@pytest.mark.parametrize("value", [-1, 3])
def test_an_index_outside_is_an_error(text, shapes, index, value):
    net = made(text, *shapes)
    blobs = {b: torch.zeros(s) for b, s in zip("xzw", shapes, strict=False)}
    net(blobs)
    blobs[index][1] = value
    with pytest.raises(Error, match=r"layer 'l'.*(indices from|labels lie outside)"):
        net(blobs)


@pytest.mark.parametrize("ignore, share, each", [("", 1 / 4, [1 / 2, 0, 0]), ("ignore_label: 255", 1 / 3, [1 / 2, 0, 0]),
                                                ("top_k: 2 ignore_label: -1", 2 / 3, [1, 0, 0])])
def test_a_label_of_no_class_is_a_failure_of_accuracy(ignore, share, each, caplog):
    """As SegNet's Caffe counts, whose nets ignore such labels in the loss alone."""
    net = made(layer("Accuracy", f"accuracy_param {{ {ignore} }}", bottoms="xz", tops="ab"), (1, 3, 1, 4), (1, 1, 1, 4))
    scores = torch.tensor([[3.0, 2, 1], [2, 3, 1], [3, 2, 1], [3, 2, 1]]).T.reshape(1, 3, 1, 4)
    for _ in range(2):
        out = net({"x": scores, "z": torch.tensor([[[[0.0, 0, 255, -1]]]])})
    assert out["a"] == pytest.approx(share) and out["b"].tolist() == pytest.approx(each)
    (record,) = caplog.records
    assert "layer 'l' (Accuracy)" in record.message and "labels lie outside the 3 classes 0..2" in record.message


def test_silence_swallows():
    net = made(layer("Silence", tops="") + layer("Sigmoid").replace('"l"', '"m"'), (2, 3))
    assert net.graph.outputs == ("y",) and list(net({"x": torch.zeros(2, 3)})) == ["y"]


def test_a_loss_without_a_top_counts_but_is_no_output():
    text = layer("EuclideanLoss", "loss_weight: 2", bottoms="xz", tops="")
    net = made(text + layer("Sigmoid").replace('"l"', '"m"'), (2, 3), (2, 3))
    blobs = net({"x": torch.ones(2, 3), "z": torch.zeros(2, 3)})
    assert net.graph.outputs == ("y",)
    assert float(net.loss(blobs)) == 2 * 6 / (2 * 2)


def test_infogain_matrix_from_a_file(tmp_path):
    matrix = np.random.RandomState(0).rand(1, 1, 3, 3).astype(np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=3, width=3, data=matrix.ravel())
    (tmp_path / "h.binaryproto").write_bytes(blob.SerializeToString())
    x, label = torch.randn(4, 3), torch.tensor([0.0, 2, 1, 1])
    given = made(layer("InfogainLoss", bottoms="xzw"), (4, 3), (4,), (3, 3))
    loss = given({"x": x, "z": label, "w": torch.from_numpy(matrix[0, 0])})["y"]
    path = tmp_path / "h.binaryproto"
    read = made(layer("InfogainLoss", f"infogain_loss_param {{ source: '{path}' }}", bottoms="xz"), (4, 3), (4,))
    assert read({"x": x, "z": label})["y"] == loss


def test_batch_norm_keeps_sums_that_fade_and_averages_by_their_weight():
    net = made(layer("BatchNorm", "batch_norm_param { moving_average_fraction: 0.5 }"), X, phase=caffe_pb2.TRAIN)
    assert [slot.lr_mult for slot in net.graph.params] == [0, 0, 0]
    batches = [np.random.RandomState(i).randn(*X).astype(np.float32) for i in range(2)]
    mean, variance, weight = 0, 0, 0
    for x in batches:
        net({"x": torch.from_numpy(x)})
        mean = 0.5 * mean + x.mean((0, 2, 3))
        variance = 0.5 * variance + x.transpose(1, 0, 2, 3).reshape(4, -1).var(1, ddof=1)
        weight = 0.5 * weight + 1
    found = [p.detach().numpy() for p in net.layers_with_params()["l"]]
    for ours, naive in zip(found, (mean, variance, [weight]), strict=True):
        np.testing.assert_allclose(ours, naive, rtol=1e-5)
    test = made(layer("BatchNorm"), X)
    test.load_state_dict(net.state_dict())
    y = test({"x": torch.from_numpy(batches[0])})["y"].numpy()
    shape = (1, 4, 1, 1)
    naive = (batches[0] - (mean / weight).reshape(shape)) / np.sqrt((variance / weight).reshape(shape) + 1e-5)
    np.testing.assert_allclose(y, naive, rtol=1e-4, atol=1e-5)


def test_batch_norm_of_one_value_a_channel():
    net = made(layer("BatchNorm"), (1, 3), phase=caffe_pb2.TRAIN)
    x = torch.randn(1, 3, requires_grad=True)
    y = net({"x": x})["y"]
    y.sum().backward()
    torch.testing.assert_close(y, torch.zeros(1, 3), atol=1e-4, rtol=0)
    mean, variance, weight = net.layers_with_params()["l"]
    assert torch.equal(mean, x[0]) and not variance.any() and weight == 1


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_recurrent_state_goes_on_until_cont_is_zero(kind):
    text = layer(kind, "recurrent_param { num_output: 3 weight_filler { type: 'uniform' } }", bottoms="xz")
    x, cont = torch.randn(6, 2, 4), torch.ones(6, 2)
    long, short = made(text, (6, 2, 4), (6, 2)), made(text, (3, 2, 4), (3, 2))
    short.load_state_dict(long.state_dict())
    whole = long({"x": x, "z": cont})["y"]
    parts = [short({"x": x[i : i + 3], "z": cont[:3]})["y"] for i in (0, 3)]
    torch.testing.assert_close(torch.cat(parts), whole)
    cut = short({"x": x[:3], "z": torch.tensor([[0.0, 0], [1, 1], [1, 1]])})["y"]
    torch.testing.assert_close(cut, parts[0])


def stochastic(x, phase):
    return made(layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }"), x.shape, phase=phase)


def naive_windows(x, size):
    """Each 3 x 3 window with stride 2 of an image, cut at its edge."""
    return [[x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].ravel() for j in range(size[1])] for i in range(size[0])]


def test_stochastic_pooling_in_test_weights_values_by_themselves():
    x = np.random.RandomState(0).rand(2, 3, 6, 8).astype(np.float32)
    x[0, 0, :3, :3] = 0
    bottom = torch.from_numpy(x).requires_grad_()
    top = stochastic(x, caffe_pb2.TEST)({"x": bottom})["y"]
    top.sum().backward()
    assert bottom.grad.isfinite().all()
    y = top.detach().numpy()
    for n, c in np.ndindex(2, 3):
        windows = naive_windows(x[n, c], y.shape[2:])
        naive = [[(w * w).sum() / w.sum() if w.sum() else 0 for w in row] for row in windows]
        np.testing.assert_allclose(y[n, c], naive, rtol=1e-5)


def test_stochastic_pooling_in_train_draws_in_proportion():
    torch.manual_seed(0)
    image = np.random.RandomState(1).rand(4, 4).astype(np.float32)  # all values differ
    image[1, 1] = 0
    x = torch.from_numpy(np.broadcast_to(image, (4000, 1, 4, 4)).copy()).requires_grad_()
    y = stochastic(x, caffe_pb2.TRAIN)({"x": x})["y"]
    y.sum().backward()
    drawn = y.detach().numpy()[:, 0]
    for i, row in enumerate(naive_windows(image, (2, 2))):
        for j, window in enumerate(row):
            values = np.sort(window[window > 0]).astype(float)
            counts = np.array([(drawn[:, i, j] == v).sum() for v in values])
            assert counts.sum() == 4000, "only values of the window, and never a zero"
            assert stats.chisquare(counts, 4000 * values / values.sum()).pvalue > 1e-3
    assert float(x.grad.sum()) == y.numel() and x.grad[:, 0, 1, 1].abs().sum() == 0


def test_dropout_in_train():
    torch.manual_seed(0)
    x = torch.ones(100_000).requires_grad_()
    y = made(layer("Dropout", "dropout_param { dropout_ratio: 0.3 }"), x.shape, phase=caffe_pb2.TRAIN)({"x": x})["y"]
    assert y.detach().unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert stats.binomtest(int((y == 0).sum()), 100_000, 0.3).pvalue > 1e-3
    y.sum().backward()
    assert torch.equal(x.grad, y)


@pytest.mark.parametrize("kind,settings", [("Softmax", ""), ("LRN", ""), ("MVN", ""), ("Reduction", ""), ("ArgMax", "")])
def test_half_precision_is_raised_where_it_would_hurt(kind, settings):
    y = made(layer(kind, settings), (2, 300, 2, 2))({"x": torch.randn(2, 300, 2, 2).bfloat16()})["y"]
    assert y.dtype == torch.float32


@pytest.mark.parametrize("name", ["batchnorm_train", "scale_channel_bias", "innerproduct", "lstm", "softmaxloss_fcn"])
def test_runs_in_bfloat16(name):
    case: Case = CASES[name]
    net = case.build()
    net.precision = torch.bfloat16
    out = net({k: torch.from_numpy(v) for k, v in case.part("in").items()})
    for blob, expected in case.part("out").items():
        scale = max(1.0, float(np.abs(expected).max()))
        assert float((out[blob].detach().float() - torch.from_numpy(expected)).abs().max()) < 0.05 * scale


@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
@pytest.mark.parametrize("size", [33, 99, 2**31 - 1])
def test_what_lrn_sums_is_no_more_than_the_map(region, size):
    """A local_size beyond the map sums all of it, divided by what the size would hold."""
    x = np.random.RandomState(0).rand(2, 5, 7, 3).astype(np.float32)
    y = made(layer("LRN", f"lrn_param {{ local_size: {size} alpha: 1000 norm_region: {region} }}"), x.shape)(torch.from_numpy(x))
    axes, area = ((1,), size) if region == "ACROSS_CHANNELS" else ((2, 3), size**2)
    naive = x / (1 + 1000 * (x.astype(float) ** 2).sum(axes, keepdims=True) / area) ** 0.75
    np.testing.assert_allclose(y.numpy(), naive, rtol=1e-5)
