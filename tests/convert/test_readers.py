"""Files of other frameworks' weights: what is read of them, and that no damaged file passes."""

import json
import sys

import pytest
import torch

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
