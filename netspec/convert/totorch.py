"""Nets as Python files that need torch alone, written only if they compute what the nets do."""

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from pprint import pformat

import torch

from ..base.errors import Error
from ..base.files import staging
from ..net.graph import Value
from ..net.module import Net
from .agree import Agreement, Arrays, Size, agreements, facts
from .readers import safetensors
from .torchops import WIDTH, Writer, identifier

HARD = "\N{NO-BREAK SPACE}"  # where no line may end
SCALE = '''

class Scale(nn.Module):
    """A factor and a term for each channel."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        shape = (-1,) + (1,) * (x.ndim - 2)
        return x * self.weight.view(shape) + self.bias.view(shape)
'''
CHECK = """
import importlib.util, json, sys
from safetensors.torch import load_file, save_file
import torch
spec = importlib.util.spec_from_file_location("written", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
net, given, made = module.load(), load_file(sys.argv[2]), {}
inputs, outputs = json.loads(sys.argv[4])
with torch.no_grad():
    for i in range(int(sys.argv[5])):
        tops = net(*(given[f"{i} {name}"] for name in inputs))
        tops = tops if isinstance(tops, tuple) else (tops,)
        made.update((f"{i} {name}", top.float().contiguous()) for name, top in zip(outputs, tops))
assert "netspec" not in sys.modules
save_file(made, sys.argv[3])
"""


def write_torch(net: Net, out: Path, sizes: Sequence[Size], spread: float,
                origin: str) -> tuple[list[Agreement], str]:
    """Write a net as a Python file and .safetensors if they compute the same; what was compared, and the end.

    sizes, spread: of the noise that both are given. origin: the net's file, as a person named it.
    """
    library = safetensors("writing").torch
    writer = Writer(net)
    with staging(out) as scratch:
        new = scratch / out.name
        new.write_text(text(writer, Path(origin).name), encoding="utf-8")
        # not by save_file, which gives the owner alone the right to read
        new.with_suffix(".safetensors").write_bytes(library.save(writer.tensors))

        def other(feeds: list[Arrays]) -> list[Arrays]:
            """What the written module makes of each, in a process that does not know netspec."""
            feed, made = new.with_name("feed"), new.with_name("made")
            feed.write_bytes(library.save({f"{i} {blob}": torch.from_numpy(x) for i, each in enumerate(feeds)
                                           for blob, x in each.items()}))
            names = json.dumps([net.graph.inputs, net.graph.outputs])
            given: list[str | Path] = [new, feed, made, names, str(len(feeds))]
            done = subprocess.run([sys.executable, "-I", "-c", CHECK, *given], capture_output=True, text=True)
            if done.returncode:
                problem = done.stderr.strip().splitlines()[-1]
                raise Error(f"the file written for {origin} does not run: {problem}")
            tops = library.load_file(made)
            return [{blob: tops[f"{i} {blob}"].numpy() for blob in net.graph.outputs}
                    for i in range(len(feeds))]

        found = agreements(net, other, sizes, spread)
        if not all(row.fits for row in found):
            return found, f"the file does not agree with the net: {out} is not written"
        for path in (new.with_suffix(".safetensors"), new):
            os.replace(path, out.with_name(path.name))
    return found, f"agrees, in a process of its own; torch {torch.__version__}"


def text(writer: Writer, origin: str) -> str:
    """The file: one module with a line a layer, and `load`."""
    graph = writer.graph
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"\W+|_", graph.name or "net"))
    name = identifier(name or "Net", {"Scale", "F", "Path", "CLASSES", "PALETTE", "MEAN", "RANGE", "ORDER"})
    outputs = ", ".join(writer.locals[blob] for blob in graph.outputs)
    body = [(f"self.{attribute} = ", code) for attribute, code in writer.members.items()]
    lines = [(f"{target} = ", code) for target, code in writer.lines]
    scale = SCALE if any(code.startswith("Scale(") for code in writer.members.values()) else ""
    sizes = ", ".join(f"{local} {'x'.join(map(str, graph.shapes[Value(blob)]))}"
                      for blob, local in zip(graph.inputs, writer.inputs, strict=True))
    title = f"{graph.name or 'A net'}, written by `netspec convert torch` from {origin}"
    title = re.sub(r'["\\\s]+', " ", title)
    return f'''"""{title}; needs torch, safetensors."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
{constants(writer)}{scale}

class {name}(nn.Module):
    """Takes {sizes}, gives {outputs}: float32, layers and blobs under the names that they have in Caffe."""

    def __init__(self):
        super().__init__()
{indented(body)}
    def forward({', '.join(['self', *writer.inputs])}):
{indented([*lines, ("return ", outputs)])}

def load(path=Path(__file__).with_suffix(".safetensors")):
    """The net with its weights, ready to predict."""
    from safetensors.torch import load_file

    net = {name}()
    net.load_state_dict(load_file(path))
    return net.eval()
'''


def constants(writer: Writer) -> str:
    """What the net says of its images, a line each: CLASSES, PALETTE, MEAN, RANGE, ORDER."""
    lines = [f"{key.upper()} = {pformat(value, width=WIDTH - 10, compact=True)}\n"
             for key, value in facts(writer.graph).items()]
    title = "\n# of the images that it takes, less MEAN, and of what it tells apart\n"
    return "".join([title, *lines]) if lines else ""


def indented(lines: Sequence[tuple[str, str]]) -> str:
    """Statements (what stands before the expression, the expression), in several lines if they are long."""
    wrap = textwrap.TextWrapper(WIDTH - 8, subsequent_indent=" " * 4, break_long_words=False,
                                break_on_hyphens=False).fill
    made = []
    for start, code in lines:
        start = start.replace(" ", HARD)
        whole = wrap(start + code).replace(HARD, " ")
        try:
            ast.parse(whole)
        except SyntaxError:  # it is broken where no bracket was open
            whole = wrap(f"{start}({code})").replace(HARD, " ")
        made.append(whole)
    return textwrap.indent("\n".join(made) + "\n", " " * 8)
