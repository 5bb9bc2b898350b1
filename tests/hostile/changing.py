"""Changes of messages by their schema, of protobuf's wire format, of texts and of bytes: what attempts are made of."""

import math
import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message

WHOLE = (0, 1, 2, 3, 5, 7, -1, -2, 255, 256, 65535, 1 << 16, 10**6, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
REAL = (0.0, 1.0, -1.0, 0.5, 1e-45, 1e-8, 1e38, -1e38, math.inf, -math.inf, math.nan, 255.0, 1e6)
TEXTS = ("", " ", ".", "..", "/", "-", "--help", "data", "label", "a b", "a\nb", "a\tb", "\x1b[31mred", "\x07", "%s", "{0}", "'", '"', "\\",
         "../beside", "/dev/null", "/dev/zero", "/proc/self/mem", ".", "x" * 300, "\u00e9", "\u202e", "\x85", "\U0001f600", "$HOME", "~",
         "net.prototxt", "no/such/file", "<b>&amp;", "1e999", "None", "[", "0" * 50)
BYTES, VARINT, FIXED64, FIXED32 = 2, 0, 1, 5


def messages(message: Message) -> Iterator[Message]:
    """A message and all in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)


def texts_of(message: Message) -> list[str]:
    """All strings in a message."""
    return [text for each in messages(message) for field, value in each.ListFields() if field.type == field.TYPE_STRING
            for text in (value if field.is_repeated else [value])]


def value_for(field: Any, numbers: random.Random, known: Sequence[str]) -> Any:
    """Something that fits a field, or nearly."""
    if field.enum_type:
        return numbers.choice(field.enum_type.values).number
    if field.type == field.TYPE_STRING:
        return numbers.choice(known) if known and numbers.random() < 0.6 else numbers.choice(TEXTS)
    if field.type == field.TYPE_BYTES:
        return numbers.choice(TEXTS).encode()
    if field.type == field.TYPE_BOOL:
        return numbers.random() < 0.5
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return numbers.choice(REAL) if numbers.random() < 0.6 else numbers.uniform(-10, 10)
    return numbers.choice(WHOLE) if numbers.random() < 0.5 else numbers.randrange(-3, 40)


def changed(message: Message, numbers: random.Random, known: Sequence[str] = ()) -> None:
    """Change one thing in a message, by its schema. known: strings that may stand in it."""
    each = numbers.choice(list(messages(message)))
    there, names = each.ListFields(), [*texts_of(message), *known]
    if there and numbers.random() < 0.7:
        field, value = numbers.choice(there)
    else:
        field = numbers.choice(each.DESCRIPTOR.fields)
        value = getattr(each, field.name)
    try:
        if field.is_repeated:
            _list_changed(field, value, numbers, names)
        elif numbers.random() < 0.15:
            each.ClearField(field.name)
        elif field.message_type:
            value.SetInParent()
            inside = numbers.choice(field.message_type.fields)
            if not inside.message_type and not inside.is_repeated:
                setattr(value, inside.name, value_for(inside, numbers, names))
        else:
            setattr(each, field.name, value_for(field, numbers, names))
    except (ValueError, TypeError):  # which the schema does not let in
        each.ClearField(field.name)


def _list_changed(field: Any, value: Any, numbers: random.Random, names: Sequence[str]) -> None:
    kind = numbers.randrange(5)
    at = numbers.randrange(len(value)) if len(value) else 0
    if kind == 0 and len(value):
        del value[at]
    elif kind == 1 and len(value):  # once more, or very often
        value.extend([value[at]] * numbers.choice((1, 1, 1, 2, 40)))
    elif kind == 2 and len(value) > 1:  # in another order
        other = numbers.randrange(len(value))
        order = list(value)
        order[at], order[other] = order[other], order[at]
        kept = [each.SerializeToString() for each in order] if field.message_type else order
        del value[:]
        for each in kept:
            value.add().MergeFromString(each) if field.message_type else value.append(each)
    elif field.message_type:
        new = value.add()
        if len(value) > 1:
            new.CopyFrom(value[at])
        changed(new, numbers, names)
    elif kind == 3 and len(value):
        value[at] = value_for(field, numbers, names)
    else:
        value.append(value_for(field, numbers, names))


def text_changed(text: str, numbers: random.Random) -> str:
    """Change one thing in a text: a word, a sign, a line."""
    lines, kind = text.split("\n"), numbers.randrange(8)
    at = numbers.randrange(len(text) + 1)
    end = min(len(text), at + numbers.randrange(1, 20))
    if kind == 0:
        return text[:at] + numbers.choice(TEXTS) + text[at:]
    if kind == 1:
        return text[:at] + text[end:]
    if kind == 2:
        return text[:at] + text[at:end] * numbers.choice((2, 3, 200)) + text[end:]
    if kind == 3:
        return text[:at] + numbers.choice("{}<>[]:;,'\"\\#\0\x1b-. ") + text[at + numbers.randrange(2):]
    if kind == 4:
        line = numbers.randrange(len(lines))
        return "\n".join([*lines[:line], *lines[line + 1:]])
    if kind == 5:
        return "\n".join(numbers.sample(lines, len(lines)))
    if kind == 6:
        sign = numbers.choice(("{", "[", "(", "layer {", "a: [", "a: {", "-", "a.b {"))
        return text[:at] + sign * numbers.choice((2, 50, 3000)) + text[at:]
    return text[:at] + str(numbers.choice((*WHOLE, *REAL))) + text[end:]


def bytes_changed(data: bytes, numbers: random.Random, head: int = 0) -> bytes:
    """Change one place in bytes: a few of them, what is left out, twice there, or cut. head: of these alone, mostly."""
    if not data:
        return bytes([numbers.randrange(256)])
    within = min(head, len(data)) if head and numbers.random() < 0.7 else len(data)
    at, kind = numbers.randrange(within), numbers.randrange(7)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << numbers.randrange(8)]) + data[at + 1:]
    if kind == 1:
        return data[:at] + bytes([numbers.choice((0, 1, 127, 128, 255, numbers.randrange(256)))]) + data[at + 1:]
    if kind == 2:
        form = numbers.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
        size = struct.calcsize(form)
        number = numbers.choice(WHOLE) & (1 << 8 * size) - 1
        return data[:at] + struct.pack(form, number) + data[at + size:]
    if kind == 3:
        return data[:at]
    if kind == 4:
        return data[:at] + data[at + numbers.randrange(1, 40):]
    if kind == 5:
        return data[:at] + data[at:at + numbers.randrange(1, 40)] * 2 + data[at:]
    other = numbers.randrange(len(data))
    return data[:at] + data[other:other + 8] + data[at + 8:]


def json_changed(value: Any, numbers: random.Random) -> Any:
    """A value of JSON with one thing in it changed."""
    if isinstance(value, dict | list) and value and numbers.random() < 0.85:
        key = numbers.choice(list(value)) if isinstance(value, dict) else numbers.randrange(len(value))
        made = value.copy()
        kind = numbers.randrange(8)
        if kind == 0:
            del made[key]
        elif kind == 1 and isinstance(value, list):
            made += [value[key]] * numbers.choice((1, 1, 30))
        elif kind == 1:
            made[numbers.choice(TEXTS)] = value[key]
        else:
            made[key] = json_changed(value[key], numbers)
        return made
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    return numbers.choice((None, True, [], {}, "", [None], {"a": 1}, [[1, 2], [3]], numbers.choice(TEXTS), numbers.choice(WHOLE), numbers.choice(REAL),
                           numbers.uniform(-9, 99), str(value)[:99], 10**400, deep))


def varint(value: int) -> bytes:
    """As protobuf writes it."""
    value &= 2**64 - 1
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def parts(data: bytes) -> list[tuple[int, int, Any]]:
    """A message of protobuf's wire format as (field number, wire type, value)."""
    found, at = [], 0
    while at < len(data):
        key, at = _read_varint(data, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _read_varint(data, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(wire)
            if size is None:
                size, at = _read_varint(data, at)
            value, at = data[at:at + size], at + size
        found.append((key >> 3, wire, value))
    return found


def wire_changed(data: bytes, numbers: random.Random, depth: int = 3) -> bytes:
    """Change one thing in a message's bytes, as no writer that knows the schema would."""
    try:
        found = parts(data)
    except IndexError:
        return bytes_changed(data, numbers)
    if not found:
        return bytes_changed(data, numbers)
    at = numbers.randrange(len(found))
    number, wire, value = found[at]
    if wire == BYTES and depth and numbers.random() < 0.6:
        found[at] = number, wire, wire_changed(value, numbers, depth - 1)
        return b"".join(_part(*part) for part in found)
    kind, written = numbers.randrange(8), [_part(*part) for part in found]
    if kind == 0:
        written[at] = _part(numbers.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 100, 1000, 2**29 - 1, 2**29)), wire, value)
    elif kind == 1:  # another length than there is
        written[at] = varint(number << 3 | BYTES) + varint(numbers.choice((*WHOLE, numbers.randrange(300)))) + (
            value if wire == BYTES else b"")
    elif kind == 2:
        written[at] = _part(number, numbers.choice((VARINT, FIXED64, FIXED32, BYTES)), value)
    elif kind == 3:
        written[at] = b""
    elif kind == 4:
        written[at] *= numbers.choice((2, 3, 500))
    elif kind == 5:
        written[at] = varint(number << 3 | numbers.choice((3, 4, 6, 7)))
    elif kind == 6:
        written[at] = _part(number, VARINT, numbers.choice(WHOLE))
    else:
        numbers.shuffle(written)
    return b"".join(written)


def _part(number: int, wire: int, value: Any) -> bytes:
    key = varint(number << 3 | wire)
    if wire == VARINT:
        return key + varint(value if isinstance(value, int) else len(value))
    data = value if isinstance(value, bytes) else varint(value)
    if wire == BYTES:
        return key + varint(len(data)) + data
    size = 8 if wire == FIXED64 else 4
    return key + data[:size].ljust(size, b"\0")
