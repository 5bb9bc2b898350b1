"""Binary files of forks, whose numbers of fields mean other things to BVLC Caffe: names, types and blobs come right."""

import struct

import numpy as np
import pytest
from net.test_weights import field

from netspec.cli.main import main
from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.weights import load
from netspec.proto.caffe_pb2 import BlobProto, BlobShape, NetParameter
from netspec.proto.model import read_mean, read_net, read_state, read_weights
from netspec.proto.text import parse
from netspec.proto.upgrade import upgrade_net
from netspec.proto.wire import varint

NUMBERS = np.arange(24, dtype="<f4") - 7


def number(at, value):
    return varint(at << 3) + varint(value)


def single(at, value):
    return varint(at << 3 | 5) + struct.pack("<f", value)


def of_c3d(numbers, *shape, diff=True):
    """A BlobProto of C3D's first release: num, channels, length, height, width, data, diff."""
    sizes = b"".join(number(i, n) for i, n in enumerate(shape, 1))
    return sizes + field(6, numbers.tobytes()) + (field(7, (numbers * 3).tobytes()) if diff else b"")


def of_bvlc(numbers, *shape):
    return BlobProto(data=numbers, shape=BlobShape(dim=shape)).SerializeToString()


@pytest.mark.parametrize("diff", [False, True])
def test_blobs_of_c3d_whose_fields_are_shifted_by_the_length(tmp_path, diff, capsys):
    path, new = tmp_path / "c3d.caffemodel", tmp_path / "new.caffemodel"
    blobs = field(6, of_c3d(NUMBERS, 1, 2, 3, 2, 2, diff=diff)) + field(6, of_c3d(NUMBERS[:1], 1, 1, 1, 1, 1, diff=diff))
    settings = field(10, number(1, 1) + number(4, 2) + number(6, 3) + number(7, 2) + number(8, 1))  # stride and filler to BVLC
    conv = field(2, b"data") + field(3, b"y") + field(4, b"conv") + number(5, 30) + blobs + settings
    pool = field(2, b"y") + field(3, b"z") + field(4, b"pool") + number(5, 31)
    path.write_bytes(field(1, b"c3d") + field(2, conv) + field(2, pool))
    found = read_weights(path)
    assert {name: [blob.shape for blob in blobs] for name, blobs in found.items()} == {
        "conv": [(1, 2, 3, 2, 2), (1, 1, 1, 1, 1)], "pool": []}
    assert found["conv"][0].ravel().tolist() == NUMBERS.tolist()
    net = parse("""input: "data" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 6
        layers { name: "conv" type: CONVOLUTION3D bottom: "data" top: "y"
                 convolution_param { num_output: 1 kernel_size: 2 kernel_depth: 3 stride: 2 temporal_stride: 1 } }
        layers { name: "pool" type: POOLING3D bottom: "y" top: "z"
                 pooling_param { kernel_size: 2 kernel_depth: 2 temporal_stride: 2 } }""", NetParameter)
    upgrade_net(net)
    del net.layer[0].input_param.shape[0].dim[2:]
    net.layer[0].input_param.shape[0].dim.extend([5, 6, 7])
    made = Net(build(net))
    load(path, made.layers_with_params())
    assert made.layers_with_params()["conv"][0].detach().ravel().tolist() == NUMBERS.tolist()
    assert made.graph.shape("y") == (1, 1, 3, 3, 3) and made.graph.shape("z") == (1, 1, 2, 2, 2)
    main(["convert", "upgrade", str(path), str(new)])
    assert [(x.name, x.type, len(x.blobs)) for x in read_net(new).layer] == [("conv", "Convolution3D", 2), ("pool", "Pooling3D", 0)]
    np.testing.assert_array_equal(read_weights(new)["conv"][0], found["conv"][0])


def test_a_mean_and_a_state_of_c3d(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(of_c3d(NUMBERS, 1, 2, 3, 2, 2, diff=False))
    assert read_mean(path).tolist() == NUMBERS.reshape(1, 2, 3, 2, 2).tolist()
    path.write_bytes(number(1, 5) + field(3, of_c3d(NUMBERS, 1, 2, 3, 2, 2)))
    assert read_state(path).history[0].ravel().tolist() == NUMBERS.tolist()


@pytest.mark.parametrize("kind, dtype", [(0, "<f8"), (1, "<f4"), (2, "<f2")])
def test_raw_blobs_of_nvidia_become_plain_ones(tmp_path, kind, dtype):
    path, new = tmp_path / "nv.caffemodel", tmp_path / "new.caffemodel"
    shape = field(7, BlobShape(dim=[4, 6]).SerializeToString())
    blob = shape + number(10, kind) + number(11, kind) + field(12, NUMBERS.astype(dtype).tobytes()) + field(13, b"\xff" * 7)
    own = field(1, b"l") + field(2, b"InnerProduct") + number(145, 2) + number(146, 2) + field(7, blob)
    path.write_bytes(field(1, b"nv") + number(11, 2) + number(15, 1) + field(100, own))
    net = Net(build(parse("""layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 6 } } }
        layer { name: "l" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 bias_term: false } }""",
                          NetParameter)))
    load(path, net.layers_with_params())
    assert net.layers_with_params()["l"][0].detach().ravel().tolist() == NUMBERS.tolist()
    main(["convert", "upgrade", str(path), str(new)])
    (layer,) = NetParameter.FromString(new.read_bytes()).layer
    assert layer.type == "InnerProduct" and [*layer.blobs[0].data] == NUMBERS.tolist() and not layer.blobs[0].raw_data


# Of a layer: its number and what stands there in a file of the fork; of a blob as well
STRANGE = {
    "SegNet's dense_image_data_param": (138, field(1, b"train.txt") + number(2, 4) + field(9, b"root"), b""),
    "SegNet's upsample_param": (137, number(1, 2) + number(4, 1), b""),
    "yjxiong's bn_param": (137, field(1, single(2, 1.5)) + number(5, 1), b""),
    "NVIDIA's forward_type": (145, None, b""),
    "MS-CNN's ROI pooling": (147, number(1, 7) + number(2, 7) + single(3, 0.125) + single(4, 0.25), b""),
    "MS-CNN's smooth L1": (148, single(1, 3.0), b""),
    "Intel's engine": (149, b"MKLDNN", b""),
    "CTPN's reverse_param": (143, number(1, 2), b""),
    "PSPNet's interp_param": (143, number(3, 8) + number(5, 2**64 - 1), b""),
    "SSD's prior_box_param": (203, single(1, 30.0) + single(3, 2.0) + number(4, 1), b""),
    "R-FCN's OHEM": (10000, number(1, 128), b""),
    "the product's own numbers": (1000, number(1, 1) + field(2, b"\x01\x02"), b""),
    "Vitis-AI's mask and format": (150, b"", field(10, NUMBERS.tobytes()) + field(11, NUMBERS.astype("<f8").tobytes())
                                   + number(12, 0)),
    "video-caffe's length": (7777, field(1, b"list.txt"), number(7777, 3)),
}


@pytest.mark.parametrize("name", STRANGE)
def test_names_types_and_blobs_are_right_whatever_other_fields_say(tmp_path, name, capsys):
    at, content, more = STRANGE[name]
    path, new = tmp_path / "fork.caffemodel", tmp_path / "new.caffemodel"
    strange = number(at, 2) if content is None else field(at, content)
    layers = [field(100, field(1, b"a") + field(2, b"InnerProduct") + strange + field(7, of_bvlc(NUMBERS, 4, 6) + more) + strange),
              field(100, field(1, b"b") + field(2, b"OfTheFork") + field(7, more + of_bvlc(NUMBERS[:3], 3)) + strange)]
    path.write_bytes(field(1, b"net") + b"".join(layers))
    main(["convert", "upgrade", str(path), str(new)])
    for each in (path, new):
        found = read_weights(each)
        assert {k: [b.tolist() for b in blobs] for k, blobs in found.items()} == {
            "a": [NUMBERS.reshape(4, 6).tolist()], "b": [NUMBERS[:3].tolist()]}
        assert [layer.type for layer in read_net(each).layer] == ["InnerProduct", "OfTheFork"]
