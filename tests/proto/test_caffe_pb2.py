"""The schema: caffe.desc is what caffe.proto says, and messages keep their content on the wire."""

from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format

from netspec.proto import caffe_pb2

FOLDER = Path(caffe_pb2.__file__).parent


def described(path):
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    for message in files.file[0].message_type:
        for field in message.field:
            field.ClearField("json_name")  # some versions of protoc write it
    return files


def test_descriptor_is_that_of_the_proto(tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc")
    out = tmp_path / "caffe.desc"
    assert (
        protoc.main(["protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", str(FOLDER / "caffe.proto")])
        == 0
    )
    assert described(out) == described(FOLDER / "caffe.desc")


def test_stub_is_that_of_the_proto(tmp_path):
    protoc = pytest.importorskip("grpc_tools.protoc")
    assert protoc.main(["protoc", f"-I{FOLDER}", f"--pyi_out={tmp_path}", str(FOLDER / "caffe.proto")]) == 0
    assert (tmp_path / "caffe_pb2.pyi").read_text() == (FOLDER / "caffe_pb2.pyi").read_text()


def test_names():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.V1LayerParameter.CONVOLUTION == 4
    assert caffe_pb2.DESCRIPTOR.package == "netspec.caffe"


def test_the_pool_is_private():
    pool = descriptor_pool.Default()
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("netspec.caffe.NetParameter")


def test_numbers_and_defaults_of_caffe():
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    assert [fields[n].number for n in ("blobs", "convolution_param", "clip_param")] == [7, 106, 148]
    assert caffe_pb2.BatchNormParameter().moving_average_fraction == pytest.approx(0.999)
    assert caffe_pb2.LossParameter().normalization == caffe_pb2.LossParameter.VALID
    assert caffe_pb2.SolverParameter().type == "SGD"


def test_fork_fields_collide_with_nothing():
    for name, message in caffe_pb2.DESCRIPTOR.message_types_by_name.items():
        numbers = [field.number for field in message.fields]
        assert len(set(numbers)) == len(numbers), name
    layer = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    ours = ["bn", "dense_image_data", "interp", "norm", "permute", "psroi_pooling", "roi_pooling"]
    for name in [*ours, "smooth_l1_loss", "upsample"]:
        assert layer[f"{name}_param"].number >= 1000


def test_bytes_of_a_blob():
    """The wire form written out: packed floats in field 5, the packed shape in field 7."""
    blob = caffe_pb2.BlobProto(data=[1, -2], shape=dict(dim=[2, 1]))
    assert blob.SerializeToString() == bytes.fromhex("2a08 0000803f 000000c0 3a04 0a02 0201")


def test_round_trip_of_every_message():
    for name in caffe_pb2.DESCRIPTOR.message_types_by_name:
        message = filled(getattr(caffe_pb2, name)())
        again = type(message).FromString(message.SerializeToString())
        assert again == message, name
        assert again.ByteSize() > 0


def filled(message, depth=0):
    for field in message.DESCRIPTOR.fields:
        current = getattr(message, field.name)
        repeated = hasattr(current, "extend")
        if field.message_type:
            if depth < 2:
                filled(current.add() if repeated else current, depth + 1)
            continue
        value = {"s": "text", "b": True}.get(_kind(field), field.number % 2 + 1)
        if field.enum_type:
            value = field.enum_type.values[-1].number
        elif field.type == field.TYPE_BYTES:
            value = b"\0\xff"
        if repeated:
            current.extend([value, value])
        else:
            setattr(message, field.name, value)
    return message


def _kind(field):
    return {field.TYPE_STRING: "s", field.TYPE_BOOL: "b"}.get(field.type)


def test_scripts_of_ssd_read_their_label_maps():
    text = 'item { name: "none" label: 0 display_name: "background" } item { name: "n1" label: 7 }'
    found = text_format.Parse(text, caffe_pb2.LabelMap())
    assert [(item.name, item.label, item.display_name) for item in found.item] == [("none", 0, "background"), ("n1", 7, "")]
    assert found.SerializeToString()[-8:] == b"\x0a\x06\x0a\x02n1\x10\x07"
