"""The list of layer types: complete, true, and the committed page is what the command writes."""

from pathlib import Path

import pytest
from golden_case import load, load_all

from netspec import ops
from netspec.cli import main as cli
from netspec.look import layer_types
from netspec.ops import REGISTRY
from netspec.proto.types import CAFFE

PROJECT = Path(__file__).resolve().parents[2]
GOLDEN = PROJECT / "tests" / "golden"
ENTRIES = {entry.type: entry for entry in layer_types.entries()}


def test_the_page_is_what_the_command_writes(capsys, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert cli.main(["layers", "--markdown", "--results", "tests/golden"]) == 0
    assert capsys.readouterr().out == (PROJECT / "docs" / "layers.md").read_text(encoding="utf-8"), \
        "netspec layers --markdown --results tests/golden > docs/layers.md"


def test_all_types_of_caffe_are_there():
    assert len(CAFFE) == 61 and set(REGISTRY) >= CAFFE
    assert not [entry for entry in ENTRIES.values() if entry.origin == "missing" or not entry.what]


def test_a_type_that_is_not_there_is_listed_as_missing(monkeypatch):
    monkeypatch.delitem(ops.REGISTRY, "ReLU")
    (missing,) = [entry for entry in layer_types.entries() if entry.origin == "missing"]
    assert missing.type == "ReLU" and "60 of the 61 types" in layer_types.markdown(layer_types.entries())


def cases():
    found = {path.stem: load(path) for path in sorted((GOLDEN / "layers").glob("*.prototxt"))}
    return found | load_all(GOLDEN / "settings.npz")


def test_gradients_are_as_listed():
    """The bottoms that never get a gradient, of every net that Caffe has run."""
    for name, case in cases().items():
        for node in case.build().graph.nodes:
            entry, never = ENTRIES[node.type], node.op.undifferentiable
            count = len(node.bottoms)
            listed = {"all": set(), "": set(), "none": set(range(count)), "all but the last": {count - 1}}.get(entry.gradient)
            if entry.gradient == "x, static":
                assert 0 not in never and 1 in never
                continue
            if listed is None:
                listed = {int(word) for word in entry.gradient.split() if word.isdecimal()} & set(range(count))
            assert never & set(range(count)) == listed, name


@pytest.mark.parametrize("args, status, words", [
    (["layers", "Convolution", "Interp"], 0, ["Cross-correlation", "fork"]),
    (["layers", "Convolutoin"], 1, ["'Convolutoin' is not known; did you mean 'Convolution'?"]),
    (["layers"], 0, ["Convolution", "SoftmaxWithLoss", "softmax_param loss_param"]),
])
def test_the_command(capsys, args, status, words):
    assert cli.main(args) == status
    out = capsys.readouterr().out
    assert all(word in out for word in words)
