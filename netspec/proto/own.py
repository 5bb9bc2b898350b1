"""Settings of layer types of one's own become part of the schema, in text, in binary files, and in NetSpec.

Messages cannot be changed once there are any, so LayerParameter gets such a field as an extension. In text an
extension has its name in brackets, which no fork writes: text is read and written by a second pool, made anew
for each type, where the field is one of LayerParameter's own. In bytes both are the same.
"""

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from ..base.errors import Error
from .caffe_pb2 import LayerParameter, NetParameter, SolverParameter
from .types import FIELDS, MESSAGES
from .unread import NUMBER, OWN, UNREAD

Settings = Mapping[str, Any]

TAKES = ("a number, True or False, a word, a tuple of the words that may stand there, a message such as "
         "FillerParameter, or of several values [int], [float], [bool], [str]")
_SCHEMA = LayerParameter.DESCRIPTOR.file
_ONE, _MANY = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
_KINDS = {bool: FieldDescriptorProto.TYPE_BOOL, int: FieldDescriptorProto.TYPE_INT32,
          float: FieldDescriptorProto.TYPE_FLOAT, str: FieldDescriptorProto.TYPE_STRING}

_known: dict[str, tuple[str, Settings]] = {}  # field -> the type that it is of, and its settings
_wide = FileDescriptorProto()  # the schema with these fields
_SCHEMA.CopyToProto(_wide)
_spelling: dict[str, Any] = {}  # name -> the message of the second pool


def add(kind: str, field: str, settings: Settings) -> None:
    """Have a layer type's settings (name -> default) stand in `field` of LayerParameter, such as foo_param.

    A default's type is the setting's; see TAKES. Raises Error for one that is no setting's, and for a field
    that is there already with others.
    """
    if _known.get(field) == (kind, settings):
        return
    start, name = f"layer type {kind}: ", f"{kind}Parameter"
    if field in _known:
        raise Error(f"{start}{field} is there already, with settings of {_known[field][0]}, and stays so "
                    "while a program runs: start it anew, or give the field another name")
    if field in FIELDS or name in _SCHEMA.message_types_by_name:
        raise Error(f"{start}the schema has {field if field in FIELDS else name} already; leave out what it "
                    "states, or give the type another name")
    message = DescriptorProto(name=name)
    message.field.add(name=UNREAD, number=NUMBER, label=_MANY, type=FieldDescriptorProto.TYPE_STRING)
    for number, (each, default) in enumerate(settings.items(), 1):
        _setting(message, number, each, default, f"{start}setting '{each}'")
    own = FieldDescriptorProto(name=field, number=OWN + crc32(field.encode()) % (1 << 28),
                               label=_ONE, type=FieldDescriptorProto.TYPE_MESSAGE,
                               type_name=f".{_SCHEMA.package}.{name}")
    file = FileDescriptorProto(name=f"{field}.proto", package=_SCHEMA.package, syntax="proto2",
                               dependency=[_SCHEMA.name], message_type=[message], extension=[own])
    file.extension[0].extendee = f".{LayerParameter.DESCRIPTOR.full_name}"
    try:
        _SCHEMA.pool.AddSerializedFile(file.SerializeToString())
    except TypeError as e:
        raise Error(f"{start}its settings make no message ({e}); name them as in Python") from None
    found = _SCHEMA.pool.FindExtensionByName(f"{_SCHEMA.package}.{field}")
    _class(found.message_type)  # protobuf 4.21 does not make it by itself
    setattr(LayerParameter, field, property(lambda layer: layer.Extensions[found]))
    FIELDS[field], MESSAGES[kind], _known[field] = found, field, (kind, dict(settings))
    next(each for each in _wide.message_type if each.name == "LayerParameter").field.append(own)
    _wide.message_type.append(message)
    pool = DescriptorPool()
    pool.AddSerializedFile(_wide.SerializeToString())
    messages = pool.FindFileByName(_wide.name).message_types_by_name
    _spelling.update({each: _class(message) for each, message in messages.items()})
    for whole in LayerParameter, NetParameter, SolverParameter:  # scripts write str(net)
        type.__setattr__(whole, "__str__", lambda message: str(widened(message)))


def _class(message: Any) -> Any:
    made: Any = message_factory
    make = getattr(made, "GetMessageClass", None) or made.MessageFactory(message.file.pool).GetPrototype
    return make(message)


def spelling(kind: type[Message]) -> Any:
    """The class of messages by which those of `kind` are read from text: `kind`, where no own fields are."""
    return _spelling.get(kind.DESCRIPTOR.name, kind)


def widened(message: Message) -> Message:
    """The message by which one is written as text."""
    kind = spelling(type(message))
    return message if kind is type(message) else kind.FromString(message.SerializePartialToString())


def _setting(message: DescriptorProto, number: int, name: str, default: Any, where: str) -> None:
    """Add a field for a setting to a message."""
    several = isinstance(default, list) and len(default) == 1
    kind = default[0] if several else default
    field = message.field.add(name=name, number=number, label=_MANY if several else _ONE)
    if isinstance(kind, type) and issubclass(kind, Message):
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{kind.DESCRIPTOR.full_name}"
    elif several and isinstance(kind, type) and kind in _KINDS:
        field.type = _KINDS[kind]
    elif isinstance(default, tuple) and default and all(isinstance(word, str) for word in default):
        words = message.enum_type.add(name=name.title())
        for value, word in enumerate(default):
            words.value.add(name=word, number=value)
        field.type, field.type_name = FieldDescriptorProto.TYPE_ENUM, words.name
    elif type(default) in _KINDS and (type(default) is not int or abs(default) < 1 << 31):
        field.type = _KINDS[type(default)]
        field.default_value = str(default).lower() if type(default) is bool else str(default)
    else:
        raise Error(f"{where} is {default!r}, and a default is {TAKES}")
