"""Recurrent layers: RNN and LSTM over a sequence, and one step of LSTM."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Operation, Param, Shape


class Recurrent(Operation, family="recurrent", once=True, differentiable="x, static",
                above_0=("recurrent_param", "num_output")):
    """Runs a cell over the T steps of N sequences.

    Bottoms: x T x N x ..., cont T x N (0 where a sequence begins: what came before is then multiplied by 0),
    then maybe a static input N x ... that counts at each step, and with expose_hidden the first states, each
    1 x N x num_output. Tops: T x N x num_output, and with expose_hidden the last states. Gradients reach x
    and the static input, and go no further than this blob of T steps. Without expose_hidden the last states
    are the first ones of the next call, as in Caffe: the one thing that an operation keeps.
    """

    states: ClassVar[int] = 1
    gates: ClassVar[int] = 1  # times num_output: what a step takes from x, the static input and the state

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.recurrent_param
        self.exposed = self.states if p.expose_hidden else 0
        self._count("bottom", (2 + self.exposed, 3 + self.exposed), len(shapes))
        self._count("top", 1 + self.exposed, len(self.layer.top))
        self.static = len(shapes) > 2 + self.exposed
        if len(shapes[0]) < 3 or not shapes[0][0] or (self.static and len(shapes[2]) < 2):
            second = f" and {list(shapes[2])}" if self.static else ""
            raise self.error("takes a bottom T x N x values (static input: N x values), "
                             f"found {list(shapes[0])}{second}")
        self.undifferentiable = frozenset({1, *range(2 + self.static, len(shapes))})
        size, values = self.gates * p.num_output, math.prod(shapes[0][2:])
        self.params = [Param((size, values), p.weight_filler), Param((size,), p.bias_filler)]
        if self.static:
            self.params.append(Param((size, math.prod(shapes[2][1:])), p.weight_filler))
        self.params.append(Param((size, p.num_output), p.weight_filler))
        self.carried: list[Tensor] = []

    def infer(self, *shapes: Shape) -> list[Shape]:
        x, cont, *rest = shapes
        if cont != x[:2]:
            raise self.error(f"takes one cont for each step of each sequence, {list(x[:2])}, "
                             f"found {list(cont)}")
        if math.prod(x[2:]) != self.params[0].shape[1]:
            raise self.error(f"was set up for {self.params[0].shape[1]} values a step, bottom is {list(x)}")
        if self.static and (rest[0][0] != x[1] or math.prod(rest[0][1:]) != self.params[2].shape[1]):
            raise self.error(f"static input {list(rest[0])} does not fit {x[1]} sequences of "
                             f"{self.params[2].shape[1]} values")
        outputs = self.layer.recurrent_param.num_output
        for state in rest[self.static :]:
            if state != (1, x[1], outputs):
                raise self.error(f"takes first states {[1, x[1], outputs]}, found {list(state)}")
        return [(*x[:2], outputs), *[(1, x[1], outputs)] * self.exposed]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        x, cont, *rest = bottoms
        given = F.linear(x.flatten(2), params[0], params[1])
        if self.static:
            given = given + F.linear(rest[0].flatten(1), params[2])
        shape = (x.shape[1], self.layer.recurrent_param.num_output)
        states = [s.squeeze(0) for s in rest[self.static :]] or self.carried
        if not states or states[0].shape != shape:
            states = [given.new_zeros(shape)] * self.states
        states = [s.to(given) for s in states]
        hidden = []
        for now, go in zip(given, cont.to(given.dtype).unsqueeze(-1), strict=True):
            states = self.step(now, go, states, params[2 + self.static :])
            hidden.append(states[0])
        last = [s.detach() for s in states]
        if not self.exposed:
            self.carried = last
            last = []
        return [self.top(torch.stack(hidden), params), *(s.unsqueeze(0) for s in last)]

    def step(self, now: Tensor, go: Tensor, states: list[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        """The states after a step, the hidden one first: now N x gates * D, go N x 1, states N x D each."""
        raise NotImplementedError

    def top(self, hidden: Tensor, params: Sequence[Tensor]) -> Tensor:
        return hidden


class RNN(Recurrent, type="RNN", bottoms=(2, 4), tops=(1, 2)):
    """h = tanh(Wxh x + bh + Whh (cont h)), top tanh(Who h + bo).
    Parameters: Wxh, bh, (static), Whh, Who, bo.
    """

    def setup(self, *shapes: Shape) -> None:
        super().setup(*shapes)
        p = self.layer.recurrent_param
        self.params.append(Param((p.num_output, p.num_output), p.weight_filler))
        self.params.append(Param((p.num_output,), p.bias_filler))

    def step(self, now: Tensor, go: Tensor, states: list[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        return [torch.tanh(now + F.linear(go * states[0], params[0]))]

    def top(self, hidden: Tensor, params: Sequence[Tensor]) -> Tensor:
        return torch.tanh(F.linear(hidden, params[-2], params[-1]))


class LSTM(Recurrent, type="LSTM", bottoms=(2, 5), tops=(1, 3), states=2, gates=4):
    """Long short-term memory; gates in the order input, forget, output, new value.
    Parameters: Wx, b, (static), Wh.

    c = cont sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c).
    """

    def step(self, now: Tensor, go: Tensor, states: list[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        c, h = unit(now + F.linear(go * states[0], params[0]), go, states[1])
        return [h, c]


class LSTMUnit(Operation, type="LSTMUnit", family="recurrent", bottoms=3, tops=2, undifferentiable={2}):
    """One step of LSTM: bottoms c 1 x N x D, gate inputs 1 x N x 4D, cont 1 x N; tops c and h, 1 x N x D."""

    def infer(self, *shapes: Shape) -> list[Shape]:
        c, gates, cont = shapes
        if len(c) != 3 or c[0] != 1 or gates != (*c[:2], 4 * c[2]) or cont != c[:2]:
            raise self.error(f"takes 1 x N x D, 1 x N x 4D and 1 x N, found {list(c)}, {list(gates)} "
                             f"and {list(cont)}")
        return [c, c]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        c, gates, cont = bottoms
        return unit(gates, cont.unsqueeze(-1), c)


def unit(gates: Tensor, go: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, o, g = gates.chunk(4, -1)
    c = go * torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)
