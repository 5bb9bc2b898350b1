"""The difference of two nets in structure, layer by layer and field by field, and of a net from Figure 3."""

import argparse
import ast
import importlib.util
import inspect
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import figure3, graph, prototext
from .analysis import without_data
from .describe import size
from .errors import Error, closest
from .files import find
from .ops import REGISTRY
from .proto import caffe_pb2
from .run import old, stand_in
from .upgrade import upgrade_net

WINDOW = {"kernel_size": "", "stride": "1", "pad": "0", "dilation": "1", "offset": "0"}  # one number an axis -> default
COLOURS = {"@": 36, "-": 31, "+": 32}


def load(given: str) -> Any:
    """The NetParameter, upgraded, of a prototxt file or a generator FILE.py:NAME[/SPLIT].

    The generator is the file's `generate(NAME, SPLIT)`, or else its function NAME, called with SPLIT if it takes an
    argument (default: train). Raises Error for what is missing or fails.
    """
    path, _, call = given.rpartition(":")
    if given.endswith(".py"):
        raise Error(f"{given} is a program; to compare a net that it makes, write FILE.py:NAME or FILE.py:NAME/SPLIT")
    if not path.endswith(".py"):
        return prototext.read_net(find(given, what="net"))
    name, _, split = call.partition("/")
    spec = importlib.util.spec_from_file_location(f"generator_{Path(path).stem}", find(path, what="generator"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    if not importlib.util.find_spec("caffe"):
        stand_in()
    try:
        spec.loader.exec_module(module)
        function = getattr(module, "generate", None) or getattr(module, name, None)
        if function is None:
            raise Error(f"{path} has neither a function 'generate' nor '{name}'{closest(name, vars(module))}")
        takes = len(inspect.signature(function).parameters)
        made = function(*([name] if hasattr(module, "generate") else []), *[split or "train"] * bool(takes))
        net = prototext.parse(str(made.to_proto() if hasattr(made, "to_proto") else made), caffe_pb2.NetParameter, given)
    except Error:
        raise
    except Exception as e:  # whatever a person's script does
        raise Error(f"{given} gave no net: {old(e) or f'{type(e).__name__}: {e}'}") from e
    upgrade_net(net, given)
    return net


def without_sets(given: str, net: Any, phase: int, size: tuple[int, int] | None = None) -> graph.Graph:
    """The graph of what `load` read; data sets need not be there (analysis.without_data)."""
    if Path(given).is_file():
        return without_data(given, phase, size)
    with tempfile.TemporaryDirectory() as folder:
        prototext.write(Path(folder, "net.prototxt"), net)
        return without_data(Path(folder, "net.prototxt"), phase, size)


def settings(message: Any, skip: Iterable[str] = ()) -> dict[str, str]:
    """Field -> value as text, of all fields that differ from the schema's defaults, however they are spelled.

    A field for which the schema states no default (a rule's phase, loss_param's normalize) is another when it is left out.
    """
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        if field.name in skip:
            continue
        many = not hasattr(value, "ListFields") and hasattr(value, "__len__") and not isinstance(value, str | bytes)
        if field.message_type:
            for i, item in enumerate(value if many else [value]):
                name = f"{field.name}[{i}]" if many else field.name
                found |= {f"{name}.{key}": text for key, text in settings(item).items()}
        elif many or not field.has_default_value or value != field.default_value:
            found[field.name] = " ".join(_text(field, v) for v in (value if many else [value]))
    for name, default in WINDOW.items():
        pair = [found.pop(f"{name.removesuffix('_size')}_{axis}", None) for axis in "hw"]
        if any(pair):
            found[name] = " ".join(text or default or "0" for text in pair)
        if len(values := set(found.get(name, "").split())) == 1 and name in message.DESCRIPTOR.fields_by_name:
            found[name] = values.pop()
            if found[name] == default:
                del found[name]
    return found


def _text(field: Any, value: Any) -> str:
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    if isinstance(value, str):
        return f'"{value}"'
    # of a float32 the fewest digits that give it
    return f"{float(str(np.float32(value))):.9g}" if field.cpp_type == field.CPPTYPE_FLOAT else str(value).lower()


class Layer:
    """A layer to compare: its settings as text, and for each bottom the layers that wrote it before."""

    def __init__(self, message: Any, writers: dict[str, tuple["Layer", ...]], filtered: bool) -> None:
        self.name, self.type, self.tops = message.name, message.type, list(message.top)
        self.settings = settings(message, ("name", "bottom", "top", *(("include", "exclude") if filtered else ())))
        if self.settings.get("loss_weight") == str(int(self.type in REGISTRY and REGISTRY[self.type].loss)):
            del self.settings["loss_weight"]  # Caffe's own
        try:
            options = ast.literal_eval(message.python_param.param_str)
        except (ValueError, SyntaxError):
            options = None
        if isinstance(options, dict):
            del self.settings["python_param.param_str"]
            self.settings |= {f"param_str.{key}": repr(value) for key, value in options.items()}
        self.bottoms = [(blob, writers.get(blob, ())) for blob in message.bottom]
        self.makers = [by[-1] if by else None for _, by in self.bottoms]
        self.readers: list[Layer] = []
        for maker in filter(None, self.makers):
            maker.readers.append(self)
        for top in self.tops:
            writers[top] = (*(writers.get(top, ()) if top in message.bottom else ()), self)

    def fields(self, blobs: Mapping[str, str], partners: Mapping["Layer", str]) -> dict[str, str]:
        """All that is compared, blobs and layers under these names. Of who wrote a bottom, only layers with a partner count."""
        def read(blob: str, by: tuple[Layer, ...]) -> str:
            after = [partners[layer] for layer in by[1:] if layer in partners][-1:]
            return blobs.get(blob, blob) + "".join(f" (after {name})" for name in after)

        return {"type": f'"{self.type}"', "bottom": ", ".join(read(*bottom) for bottom in self.bottoms),
                "top": ", ".join(blobs.get(top, top) for top in self.tops), **self.settings}


def layers(net: Any, phase: int | None = None, body: bool = False) -> list[Layer]:
    """The layers of a net, in a phase if one is given, without its sources if only its body is asked for."""
    state, writers = caffe_pb2.NetState(phase=phase, stage=net.state.stage), {}
    found = [Layer(each, writers, phase is not None) for each in net.layer if phase is None or graph.included(each, state)]
    return [layer for layer in found if layer.bottoms or not body]


def match(a: list[Layer], b: list[Layer]) -> dict[Layer, Layer]:
    """The layers of two nets that are the same: by name; else by type, settings and what they read or who reads them;
    else by type and both."""
    found: dict[Layer, Layer] = {}
    free = list(b)

    def pair(one: Layer, other: Layer) -> None:
        found[one] = other
        free.remove(other)

    for one in a:
        for other in [other for other in free if other.name == one.name][:1]:
            pair(one, other)
    for alike, behind, ahead in ((True, True, False), (True, False, True), (False, True, True)):
        for one in a if behind else a[::-1]:
            for other in free if behind else free[::-1]:
                if one not in found and one.type == other.type and (not alike or one.settings == other.settings) \
                        and (not behind or [found.get(maker) for maker in one.makers] == other.makers) \
                        and (not ahead or not one.readers and not other.readers
                             or any(found.get(reader) in other.readers for reader in one.readers if reader in found)):
                    pair(one, other)
                    break
    return found


def renamed(found: Mapping[Layer, Layer]) -> dict[str, str]:
    """Blob -> its name in the other net, where that is one name throughout."""
    pairs = {pair for one, other in found.items() for pair in zip(one.tops, other.tops, strict=False)}
    once = {pair for pair in pairs if sum(pair[0] == p[0] or pair[1] == p[1] for p in pairs) == 1}
    return {mine: theirs for mine, theirs in once if mine != theirs}


def difference(a: list[Layer], b: list[Layer]) -> tuple[list[str], str]:
    """The lines of the difference, none if the nets are equal, and a sentence that counts.

    Names of layers and blobs count, since weights and scripts go by them; names of nets do not. The order of layers counts
    where it changes what is computed: who made a bottom, and which layer worked on it in place last.
    """
    found = match(a, b)
    back, blobs = {other: one for one, other in found.items()}, renamed(found)
    order: list[tuple[tuple[int, int], Layer | None, Layer | None]] = [((i, 0), one, found.get(one)) for i, one in enumerate(a)]
    at, moved = -1, False
    for other in b:
        if other not in back:
            order.append(((at, 1), None, other))  # behind the layer that it follows
        else:
            at, moved = a.index(back[other]), moved or a.index(back[other]) < at
    lines: list[str] = []
    count = dict.fromkeys(("equal", "changed", "renamed", "removed", "added"), 0)
    for _, one, other in sorted(order, key=lambda each: each[0]):
        shown = one.fields({}, {each: each.name for each in found}) if one else {}
        ours = one.fields(blobs, {each: found[each].name for each in found}) if one else {}
        theirs = other.fields({}, {each: each.name for each in back}) if other else {}
        fields = [key for key in dict.fromkeys((*ours, *theirs)) if ours.get(key) != theirs.get(key)]
        same = "equal" if one and other and one.name == other.name else "renamed"
        what = "added" if one is None else "removed" if other is None else "changed" if fields else same
        count[what] += 1
        if what != "equal":
            names = dict.fromkeys(layer.name for layer in (one, other) if layer)
            lines.append(f"@@ {' -> '.join(names)} ({(one or other).type}) @@ {what}")
        for key in fields:
            lines += [f"{sign}  {key}: {side[key]}" for sign, side in (("-", shown), ("+", theirs)) if key in side]
    lines += [f"@@ blob {mine} -> {theirs} @@ renamed" for mine, theirs in blobs.items()
              if not any(one.name == mine and found[one].name == theirs for one in found)]
    counted = ", ".join(f"{n} {what}" for what, n in count.items() if n)
    return lines, f"{counted} layers{' (in another order, which does not matter)' if moved else ''}"


def shapes(a: graph.Graph, b: graph.Graph, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The lines of difference between the shapes of blobs that both nets have; pairs: their names."""
    lines = []
    for mine, theirs in pairs:
        ours, other = (" x ".join(map(str, net.shape(blob))) for net, blob in ((a, mine), (b, theirs)))
        lines += [] if ours == other else [f"-  {mine}: {ours}", f"+  {theirs}: {other}"]
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", metavar="NET", nargs="+", help="prototxt, or FILE.py:NAME[/SPLIT]: two to compare")
    parser.add_argument("--figure3", nargs="?", const="own", choices=["own", "32s", "16s", "8s"], metavar="ROW",
                        help="hold nets against a row of Figure 3: 32s, 16s or 8s (default: own, by the net's stride)")
    parser.add_argument("--shapes", action="append", type=size, default=[], metavar="HxW", help="compare blobs at this size too")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], help="only what this phase keeps (shapes, --figure3: TEST)")
    parser.add_argument("--body", action="store_true", help="leave sources of data out")


def run(args: argparse.Namespace) -> int:
    """The `diff-net` command; 1 if the nets differ, or a net differs from the figure."""
    if args.figure3 is None and len(args.nets) != 2:
        raise Error(f"two nets are compared, {len(args.nets)} given; --figure3 takes one")
    nets = [load(given) for given in args.nets]
    phase = args.phase and caffe_pb2.Phase.Value(args.phase)
    known = caffe_pb2.TEST if phase is None else phase
    if args.figure3 is not None:
        return max([_held(*each, known, args.figure3) for each in zip(args.nets, nets, strict=True)])
    a, b = (layers(net, phase, args.body) for net in nets)
    lines, counted = difference(a, b)
    own = [settings(net, ("name", "layer")) for net in nets]
    wide = [f"{sign}  {key}: {side[key]}" for key in dict.fromkeys((*own[0], *own[1])) if own[0].get(key) != own[1].get(key)
            for sign, side in zip("-+", own, strict=True) if key in side]
    lines = [*(["@@ net @@ changed"] if wide else []), *wide, *lines]
    for at in args.shapes:
        graphs = [without_sets(given, net, known, at) for given, net in zip(args.nets, nets, strict=True)]
        pairs = {pair: None for one, other in match(*(layers(net, known, args.body) for net in nets)).items()
                 for pair in zip(one.tops, other.tops, strict=False)}
        if wrong := shapes(*graphs, pairs):
            lines += [f"@@ shapes at {at[0]}x{at[1]} @@", *wrong]
    if lines:
        _print([f"--- {args.nets[0]}", f"+++ {args.nets[1]}", *lines])
    print(counted)
    return int(bool(lines))


def _held(given: str, net: Any, phase: int, row: str) -> int:
    """Print a net's predictions and how they differ from the figure; 1 if one does."""
    print(given)
    built: list[str] = []
    try:
        made = without_sets(given, net, phase)
    except Error as e:
        built.append(f"the net cannot be built: {e}")
        made = figure3.outline(net, phase)
    differs = bool(built)
    for p in figure3.streams(made):
        told = figure3.check(p, None if row == "own" else int(row[:-1])) + built
        _print([*figure3.described(p), *([f"-  {each}" for each in told] or [f"equals the figure's FCN-{p.stride}s"])])
        differs |= bool(told)
    return int(differs)


def _print(lines: list[str]) -> None:
    """In colour on a terminal, unless NO_COLOR is set."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    for line in lines:
        print(line if plain or line[0] not in COLOURS else f"\x1b[{COLOURS[line[0]]}m{line}\x1b[0m")
