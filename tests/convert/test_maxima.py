"""Maxima that rounding decides: nets are compared with those of the other program, and only with such."""

import numpy as np
import pytest
import torch

from netspec.convert import agree
from netspec.convert.maxima import masked
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.text import parse

NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 7 } } }
layer { name: "flat" type: "Power" bottom: "data" top: "flat" power_param { scale: SCALE shift: 3 } }
layer { name: "pool" type: "Pooling" bottom: "flat" top: "pool" top: "mask" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "small" type: "Pooling" bottom: "data" top: "small" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Upsample" bottom: "small" bottom: "mask" top: "up" upsample_param { upsample_h: 6 upsample_w: 7 } }
layer { name: "silence" type: "Silence" bottom: "pool" }
"""


def net(scale):
    return Net(build(parse(NET.replace("SCALE", str(scale)), NetParameter))).eval()


def program(run, moved):
    """Another program, which takes the maxima that `moved` makes of the net's: what it computes, and its masks."""
    def masks(feed):
        with torch.no_grad():
            return {"mask": moved(run({"data": torch.from_numpy(feed["data"])}, ["mask"])["mask"].numpy().copy())}

    def other(feeds):
        for feed in feeds:
            values = np.zeros((*feed["data"].shape[:2], 42), np.float32)
            with torch.no_grad():
                small = run({"data": torch.from_numpy(feed["data"])}, ["small"])["small"].numpy()
            for n, c in np.ndindex(values.shape[:2]):
                values[n, c, masks(feed)["mask"][n, c].astype(int).ravel()] = small[n, c].ravel()
            yield {"up": values.reshape(feed["data"].shape)}

    return other, masks


def beside(mask):
    """The other column of the window."""
    mask[0, 0, 1, 1] += -1 if mask[0, 0, 1, 1] % 7 == 3 else 1
    return mask


def compared(scale, moved, told=True):
    run = net(scale)
    other, masks = program(run, moved)
    return agree.agreements(run, other, [(1, 6, 7)], 1.0, masks if told else None)[0]


def test_which_of_equal_values_is_the_maximum_is_no_difference():
    assert list(masked(net(0).graph)) == ["mask"]
    for scale in (0, 1e-6):  # all of a window are equal, or but for rounding
        row = compared(scale, beside)
        assert row.fits and row.elsewhere == 1
        assert not compared(scale, beside, told=False).fits
    assert (compared(0, lambda mask: mask).fits, compared(0, lambda mask: mask).elsewhere) == (True, 0)


def outside(mask):
    mask[0, 0, 1, 1] += 2  # the next window
    return mask


def nowhere(mask):
    mask[0, 0, 0, 0] = 41
    return mask


@pytest.mark.parametrize("scale, moved", [
    (1, beside), (1e-2, beside), (0, outside), (0, nowhere),
    (0, lambda mask: mask[:, :, ::-1].copy()),
])
def test_another_value_or_another_window_is_one(scale, moved):
    row = compared(scale, moved)
    assert not row.fits and row.elsewhere == 0


def test_a_program_that_differs_otherwise_too_does_not_agree():
    run = net(0)
    other, masks = program(run, beside)
    row = agree.agreements(run, lambda feeds: [{"up": each["up"] * 1.01} for each in other(feeds)], [(1, 6, 7)], 1.0, masks)[0]
    assert not row.fits
