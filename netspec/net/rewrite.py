"""Nets rewritten: classifiers made fully convolutional, nets without padding, nets with a finer grid."""

import math
from copy import deepcopy

import torch

from ..base.errors import Error, closest
from ..ops import REGISTRY, Operation, Shape
from ..ops.conv import geometry
from ..proto.caffe_pb2 import ConvolutionParameter, LayerParameter, NetParameter, PoolingParameter
from .graph import Graph, Node, Value
from .module import Net

Maps = dict[Value, tuple[str, Shape]]  # value -> the new net's blob for it, and C x H x W of that


def convolutionalise(graph: Graph) -> tuple[NetParameter, list[str], list[str]]:
    """The convolutional form of a classifier's graph, for any image not smaller than the classifier's.

    Returns its NetParameter, the names of the layers that were fully connected (of a net without them, its
    global poolings), and of those that were left out. Layers keep their names, as in the FCN release, so that
    weights fit by name. Flatten and Reshape of maps go, and so do labels, losses and accuracies. A global
    pooling gets its map's size as a kernel. Raises Error for a layer without a convolutional form, and for a
    net that has neither fully connected layers nor global poolings.
    """
    net, dropped = NetParameter(name=graph.name), []
    maps: Maps = {}
    for node in graph.layers:
        if node.source:
            images = {top: graph.shapes[top][1:] for top in node.tops if len(graph.shapes[top]) == 4}
            maps |= {top: (top.blob, place) for top, place in images.items()}
            given = dict(shape=[dict(dim=[1, *place]) for place in images.values()])
            net.layer.add(name=node.name, type="Input", top=[top.blob for top in images], input_param=given)
            continue
        known = bool(node.bottoms) and all(b in maps for b in node.bottoms)
        if known and _flattens(graph, node):
            maps[node.tops[0]] = maps[node.bottoms[0]]
        elif known and not node.op.loss and not node.op.sink:
            _convolve(graph, node, net.layer.add(), maps)
            continue
        dropped.append(node.name)
    kept = [node for node in graph.nodes if node.name not in dropped]
    layers = ([node.name for node in kept if node.type == "InnerProduct"]
              or [node.name for node in kept if node.op.layer.pooling_param.global_pooling])
    if not layers:
        raise Error(f"net '{graph.name}' has no InnerProduct layer and no global pooling above an image "
                    "(N x C x H x W)")
    return net, layers, dropped


def _flattens(graph: Graph, node: Node) -> bool:
    """Whether a layer makes a vector of each map and does nothing else."""
    before, after = graph.shapes[node.bottoms[0]], graph.shapes[node.tops[0]] if node.tops else ()
    return node.type in ("Flatten", "Reshape") and after[:2] == (before[0], math.prod(before[1:]))


def _convolve(graph: Graph, node: Node, layer: LayerParameter, maps: Maps) -> None:
    """Makes `layer` what `node` is on maps, and adds its tops to these."""
    layer.CopyFrom(node.op.layer)
    layer.bottom[:] = [maps[b][0] for b in node.bottoms]
    place = maps[node.bottoms[0]][1]
    after = [graph.shapes[top] for top in node.tops]
    if node.type == "InnerProduct":
        _convolution(node, layer, place)
    elif any(len(shape) != 4 for shape in (*(graph.shapes[b] for b in node.bottoms), *after)):
        if not pointwise(layer) or (not node.op.elementwise and place[1:] != (1, 1)):
            alone, along = (", ".join(sorted(name for name, kind in REGISTRY.items() if getattr(kind, fact)))
                            for fact in ("elementwise", "channelwise"))
            raise node.op.error("works on a vector, and has no counterpart on a map; layers that have: "
                                f"{alone}, and along axis 1 {along}")
    elif layer.pooling_param.global_pooling:
        pool = layer.pooling_param.pool
        layer.pooling_param.CopyFrom(PoolingParameter(pool=pool, kernel_h=place[1], kernel_w=place[2]))
    for top, shape in zip(node.tops, after, strict=True):
        flat = place if node.op.elementwise else (shape[1], 1, 1)
        maps[top] = top.blob, shape[1:] if len(shape) == 4 else flat


def _convolution(node: Node, layer: LayerParameter, place: Shape) -> None:
    p = layer.inner_product_param
    if p.axis != 1:
        raise node.op.error(f"has axis {p.axis}; only what takes all of an item (axis: 1) becomes "
                            "a convolution")
    kept = {field.name: value for field, value in p.ListFields() if field.name not in ("axis", "transpose")}
    kernel = place[1:2] if place[1] == place[2] else place[1:]
    layer.convolution_param.CopyFrom(ConvolutionParameter(kernel_size=kernel, **kept))
    layer.type = "Convolution"
    layer.ClearField("inner_product_param")


def pointwise(layer: LayerParameter) -> bool:
    """Whether a layer computes each position of its tops from the same position of its bottoms alone."""
    settings = [p for field, p in layer.ListFields() if field.name.endswith("_param")]
    along = all(getattr(p, "axis", 1) == 1 and getattr(p, "num_axes", 1) in (0, 1) for p in settings)
    across = layer.type == "LRN" and layer.lrn_param.norm_region == layer.lrn_param.ACROSS_CHANNELS
    kind = REGISTRY.get(layer.type, Operation)
    return kind.elementwise or across or (kind.channelwise and along)


def unpadded(net: NetParameter) -> NetParameter:
    """The net without padding, and without poolings that hang over an edge: all windows lie in the image."""
    new = deepcopy(net)
    for layer in new.layer:
        if layer.type in ("Convolution", "Pooling"):
            p = layer.pooling_param if layer.type == "Pooling" else layer.convolution_param
            for field in {"pad", "pad_h", "pad_w", "ceil_mode"} & {*p.DESCRIPTOR.fields_by_name}:
                p.ClearField(field)
        if layer.type == "Pooling":
            layer.pooling_param.round_mode = PoolingParameter.FLOOR
    return new


def share_reshaped(old: Net, new: Net) -> None:
    """Let the convolutional net use the classifier's parameters, as views: no number is copied."""
    theirs = old.layers_with_params()
    for name, params in new.layers_with_params().items():
        transpose = old.graph.node(name).op.layer.inner_product_param.transpose
        for mine, given in zip(params, theirs[name], strict=True):
            view = given.detach().t() if transpose and given.ndim == 2 else given.detach()
            mine.data = view.reshape(mine.shape)


def randomise(net: Net, seed: int = 0) -> None:
    """Random parameters that keep values in range at any depth: weights by 'msra', the rest in 0.5..1.5."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            gain = math.sqrt(2 * len(p) / p.numel()) if p.ndim > 1 else 0
            p.normal_(0, gain, generator=generator) if gain else p.uniform_(0.5, 1.5, generator=generator)


def rarefy(net: NetParameter, layer: str) -> NetParameter:
    """The net with a pooling's or convolution's stride 1, and convolutions behind it dilated by that stride.

    Its outputs are stride times as fine, and are what shift_and_stitch interlaces (the paper's enlarged
    filter with zeros). Raises Error for a layer that is not there or has no stride, and where a layer behind
    it has no dilated form: in Caffe convolutions alone have one.
    """
    new = deepcopy(net)
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
        elif any(touched):
            if x.type == "Convolution":
                _dilate(x.convolution_param, stride)
            elif not all(touched) or not pointwise(x):
                raise Error(f"layer '{x.name}' ({x.type}) reads what layer '{layer}' makes, and "
                            f"{_no_dilated_form(x, all(touched))}")
            fine.update(x.top)
    return new


def _no_dilated_form(layer: LayerParameter, alone: bool) -> str:
    """Why a layer cannot work on the finer grid. alone: all that it reads is on that grid."""
    if not alone:
        return "joins it with blobs that are not finer"
    if layer.type == "InnerProduct":
        return "is fully connected; make the net convolutional first (netspec convert fcn)"
    return "has no dilated form in Caffe; rarefy a layer behind it, or shift and stitch"


def _dilate(p: ConvolutionParameter, factor: Shape) -> None:
    """Spread a convolution's taps, and its padding with them."""
    _, _, pad, dilation = geometry(p, 2)
    for field in ("pad", "pad_h", "pad_w", "dilation"):
        p.ClearField(field)
    for repeated, values in ((p.pad, pad), (p.dilation, dilation)):
        scaled = [v * f for v, f in zip(values, factor, strict=True)]
        repeated.extend(scaled[:1] if len(set(scaled)) == 1 else scaled)
