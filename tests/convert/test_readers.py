"""Files of other frameworks' weights: what is read of them, and that no damaged file passes."""

import json
import sys
import zipfile

import pytest
import torch
from measured import refusal

from netspec.base.errors import Error
from netspec.convert.readers import read_layers


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def written(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("header, data, length", [
    ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 4, 8)}, b"8 bytes!", None),
    ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 8, 12)}, b"8 bytes!", None),
    ({"a": entry("F32", [2**40, 2**40], 0, 8)}, b"8 bytes!", None),
    ({"a": entry("F32", [-2], 0, 8)}, b"8 bytes!", None),
    ({"a": entry("F64", [2], 0, 8)}, b"8 bytes!", None),
    ({"a": entry("X9", [2], 0, 8)}, b"8 bytes!", None),
    ({"a": entry("F32", [2], 0, 8)}, b"8 bytes!", 2**26),
    ({"a": 3}, b"", None), (b"{bad json", b"", None), (b"{\xff}", b"", None), (b'{"a":' + b"[" * 99999, b"", None),
], ids=["overlap", "short", "huge", "negative", "size", "type", "length", "entry", "json", "text", "deep"])
def test_damaged_safetensors(tmp_path, header, data, length):
    pytest.importorskip("safetensors")
    with pytest.raises(Error, match="x: is a damaged .safetensors file .*; get it again"):
        read_layers(written(tmp_path / "x", header, data, length))


def test_numbers_of_other_kinds_are_left_out(tmp_path):
    pytest.importorskip("safetensors")
    header = {"__metadata__": {"format": "pt"}, "a.bias": entry("F16", [2], 0, 4), "a.steps": entry("I32", [1], 4, 8)}
    (layer,), keras = read_layers(written(tmp_path / "x", header, b"\x00\x3c\x00\xc0abcd"))
    assert not keras and layer.names == ["a"] and {k: list(v) for k, v in layer.parts.items()} == {"bias": [1, -2]}


def test_a_state_dict_of_parameters(tmp_path):
    """As named_parameters() gives them: they require gradients."""
    state = {"module.a.weight": torch.nn.Parameter(torch.ones(2, 3)), "b.count": torch.tensor(3), "note": "x"}
    torch.save({"state_dict": state, "epoch": 4}, tmp_path / "x")
    (layer,), _ = read_layers(tmp_path / "x")
    assert layer.place == "a" and layer.parts["weight"].shape == (2, 3)


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(Error, match="reading .safetensors needs safetensors: pip install safetensors"):
        read_layers(written(tmp_path / "x", {}))


def test_weights_that_declare_more_than_the_file_has_are_refused(tmp_path):
    one = torch.ones(1)
    torch.save({"a.weight": one.expand(1 << 15, 1 << 16)}, tmp_path / "expanded.pth")
    torch.save({f"a{i}.weight": one.half().expand(1 << 10, 1 << 10) for i in range(99)}, tmp_path / "shared.pth")
    torch.save({"a.weight": torch.zeros(4)}, tmp_path / "sound.pth")
    with zipfile.ZipFile(tmp_path / "sound.pth") as sound, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in sound.namelist():
            bomb.writestr(name, bytes(1 << 27) if name.endswith("data/0") else sound.read(name))
    for name, words in (("expanded.pth", "declares more numbers"), ("shared.pth", "declares more numbers"),
                        ("bomb.pth", "its parts are larger than the file")):
        said = refusal(lambda name=name: read_layers(tmp_path / name))
        assert f"{tmp_path}/{name}: " in said and words in said
    assert not refusal(lambda: read_layers(tmp_path / "sound.pth"))
