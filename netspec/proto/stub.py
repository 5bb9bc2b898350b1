"""Writes keywords.pyi: what NetSpec's `layers` and `params` take, for editors and type checkers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from ..base.files import writing
from . import caffe_pb2
from .types import FIELDS, TYPES, own_fields
from .unread import PASSED, UNREAD

PATH = Path(__file__).with_name("keywords.pyi")
_SCALARS = {  # all others are whole numbers
    FieldDescriptor.CPPTYPE_FLOAT: "float | Array",
    FieldDescriptor.CPPTYPE_DOUBLE: "float | Array",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_STRING: "str",
}
_HEAD = """# Written by `make proto` from caffe.proto.
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypedDict
from typing_extensions import Unpack
from . import caffe_pb2
from .spec import Top

class Array(Protocol):
    def tolist(self) -> Any: ...
"""
# A Top, a tuple or a Function comes back, by ntop. Overloads would say so, but bury what a wrong keyword is.
_METHOD = """    def {0}(self, *bottoms: Top, ntop: int = 1, in_place: bool = False,
        **keywords: Unpack[{0}Keywords]) -> Any: ..."""


def write_stub() -> None:
    with writing(PATH, "w") as file:
        file.write(stub())


def stub() -> str:
    """The content of keywords.pyi: TypedDicts of messages and of the types' keywords, `layers`, `params`."""
    common = [field for name, field in FIELDS.items()
              if not name.endswith("_param") and name != "type" and field.number < PASSED]
    lines = ["", *_fields("Layer", [], common)]
    messages: dict[str, Any] = {}
    for field in common:
        _gather(field.message_type, messages)
    for name in TYPES:
        lines += ["", *_keywords(name)]
        for own in own_fields(name):
            _gather(FIELDS[own].message_type, messages)
    for name, message in messages.items():
        lines += ["", *_fields(name, [], message.fields)]
    lines += ["", "class Layers:", *(_METHOD.format(name) for name in TYPES),
              "    def __getattr__(self, name: str) -> Callable[..., Any]: ...",
              "", "class Parameters:", *_enums(), "", "layers: Layers", "params: Parameters", ""]
    return _HEAD + "\n".join(lines)


def _gather(message: Any, found: dict[str, Any]) -> None:
    """Adds a message and those in it."""
    if message and message.name not in found:
        found[message.name] = message
        for field in message.fields:
            _gather(field.message_type, found)


def _keywords(name: str) -> Iterator[str]:
    """The TypedDict of a layer type: LayerParameter's fields, its own messages, and what stands in these."""
    own = [FIELDS[field] for field in own_fields(name)]
    bases, rest, taken = ["LayerKeywords"], list(own), set()
    for field in own:
        message = field.message_type
        assert message
        fresh = [inner for inner in message.fields if inner.name not in taken]  # the first message goes first
        if len(fresh) == len(message.fields):
            bases.append(f"{message.name}Keywords")
        else:
            rest += fresh
        taken |= {inner.name for inner in message.fields}
    return _fields(name, bases, rest)


def _fields(name: str, bases: list[str], fields: list[Any]) -> Iterator[str]:
    fields = [field for field in fields if field.name != UNREAD]
    yield f"class {name}Keywords({', '.join(bases or ['TypedDict'])}, total=False):{'' if fields else ' ...'}"
    for field in fields:
        yield f"    {field.name}: {_type(field)}"


def _type(field: Any) -> str:
    """What may be written for a field: a repeated one is given as a sequence, or as one value."""
    if field.message_type:
        one = f"{field.message_type.name}Keywords | caffe_pb2.{field.message_type.name}"
    elif field.enum_type:
        one = f"int | Literal[{', '.join(repr(value.name) for value in field.enum_type.values)}]"
    else:
        one = _SCALARS.get(field.cpp_type, "int | Array")
    repeated = hasattr(getattr(field.containing_type._concrete_class(), field.name), "extend")
    return f"{one} | Sequence[{one}]" if repeated else one


def _enums() -> Iterator[str]:
    for name, message in caffe_pb2.DESCRIPTOR.message_types_by_name.items():
        if name.endswith("Parameter") and message.enum_types:
            yield f"    class {name.removesuffix('Parameter')}:"
            for value in sorted(message.enum_values_by_name.values(), key=lambda value: value.name):
                yield f"        {value.name}: Final = {value.number}"
