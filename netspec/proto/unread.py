"""What a text says that the schema does not know: kept, word for word, in the message that it stands in.

Every message has a field `unread` for it (added by caffe_pb2): strings such as 'larc: true'. So upgrade,
pickle and writing lose nothing, and who runs a net can refuse it. Fields that forks added and the schema
knows have numbers by what they do: from FORKS on they are computed, from PASSED on no number depends on
them, from REFUSED on one does, and they are not computed here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import EnumValueDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.text_encoding import CUnescape

from ..base.errors import Error, shortened
from ..base.trust import leave

UNREAD, NUMBER = "unread", 9999
HINTS = "Hints"  # the message of which nothing is read
FORKS, PASSED, REFUSED = 1000, 2000, 3000
OWN = 1 << 20  # from here on those of layer types of one's own, which compute them: see own.py
PASS = "--unknown-fields pass"
LISTED = "device_id"  # of which forks have a list, which changes no number
_WRITTEN = re.compile(rf'(?m)^( *){UNREAD}: "((?:[^"\\]|\\.)*)"$')


def set_aside(text: str, kind: Any, tokens: Iterable[re.Match], everywhere: bool = True) -> str:
    """The text of a message of this kind, with what its schema lacks as strings of `unread`, line by line.

    That is a field of no or of another kind, a value that is none of its enum's, and a field given once too
    often. tokens: of the text, without comments. everywhere: not only what no number depends on.
    Raises Error "LINE: ..." for such a value without an end.
    """
    found, pieces, done = list(tokens), [], 0
    stack: list[tuple[Any, set[str]]] = [(kind, set())]
    at, inner = 0, kind
    while at < len(found):
        token = found[at][0]
        if token in "{<":
            stack.append((inner, set()))
        elif token in "}>" and len(stack) > 1:
            stack.pop()
        elif found[at]["word"] and not found[at].start() < done:
            message, seen = stack[-1]
            field = message.fields_by_name.get(token)
            first, end = _value(found, at)
            fits = _fits(field, found[first:end], token in seen)
            if fits or not everywhere and message.name != HINTS and token != LISTED:
                if field and field.message_type:
                    at, inner = first - 1, field.message_type
                else:
                    at = max(at, end - 1) if fits else at
                seen |= set() if field is None or _repeated(field) else {token}
            else:
                start, stop = found[at].start(), found[end - 1].end()
                if end == len(found) and _open(found[first:end]):
                    raise Error(f"{text.count(chr(10), 0, start) + 1}: {token}: the text ends before the end "
                                "of its value")
                pieces += [text[done:start], f'{UNREAD}: "{_escaped(text[start:stop])}"',
                           "\n" * text.count("\n", start, stop)]
                at, done = end - 1, stop
        at += 1
    return "".join([*pieces, text[done:]])


def _value(found: list[re.Match], at: int) -> tuple[int, int]:
    """Where the value of the field whose name stands at `at` begins and ends."""
    first = at + 1
    if first < len(found) and found[first][0] == ":":
        first += 1
    end, depth = first, 0
    while end < len(found):
        token = found[end][0]
        if token in "}]>" and not depth:
            break
        depth += (token in "{[<") - (token in "}]>")
        end += 1
        if not depth:
            following = found[end] if end < len(found) else None
            if following is None or not (found[end - 1]["string"] and following["string"] or token == "-"
                                         or following.start() == found[end - 1].end()
                                         and not following["string"] and following[0] not in "{}<>[],;:"
                                         and token not in "}]>"):
                break
    return first, max(end, at + 1)


def _fits(field: FieldDescriptor | None, value: list[re.Match], again: bool) -> bool:
    """Whether a field has a value of its kind. One whose text makes no sense does: the parser says what."""
    if field is None or field.name == UNREAD or again:
        return False
    begins = value[0][0] if value else ""
    if begins == "[":
        return _repeated(field)
    if (begins in ("{", "<")) != bool(field.message_type):
        return not begins
    kind = field.enum_type
    if kind and begins.isdecimal():
        return begins in map(str, kind.values_by_number)
    return not (kind and value and (value[0]["word"] or value[0]["string"])) or begins in kind.values_by_name


def _open(value: list[re.Match]) -> bool:
    """Whether a value that ends with the text has brackets, or a string, without their end."""
    depth = sum((token[0] in "{[<") - (token[0] in "}]>") for token in value)
    last = (value[-1]["string"] if value else None) or "''"
    return depth > 0 or not re.fullmatch(r"(?s)([\"'])(?:[^\\]|\\.)*\1", last)


def _repeated(field: Any) -> bool:
    return hasattr(getattr(field.containing_type._concrete_class(), field.name), "extend")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "")


def spelled(text: str) -> str:
    """A message's text with what `set_aside` kept as it stood."""
    return _WRITTEN.sub(lambda line: line[1] + CUnescape(line[2]).decode(), text)


def of_forks(message: Message, least: int = FORKS, where: str = "",
             without: str = "") -> Iterator[tuple[str, int]]:
    """What of a message is a fork's, with a number from `least` on: its name, after those of the fields that
    it lies in, and its number. An enum's value counts too, and all that is `unread`."""
    for field, value in message.ListFields():
        name = where + field.name
        if name == without or least > FORKS and _idle(field, value):
            continue
        if field.name == UNREAD:
            names = [re.split(r"[\s:{<#]", each, maxsplit=1)[0] for each in value]
            yield from ((where + each, number) for each in names
                        if (number := PASSED if each == LISTED else field.number) >= least)
            continue
        if field.number >= least and (field.number < OWN or least == FORKS):
            yield name, field.number
        if PASSED <= field.number < REFUSED:
            continue
        if field.message_type and field.message_type.name not in ("BlobProto", HINTS):
            for each in value if hasattr(value, "extend") else [value]:
                yield from of_forks(each, least, f"{name}.")
        elif field.enum_type:
            known: Mapping[int, EnumValueDescriptor] = field.enum_type.values_by_number
            yield from ((f"{name}: {known[each].name}", each)
                        for each in (value if hasattr(value, "extend") else [value]) if each >= least)


def _idle(field: FieldDescriptor, value: Any) -> bool:
    """Whether a field that would change numbers has its default, with which it changes none."""
    return field.number >= REFUSED and field.has_default_value and bool(value == field.default_value)


def refuse(message: Message, where: str, without: str = "") -> None:
    """Error for what of a message would change numbers and is not computed, unless it is to be passed by, of
    which `tell` tells; where: what the sentence begins with; without: a field that is not looked into."""
    names = list(dict.fromkeys(name for name, _ in of_forks(message, REFUSED, without=without)))
    if names and not leave.unknown:
        raise Error(f"{where}{shortened(', '.join(names), 300)} would change numbers, and is not computed "
                    f"here, being a fork's; {PASS} goes on without")


def tell(message: Message, where: str) -> None:
    """Say once, in one line each, what of a whole file's message is passed by: what no number depends on,
    what is not understood and, where `leave.unknown` says so, what is not computed."""
    told: dict[str, dict[str, int]] = {}
    for name, number in of_forks(message, PASSED):
        words = ("passed by, for no number depends on it: " if number < REFUSED else
                 "not understood, and passed by: " if number == NUMBER else
                 "passed by, though numbers depend on it where it is used: " if leave.unknown else "")
        counts = told.setdefault(words, {})
        counts[name] = counts.get(name, 0) + 1
    for words, counts in told.items():
        if words:
            names = ", ".join(name + (f" ({n})" if n > 1 else "") for name, n in counts.items())
            leave.tell(f"{where}: {words}{shortened(names, 300)}")

