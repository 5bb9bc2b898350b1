"""What convolutions cost, and where their windows go."""

import pytest
import torch

from ops.test_golden import layer, made


def operation(kind, settings, shape):
    return made(layer(kind, f"convolution_param {{ {settings} }}"), shape).graph.nodes[-1].op


def test_multiplications_are_counted():
    """By hand: a deconvolution multiplies each input by a kernel for each output, a convolution reads one at each place."""
    shape = (1, 21, 8, 8)
    assert operation("Deconvolution", "num_output: 21 kernel_size: 4 stride: 2", shape).macs(shape) == 21 * 8 * 8 * 21 * 4 * 4
    grouped = operation("Deconvolution", "num_output: 21 group: 21 kernel_h: 4 kernel_w: 3", shape)
    assert grouped.macs(shape) == 21 * 8 * 8 * 4 * 3
    shape = (2, 6, 9, 7)
    assert operation("Convolution", "num_output: 5 kernel_h: 3 kernel_w: 2 stride: 2", shape).macs(shape) == 2 * 5 * 4 * 3 * 6 * 3 * 2
    assert operation("Convolution", "num_output: 4 group: 2 kernel_size: 3", shape).macs(shape) == 2 * 4 * 7 * 5 * 3 * 3 * 3


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_a_step_longer_than_the_map_takes_no_step(kind):
    x, filler = torch.randn(2, 3, 7, 1), "num_output: 2 pad: 1 kernel_size: 3 weight_filler { type: 'xavier' }"
    torch.manual_seed(0)
    short = made(layer(kind, f"convolution_param {{ {filler} stride: 8 }}"), x.shape)
    x = x[:, :, :, :] if kind == "Convolution" else x[:, :, :1]
    long = made(layer(kind, f"convolution_param {{ {filler} stride: 2147483647 }}"), x.shape)
    long.load_state_dict(short.state_dict())
    torch.testing.assert_close(long(x), short(x))
    assert len(long(x).flatten()) == (4 if kind == "Convolution" else 4)
