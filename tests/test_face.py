"""The face of the package: the names that the pages use are there, and turn what they promise into what they say."""

import re
from pathlib import Path

import pytest
import torch

import netspec

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", *PROJECT.glob("docs/*.md"), *PROJECT.glob("data/*/README.md")]
NAMES = {name for page in PAGES for name in re.findall(r"`netspec\.(\w+)", page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", sorted(NAMES - {"datasets", "sampling"}))  # as prototxts name them: tests/ops, tests/data
def test_what_the_pages_name_is_there(name):
    assert hasattr(netspec, name) or (Path(netspec.__file__).parent / f"{name}.py").is_file()


def test_a_spec_becomes_a_module():
    n = netspec.NetSpec()
    n.data = netspec.layers.Input(shape=dict(dim=[1, 3, 9, 9]))
    n.score = netspec.layers.Convolution(n.data, num_output=2, kernel_size=3, weight_filler=dict(type="xavier"))
    net = netspec.TorchNet(netspec.build(n.to_proto()))
    assert isinstance(net, torch.nn.Module) and list(net.state_dict()) == ["score.weight", "score.bias"]
    assert net({"data": torch.zeros(1, 3, 9, 9)})["score"].shape == (1, 2, 7, 7)
    assert netspec.Net is not netspec.TorchNet  # Caffe's interface has the name Net


@pytest.mark.parametrize("given", ["shapes-fcn8s", "models/shapes-fcn8s/deploy.prototxt"])
def test_a_module_is_made_of_a_name_or_a_file(given):
    assert "score_fr.weight" in netspec.TorchNet(given).state_dict()
    with pytest.raises(netspec.Error, match="did you mean 'shapes-fcn8s'"):
        netspec.TorchNet("shapes-fcn8")


def test_every_name_can_be_had_and_is_listed():
    assert set(netspec.__all__) <= set(dir(netspec))
    for name in netspec.__all__:
        getattr(netspec, name)
    with pytest.raises(AttributeError, match="no attribute 'graph_of_mine'"):
        netspec.graph_of_mine  # noqa: B018
