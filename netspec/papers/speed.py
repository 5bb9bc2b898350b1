"""How long forward passes and training steps take beside other programs that do the same, in one run."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.errors import Error, count, one_line
from ..base.machine import origin, settle
from ..base.table import table
from ..convert.agree import TOLERANCE, filled, fixed_axes, own_size, shapes_for
from ..net.build import build
from ..net.deploy import deploy
from ..net.graph import Graph
from ..net.module import Net
from ..net.plan import Plan
from ..net.weights import ready
from ..ops.conv import Deconvolution
from .contenders import Contender, check_precisions, contenders, installed, settled, told_of_tf32
from .measure import load_average, ratios, rounds, spread
from .profiled import spent_on
from .work import Work, of_card, of_pass

SIZE = (375, 500)  # of most of VOC's images
# of the largest score: with more, a program does something else. Chosen for tf32, not measured: TF32 keeps
# 11 bits where bf16 keeps 8, so that its error is an eighth or so
BOUNDS = {"fp32": TOLERANCE, "tf32": 0.02, "bf16": 0.1}
MEANING = "the largest difference to netspec as it is in fp32, as a share of the largest output"


def where(device: torch.device) -> str:
    """What figures need to be believed: this machine, versions, threads, load, date and command."""
    engines = ", ".join(f"{name} {version}" for name, version in installed().items())
    facts = {**origin(device), "engines": engines or "none is installed",
             "load average before": load_average()}
    return "\n".join(f"{key}: {value}" for key, value in facts.items())


def at_size(path: Path, size: tuple[int, int] | None, batch: int = 1) -> Graph:
    """The graph of a net for a batch of images of a size; None: of SIZE, or its own where it takes no other.

    Raises Error for a size that it does not take.
    """
    graph = deploy(path)
    fixed, own = fixed_axes(graph), own_size(graph)[1:]
    if size is None:
        size = own if fixed.keys() & {"H", "W"} else SIZE
    elif size != own and fixed.keys() & {"H", "W"}:
        raise Error(f"{path}: takes images of {own[0]}x{own[1]} alone, found {size[0]}x{size[1]}")
    return build(graph.proto, shapes=shapes_for(graph, (batch, *size)), path=path)


def enliven(net: Net) -> None:
    """Weights that keep values in range at any depth: published nets have no fillers, or some that vanish.
    Upsampling is as `ready` leaves it. The same numbers in whatever order weights lie in memory."""
    ready(net)
    draw = torch.Generator(net.device).manual_seed(0)
    with torch.no_grad():
        for node in net.graph.nodes:
            for parameter in map(net.parameter, () if isinstance(node.op, Deconvolution) else node.params):
                if parameter.ndim > 1:
                    made = torch.empty(parameter.shape, dtype=parameter.dtype, device=net.device)
                    parameter.copy_(made.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=draw))


def drawn(graph: Graph) -> tuple[Net, dict[str, Tensor]]:
    """A net as `enliven` makes it, its biases too, and its inputs of noise."""
    net = filled(graph)
    enliven(net)
    draw = torch.Generator().manual_seed(0)
    feed = {blob: torch.randn(graph.shape(blob), generator=draw) for blob in graph.inputs}
    with torch.no_grad():
        last = [node for node in graph.nodes if node.params][-1:]
        for node in graph.nodes:
            if node.type == "Softmax" and last:  # of scores around 1: probabilities of 0 and 1 tell no errors
                wide = net.features(feed, node.bottoms[0].blob).std()
                for slot in last[0].params:
                    net.parameter(slot).div_(wide)
    return net, feed


def time_forward(path: Path, size: tuple[int, int] | None, precisions: Sequence[str], only: Sequence[str],
                 rewrites: bool, repeats: int, device: str = "cpu", batch: int = 1, profile: bool = False
                 ) -> str:
    """Seconds of a net's forward pass in netspec and in all else that is installed, which take turns.

    Weights and input are noise. Every program's outputs are held against netspec's in float32 first, and one
    that differs by more than BOUNDS is left out. Ratios are of one round each, to the fastest engine of that
    precision. only: the words of which the name of a program must have one. rewrites: see `contenders`.
    device: of netspec and plain PyTorch; engines are timed on the CPU alone. profile: see `spent_on`, too.
    Raises Error for a precision that the device does not have.
    """
    check_precisions(precisions, place := torch.device(device))
    net, feed = drawn(at_size(path, size, batch))
    net, feed = net.to(place), {blob: x.to(place) for blob, x in feed.items()}
    left: list[str] = []
    found = _alike(net, feed, contenders(net, feed, precisions, only, rewrites, left), left)
    if not found:
        raise Error(f"{path}: there is nothing to time; {'; '.join(left) or 'no program has such a name'}")
    sizes = ", ".join("x".join(map(str, x.shape)) for x in feed.values())
    head = f"{net.graph.name}, forward, {sizes}, {count(repeats, 'round')} after one to warm up"
    work, spent = of_pass(net.graph), rounds({each: each.call for each in found}, repeats)
    return "\n".join([one_line(head), beside(found, spent, MEANING, work=work),
                      *of_card(place, work, spent), _left(net), *told_of_tf32(place, precisions), *left,
                      *(["", spent_on(found, repeats, place)] if profile else [])])


def _alike(net: Net, feed: Mapping[str, Tensor], given: Iterable[Contender], left: list[str]
           ) -> dict[Contender, str]:
    """Those whose outputs are those of the net in float32, and by how much each differs. left: gets a
    sentence for each other."""
    settle(net.device, "fp32")
    with torch.no_grad():
        ours, found = net(feed), {}
    assert isinstance(ours, Mapping)
    for each in given:
        each = settled(each, net.device)
        apart = distance(ours, each.call())
        if apart <= BOUNDS[each.precision]:
            found[each] = f"{apart:.1e}"
        else:
            left.append(f"{each.name} in {each.precision} is left out: its outputs differ by {apart:.2g} of "
                        "the largest")
    return found


def _left(net: Net) -> str:
    """A line with the share of all multiplications that is left to the net as it is planned."""
    shapes = {blob: net.graph.shape(blob) for blob in net.graph.inputs}
    whole, bordered = (Plan(net, without).left(shapes) for without in (["border"], ()))
    return f"of all multiplications netspec does {bordered:.2f}, and without the border rewrite {whole:.2f}"


def distance(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The largest difference of two programs' outputs, as a share of the largest number of each; infinite
    where they lack one or its shape differs."""
    found = 0.0
    for blob, a in ours.items():
        b = torch.as_tensor(theirs.get(blob, ()), device=a.device).float()
        if a.shape != b.shape:
            return float("inf")
        found = max(found, float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)))
    return found


def beside(found: Mapping[Contender, str], spent: Mapping[Contender, Sequence[float]], meaning: str,
           measure: str = "differs", work: Work | None = None) -> str:
    """The table of what each took, a part for each precision, and what each was told.

    found: a measure of each, by how much it differs unless said otherwise, and `meaning` is what that means.
    work: what each does, for a column with its rate.
    """
    rows, names = [], {}
    for precision in dict.fromkeys(each.precision for each in found):
        here = [each for each in found if each.precision == precision]
        rivals = [each for each in here if each.rival] or here[-1:]
        base = min(rivals, key=lambda each: statistics.median(spent[each]))
        names[precision] = base.name
        rows += [[precision, each.name, *spread(spent[each], 3), *ratios(spent[each], spent[base]),
                  found[each], *([f"{work.rate(spent[each]) / 1e12:.3g}"] if work else [])] for each in here]
    head = ["", "", "median s", "least", "most", "ratio", "least", "most", measure,
            *(["TFLOP/s"] if work else [])]
    told = {each.name + (f" {each.precision}" if each.rival else ""): each.told for each in found}
    return "\n".join([
        table(rows, head),
        f"ratio: to {', '.join(f'{name} in {precision}' for precision, name in names.items())}, of one round "
        f"each; {measure}: {meaning}",
        *([f"TFLOP/s: {work.told}"] if work else []),
        *(f"{name}: {settings}" for name, settings in told.items() if settings)])
