"""The `doctor` command: what stands in the way of this installation, a net, a solver, weights or a script, and what to do."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import __version__
from ..base.errors import Error, closest, listed
from ..base.files import find
from ..base.machine import amount, choose, cores, room
from ..data.layouts import ILSVRC
from ..look import costs
from ..net import weights
from ..net.build import standing
from ..net.deploy import deploy
from ..net.graph import Graph
from ..net.module import Net
from ..ops import REGISTRY
from ..proto import text as prototext
from ..proto.caffe_pb2 import TRAIN, NetParameter, V1LayerParameter
from ..proto.model import Blobs, read_weights
from ..proto.wire import WireFile, is_hdf5
from ..pycaffe import script as runs
from ..score import predict
from ..train import jobs, preflight, updates
from .batch import NOTE, OK, PROBLEM, Finding, Flow, draw, examine

EXTRAS = {"h5py": "hdf5", "lmdb": "lmdb", "safetensors": "safetensors", "onnx": "onnx", "onnxruntime": "onnx"}


def environment() -> list[Finding]:
    """Versions, optional libraries, devices, and what `import caffe` gives."""
    version, cpu = importlib.metadata.version, torch.device("cpu")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "protobuf", "pillow", "scipy"))
    place = Path(__file__).parents[1]
    found = [Finding(OK, "netspec", f"{__version__} in {place}; Python {platform.python_version()}, {libraries}"),
             *(Finding(OK, name, version(name)) if importlib.util.find_spec(name) else
               Finding(NOTE, name, "not installed", f"where it is needed: pip install netspec[{extra}]")
               for name, extra in EXTRAS.items()),
             Finding(OK, "cpu", f"{cores()} cores, {torch.get_num_threads()} threads, {amount(room(cpu))}")]
    found += [Finding(OK, f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {amount(room(torch.device('cuda', i)))}")
              for i in range(torch.cuda.device_count())]
    if not torch.cuda.is_available():
        found.append(Finding(NOTE, "cuda", "no GPU that this torch can use: nets run on the CPU",
                             "" if torch.version.cuda else "if there is one, install a torch that is built for CUDA"))
    caffe = importlib.util.find_spec("caffe")
    try:
        with runs.standing_in():
            instead = "takes netspec for it"
    except Error as e:
        instead = f"says: {e}"
    place = (caffe.origin or ", ".join(caffe.submodule_search_locations or ())) if caffe else "no module: none is installed"
    return [*found, Finding(OK, "import caffe", f"gives {place}; 'python -m netspec.run SCRIPT' {instead}")]


def types(layers: Sequence[Any], where: str) -> list[Finding]:
    """The layers whose types are not known, and those that only a fork of Caffe knows."""
    found = [Finding(PROBLEM, x.name, f"type '{x.type}' is not known{closest(x.type, REGISTRY)}",
                     f"mend it in {where} ('netspec layers' lists all), or give it as a layer in Python")
             for x in layers if x.type not in REGISTRY]
    forks = Counter(x.type for x in layers if x.type in REGISTRY and x.type not in prototext.CAFFE)
    return found + [Finding(NOTE, where, f"{kind} ({n}) is of a fork: BVLC Caffe refuses this net") for kind, n in forks.items()]


def picture(name: str) -> torch.Tensor:
    """An image file as `infer` feeds it, less ILSVRC's mean; or an array (C, H, W) or (N, C, H, W) in .npy, as it is."""
    path = find(name, what="image")
    if path.suffix != ".npy":
        return predict.blob(predict.picture(path), ILSVRC)
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as e:
        raise Error(f"{path}: cannot be read as an array ({e})") from None
    if array.ndim not in (3, 4) or array.shape[-1] == 3 != array.shape[-3]:
        raise Error(f"{path}: has shape {list(array.shape)}, expected (N x) C x H x W: .transpose(2, 0, 1) of H x W x C")
    return torch.from_numpy(array.reshape(-1, *array.shape[-3:]).astype(np.float32))


def build(job: jobs.Job, base: Path, size: tuple[int, int] | None, level: str) -> tuple[Graph | None, bool, list[Finding]]:
    """The graph of a net; whether its own data feed it (no: size is given, or they cannot be read, which is of `level`)."""
    path = find(job.net, base, "net") if isinstance(job.net, str) else None
    net, where = (prototext.read_net(path), str(path)) if path else (job.net, job.field)
    net.state.MergeFrom(job.state)
    found = types(standing(net, job.phase), where)
    if any(f.level == PROBLEM for f in found):
        return None, False, found
    made, lost = None, []
    if not size:
        try:
            made = job.graph(base)
        except (Error, OSError) as e:
            lost = [Finding(level, where, f"its data cannot be read: {e}; random images and labels take their place",
                            "get the data ('netspec data'), or mend the path")]
    real = made is not None
    try:
        made = made or deploy(net, job.phase, size, losses=True, path=path)
    except Error as e:
        return None, False, [*found, Finding(PROBLEM, where, str(e), "mend the layer that is named")]
    said = f"{len(made.nodes)} layers in {'TRAIN' if job.phase == TRAIN else 'TEST'}" + (
        "" if any(any(n.loss_weights) for n in made.nodes) else "; no loss, so no gradients to look at")
    return made, real, [*found, *lost, Finding(OK, where, said)]


def nets(work: Sequence[jobs.Job], base: Path, param: Any, args: argparse.Namespace) -> tuple[list[Finding], list[Flow]]:
    """The nets of `work`, the first of them with its weights and on a batch. param: SolverParameter, None without."""
    image = picture(args.image) if args.image else None
    size = args.size if image is None else tuple(image.shape[2:])
    built = [build(job, base, size, PROBLEM if param else NOTE) for job in work]
    found = [each for *_, more in built for each in more]
    made = [(one, real) for one, real, _ in built if one]
    if len(made) < len(built):
        return found, []
    first = made[0][0]
    net, read = Net(first, generator=torch.Generator().manual_seed(0)), {}
    names = ",".join([args.weights] if args.weights else param.weights if param else []).split(",")
    for name in filter(None, names):
        try:
            more, blobs = weights_file(find(name, base, "weights"))
        except Error as e:
            more, blobs = [Finding(PROBLEM, "weights", str(e), "get them, train the stage before, or give --weights")], {}
        found += more
        read |= blobs
    more, complete = fill(net, read, ", ".join(names))
    found += more if read else []
    flow: list[Flow] = []
    trunk = classifier({name: blobs[0].shape for name, blobs in net.layers_with_params().items()})
    for one, real in made:
        try:
            if real:
                preflight.check_first_batch(Net(one, share=net), [0] * len(one.sources))
            if one is not first:
                preflight.check_apart(first, one)
                continue
            batch = draw(first, {blob: image for blob in first.inputs[:1] if image is not None})
        except (Error, OSError) as e:
            found.append(Finding(PROBLEM, "data", str(e), "mend the data ('netspec data check' looks at all of them)"))
        else:
            more, flow = examine(net.to(choose(args.device)), batch, complete, trunk)
            found += more
    found += _solver(param, first) if param else []
    return [*found, memory(first, net.device, updates.RULES[param.type][1] if param else 1)], flow


def _solver(param: Any, made: Graph) -> list[Finding]:
    """The rate and the snapshots of a solver."""
    folder = Path(param.snapshot_prefix).absolute().parent
    folder = next(place for place in (folder, *folder.parents) if place.exists())
    can = folder.is_dir() and os.access(folder, os.W_OK)
    return [*(Finding(PROBLEM, "base_lr", text, "change base_lr, or normalize in the layer")
              for text in preflight.rate_doubts(made, param)),
            Finding(OK, "snapshot_prefix", f"{param.snapshot_prefix} can be written") if can else
            Finding(PROBLEM, "snapshot_prefix", f"snapshots cannot be written to {folder}", "change it")]


def memory(made: Graph, device: torch.device, kinds: int) -> Finding:
    """The bytes that a graph takes, by costs.totals; kinds: blobs of history a parameter."""
    total, has = costs.totals(made), room(device)
    own = costs.BYTES * total["parameters"]
    running, training = own + total["forward"], (2 + kinds) * own + total["training"]
    size = " x ".join(map(str, made.shape(made.inputs[0]))) if made.inputs else "the data's size"
    return Finding(OK if training < has else NOTE if running < has else PROBLEM, f"memory at {size}",
                   f"{amount(running)} to run it, {amount(training)} to train it (parameters, gradients, history, all blobs and "
                   f"theirs); {device} has {amount(has)}", "" if training < has else "take smaller images or batches")


# classifier, a layer that tells it from those further down, the shape of its weight
KNOWN = (("VGG19", "conv3_4", (256, 256, 3, 3)), ("VGG16", "conv3_3", (256, 256, 3, 3)),
         ("ResNet-152", "res4b35_branch2a", (256, 1024, 1, 1)), ("ResNet-101", "res4b22_branch2a", (256, 1024, 1, 1)),
         ("ResNet-50", "res4f_branch2a", (256, 1024, 1, 1)), ("GoogLeNet", "inception_3a/1x1", (64, 192, 1, 1)),
         ("AlexNet or CaffeNet", "conv2", (256, 48, 5, 5)))


def classifier(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The classifier that layers of these names, and of these shapes of weights, belong to."""
    return next((name for name, layer, shape in KNOWN if tuple(shapes.get(layer, ())) == shape), None)


def weights_file(path: Path) -> tuple[list[Finding], dict[str, Blobs]]:
    """What is in a file of weights, and its blobs by layer."""
    read = {name: blobs for name, blobs in read_weights(path).items() if blobs}
    own = {name: [blob for blob in blobs if blob is not None] for name, blobs in read.items()}
    blobs = [blob for each in own.values() for blob in each]
    known = classifier({name: each[0].shape for name, each in own.items() if each})
    found = [Finding(OK, str(path), f"{_generation(path)}, {len(read)} layers, {sum(b.size for b in blobs):,} numbers, "
                     + " and ".join(sorted({str(b.dtype) for b in blobs})) + (f"; the layers of {known}" if known else ""))]
    for level, what, do, bad in (
            (PROBLEM, "NaN or Inf", "take an earlier snapshot: the run had diverged", lambda b: not np.isfinite(b).all()),
            (NOTE, "weights all zero", "right in a score layer yet to be trained; else its training never reached it",
             lambda b: b.squeeze().ndim > 1 and not b.any())):
        if names := [name for name, each in own.items() if any(map(bad, each))]:
            found.append(Finding(level, str(path), f"{what} in {listed(names)}", do))
    return found, read


def _generation(path: Path) -> str:
    """HDF5, or which of the three forms of a .caffemodel."""
    if is_hdf5(path):
        return "HDF5"
    file = WireFile(path, "weights")
    old = next((part for part in file.fields() if part.number == NetParameter.LAYERS_FIELD_NUMBER), None)
    if old is None:
        return "V2"
    return "V0" if any(f.number == V1LayerParameter.LAYER_FIELD_NUMBER for f in file.fields(old.start, old.end)) else "V1"


def fill(net: Net, read: Mapping[str, Sequence[Any]], where: str) -> tuple[list[Finding], bool]:
    """Copy the weights that fit into a net; what fits and what does not, and whether all layers have theirs.

    Upsampling without filler is made bilinear where the weights lack it, as `solve` does.
    """
    target, fits, found = net.layers_with_params(), dict(read), []
    try:
        done = weights.ready(net, fits)
    except Error:
        for name in read.keys() & target.keys():
            try:
                weights.copy({name: read[name]}, {name: target[name]})
            except Error as e:
                found.append(Finding(PROBLEM, where, str(e), "or take weights of a net with such a layer"))
                del fits[name]
        done = weights.ready(net, fits)
    for level, what, names in ((OK, "copied", done.copied), (OK, "copied in another shape", done.reshaped),
                               (OK, "made bilinear upsampling", done.bilinear), (NOTE, "in the file only", done.ignored)):
        found += [Finding(level, where, f"{what}: {listed(names)}")] * bool(names)
    for name in [name for name in done.missing if name not in read]:
        near = closest(name, [other for other in done.ignored if done.shapes[other] == done.shapes[name]])
        level = PROBLEM if near or not net.losses else NOTE
        found.append(Finding(level, name, f"not in the weights{near or ': left at its filler'}",
                             "rename the layer: weights go by layer names" if near else
                             "nothing, if it is to be trained; else take weights that have it"))
    return found, not done.missing
