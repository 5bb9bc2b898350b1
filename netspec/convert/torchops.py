"""Graphs as Python: one function a layer type, each the expression in torch that a person would write."""

import keyword
import re
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import nn

from ..net.graph import Node
from ..net.module import Net
from ..ops import conv, dense, neuron, norm, resample, shape
from ..ops.pool import AVE, MAX, Pooling
from ..proto import caffe_pb2

WIDTH = 110  # of a line


class Writer:
    """The lines of a module under construction, and its tensors."""

    def __init__(self, net: Net) -> None:
        self.net, self.graph = net, net.graph
        self.members: dict[str, str] = {}  # attribute -> the module that it is
        self.tensors: dict[str, torch.Tensor] = {}
        self.lines: list[tuple[str, str]] = []  # (targets, expression)
        self.locals: dict[str, str] = {}
        self.inputs = [self.local(blob) for blob in self.graph.inputs]
        for node in self.graph.nodes:
            self.add(node)

    def local(self, blob: str) -> str:
        if blob not in self.locals:
            self.locals[blob] = identifier(blob, {*self.locals.values(), "self", "torch", "nn", "F"})
        return self.locals[blob]

    def add(self, node: Node) -> None:
        if node.type not in FORMS:
            raise node.op.error("has no plain form in torch here; leave it out of the net, or run the net "
                                "with netspec")
        self.node = node
        bottoms = [self.local(bottom.blob) for bottom in node.bottoms]
        made = FORMS[node.type](self, node.op, *bottoms)
        tops = [self.local(top.blob) for top in node.tops]
        if isinstance(made, list):
            self.lines += zip(tops, made, strict=True)
        else:
            self.lines.append((", ".join(tops), self.nested(tops[0], made) if tops == bottoms else made))

    def nested(self, name: str, code: str) -> str:
        """An in-place layer's code, the last line's put in where that reads well: F.relu(self.conv(x))."""
        if not self.lines or self.lines[-1][0] != name or len(re.findall(rf"\b{name}\b", code)) != 1:
            return code
        made = re.sub(rf"(?<=\(){name}(?=[,)])", lambda _: self.lines[-1][1], code)
        if made == code or len(made) >= WIDTH - 30 or len(f"{name} = {made}") > WIDTH - 8:
            return code
        self.lines.pop()
        return made

    def member(self, kind: str, *args: Any, tensors: dict[str, torch.Tensor], **options: Any) -> str:
        """`self.LAYER` for a layer with parameters."""
        if any(slot.layer != self.node.name for slot in self.node.params):
            raise self.node.op.error("shares parameters with another layer, which has no plain form in torch")
        attribute = identifier(self.node.name, {*self.members, *dir(nn.Module())})
        self.members[attribute] = call(kind, *args, **options)
        for name, tensor in tensors.items():
            self.tensors[f"{attribute}.{name}"] = tensor.detach().contiguous()
        return f"self.{attribute}"

    def params(self) -> dict[str, torch.Tensor]:
        found = (torch.atleast_1d(self.net.parameter(slot)) for slot in self.node.params)
        return dict(zip(("weight", "bias"), found, strict=False))

    def dims(self) -> int:
        """The axes of the layer's first bottom."""
        return len(self.graph.shapes[self.node.bottoms[0]])


def identifier(name: str, taken: set[str]) -> str:
    """The name as Python may have it, and not one of those taken."""
    name = re.sub(r"\W", "_", name)
    name = f"_{name}" if not name[:1].isidentifier() else name
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


def written(value: Any) -> str:
    """A setting as a person writes it: one number where all are equal, floats as float32 has them."""
    if isinstance(value, tuple):
        return written(value[0]) if len(set(value)) == 1 else f"({', '.join(map(written, value))})"
    return str(np.float32(value)) if isinstance(value, float) else str(value)


def call(name: str, *args: Any, **options: Any) -> str:
    """NAME(...) of expressions and settings."""
    given = [*map(written, args), *(f"{key}={written(value)}" for key, value in options.items())]
    return f"{name}({', '.join(given)})"


def times(factor: float, x: str) -> str:
    return x if factor == 1 else f"{written(float(factor))} * {x}"


def _convolution(w: Writer, op: conv.Convolution, *xs: str) -> str:
    if op.channel_axis != 1 or len(xs) > 1:
        raise op.error("has a plain form in torch for axis 1 and one bottom only")
    kind = f"nn.Conv{'Transpose' if op.type == 'Deconvolution' else ''}{op.dims}d"
    p = op.layer.convolution_param
    settings = (("stride", op.stride, "1"), ("padding", op.pad, "0"), ("dilation", op.dilation, "1"),
                ("groups", p.group, "1"), ("bias", p.bias_term, "True"))
    unusual = {key: value for key, value, usual in settings if written(value) != usual}
    return f"{w.member(kind, op.channels, p.num_output, op.kernel, tensors=w.params(), **unusual)}({xs[0]})"


def _pooling(w: Writer, op: Pooling, x: str) -> str:
    p = op.layer.pooling_param
    if p.global_pooling and p.pool in (MAX, AVE) and not op.indexed:
        return f"{x}.{'amax' if p.pool == MAX else 'mean'}((2, 3), keepdim=True)"
    wide = any(2 * pad > kernel for pad, kernel in zip(op.pad, op.kernel, strict=True))
    if p.pool not in (MAX, AVE) or op.indexed or wide:
        raise op.error("has no plain form in torch: it is STOCHASTIC, has a pad above half the kernel, or a "
                       "mask as second top")
    window = (op.kernel, op.stride, op.pad) if any(op.pad) else (op.kernel, op.stride)
    options = {"ceil_mode": True} if op.ceil else {}
    return call(f"F.{'avg' if p.pool == AVE else 'max'}_pool2d", x, *window, **options)


def _inner_product(w: Writer, op: dense.InnerProduct, x: str) -> str:
    p, tensors = op.layer.inner_product_param, w.params()
    if p.transpose:
        tensors["weight"] = tensors["weight"].t()
    options = {} if p.bias_term else {"bias": False}
    layer = w.member("nn.Linear", op.size, p.num_output, tensors=tensors, **options)
    axis = op.axis(p.axis, w.dims())
    return call(layer, x if axis == w.dims() - 1 else call("torch.flatten", x, axis))


def _applied(w: Writer, op: dense.Scale | dense.Bias, x: str, *factor: str) -> str:
    p = op.layer.scale_param if op.type == "Scale" else op.layer.bias_param
    axis = op.axis(p.axis, w.dims())
    if factor and not op.params:
        behind = w.dims() - axis - len(w.graph.shapes[w.node.bottoms[1]])
        code = f"{x} {'*' if op.type == 'Scale' else '+'} {factor[0]}"
        return f"{code}[...{', None' * behind}]" if behind else code
    if factor or axis != 1 or p.num_axes != 1:
        raise op.error("has a plain form in torch with one number a channel, or a second bottom, only")
    tensors, (channels,) = w.params(), op.params[0].shape
    if op.type == "Bias":
        tensors = {"weight": torch.ones(channels), "bias": tensors["weight"]}
    return f"{w.member('Scale', channels, tensors={'bias': torch.zeros(channels), **tensors})}({x})"


def _batch_norm(w: Writer, op: norm.BatchNorm | norm.BN, x: str) -> str:
    if not op.stored or not op.params[2:] or not 2 <= w.dims() <= 5:
        raise op.error("has a plain form in torch only where it uses the statistics it keeps")
    numbers = [w.net.parameter(slot).detach().flatten() for slot in w.node.params]
    options: dict[str, Any] = {"eps": op.layer.bn_param.eps}
    if isinstance(op, norm.BatchNorm):
        numbers = op.ordered(numbers)
        *totals, weight = numbers[:3]
        more, zeros = numbers[3:], torch.zeros_like(totals[0])
        numbers = [*(more and (*more, zeros)[:2]), *(total / weight if weight else zeros for total in totals)]
        options = {"eps": op.eps} | ({} if more else {"affine": False})
    names = ("weight", "bias", "running_mean", "running_var")[-len(numbers) :]
    tensors = dict(zip(names, numbers, strict=True), num_batches_tracked=torch.tensor(0))
    kind = f"nn.BatchNorm{max(1, w.dims() - 2)}d"
    return f"{w.member(kind, op.channels, tensors=tensors, **options)}({x})"


def _relu(w: Writer, op: neuron.ReLU, x: str) -> str:
    slope = op.layer.relu_param.negative_slope
    return call("F.leaky_relu", x, slope) if slope else call("F.relu", x)


def _eltwise(w: Writer, op: neuron.Eltwise, *xs: str) -> str:
    kind = op.layer.eltwise_param.operation
    if kind == caffe_pb2.EltwiseParameter.SUM:
        return " + ".join(map(times, op.coeff, xs)).replace("+ -1.0 * ", "- ").replace("+ -", "- ")
    if kind == caffe_pb2.EltwiseParameter.PROD:
        return " * ".join(xs)
    return reduce("torch.maximum({}, {})".format, xs)


def _crop(w: Writer, op: shape.Crop, x: str, size: str) -> str:
    spans = [f"{offset or ''}:{f'{offset} + ' if offset else ''}{size}.shape[{axis}]"
             for axis, offset in enumerate(op.offsets, op.first)]
    return f"{x}[{', '.join([*[':'] * op.first, *spans])}]"


def _slice(w: Writer, op: shape.Slice, x: str) -> str:
    axis, points = op.parts(w.graph.shapes[w.node.bottoms[0]])[0], list(op.layer.slice_param.slice_point)
    made = f"torch.tensor_split({x}, {points or len(op.layer.top)}, {axis})"
    return made if len(op.layer.top) > 1 else f"{made}[0]"


def _reshape(w: Writer, op: shape.Reshape, x: str) -> str:
    dims, new = w.dims(), op.layer.reshape_param.shape.dim
    first, last = op.span(dims)
    sizes = [f"{x}.shape[{i}]" for i in range(dims)]
    sizes[first:last] = [str(n) if n else sizes[first + i] for i, n in enumerate(new)]
    return f"{x}.reshape({', '.join(sizes)})"


def _power(w: Writer, op: neuron.Power, x: str) -> str:
    p = op.layer.power_param
    inner = times(p.scale, x) + (f" + {written(p.shift)}" if p.shift else "")
    return inner if p.power == 1 else f"({inner}) ** {written(p.power)}"


def _lrn(w: Writer, op: norm.LRN, x: str) -> str:
    p = op.layer.lrn_param
    if p.norm_region != caffe_pb2.LRNParameter.ACROSS_CHANNELS:
        raise op.error("has a plain form in torch across channels only")
    return call("F.local_response_norm", x, p.local_size, p.alpha, p.beta, p.k)


def _interp(w: Writer, op: resample.Interp, x: str, *like: str) -> str:
    p = op.layer.interp_param
    if p.pad_beg or p.pad_end:
        x = f"F.pad({x}, ({p.pad_beg}, {p.pad_end}) * 2)"
    size = op.fixed or f"[(n - 1) // {p.shrink_factor} * {p.zoom_factor} + 1 for n in {x}.shape[2:]]"
    size = f"{like[0]}.shape[2:]" if like else size
    return f'F.interpolate({x}, {size}, mode="bilinear", align_corners=True)'


def _dropout(w: Writer, op: neuron.Dropout, x: str) -> str:
    if op.draws:
        raise op.error("drops at random in this phase too, so that no comparison could prove what "
                       "is written; without sample_weights_test it passes all")
    if op.scaled:
        return call("F.dropout", x, op.ratio, "self.training")
    kept = f"torch.rand_like({x}) >= {written(op.ratio)}"
    return f"{x} * (({kept}) if self.training else {written(1 - op.ratio)})"


FORMS: dict[str, Callable[..., str | list[str]]] = {
    "Convolution": _convolution, "Deconvolution": _convolution, "Pooling": _pooling,
    "DepthwiseConvolution": _convolution, "ConvolutionDepthwise": _convolution,
    "InnerProduct": _inner_product, "Scale": _applied, "Bias": _applied, "BatchNorm": _batch_norm,
    "BN": _batch_norm, "Eltwise": _eltwise, "Crop": _crop, "Slice": _slice, "Reshape": _reshape,
    "Power": _power, "Interp": _interp, "LRN": _lrn, "ReLU": _relu, "Dropout": _dropout,
    "PReLU": lambda w, op, x: f"{w.member('nn.PReLU', *op.params[0].shape, tensors=w.params())}({x})",
    "Sigmoid": lambda w, op, x: call("torch.sigmoid", x), "TanH": lambda w, op, x: call("torch.tanh", x),
    "AbsVal": lambda w, op, x: call("torch.abs", x), "BNLL": lambda w, op, x: call("F.softplus", x),
    "ELU": lambda w, op, x: call("F.elu", x, op.layer.elu_param.alpha),
    "Clip": lambda w, op, x: call("torch.clamp", x, op.layer.clip_param.min, op.layer.clip_param.max),
    "Softmax": lambda w, op, x: call("F.softmax", x, op.layer.softmax_param.axis),
    "Flatten": lambda w, op, x: call(
        "torch.flatten", x, op.layer.flatten_param.axis, op.layer.flatten_param.end_axis),
    "Concat": lambda w, op, *xs: f"torch.cat([{', '.join(xs)}], {op.along})",
    "Permute": lambda w, op, x: f"{x}.permute({', '.join(map(str, op.order))})",
    "Split": lambda w, op, x: [x] * len(op.layer.top),
}
