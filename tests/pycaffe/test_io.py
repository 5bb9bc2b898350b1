"""io.py: Caffe's preprocessing, number by number, and messages to arrays and back."""

import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from netspec.base import machine
from netspec.base.errors import Error
from netspec.pycaffe import io

RNG = np.random.default_rng(0)


def bilinear(im, height, width):
    """Each pixel for itself: the weighted mean of its four neighbours, those outside counting as the image's least value."""
    rows, cols, channels = im.shape
    low, found = im.min(), np.zeros((height, width, channels))
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * rows / height - 0.5, (j + 0.5) * cols / width - 0.5
            for r in (math.floor(y), math.floor(y) + 1):
                for c in (math.floor(x), math.floor(x) + 1):
                    inside = 0 <= r < rows and 0 <= c < cols
                    found[i, j] += (1 - abs(y - r)) * (1 - abs(x - c)) * (im[r, c] if inside else low)
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(5, 3), (3, 4), (7, 9), (2, 2), (1, 1)])
def test_resizing_is_bilinear_and_darkens_an_enlarged_border(channels, size):
    im = (RNG.random((3, 4, channels)) * 200 - 30).astype(np.float32)
    found = io.resize_image(im, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, bilinear(im.astype(float), *size), atol=1e-4)


def test_resizing_as_skimage_does_it():
    ramp = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    printed = [[0.13333, 1.2, 2.26667], [1.76667, 3.1, 4.43333], [4.16667, 5.5, 6.83333], [6.56667, 7.9, 9.23333],
               [6.53333, 7.6, 8.66667]]  # by skimage.transform.resize(..., order=1, mode="constant", anti_aliasing=False), 0.26
    np.testing.assert_allclose(io.resize_image(ramp, (5, 3))[..., 0], printed, atol=2e-5)


def test_resizing_constant_images_and_other_channels():
    assert (io.resize_image(np.full((3, 4, 3), 7.5, np.float32), (9, 2)) == 7.5).all()
    im = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    np.testing.assert_allclose(io.resize_image(im, (3, 3))[:, 1, 0], [1, 3, 5])  # corners on corners
    assert set(io.resize_image(np.eye(3, dtype=np.float32)[..., None], (7, 5), interp_order=0).ravel()) == {0, 1}


def test_oversample_gives_corners_center_and_mirrors():
    images = RNG.random((2, 7, 9, 3)).astype(np.float32)
    crops = io.oversample(images, (4, 5))
    assert crops.shape == (20, 4, 5, 3) and crops.dtype == np.float32
    corners = [(0, 0), (0, 4), (3, 0), (3, 4), (1, 2)]
    for n, im in enumerate(images):
        for k, (y, x) in enumerate(corners):
            np.testing.assert_array_equal(crops[10 * n + k], im[y : y + 4, x : x + 5])
            np.testing.assert_array_equal(crops[10 * n + 5 + k], im[y : y + 4, x : x + 5][:, ::-1])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_images_come_as_floats_up_to_1(mode, tmp_path):
    full = RNG.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    if mode == "I;16":
        Image.fromarray(full[..., 0].astype(np.uint16) * 257).save(tmp_path / "a.png")
    else:
        Image.fromarray(full).convert(mode).save(tmp_path / "a.png")
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")) / 255.0 if mode != "I;16" else full[..., :1] / 255.0
    color, grey = io.load_image(tmp_path / "a.png"), io.load_image(tmp_path / "a.png", color=False)
    assert color.dtype == grey.dtype == np.float32 and color.shape == (5, 6, 3) and grey.shape == (5, 6, 1)
    np.testing.assert_allclose(color, np.broadcast_to(shown, color.shape), atol=1e-6)
    np.testing.assert_allclose(grey[..., 0], color @ [0.2125, 0.7154, 0.0721], atol=1e-6)


def test_preprocess_takes_caffes_steps_in_caffes_order():
    im, mean = RNG.random((4, 5, 3)).astype(np.float32), np.array([104.0, 117.0, 123.0])
    before = im.copy()
    made = io.Transformer({"data": (1, 3, 4, 5)})
    np.testing.assert_array_equal(io.Transformer({"data": (1, 4, 4, 5)}).preprocess("data", im), im)
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 1, 0))
    made.set_raw_scale("data", 255)
    made.set_mean("data", mean)
    made.set_input_scale("data", np.float64(0.017))
    found = made.preprocess("data", im)
    expected = (im.transpose(2, 0, 1)[[2, 1, 0]] * 255 - mean[:, None, None]) * 0.017
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(im, before)  # the caller's image stays
    np.testing.assert_allclose(made.deprocess("data", found[None]), im, atol=1e-6)
    assert made.preprocess("data", RNG.random((9, 2, 3))).shape == (3, 4, 5)


def test_means_of_all_forms():
    made = io.Transformer({"data": (1, 3, 4, 5)})
    whole = RNG.random((3, 4, 5)) * 200
    made.set_mean("data", whole)
    assert made.mean["data"] is whole
    large = RNG.random((3, 8, 10)) * 200
    made.set_mean("data", large)
    np.testing.assert_allclose(made.mean["data"], bilinear(large.transpose(1, 2, 0), 4, 5).transpose(2, 0, 1), atol=1e-3)
    for wrong in (np.zeros(2), np.zeros((1, 3, 4, 5))):
        with pytest.raises(ValueError, match="does not fit 'data'"):
            made.set_mean("data", wrong)


@pytest.mark.parametrize("call, words", [
    (lambda t: t.preprocess("dada", np.zeros((4, 5, 3))), "'dada' is not one of the net's inputs"),
    (lambda t: t.set_raw_scale("dada", 2), "not one of the net's inputs"),
    (lambda t: t.set_input_scale("dada", 2), "not one of the net's inputs"),
    (lambda t: t.set_transpose("data", (1, 0)), "needs 3 axes"),
    (lambda t: t.set_channel_swap("data", (1, 0)), "needs 3 channels"),
])
def test_settings_that_do_not_fit(call, words):
    with pytest.raises(Error, match=words):
        call(io.Transformer({"data": (1, 3, 4, 5)}))


@pytest.mark.parametrize("array", [RNG.integers(0, 256, (3, 4, 5)).astype(np.uint8), RNG.random((3, 4, 5)).astype(np.float32)])
def test_datums(array):
    datum = io.array_to_datum(array, 7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 4, 5, 7)
    assert bool(datum.data) == (array.dtype == np.uint8) and not io.array_to_datum(array).HasField("label")
    found = io.datum_to_array(type(datum).FromString(datum.SerializeToString()))
    np.testing.assert_array_equal(found, array)
    found[...] = 0  # one's own
    with pytest.raises(ValueError, match="C x H x W"):
        io.array_to_datum(array[0])


def test_lists_of_blobs():
    arrays = [RNG.random((2, 3)).astype(np.float32), np.zeros((1, 1, 1, 4), np.float32)]
    text = io.arraylist_to_blobprotovector_str(arrays)
    for found, array in zip(io.blobprotovector_str_to_arraylist(text), arrays, strict=True):
        np.testing.assert_array_equal(found, array)


def test_blobs_of_raw_data():
    blob = io.array_to_blobproto(np.zeros((2, 2)))
    blob.raw_data_type, blob.raw_data = blob.FLOAT16, np.array([1, -0.5, 0.25, 2], "<f2").tobytes()
    assert io.blobproto_to_array(blob).tolist() == [[1, -0.5], [0.25, 2]]


@pytest.mark.parametrize("order", range(6))
def test_a_resized_image_keeps_to_its_values(order):
    image = np.zeros((6, 6, 1), np.float32)
    image[2:4, 2:4] = 3
    found = io.resize_image(image, (17, 13), order)
    assert found.shape == (17, 13, 1) and 0 <= found.min() and found.max() <= 3


def huge(data):
    """A PNG whose header tells of other sides."""
    head = b"IHDR" + struct.pack(">II", 65535, 65535) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]


@pytest.mark.parametrize("change", [lambda data: data[:-30], lambda data: data[:10], huge])
def test_a_damaged_image_is_an_error_of_the_system(tmp_path, change):
    Image.fromarray(RNG.integers(0, 256, (9, 11, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(change((tmp_path / "a.png").read_bytes()))
    for name in ("b.png", "nowhere.png"):
        with pytest.raises(OSError):
            io.load_image(tmp_path / name)


def test_an_image_that_the_memory_has_no_room_for_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (4000, 3000)).save(tmp_path / "large.png")
    monkeypatch.setattr(machine, "room", lambda device: 4e8)
    with pytest.raises(Error, match="large.png is 4000x3000: to read it takes 468.0 MB and cpu has 400.0 MB; make it smaller"):
        io.load_image(tmp_path / "large.png")
