"""The difference of two nets in structure, layer by layer and field by field, and of a net from Figure 3."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, MutableSequence, Sequence
from contextlib import suppress
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message

from ..base.errors import Error
from ..base.trust import leave
from ..look.streams import deviations, in_words, outline, streams
from ..net.build import standing
from ..net.deploy import deploy
from ..net.graph import UNSEEN, Graph
from ..ops import REGISTRY
from ..ops.settings import read_settings
from ..proto.caffe_pb2 import TEST, LayerParameter, NetParameter, Phase

# one number an axis -> default
WINDOW = {"kernel_size": "", "stride": "1", "pad": "0", "dilation": "1", "offset": "0"}


def compared(nets: Sequence[NetParameter], paths: Sequence[Path | None], phase: Phase | None, body: bool,
             sizes: Sequence[tuple[int, int]]) -> tuple[list[str], str]:
    """The lines of the difference of two nets, none if they are equal, and a sentence that counts.

    paths: their files, for errors. phase: only what it keeps. body: sources are left out. sizes: of images,
    to compare the shapes of blobs at (in TEST if no phase is given).
    """
    whole = [settings(net, ("name", "layer")) for net in nets]
    found, counted = difference(*(layers(net, phase, body) for net in nets))
    lines = [*changes("@@ net @@ changed", *whole), *found]
    known = TEST if phase is None else phase
    for size in sizes:
        a, b = (deploy(net, known, size, losses=True, path=path, opaque=True)
                for net, path in zip(nets, paths, strict=True))
        for graph in (a, b):
            for why in graph.opaque.values():
                leave.tell(f"{why}; shapes behind it are not known, and stand as ?")
        blobs = _pairs(match(*(layers(net, known, body) for net in nets)))
        lines += changes(f"@@ shapes at {size[0]}x{size[1]} @@",
                         {mine: _shaped(a, mine) for mine, _ in blobs},
                         {mine: _shaped(b, theirs) for mine, theirs in blobs})
    return lines, counted


def _shaped(graph: Graph, blob: str) -> str:
    shape = graph.shape(blob)
    return "?" if shape is UNSEEN else " x ".join(map(str, shape))


def against_figure(net: NetParameter, path: Path | None, phase: Phase,
                   row: int | None) -> tuple[list[str], bool]:
    """A net's predictions in lines, and what differs from a row of Figure 3 (None: its own); if any.

    A net that cannot be built differs. path: its file, for errors.
    """
    broken: list[str] = []
    try:
        found = streams(deploy(net, phase, losses=True, path=path))
    except Error as e:
        broken = [f"the net cannot be built: {e}"]
        try:
            found = streams(outline(net, phase))
        except (Error, KeyError):  # more is wrong with it than sizes
            raise e from None
    told = [(p, [*deviations(p, row), *broken]) for p in found]
    lines = [line for p, wrong in told for line in (
        *in_words(p), *([f"-  {each}" for each in wrong] or [f"equals the figure's FCN-{p.stride}s"]))]
    return lines, any(wrong for _, wrong in told)


def settings(message: Message, skip: Collection[str] = ()) -> dict[str, str]:
    """Field -> value as text, of all fields that differ from the schema's defaults, however they are spelled.

    A field for which the schema states no default (a rule's phase, loss_param's normalize) is another one
    when it is left out.
    """
    found: dict[str, str] = {}
    for field, value in message.ListFields():
        many = isinstance(value, MutableSequence)
        if field.message_type and field.name not in skip:
            for i, item in enumerate(value if many else [value]):
                name = f"{field.name}[{i}]" if many else field.name
                found |= {f"{name}.{key}": text for key, text in settings(item).items()}
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
    if field.cpp_type == field.CPPTYPE_FLOAT:  # the fewest digits that give it
        return f"{float(str(np.float32(value))):.9g}"
    return str(value).lower()


class Layer:
    """A layer to compare: its settings as text, and for each bottom the layers that wrote it before."""

    def __init__(self, message: LayerParameter, writers: dict[str, list["Layer"]], filtered: bool) -> None:
        """writers: of each blob so far; this layer is added. filtered: rules have had their effect."""
        self.name, self.type, self.tops = message.name, message.type, list(message.top)
        rules = ("include", "exclude") if filtered else ()
        self.settings = settings(message, ("name", "bottom", "top", *rules))
        if self.settings.get("loss_weight") == str(int(self.type in REGISTRY and REGISTRY[self.type].loss)):
            del self.settings["loss_weight"]  # Caffe's own
        options = None
        with suppress(Error):  # a key that stands twice: a layer of one's own may take it
            options = read_settings(message.python_param.param_str)
        if options:
            del self.settings["python_param.param_str"]
            self.settings |= {f"param_str.{key}": repr(list(value) if isinstance(value, tuple) else value)
                              for key, value in options.items()}
        self.alike = self.type, *sorted(self.settings.items())  # of two layers that do the same
        # blob, its writers, and how many of them there were: more may come behind this layer
        self.bottoms = [(blob, by := writers.get(blob, []), len(by)) for blob in message.bottom]
        self.makers = tuple(by[-1] if by else None for _, by, _ in self.bottoms)
        self.readers: list[Layer] = []
        for maker in self.makers:
            if maker:
                maker.readers.append(self)
        for top in self.tops:
            if top not in writers or top not in message.bottom:
                writers[top] = []
            writers[top].append(self)

    def fields(self, blobs: Mapping[str, str], partners: Mapping["Layer", str]) -> dict[str, str]:
        """What is compared, blobs and layers by these names; of a bottom's writers those with a partner."""
        def read(blob: str, by: list[Layer], number: int) -> str:
            after = next((partners[by[i]] for i in range(number - 1, 0, -1) if by[i] in partners), None)
            return blobs.get(blob, blob) + (f" (after {after})" if after else "")

        found = {"type": f'"{self.type}"', "bottom": ", ".join(read(*bottom) for bottom in self.bottoms),
                 "top": ", ".join(blobs.get(top, top) for top in self.tops)}
        return {name: text for name, text in found.items() if text} | self.settings


def layers(net: NetParameter, phase: Phase | None = None, body: bool = False) -> list[Layer]:
    """The layers of a net, in a phase if one is given, without its sources if only its body is asked for."""
    writers: dict[str, list[Layer]] = {}
    found = [Layer(each, writers, phase is not None)
             for each in (net.layer if phase is None else standing(net, phase))]
    return [layer for layer in found if layer.bottoms or not body]


def match(a: Sequence[Layer], b: Sequence[Layer]) -> dict[Layer, Layer]:
    """The layers of two nets that are the same: by name; else by type, settings and what they read or who
    reads them; else by type and both."""
    found: dict[Layer, Layer] = {}

    def behind(one: Layer) -> tuple[Layer | None, ...]:
        return tuple(maker and found.get(maker) for maker in one.makers)

    def ahead(one: Layer) -> list[Layer | None]:
        return [found[reader] for reader in one.readers if reader in found] if one.readers else [None]

    def of(other: Layer) -> Sequence[Layer | None]:
        return other.readers or [None]

    numbers: dict[Hashable, int] = {}  # of what is long to look up, once for each reader

    def number(*facts: Hashable) -> int:
        return numbers.setdefault(facts, len(numbers))

    _pair(a, b, found, lambda one: [one.name], lambda other: [other.name])
    _pair(a, b, found, lambda one: [(one.alike, behind(one))], lambda other: [(other.alike, other.makers)])
    _pair(a[::-1], b[::-1], found, lambda one: product([number(one.alike)], ahead(one)),
          lambda other: product([number(other.alike)], of(other)))
    _pair(a, b, found, lambda one: product([number(one.type, behind(one))], ahead(one)),
          lambda other: product([number(other.type, other.makers)], of(other)))
    return found


def _pair(a: Sequence[Layer], b: Sequence[Layer], found: dict[Layer, Layer],
          mine: Callable[[Layer], Iterable[Hashable]], theirs: Callable[[Layer], Iterable[Hashable]]) -> None:
    """Join each layer of `a` without partner to the first of `b` without one that shares a key with it."""
    taken, places = set(found.values()), {other: i for i, other in enumerate(b)}
    waiting = defaultdict[Hashable, deque[Layer]](deque)
    for other in b:
        if other not in taken:
            for key in theirs(other):
                waiting[key].append(other)
    for one in a:
        if one in found:
            continue
        first = []
        for queue in (waiting[key] for key in mine(one) if key in waiting):
            while queue and queue[0] in taken:
                queue.popleft()
            first += [queue[0]] if queue else []
        if first:
            found[one] = min(first, key=places.__getitem__)
            taken.add(found[one])


def _pairs(found: Mapping[Layer, Layer]) -> list[tuple[str, str]]:
    """The blobs that layers which are the same make, in one net and the other; each pair once."""
    both = (zip(one.tops, other.tops, strict=False) for one, other in found.items())
    return list(dict.fromkeys(chain.from_iterable(both)))


def changes(title: str, old: Mapping[str, str], new: Mapping[str, str],
            shown: Mapping[str, str] | None = None) -> list[str]:
    """The lines of a block: what is not the same in both, none if all is; shown: how to say the old ones."""
    keys = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
    lines = [f"{sign}  {key}: {side[key]}"
             for key in keys for sign, side in (("-", shown or old), ("+", new)) if key in side]
    return [title, *lines] if lines else []


def difference(a: Sequence[Layer], b: Sequence[Layer]) -> tuple[list[str], str]:
    """The lines of the difference of layers, none if they are equal, and a sentence that counts.

    Names of layers and blobs count, since weights and scripts go by them; names of nets do not. The order of
    layers counts where it changes what is computed: who made a bottom, and who worked on it in place last.
    """
    found = match(a, b)
    back, places = {other: one for one, other in found.items()}, {one: i for i, one in enumerate(a)}
    # all layers, those of `b` alone behind the one that they follow there
    order: list[tuple[int, Layer | None, Layer | None]] = [(places[one], one, found.get(one)) for one in a]
    at, moved = -1, False
    for layer in b:
        if layer in back:
            at, moved = places[back[layer]], moved or places[back[layer]] < at
        else:
            order.append((at, None, layer))
    pairs, lines = _pairs(found), list[str]()
    mine, theirs = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    # blob -> its name in the other net, where that is one name throughout
    blobs = {a: b for a, b in pairs if a != b and mine[a] == theirs[b] == 1}
    count = dict.fromkeys(("equal", "changed", "renamed", "removed", "added"), 0)
    own, others = {one: one.name for one in found}, {other: other.name for other in found.values()}
    partners = {one: other.name for one, other in found.items()}
    for _, one, other in sorted(order, key=lambda each: each[0]):
        old = one.fields(blobs, partners) if one else {}
        new = other.fields({}, others) if other else {}
        both = [each for each in (one, other) if each]
        names = dict.fromkeys(each.name for each in both)
        block = changes("", old, new, one.fields({}, own) if one else None)
        what = ("added" if not one else "removed" if not other else "changed" if block else
                "renamed" if len(names) > 1 else "equal")
        count[what] += 1
        if what != "equal":
            lines += [f"@@ {' -> '.join(names)} ({both[0].type}) @@ {what}", *block[1:]]
    told = {(one.name, other.name) for one, other in found.items()}
    lines += [f"@@ blob {old} -> {new} @@ renamed" for old, new in blobs.items() if (old, new) not in told]
    counted = f"{', '.join(f'{n} {what}' for what, n in count.items() if n) or 'no'} layers"
    return lines, counted + (" (in another order, which does not matter)" if moved else "")
