"""The judge in float64: the one near tie that a file decided otherwise is found by its mask's norm."""

import judge_double
import numpy as np
import torch

from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.text import parse

NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 6 } } }
layer { name: "pool" type: "Pooling" bottom: "x" top: "y" top: "mask" pooling_param { kernel_size: 2 stride: 2 } }"""


def test_the_value_that_the_file_took():
    x = torch.from_numpy(np.random.default_rng(0).permutation(90).reshape(1, 3, 5, 6) + 1.0)
    x[0, 1, 2, 2], x[0, 1, 3, 3] = 200, 200 * (1 - 1e-6)  # two near ties
    x[0, 2, 4, 0], x[0, 2, 4, 1] = 300 * (1 - 1e-6), 300
    plain = Net(build(parse(NET, NetParameter))).double()({"x": x}, want=["y", "mask"])
    assert plain["mask"][0, 1, 1, 1] == 14 and plain["mask"][0, 2, 2, 0] == 25
    for place, other in (((0, 1, 1, 1), 21), ((0, 2, 2, 0), 24), (None, 0), ((0, 0, 0, 0), 35)):
        wanted, said = plain["mask"].clone(), []
        if place:
            wanted[place] = other
        net = Net(build(parse(NET, NetParameter)))
        judge_double.doubled(net, {"l2:mask": np.linalg.norm(wanted.numpy())}, said.append)
        found = net({"x": x}, want=["y", "mask"])
        assert torch.equal(found["y"], plain["y"])
        if place == (0, 0, 0, 0):  # no near tie gives this norm
            assert torch.equal(found["mask"], plain["mask"]) and said == ["pool: no maximum by itself makes its mask the file's"]
            continue
        assert torch.equal(found["mask"], wanted)
        assert said == ([f"pool: of 27 maxima {list(place[1:])} is the file's other value, lower by 1.0e-06 of it"] if place else [])
