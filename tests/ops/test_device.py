"""Every layer on a device that is not the CPU: `meta` stands for one, which has shapes and no numbers to wait for."""

from types import SimpleNamespace

import pytest
import torch
from golden_case import run
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from netspec.net.layerwise import Layerwise
from netspec.ops import REGISTRY
from netspec.ops.base import carried, fetched

from .test_golden import CASES, layer, made

META = torch.device("meta")
WAITING = {name for name, case in CASES.items() if any(REGISTRY[each.type].waits for each in case.net.layer)}
MAKERS = {torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor}
FETCHERS = {torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.item, torch.Tensor.tolist}


class Elsewhere(TorchDispatchMode):
    """Fails where an operation gives a tensor of the CPU, or reads one that it does not carry to the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        read, given = ({t.device.type for t in tree_leaves(of) if isinstance(t, torch.Tensor)}
                       for of in ((args, kwargs), found))
        carries = func is torch.ops.aten._to_copy.default and given == {"meta"}
        assert "cpu" not in given and (carries or "cpu" not in read), f"{func} reads {read} and gives {given}"
        return found


class Unpacked(TorchFunctionMode):
    """Fails where Python's numbers become a tensor, or a tensor's become Python's: a GPU is waited for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in MAKERS | FETCHERS, f"{func} waits for a GPU"
        return func(*args, **(kwargs or {}))


def placed(case, precision, device=META):
    """The net of a case, and its inputs, on a device."""
    net = case.build()
    net.precision = precision
    floats = {blob: values.dtype.kind == "f" for blob, values in case.part("in").items()}
    inputs = {blob: torch.from_numpy(case.part("in")[blob]).to(device).requires_grad_(smooth) for blob, smooth in floats.items()}
    return net.to(device), inputs


def both_ways(net, inputs, blobs):
    """Forward and backward; the blobs and all gradients."""
    found = net(inputs, want=blobs)
    objective = net.loss(found)
    for blob in found.values():
        objective = objective + blob.sum() if blob.requires_grad else objective
    if objective.requires_grad:
        objective.backward()
    return found, [t.grad for t in (*inputs.values(), *net.parameters()) if t.grad is not None]


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in WAITING])
def test_every_layer_runs_on_a_second_device(name, precision):
    case = CASES[name]
    net, inputs = placed(case, precision)
    with Elsewhere(), Unpacked():
        found, grads = both_ways(net, inputs, list(case.part("out")))
    assert {blob: tuple(found[blob].shape) for blob in case.part("out")} == {b: v.shape for b, v in case.part("out").items()}
    assert all(t.device == META for t in (*found.values(), *grads))
    again, theirs = placed(case, precision, torch.device("cpu"))
    assert len(both_ways(again, theirs, list(case.part("out")))[1]) == len(grads)


def test_layers_that_read_numbers_are_those_that_say_so():
    """A GPU is waited for there; meta has no numbers to give."""
    waiting = {each.type for name in WAITING for each in CASES[name].net.layer if REGISTRY[each.type].waits}
    assert waiting == {"Filter", "MultiStageMeanfield", "PSROIPooling", "ROIAlign", "ROIPooling"}
    for name in WAITING:
        net, inputs = placed(CASES[name], None)
        with pytest.raises((RuntimeError, NotImplementedError), match=r"meta"):
            both_ways(net, inputs, list(CASES[name].part("out")))


@pytest.mark.parametrize("text,shapes", [
    (layer("Embed", "embed_param { num_output: 2 input_dim: 3 }"), [(2,)]),
    (layer("BatchReindex", bottoms="xz"), [(3, 2), (2,)]),
    (layer("Unpooling", "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 4 }", bottoms="xz"), [(1, 1, 1, 2)] * 2),
    (layer("SoftmaxWithLoss", bottoms="xz"), [(2, 3), (2,)]),
], ids=lambda of: of.split()[4] if isinstance(of, str) else "")
@pytest.mark.parametrize("value", [-1, 99])
def test_an_index_outside_gives_no_number_where_nobody_waits_for_it(text, shapes, value, monkeypatch):
    """As on a GPU: what it picks is NaN, which stops a run, and no memory is read that is another's."""
    net = made(text, *shapes)
    blobs = {blob: torch.ones(shape) for blob, shape in zip("xz", shapes, strict=False)}
    index = blobs["z" if len(shapes) > 1 else "x"]
    index.reshape(-1)[0] = value

    class Unread(TorchFunctionMode):
        """On a CPU that says it is none."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func == torch.Tensor.device.__get__:
                return META
            return func(*args, **{key: "cpu" if value == META else value for key, value in (kwargs or {}).items()})

    with Unread():
        found = net(blobs)["y"]
    assert found.isnan().any()


def test_a_net_of_layers_without_parameters_runs_where_its_inputs_are():
    net = made(layer("EuclideanLoss", bottoms="xz"), (2, 3), (2, 3))
    blobs = {blob: torch.empty(2, 3, device=META) for blob in "xz"}
    assert net.loss(net(blobs)).device == META


def test_a_net_runs_layer_by_layer_on_a_second_device():
    case = CASES["conv_3x3_pad1"]
    for precision in (None, torch.bfloat16):
        net, inputs = placed(case, precision)
        layers = Layerwise(net)
        layers.run({blob: value.detach() for blob, value in inputs.items()})
        layers.backward()
        assert all(p.grad.device == META for p in net.parameters())


def test_what_a_gpu_takes_is_copied_while_the_host_goes_on():
    """From page-locked memory: torch's own allocator keeps that till the copy is done."""
    said = []

    class Told(TorchFunctionMode):
        """Without a GPU nothing can be locked or copied: what was asked for is kept."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.pin_memory, torch.Tensor.to):
                said.append((func.__name__, *args[1:], kwargs or {}))
                return args[0]
            return func(*args, **(kwargs or {}))

    cuda, x = torch.device("cuda"), torch.ones(2)
    with Told():
        carried(x, cuda)
        carried(x, META)
    assert said == [("pin_memory", {}), ("to", cuda, {"non_blocking": True}), ("to", META, {})]


def test_what_a_gpu_gives_comes_while_the_host_goes_on(monkeypatch):
    """Into page-locked memory, which torch takes for such copies, and is read when the copy is done."""
    said, x = [], torch.arange(3.0)
    event = SimpleNamespace(record=lambda stream: said.append(("record", stream)), synchronize=lambda: said.append("wait"))
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")

    class Told(TorchFunctionMode):
        """On a CPU that says it is a GPU."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func == torch.Tensor.device.__get__:
                return torch.device("cuda")
            if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.numpy):
                said.append((func.__name__, *args[1:], *(kwargs or {}).items()))
            return func(*args, **(kwargs or {}))

    with Told():
        numbers = fetched(x)
        assert said == [("to", "cpu", ("non_blocking", True)), ("record", "stream of cuda")]
        assert numbers().tolist() == [0, 1, 2]
    assert said[2:] == ["wait", ("numpy",)]
    assert fetched(x)().tolist() == [0, 1, 2] and len(said) == 4


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_computes_what_caffe_computes(name):
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        run(CASES[name], "cuda")
    finally:
        torch.backends.cudnn.allow_tf32 = before
