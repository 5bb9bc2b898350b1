"""Alternating training: the regions that a stage proposes, which the next stage's detector learns from."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ..base.errors import Error
from ..base.files import find
from ..base.log import Log
from ..base.machine import choose
from ..data import proposals
from ..data.detection import DetectionData
from ..data.get import digest
from ..data.proposals import Proposals
from ..net import weights
from ..net.build import load
from ..net.module import Net
from ..proto.caffe_pb2 import TEST, SolverParameter
from . import jobs, snapshot


def wanted(param: SolverParameter, path: Path) -> DetectionData | None:
    """The data layer of a solver's train net that reads what another net, which it names, proposed; None if
    none does. path: the solver's file."""
    base = path.resolve().parent
    readers = jobs.jobs(param, str(path))[0].graph(base).readers
    return next((each for each in readers if isinstance(each, DetectionData) and each.proposer), None)


def ended(stage: tuple[Path, SolverParameter]) -> tuple[str, str]:
    """The last part of a stage's snapshot_prefix, and the weights that it ends with."""
    prefix = snapshot.prefixed(stage[1], stage[0], "")
    return Path(prefix).name, str(snapshot.at(prefix, stage[1].max_iter).weights)


def begins(param: SolverParameter, done: Mapping[str, str], given: str | None) -> list[str] | None:
    """The weights that such a stage begins with: not those of the net that proposed, but those that it names.

    done: the last weights of the stages before, by their snapshot_prefix; given: weights to start from, where
    the solver names none of theirs. None: from fillers.
    """
    named = jobs.weights_names(param.weights)
    own = [done.get(snapshot.prefix_of(name), name) for name in named]
    return [given] if given and own == named else own or None


def make(reader: DetectionData, file: str | os.PathLike, device: str, precision: str, said: Log) -> None:
    """Write the proposals that `reader` reads, by its net and the weights in `file`, unless they are there.

    They are those of its images as they are listed, none mirrored, and bound to the images with their boxes
    and to the weights. Raises Error for weights that are not there, and a net without the blob rois.
    """
    place = Path(reader.place)
    if not Path(file).is_file():
        raise Error(f"the weights {file} are not there, by which '{reader.proposer}' makes the proposals "
                    f"{place}; begin with the stage that they are of")
    mark = digest(Path(file))
    if place.exists():
        known = proposals.read(place)
        if (known.dataset, known.weights) == (reader.mark, mark):
            said("netspec", f"the proposals {place} are there")
            return
    made = load(find(reader.proposer, reader.context.base, "net"), TEST)
    made.check_blobs(["rois"])
    net = Net(made)
    weights.load(file, net.layers_with_params())
    net.precision = torch.bfloat16 if precision == "bf16" else None
    net, source = net.to(choose(device, precision)).eval(), reader.listed()
    found: list[np.ndarray] = []
    with torch.no_grad():
        for position in range(len(source)):
            data, info, _ = (torch.from_numpy(blob).to(device) for blob in source.load(position))
            regions = net({"data": data, "im_info": info}, want=["rois"])["rois"]
            found.append((regions[:, 1:5] / info[0, 2]).cpu().numpy())
            said.progress(f"{made.name} proposes", position + 1, len(source), "", 1)
    proposals.write(place, Proposals(reader.mark, mark, list(source.names), found))
    said("netspec", f"wrote {sum(map(len, found))} proposals for {len(found)} images: {place}")


def check_join(stages: Sequence[tuple[Path, SolverParameter]]) -> None:
    """Error, ahead of the training, where `join` could not put the weights of the last two stages into the
    test net of the last: a layer is of another shape there."""
    path, param = stages[-1]
    tests = jobs.jobs(param, str(path))[1]
    if len(stages) < 2 or not tests or not wanted(param, path):
        return
    net = tests[0].graph(path.resolve().parent)
    shapes = {(slot.layer, slot.index): slot.shape for slot in net.params}
    for file, each in stages[-2:]:
        for slot in jobs.jobs(each, str(file))[0].graph(file.resolve().parent).params:
            shape = shapes.get((slot.layer, slot.index), slot.shape)
            if shape != slot.shape:
                raise Error(f"{path}: layer '{slot.layer}' has parameters {list(shape)} in the test net and "
                            f"{list(slot.shape)} in what {file} trains, so the weights of both stages "
                            "would not fit it; name a test net that has the layers of both")


def join(param: SolverParameter, path: Path, proposer: str, detector: str) -> Path | None:
    """Write the weights of both into PREFIX_joined.caffemodel, for the first test net of the solver.

    path: its file. None, and nothing written, where there is no test net or a layer of both differs.
    """
    tests = jobs.jobs(param, str(path))[1]
    if not tests:
        return None
    net = Net(tests[0].graph(path.resolve().parent))
    layers = net.layers_with_params()
    first = weights.load(proposer, layers)
    shared = {name: [blob.detach().clone() for blob in layers[name]] for name in first.copied}
    second = weights.load(detector, layers)
    for name in set(second.copied) & shared.keys():
        if not all(map(torch.equal, layers[name], shared[name])):
            return None
    if missing := layers.keys() - {*first.copied, *second.copied}:
        raise Error(f"{path}: {proposer} and {detector} both lack '{min(missing)}' of the test net")
    made = Path(f"{snapshot.prefixed(param, path, net.graph.name)}_joined.caffemodel")
    weights.save(made, net)
    return made
