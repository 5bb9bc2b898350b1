"""What can be known to be wrong before the first step, and the one-screen summary of what is about to run."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..base.errors import Error, count, listed
from ..base.files import staging, sweep
from ..data.balance import pixel_counts, unseen
from ..data.images import check_labels
from ..data.listed import Listed
from ..data.pictured import Pictured, shared
from ..data.segmentation import SegmentationData
from ..net import weights
from ..net.graph import Graph, Node, Value
from ..net.module import Net
from ..ops.loss import InfogainLoss
from ..ops.softmax import MODES, SoftmaxWithLoss, ignored_label
from ..ops.source import Source
from ..proto.caffe_pb2 import SolverParameter
from ..proto.model import Layers, read_weights, write_weights
from ..proto.wire import MOST_NUMBERS
from .alike import check_shared
from .snapshot import at
from .solver import Solver

# base_lr / (1 - momentum), of the gradient of a mean over pixels: the papers' recipes lie in 1e-7 to 1e-2
LEAST_RATE, MOST_RATE = 5e-8, 1.0
Judge = SoftmaxWithLoss | InfogainLoss  # a loss that holds scores of classes against labels


def check_run(solver: Solver, interpolated: Sequence[str] = ()) -> None:
    """Say what is about to run, refuse what cannot work, and keep an eye on what follows.

    interpolated: layers that were made bilinear upsampling.
    """
    for text in summary(solver.net, solver.loaded, interpolated, solver.skipped):
        solver.log("netspec", text)
    train = solver.net.graph
    if stuck := stuck_layers(solver.net):  # no weights were loaded, and the prototxt gives no filler
        raise Error(f"net '{train.name}': the weights of {listed(stuck, 8)} are all zero, and so is what "
                    "they read or what comes back to them: they would never learn; load weights (weights: in "
                    "the solver, or --weights), or give the layers a weight_filler")
    for text in (*without_loss(solver.net), *rate_doubts(train, solver.param)):
        solver.log("netspec", text, "W")
    if not solver.ranks.rank:
        check_snapshots(solver)
    for test in solver.test_nets:
        for text in check_apart(train, test.graph):
            solver.log("netspec", text, "W")
    check_files(solver)
    for text in itertools.chain.from_iterable(source.remarks() for source in train.readers):
        solver.log("netspec", text, "W")
    for text in unseen_classes(train, skip=solver.skips.most > 0):
        solver.log("netspec", text, "W")
    for net in (solver.net, *solver.test_nets):
        check_first_batch(net, solver.positions(net), skip=solver.skips.most > 0)
    check_shared(solver)
    solver.callbacks.append(watch_plateau(solver.net, lambda text: solver.log("netspec", text, "W")))


def check_snapshots(solver: Solver) -> None:
    """Error where snapshots could not be written, or not be read again; what killed runs left is removed.

    It is tried with blobs of one number each, under the longest name that there will be.
    """
    prefix, hdf5 = Path(solver.prefix()), solver.param.snapshot_format == SolverParameter.HDF5
    params = solver.net.layers_with_params()
    if not hdf5 and sum(param.nbytes for each in params.values() for param in each) > MOST_NUMBERS:
        raise solver.error("the net has more than the 2 GiB of parameters that a binary file can have; add "
                           "snapshot_format: HDF5")
    hollow = {name: (settings, [np.zeros((1,) * param.ndim, np.float32) for param in params.get(name, ())])
              for name, (settings, _) in weights.layers_of(solver.net).items()}
    try:
        with staging(at(prefix, solver.param.max_iter, hdf5=True).state) as scratch:
            lost = _lost(scratch / "trial", solver.net.graph.name, hollow, hdf5)
    except (Error, OSError) as e:
        raise solver.error(f"snapshots cannot be written to {prefix.parent} ({getattr(e, 'strerror', e)}); "
                           "change snapshot_prefix") from None
    if lost:
        raise solver.error(f"{'HDF5' if hdf5 else 'a binary file'} does not hold the layers "
                           f"{listed(map(repr, lost))} so that they can be read again: give them other names")
    sweep(prefix, r"_(iter_\d+|best)\.\w+(\.h5)?")


def _lost(path: Path, net_name: str, layers: Layers, hdf5: bool) -> list[str]:
    """The layers that are not in a file of weights once it is written; of one that cannot be written, those
    with names of several parts, in which HDF5 sees folders, if there are any."""
    try:
        write_weights(path, net_name, layers, hdf5)
        found = read_weights(path)
    except (Error, ValueError, TypeError, RuntimeError, LookupError):
        return [name for name in layers if "/" in name or not name.strip(".")] or [*layers]
    return [name for name, (_, blobs) in layers.items() if len(found.get(name, ())) != len(blobs) > 0]


def check_files(solver: Solver) -> None:
    """Error if files that the nets read are not there; a warning where bad batches are to be left out."""
    for source in {op: None for net in (solver.net, *solver.test_nets) for op in net.graph.readers}:
        try:
            source.check_files()
        except Error as error:
            if not solver.skips.most:
                raise
            solver.log("netspec", str(error), "W")


def summary(net: Net, loaded: Mapping[str, str], interpolated: Sequence[str] = (),
            skipped: Sequence[str] = ()) -> list[str]:
    """The lines of one screen about a net: what it is, and for its layers with parameters where they stand.

    loaded: layer -> how it came from the weights file ('copied', 'reshaped'). skipped: layers of the file
    that the net does not have.
    """
    slots = net.parameters_by_slot()
    total = sum(p.numel() for _, p in slots)
    frozen = [s.layer for s, p in slots if not p.requires_grad and s.index == 0]
    layers = list(net.layers_with_params())
    filled = [layer for layer in layers if layer not in loaded and layer not in interpolated]
    lines = [f"{net.graph.name}: {count(len(net.graph.nodes), 'layer')}, {len(layers)} with parameters, "
             f"{total:,} parameters ({sum(p.numel() for _, p in slots if p.requires_grad):,} learned)"]
    for word, names in (("loaded", [k for k, v in loaded.items() if v == "copied"]),
                        ("loaded, reshaped", [k for k, v in loaded.items() if v == "reshaped"]),
                        ("skipped, not in the net", skipped),
                        ("bilinear upsampling", interpolated), ("left at their filler", filled),
                        ("frozen (lr_mult 0)", frozen)):
        if names:
            lines.append(f"  {word}: {listed(names, 8)}")
    return lines


def stuck_layers(net: Net) -> list[str]:
    """The layers whose zero weights get a zero gradient, now and for ever: they keep each other so.

    The gradient of a weight is what the layer reads times what comes back. A layer of zeros lets nothing come
    back, and only its bias through. Whatever has both learns, which may free others.
    """
    zero = {n for n in net.graph.nodes if n.params and net.parameter(n.params[0]).ndim > 1
            and not net.parameter(n.params[0]).any()}
    biased = {n for n in net.graph.nodes if any(net.parameter(slot).any() for slot in n.params[1:])}
    learned = {n for n in zero if net.parameter(n.params[0]).requires_grad}
    learned &= net.graph.under_loss()
    while True:
        live = _live(net.graph, zero, biased)
        free = {n for n in learned & zero & net.graph.under_loss(zero, live) if live & set(n.bottoms)}
        if not free:
            return [n.name for n in net.graph.nodes if n in learned & zero]
        zero -= free


def _live(graph: Graph, zero: set[Node], biased: set[Node]) -> set[Value]:
    """The values that are not all zero, as far as layers of zeros can make them so."""
    live = {top for node in graph.sources for top in node.tops}
    for node in graph.nodes:
        # not sizes and labels
        read = [b for i, b in enumerate(node.bottoms) if i not in node.op.undifferentiable]
        if node in biased or node not in zero and (live & set(read) or not read):
            live |= set(node.tops)
    return live


def check_apart(train: Graph, test: Graph) -> list[str]:
    """Error where images of a TEST net are trained on; a sentence where it reads the same list or database.

    Caffe's own sources have no word for that it is meant.
    """
    seen, held = ([op for op in graph.readers if isinstance(op, Pictured)] for graph in (train, test))
    for a, b in itertools.product(seen, held):
        if told := shared(a, b):
            raise b.error(told)
    lists = {op.source.resolve() for op in train.readers if isinstance(op, Listed)}
    return [f"layer '{op.layer.name}' of the test net reads what is trained on, {op.source}: scores on it "
            "mean little" for op in test.readers if isinstance(op, Listed) and op.source.resolve() in lists]


def losses_of(graph: Graph) -> list[tuple[Node, Judge]]:
    """The layers of a net that hold scores of classes against labels."""
    return [(node, node.op) for node in graph.nodes if isinstance(node.op, Judge)]


def without_loss(net: Net) -> list[str]:
    """A sentence about a net that learns nothing."""
    said = f"net '{net.graph.name}' has no loss: weight_decay alone changes its weights"
    return [] if net.losses else [said]


def rate_doubts(graph: Graph, param: SolverParameter) -> list[str]:
    """A sentence for each loss over pixels that cannot be trained at the solver's rate.

    That is a mean at a rate that was chosen for a sum, or a sum at one for a mean. The paper has 1e-4 and a
    mean, the release 1e-10 and a sum.
    """
    if param.type not in ("SGD", "Nesterov"):
        return []
    found = []
    once = param.base_lr / max(1 - param.momentum, 1e-9)  # a step, over the iterations that momentum keeps it
    rate = f"base_lr {param.base_lr:g} and momentum {param.momentum:g}"
    for node, op in losses_of(graph):
        scores = graph.shapes[node.bottoms[0]]
        pixels = math.prod(scores) // (scores[0] * scores[op.channel])
        summed = op.mode in (MODES.BATCH_SIZE, MODES.NONE)
        times = once * pixels
        if pixels == 1:
            continue
        if not summed and 0 < once < LEAST_RATE:
            found.append(
                f"layer '{node.name}' is a mean over pixels, and {rate} make a step of {once:.1g} times its "
                "gradient: it would learn nothing. Such rates are for a sum (normalize: false), here of "
                f"{pixels:,} pixels, which makes it {times:.1g}; for a mean take a rate like 1e-4")
        if summed and times > MOST_RATE:
            found.append(
                f"layer '{node.name}' is a sum over {pixels:,} pixels, and {rate} make a step of {once:.1g} "
                f"x {pixels:,} = {times:.1g} times the mean's gradient: it would diverge. Such rates are for "
                "a mean (normalize: true); for a sum take a rate like 1e-10")
    return found


def unseen_classes(graph: Graph, most: int = 200, skip: bool = False) -> list[str]:
    """A sentence for each class that the first labels of images of one's own never show.

    Raises Error where those are all labels that there are: the class cannot be learned. most: labels that are
    read, until all classes were seen. skip: those that cannot be read are let by.
    """
    told = []
    for source in (op for op in graph.readers if isinstance(op, SegmentationData) and not op.layout.facts):
        for top in source.labels:
            seen: Counter[int] = Counter()
            for entry in source.entries[:most]:
                with suppress(*(Error, OSError) if skip else ()):
                    seen.update(pixel_counts(entry[0].read(top, *entry[1:], 1.0)))
                if not (found := unseen(seen, source, top)):
                    break
            if not seen:  # none could be read, which is told of each
                continue
            if found and len(source) <= most:
                raise source.error(found[0])
            told += [f"of the first {most} of {len(source)} labels: {text}" for text in found]
    return told


def check_first_batch(net: Net, positions: Sequence[int], skip: bool = False) -> None:
    """Error if the labels of the first batch cannot be classes of the net's loss; names the file.

    skip: a batch that cannot be read is let by; the run will go past it.
    """
    for node, position in zip(net.graph.sources, positions, strict=True):
        losses = [(loss, op) for loss, op in losses_of(net.graph) if loss.bottoms[1] in node.tops]
        source = node.op
        if not losses or not isinstance(source, Source) or source.fed:
            continue
        try:
            batch = source.load(position)
        except (Error, OSError):
            if not skip:
                raise
            continue
        for loss, op in losses:
            classes = net.graph.shapes[loss.bottoms[0]][op.channel]
            label = np.asarray(batch[node.tops.index(loss.bottoms[1])])
            wrong = check_labels(label, classes, ignored_label(op.layer.loss_param))
            if wrong:
                cure = source.meant(label) if isinstance(source, SegmentationData) else ""
                raise Error(f"{source.describe(position)}: {wrong}{cure}")


def watch_plateau(net: Net, warn: Callable[[str], None],
                  iterations: int = 100) -> Callable[[Solver, float], None]:
    """A solver callback that warns, once, when the mean loss of the first `iterations` is ln(classes) still.

    That is the loss of a net that gives every class the same score: it has not begun to learn. Nets with
    other losses beside are not watched.
    """
    seen: list[float] = []
    losses = [(node, op) for node, op in losses_of(net.graph) if isinstance(op, SoftmaxWithLoss)]
    if len(losses) != 1 or len(net.losses) != 1 or not losses[0][1].per_position:
        return lambda solver, loss: None
    node, op = losses[0]
    classes = net.graph.shapes[node.bottoms[0]][op.channel]
    chance = math.log(classes) * node.loss_weights[0]

    def watch(solver: Solver, loss: float) -> None:
        if len(seen) < iterations:
            seen.append(loss)
            mean = sum(seen) / len(seen)
            if len(seen) == iterations and abs(mean - chance) < 0.01 * abs(chance):
                warn(f"after {iterations} iterations the loss is still {mean:.4g}, which is ln({classes} "
                     "classes): the net gives all classes the same score; are weights loaded, the rate high "
                     "enough, the layers not frozen?")

    return watch
