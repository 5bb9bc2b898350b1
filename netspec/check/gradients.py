"""Whether the layer types of one's own do what they say: the shapes of their tops, and gradients."""

import traceback
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd import gradcheck

from ..base.errors import Error, one_line
from ..ops.base import Context, Kind, Shape
from ..ops.fillers import fill
from ..proto.caffe_pb2 import TRAIN, LayerParameter
from ..proto.text import parse
from ..proto.unread import REFUSED, of_forks
from . import NOTE, OK, PROBLEM, Finding

MOST = 1000  # numbers of a bottom or parameter: each takes two passes


def checked(kind: Kind) -> list[Finding]:
    """What is found of a type, in float64, by its `example`: settings, and a shape or a tensor a bottom.

    Tops are to have the shapes that `infer` gives. Gradients, to each bottom that gets one and each
    parameter, are held against finite differences by torch.autograd.gradcheck with its own tolerances.
    """
    if not kind.example:
        return [Finding(NOTE, kind.type, "has no example, so that nothing of it was tried",
                        f'give class {kind.__name__} one, such as example = ("", (2, 3, 4, 5))')]
    try:
        return _tried(kind, *kind.example)
    except Error as e:
        return [Finding(PROBLEM, kind.type, f"its example cannot be tried: {e}")]
    except Exception as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        return [Finding(PROBLEM, kind.type, f"ends by {type(e).__name__}: {one_line(str(e))}",
                        f"see {last.filename}:{last.lineno}")]


def _tried(kind: Kind, text: str, *given: Shape | Tensor) -> list[Finding]:
    draw = torch.Generator().manual_seed(0)
    bottoms = [x.double() if isinstance(x, Tensor) else
               torch.randn(x, dtype=torch.float64, generator=draw) for x in given]
    layer = parse(text, LayerParameter, f"the example of {kind.type}")
    if odd := next(of_forks(layer, REFUSED), None):  # doctor reads what it does not understand
        raise Error(f"the example has no field '{odd[0]}'")
    least = kind.tops if isinstance(kind.tops, int) else kind.tops[0]
    layer.MergeFrom(LayerParameter(name=layer.name or "example", type=kind.type))
    if not layer.bottom:
        layer.bottom.extend(f"bottom{i}" for i in range(len(bottoms)))
    if not layer.top:
        layer.top.extend(f"top{i}" for i in range(least))
    shapes = [tuple(x.shape) for x in bottoms]
    op = kind(layer, shapes, Context(phase=TRAIN))
    said = [list(shape) for shape in op.infer(*shapes)]
    params = [torch.zeros(param.shape, dtype=torch.float64) for param in op.params]
    for param, own in zip(params, op.params, strict=True):
        fill(param, own.filler, draw)  # and a little more: of zeros little would be seen
        param += torch.rand(param.shape, dtype=torch.float64, generator=draw) / 10

    def tops(*given: Tensor) -> Sequence[Tensor]:
        torch.manual_seed(0)  # what draws numbers draws the same
        made = op.forward(given[: len(bottoms)], [*given[len(bottoms) :]])
        return (made,) if isinstance(made, Tensor) else tuple(made)

    inputs = [*bottoms, *params]
    if (largest := max((x.numel() for x in inputs), default=0)) > MOST:
        raise Error(f"a bottom or parameter has {largest} numbers, at most {MOST} are tried; some dozen do")
    found = [list(top.shape) for top in tops(*map(torch.clone, inputs))]
    if found != said:
        return [Finding(PROBLEM, kind.type, f"forward gives {found}, where infer says {said}")]
    learning = {i: f"bottom {i}" for i in range(len(bottoms)) if i not in op.undifferentiable}
    learning |= {len(bottoms) + i: f"parameter {i}" for i in range(len(params))}
    wrong = [name for i, name in learning.items() if not _right(tops, inputs, i)]
    if wrong:
        return [Finding(PROBLEM, kind.type, f"finite differences give another gradient of {', '.join(wrong)}",
                        "mend backward, or what forward hides from torch (detach, NumPy)")]
    right = ", ".join(learning.values()) or "nothing"
    return [Finding(OK, kind.type, f"tops of {said}; finite differences give the gradients of {right}")]


def _right(tops: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], at: int) -> bool:
    """Whether the gradient of each top to one of the inputs is that of finite differences. Top by top: of
    several, gradcheck passes by those without a gradient."""
    def of_one(top: int, x: Tensor) -> Tensor:
        return tops(*(x.clone() if i == at else each.clone() for i, each in enumerate(inputs)))[top]

    x = inputs[at].clone().requires_grad_()
    count = len(tops(*inputs))
    return all(gradcheck(partial(of_one, top), x, raise_exception=False) for top in range(count))
