"""`convert upgrade` on Caffe's own old files, and how commands are told where to write.

What `convert` converts: tests/convert, `convert fcn`: tests/net/test_rewrite.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from netspec.cli.main import main
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.model import read_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"


@pytest.mark.parametrize("name", ["v0", "legacy_input"])
def test_old_nets(tmp_path, name):
    new = tmp_path / "new.prototxt"
    assert main(["convert", "upgrade", str(GOLDEN / f"{name}.prototxt"), str(new)]) == 0
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    net = prototext.parse(new.read_text(), NetParameter)
    assert [[layer.name, layer.type] for layer in net.layer] == expected["layers"]
    assert not net.layers and not net.input


def test_old_weights(tmp_path):
    old, new = GOLDEN / "v1.caffemodel", tmp_path / "new.caffemodel"
    assert main(["convert", "upgrade", str(old), str(new)]) == 0
    net = NetParameter.FromString(new.read_bytes())
    assert not net.layers and {layer.name: layer.type for layer in net.layer}["ip"] == "InnerProduct"
    read, expected = read_weights(new), np.load(GOLDEN / "v1.npz")
    for layer in ("conv", "ip"):
        for i in (0, 1):
            np.testing.assert_array_equal(read[layer][i].ravel(), expected[f"param:{layer}:{i}"].ravel())


def test_old_solver(tmp_path):
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text('net: "layers.prototxt"\nsolver_type: NESTEROV\nbase_lr: 0.1 # a rate\n')
    assert main(["convert", "upgrade", str(old), str(new)]) == 0
    text = new.read_text()
    assert 'type: "Nesterov"' in text and "solver_type" not in text and "snapshot_prefix" not in text


@pytest.mark.parametrize(
    "content", [b"", b"\n\x04name", b"\x00" * 99, b"layer { name: 'x }", b"\xa2\x06\x7f"]
)
def test_bad_files(tmp_path, capsys, content):
    old = tmp_path / "old"
    old.write_bytes(content)
    assert main(["convert", "upgrade", str(old), str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()
    error = capsys.readouterr().err
    assert str(old) in error and error.count("\n") == 1


@pytest.mark.parametrize("content, what", [(b"<!DOCTYPE html><html></html>", "is a web page"),
                                           (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer")])
def test_upgrade_says_what_a_failed_download_is(tmp_path, capsys, content, what):
    (tmp_path / "old").write_bytes(content)
    assert main(["convert", "upgrade", str(tmp_path / "old"), str(tmp_path / "new")]) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_upgrade_refuses_weights_of_impossible_sizes(tmp_path, capsys):
    net = NetParameter()
    net.layer.add(name="l", type="Convolution").blobs.add().shape.dim.extend([2**31, 2**31, 4, 4])
    (tmp_path / "old").write_bytes(net.SerializeToString())
    assert main(["convert", "upgrade", str(tmp_path / "old"), str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("out", [["new.prototxt"], ["--out", "new.prototxt"]])
def test_fcn_writes_where_it_is_told(tmp_path, capsys, monkeypatch, out):
    """At the last place; the option that said so before still does, with a pointer."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }'
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 4 } }')
    assert main(["convert", "fcn", "net.prototxt", *out]) == 0
    assert Path("new.prototxt").exists() and not Path("net-fcn.prototxt").exists()
    said = capsys.readouterr()
    assert "random weights" in said.out and said.err == ("netspec: --out is now the argument OUT.prototxt; the old "
                                                         "spelling goes on working for this release\n" if out[1:] else "")


@pytest.mark.parametrize("command, positions", [("demo", "[SOLVER ...]"), ("studies", "NAME"), ("score", "NET [WEIGHTS]")])
def test_positions_stand_before_an_option_that_takes_several(command, positions, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"usage: netspec {command} {positions} [options]" in capsys.readouterr().out


@pytest.mark.parametrize("kind, out", [("onnx", "OUT.onnx"), ("torch", "OUT.py")])
def test_usage_is_an_order_that_works(kind, out, capsys):
    """--size takes what follows, so it stands last."""
    with pytest.raises(SystemExit):
        main(["convert", kind, "--help"])
    assert f"NET.prototxt [WEIGHTS] {out} [--size HxW ...]" in " ".join(capsys.readouterr().out.split())
