"""transform_param against loops, its chances against statistics, and resizing against OpenCV's own results."""

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import programs
import pytest
from google.protobuf import text_format
from measured import refusal
from PIL import Image
from programs import PROJECT
from scipy import stats

from netspec.base.errors import Error
from netspec.data import geotiff, images
from netspec.data.arrays import MemoryData
from netspec.data.images import decode, read_image, read_label
from netspec.data.opencv import nearest, resize
from netspec.data.transform import Transform
from netspec.ops.base import Context
from netspec.proto import caffe_pb2

OPENCV = dict(np.load(Path(__file__).parents[1] / "golden" / "resize.npz"))
TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
X = np.random.RandomState(0).randint(0, 256, (3, 7, 9)).astype(np.uint8)
MEAN = np.random.RandomState(1).rand(3, 7, 9).astype(np.float32) * 200


def transform(settings, phase=TEST, base=None):
    layer = text_format.Parse(
        f'name: "l" type: "MemoryData" top: "a" top: "b" transform_param {{ {settings} }} '
        "memory_data_param { batch_size: 1 channels: 1 height: 1 width: 1 }", caffe_pb2.LayerParameter())
    return Transform(MemoryData(layer, (), Context(phase=phase, base=base)))


def with_mean(folder, values=MEAN, name="mean.binaryproto"):
    n, c, h, w = values.reshape(-1, *values.shape[-3:]).shape
    blob = caffe_pb2.BlobProto(num=n, channels=c, height=h, width=w, data=values.ravel())
    (folder / name).write_bytes(blob.SerializeToString())
    return f'mean_file: "{name}"'


def naive(x, scale=1.0, mean=None, crop=0, top=0, left=0, flip=False):
    high, wide = crop or x.shape[1], crop or x.shape[2]
    y = np.zeros((len(x), high, wide), np.float32)
    for c, i, j in np.ndindex(*y.shape):
        minus = 0 if mean is None else mean[c % len(mean)] if np.ndim(mean) == 1 else mean[c, top + i, left + j]
        value = (np.float32(x[c, top + i, left + j]) - np.float32(minus)) * np.float32(scale)
        y[c, i, wide - 1 - j if flip else j] = value
    return y


@pytest.mark.parametrize("mean,scale,crop", list(itertools.product(["", "one", "each", "file"], [1.0, 0.017], [0, 4, 7])))
def test_mean_scale_and_middle_crop(tmp_path, mean, scale, crop):
    text, values = {"": ("", None), "one": ("mean_value: 7.5", [7.5]), "file": (with_mean(tmp_path), MEAN),
                    "each": ("mean_value: 1 mean_value: 2.25 mean_value: 100.1", [1, 2.25, 100.1])}[mean]
    made = transform(f"{text} scale: {scale} crop_size: {crop}", TEST, tmp_path)
    y = made(X, np.random.default_rng(0))
    assert y.dtype == np.float32 and y.flags.c_contiguous and y.shape == made.shape(*X.shape)
    place = ((7 - crop) // 2, (9 - crop) // 2) if crop else (0, 0)
    assert np.array_equal(y, naive(X, scale, values, crop, *place))


def test_float_pixels():
    x = np.random.RandomState(2).randn(1, 5, 5).astype(np.float32)
    assert np.array_equal(transform("mean_value: 2 scale: 3")(x, None), naive(x, 3, [2]))


@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize("mirror", [False, True])
def test_random_crops_and_mirroring_are_uniform_and_carry_the_mean_along(tmp_path, phase, mirror):
    made = transform(f"{with_mean(tmp_path)} crop_size: 5 mirror: {str(mirror).lower()}", phase, tmp_path)
    places = list(itertools.product(range(3), range(5))) if phase == TRAIN else [(1, 2)]
    kinds = [naive(X, 1, MEAN, 5, *place, flip).tobytes() for place in places for flip in ((False, True) if mirror else (False,))]
    random = np.random.default_rng(3)
    drawn = [made(X, random).tobytes() for _ in range(60 * len(kinds))]
    counts = [drawn.count(kind) for kind in kinds]
    assert sum(counts) == len(drawn), "nothing but these"
    if len(kinds) > 1:
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("settings,words", [
    ("crop_size: 8", "crop_size 8 is more than an image of 7 x 9"),
    ("mean_value: 1 mean_value: 2", "2 mean_value for 3 channels"),
    ('mean_value: 1 mean_file: "m"', "both mean_file and mean_value"),
    ("force_color: true force_gray: true", "both force_color and force_gray"),
    ('mean_file: "none.binaryproto"', "not there"),
    ('mean_file: "small.binaryproto"', r"mean_file is 3 x 4 x 4, an image is 3 x 7 x 9"),
    ('mean_file: "two.binaryproto"', r"shape \[2, 3, 4, 4\]"),
    ('mean_file: "bad.binaryproto"', "bad.binaryproto"),
])
def test_refuses(tmp_path, settings, words):
    with_mean(tmp_path, MEAN[:, :4, :4], "small.binaryproto")
    with_mean(tmp_path, np.zeros((2, 3, 4, 4)), "two.binaryproto")
    (tmp_path / "bad.binaryproto").write_bytes(b"<html>")
    with pytest.raises(Error, match=rf"layer 'l' \(MemoryData\): .*{words}"):
        transform(settings, TEST, tmp_path)(X, None)


# Resizing


@pytest.mark.parametrize("name", [name for name in OPENCV if name != "image"])
def test_resizing_is_that_of_opencv_to_the_bit(name):
    kind, size = name.split("_")
    height, width = map(int, size.split("x"))
    if kind == "linear":
        found = resize(OPENCV["image"].transpose(2, 0, 1), height, width).transpose(1, 2, 0)
    else:
        found = nearest(OPENCV["image"][:, :, 0], height, width)
    assert found.dtype == np.uint8 and np.array_equal(found, OPENCV[name])


def test_pillow_smooths_where_opencv_does_not():
    image = OPENCV["image"]
    ours = resize(image.transpose(2, 0, 1), 9, 5).transpose(1, 2, 0).astype(int)
    pillow = np.asarray(Image.fromarray(image).resize((5, 9), Image.Resampling.BILINEAR)).astype(int)
    assert abs(ours - pillow).max() > 20


# Decoding

RGB = np.random.RandomState(3).randint(0, 256, (4, 5, 3)).astype(np.uint8)


@pytest.mark.parametrize("mode,channels", [("RGB", 3), ("RGBA", 4), ("L", 1), ("1", 1), ("P", 3), ("LA", 4)])
def test_channels_are_those_of_the_image_unless_told(mode, channels):
    image = Image.fromarray(RGB).convert(mode)
    assert decode(image, "i", None).shape == (channels, 4, 5)
    colour = decode(image, "i", True)
    assert np.array_equal(colour[::-1].transpose(1, 2, 0), np.asarray(image.convert("RGB"))), "blue comes first"
    assert np.array_equal(decode(image, "i", False)[0], np.asarray(image.convert("L")))
    if mode == "RGBA":
        assert np.array_equal(decode(image, "i", None)[3], np.asarray(image)[:, :, 3])


def test_more_than_8_bits_are_refused():
    with pytest.raises(Error, match="i has pixels of kind I;16"):
        decode(Image.fromarray(np.zeros((2, 2), np.uint16)), "i", True)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "LA", "CMYK"])
def test_a_large_image_is_read_in_parts_to_the_same_pixels(monkeypatch, mode):
    whole = Image.fromarray(np.random.RandomState(0).randint(0, 256, (23, 17, 3), dtype=np.uint8)).convert(mode)
    if mode == "P":
        whole.info["transparency"] = 3
    for color in (None, True, False):
        monkeypatch.setattr(images, "PART", 1 << 20)
        expected = decode(whole, "x", color)
        for part in (1, 17 * 4, 17 * 23 - 1):
            monkeypatch.setattr(images, "PART", part)
            assert np.array_equal(decode(whole, "x", color), expected)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def as_png(width, height, *chunks):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)) + b"".join(chunks)


PACKED = zlib.compress(bytes(1 << 26), 1)
BOMBS = {
    "pixels": (as_png(60000, 60000, chunk(b"IDAT", PACKED[:50])), "decompression bomb"),
    "few bytes": (as_png(13000, 13000, chunk(b"IDAT", PACKED[:50])), "are too few for its"),
    "text": (as_png(8, 8, chunk(b"zTXt", b"a\0\0" + PACKED)), "cannot be read"),
    "profile": (as_png(8, 8, chunk(b"iCCP", b"a\0\0" + PACKED)), "cannot be read"),
    "scene": (b"II*\0\x08\0\0\0\x08\0" + b"".join(struct.pack("<HHII", *tag) for tag in (
        (256, 4, 1, 60000), (257, 4, 1, 60000), (258, 3, 1, 16), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 1000),
        (279, 4, 1, 20))) + bytes(4), "decompression bomb"),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) (w) file\n%%EOF\n", "is PostScript, a program"),
}


@pytest.mark.parametrize("what", BOMBS)
def test_images_that_declare_more_than_they_have_take_no_memory(tmp_path, what):
    content, words = BOMBS[what]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (read_image, read_label):
        said = refusal(lambda read=read: read(path), 32 << 20)
        assert str(path) in said and words in said
    if what == "scene":
        assert "is too small for them" in refusal(lambda: geotiff.read(geotiff.SceneFiles("a", [path], None), ["red"]), 32 << 20)


def test_an_image_takes_little_more_memory_than_its_pixels(tmp_path):
    Image.new("RGB", (4000, 3000)).save(tmp_path / "a.png")
    code = (f"import sys; sys.path.insert(0, {str(PROJECT / 'tests')!r}); from measured import refusal; from netspec.data import images; "
            "print(repr(refusal(lambda: images.decode(images.open_image('a.png'), 'x', True), 8 * 4000 * 3000 + (8 << 20))))")
    done = programs.run("-c", code, cwd=tmp_path)  # a process whose heap has nothing free of other tests
    assert (done.stdout, done.returncode) == ("''\n", 0), done.stderr


@pytest.mark.filterwarnings("ignore:IM image format")
def test_a_kind_of_pixels_that_there_is_not_is_damage(tmp_path):
    (tmp_path / "b.im").write_bytes(b"Image type: L 16\xff image\r\nImage size (x*y): 11*9\r\n".ljust(511, b"\0") + b"\x1a" + bytes(99))
    with pytest.raises(Error, match="b.im cannot be read"):
        images.open_image(tmp_path / "b.im")
