"""Classifiers made fully convolutional: each fully connected layer becomes a convolution as large as the map it reads."""

import math
from typing import Any

import torch

from ..base.errors import Error, closest
from ..ops import Shape
from ..ops.conv import geometry
from ..proto import caffe_pb2
from .graph import Graph, Node, Value
from .module import Net

# Layers that do at each position of a map what they do to a vector; CHANNELWISE: if axis 1 holds all of the vector
ELEMENTWISE = frozenset("AbsVal BNLL Clip Dropout ELU Eltwise Exp Log Power ReLU Sigmoid Split Swish TanH Threshold".split())
CHANNELWISE = frozenset("BN BatchNorm Bias Concat PReLU Scale Slice Softmax".split())


def convolutionalise(graph: Graph) -> tuple[Any, list[str], list[str]]:
    """The convolutional form of a classifier's graph, for any image not smaller than the classifier's.

    Returns its NetParameter, the names of the layers that were fully connected, and of those that were left out.
    Layers keep their names, as in the FCN release, so that weights fit by name. Flatten and Reshape of maps go, and so do
    labels, losses and accuracies. A global pooling gets its map's size as a kernel. Raises Error for a layer without a
    convolutional form, and for a net without fully connected layers.
    """
    net, layers, dropped = caffe_pb2.NetParameter(name=graph.name), [], []
    maps: dict[Value, tuple[str, Shape]] = {}  # value -> the new net's blob for it, and C x H x W of that
    for node in graph.layers:
        if node.source:
            images = {top: graph.shapes[top][1:] for top in node.tops if len(graph.shapes[top]) == 4}
            maps |= {top: (top.blob, place) for top, place in images.items()}
            net.layer.add(name=node.name, type="Input", top=[top.blob for top in images], input_param=dict(
                shape=[dict(dim=[1, *place]) for place in images.values()]))
            continue
        known = bool(node.bottoms) and all(b in maps for b in node.bottoms)
        before, after = ([graph.shapes[v] for v in values] for values in (node.bottoms, node.tops))
        flat = known and node.type in ("Flatten", "Reshape") and after[0][:2] == (before[0][0], math.prod(before[0][1:]))
        if flat:
            maps[node.tops[0]] = maps[node.bottoms[0]]
        if flat or not known or node.op.loss or node.op.sink:
            dropped.append(node.name)
            continue
        layer = net.layer.add()
        layer.CopyFrom(node.op.layer)
        layer.bottom[:] = [maps[b][0] for b in node.bottoms]
        place = maps[node.bottoms[0]][1]
        if node.type == "InnerProduct":
            _convolution(node, layer, place)
            layers.append(node.name)
        elif any(len(shape) != 4 for shape in before + after):
            if not pointwise(layer) or (node.type not in ELEMENTWISE and tuple(place[1:]) != (1, 1)):
                raise node.op.error("works on a vector, and has no counterpart on a map; layers that have: "
                                    f"{', '.join(sorted(ELEMENTWISE))}, and along axis 1 {', '.join(sorted(CHANNELWISE))}")
        elif layer.pooling_param.global_pooling:
            pool = layer.pooling_param.pool
            layer.pooling_param.CopyFrom(caffe_pb2.PoolingParameter(pool=pool, kernel_h=place[1], kernel_w=place[2]))
        for top, shape in zip(node.tops, after, strict=True):
            maps[top] = top.blob, shape[1:] if len(shape) == 4 else place if node.type in ELEMENTWISE else (shape[1], 1, 1)
    if not layers:
        raise Error(f"net '{graph.name}' has no InnerProduct layer above an image (N x C x H x W)")
    return net, layers, dropped


def _convolution(node: Node, layer: Any, place: Shape) -> None:
    p = layer.inner_product_param
    if p.axis != 1:
        raise node.op.error(f"has axis {p.axis}; only what takes all of an item (axis: 1) becomes a convolution")
    kept = {field.name: value for field, value in p.ListFields() if field.name not in ("axis", "transpose")}
    kernel = place[1:2] if place[1] == place[2] else place[1:]
    layer.convolution_param.CopyFrom(caffe_pb2.ConvolutionParameter(kernel_size=kernel, **kept))
    layer.type = "Convolution"
    layer.ClearField("inner_product_param")


def pointwise(layer: Any) -> bool:
    """Whether a layer computes each position of its tops from the same position of its bottoms alone."""
    axes = {getattr(p, "axis", 1) for field, p in layer.ListFields() if field.name.endswith("_param")}
    across = layer.type == "LRN" and layer.lrn_param.norm_region == layer.lrn_param.ACROSS_CHANNELS
    return layer.type in ELEMENTWISE or across or (layer.type in CHANNELWISE and axes <= {1})


def unpadded(net: Any) -> Any:
    """The NetParameter without padding and without poolings that hang over an edge: all windows lie within the image."""
    new = caffe_pb2.NetParameter.FromString(net.SerializeToString())
    for layer in (x for x in new.layer if x.type in ("Convolution", "Pooling")):
        for field in ("pad", "pad_h", "pad_w"):
            (layer.pooling_param if layer.type == "Pooling" else layer.convolution_param).ClearField(field)
        if layer.type == "Pooling":
            layer.pooling_param.round_mode = caffe_pb2.PoolingParameter.FLOOR
    return new


def share_reshaped(old: Net, new: Net) -> None:
    """Let the convolutional net use the classifier's parameters, as views: no number is copied."""
    theirs = old.layers_with_params()
    for name, params in new.layers_with_params().items():
        transpose = old.graph.node(name).op.layer.inner_product_param.transpose
        for mine, given in zip(params, theirs[name], strict=True):
            mine.data = (given.detach().t() if transpose and given.ndim == 2 else given.detach()).reshape(mine.shape)


def randomise(net: Net, seed: int = 0) -> None:
    """Random parameters that keep values in range through any depth: weights as 'msra' has them, the rest in 0.5..1.5."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            gain = math.sqrt(2 * len(p) / p.numel()) if p.ndim > 1 else 0
            p.normal_(0, gain, generator=generator) if gain else p.uniform_(0.5, 1.5, generator=generator)



def rarefy(net: Any, layer: str) -> Any:
    """The NetParameter with a pooling's or convolution's stride 1, and the convolutions behind it dilated by that stride.

    Its outputs are stride times as fine, and are what shift_and_stitch interlaces (the paper's enlarged filter with zeros).
    Raises Error for a layer that is not there or has no stride, and where a layer behind it has no dilated form: in Caffe
    convolutions alone have one.
    """
    new = caffe_pb2.NetParameter.FromString(net.SerializeToString())
    found = next((x for x in new.layer if x.name == layer), None)
    if found is None:
        raise Error(f"net '{net.name}' has no layer '{layer}'{closest(layer, [x.name for x in new.layer])}")
    if found.type not in ("Convolution", "Pooling"):
        raise Error(f"layer '{layer}' is of type {found.type}; a Convolution or Pooling has a stride")
    own = found.convolution_param if found.type == "Convolution" else found.pooling_param
    _, stride, _, _ = geometry(own, 2)
    if stride == (1, 1):
        raise Error(f"layer '{layer}' has stride 1 already")
    for field in ("stride", "stride_h", "stride_w"):
        own.ClearField(field)
    fine: set[str] = set()  # blobs on the finer grid
    for x in new.layer:
        touched = [blob in fine for blob in x.bottom]
        if x.name == layer:
            fine.update(x.top)
        elif x.type == "Convolution" and any(touched):
            _dilate(x.convolution_param, stride)
            fine.update(x.top)
        elif all(touched) and touched and pointwise(x):
            fine.update(x.top)
        elif any(touched):
            why = ("joins it with blobs that are not finer" if not all(touched) else
                   "is fully connected; make the net convolutional first (netspec convert fcn)" if x.type == "InnerProduct"
                   else "has no dilated form in Caffe; rarefy a layer behind it, or shift and stitch")
            raise Error(f"layer '{x.name}' ({x.type}) reads what layer '{layer}' makes, and {why}")
    return new


def _dilate(p: Any, factor: tuple[int, int]) -> None:
    """Spread a convolution's taps, and its padding with them."""
    _, _, pad, dilation = geometry(p, 2)
    for field in ("pad", "pad_h", "pad_w", "dilation"):
        p.ClearField(field)
    for field, values in (("pad", pad), ("dilation", dilation)):
        scaled = [v * f for v, f in zip(values, factor, strict=True)]
        getattr(p, field).extend(scaled[:1] if len(set(scaled)) == 1 else scaled)
