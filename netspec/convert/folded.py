"""The statistics of SegNet's BN layers over data, and the weights that hold them, for mode INFERENCE."""

import math
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error
from ..net import weights
from ..net.batches import batches
from ..net.build import build
from ..net.graph import Graph, Node
from ..net.module import Net
from ..ops.norm import BN
from ..proto.caffe_pb2 import TEST, BNParameter, LayerParameter, NetParameter
from ..proto.model import Layers


class Statistics(NamedTuple):
    """Of one BN layer's bottom, over batches: float64, C numbers each."""

    mean: np.ndarray  # the mean of the batches' means
    variance: np.ndarray  # the mean of their variances
    unbiased: np.ndarray  # the same, each times m / (m - 1), of m values a channel


def learning(graph: Graph) -> dict[Node, BN]:
    """The BN layers in SegNet's form that normalise by their batch."""
    return {node: node.op for node in graph.nodes
            if isinstance(node.op, BN) and node.op.segnet and not node.op.stored}


def observed(graph: Graph) -> NetParameter:
    """The net with tops for the mean and the variance of those layers; Error where it has no such layer."""
    net, names = NetParameter(), {node.name for node in learning(graph)}
    if not names:
        raise Error(f"net '{graph.name}' has no BN layer of SegNet's in mode LEARN: nothing to measure")
    net.CopyFrom(graph.proto)
    for layer in net.layer:
        if layer.name in names and len(layer.top) < 3:
            del layer.top[1:]
            layer.top.extend(f"{layer.name}/{what}" for what in ("mean", "variance"))
    return net


def measure(net: Net, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Statistics]:
    """Of each layer that `observed` gave tops, over at least one batch; batch: the net's inputs by blob."""
    found: dict[str, list[list[np.ndarray]]] = {node.name: [] for node in learning(net.graph)}
    tops = {node.name: [top.blob for top in node.tops[1:]] for node in learning(net.graph)}
    for inputs in batches:
        with torch.inference_mode():
            blobs = net(inputs, [blob for pair in tops.values() for blob in pair])
        shapes = net.graph.infer({blob: tuple(value.shape) for blob, value in inputs.items()})
        for node in learning(net.graph):
            mean, variance = (blobs[blob].double().flatten().cpu().numpy() for blob in tops[node.name])
            values = math.prod(shapes[node.bottoms[0]]) // len(mean)
            found[node.name].append([mean, variance, variance * values / max(values - 1, 1)])
    return {name: Statistics(*np.mean(each, axis=0)) for name, each in found.items()}


def fold(slope: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, eps: float
         ) -> tuple[np.ndarray, np.ndarray]:
    """The slope and bias that give slope (x - mean) / sqrt(variance + eps) + bias as slope x + bias."""
    factor = slope / np.sqrt(np.asarray(variance, np.float64) + eps)
    return factor, bias - factor * mean


class Folded(NamedTuple):
    """What `folded` made."""

    name: str  # the net's
    layers: Layers  # all of the net, as `write_weights` takes them
    statistics: dict[str, Statistics]
    batches: int


def folded(path: str | os.PathLike, given: str | os.PathLike, count: int | None = None,
           unbiased: bool = False, device: torch.device | str = "cpu") -> Folded:
    """Weights for a net's form in mode INFERENCE: in each BN layer of SegNet's, statistics over the training
    set take the place of the batch's, folded into slope and bias.

    path: a training prototxt, whose data layer is read and which runs in phase TEST, so Dropout is the
    identity. given: its weights, which must fill it. count: batches (None: those that give each image of the
    list; the last may begin the list anew). Raises Error where there is nothing to measure or to read.
    """
    graph = build(path, TEST)
    net = Net(build(observed(graph), TEST, base=graph.path and graph.path.resolve().parent, path=graph.path))
    weights.load(given, net.layers_with_params(), strict=True)
    net.to(device)
    stream = batches(net, TEST)
    stream.count = stream.epoch if count is None else count
    if stream.count is None:
        raise Error(f"{path}: its data have no list that says how many batches are all: give --batches N")
    found = measure(net, ({blob: value.to(device) for blob, value in inputs.items()} for inputs in stream))
    layers = dict(weights.layers_of(net))
    for node, op in learning(graph).items():
        slope, bias = (param.detach().cpu().numpy() for param in net.layers_with_params()[node.name])
        mean, variance, other = found[node.name]
        new = fold(slope.ravel(), bias.ravel(), mean, other if unbiased else variance, op.eps)
        settings = LayerParameter()
        settings.CopyFrom(op.layer)
        settings.bn_param.bn_mode = BNParameter.INFERENCE
        layers[node.name] = settings, [each.astype(np.float32).reshape(slope.shape) for each in new]
    return Folded(graph.name, layers, found, stream.count)
