"""Caffe's messages and enums, under the names that scripts know: `caffe_pb2.NetParameter`, `caffe_pb2.TRAIN`.

They are built from caffe.desc in a private descriptor pool, so that an installed pycaffe, which puts the same
messages into protobuf's own pool, does not clash. After a change of caffe.proto `make proto` writes what
follows from it: caffe.desc, the types of this module (caffe_pb2.pyi) and NetSpec's keywords (keywords.pyi).
"""

import copyreg
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message


def _load() -> dict:
    pool = descriptor_pool.DescriptorPool()
    serialized = Path(__file__).with_name("caffe.desc").read_bytes()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(serialized).file
    for kind in file.message_type:  # what a text has that the schema lacks: see unread.py
        kind.field.add(name="unread", number=9999, label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
                       type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
    layer = next(each for each in file.message_type if each.name == "LayerParameter")
    layer.extension_range.add(start=1 << 20, end=1 << 29)  # of layer types of one's own: see own.py
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindFileByName(file.name)
    if hasattr(message_factory, "GetMessageClass"):
        make = message_factory.GetMessageClass
    else:  # protobuf 4.21
        make = message_factory.MessageFactory(pool).GetPrototype
    names = {"DESCRIPTOR": descriptor}
    for name, message in descriptor.message_types_by_name.items():
        names[name] = make(message)
        copyreg.pickle(names[name], _reduce)  # nets go to other processes, which have a pool of their own
    for name, enum in descriptor.enum_types_by_name.items():
        names[name] = EnumTypeWrapper(enum)
        names.update((value.name, value.number) for value in enum.values)
    return names


def _reduce(message: Message) -> tuple:
    return _parsed, (message.DESCRIPTOR.name, message.SerializePartialToString())


def _parsed(name: str, serialized: bytes) -> Message:
    return globals()[name].FromString(serialized)


globals().update(_load())
