"""The difference of two nets in structure, layer by layer and field by field, and of a net from Figure 3."""

import ast
from collections.abc import Iterable, Mapping, MutableSequence
from typing import Any

import numpy as np

from ..net.build import standing
from ..ops import REGISTRY

WINDOW = {"kernel_size": "", "stride": "1", "pad": "0", "dilation": "1", "offset": "0"}  # one number an axis -> default
ROWS = ("own", "32s", "16s", "8s")  # what --figure3 takes


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
