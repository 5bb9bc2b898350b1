"""`netspec weights get vgg16 --from torchvision|keras`: fetched, converted, and proved before anything is written."""

import hashlib
import io
import json
import os
from pathlib import Path

import pytest
import torch
from webserver import Web

from netspec.cli import main as cli
from netspec.convert import importers, proof
from netspec.data import zoo
from netspec.net.deploy import deploy
from netspec.proto import text as prototext
from netspec.proto.model import read_weights

from .test_importers import DENSE, SIDE, WIDTHS, Vgg, keras_file

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A narrow VGG16 in the current folder's models/, and its weights as each framework writes them."""
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(tmp_path / "zoo"))
    monkeypatch.chdir(tmp_path)
    net = prototext.read_net(PROJECT / "models" / "vgg16" / "deploy.prototxt")
    dense = dict(zip(("fc6", "fc7", "fc8"), DENSE, strict=True))
    for layer in net.layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[2:] = [SIDE, SIDE]
        elif layer.type in ("Convolution", "InnerProduct"):
            width = dense.get(layer.name) or WIDTHS[int(layer.name[4]) - 1]
            (layer.convolution_param if layer.type == "Convolution" else layer.inner_product_param).num_output = width
    prototext.write("models/vgg16/deploy.prototxt", net)
    stream = io.BytesIO()
    state = Vgg().state_dict()
    for weight in state.values():  # so large that what is in the image is in the scores
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight)
    torch.save(state, stream)
    return {"torchvision": stream.getvalue(), "keras": keras_file(tmp_path).read_bytes()}


@pytest.fixture
def web(files, tmp_path, monkeypatch):
    """A server of one framework's file after the other, and a table that names it by how its sha256 begins."""
    server = Web(b"")

    def serve(framework):
        server.body = files[framework]
        facts = {"framework": framework, "urls": [f"{server.url}-0.pth"], "terms": "none", "stated_by": "this test",
                 "checksums": [f"sha256:{hashlib.sha256(server.body).hexdigest()[:8]}"]}
        (tmp_path / "weights.json").write_text(json.dumps({"vgg16": {"gives": "11 classes", "sources": [facts]}}))
        monkeypatch.setattr(zoo, "TABLE", tmp_path / "weights.json")
        return server

    yield serve
    server.stop()


@pytest.mark.parametrize("framework", ["torchvision", "keras"])
def test_fetched_converted_and_proved(web, capsys, framework):
    server = web(framework)
    assert cli.main(["weights", "get", "vgg16", "--from", framework]) == 0
    out = capsys.readouterr().out
    assert f"{framework}'s own arithmetic and Caffe's net differ by " in out and "wrote " in out
    assert sorted(os.listdir("zoo")) == ["vgg16.caffemodel", "vgg16.caffemodel.sha256"]
    Path("got").write_bytes(server.body)
    layers = {layer.name: layer.blobs for layer in importers.import_layers(Path("got"))}
    assert all((read_weights("zoo/vgg16.caffemodel")[name][0] == blobs[0]).all() for name, blobs in layers.items())
    assert cli.main(["weights", "check"]) == 0 and "as when it was got" in capsys.readouterr().out
    server.body = b"x" + server.body[1:]
    Path("zoo/vgg16.caffemodel").unlink()
    Path("zoo/vgg16.caffemodel.sha256").unlink()
    assert cli.main(["weights", "get", "vgg16", "--from", framework]) == 2
    err = capsys.readouterr().err
    assert "its sha256 is" in err and f"weights add vgg16 FILE --from {framework}" in err and not zoo.stored("vgg16")


@pytest.mark.parametrize("framework", ["torchvision", "keras"])
def test_a_file_of_another_machine_is_converted_too(web, files, capsys, framework):
    web(framework)
    Path("got").write_bytes(files[framework])
    assert cli.main(["weights", "add", "vgg16", "got", "--from", framework]) == 0
    assert "differ by" in capsys.readouterr().out and zoo.stored("vgg16") and Path("got").is_file()
    assert cli.main(["weights", "add", "vgg16", "got", "--from", framework]) == 2
    assert "move it away" in capsys.readouterr().err


@pytest.mark.parametrize("framework", ["torchvision", "keras"])
@pytest.mark.parametrize("wrong", [
    lambda blobs: blobs["conv1_1"][0].__imul__(1.01), lambda blobs: blobs["fc8"][1].__iadd__(0.1),
    lambda blobs: blobs["conv1_1"].__setitem__(0, blobs["conv1_1"][0][:, ::-1].copy()),
    lambda blobs: blobs["fc6"].__setitem__(0, blobs["fc6"][0][:, ::-1].copy()),
])
def test_what_is_converted_wrongly_is_seen_and_not_written(web, files, capsys, monkeypatch, framework, wrong):
    web(framework)
    Path("got").write_bytes(files[framework])
    layers = importers.import_layers(Path("got"))
    graph = deploy(Path("models/vgg16/deploy.prototxt"))
    apart, most = proof.prove(Path("got"), "vgg16", layers, graph)
    assert apart <= proof.ROUNDING * most / 10 and most > 1
    wrong({layer.name: layer.blobs for layer in layers})
    apart, most = proof.prove(Path("got"), "vgg16", layers, graph)
    assert apart > proof.ROUNDING * most
    monkeypatch.setattr(importers, "import_layers", lambda *given: layers)
    assert cli.main(["weights", "add", "vgg16", "got", "--from", framework]) == 2
    assert "does not compute the same, so nothing is written" in capsys.readouterr().err and not os.path.exists("zoo")


def test_of_frameworks_that_have_none(web, capsys):
    web("keras")
    assert cli.main(["weights", "get", "vgg16", "--from", "torchvison"]) == 2
    assert "no weights from 'torchvison' are known (there are those from keras)" in capsys.readouterr().err
    assert cli.main(["weights", "get", "vgg61"]) == 2 and "did you mean 'vgg16'?" in capsys.readouterr().err
