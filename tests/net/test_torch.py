"""A net in other people's loops: what torch's tools and habits ask of a module, on the FCN-8s of the embedded data set."""

import copy
import socket
import warnings

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from programs import PROJECT, SERVER
from torch import nn

from net.test_graph import DATA, build, conv, relu
from netspec.base.errors import Error
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.net.weights import interp, unfilled_upsampling

SMALL = (1, 3, 37, 44)


def made(seed=0, **options):
    """With weights that let signals through, so that no gradient is 0."""
    torch.manual_seed(seed)
    net = Net(deploy(PROJECT / "models/shapes-fcn8s/deploy.prototxt", **options)).eval()
    interp(net, unfilled_upsampling(net))
    with torch.no_grad():
        for slot, p in net.parameters_by_slot():
            if not slot.layer.startswith("up"):
                p.normal_(0, (2 / p[0].numel()) ** 0.5 if p.ndim > 1 else 0.1)
    return net


def image(*shape, seed=1):
    return torch.randn(shape or SMALL, generator=torch.Generator().manual_seed(seed))


class ByHand(nn.Module):
    """The same net as one writes it for torch."""

    def __init__(self):
        super().__init__()
        self.conv1_1 = nn.Conv2d(3, 16, 3, padding=49)
        for name, inputs, outputs in (("conv2_1", 16, 32), ("conv3_1", 32, 64), ("conv3_2", 64, 64), ("conv4_1", 64, 96),
                                      ("conv4_2", 96, 96), ("conv5_1", 96, 128), ("conv5_2", 128, 128)):
            setattr(self, name, nn.Conv2d(inputs, outputs, 3, padding=1))
        self.fc6, self.fc7 = nn.Conv2d(128, 128, 5), nn.Conv2d(128, 128, 1)
        self.score_fr, self.score_pool4, self.score_pool3 = (nn.Conv2d(n, 5, 1) for n in (128, 96, 64))
        self.upscore2, self.upscore_pool4 = (nn.ConvTranspose2d(5, 5, 4, 2, bias=False) for _ in range(2))
        self.upscore8 = nn.ConvTranspose2d(5, 5, 16, 8, bias=False)

    def forward(self, x):
        pools, y = [], x
        for stage in (("conv1_1",), ("conv2_1",), ("conv3_1", "conv3_2"), ("conv4_1", "conv4_2"), ("conv5_1", "conv5_2")):
            for name in stage:
                y = getattr(self, name)(y).relu()
            y = F.max_pool2d(y, 2, 2, ceil_mode=True)
            pools.append(y)
        y = self.upscore2(self.score_fr(self.fc7(self.fc6(y).relu()).relu()))
        h, w = y.shape[2:]
        y = self.upscore_pool4(y + self.score_pool4(pools[3])[:, :, 3 : 3 + h, 3 : 3 + w])
        h, w = y.shape[2:]
        y = self.upscore8(y + self.score_pool3(pools[2])[:, :, 5 : 5 + h, 5 : 5 + w])
        return y[:, :, 12 : 12 + x.shape[2], 12 : 12 + x.shape[3]]


# how it is called

def test_a_tensor_in_and_the_only_output_out():
    net, x = made(), image()
    found = net({"data": x})["score"]
    assert torch.equal(net(x), found) and torch.equal(net(data=x)["score"], found)
    assert set(net(x, ["pool1", "fc7"])) == {"pool1", "fc7"}
    with pytest.raises(Error, match="no input 'date'; did you mean 'data'"):
        net(date=x)
    with pytest.raises(Error, match="a tensor or a dictionary of tensors, found ndarray"):
        net(x.numpy())
    with pytest.raises(Error, match="needs the blob 'data'"):
        net()


def test_several_inputs_come_by_name():
    text = DATA + DATA.replace('"data"', '"more"') + 'layer { name: "s" type: "Eltwise" bottom: "data" bottom: "more" top: "s" }'
    net, x, y = Net(build(text)), image(2, 3, 8, 9), image(2, 3, 8, 9, seed=2)
    assert torch.equal(net(data=x, more=y)["s"], x + y)
    with pytest.raises(Error, match="2 inputs: data, more"):
        net(x)


def test_several_outputs_of_a_tensor_are_a_dictionary():
    net = Net(build(DATA + conv("a", "data") + conv("b", "data")))
    assert set(net(image(2, 3, 8, 9))) == {"a", "b"}


def test_features_are_a_blob_and_run_no_further(monkeypatch):
    net, x = made(), image()
    expected = net(x, ["pool4", "conv1_1", "data"])
    ran = []
    for name, part in net.named_children():
        part.register_forward_hook(lambda part, inputs, top, name=name: ran.append(name))
    assert torch.equal(net.features(x, "pool4"), expected["pool4"]) and "pool4" in ran and "conv5_1" not in ran
    assert torch.equal(net.features({"data": x}, "conv1_1"), expected["conv1_1"])  # as the ReLU in place left it
    assert net.features(x, "data") is x
    with pytest.raises(Error, match="no blob 'pol4'; did you mean 'pool4'"):
        net.features(x, "pol4")


def test_printed_layers_have_their_types_and_settings():
    lines = repr(made()).splitlines()
    assert lines[1] == "  (conv1_1): Convolution(data -> conv1_1, num_output: 16 pad: 49 kernel_size: 3 stride: 1)"
    assert lines[2] == "  (relu1_1): ReLU(conv1_1 -> conv1_1)" and "_Module" not in "".join(lines)
    assert lines[-2] == "  (score): Crop(upscore8, data -> score, axis: 2 offset: 12)"
    nested = repr(Net(build(DATA + conv("a.b", "data") + conv("a.c", "a.b"))))
    assert "(a): Layers(" in nested and "(b): Convolution(data -> a.b, num_output: 4" in nested


def test_layers_of_one_name_are_parts_of_their_own():
    net = Net(build(DATA + relu("r", "data") + relu("r", "data", "b") + relu("", "b", "c")))
    assert [name for name, _ in net.named_children()] == ["r", "", "r (2)"]
    assert (net(image(2, 3, 8, 9)) >= 0).all()


# gradients, and training

def test_gradients_are_those_of_a_net_by_hand():
    net, hand = made(), ByHand()
    assert hand.load_state_dict(net.state_dict()) and set(hand.state_dict()) == set(net.state_dict())
    mine, theirs = image().requires_grad_(), image().requires_grad_()
    truth = torch.randint(0, 5, (1, 37, 44), generator=torch.Generator().manual_seed(3))
    for one, x in ((net, mine), (hand, theirs)):
        F.cross_entropy(one(x), truth).backward()
    torch.testing.assert_close(net(mine), hand(theirs))
    torch.testing.assert_close(mine.grad, theirs.grad)
    for name, p in net.named_parameters():
        if p.requires_grad:
            assert p.grad.any(), name
            torch.testing.assert_close(p.grad, hand.get_parameter(name).grad)


def test_a_loop_of_ones_own_with_adamw_and_a_data_loader():
    net = made().train()
    images = torch.randn(4, *SMALL[1:], generator=torch.Generator().manual_seed(5))
    truth = (images[:, 0] > 0).long()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, truth), batch_size=2, shuffle=True)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(4):
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y, ignore_index=255)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-2:]) < 0.7 * sum(losses[:2])


# copies

def test_copies_are_apart():
    net, x = made(), image()
    before, twin = net(x), copy.deepcopy(net)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert torch.equal(net(x), before) and not twin(x).any()


def given_back(net, x, queue):
    queue.put((net(x).detach().numpy(), repr(net)))


def test_a_net_goes_to_another_process():
    net, x = made(), image()
    queue = SERVER.Queue()
    process = SERVER.Process(target=given_back, args=(net, x, queue))
    process.start()
    scores, text = queue.get(timeout=120)
    process.join(60)
    torch.testing.assert_close(torch.from_numpy(scores), net(x).detach())
    assert text == repr(net)


def test_a_whole_net_is_saved_and_loaded(tmp_path):
    net, x = made(), image()
    torch.save(net, tmp_path / "net.pt")
    back = torch.load(tmp_path / "net.pt", weights_only=False)
    assert torch.equal(back(x), net(x)) and str(back.graph.proto) == str(net.graph.proto)


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_state_dicts_go_round(form, tmp_path):
    net, other, x = made(), made(seed=9), image()
    assert "conv1_1.weight" in net.state_dict() and "conv1_1.bias" in net.state_dict()
    if form == "torch":
        torch.save(net.state_dict(), tmp_path / "w")
        state = torch.load(tmp_path / "w", weights_only=True)
    else:
        from safetensors.torch import load_file, save_file
        save_file(net.state_dict(), tmp_path / "w")
        state = load_file(tmp_path / "w")
    assert other.load_state_dict(state).missing_keys == [] and torch.equal(other(x), net(x))


# types, devices, layouts

def test_double():
    net, x = made(), image()
    expected, found = net(x), copy.deepcopy(net).double()(x.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", ["bfloat16", "autocast", "precision"])
def test_half_precision(how):
    net, x = made(), image()
    expected = net(x)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = net(x)
    elif how == "precision":
        net.precision = torch.bfloat16
        found = net(x)
    else:
        found = net.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16 and not torch.equal(found.float(), expected)
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_channels_last():
    net, x = made(), image()
    expected = net(x)
    net = net.to(memory_format=torch.channels_last)
    assert net.conv2_1.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), expected)


def test_the_meta_device():
    net, x = made(), image()
    with torch.device("meta"):
        empty = Net(net.graph)
    assert all(p.is_meta for p in empty.parameters())
    assert empty(x.to("meta")).shape == net(x).shape and made().to("meta")(x.to("meta")).is_meta
    empty.load_state_dict(net.state_dict(), assign=True)
    assert torch.equal(empty(x), net(x))
    filled = made().to("meta").to_empty(device="cpu")
    filled.load_state_dict(net.state_dict())
    assert torch.equal(filled(x), net(x))


# hooks

def test_a_hook_sees_what_its_layer_gave_though_the_next_works_in_place():
    net, x, seen = made(), image(), {}
    expected = net(x)
    raw = F.conv2d(x, net.conv1_1.weight, net.conv1_1.bias, padding=49)
    net.get_submodule("conv1_1").register_forward_hook(lambda part, inputs, top: seen.update(inputs=inputs, top=top))
    assert torch.equal(net(x), expected)
    assert torch.equal(seen["top"], raw) and seen["inputs"][0] is x and (raw < 0).any()


def test_a_hook_may_change_what_its_layer_gives():
    net, x = made(), image()
    net.fc7.register_forward_hook(lambda part, inputs, top: top * 0)
    net.score_pool4.register_forward_pre_hook(lambda part, inputs: (inputs[0] * 0,))
    assert not torch.equal(net(x), made()(x))


@pytest.mark.parametrize("name", ["conv1_1", "relu1_1", "pool1", "fuse_pool4", "score"])
def test_backward_hooks(name):
    plain, hooked, grads = made(), made(), []
    hooked.get_submodule(name).register_full_backward_hook(lambda part, inner, outer: grads.append(outer[0].norm()))
    for net in (plain, hooked):
        net(image()).square().sum().backward()
    assert len(grads) == 1 and grads[0] > 0
    for a, b in zip(plain.parameters(), hooked.parameters(), strict=True):
        assert a.grad is b.grad or torch.equal(a.grad, b.grad)


def test_parametrizations_and_pruning_reach_the_arithmetic():
    net, x = made(), image()
    before = net(x)
    torch.nn.utils.prune.l1_unstructured(net.conv2_1, "weight", 0.5)
    pruned = net(x)
    torch.nn.utils.parametrizations.spectral_norm(net.fc7, "weight")
    assert not torch.equal(before, pruned) and not torch.equal(net(x), pruned)


# torch's compilers, and functional forms

def test_compiled():  # tests/convert/test_totorch.py compiles nets of other layers, at several sizes
    net = made()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = image()
    torch.testing.assert_close(compiled(x), net(x))
    compiled(x).square().mean().backward()
    assert net.conv1_1.weight.grad.any()


@pytest.mark.slow  # tests/score/test_loaded.py exports such a net, and has another process run it
def test_exported_for_any_height_and_width(tmp_path):
    net = made()
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, (image(1, 3, 96, 128),), dynamic_shapes=({2: free, 3: free},))
        torch.export.save(program, tmp_path / "net.pt2")
    back = torch.export.load(tmp_path / "net.pt2").module()
    for size in ((96, 128), (70, 101), (113, 66)):  # a map of 1 x 1 would be a case of its own for torch.export
        torch.testing.assert_close(back(image(1, 3, *size)), net(image(1, 3, *size)))
    assert set(program.state_dict) == set(net.state_dict())


def test_functional_forms():
    net, x = made(), image(3, 3, 37, 44)
    params = dict(net.named_parameters())
    half = {name: p.detach() / 2 for name, p in params.items()}
    expected = copy.deepcopy(net)
    expected.load_state_dict(half)
    assert torch.equal(torch.func.functional_call(net, half, (x,)), expected(x))

    def loss(params, x):
        return torch.func.functional_call(net, params, (x,)).square().mean()

    grads = torch.func.grad(loss)(params, x)
    net(x).square().mean().backward()
    learned = [name for name, p in params.items() if p.requires_grad]
    for name in learned:
        torch.testing.assert_close(grads[name], params[name].grad)
    each = torch.func.vmap(lambda one: torch.func.functional_call(net, params, (one[None],))[0])(x)
    torch.testing.assert_close(each, net(x))
    per_sample = torch.func.vmap(torch.func.grad(lambda p, one: loss(p, one[None])), (None, 0))(params, x)
    for name in learned:
        torch.testing.assert_close(per_sample[name].mean(0), grads[name])


def one_of_two(rank, port, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    net = made(seed=rank)  # DDP sends rank 0's weights around
    parallel = nn.parallel.DistributedDataParallel(net)
    parallel(image(2, 3, 37, 44)[rank : rank + 1]).square().mean().backward()
    queue.put((rank, {name: p.grad.numpy() for name, p in net.named_parameters() if p.requires_grad}))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = SERVER.Queue()
    processes = [SERVER.Process(target=one_of_two, args=(rank, port, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    net = made(seed=0)
    for one in image(2, 3, 37, 44):
        (net(one[None]).square().mean() / 2).backward()
    for name, grad in found[0].items():
        torch.testing.assert_close(torch.from_numpy(grad), torch.from_numpy(found[1][name]))
        torch.testing.assert_close(torch.from_numpy(grad), net.get_parameter(name).grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["losses", "training", "precision", "graph", "forward", "device", "state_dict", "_parts", "_fits",
                                  "_steps", "_inputs", "_places", "_node", "_modules"])
@pytest.mark.parametrize("typed", ["Convolution", "ReLU"])
def test_a_layer_may_have_any_name(name, typed):
    """Its own attributes stay the net's, and can be set."""
    layer = conv(name, "data", 2) if typed == "Convolution" else relu(name, "data")
    one = Net(build(DATA + layer))
    one.precision = torch.bfloat16
    one.precision = None
    one = copy.deepcopy(one.train().double().eval())
    given = image(2, 3, 8, 9).double()
    found = one({"data": given})
    assert not one.training and not one.losses and dict(one.named_modules())[name]._get_name() == typed
    assert len(found) and all(value.dtype == torch.double for value in found.values())


def test_a_layer_can_be_replaced_as_torch_people_do():
    net, x = made(), image()
    plain = net(x)
    same = nn.Conv2d(128, 5, 1)
    same.load_state_dict(net.score_fr.state_dict())
    net.score_fr = same
    assert torch.equal(net(x), plain)
    for name, new in (("score_fr", nn.Conv2d(128, 7, 1)), ("score_pool4", nn.Conv2d(96, 7, 1)), ("score_pool3", nn.Conv2d(64, 7, 1)),
                      ("upscore2", nn.ConvTranspose2d(7, 7, 4, 2, bias=False)), ("relu7", nn.LeakyReLU(0.1)),
                      ("upscore_pool4", nn.ConvTranspose2d(7, 7, 4, 2, bias=False)),
                      ("upscore8", nn.ConvTranspose2d(7, 7, 16, 8, bias=False))):
        setattr(net, name, new)
    assert net(x).shape == (1, 7, 37, 44) and "(relu7): LeakyReLU(negative_slope=0.1)" in repr(net)
    net(x).sum().backward()
    assert net.score_fr.weight.grad is not None and net.fc7.weight.grad is not None
    assert net.layers_with_params()["score_fr"][0] is net.score_fr.weight
    assert torch.equal(copy.deepcopy(net)(x), net(x))
    net.fc7 = nn.Identity()
    assert net(x).shape == (1, 7, 37, 44)
    with pytest.raises(Error, match="layer 'fc7' is now Identity, which has no 'weight'"):
        net.layers_with_params()


def test_a_hooked_or_replaced_layer_below_one_in_place_keeps_what_it_gave():
    net, x, kept = made(), image(), []
    below = nn.Conv2d(3, 16, 3, padding=49)
    below.register_forward_hook(lambda part, inputs, top: kept.append(top))
    net.conv1_1 = below
    net(x)
    assert torch.equal(kept[0], F.conv2d(x, below.weight, below.bias, padding=49))


def test_averaged_models_and_flop_counters():
    net, x = made(), image()
    assert torch.equal(torch.optim.swa_utils.AveragedModel(net)(x), net(x))
    with torch.utils.flop_counter.FlopCounterMode(net, display=False) as counter:
        net(x).sum().backward()
    counts = counter.get_flop_counts()
    assert counter.get_total_flops() > 1e7 and any(name.endswith("conv2_1") for name in counts)
    assert torch.equal(torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False), net(x))
    assert torch.equal(nn.Sequential(net, nn.Softmax(1))(x), net(x).softmax(1))
