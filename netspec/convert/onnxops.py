"""Graphs as ONNX: one function a layer type, each Caffe's arithmetic in ONNX's operators."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from ..net.graph import Node, Value
from ..net.module import Net
from ..ops import Shape, conv, dense, neuron, norm, resample, shape, softmax
from ..ops.pool import AVE, MAX, STOCHASTIC, Pooling
from ..proto import caffe_pb2

END = 2**63 - 1
Names = list[str]
Input = str | float | np.ndarray | Sequence[int]  # a value's name, or a constant: float32, of Sequences int64


class Builder:
    """The nodes of an ONNX graph under construction. Values are names; `node` gives that of what it makes."""

    pads: Sequence[int] = ()  # of the layer at hand, in ONNX's order; empty: its own
    ends: Mapping[str, Shape] = {}  # shapes of inputs and outputs, where they are given

    def __init__(self, net: Net) -> None:
        self.net, self.graph = net, net.graph
        self.nodes: list[Any] = []  # onnx.NodeProto
        self.initializers: dict[str, np.ndarray] = {}
        self.keys: dict[str, str] = {}  # the initializers that are parameters, and these
        self.names: dict[Value, str] = {Value(blob): blob for blob in self.graph.inputs}
        self.layers = Counter(node.name for node in self.graph.nodes)
        taken = set(self.names.values())
        last = {value.blob: value for value in self.graph.shapes}  # versions grow
        for node in self.graph.nodes:
            for top in node.tops:
                final = last[top.blob] == top and top.blob not in self.graph.inputs
                name = top.blob if final else f"{top.blob}/{node.name}"
                # taken: by another layer of this name
                self.names[top] = f"{name}/{top.version}" if name in taken else name
                taken.add(self.names[top])
        self.run()

    def run(self) -> None:
        """Add all layers."""
        for node in self.graph.nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """The nodes of one layer; what they make gets its tops' names, and who makes the first its own."""
        if node.type not in EMIT:
            raise node.op.error("has no form in ONNX here; leave it out of the net, or run the net with "
                                "netspec")
        self.layer, self.start = node, len(self.nodes)
        double = self.layers[node.name] > 1
        self.label = "/".join([node.name, *(self.names[top] for top in node.tops[: int(double)])])
        for top, name in zip(node.tops, self.made(node), strict=True):
            if not any(name in n.output for n in self.nodes[self.start :]):
                name = self.node("Identity", name)
            for n in self.nodes[self.start :]:
                if top == node.tops[0] and name in n.output:
                    n.name = self.label
                for side in (n.input, n.output):
                    side[:] = [self.names[top] if x == name else x for x in side]

    def made(self, node: Node) -> Names:
        """What a layer makes of its bottoms."""
        return self.emit(node, *(self.names[bottom] for bottom in node.bottoms))

    def emit(self, node: Node, *bottoms: str) -> Names:
        found = EMIT[node.type](self, node.op, *bottoms)
        return [found] if isinstance(found, str) else found

    def node(self, op: str, *inputs: Input, **attributes: Any) -> str:
        return self.many(op, *inputs, outputs=1, **attributes)[0]

    def many(self, op: str, *inputs: Input, outputs: int, **attributes: Any) -> Names:
        """An operator with so many outputs."""
        from onnx import helper

        given = [x if isinstance(x, str) else self.const(x) for x in inputs]
        name = f"{self.label}/{op}_{len(self.nodes) - self.start}"
        names = [name + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, given, names, name, **attributes))
        return names

    def const(self, values: Input) -> str:
        name = f"{self.label}/const_{len(self.nodes) - self.start}_{len(self.initializers)}"
        self.initializers[name] = np.asarray(values, np.int64 if isinstance(values, Sequence) else np.float32)
        return name

    def arrays(self) -> list[np.ndarray]:
        """The numbers of the layer's parameters, float32."""
        return [self.net.parameter(slot).detach().reshape(param.shape).numpy()
                for slot, param in zip(self.layer.params, self.layer.op.params, strict=True)]

    def params(self, behind: int = 0) -> Names:
        """The parameters, with more axes of 1 behind, by their keys in the state dict; shared ones once."""
        keys = []
        for slot, array in zip(self.layer.params, self.arrays(), strict=True):
            array = array.reshape(array.shape + (1,) * behind)
            known = self.initializers.get(slot.key, array).shape == array.shape
            keys.append(slot.key if known else f"{slot.key}/{'x'.join(map(str, array.shape))}")
            self.initializers[keys[-1]], self.keys[keys[-1]] = array, slot.key
        return keys

    def products(self, op: conv.Convolution) -> tuple[Names, int]:
        """A convolution's parameters, and its groups."""
        return self.params(), op.layer.convolution_param.group

    def scaled(self, x: str, factor: float, shift: float = 0.0) -> str:
        x = x if factor == 1 else self.node("Mul", x, factor)
        return x if shift == 0 else self.node("Add", x, shift)

    def reshaped(self, x: str, first: int, last: int, new: Sequence[int]) -> str:
        """Axes first..last-1 of the bottom x replaced by `new` (0: as x has it there, -1: what is left)."""
        if last == self.dims():
            return self.node("Reshape", x, [0] * first + list(new))
        parts: list[Input] = [self.node("Shape", x, start=0, end=first)] if first else []
        parts += [list(new), self.node("Shape", x, start=last)]
        return self.node("Reshape", x, self.node("Concat", *parts, axis=0))

    def dims(self, i: int = 0) -> int:
        """The axes of the layer's bottom `i`."""
        return len(self.graph.shapes[self.layer.bottoms[i]])


def _convolution(b: Builder, op: conv.Convolution, *xs: str) -> Names:
    if op.channel_axis != 1:
        raise op.error("has an ONNX form for axis 1 only")
    kind, pads = "ConvTranspose" if op.type == "Deconvolution" else "Conv", b.pads or op.pad * 2
    params, group = b.products(op)
    return [b.node(kind, x, *params, kernel_shape=op.kernel, strides=op.stride, pads=pads,
                   dilations=op.dilation, group=group) for x in xs]


def _pooling(b: Builder, op: Pooling, x: str) -> str | Names:
    p, tops = op.layer.pooling_param, len(op.layer.top)
    if p.pool == STOCHASTIC or p.global_pooling and tops > 1:
        raise op.error("has no form in ONNX here as STOCHASTIC or with a mask of all the bottom")
    if p.global_pooling:
        return b.node("GlobalMaxPool" if p.pool == MAX else "GlobalAveragePool", x)
    window = dict(kernel_shape=op.kernel, strides=op.stride, ceil_mode=int(op.ceil))
    if b.pads:  # with what hangs over
        return b.node("MaxPool", x, **{**window, "ceil_mode": 0, "pads": b.pads})
    if p.pool == AVE:  # padding is a step of its own: the divisor counts what is padded, not what hangs over
        padded = b.node("Pad", x, [0, 0, *op.pad, 0, 0, *op.pad]) if any(op.pad) else x
        made = [b.node("AveragePool", padded, **window)]
    else:
        made = b.many("MaxPool", x, outputs=tops, pads=op.pad * 2, **window)
    if any(s > k - pad > 0 for s, k, pad in zip(op.stride, op.kernel, op.pad, strict=True) if pad):
        # the last window may start behind the image: there are (n + pad - 1) // stride + 1 that do not
        size = b.node("Add", b.node("Shape", x, start=2), [pad - 1 for pad in op.pad])
        ends = b.node("Add", b.node("Div", size, op.stride), [1, 1])
        made = [b.node("Slice", y, [0, 0], ends, [2, 3]) for y in made]
    if tops > 1:  # ONNX counts positions over the whole batch, Caffe in each channel
        area = b.node("ReduceProd", b.node("Shape", x, start=2), keepdims=1)
        made[1] = b.node("Cast", b.node("Mod", made[1], area), to=1)
    return made


def _inner_product(b: Builder, op: dense.InnerProduct, x: str) -> str:
    p = op.layer.inner_product_param
    axis = op.axis(p.axis, b.dims())
    weight, *bias = b.params()
    if axis == 1:
        return b.node("Gemm", b.node("Flatten", x, axis=1), weight, *bias, transB=int(not p.transpose))
    weight = weight if p.transpose else b.node("Transpose", weight, perm=(1, 0))
    y = b.node("MatMul", b.reshaped(x, axis, b.dims(), [-1]), weight)
    return b.node("Add", y, *bias) if bias else y


def _applied(b: Builder, op: dense.Scale | dense.Bias, x: str, *factor: str) -> str:
    """Scale and Bias: what is laid along the axes from `axis` on gets axes of 1 behind it."""
    p = op.layer.scale_param if op.type == "Scale" else op.layer.bias_param
    laid = b.dims(1) if factor else len(op.params[0].shape)
    behind = b.dims() - op.axis(p.axis, b.dims()) - laid
    terms = [b.node("Unsqueeze", f, range(laid, laid + behind)) if behind else f for f in factor]
    kinds = ("Mul", "Add") if op.type == "Scale" else ("Add",)
    for kind, term in zip(kinds, [*terms, *b.params(behind)], strict=False):
        x = b.node(kind, x, term)
    return x


def _relu(b: Builder, op: neuron.ReLU, x: str) -> str:
    slope = op.layer.relu_param.negative_slope
    return b.node("LeakyRelu", x, alpha=slope) if slope else b.node("Relu", x)


def _power(b: Builder, op: neuron.Power, x: str) -> str:
    p = op.layer.power_param
    if p.power * p.scale == 0:  # the bottom does not count, whatever it holds
        value = float(np.float32(p.shift) ** np.float32(p.power))
        return b.node("Expand", value, b.node("Shape", x))
    y = b.scaled(x, p.scale, p.shift)
    return y if p.power == 1 else b.node("Pow", y, p.power)


def _eltwise(b: Builder, op: neuron.Eltwise, *xs: str) -> str:
    kind = op.layer.eltwise_param.operation
    if kind == caffe_pb2.EltwiseParameter.PROD:
        return reduce(lambda y, x: b.node("Mul", y, x), xs)
    return b.node("Sum" if kind == caffe_pb2.EltwiseParameter.SUM else "Max", *map(b.scaled, xs, op.coeff))


def _lrn(b: Builder, op: norm.LRN, x: str) -> str:
    p = op.layer.lrn_param
    if p.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS:
        return b.node("LRN", x, size=p.local_size, alpha=p.alpha, beta=p.beta, bias=p.k)
    mean = b.node("AveragePool", b.node("Mul", x, x), kernel_shape=(p.local_size,) * 2,
                  pads=(p.local_size // 2,) * 4, count_include_pad=1)
    return b.node("Mul", x, b.node("Pow", b.scaled(mean, p.alpha, 1), -p.beta))


def _centred(b: Builder, x: str, axes: Sequence[int]) -> tuple[str, str]:
    """x minus its mean over the axes, and its variance."""
    x = b.node("Sub", x, b.node("ReduceMean", x, axes))
    return x, b.node("ReduceMean", b.node("Mul", x, x), axes)


def _mvn(b: Builder, op: norm.MVN, x: str) -> str:
    p, dims = op.layer.mvn_param, max(4, b.dims())
    if b.dims() < 4:
        x = b.node("Unsqueeze", x, range(b.dims(), 4))
    x, variance = _centred(b, x, range(1 if p.across_channels else 2, dims))
    return b.node("Div", x, b.scaled(b.node("Sqrt", variance), 1, p.eps)) if p.normalize_variance else x


def _batch_norm(b: Builder, op: norm.BatchNorm, x: str) -> str:
    if b.dims() < 2:
        raise op.error("has an ONNX form for bottoms of 2 axes or more only")
    if not op.stored:
        x, square = _centred(b, x, [i for i in range(b.dims()) if i != 1])
        if len(op.params) > 3:
            raise op.error("has an ONNX form only where it uses the statistics it keeps")
        return b.node("Div", x, b.node("Sqrt", b.scaled(square, 1, op.eps)))
    mean, variance, weight, *more = op.ordered(b.arrays())
    part = np.float32(1 / weight[0] if weight[0] else 0)
    scale, shift = (*more, *(np.ones_like(mean), np.zeros_like(mean))[len(more) :])
    return b.node("BatchNormalization", x, scale, shift, mean * part, variance * part, epsilon=op.eps)


def _bn(b: Builder, op: norm.BN, x: str) -> str:
    if not op.stored:
        raise op.error("has an ONNX form only where it uses the statistics it keeps")
    slope, bias, *kept = (array.ravel() for array in b.arrays())
    numbers = slope, bias, *(kept or (np.zeros_like(slope), np.ones_like(slope)))
    return b.node("BatchNormalization", x, *numbers, epsilon=op.layer.bn_param.eps if kept else 0.0)


def _normalize(b: Builder, op: norm.Normalize, x: str) -> str:
    p = op.layer.norm_param
    axes = range(1, b.dims() if p.across_spatial else 2)
    root = b.node("Sqrt", b.scaled(b.node("ReduceSumSquare", x, axes), 1, p.eps))
    return b.node("Mul", b.node("Div", x, root), *b.params(b.dims() - 2))


def _crop(b: Builder, op: shape.Crop, x: str, size: str) -> str:
    ends = b.node("Add", b.node("Shape", size, start=op.first), op.offsets)
    return b.node("Slice", x, op.offsets, ends, range(op.first, b.dims()))


def _slice(b: Builder, op: shape.Slice, x: str) -> Names:
    axis, _ = op.parts(b.graph.shapes[b.layer.bottoms[0]])
    points, count = list(op.layer.slice_param.slice_point), len(op.layer.top)
    if not points:
        return b.many("Split", x, axis=axis, num_outputs=count, outputs=count)
    return [b.node("Slice", x, [start], [end], [axis]) for start, end in pairwise([0, *points, END])]


def _flatten(b: Builder, op: shape.Flatten, x: str) -> str:
    p, dims = op.layer.flatten_param, b.dims()
    first, last = op.axis(p.axis, dims), op.axis(p.end_axis, dims) + 1
    return b.reshaped(x, first, last, [-1 if first < last else 1])


def _tile(b: Builder, op: shape.Tile, x: str) -> str:
    counts = [1] * b.dims()
    counts[op.axis(op.layer.tile_param.axis, b.dims())] = op.layer.tile_param.tiles
    return b.node("Tile", x, counts)


def _reduction(b: Builder, op: softmax.Reduction, x: str) -> str:
    p = op.layer.reduction_param
    kind = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    axes = range(op.axis(p.axis, b.dims()), b.dims())
    name = caffe_pb2.ReductionParameter.ReductionOp.Name(p.operation)
    return b.scaled(b.node(kind[name], x, axes, keepdims=0), p.coeff)


def _argmax(b: Builder, op: softmax.ArgMax, x: str) -> str:
    p, dims = op.layer.argmax_param, b.dims()
    axis = op.axis(p.axis, dims) if p.HasField("axis") else 2
    flat = x if p.HasField("axis") else b.node("Reshape", x, [0, 1, -1])
    # TopK takes the first of equals, Caffe the last: so from behind
    back = b.node("Slice", flat, [-1], [-END], [axis], [-1])
    values, index = b.many("TopK", back, [p.top_k], axis=axis, outputs=2)
    last = b.node("Sub", b.node("Shape", flat, start=axis, end=axis + 1), [1])
    index = b.node("Cast", b.node("Sub", last, index), to=1)
    if p.HasField("axis"):
        return values if p.out_max_val else index
    y = b.node("Concat", index, values, axis=1) if p.out_max_val else index
    return b.node("Unsqueeze", y, range(3, dims)) if dims > 3 else y


def _interp(b: Builder, op: resample.Interp, x: str, *like: str) -> str:
    p = op.layer.interp_param
    if p.pad_beg or p.pad_end:
        x = b.node("Slice", x, [-p.pad_beg] * 2, [p.pad_end or END] * 2, [2, 3])
    size: Input = op.fixed or b.node("Shape", (*like, x)[0], start=2)
    if not op.fixed and not like:
        for kind, number in (("Sub", 1), ("Div", p.shrink_factor), ("Mul", p.zoom_factor), ("Add", 1)):
            size = b.node(kind, size, [number])
    size = b.node("Concat", b.node("Shape", x, start=0, end=2), size, axis=0)
    return b.node("Resize", x, "", "", size, mode="linear", coordinate_transformation_mode="align_corners")


def _upsample(b: Builder, op: resample.Upsample, x: str, mask: str = "") -> str:
    if not mask:
        how = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        return b.node("Resize", x, "", np.array([1, 1, *op.scale]), **how)
    items = b.node("Shape", x, start=0, end=2)
    size = op.fixed or b.node("Sub", b.node("Mul", b.node("Shape", x, start=2), op.scale), op.less)
    area = b.node("ReduceProd", size, keepdims=1)
    zeros = b.node("Expand", 0.0, b.node("Concat", items, area, axis=0))
    values, index = (b.node("Reshape", y, [0, 0, -1]) for y in (x, mask))
    y = b.node("ScatterElements", zeros, b.node("Cast", index, to=7), values, axis=2)
    return b.node("Reshape", y, b.node("Concat", items, size, axis=0))


def _dropout(b: Builder, op: neuron.Dropout, x: str) -> str:
    if op.draws:
        raise op.error("drops at random in this phase too, which has no form in ONNX here; without "
                       "sample_weights_test it passes all")
    return x if op.scaled else b.scaled(x, 1 - op.ratio)


EMIT: dict[str, Callable[..., str | Names]] = {
    "Convolution": _convolution, "Deconvolution": _convolution, "Pooling": _pooling,
    "DepthwiseConvolution": _convolution, "ConvolutionDepthwise": _convolution,
    "InnerProduct": _inner_product, "Scale": _applied, "Bias": _applied, "ReLU": _relu, "Power": _power,
    "Eltwise": _eltwise, "LRN": _lrn, "MVN": _mvn, "BatchNorm": _batch_norm, "BN": _bn,
    "Normalize": _normalize, "Crop": _crop, "Slice": _slice, "Flatten": _flatten, "Tile": _tile,
    "Reduction": _reduction, "ArgMax": _argmax, "Interp": _interp, "Upsample": _upsample,
    "Dropout": _dropout,
    "Sigmoid": lambda b, op, x: b.node("Sigmoid", x), "TanH": lambda b, op, x: b.node("Tanh", x),
    "AbsVal": lambda b, op, x: b.node("Abs", x), "BNLL": lambda b, op, x: b.node("Softplus", x),
    "ELU": lambda b, op, x: b.node("Elu", x, alpha=op.layer.elu_param.alpha),
    "Softmax": lambda b, op, x: b.node("Softmax", x, axis=op.layer.softmax_param.axis),
    "Concat": lambda b, op, *xs: b.node("Concat", *xs, axis=op.along),
    "Permute": lambda b, op, x: b.node("Transpose", x, perm=op.order),
    "PReLU": lambda b, op, x: b.node("PRelu", x, *b.params(b.dims() - 2)),
    "Reshape": lambda b, op, x: b.reshaped(x, *op.span(b.dims()), op.layer.reshape_param.shape.dim),
    "Threshold": lambda b, op, x: b.node(
        "Cast", b.node("Greater", x, op.layer.threshold_param.threshold), to=1),
    "Swish": lambda b, op, x: b.node("Mul", x, b.node("Sigmoid", b.scaled(x, op.layer.swish_param.beta))),
    "Clip": lambda b, op, x: b.node("Clip", x, op.layer.clip_param.min, op.layer.clip_param.max),
    "Exp": lambda b, op, x: b.scaled(b.node("Exp", b.scaled(x, op.inner)), op.outer),
    "Log": lambda b, op, x: b.scaled(
        b.node("Log", b.scaled(x, op.layer.log_param.scale, op.layer.log_param.shift)), op.outer),
    "Split": lambda b, op, x: [x] * len(op.layer.top),
    "Parameter": lambda b, op: b.params(),
}
