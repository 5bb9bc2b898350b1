"""Commands on nets of many layers: four times the layers are at most four times the work, not sixteen times."""

import sys
from pathlib import Path

import pytest
from net.test_graph import DATA, conv, relu

from netspec.cli.main import main

FEW, MANY = 60, 240


def chain(layers, name="c", more=""):
    body, below = "", "data"
    for i in range(layers // 2):
        body, below = body + conv(f"{name}{i}", below, more=more) + relu(f"{name}r{i}", f"{name}{i}"), f"{name}{i}"
    return DATA + body


def parallel(layers, name="c", more=""):
    read = " ".join(f'bottom: "{name}{i}"' for i in range(layers))
    return DATA + "".join(conv(f"{name}{i}", "data", more=more) for i in range(layers)) + (
        f'layer {{ name: "{name}" type: "Eltwise" top: "{name}" {read} }}')


def in_place(layers, name="c", more=""):
    return DATA + conv(name, "data", more=more) + "".join(relu(f"{name}{i}", name) for i in range(layers))


def ladder(layers, name="c", more=""):
    """A sum behind each convolution, with what the convolution read."""
    body, below = "", "data"
    for i in range(layers // 2):
        body += conv(f"{name}{i}", below, 3, more=more) + (
            f'layer {{ name: "{name}s{i}" type: "Eltwise" bottom: "{below}" bottom: "{name}{i}" top: "{name}s{i}" }}\n')
        below = f"{name}s{i}"
    return DATA + body


COMMANDS = {
    "describe": (lambda net: ["describe", net, "--json"], (parallel,)),
    "draw": (lambda net: ["draw", net, "--out", "net.svg"], (parallel, ladder)),
    "doctor": (lambda net: ["doctor", net, "--device", "cpu"], (ladder,)),
    "figure3": (lambda net: ["draw", net, "--style", "figure3", "--out", "net.svg"], (parallel,)),
    "diff, itself": (lambda net: ["diff-net", net, net, "--size", "8x8"], (parallel, in_place)),
    "diff, other": (lambda net: ["diff-net", net, f"other-{net}"], (chain, parallel, ladder)),
    "diff, renamed": (lambda net: ["diff-net", net, f"renamed-{net}"], (parallel,)),
}


def calls(command):
    """How many functions a command calls, in Python and C."""
    count = 0

    def count_one(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_one)
    try:
        assert main(command) in (0, 1)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("command, shape", [(name, shape) for name, (_, shapes) in COMMANDS.items() for shape in shapes])
def test_work_grows_with_the_layers(tmp_path, monkeypatch, capsys, command, shape):
    monkeypatch.chdir(tmp_path)
    for layers in (FEW, MANY):
        Path(f"{layers}.prototxt").write_text(shape(layers))
        Path(f"renamed-{layers}.prototxt").write_text(shape(layers, "x"))
        Path(f"other-{layers}.prototxt").write_text(shape(layers, "x", "stride: 2" if shape is parallel else "bias_term: false"))
    words = COMMANDS[command][0]
    main(words(f"{FEW}.prototxt"))  # imports what it needs
    few, many = (calls(words(f"{layers}.prototxt")) for layers in (FEW, MANY))
    assert many < 3.7 * few, (few, many)


def test_a_net_deeper_than_pythons_own_stack(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(in_place(sys.getrecursionlimit() + 100))
    assert main(["draw", "net.prototxt", "--style", "figure3", "--out", "net.svg"]) == 0
