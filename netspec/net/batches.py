"""The data layers of a net as torch's kind of data set."""

import os
from copy import copy

from ..base.errors import Error
from ..base.names import file_of
from ..data.feed import Stream
from ..proto import caffe_pb2
from ..proto.caffe_pb2 import NetParameter, Phase
from .build import build
from .graph import Graph
from .module import Net

KINDS = {caffe_pb2.TRAIN: ("train",), caffe_pb2.TEST: ("test", "val")}  # the files of a name


def batches(net: str | os.PathLike | NetParameter | Graph | Net, phase: Phase = caffe_pb2.TRAIN, *,
            first: int = 0, count: int | None = None, step: int = 1, seed: int = 0) -> Stream:
    """What the data layers of a net give, batch for batch as in `solve`: an IterableDataset.

    net: a prototxt, whose data layers of `phase` are taken, or a net of any phase; a name such as voc-fcn8s
    is its train.prototxt, in phase TEST its test or val.prototxt. The batches are `first`,
    `first + step`, ..., in all `count` (None: over the epochs without end); of several processes each takes
    its number as `first` and how many they are as `step`. seed: of random choices in data whose layer has no
    seed of its own, as a solver's random_seed. Raises Error where the net has no data layer, and as `build`
    does.
    """
    if isinstance(net, Net):
        net = net.graph
    elif isinstance(net, NetParameter):
        net = build(net, phase)
    elif not isinstance(net, Graph):
        net = build(file_of(net, *KINDS[phase]), phase)
    if not net.readers:
        raise Error(f"net '{net.name}' has no data layer")
    sources = []
    for source in net.readers:
        own = "seed" in vars(source)
        sources.append(source if own or source.fed else copy(source))  # others may read from it, too
        if not own:
            sources[-1].seed = seed
    return Stream(sources, first, count, step)
