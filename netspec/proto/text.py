"""Reads nets and solvers from Caffe's text format, always upgraded to the current form, and writes them."""

import os
import re
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from ..base.errors import Error, closest, one_line
from ..base.files import missing, native, writing
from ..base.trust import leave
from .caffe_pb2 import DESCRIPTOR, LayerParameter, NetParameter, SolverParameter
from .own import spelling, widened
from .types import CAFFE
from .unread import HINTS, LISTED, NUMBER, PASS, UNREAD, of_forks, set_aside, spelled, tell
from .upgrade import upgrade_net, upgrade_solver

Kind = TypeVar("Kind", bound=Message)

LIMIT = 64 << 20  # bytes; the largest published nets have less than 2 MB of text
LONGEST = 1 << 29  # bytes of a list: ten million lines
LONGEST_LINE = 1 << 20  # letters
# what no net has
SOLVER = re.compile(r"^[^\S\n]*(base_lr|(train_|test_)?net(_param)?)\s*[:{]", re.MULTILINE)
MOST_ODD = 1 << 16  # escapes in a line, or blanks in a row: protobuf takes 200 bytes for each

_LATER = ("Clip", "Swish")  # types of BVLC Caffe that its release 1.0 lacks
_STRANGERS = (
    (rb"version https://git-lfs", "is a Git LFS pointer; fetch the file itself with 'git lfs pull'"),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "is a web page; download the raw file"),
    (rb"\xff\xfe|\xfe\xff", "is UTF-16 text; save it as UTF-8"),
    (rb"(?s).{0,4096}?[\x00-\x08\x0e-\x1f]", "is binary (weights?); a prototxt, which is text, is expected"),
)
_HINTED = re.compile("|".join([LISTED, *(  # fields of which nothing is read, or no list
    rf"\b{field.name}\b" for kind in DESCRIPTOR.message_types_by_name.values() for field in kind.fields
    if field.message_type and field.message_type.name == HINTS)]))
_TOKEN = re.compile(
    r"""\#[^\n]*
    | (?P<string> "[^"\\\n]*(?:\\.[^"\\\n]*)*"? | '[^'\\\n]*(?:\\.[^'\\\n]*)*'? )
    | (?P<word> [^\W\d]\w* )
    | \w+
    | [^\s\w]""",
    re.VERBOSE,
)
_ZERO = r"(?: 000 | 0{1,2}(?![0-7]) | x00 | x0(?![\da-fA-F]) | u0{4} | U0{8} )"
# What may follow a backslash in a string; protobuf for Python lets the rest through, Caffe does not.
_ESCAPE = rf"""\\ (?!{_ZERO}) (?: [abfnrtv\\'"xuU0-3] | [4-7](?![0-7]{{2}}) )"""
_ESCAPED = re.compile(rf"[^\\]* (?: {_ESCAPE} [^\\]* )*", re.VERBOSE)


def parse(text: str, message_class: type[Kind], name: str = "<text>") -> Kind:
    """The message that `text` spells, not upgraded.

    Raises Error "NAME:LINE:COLUMN: ..." (both from 1) for what Caffe would not read, naming the field; but
    where `leave.unknown` says so, what the schema lacks is kept as it stands (see unread.py).
    """
    kind = spelling(message_class)
    message = kind()
    if len(text) > LIMIT:
        raise Error(f"{name} has {len(text) >> 20} million characters; a prototxt has at most {LIMIT >> 20}")
    _check_lines(text, name)
    if "\\" in text:
        _check_escapes(text, name)
    if leave.unknown or UNREAD in text or _HINTED.search(text):
        try:
            text = set_aside(text, message.DESCRIPTOR, _tokens(text), leave.unknown or UNREAD in text)
        except Error as error:
            raise Error(f"{name}:{error}") from None
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise Error(_explain(error, text, kind, name)) from None
    if UNREAD in text and not leave.unknown and (odd := next(of_forks(message, NUMBER), None)):
        raise Error(f"{name}: {message.DESCRIPTOR.name} has no field '{odd[0]}'")
    absent = message.FindInitializationErrors()
    if absent:
        raise Error(f"{name}: the required field {absent[0]} is missing")
    return message if kind is message_class else message_class.FromString(message.SerializeToString())


def read_net(path: str | os.PathLike) -> NetParameter:
    """The net in the file, upgraded. Raises Error if it is missing, not a net, or not text."""
    net = parse(read_text(path), NetParameter, str(path))
    upgrade_net(net, str(path))
    tell(net, str(path))
    return net


def read_solver(path: str | os.PathLike) -> SolverParameter:
    """The solver in the file, upgraded. Raises Error if it is missing, not a solver, or not text.

    As in Caffe, `snapshot_prefix` defaults to the path without its extension, and a prefix that is a folder,
    or ends as one does, gets the file's name appended.
    """
    solver = parse(read_text(path), SolverParameter, str(path))
    upgrade_solver(solver, str(path))
    tell(solver, str(path))
    stem = os.path.splitext(path)[0]
    prefix = native(solver.snapshot_prefix) if solver.HasField("snapshot_prefix") else None
    if prefix is not None and (os.path.isdir(prefix) or prefix.endswith(("/", os.sep))):
        prefix = os.path.join(prefix, os.path.basename(stem))
    solver.snapshot_prefix = stem if prefix is None else prefix
    return solver


def to_text(message: Message) -> str:
    """The message as Caffe reads it: enums by name, floats in the fewest digits that give this float32."""
    text = text_format.MessageToString(widened(message), as_utf8=True)
    return spelled(re.sub(r"(?m)^( *\w+: -?\d+)\.0$", r"\1", text))


def write(path: str | os.PathLike, message: Message, header: str = "") -> None:
    """Writes the message as text, whole or not at all, after the lines of `header` as comments.

    A net that BVLC Caffe 1.0 would refuse gets one line more, which says what in it is of a fork, or later.
    """
    lines = header.splitlines()
    foreign = dict.fromkeys(what for layer in getattr(message, "layer", ()) for what in _foreign(layer))
    if foreign:
        lines.append(one_line(f"Caffe 1.0 refuses this net, for it has {', '.join(foreign)}."))
    comment = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    with writing(path, "w") as file:
        file.write(comment + to_text(message))


def _foreign(layer: LayerParameter) -> Iterator[str]:
    """What Caffe 1.0 lacks in a layer: its type, or fields (those of forks have numbers from 1000 on)."""
    if layer.type not in CAFFE:
        yield f"{layer.type} (of a fork)"
        return
    if layer.type in _LATER:
        yield f"{layer.type} (of Caffe's master)"
    for name, _ in of_forks(layer):
        yield f"{name.rpartition('.')[2]} of {layer.type} (of a fork)"
    if layer.pooling_param.HasField("round_mode"):
        yield f"round_mode of {layer.type} (of Caffe's master)"


def layer_lines(path: str | os.PathLike) -> dict[str, int]:
    """Layer name -> line (from 1) where the layer begins in a net's text; the first if a name comes twice."""
    text = read_text(path)
    lines: dict[str, int] = {}
    start = counted = line = 0
    for match, fields in _scan(text):
        if len(fields) == 1 and match["word"] in ("layer", "layers"):
            start = match.start()
        elif match["string"] and ".".join(fields) in ("layer.name", "layers.name", "layers.layer.name"):
            line += text.count("\n", counted, start)
            counted = start
            lines.setdefault(match["string"][1:-1], line + 1)
    return lines


def outlined(text: str) -> tuple[set[str], list[str]]:
    """The names of a text's outermost fields, and the type of each of its layers as it is spelled there.

    Of any text: errors in it, and fields that no schema has, are not minded.
    """
    outermost, types = set[str](), list[str]()
    of_layer = ["layer", "type"], ["layers", "type"], ["layers", "layer", "type"]
    for match, fields in _scan(text):
        if match["word"] and len(fields) == 1 and fields[0] == match[0]:
            outermost.add(match[0])
        elif fields in of_layer and (match["string"] or match["word"] and match[0] != "type"):
            types.append(match[0].strip("\"'"))
    return outermost, types


def read_text(path: str | os.PathLike) -> str:
    """The text of a prototxt file; Error for a file that is missing, too large, or of another kind."""
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise Error(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > LIMIT:
        raise Error(f"{path} is larger than {LIMIT >> 20} MiB; a prototxt is smaller")
    _check_kind(path, data)
    # Comments in other encodings are common and harmless; in a string the escapes make an error with a place.
    return data.decode("utf-8-sig", errors="backslashreplace")


def read_lines(path: str | os.PathLike, what: str = "the list") -> Iterator[str]:
    """The lines of a text file that people write, without their ends, as they are read. Raises Error, which
    begins with `what` it is, for a folder, a device or a pipe, for more than LONGEST bytes, and for what is
    binary, or no UTF-8."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise Error(f"{what} {path} is a folder, a device or a pipe; a file is read")
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > LONGEST:
                raise Error(f"{what} {path} is larger than {LONGEST >> 20} MiB, and no list is")
            begins = file.read(4096)
            _check_kind(f"{what} {path}", begins, _STRANGERS[:-1])  # names may have control characters
            if b"\0" in begins:
                raise Error(f"{what} {path} is binary (an image? weights?); text is expected")
            file.seek(0)
            lines = TextIOWrapper(file, "utf-8-sig")
            while line := lines.readline(LONGEST_LINE):
                if len(line) == LONGEST_LINE:
                    raise Error(f"{what} {path} has a line of {LONGEST_LINE >> 20} MiB, and no list has")
                yield line.rstrip("\n")
    except FileNotFoundError:
        raise missing(path, what=what) from None
    except OSError as error:
        raise Error(f"{what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Error(f"{what} {path} is no UTF-8 text; save it as such") from None


def _check_kind(name: str | os.PathLike, begins: bytes, strangers: Sequence[tuple] = _STRANGERS) -> None:
    for pattern, what in strangers:
        if re.match(pattern, begins):
            raise Error(f"{name} {what}")


def _check_lines(text: str, name: str) -> None:
    for match in re.finditer(rf"[^\n]{{{MOST_ODD + 1},}}", text):
        blanks = max(map(len, re.findall(r"\s+", match[0])), default=0)
        for count, what in ((match[0].count("\\"), "backslashes"), (blanks, "blanks in a row")):
            if count > MOST_ODD:
                line = text.count("\n", 0, match.start()) + 1
                raise Error(f"{name}:{line}: has {count} {what}, expected at most {MOST_ODD}; break the line")


def _check_escapes(text: str, name: str) -> None:
    for match, _ in _scan(text):
        if match["string"]:
            valid = _ESCAPED.match(match[0])
            at = valid.end() if valid else 0
            if at < len(match[0]):
                place = match.start() + at
                line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
                escape = match[0][at : at + 2]
                what = ("a zero byte, which no name and no setting has" if escape[1:] in ("0", "x", "u", "U")
                        else f"unknown escape {escape}; a backslash is \\\\")
                raise Error(f"{name}:{line}:{column}: {what}")


def _tokens(text: str) -> Iterator[re.Match]:
    return (match for match in _TOKEN.finditer(text) if match[0][0] != "#")


def _scan(text: str) -> Iterator[tuple[re.Match, list[str]]]:
    """The tokens of a text, comments left out, each with the names of the fields it lies in, outermost first.

    The name of a field lies in that field. Does not mind errors in the text.
    """
    fields, word = [""], None
    for match in _tokens(text):
        token = match[0]
        if word:
            if token in ":{<":
                fields[-1] = word[0]
            yield word, fields
        word = match if match["word"] else None
        if word:
            continue
        yield match, fields
        if token in "{<":
            fields.append("")
        elif token in "}>" and len(fields) > 1:
            fields.pop()
    if word:
        yield word, fields


def _explain(error: text_format.ParseError, text: str, root: type[Message], name: str) -> str:
    """An error sentence of protobuf's, with its place, the field, and the nearest names that exist."""
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    lines = text.split("\n")
    said = str(error).removeprefix(f"{line}:{column} : ").removesuffix(".")
    for quoted in (lines[min(line, len(lines)) - 1], ""):  # protobuf quotes the line, or nothing at the end
        said = said.removeprefix(f"'{quoted}': ")
    where = f"{name}:{line}:{column}"
    unknown = re.match(r'Message type "([\w.]+)" has no field named "(\w+)"', said)
    if unknown:
        return f"{where}: {_unknown_field(unknown[1], unknown[2], root.DESCRIPTOR)}"
    ended = re.match('Expected "([}>])"', said)
    if ended:  # protobuf points at the last token, not at the field that is open there
        said, fields = f"the text ends before the closing {ended[1]}", _fields_at(text, len(text))[:-1]
    else:
        fields = _fields_at(text, sum(len(before) + 1 for before in lines[: line - 1]) + column - 1)
    return ": ".join(filter(None, [where, ".".join(filter(None, fields)), _reworded(said, root.DESCRIPTOR)]))


def _unknown_field(kind: str, field: str, root: Any) -> str:
    """What is wrong with a field that the message `kind` lacks, in a text that should spell a `root`."""
    message = root.file.pool.FindMessageTypeByName(kind)
    hint = closest(field, message.fields_by_name)
    if message != root and field in root.fields_by_name:
        hint = "; is a } missing above?"
    elif message == root:
        for other in (NetParameter, SolverParameter):
            if field in other.DESCRIPTOR.fields_by_name:
                hint = f"; the text seems to be a {other.DESCRIPTOR.name}"
    return f"{message.name} has no field '{field}'{hint or f' ({PASS} goes on without)'}"


def _fields_at(text: str, offset: int) -> list[str]:
    """The names of the fields that a place in a text lies in, outermost first."""
    fields: list[str] = []
    for match, there in _scan(text):
        fields = there
        if match.start() >= offset:
            break
    return fields


def _reworded(said: str, root: Any) -> str:
    """What protobuf said of a value, in plainer words."""
    twice = re.match(r'Message type "[\w.]+" should not have multiple "(\w+)" fields', said)
    if twice:
        return f"'{twice[1]}' is given more than once"
    value = re.match(r'Enum type "([\w.]+)" has no value (?:named|with number) (.*)', said)
    if value:
        kind = root.file.pool.FindEnumTypeByName(value[1])
        names = list(kind.values_by_name)
        few = f"; known are {', '.join(names)}"
        known = few if len(names) <= 12 else closest(value[2].strip("\"'"), names)
        return f"{kind.name} has no value {value[2]}{known}"
    if "codec can't decode" in said:
        return "the string is not UTF-8"
    return f"{said[0].lower()}{said[1:]}"
