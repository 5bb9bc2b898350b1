"""Tiles give what the whole image gives: scores of all FCNs, windows of TIFFs, and the files that infer writes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from netspec.base import machine
from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.net import rewrite, weights
from netspec.net.deploy import deploy, scored
from netspec.net.graph import Value
from netspec.net.module import Net
from netspec.net.plan import Plan
from netspec.proto.model import write_weights
from netspec.proto.text import read_net
from netspec.score import predict, tiles, windows
from netspec.score.frames import Frame, frames, rgb

PROJECT = Path(__file__).resolve().parents[2]


def forms():
    """A net of each form that FCNs of models/ have: those of one form differ in their classes and names alone.

    SegNet un-pools and R-FCN finds boxes; what reads two images is nothing that infer takes.
    """
    found = {}
    for path in sorted(PROJECT.glob("models/*fcn*/deploy.prototxt")):
        name = path.parent.name
        if not {"segnet", "rfcn"} & {*name.split("-")} and not name.endswith(("color-d", "color-hha")):
            layers = re.findall(r"^  type: .*|(?:kernel|stride|pad|offset|pool)\w*: .*", path.read_text(encoding="utf-8"), re.MULTILINE)
            found.setdefault("\n".join(layers), name)  # as text: each process that runs tests reads them first
    return sorted(found.values())


NET = """name: "thirds"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } }
        python_param { param_str: "{'classes': ['red', 'green', 'blue'], 'mean': [0, 0, 0]}" } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
"""


def of(name, share=32):
    """One of models/ with a share of its channels and other numbers in its weights."""
    path = PROJECT / "models" / name / "deploy.prototxt"
    proto = read_net(path)
    for layer in proto.layer:
        p = layer.convolution_param
        if layer.type in ("Convolution", "Deconvolution") and p.num_output >= 64:
            p.num_output = max(4, p.num_output // share)
    blob = "score_sem" if name.startswith("siftflow") else scored(proto)
    pruned, top, channels, _ = predict.image_net(proto, blob, path)
    net = Net(predict.fitted(pruned, top, channels, (64, 64), path)).eval()
    rewrite.randomise(net, 0)
    weights.ready(net)
    return net, blob


def apart(net, blob, size, side, whole=None):
    """How far the joined scores are from the whole image's by the plan, or by `whole`, in parts of the largest."""
    (top,) = net.graph.inputs
    shape = 1, net.graph.shape(top)[1], *size[::-1]
    image = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(net.dtype) - 120
    plan = Plan(net)
    with torch.inference_mode():
        expected = (whole or plan)({top: image}, [blob])[blob]
    found = torch.full_like(expected, torch.nan)
    for a in range(0, size[1], side):
        for c in range(0, size[0], side):
            part = (a, min(a + side, size[1])), (c, min(c + side, size[0]))
            route = plan.part({top: shape}, blob, part)
            rows, columns = route.held[Value(top)]
            given = {top: image[:, :, slice(*rows), slice(*columns)]}
            found[:, :, slice(*part[0]), slice(*part[1])] = plan.along(route, given)[blob]
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", forms())
def test_joined_tiles_are_the_whole_images_scores_of_all_fcns(name):
    net, blob = of(name)
    assert apart(net, blob, (113, 71), 64) <= 1e-5
    net.double()
    assert apart(net, blob, (113, 71), 64, net) < 1e-12  # and layer by layer: no rounding hides a rim


@pytest.mark.parametrize("size, side", [((411, 97), 100), ((64, 301), 96), ((33, 33), 16), ((130, 129), 128)])
def test_of_any_size_in_tiles_of_any_size(size, side):
    assert apart(*of("shapes-fcn8s"), size, side) <= 1e-5


@pytest.mark.slow
def test_fcn8s_at_full_width_above_1500_pixels_a_side():
    assert apart(*of("voc-fcn8s", 1), (1601, 1537), 800) <= 1e-5


def test_the_middle_of_a_large_image_needs_a_margin_of_its_field_alone():
    net, blob = of("voc-fcn8s")
    route = Plan(net).part({"data": (1, 3, 20000, 20000)}, blob, ((4096, 4608), (8192, 8704)))
    assert all(400 <= hi - lo - 512 <= 500 for lo, hi in route.held[Value("data")]) and route.most < 15e6


@pytest.mark.parametrize("name", forms())
def test_a_part_of_maps_that_no_blob_could_hold(name):
    net, blob = of(name)
    (top,) = net.graph.inputs
    shape = 1, net.graph.shape(top)[1], 60000, 60000  # 3.6e9 numbers a channel
    held = Plan(net).part({top: shape}, blob, ((30000, 30064), (40000, 40064))).held[Value(top)]
    assert all(64 <= hi - lo < 2000 for lo, hi in held)


def test_a_layer_that_needs_the_whole_map_is_named(tmp_path):
    text = NET + 'layer { name: "all" type: "Pooling" bottom: "score" top: "all" pooling_param { global_pooling: true ' \
        'pool: AVE } }\nlayer { name: "up" type: "Deconvolution" bottom: "all" top: "up" convolution_param { ' \
        'num_output: 3 kernel_size: 8 } }'
    (path := tmp_path / "all.prototxt").write_text(text)
    with pytest.raises(Error, match="layer 'all' .Pooling. of net 'thirds' needs all of 'score', so 'up' cannot"):
        Plan(Net(deploy(path)).eval()).part({"data": (1, 3, 8, 8)}, "up", ((0, 4), (0, 4)))


# windows of TIFFs

SMALL = np.random.default_rng(1).integers(0, 256, (150, 211, 3), np.uint8)
TIFFS = [{"compression": kind, "mode": mode} for kind in ("tiff_lzw", "jpeg", "packbits", None, "tiff_adobe_deflate")
         for mode in ("RGB", "L", "P", "CMYK", "RGBA", "1") if (kind, mode) not in (("jpeg", "P"), ("jpeg", "1"))]
TILED = [{"tile": (32, 48)}, {"tile": (16, 16), "compression": "zlib", "predictor": True}, {"tile": (32, 32), "bigtiff": True},
         {"rowsperstrip": 7, "compression": "zlib"}, {"tile": (32, 32), "byteorder": ">"}, {"tile": (32, 32), "grey": np.uint8},
         {"tile": (32, 32), "grey": np.uint16}, {"rowsperstrip": 10, "byteorder": ">", "grey": np.uint16},
         {"tile": (32, 32), "planarconfig": "separate"}, {"rowsperstrip": 9, "planarconfig": "separate"}]


def same_windows(path):
    whole = np.array(rgb(Image.open(path), "whole"))
    (frame,) = frames(str(path))
    found, rng = frame.windows(), np.random.default_rng(2)
    assert found.size == whole.shape[1::-1]
    for _ in range(8):
        (a, b), (c, d) = (sorted(rng.choice(n + 1, 2, False).tolist()) for n in whole.shape[:2])
        np.testing.assert_array_equal(np.array(found.window(((a, b), (c, d)))), whole[a:b, c:d])


@pytest.mark.parametrize("how", TIFFS, ids=str)
def test_windows_of_strips_are_parts_of_the_whole(tmp_path, how):
    Image.fromarray(SMALL).convert(how["mode"]).save(tmp_path / "a.tif", compression=how["compression"], tiffinfo={278: 16})
    same_windows(tmp_path / "a.tif")


@pytest.mark.parametrize("how", TILED, ids=str)
def test_windows_of_tiles_are_parts_of_the_whole(tmp_path, how):
    tifffile, how, pixels = pytest.importorskip("tifffile"), dict(how), SMALL
    if kind := how.pop("grey", None):
        pixels = SMALL[..., 0].astype(kind) * (257 if kind == np.uint16 else 1)
    elif how.get("planarconfig"):
        pixels = np.moveaxis(SMALL, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack", **how)
    same_windows(tmp_path / "a.tif")


# what infer writes

@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    kernel = np.random.default_rng(3).normal(0, 1, (3, 3, 3, 3)).astype(np.float32)
    write_weights("net.caffemodel", "thirds", {"score": ("Convolution", [kernel, np.zeros(3, np.float32)])})
    smooth = np.random.default_rng(4).integers(0, 256, (8, 10, 3), np.uint8)
    Image.fromarray(smooth).resize((417, 331)).save("a.tif", tiffinfo={278: 32}, compression="tiff_lzw")
    return tmp_path


def infer(capsys, *argv, out="o"):
    status = cli.main(["infer", "net.prototxt", "net.caffemodel", *argv, "--out", out, "--device", "cpu"])
    return status, *capsys.readouterr()


def same(name, one="o", other="p"):
    first, second = (Image.open(Path(folder, name)) for folder in (one, other))
    assert (first.mode, first.getpalette()) == (second.mode, second.getpalette())
    np.testing.assert_array_equal(np.array(first), np.array(second))


@pytest.mark.parametrize("file", ["a.tif", "a.png", "narrow.png"])
def test_infer_in_tiles_writes_the_pixels_that_it_writes_of_the_whole(place, capsys, monkeypatch, file):
    monkeypatch.setattr(tiles, "ROWS", 50)
    whole = Image.open("a.tif")
    (whole.resize((250, 90)) if file == "narrow.png" else whole).save("a.png" if file == "a.png" else file)
    options = [file, "--scores", "--cutout", "green", "--json"]
    _, first, _ = infer(capsys, *options)
    status, told, err = infer(capsys, *options, "--tile", "128", out="p")
    told, first = (re.sub(r',\n *"seconds": [\d.e-]+', "", text) for text in (told, first))
    assert (status, err) == (0, "") and told == first.replace('"o/', '"p/')
    stem = Path(file).stem
    for end in ("labels", "overlay", "cutout"):
        same(f"{stem}_{end}.png")
    np.testing.assert_allclose(np.load(f"p/{stem}_scores.npy"), np.load(f"o/{stem}_scores.npy"), rtol=1e-5, atol=1e-3)


def test_classes_that_are_shown_in_tiles(place, capsys):
    infer(capsys, "a.tif", "--classes", "red,blue")
    infer(capsys, "a.tif", "--classes", "red,blue", "--tile", "100", out="p")
    same("a_overlay.png")


def test_auto_takes_tiles_where_there_is_no_room_and_says_where_none_is(place, capsys, monkeypatch):
    cut = []
    monkeypatch.setattr(windows.TiffWindows, "window", lambda self, rect, old=windows.TiffWindows.window: (
        cut.append(rect), old(self, rect))[1])
    monkeypatch.setattr(tiles, "SIDES", (128, 64))
    infer(capsys, "a.tif")
    infer(capsys, "a.tif", "--tile", "auto", out="q")
    assert not cut
    monkeypatch.setattr(machine, "SMALL", 0)
    for module in (machine, tiles):
        monkeypatch.setattr(module, "room", lambda device: 3e6)
    assert infer(capsys, "a.tif", "--tile", "auto", out="p")[0] == 0 and len(cut) >= 4
    same("a_labels.png")
    assert "cut it into parts, as infer does with --tile auto" in infer(capsys, "a.tif", out="r")[2]
    for module in (machine, tiles):
        monkeypatch.setattr(module, "room", lambda device: 1e5)
    status, out, err = infer(capsys, "a.tif", "--tile", "auto", out="r")
    assert status == 2 and "image a.tif (417x331): the least tile needs about" in err and not Path("r").exists()


def test_a_file_that_is_damaged_on_the_way_gives_no_results(place, capsys):
    whole = bytearray(Path("a.tif").read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 5000] = b"\xff" * 5000
    Path("b.tif").write_bytes(whole)
    status, out, err = infer(capsys, "b.tif", "--tile", "100")
    assert status == 2 and "b.tif cannot be read" in err and not list(Path("o").glob("*"))


@pytest.mark.parametrize("options, words", [
    (["--flip"], "--tile goes without --scales"), (["--scales", "0.5"], "--tile goes without"),
    (["--dense"], "--tile")])
def test_what_tiles_go_without(place, capsys, options, words):
    status, _, err = infer(capsys, "a.tif", "--tile", "auto", *options)
    assert status == 2 and words in err and not Path("o").exists()


def test_sides_that_are_none(place, capsys):
    with pytest.raises(SystemExit):
        infer(capsys, "a.tif", "--tile", "7")
    assert "expected auto or pixels from 16 on, found '7'" in capsys.readouterr()[1]


def test_auto_takes_tiles_where_a_blob_would_be_larger_than_any_may_be(place, monkeypatch):
    monkeypatch.setattr(machine, "room", lambda device: 1e15)
    tiler = tiles.Tiler(Net(deploy("net.prototxt")).eval(), "score", (0, 0, 0))
    assert not tiler._fits(frames_of((30000, 30000))) and tiler._fits(frames_of((300, 300)))


def frames_of(size):
    return Frame("large", "large", size, lambda: None)
