"""param_str of Python layers: a dict as Python writes one, or YAML's mapping; read, never evaluated."""

import ast
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import Message

from ..base.errors import NO_LITERAL, Error
from ..proto.caffe_pb2 import LayerParameter
from ..proto.wire import MOST_NUMBERS

_TAG = re.compile(r"!!(python/tuple|python/list|python/dict|seq|map|str|int|float|bool)\b\s*")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "null": None,
          "~": None}
LONG_TEXT = 1 << 16  # letters of YAML's form, whose parts are cut off one by one
_QUOTED = re.compile(r"""'((?:[^']|'')*)'|"((?:[^"\\]|\\.)*)\"""")


def read_settings(text: str) -> dict[Any, Any] | None:
    """What a param_str says; None if it is neither form. Raises Error for a key that stands twice: the last
    would win in silence.

    Of YAML: `KEY: VALUE`, one a line, with comments; values are numbers, words, quoted words, [lists] and
    {maps} (!!python/tuple before a list makes a tuple), or a list of lines `- VALUE`.
    """
    try:
        tree = ast.parse(text.strip() or "{}", mode="eval")
        found = ast.literal_eval(tree)
    except NO_LITERAL:
        return _mapping(text)
    nodes = [*ast.walk(tree)]
    for node in nodes:
        if isinstance(node, ast.Constant):
            _bounded(node.value)
    for node in nodes:
        if isinstance(node, ast.Dict):
            _once(zip(map(ast.literal_eval, filter(None, node.keys)), map(ast.literal_eval, node.values),
                      strict=True))
    return found if isinstance(found, dict) else None


def settings_of(layer: LayerParameter) -> dict[Any, Any] | None:
    """`read_settings` of a layer's param_str; an Error names the layer."""
    try:
        return read_settings(layer.python_param.param_str)
    except Error as error:
        raise Error(f"layer '{layer.name}' ({layer.type}): {error}") from None


def impossible(message: Message) -> Iterator[str]:
    """What is wrong with numbers that the schema lets into a layer's settings, and Caffe's arithmetic does
    not bear: NaN, and sizes that are no int."""
    for field, value in message.ListFields():
        if field.name == "blobs":  # weights
            continue
        values: list[Any] = [value] if isinstance(value, int | float | str | bytes | Message) else [*value]
        if field.message_type:
            for each in values:
                yield from impossible(each)
        elif field.cpp_type == field.CPPTYPE_FLOAT and any(map(math.isnan, values)):
            yield f"{field.name} is NaN; give a number"
        elif field.cpp_type == field.CPPTYPE_UINT32 and max(values) > MOST_NUMBERS:
            yield f"{field.name} is {max(values)}; sizes are at most {MOST_NUMBERS}"


def completed(layer: LayerParameter, usual: dict[str, Any]) -> LayerParameter:
    """A layer with these settings in its param_str, where that can be read and does not give them."""
    given = settings_of(layer)
    if given is None or usual.keys() <= given.keys():
        return layer
    new = LayerParameter()
    new.CopyFrom(layer)
    new.python_param.param_str = str(usual | given)
    return new


def _once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Error(f"param_str gives '{key}' twice, {found[key]!r} and {value!r}; leave one out")
        found[key] = value
    return found


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise Error(f"param_str has a number of {value.bit_length()} bits; whole numbers have at most 63")
    return value


def _mapping(text: str) -> dict[Any, Any] | None:
    if len(text) > LONG_TEXT:
        return None
    try:
        if text.lstrip().startswith("{"):
            value, rest = _value(text.strip(), inside=False)
            return value if isinstance(value, dict) and not _bare(rest) else None
        return _once(_lines(text))
    except (OverflowError, *NO_LITERAL):
        return None


def _bare(line: str) -> str:
    """A line without the comment that it is, or ends with."""
    return re.sub(r"(^|\s)#.*$", "", line).strip()


def _lines(text: str) -> list[tuple[Any, Any]]:
    """The pairs of a block mapping. Raises ValueError for what is none."""
    pairs: list[tuple[Any, Any]] = []
    indent = None
    for line in re.sub(r"([\[{,])\s*\n\s*", r"\1 ", text).splitlines():  # a list may go over lines
        if not _bare(line) or line.strip() in ("---", "..."):
            continue
        item = re.match(r"\s*-\s+(.*)", line)
        if item and pairs and isinstance(pairs[-1][1], list | tuple):
            value, rest = _value(item[1], inside=False)
            key, before = pairs[-1]
            pairs[-1] = key, type(before)([*before, value])
        else:
            start = len(line) - len(line.lstrip())
            indent = start if indent is None else indent
            key, rest = _value(line.strip(), inside=True)
            if start != indent or not rest.startswith(":") or rest[1:2].strip():
                raise ValueError
            value, rest = _after(rest[1:])
            pairs.append((key, value))
        if _bare(rest):
            raise ValueError
    return pairs


def _after(text: str) -> tuple[Any, str]:
    """The value behind a key and what follows it; with nothing there, a list whose lines may come."""
    if _bare(_TAG.sub("", text)):
        return _value(text.strip(), inside=False)
    return (() if "python/tuple" in text else []), ""


def _value(text: str, inside: bool) -> tuple[Any, str]:
    """The value that a text begins with, and what follows; inside: a key, or a part of a list or map."""
    tag = _TAG.match(text)
    if tag:
        value, rest = _value(text[tag.end() :], inside)
        return _tagged(tag[1], value), rest
    if text[:1] in ("[", "{"):
        return _parts(text)
    quoted = _QUOTED.match(text)
    if quoted:
        value = ast.literal_eval(quoted[0]) if quoted[1] is None else quoted[1].replace("''", "'")
        return value, text[quoted.end() :].lstrip()
    end = re.search(r",|\]|\}|:(?=\s|$)|\s#" if inside else r"\s#|$", text)
    if end is None or not text[: end.start()].strip():
        raise ValueError
    return _plain(text[: end.start()].strip()), text[end.start() :]


def _parts(text: str) -> tuple[Any, str]:
    """A list or a map in brackets, and what follows it."""
    items: list[Any] = []
    closing, rest = {"[": "]", "{": "}"}[text[0]], text[1:].lstrip()
    while not rest.startswith(closing):
        item, rest = _value(rest, inside=True)
        if closing == "}":
            if not rest.startswith(":"):
                raise ValueError
            value, rest = _value(rest[1:].lstrip(), inside=True)
            item = item, value
        items.append(item)
        rest = rest.lstrip()
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        elif not rest.startswith(closing):
            raise ValueError
    return (_once(items) if closing == "}" else items), rest[1:].lstrip()


def _tagged(tag: str, value: Any) -> Any:
    if tag == "python/tuple" and isinstance(value, list):
        return tuple(value)
    return {"str": str, "int": int, "float": float}.get(tag, lambda v: v)(value)


def _plain(word: str) -> Any:
    """A word without quotes: a number, true, null, ..., else itself."""
    if word.startswith("- ") or word[0] in "!&*|>%@`'\"," or re.search(r":(\s|$)", word):
        raise ValueError
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    try:
        return _bounded(ast.literal_eval(word))
    except NO_LITERAL:
        return word
