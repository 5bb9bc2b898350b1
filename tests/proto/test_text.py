"""prototext.py: what is read, what is written, what is said about mistakes."""

import os
import random
import time
import tracemalloc
from contextlib import suppress

import pytest

from netspec.base.errors import Error
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.proto.text import read_lines

NET = """\
# a net
name: "small"   # with a comment: layer { name: "no" }
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  param { lr_mult: 1 decay_mult: 0.1 }
  convolution_param <
    num_output: 4, kernel_size: [3, 3]; weight_filler: { type: 'gaussian' std: 1e-2 }
  >
}
layer { type: "SoftmaxWithLoss" name: "loss" loss_param { normalization: FULL } include { phase: TEST } }
"""


def net(text):
    return prototext.parse(text, caffe_pb2.NetParameter, "n.prototxt")


def file(folder, content):
    path = folder / "n.prototxt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_parse():
    message = net(NET)
    conv = message.layer[1]
    assert list(conv.convolution_param.kernel_size) == [3, 3]
    assert conv.convolution_param.weight_filler.std == pytest.approx(0.01)
    assert message.layer[2].loss_param.normalization == caffe_pb2.LossParameter.FULL


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('layer { name: "a"\n  typ: "b" }', "2:3: LayerParameter has no field 'typ'; did you mean 'type'?"),
        ("laye { }", "1:1: NetParameter has no field 'laye'; did you mean 'layer'?"),
        (
            "layer { convolution_param { kernel_sise: 3 } }",
            "1:29: ConvolutionParameter has no field 'kernel_sise'; did you mean 'kernel_size'?",
        ),
        (
            "layer { pooling_param { pool: MAXX } }",
            "1:31: layer.pooling_param.pool: PoolMethod has no value MAXX; known are MAX, AVE, STOCHASTIC",
        ),
        ("layers { type: RELUU }", "1:16: layers.type: LayerType has no value RELUU; did you mean 'RELU'?"),
        (
            'layer { convolution_param { num_output: "x" } }',
            '1:41: layer.convolution_param.num_output: couldn\'t parse integer: "x"',
        ),
        (
            "layer { convolution_param { pad: -1 } }",
            "1:34: layer.convolution_param.pad: value out of range: -1",
        ),
        ("layer { type: RELU }", "1:15: layer.type: expected string but found: 'RELU'"),
        ('name: "a" name: "b"', "1:17: name: 'name' is given more than once"),
        ('layer { relu_param { } name: "a"', "1:30: layer: the text ends before the closing }"),
        (
            "layer { relu_param { layer { } } }",
            "1:22: ReLUParameter has no field 'layer'; is a } missing above?",
        ),
        ("layer { clip_param { min: 1 } }", " the required field layer[0].clip_param.max is missing"),
        ("base_lr: 1", "1:1: NetParameter has no field 'base_lr'; the text seems to be a SolverParameter"),
        ('name: "\\377"', "1:13: name: the string is not UTF-8"),
        ('name: "a\n"', "1:7: name: string missing ending quote: '\"a'"),
        ('name: "x"\nlayer { name: "a\\\\\\d" }', "2:19: unknown escape \\d; a backslash is \\\\"),
        ('name: "\\001\\x01\\x10\\u0100\\0101\\0"', "1:31: a zero byte, which no name and no setting has"),
        ("name: '\\x00'", "1:8: a zero byte, which no name and no setting has"),
        ("layer: 3", '1:8: layer: expected "{"'),
        ('name: "n"\nlayer {\n  convolution_param {\n    pad: -1\n  } }', "4:10: layer.convolution_param.pad: value out of range: -1"),
    ],
)
def test_mistakes(text, said):
    with pytest.raises(Error) as error:
        net(text)
    assert str(error.value) == "n.prototxt:" + said


def test_deep_nesting_and_large_input_end_in_an_error():
    for text in (
        "layer {" * 200_000,
        "layer: [" * 200_000,
        "[" * 1_000_000,
        "name: " + '"a"' * 300_000 + "}",
    ):
        start = time.process_time()
        with pytest.raises(Error):
            net(text)
        assert time.process_time() - start < 20
    with pytest.raises(Error, match="64"):
        net(" " * (prototext.LIMIT + 1))


@pytest.mark.parametrize("text", [
    'name: "' + "y" * 400_000 + '"', 'name: "' + "y" * 400_000, 'name: "' + "\\n" * 200_000 + '"',
    'name: "' + "\\101" * 100_000 + '"', "name: '" + "\\x41" * 100_000, "name: " + "'\\n\\n\\n'\n" * 30_000,
    "name:" + " " * 400_000 + '"a"', "layer { type" + "\n" * 400_000 + ': "a" }', "layer { type" + "#\n" * 200_000 + ": 1 }",
    "y" * 400_000, "1" * 400_000], ids=lambda text: f"{text[:15]!r} ... {text[-3:]!r}")
def test_a_text_takes_a_small_multiple_of_its_size_in_memory(text):
    tracemalloc.start()
    try:
        with suppress(Error):
            net(text)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(text)
    finally:
        tracemalloc.stop()


def test_a_file_may_be_as_large_as_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "net.prototxt"
    monkeypatch.setattr(prototext, "LIMIT", 9)
    path.write_text('name: "n"')
    assert prototext.read_text(path) == 'name: "n"'
    path.write_text('name: "no"')
    with pytest.raises(Error, match="net.prototxt is larger than"):
        prototext.read_text(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x0a\x05small\x12\x03\x00\x00\x00", "is binary"),
        (b"\x89HDF\r\n\x1a\n\0\0", "is binary"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "is a web page"),
        ("layer { }".encode("utf-16"), "is UTF-16 text"),
    ],
)
def test_files_that_are_no_prototxt(tmp_path, content, said):
    path = file(tmp_path, content)
    with pytest.raises(Error, match=f"n.prototxt {said}|{said}"):
        prototext.read_net(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(Error, match="nowhere.prototxt' is not there"):
        prototext.read_net(tmp_path / "nowhere.prototxt")
    with pytest.raises(Error, match="cannot be read: Is a directory"):
        prototext.read_net(tmp_path)


def test_read_net_upgrades(tmp_path):
    assert prototext.read_net(file(tmp_path, "layers { type: RELU }")).layer[0].type == "ReLU"
    with pytest.raises(Error, match="n.prototxt: the net has both"):
        prototext.read_net(file(tmp_path, "layers { } layer { }"))


def test_encodings(tmp_path):
    assert prototext.read_net(file(tmp_path, b'\xef\xbb\xbfname: "a"\r\nlayer { }\r\n')).name == "a"
    assert prototext.read_net(file(tmp_path, 'name: "Größe"')).name == "Größe"
    assert prototext.read_net(file(tmp_path, b'# \xb5\xb6 in GBK\nname: "a"')).name == "a"
    with pytest.raises(Error, match="n.prototxt:1:.*not UTF-8"):
        prototext.read_net(file(tmp_path, b'name: "\xb5"'))


def test_read_solver(tmp_path):
    path = file(tmp_path, "net: 'x' solver_type: ADAM")
    solver = prototext.read_solver(path)
    assert solver.type == "Adam"
    assert solver.snapshot_prefix == str(tmp_path / "n")
    path.write_text(f"snapshot_prefix: '{tmp_path}'")
    assert prototext.read_solver(path).snapshot_prefix == str(tmp_path / "n")
    path.write_text("snapshot_prefix: 'snap/x'")
    assert prototext.read_solver(path).snapshot_prefix == "snap/x"
    with pytest.raises(Error, match="the text seems to be a NetParameter"):
        prototext.read_solver(file(tmp_path, NET))


def test_written_text_reads_back(tmp_path):
    message = net(NET)
    message.layer[1].blobs.add(data=[0.1, 1 / 3, 1e-30, 16777217.0, float("inf"), -0.0])
    message.name = 'Größe "\n\\'
    path = tmp_path / "new" / "n.prototxt"
    prototext.write(path, message, header="one\n\ntwo: layer {")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# one\n#\n# two: layer {\nname: ")
    assert prototext.read_net(path) == message
    assert [p.name for p in path.parent.iterdir()] == ["n.prototxt"]


def test_form_of_the_text():
    text = 'layer { name: "a" loss_weight: 0.1 phase: TEST pooling_param { pool: AVE } blobs { data: 1 } }'
    message = net(text)
    assert prototext.to_text(message) == (
        'layer {\n  name: "a"\n  loss_weight: 0.1\n  blobs {\n    data: 1\n  }\n  phase: TEST\n'
        "  pooling_param {\n    pool: AVE\n  }\n}\n"
    )


def test_layer_lines(tmp_path):
    text = NET + (
        "layer\n# {\n{ bottom: 'layer { name: \"x\" }'\n type: 'ReLU' name:\n'late' }\n"
        "layers { layer { name: 'v0' weight_filler { type: 'x' } } }\n"
        "layer { name: 'conv' param { name: 'w' } }\n"
    )
    assert prototext.layer_lines(file(tmp_path, text)) == {
        "data": 3,
        "conv": 4,
        "loss": 14,
        "late": 15,
        "v0": 20,
    }
    assert prototext.layer_lines(file(tmp_path, "}}{{\"' layer { name: ")) == {}


def test_mutated_text_gives_a_message_or_an_error(tmp_path):
    """Only Error may come out, whatever the text."""
    rng = random.Random(1)
    pieces = [
        *"{}<>[]:,;\"'#\\\n\0-\xa0\ud7ff",
        "layer {",
        "name: ",
        "9" * 30,
        "1e999",
        "\\x",
        "\\u12",
        "nan",
    ]
    refused = 0
    for _ in range(1500):
        text = NET
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(text))
            end = start + rng.choice([0, 0, 1, 1, 5, 60])
            text = text[:start] + rng.choice([*pieces, "", text[start:end] * 2]) + text[end:]
        try:
            prototext.to_text(net(text))
        except Error as error:
            refused += 1
            assert str(error).startswith("n.prototxt:")
    assert 500 < refused < 1500


@pytest.mark.parametrize("layer, said", [
    ('type: "Interp" interp_param { zoom_factor: 2 }', "Interp (of a fork)"),
    ('type: "SoftmaxWithLoss" loss_param { weight_by_label_freqs: true class_weighting: 1 }',
     "weight_by_label_freqs of SoftmaxWithLoss (of a fork), class_weighting of SoftmaxWithLoss (of a fork)"),
    ('type: "Pooling" pooling_param { round_mode: FLOOR }', "round_mode of Pooling (of Caffe's master)"),
    ('type: "Swish"', "Swish (of Caffe's master)"),
    ('type: "Python" python_param { module: "m" layer: "L" }', None),
    (r'type: "a\nb"', r"a\nb (of a fork)"),
])
def test_a_written_net_says_what_caffe_would_refuse(tmp_path, layer, said):
    net = prototext.parse(f'layer {{ name: "x" {layer} }} layer {{ name: "y" {layer} }}', caffe_pb2.NetParameter)
    prototext.write(tmp_path / "net.prototxt", net, header="First.")
    lines = (tmp_path / "net.prototxt").read_text().splitlines()
    assert lines[0] == "# First." and lines[1] == (
        f"# Caffe 1.0 refuses this net, for it has {said}." if said else "layer {")
    assert prototext.read_net(tmp_path / "net.prototxt") == net


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_lists_are_refused_at_once_by_what_they_are(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 33)  # takes no room on the disk
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    (tmp_path / "image").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "words").write_bytes(b"a.png 0\n\xe9.png 1\n")
    (tmp_path / "wide").write_text("a.png 0\n", encoding="utf-16")
    (tmp_path / "page").write_text("<!doctype html><html>")
    (tmp_path / "line").write_text("a" * (1 << 21))
    kinds = {"folder": "is a folder, a device or a pipe", "pipe": "is a folder, a device or a pipe", "huge": "is larger than 512 MiB",
             "zeros": "is binary", "image": "is binary", "words": "is no UTF-8 text", "wide": "is UTF-16 text", "page": "is a web page", "line": "has a line of 1 MiB", "none": "is not there"}
    for name, words in kinds.items():
        with pytest.raises(Error, match=f"the list .*{name}.* {words}"):
            list(read_lines(tmp_path / name))
    with pytest.raises(Error, match="a device or a pipe"):
        list(read_lines("/dev/zero"))
    (tmp_path / "sound").write_bytes(b"\xef\xbb\xbfa\x1b b\r\nc\n\nd")
    assert list(read_lines(tmp_path / "sound")) == ["a\x1b b", "c", "", "d"]
