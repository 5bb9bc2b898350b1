"""What infer makes of pictures of every kind: frames, folders, video, and what it writes and says of them."""

import io
import json
import os
import struct
import subprocess
import sys
import threading
import types
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from PIL import Image, ImageCms
from thirds import NET, thirds, write_thirds

import netspec
from netspec import NetSpec
from netspec import layers as L
from netspec.base import machine
from netspec.base.errors import Error
from netspec.base.machine import room
from netspec.cli import main as cli
from netspec.look import pictures
from netspec.net.build import build, load
from netspec.net.module import Net
from netspec.net.plan import Plan
from netspec.proto.model import write_weights
from netspec.score import frames, predict, results, segment
from netspec.score.averaged import Averaged

PROJECT = Path(__file__).resolve().parents[2]
NAMES = ["red", "green", "blue"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the net of thirds.py and photo.png of thirds."""
    monkeypatch.chdir(tmp_path)
    write_thirds(tmp_path)
    return tmp_path


def infer(capsys, *argv, out="o"):
    status = cli.main(["infer", "net.prototxt", "net.caffemodel", *map(str, argv), "--out", out, "--device", "cpu"])
    return status, *capsys.readouterr()


def read(path):
    return np.array(Image.open(path))


def written(folder="o"):
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_line_an_image_with_shares(place, capsys):
    status, out, err = infer(capsys, "photo.png")
    assert (status, err) == (0, "")
    assert out == "photo.png: red 33%, green 33%, blue 33% -> o/photo_labels.png, photo_overlay.png\n"


def test_classes_limit_line_and_overlay_not_labels(place, capsys):
    infer(capsys, "photo.png")
    labels, everything = read("o/photo_labels.png"), Image.open("o/photo_overlay.png")
    status, out, _ = infer(capsys, "photo.png", "--classes", "2,red", "--alpha", "1", out="p")
    assert status == 0 and out.startswith("photo.png: red 33%, blue 33% -> ")
    np.testing.assert_array_equal(read("p/photo_labels.png"), labels)
    shown = read("p/photo_overlay.png")
    factor = 25  # of a picture of 12 pixels
    assert shown[3 * factor, 6 * factor].tolist() == [0, 200, 0]  # the photograph
    colours = np.array(Image.open("p/photo_labels.png").getpalette()).reshape(-1, 3)
    assert shown[3 * factor, 10 * factor].tolist() == colours[2].tolist() != [0, 0, 200]
    assert Image.open("p/photo_overlay.png").height <= everything.height
    status, out, _ = infer(capsys, "photo.png", "--classes", "blue", "--alpha", "0", out="q")
    plain = read("q/photo_overlay.png")
    assert plain[3 * factor, 10 * factor].tolist() == [0, 0, 200]
    Image.new("RGB", (9, 9), "red").save("only.png")
    assert infer(capsys, "only.png", "--classes", "blue")[1].startswith("only.png: none of the classes -> ")


@pytest.mark.parametrize("option", ["--classes", "--cutout"])
def test_classes_that_there_are_not(place, capsys, option):
    status, out, err = infer(capsys, "photo.png", option, "gren")
    assert status == 2 and not out and err.count("\n") == 1 and not Path("o").exists()
    assert f"{option}: 'gren' is no class; did you mean 'green'? (classes: red, green, blue)" in err


@pytest.mark.parametrize("options", [("--alpha", "1.5"), ("--alpha", "x"), ("--scales", "0"), ("--scales", "1,x"),
                                     ("--scales", "nan"), ("--scales", "")])
def test_numbers_that_are_none(place, capsys, options):
    with pytest.raises(SystemExit):
        infer(capsys, "photo.png", *options)
    assert not Path("o").exists()


def test_a_cutout_has_the_rest_transparent(place, capsys):
    status, out, _ = infer(capsys, "photo.png", "--cutout", "green")
    assert status == 0 and out.endswith("-> o/photo_labels.png, photo_overlay.png, photo_cutout.png\n")
    found, labels = Image.open("o/photo_cutout.png"), read("o/photo_labels.png")
    assert found.mode == "RGBA"
    np.testing.assert_array_equal(np.array(found)[..., 3], (labels == 1) * 255)
    np.testing.assert_array_equal(np.array(found)[..., :3], read("photo.png") * (labels == 1)[..., None])


def test_scores_are_kept(place, capsys):
    assert infer(capsys, "photo.png", "--scores")[0] == 0
    found = np.load("o/photo_scores.npy")
    assert found.dtype == np.float32 and found.shape == (3, 6, 12)
    np.testing.assert_array_equal(found.argmax(0), read("o/photo_labels.png"))


def test_json(place, capsys):
    Path("note.jpg").write_text("words")
    status, out, err = infer(capsys, "note.jpg", "photo.png", "--json", "--classes", "green")
    told = json.loads(out)
    assert status == 2 and "note.jpg is no image" in err
    assert told["errors"] == [{"image": "note.jpg",
                               "error": "note.jpg is no image of a kind that Pillow reads, or it is damaged"}]
    assert told["images"] == [{
        "image": "photo.png", "size": [12, 6], "classes": [{"name": "green", "class": 1, "pixels": 24, "share": 1 / 3}],
        "files": {"labels": "o/photo_labels.png", "overlay": "o/photo_overlay.png"}, "seconds": told["images"][0]["seconds"]}]
    assert [Path(told[what]).name for what in ("net", "weights")] == ["net.prototxt", "net.caffemodel"]


@pytest.mark.parametrize("more, each", [((), [1, 1]), (("--tile", "16"), [1, 2]), (("--scales", "1,2"), [2, 2])])
def test_the_seconds_are_those_of_the_passes(place, capsys, monkeypatch, more, each):
    """By a clock that goes on with what is done alone: a second for a pass, a hundred for reading and writing."""
    now = [0.0]

    def takes(one, name, seconds):
        work = getattr(one, name)

        def done(*given, **said):
            now[0] += seconds
            return work(*given, **said)

        monkeypatch.setattr(one, name, done)

    monkeypatch.setattr(segment, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    takes(Plan, "along", 1)
    takes(Plan, "__call__", 1)
    thirds(20).save("large.png")
    status, out, _ = infer(capsys, "photo.png", "large.png", "--json", *more)
    assert status == 0 and [one["seconds"] for one in json.loads(out)["images"]] == each
    takes(frames.Image, "open", 100)
    takes(results.pictures, "save_labels", 100)
    takes(results.pictures, "colours", 100)
    assert [one["seconds"] for one in json.loads(infer(capsys, "large.png", "--json", *more)[1])["images"]] == each[1:] and now[0] > 100


# several looks

def averaged(net, image, looks):
    """The mean of the probabilities, from torch's own functions."""
    total = 0
    for scale, mirrored in looks:
        size = [round(side * scale) for side in image.shape[2:]]
        seen = torch.nn.functional.interpolate(image, size, mode="bilinear", antialias=True) if scale != 1 else image
        scores = net({"data": seen.flip(3) if mirrored else seen}, ["score"])["score"]
        scores = scores.flip(3) if mirrored else scores
        total = total + torch.nn.functional.interpolate(scores, image.shape[2:], mode="bilinear").softmax(1)
    return total / len(looks)


def test_looks_are_averaged_as_probabilities(place, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save("noise.png")
    net = predict.load(load("net.prototxt"), "net.caffemodel", "cpu")[0]
    image = predict.blob(Image.fromarray(noise), (0, 0, 0))
    looks = [(scale, mirrored) for scale in (0.5, 1, 1.5) for mirrored in (False, True)]
    with torch.no_grad():
        expected = averaged(net, image, looks)
        found = Averaged(net, "score", (0.5, 1, 1.5), True)({"data": image}, ["score"])["score"]
    torch.testing.assert_close(found.softmax(1), expected)
    assert infer(capsys, "noise.png", "--scales", "0.5,1,1.5", "--flip", "--scores")[0] == 0
    np.testing.assert_array_equal(read("o/noise_labels.png"), expected[0].argmax(0))
    np.testing.assert_allclose(np.load("o/noise_scores.npy"), found[0], rtol=1e-5)
    infer(capsys, "noise.png", out="p")
    assert (read("o/noise_labels.png") != read("p/noise_labels.png")).any()


def test_one_look_is_what_it_was(place, capsys):
    infer(capsys, "photo.png", "--scores")
    infer(capsys, "photo.png", "--scores", "--scales", "1", out="p")
    for name in written():
        assert Path("o", name).read_bytes() == Path("p", name).read_bytes()


def test_a_blob_of_probabilities_is_averaged_as_it_is(place):
    Path("odds.prototxt").write_text(NET + 'layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }')
    net = predict.load(load("odds.prototxt"), "net.caffemodel", "cpu")[0]
    image = predict.blob(thirds(), (0, 0, 0))
    with torch.no_grad():
        found = Averaged(net, "prob", (1.0,), True)({"data": image}, ["prob"])["prob"]
        expected = averaged(net, image, [(1, False), (1, True)])
    torch.testing.assert_close(found, expected)


def test_a_scale_at_which_the_image_is_too_small(place, capsys):
    Path("net.prototxt").write_text(NET.replace("pad: 1", "pad: 0"))
    status, out, err = infer(capsys, "photo.png", "--scales", "0.25,1")
    assert status == 2 and not out and err.count("\n") == 1
    assert "image photo.png (12x6): at scale 0.25 is too small for net 'thirds', which needs 3x3 pixels" in err


# pictures of every kind

def save(path, image, **options):
    image.save(path, **options)
    return path


def animation(path, count=3, **options):
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    first, *others = [thirds(order=orders[n % 4]) for n in range(count)]
    return save(path, first, save_all=True, append_images=others, **options)


@pytest.mark.parametrize("path, options", [("move.gif", {}), ("move.webp", {"lossless": True}), ("move.png", {}),
                                           ("pages.tif", {})])
def test_animations_and_pages_give_a_frame_each(place, capsys, path, options):
    animation(path, **options)
    stem = Path(path).stem
    status, out, err = infer(capsys, path)
    assert (status, err) == (0, "") and [line.split(":")[0] for line in out.splitlines()] == [
        f"{path} frame {n}" for n in (1, 2, 3)]
    assert written() == [f"{stem}_000{n}_{kind}.png" for n in (1, 2, 3) for kind in ("labels", "overlay")]
    middles = [read(f"o/{stem}_000{n}_labels.png")[3, [2, 6, 10]].tolist() for n in (1, 2, 3)]
    assert middles == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


@pytest.mark.parametrize("path, options", [("move.gif", {}), ("move.png", {}), ("pages.tif", {})])
def test_of_a_file_that_is_cut_the_frames_before_are_kept(place, capsys, path, options):
    whole = Path(animation(path, 4, **options) or path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) * 6 // 10])
    status, out, err = infer(capsys, path)
    kept = len(out.splitlines())
    errors = [line for line in err.splitlines() if line.startswith(f"netspec infer: image {path} ")]
    assert status == 2 and 1 <= kept < 4 and errors and f"frame {kept + 1} " in errors[0], err
    for n in range(1, kept + 1):
        expected = [[0, 1, 2], [1, 2, 0], [2, 0, 1]][n - 1]
        assert read(f"o/{Path(path).stem}_000{n}_labels.png")[3, [2, 6, 10]].tolist() == expected


@pytest.mark.parametrize("kind", ["png", "gif", "tif", "webp", "avif", "jpg", "bmp", "jp2"])
def test_damage_anywhere_is_an_error_or_a_picture(place, kind):
    rng, path = np.random.default_rng(0), Path(f"whole.{kind}")
    if f".{kind}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow writes no {kind}")
    thirds(24, 16).save(path)
    whole = path.read_bytes()
    for _ in range(60):
        damaged = np.frombuffer(whole[: rng.integers(len(whole))] if rng.random() < 0.3 else whole, np.uint8).copy()
        if damaged.size:
            damaged[rng.integers(min(damaged.size, rng.choice([40, 10000])))] = rng.integers(256)
        Path(f"damaged.{kind}").write_bytes(damaged.tobytes())
        with suppress(Error):
            for frame in frames.frames(f"damaged.{kind}"):
                if frame.size[0] * frame.size[1] < 10**6:
                    assert frame.read().mode == "RGB"


def test_a_name_of_a_frame_that_is_taken(place, capsys):
    animation("move.gif")
    thirds().save("move_0002.png")
    status, out, err = infer(capsys, "move_0002.png", "move.gif")
    assert status == 2 and len(out.splitlines()) == 3
    assert "o/move_0002_labels.png (of move.gif) would be written over the result of move_0002.png" in err
    assert "1 of 4 images gave no results: move.gif frame 2" in err


def test_a_preview_is_no_page(place, capsys):
    small = thirds(6, 3)
    tags = {254: 1}
    pages = io.BytesIO()
    from PIL import TiffImagePlugin
    with TiffImagePlugin.AppendingTiffWriter(pages) as writer:
        for image, info in ((thirds(), {}), (small, tags)):
            image.save(writer, format="TIFF", tiffinfo=info)
            writer.newFrame()
    Path("camera.tif").write_bytes(pages.getvalue())
    assert Image.open("camera.tif").n_frames == 2
    thirds().save("phone.jpg", format="MPO", save_all=True, append_images=[small])
    assert infer(capsys, "camera.tif", "phone.jpg")[0] == 0
    assert written() == [f"{stem}_{kind}.png" for stem in ("camera", "phone") for kind in ("labels", "overlay")]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows=b"", extra=b""):
    """A PNG of a kind that Pillow does not write."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 16])
def test_other_depths(place, depth):
    most = 2**depth - 1
    values = [0, most, most // 2, most]
    bits = "".join(f"{v:0{depth}b}" for v in values).ljust(8 * (-(-4 * depth // 8)), "0")
    Path("grey.png").write_bytes(png(4, 1, depth, 0, b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")))
    expected = [255 * v // most for v in values]
    assert np.array(frames.picture("grey.png"))[0, :, 1].tolist() == expected
    if depth == 16:
        raw = b"\0" + b"".join(struct.pack(">HHH", 0x1234, 0xABCD, v) for v in values)
        Path("colour.png").write_bytes(png(4, 1, 16, 2, raw))
        assert np.array(frames.picture("colour.png"))[0].tolist() == [[0x12, 0xAB, v] for v in (0, 255, 127, 255)]


def test_transparency_is_dropped_without_a_warning(place, capsys, recwarn):
    palette = thirds().quantize(3)
    palette.save("clear.png", transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(np.array(frames.picture("clear.png")), read("photo.png"))
    status, _, err = infer(capsys, "clear.png")
    assert (status, err) == (0, "") and not [w for w in recwarn if "Palette" in str(w.message)]


def test_cmyk_and_lab(place):
    thirds().convert("CMYK").save("four.tif")
    np.testing.assert_array_equal(np.array(frames.picture("four.tif")), read("photo.png"))
    to = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(thirds(), to).save("lab.tif")
    assert abs(np.array(frames.picture("lab.tif")).astype(int) - read("photo.png")).max() < 32  # 8 bits of Lab


def linear():
    """A profile of sRGB's primaries and gamma 1, of sRGB's own bytes with other curves."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for tag in (b"rTRC", b"gTRC", b"bTRC"):
        at = profile.find(tag, 128)
        place, = struct.unpack(">I", profile[at + 4 : at + 8])
        profile[place : place + 16] = b"curv" + bytes(4) + struct.pack(">I", 0) + bytes(4)
        profile[at + 8 : at + 12] = struct.pack(">I", 12)
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be")).replace(b"sRGB built", b"mine built")


def test_colours_are_brought_to_srgb(place, capsys):
    grey = Image.new("RGB", (9, 9), (55, 55, 55))
    grey.save("linear.png", icc_profile=linear())
    found = np.array(frames.picture("linear.png"))
    assert abs(found.astype(int) - 127).max() < 4  # 0.216 of the light is sRGB's half
    grey.save("srgb.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert (np.array(frames.picture("srgb.png")) == 55).all()
    grey.convert("L").save("grey.png", icc_profile=linear())
    np.testing.assert_array_equal(np.array(frames.picture("grey.png")), found)
    grey.save("broken.png", icc_profile=b"no profile at all")
    status, out, err = infer(capsys, "broken.png")
    assert status == 0 and (read("o/broken_labels.png") == read("o/broken_labels.png")[0, 0]).all()
    assert err == "note: image broken.png: its colour profile is damaged or for other channels, and is left out\n"


def test_what_pillow_warns_of_is_a_note(place, capsys, recwarn):
    thirds().save("photo.jpg", quality=95)
    raw = Path("photo.jpg").read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05garbage"
    Path("odd.jpg").write_bytes(raw[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + raw[2:])
    status, _, err = infer(capsys, "odd.jpg")
    assert status == 0 and err.startswith("note: image odd.jpg: Corrupt EXIF data.") and err.count("\n") == 1
    assert not list(recwarn)


def test_a_blob_too_large_for_caffe_says_what_to_do(place, capsys, monkeypatch):
    Path("huge.png").write_bytes(png(30000, 30000, 8, 2) + bytes(1 << 17))
    monkeypatch.setattr(machine, "room", lambda device: 1e15)
    status, _, err = infer(capsys, "huge.png")
    assert status == 2 and "2147483647 numbers; make the image smaller, or cut it into parts, as infer does with --tile auto\n" in err


def test_turned_as_exif_says(place, capsys):
    exif = Image.Exif()
    exif[274] = 6
    thirds().transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    infer(capsys, "turned.png", "photo.png")
    np.testing.assert_array_equal(read("o/turned_labels.png"), read("o/photo_labels.png"))


def test_a_class_of_few_pixels_is_not_said_to_have_none(place, capsys):
    picture = Image.new("RGB", (60, 60), "blue")
    picture.paste("red", (24, 24, 27, 27))
    picture.save("spot.png")
    out = infer(capsys, "spot.png")[1]
    assert out == "spot.png: blue 100%, red <1% -> o/spot_labels.png, spot_overlay.png\n"


def test_a_picture_of_one_pixel(place, capsys):
    Image.new("RGB", (1, 1), "blue").save("dot.png")
    assert infer(capsys, "dot.png")[:2] == (0, "dot.png: blue 100% -> o/dot_labels.png, dot_overlay.png\n")


@pytest.mark.parametrize("size, words", [
    ((30000, 30000), "(30000x30000): net 'thirds' needs about 22.3 GB and cpu has 8.0 GB; make the image smaller, or cut it"),
    ((20000, 20000), "(20000x20000): net 'thirds' needs about 10.3 GB and cpu has 8.0 GB; "),
    ((17000, 17000), "huge.png cannot be read: image file is truncated")])
def test_a_picture_that_the_memory_has_not_room_for(place, capsys, monkeypatch, recwarn, size, words):
    Path("huge.png").write_bytes(png(*size, 8, 2) + bytes(1 << 17))
    monkeypatch.setattr(machine, "room", lambda device: 8e9)
    status, out, err = infer(capsys, "huge.png", "photo.png")
    *said, first, last = err.splitlines()
    assert status == 2 and words in first and out.startswith("photo.png") and "1 of 2 images" in last
    asked = "note: image huge.png (17000x17000): net 'thirds' needs about 7.6 GB for it, of the 8.0 GB that cpu has"
    assert said == [asked] * (size == (17000, 17000))
    assert Image.MAX_IMAGE_PIXELS and not list(recwarn)


PEAK = """
import resource, sys
import torch
from PIL import Image
from netspec.net.build import load
from netspec.net.judged import labels
from netspec.net.module import Net
from netspec.score import segment
segment.MUCH = 0
net, side = Net(load("voc-fcn8s/deploy")).eval(), int(sys.argv[1])
with torch.no_grad():
    [parameter.zero_() for parameter in net.parameters()]
segmenter = segment.Segmenter(net, "score", (104, 117, 123), scales=tuple(map(float, sys.argv[2:])))
needed = segmenter.fit((side, side))
labels(segmenter.scores("x", Image.effect_noise((side, side), 50).convert("RGB")), "x")
print(needed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.slow
@pytest.mark.parametrize("side, scales", [("512", ["1"]), ("1024", ["1"]), ("2048", ["1"]), ("1024", ["0.5", "1"])])
def test_what_a_net_is_said_to_need_is_what_it_takes(side, scales):
    done = subprocess.run([sys.executable, "-c", PEAK, side, *scales], capture_output=True, text=True, timeout=900)
    needed, taken = map(float, done.stdout.split())
    assert taken <= needed <= 1.5 * taken


def test_reading_one_alone_looks_at_its_size_too(place, monkeypatch):
    Path("huge.png").write_bytes(png(30000, 30000, 8, 2) + bytes(1 << 17))
    monkeypatch.setattr(machine, "room", lambda device: 8e9)
    with pytest.raises(Error, match=r"huge.png is 30000x30000: to read it takes 21.6 GB and cpu has 8.0 GB"):
        frames.picture("huge.png")
    assert room(torch.device("cpu")) > 1e8


# folders, patterns, standard input, video

def test_a_folder_in_the_order_of_its_numbers(place, capsys):
    Path("in/deeper").mkdir(parents=True)
    for n in (10, 9, 1):
        thirds().save(f"in/im{n}.png")
    Path("in/read.me").write_text("")
    Path("in/.hidden.png").write_text("")
    status, out, err = infer(capsys, "in")
    assert status == 0 and [line.split(":")[0] for line in out.splitlines()] == ["in/im1.png", "in/im9.png", "in/im10.png"]
    assert err == "note: in has 1 file that by name are no images: read.me\n"
    status, out, err = infer(capsys, "in/deeper", "photo.png")
    assert status == 2 and "folder in/deeper has no images" in err and out.startswith("photo.png")
    status, out, err = infer(capsys, "in", out="./in")
    assert status == 2 and not out and "give another --out" in err


def test_patterns(place, capsys):
    for n in (1, 10, 2):
        thirds().save(f"im{n}.png")
    thirds().save("im[3].png")
    status, out, _ = infer(capsys, "im?.png", "im[3].png")
    assert status == 0 and [line.split(":")[0] for line in out.splitlines()] == ["im1.png", "im2.png", "im[3].png"]
    status, _, err = infer(capsys, "none*.png")
    assert status == 2 and err == "netspec infer: no file has a name like 'none*.png'\n"


def test_standard_input(place, capsys, monkeypatch):
    command = ["-m", "netspec", "infer", "net.prototxt", "net.caffemodel", "-", "--out", "o", "--device", "cpu"]
    with open("photo.png") as photo, open("said", "w") as said:
        program = programs.Program(*command, cwd=".", files=[photo.fileno(), said.fileno(), said.fileno()])
        program.wait(120)
    assert program.returncode == 0 and Path("said").read_text().startswith("standard input: red 33%")
    assert written() == ["stdin_labels.png", "stdin_overlay.png"]
    for data, said in ((b"words", "no image"), (b"", "empty")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        status, out, err = infer(capsys, "-")
        assert (status, out) == (2, "") and err.startswith(f"netspec infer: standard input is {said}")
        assert err.count("\n") == 1


def test_video_without_its_library(place, capsys, monkeypatch):
    Path("clip.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    status, out, err = infer(capsys, "clip.mp4", "photo.png")
    assert status == 2 and out.startswith("photo.png")
    assert "reading video (clip.mp4) needs imageio-ffmpeg: pip install imageio-ffmpeg" in err


def test_video_frame_by_frame(place, capsys):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    writer = ffmpeg.write_frames("clip.mp4", (96, 64), fps=5, quality=9, macro_block_size=16)
    writer.send(None)
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        writer.send(thirds(96, 64, order).tobytes())
    writer.close()
    status, out, err = infer(capsys, "clip.mp4")
    assert (status, err) == (0, "") and [line.split(":")[0] for line in out.splitlines()] == [
        f"clip.mp4 frame {n}" for n in (1, 2, 3)]
    assert [read(f"o/clip_000{n}_labels.png")[30, [16, 48, 80]].tolist() for n in (1, 2, 3)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    Path("broken.mp4").write_bytes(b"no video")
    status, out, err = infer(capsys, "broken.mp4", "photo.png")
    assert status == 2 and "video broken.mp4 cannot be read" in err and len(err.splitlines()) == 2
    status, out, err = infer(capsys, "gone.mp4")
    assert status == 2 and err == "netspec infer: video gone.mp4 is not there\n"


def test_a_run_goes_past_each_bad_one(place, capsys):
    Path("note.jpg").write_text("not an image")
    Image.new("F", (4, 4)).save("fractions.tif")
    whole = animation("cut.gif").encode() and Path("cut.gif").read_bytes()
    Path("cut.gif").write_bytes(whole[: len(whole) // 3])
    Path("loop.png").symlink_to("loop.png")
    thirds().save(f"{'n' * 245}.png")  # whose results would have longer names than there may be
    Path("o/full_overlay.png").mkdir(parents=True)
    thirds().save("full.png")
    status, out, err = infer(capsys, f"{'n' * 300}.png", "note.jpg", "fractions.tif", "gone*", "cut.gif", "in", "loop.png",
                             f"{'n' * 245}.png", "full.png", "photo.png")
    assert status == 2 and out.splitlines()[-1].startswith("photo.png") and "Traceback" not in err
    for words in ("note.jpg is no image", "fractions.tif has pixels of kind F", "'gone*'", "in is not there", "image loop.png cannot be read",
                  f"{'n' * 300}.png: File name too long", f"{'n' * 245}_labels.png: File name too long", "full_overlay.png: Is a directory"):
        assert words in err


@pytest.mark.parametrize("options", [(), ("--flip",)])
def test_scores_that_are_no_numbers_are_no_class(place, capsys, options):
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 1, 1, 1] = np.nan
    write_weights("net.caffemodel", "thirds", {"score": ("Convolution", [kernel, np.zeros(3, np.float32)])})
    status, out, err = infer(capsys, "photo.png", *options)
    assert (status, out) == (2, "") and err.startswith("netspec infer: image photo.png: the scores are no numbers (NaN) in ")
    assert not list(Path().glob("o/*"))
    with pytest.raises(Error, match="image photo.png: the scores are no numbers"):
        netspec.load("net.prototxt", "net.caffemodel", device="cpu").segment("photo.png")


def test_a_pipe_is_read_without_a_remark(place, capsys):
    os.mkfifo("pipe.png")
    writer = threading.Thread(target=lambda: Path("pipe.png").write_bytes(Path("photo.png").read_bytes()))
    writer.start()
    status, out, err = infer(capsys, "pipe.png")
    writer.join()
    assert (status, err) == (0, "") and out.startswith("pipe.png: red 33%")


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_net_of_one_map_tells_two_classes_apart(place, capsys, sigmoid):
    """Its one channel is no class that is the best everywhere."""
    one = NET.replace("num_output: 3", "num_output: 1").replace("'classes': ['red', 'green', 'blue']", "'classes': ['sky', 'cloud']")
    Path("net.prototxt").write_text(one + 'layer { name: "odds" type: "Sigmoid" bottom: "score" top: "odds" }' * sigmoid)
    kernel = np.zeros((1, 3, 3, 3), np.float32)
    kernel[0, 2, 1, 1] = 0.1  # of red, in BGR
    write_weights("net.caffemodel", "thirds", {"score": ("Convolution", [kernel, np.float32([-10])])})
    status, out, err = infer(capsys, "photo.png", "--score-blob", "odds" if sigmoid else "score", "--scores")
    assert (status, err) == (0, "") and out.startswith("photo.png: sky 67%, cloud 33%")
    np.testing.assert_array_equal(read("o/photo_labels.png"), np.repeat([[1, 0, 0]], 4, 1).repeat(6, 0))
    assert netspec.load("net.prototxt", "net.caffemodel").segment("photo.png").tolist() == read("o/photo_labels.png").tolist()
    assert np.load("o/photo_scores.npy").shape == (2, 6, 12)


def test_an_overlay_of_no_shown_class_has_no_legend():
    image, labels = thirds(300, 30), np.zeros((30, 300), np.uint8)
    palette = [[9, 9, 9], [8, 8, 8]]
    assert pictures.overlay(image, labels, palette, ["a", "b"], shown=[1]).size == (300, 30)
    np.testing.assert_array_equal(np.array(pictures.overlay(image, labels, palette, ["a", "b"], shown=[1])), np.array(image))


def test_a_folder_that_cannot_be_written_is_said_at_once(place, capsys, monkeypatch):
    thirds().save("other.png")
    Path("loop").symlink_to("loop")
    for out in ("photo.png", "net.prototxt/deeper", "loop"):
        status, told, err = infer(capsys, "photo.png", "other.png", out=out)
        assert (status, told) == (2, "")
        assert err == f"netspec infer: the folder '{out}' cannot be made: a file stands in its place\n"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    status, told, err = infer(capsys, "photo.png", "other.png", out="new/deeper")
    assert (status, told) == (2, "") and err.startswith("netspec infer: the folder 'new/deeper' cannot be written: ")
    assert err.count("\n") == 1 and not Path("new").exists()
    monkeypatch.undo()


def test_an_empty_name(place, capsys):
    assert infer(capsys, "")[0] == 2


def test_names_with_commas_and_numbers_of_classes():
    looks = predict.Looks(["sky, cloudy", "road"], np.zeros((2, 3), np.uint8))
    assert results.classes_of("sky, cloudy", looks, "--classes") == (0,)
    assert results.classes_of("road,0,1", looks, "--classes") == (1, 0)


def test_a_net_of_two_images_is_looked_at_whole():
    n = NetSpec()
    n.color, n.depth = L.Input(ntop=2, shape=[dict(dim=[1, 3, 9, 7])] * 2)
    n.score = L.Eltwise(n.color, n.depth)
    net = Net(build(n.to_proto()))
    color, depth = torch.rand(2, 1, 3, 9, 7)
    found = Averaged(net, "score", (1.0,), True)({"color": color, "depth": depth}, ["score"])["score"]
    torch.testing.assert_close(found.softmax(1), (color + depth).softmax(1))


def test_a_net_without_a_last_crop_keeps_its_own_size(place, capsys):
    Path("net.prototxt").write_text(NET.replace("pad: 1", "pad: 3"))
    assert infer(capsys, "photo.png", "--scales", "0.5,1,1.5", "--flip", "--scores", "--cutout", "red")[0] == 0
    assert np.load("o/photo_scores.npy").shape == (3, 10, 16)
    assert Image.open("o/photo_labels.png").size == Image.open("o/photo_cutout.png").size == (16, 10)


def test_memory_that_runs_out_is_one_sentence(place, capsys, monkeypatch):
    for error in (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryError(),
                  torch.OutOfMemoryError("CUDA out of memory")):
        def fail(net, inputs, want, error=error):
            raise error
        monkeypatch.setattr(Plan, "__call__", fail)
        status, out, err = infer(capsys, "photo.png")
        assert status == 2 and not out and "image photo.png (12x6): cpu has not enough memory left for it; make" in err
    monkeypatch.setattr(Plan, "__call__", lambda net, inputs, want: fail(net, inputs, want, RuntimeError("a mistake")))
    with pytest.raises(RuntimeError, match="a mistake"):
        infer(capsys, "photo.png")
