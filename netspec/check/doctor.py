"""What is wrong with this installation, or with a net alone or those of a solver, and what to do about it."""

import importlib.metadata
import importlib.util
import math
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from google.protobuf.message import Message
from torch import Tensor

from ..base import __version__
from ..base.asked import answered, asked
from ..base.errors import Error, closest, count, lacking
from ..base.machine import amount, cores, device_name, gpu, room
from ..base.standin import standing_in
from ..base.trust import Untrusted
from ..data.layouts import ILSVRC
from ..look import costs
from ..net.build import standing
from ..net.deploy import SIDES, deploy, sized
from ..net.graph import Graph
from ..net.module import Net
from ..net.room import BYTES, SMALLER
from ..ops import REGISTRY
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, SolverParameter
from ..proto.model import Blobs
from ..proto.npy import read_npy
from ..proto.types import CAFFE, TYPES, keywords
from ..proto.unread import NUMBER, PASS, PASSED, REFUSED, of_forks
from ..score import frames, predict
from ..train import jobs, preflight, updates
from . import NOTE, OK, PROBLEM, Finding
from .batch import Flow, draw, examine
from .crops import unaligned
from .quickest import quickest
from .weights import fill, weights_file

EXTRAS = {"h5py": "reading HDF5", "lmdb": "reading a database", "matplotlib": "drawing charts",
          "safetensors": "reading .safetensors", "onnx": "writing ONNX", "onnxruntime": "checking ONNX",
          "openvino": "--engine openvino", "imageio_ffmpeg": "reading video",
          "webdataset": "reading shards"}


def environment() -> list[Finding]:
    """Versions, optional libraries, devices, and what `import caffe` gives."""
    version, place = importlib.metadata.version, Path(__file__).parents[1]
    libraries = [f"{name} {version(name)}" for name in ("torch", "numpy", "protobuf", "pillow", "scipy")]
    found = [Finding(OK, "netspec", f"{__version__} in {place}; Python {platform.python_version()}, "
                     f"{', '.join(libraries)}")]
    for name, what in EXTRAS.items():
        found.append(Finding(OK, name, version(name)) if importlib.util.find_spec(name) else Finding(
            NOTE, name, "not installed", lacking(what, name)))
    devices = {"cpu": f"{count(cores(), 'core')}, {count(torch.get_num_threads(), 'thread')}"}
    devices |= {f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
    devices |= {"mps": device_name("mps")} if torch.backends.mps.is_available() else {}
    found += [Finding(OK, name, f"{what}, {amount(room(torch.device(name)))}")
              for name, what in devices.items()]
    if gpu() is None:
        do = "" if torch.version.cuda else "if there is one, install a torch that is built for CUDA"
        found.append(Finding(NOTE, "cuda", "no GPU that this torch can use: nets run on the CPU", do))
    spec, caffe = importlib.util.find_spec("caffe"), "no module: none is installed"
    if spec:
        caffe = spec.origin or ", ".join(spec.submodule_search_locations or ())
    try:
        with standing_in():
            instead = "takes netspec for it"
    except Error as e:
        instead = f"says: {e}"
    said = f"gives {caffe}; 'python -m netspec.run SCRIPT' {instead}"
    return [*found, Finding(OK, "import caffe", said)]


def nets_of(path: Path) -> tuple[list[jobs.OpenedNet], SolverParameter | None]:
    """The nets of the solver in a file, and the solver; or the net in it, in TRAIN if it has a loss there."""
    found, param = jobs.of_file(path)
    if param:
        updates.check_settings(param)
    opened = [job.opened(path.resolve().parent) for job in found]
    state, own = opened[0].state, asked.phase is not None  # which the command line may state
    if not param and not own and not any(
            any(layer.loss_weight) or layer.type in REGISTRY and REGISTRY[layer.type].loss
            for layer in standing(opened[0].net, TRAIN, state.level, state.stage)):
        opened = [found[0]._replace(phase=TEST).opened()]
    return opened, param


def look_at(nets: Sequence[jobs.OpenedNet], weights: Mapping[str, Path | Error], device: torch.device,
            size: tuple[int, int] | None = None, image: Tensor | None = None,
            param: SolverParameter | None = None) -> tuple[list[Finding], list[Flow]]:
    """Nets that belong together, the first with its weights and on a batch; and the flow of its gradients.

    weights: name -> the file, or why there is none. size: of random images, to take the place of the data;
    image: (N, C, H, W), to feed to the first net. param: the solver whose nets they are.
    """
    if image is not None:
        size = image.shape[2], image.shape[3]
    strangers = strange(param, "the solver") if param else []
    told, read = _read(weights)
    with answered():
        built = [_built(each, size, PROBLEM if param else NOTE, read) for each in nets]
    found = [*strangers, *(each for *_, more in built for each in more)]
    made = [(graph, real) for graph, real, _ in built if graph]
    if len(made) < len(built):
        return found, []
    first = made[0][0]
    known = bool(size) or made[0][1] or sized(first.proto, first.phase)
    memory = _memory(first, device, updates.RULES[param.type][1] if param else 1, known)
    if memory.level == PROBLEM:
        return [*found, memory], []
    net = Net(first, generator=torch.Generator().manual_seed(0))
    more, complete = fill(net, read, ", ".join(weights))
    found += [*unaligned(graph for graph, _ in made), *told, *(more if read else [])]
    more, flow = _tried(net.to(device), made, image, complete)
    found += more
    if weights and complete:
        tests = (graph.proto for graph, _ in made if graph.phase == TEST)
        found += quickest(net, next(tests, None))
    if param:
        rated = first if known else deploy(first.proto, first.phase, losses=True, path=first.path,
                                           sides=SIDES[::-1])  # a rate for a sum is one for as many pixels
        found += [Finding(PROBLEM, "base_lr", text, "change base_lr, or normalize in the layer")
                  for text in preflight.rate_doubts(rated, param)]
        folder = next(place for place in Path(param.snapshot_prefix).absolute().parents if place.exists())
        written = folder.is_dir() and os.access(folder, os.W_OK)
        found.append(Finding(OK, "snapshot_prefix", f"{param.snapshot_prefix} can be written") if written else
                     Finding(PROBLEM, "snapshot_prefix", f"snapshots cannot be written to {folder}",
                             "change it"))
    return [*found, memory], flow


def _built(one: jobs.OpenedNet, size: tuple[int, int] | None, level: str,
           read: Mapping[str, Blobs]) -> tuple[Graph | None, bool, list[Finding]]:
    """The graph of a net; whether its own data feed it: not if there is a size, nor if they cannot be read.

    level: of the finding that they cannot. read: weights, which may tell how large images are.
    """
    one = one._replace(net=deepcopy(one.net))  # which the nets of a solver may share, each in its own state
    net, phase, lost, graph = one.net, one.state.phase, [], None
    net.state.CopyFrom(one.state)
    where = one.where + "".join(f", stage '{stage}'" for stage in one.state.stage)
    layers = standing(net, phase)
    unknown = [x for x in layers if x.type not in REGISTRY]
    found = [Finding(PROBLEM, x.name, f"type '{x.type}' is not known{closest(x.type, REGISTRY)}",
                     f"mend it in {one.where} ('netspec layers' lists all), or give it as a layer in Python")
             for x in unknown]
    forks = Counter(x.type for x in layers if x.type in REGISTRY and x.type not in CAFFE)
    found += [Finding(NOTE, where, f"{kind} ({n}) is of a fork: BVLC Caffe refuses this net")
              for kind, n in forks.items()]
    found += strange(net, where)
    if not size and not unknown:
        try:
            graph = one.graph()
        except Untrusted:
            pass  # which is told below
        except (Error, OSError) as e:
            lost = [Finding(level, where, f"its data cannot be read: {e}; random images and labels take "
                            "their place", "get the data ('netspec data'), or mend the path")]
    real = graph is not None
    try:
        graph = graph or deploy(net, phase, size, losses=True, path=one.path, sides=SIDES,
                                fits=partial(_fits, read))
    except Error:
        seen = deploy(net, phase, size, losses=True, path=one.path, opaque=True)
        told = {x.name for x in unknown}
        return None, False, [*found, *(Finding(PROBLEM, name, why, "mend the layer that is named")
                                       for name, why in seen.opaque.items() if name not in told)]
    said = f"{count(len(graph.nodes), 'layer')} in {'TRAIN' if phase == TRAIN else 'TEST'}"
    if not any(any(node.loss_weights) for node in graph.nodes):
        said += "; no loss, so no gradients to look at"
    return graph, real, [*found, *lost, Finding(OK, where, said)]


def strange(message: Message, where: str) -> list[Finding]:
    """What a net or solver has that is not understood, or not computed."""
    kinds: dict[int, Counter[str]] = {NUMBER: Counter(), REFUSED: Counter(), PASSED: Counter()}
    for name, number in of_forks(message, PASSED):
        kinds[next(least for least in kinds if number >= least)][name] += 1
    unread, refused, passed = ([f"{name} ({n})" if n > 1 else name for name, n in counted.items()]
                               for counted in kinds.values())
    known = (*NetParameter.DESCRIPTOR.fields_by_name, *SolverParameter.DESCRIPTOR.fields_by_name,
             *(name for kind in TYPES for name in keywords(kind)))
    found = [Finding(PROBLEM, where, f"{name} is not understood{closest(name.rpartition('.')[2], known)}",
                     f"mend it, or take it out; {PASS} runs the rest without") for name in unread]
    if refused:
        found.append(Finding(NOTE, where, f"{', '.join(refused)}: numbers depend on it where it is used, and "
                             "are not computed", f"{PASS} goes on without"))
    return found + [Finding(NOTE, where, f"{name}: no number depends on it; passed by") for name in passed]


def _fits(read: Mapping[str, Blobs], graph: Graph) -> bool:
    """Whether the weights that a graph's layers have by name are as many as theirs."""
    return all(blob is None or blob.size == math.prod(slot.shape) for slot in graph.params
               for blob in read.get(slot.layer, ())[slot.index : slot.index + 1])


def _read(weights: Mapping[str, Path | Error]) -> tuple[list[Finding], dict[str, Blobs]]:
    """What is to be said of files of weights, and their blobs by layer."""
    found: list[Finding] = []
    read: dict[str, Blobs] = {}
    for path in weights.values():
        try:
            if isinstance(path, Error):
                raise path
            more, blobs = weights_file(path)
        except Error as e:
            found.append(Finding(PROBLEM, "weights", str(e),
                                 "get them, train the stage before, or give --weights"))
        else:
            found += more
            read |= blobs
    return found, read


def _tried(net: Net, made: Sequence[tuple[Graph, bool]], image: Tensor | None,
           complete: bool) -> tuple[list[Finding], list[Flow]]:
    """What is wrong with the data of graphs that have their own; what the first batch shows of the net."""
    found: list[Finding] = []
    flow: list[Flow] = []
    for graph, real in made:
        try:
            if real:
                preflight.check_first_batch(Net(graph, share=net), [0] * len(graph.sources))
            if graph is not net.graph:
                preflight.check_apart(net.graph, graph)
                continue
            batch = draw(graph, {blob: image for blob in graph.inputs[:1] if image is not None})
        except (Error, OSError) as e:
            found.append(Finding(PROBLEM, "data", str(e),
                                 "mend the data ('netspec data check' looks at all of them)"))
        else:
            more, flow = examine(net, batch, complete)
            found += more
    return found, flow


def _memory(graph: Graph, device: torch.device, kinds: int, known: bool) -> Finding:
    """The bytes that a graph takes, by costs.totals; kinds: blobs of history a parameter; known: whether
    the size of the images is, else it is that of an example."""
    total, has = costs.totals(graph), room(device)
    own = BYTES * total["parameters"]
    running, training = own + total["forward"], (2 + kinds) * own + total["training"]
    size = " x ".join(map(str, graph.shape(graph.inputs[0]))) if graph.inputs else "the data's size"
    level = OK if training < has and known else NOTE if running < has else PROBLEM
    example = "" if known else "nothing here says how large images are; as an example: "
    mend = SMALLER if training >= has else "give --size HxW, which the memory depends on"
    return Finding(level, f"memory at {size}", f"{example}"
                   f"{amount(running)} to run it, {amount(training)} to train it "
                   f"(parameters, gradients, history, all blobs and theirs); {device} has {amount(has)}",
                   "" if level == OK else mend)


def picture(path: Path) -> Tensor:
    """An image as `infer` feeds it, less ILSVRC's mean; or a .npy of (C, H, W) or (N, C, H, W) as it is."""
    if path.suffix != ".npy":
        return predict.blob(frames.picture(path), ILSVRC)
    try:
        array = read_npy(path)
    except (ValueError, OSError) as e:
        raise Error(f"{path}: cannot be read as an array ({e})") from None
    if array.ndim not in (3, 4) or array.shape[-1] == 3 != array.shape[-3]:
        raise Error(f"{path}: has shape {list(array.shape)}, expected (N x) C x H x W: "
                    ".transpose(2, 0, 1) of H x W x C")
    return torch.from_numpy(array.reshape(-1, *array.shape[-3:]).astype(np.float32))
