"""A net's predictions in words, and how they differ from the rows of Figure 3."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from ..net.coords import distinct
from .streams import Number, Prediction

FIGURE3: dict[Number, dict[str, tuple[Number, ...]]] = {
    # stride of the sum and factor of the last upsampling -> source: upsamplings before the sum
    32: {"conv7": ()},
    16: {"conv7": (2,), "pool4": ()},
    8: {"conv7": (2, 2), "pool4": (2,), "pool3": ()},
}


def deviations(p: Prediction, row: Number | None = None) -> list[str]:
    """Sentences on how a prediction differs from the figure's row (32, 16, 8; None: by its stride)."""
    strides = [Fraction(s.stride) / s.factor for s in p.streams]
    own = (p.stride, p.factor) if len(set(strides)) == 1 else (p.factor, p.stride)
    row = row or next((number for number in own if number in FIGURE3), None)
    if row is None or row not in FIGURE3:
        return [f"the sum has stride {p.stride} and is upsampled x{p.factor}; "
                "the figure has nets of 32, 16 and 8"]
    missing = [f"{role} {times(steps)} is missing" for role, steps in FIGURE3[row].items()
               if all(s.role != role for s in p.streams)]
    told = [f"'{s.source}' (stride {s.stride}) {said}"
            for i, s in enumerate(p.streams) for said in _stream(p, i, row, strides[i])]
    return [*missing, *told, *_sum(p, row)]


def _stream(p: Prediction, number: int, row: Number, stride: Fraction) -> Iterator[str]:
    """What is wrong with a stream; stride: where it is summed."""
    s, figure = p.streams[number], FIGURE3[row]
    steps = figure.get(s.role, s.steps)
    if not s.role:
        yield "has no place in the figure: no pooling that halves the grid, and not the end of the trunk"
    elif s.role not in figure:
        yield f"is the figure's {s.role}; FCN-{row}s sums {' + '.join(figure)}"
    if s.steps != steps:
        yield f"is upsampled {times(s.steps)} before the sum; FCN-{row}s has {s.role} {times(steps)}"
    if any((s.role, s.image) == (other.role, other.image) for other in p.streams[:number]):
        yield "is one more stream from that place"
    if s.kernel != 1:
        scored = f"'{s.score}', a convolution of kernel_size {s.kernel}" if s.score else "no convolution"
        yield f"is scored by {scored}; the figure scores by 1x1 convolutions"
    if stride != p.stride:
        yield f"has stride {stride} where it is summed, the sum has {p.stride}"


def _sum(p: Prediction, row: Number) -> Iterator[str]:
    """What is wrong with all streams together and with what follows."""
    if len({s.classes for s in p.streams}) > 1:
        yield f"the streams have {distinct(s.classes for s in p.streams)} classes"
    if len({s.weight for s in p.streams}) > 1:
        weights = distinct(f"{s.weight:g}" for s in p.streams)
        yield f"the streams are summed {weights} times; in the figure they weigh the same"
    if p.factor != row:
        yield f"the last upsampling is x{p.factor}; FCN-{row}s has x{row}"
    if not p.covers:
        yield f"'{p.blob}' is cut to '{p.fits[-1].reference}', which is not the image"
    crops = [fit for s in p.streams for fit in s.fits]
    fits = p.sums if all(fit.aligned for fit in crops) else crops  # what is cut wrongly is summed wrongly
    yield from (str(fit) for fit in dict.fromkeys((*fits, *p.fits)) if not fit.aligned)


def times(steps: Sequence[Number]) -> str:
    """'x4 (2 x 2)'."""
    return f"x{math.prod(steps)}" + (f" ({' x '.join(map(str, steps))})" if len(steps) > 1 else "")


def in_words(p: Prediction) -> list[str]:
    """A prediction in lines."""
    lines = [f"'{p.blob}' is the sum of"]
    for s in p.streams:
        weight = "" if s.weight == 1 else f"{s.weight:g} times "
        scaled = "".join(f", scaled by '{name}'" for name in s.scales)
        scored = f"'{s.score}' makes {s.classes} classes" if s.score else "not scored"
        begin = f"  {s.role or '?':<6} {times(s.steps):<11} {weight}'{s.source}', stride {s.stride}{scaled}"
        lines.append("; ".join([begin, scored, *map(str, s.fits)]))
    return [*lines, f"  with stride {p.stride}, then {times(p.steps)}; {'; '.join(map(str, p.fits))}"]
