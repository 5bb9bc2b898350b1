"""The difference of two nets in structure, layer by layer and field by field, and of a net from Figure 3."""

import argparse
import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping, MutableSequence
from typing import Any

import numpy as np

from ..base.errors import Error
from ..base.files import find
from ..look import streams as figure3
from ..look.describe import size as pixels
from ..net.build import standing
from ..net.deploy import deploy
from ..ops import REGISTRY
from ..proto import caffe_pb2
from ..pycaffe.script import load

WINDOW = {"kernel_size": "", "stride": "1", "pad": "0", "dilation": "1", "offset": "0"}  # one number an axis -> default
ROWS = ("own", "32s", "16s", "8s")  # what --figure3 takes
COLOURS = {"@": 36, "-": 31, "+": 32}


def settings(message: Any, skip: Iterable[str] = ()) -> dict[str, str]:
    """Field -> value as text, of all fields that differ from the schema's defaults, however they are spelled.

    A field for which the schema states no default (a rule's phase, loss_param's normalize) is another when it is left out.
    """
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        many = isinstance(value, MutableSequence)
        if field.message_type and field.name not in skip:
            for i, item in enumerate(value if many else [value]):
                found |= {f"{field.name}{f'[{i}]' * many}.{key}": text for key, text in settings(item).items()}
        elif field.name not in skip and (many or not field.has_default_value or value != field.default_value):
            found[field.name] = " ".join(_text(field, v) for v in (value if many else [value]))
    for name, default in WINDOW.items():
        pair = [found.pop(f"{name.removesuffix('_size')}_{axis}", None) for axis in "hw"]
        values = [text or default for text in pair] if any(pair) else found.pop(name, default).split()
        values = values[:1] if len(set(values)) == 1 else values  # one number holds for all axes
        if values not in ([], [default]):
            found[name] = " ".join(values)
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
        except (ValueError, SyntaxError, TypeError):
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

        ends = dict(bottom=[read(*bottom) for bottom in self.bottoms], top=[blobs.get(top, top) for top in self.tops])
        return {"type": f'"{self.type}"', **{end: ", ".join(names) for end, names in ends.items() if names}, **self.settings}


def layers(net: Any, phase: int | None = None, body: bool = False) -> list[Layer]:
    """The layers of a net, in a phase if one is given, without its sources if only its body is asked for."""
    kept, writers = net.layer if phase is None else standing(net, phase), {}
    found = [Layer(each, writers, phase is not None) for each in kept]
    return [layer for layer in found if layer.bottoms or not body]


def match(a: list[Layer], b: list[Layer]) -> dict[Layer, Layer]:
    """The layers of two nets that are the same: by name; else by type, settings and what they read or who reads them;
    else by type and both."""
    found: dict[Layer, Layer] = {}

    def alike(one: Layer, other: Layer) -> bool:
        return one.type == other.type and one.settings == other.settings

    def behind(one: Layer, other: Layer) -> bool:
        return [found.get(maker) for maker in one.makers] == other.makers

    def ahead(one: Layer, other: Layer) -> bool:
        return not one.readers and not other.readers or any(found.get(reader) in other.readers for reader in one.readers)

    for same, step in ((lambda one, other: one.name == other.name, 1),
                       (lambda one, other: alike(one, other) and behind(one, other), 1),
                       (lambda one, other: alike(one, other) and ahead(one, other), -1),
                       (lambda one, other: one.type == other.type and behind(one, other) and ahead(one, other), 1)):
        for one in a[::step]:
            free = [] if one in found else [other for other in b[::step] if other not in found.values()]
            for other in [other for other in free if same(one, other)][:1]:
                found[one] = other
    return found


def renamed(found: Mapping[Layer, Layer]) -> dict[str, str]:
    """Blob -> its name in the other net, where that is one name throughout."""
    pairs = {pair for one, other in found.items() for pair in zip(one.tops, other.tops, strict=False)}
    once = {pair for pair in pairs if sum(pair[0] == p[0] or pair[1] == p[1] for p in pairs) == 1}
    return {mine: theirs for mine, theirs in once if mine != theirs}


def changes(title: str, old: Mapping[str, str], new: Mapping[str, str], shown: Mapping[str, str] | None = None) -> list[str]:
    """The lines of one block: what is not the same in both; shown: how to say the old ones. None if all is."""
    lines = [f"{sign}  {key}: {side[key]}" for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)
             for sign, side in (("-", shown or old), ("+", new)) if key in side]
    return [title, *lines] if lines else []


def difference(a: list[Layer], b: list[Layer]) -> tuple[list[str], str]:
    """The lines of the difference, none if the nets are equal, and a sentence that counts.

    Names of layers and blobs count, since weights and scripts go by them; names of nets do not. The order of layers counts
    where it changes what is computed: who made a bottom, and which layer worked on it in place last.
    """
    found = match(a, b)
    back, blobs = {other: one for one, other in found.items()}, renamed(found)
    order = [(i, one, found.get(one)) for i, one in enumerate(a)]
    at, moved = -1, False
    for other in b:
        if other not in back:
            order.append((at, None, other))  # behind the layer that it follows
        else:
            at, moved = a.index(back[other]), moved or a.index(back[other]) < at
    lines: list[str] = []
    count = dict.fromkeys(("equal", "changed", "renamed", "removed", "added"), 0)
    own, others = ({layer: layer.name for layer in side} for side in (found, back))
    for _, one, other in sorted(order, key=lambda each: each[0]):
        names = list(dict.fromkeys(layer.name for layer in (one, other) if layer))
        title = f"@@ {' -> '.join(names)} ({(one or other).type}) @@ "
        block = changes(title, one.fields(blobs, {each: found[each].name for each in found}) if one else {},
                        other.fields({}, others) if other else {}, one and one.fields({}, own))
        what = "added" if not one else "removed" if not other else "changed" if block else "renamed" if names[1:] else "equal"
        count[what] += 1
        lines += [title + what, *block[1:]] if what != "equal" else []
    lines += [f"@@ blob {mine} -> {theirs} @@ renamed" for mine, theirs in blobs.items()
              if not any(one.name == mine and found[one].name == theirs for one in found)]
    counted = ", ".join(f"{n} {what}" for what, n in count.items() if n)
    return lines, f"{counted or 'no'} layers{' (in another order, which does not matter)' if moved else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", metavar="NET", nargs="*", help="prototxt, or FILE.py:NAME[/SPLIT]: two to compare")
    parser.add_argument("--figure3", nargs="?", const="own", metavar="ROW",
                        help="hold nets against a row of Figure 3: 32s, 16s or 8s (default: own, by the net's stride)")
    parser.add_argument("--shapes", action="append", type=pixels, default=[], metavar="HxW", help="compare blobs too")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], help="only what this phase keeps (shapes, --figure3: TEST)")
    parser.add_argument("--body", action="store_true", help="leave sources of data out")


def run(args: argparse.Namespace) -> int:
    """The `diff-net` command; 1 if the nets differ, or a net differs from the figure."""
    if args.figure3 not in (None, *ROWS):  # a net that stands behind the option
        if re.fullmatch(r"\d+s?", args.figure3):
            raise Error(f"--figure3 takes one of {', '.join(ROWS)}, found '{args.figure3}'")
        args.nets.insert(0, args.figure3)
        args.figure3 = "own"
    if args.figure3 is None and len(args.nets) != 2 or not args.nets:
        raise Error(f"two nets are compared, {len(args.nets)} given; --figure3 takes one")
    nets = [load(given) for given in args.nets]
    files = [net if ".py:" in given else find(given) for given, net in zip(args.nets, nets, strict=True)]
    phase = caffe_pb2.Phase.Value(args.phase) if args.phase else None
    known = caffe_pb2.TEST if phase is None else phase
    if args.figure3 is not None:
        return max([held(*each, known, args.figure3) for each in zip(args.nets, nets, files, strict=True)])
    whole = [settings(net, ("name", "layer")) for net in nets]
    lines = changes("@@ net @@ changed", whole[0], whole[1])
    found, counted = difference(*(layers(net, phase, args.body) for net in nets))
    lines += found
    for size in args.shapes:
        graphs = [deploy(net, known, size, losses=True) for net in files]
        pairs = match(*(layers(net, known, args.body) for net in nets)).items()
        blobs = dict.fromkeys(pair for one, other in pairs for pair in zip(one.tops, other.tops, strict=False))
        shapes = [{pair[0]: " x ".join(map(str, graphs[i].shape(pair[i]))) for pair in blobs} for i in (0, 1)]
        lines += changes(f"@@ shapes at {size[0]}x{size[1]} @@", *shapes)
    show([f"--- {args.nets[0]}", f"+++ {args.nets[1]}", *lines] if lines else [])
    print(counted)
    return int(bool(lines))


def held(given: str, net: Any, file: Any, phase: int, row: str) -> int:
    """Print a net's predictions and how they differ from the figure; 1 if one does, or if the net cannot be built."""
    broken: list[str] = []
    try:
        graph = deploy(file, phase, losses=True)
    except Error as e:
        broken = [f"the net cannot be built: {e}"]
        try:
            found = figure3.streams(figure3.outline(net, phase))
        except (Error, KeyError):  # more is wrong with it than sizes
            raise e from None
    else:
        found = figure3.streams(graph)
    told = [[*figure3.check(p, None if row == "own" else int(row[:-1])), *broken] for p in found]
    show([given])
    for p, wrong in zip(found, told, strict=True):
        show([*figure3.described(p), *([f"-  {each}" for each in wrong] or [f"equals the figure's FCN-{p.stride}s"])])
    return int(any(told))


def show(lines: list[str]) -> None:
    """Print lines, in colour on a terminal unless NO_COLOR is set."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        print(f"\x1b[{COLOURS[line[0]]}m{line}\x1b[0m" if colour and line[0] in COLOURS else line)
