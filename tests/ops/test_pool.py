"""Pooling for bottoms whose size changes from one to the next."""

import torch

from ops.test_golden import layer, made


def test_a_pyramid_is_made_anew_for_each_size():
    net = made(layer("SPP", "spp_param { pyramid_height: 2 }"), (1, 1, 6, 6))
    spp = net.graph.nodes[-1].op
    for size in ((6, 6), (12, 6), (6, 12), (6, 6)):  # another height, another width, and back
        assert spp.infer((1, 1, *size)) == [(1, 5)]
        x = torch.rand(1, 1, *size)
        bins = [x, *(part for half in x.chunk(2, 2) for part in half.chunk(2, 3))]  # of level 0, then of level 1 by rows
        assert net({"x": x})["y"].tolist() == [[float(part.max()) for part in bins]]
