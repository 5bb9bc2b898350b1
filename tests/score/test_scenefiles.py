"""`netspec infer` on whole scenes: the protocol's mask, lying where the scene lies; and bad input."""

import json
import re
import shutil
import struct

import numpy as np
import pytest
from clouds import scene, tiff
from PIL import Image

from netspec.cli.main import main
from netspec.proto.model import write_weights

tifffile = pytest.importorskip("tifffile")

A = "LC08_L1TP_003052_20160120_20170405_01_T1"
SIZE = 500, 600
BANDS = {"red": 4, "green": 3, "blue": 2, "nir": 5}
PLACED = [(33550, 12, 3, (30.0, 30.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 500000.0, 4500000.0, 0.0), True),
          (34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631), True),
          (34737, 2, 0, "WGS 84 / UTM zone 31N|", True)]
NET = """name: "clouds"
layer {{ name: "data" {layer} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param {{ num_output: {classes} kernel_size: 3 pad: 1 }} }}"""
INPUT = """type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: {channels} dim: 192 dim: 192 }} }}
  python_param {{ param_str: "{{'dataset': '38cloud', 'mean': {mean}}}" }}"""
DATA = """type: "Python" top: "data" python_param {{ module: "netspec.datasets" layer: "SegmentationData"
  param_str: "{{'dataset': '38cloud', 'root': '{root}', 'split': 'test', 'mean': {mean}}}" }}"""
MEAN = [40.0, 50.0, 60.0, 70.0]


@pytest.fixture
def place(tmp_path):
    """A scene's patches below root, its bands as files of their own and as one, and a net with weights."""
    bands, _ = scene(tmp_path / "root", A, SIZE)
    for i, number in enumerate(BANDS.values()):
        tifffile.imwrite(tmp_path / f"{A}_B{number}.TIF", bands[..., i], metadata=None, extratags=PLACED)
    tifffile.imwrite(tmp_path / "whole.tif", bands, photometric="minisblack", planarconfig="contig", metadata=None,
                     extratags=PLACED, compression="zlib")
    for name, classes in (("net", 2), ("one", 1)):
        (tmp_path / f"{name}.prototxt").write_text(NET.format(layer=INPUT.format(channels=4, mean=MEAN), classes=classes))
        rng = np.random.default_rng(1)
        kernel, bias = rng.normal(0, 0.006, (classes, 4, 3, 3)).astype(np.float32), np.full(classes, -0.5, np.float32)
        write_weights(tmp_path / f"{name}.caffemodel", "clouds", {"score": ("Convolution", [kernel, bias])})
    (tmp_path / "test.prototxt").write_text(NET.format(layer=DATA.format(root=tmp_path / "root", mean=MEAN), classes=2))
    return tmp_path


def files(place):
    return [str(place / f"{A}_B{number}.TIF") for number in BANDS.values()]


def infer(capsys, place, *args, net="net"):
    status = main(["infer", str(place / f"{net}.prototxt"), str(place / f"{net}.caffemodel"), *args, "--out", str(place / "seen"),
                   "--device", "cpu"])
    return (status, *capsys.readouterr())


@pytest.mark.parametrize("protocol", ["38cloud", "38cloud-released"])
def test_the_mask_is_the_one_that_score_holds_against_the_truth(place, capsys, protocol):
    status, out, err = infer(capsys, place, *files(place), "--protocol", protocol, "--scores", "--json")
    assert (status, err) == (0, ""), err
    told = json.loads(out)
    assert told["threshold"] == 12 / 255 and told["images"][0]["size"] == [600, 500]
    assert main(["score", str(place / "test.prototxt"), str(place / "net.caffemodel"), "--protocol", protocol, "--save",
                 str(place / "masks"), "--quiet", "--device", "cpu"]) == 0
    want = np.asarray(Image.open(place / f"masks/{A}.png"))
    mask = tifffile.imread(place / f"seen/{A}_cloud.tif")
    assert 0.05 < want.mean() < 0.95 and mask.dtype == np.uint8 and np.array_equal(mask, want)
    probable = tifffile.imread(place / f"seen/{A}_probability.tif")
    assert probable.dtype == np.float32 and np.array_equal(probable > 12 / 255, mask == 1)
    shares = {each["name"]: each["share"] for each in told["images"][0]["classes"]}
    assert shares == {"cloud": pytest.approx(mask.mean()), "clear": pytest.approx(1 - mask.mean())}


@pytest.mark.parametrize("given", ["bands", "whole"])
def test_results_lie_where_the_scene_lies(place, capsys, given):
    args = files(place) if given == "bands" else [str(place / "whole.tif"), "--bands", "red,green,blue,nir"]
    status, out, err = infer(capsys, place, *args, "--scores")
    name = A if given == "bands" else "whole"
    assert status == 0 and not err and f"-> {place / 'seen' / name}_cloud.tif, {name}_probability.tif" in out
    for result in ("cloud", "probability"):
        with tifffile.TiffFile(place / f"seen/{name}_{result}.tif") as file:
            tags = file.pages[0].tags
            assert {code: tags[code].value for code, *_ in PLACED} == {code: value for code, _, _, value, _ in PLACED}
            assert file.pages[0].shape == SIZE
            if result == "cloud":
                assert file.pages[0].colormap[:, 1].tolist() == [65535] * 3 and not file.pages[0].colormap[:, 0].any()
    if given == "whole":
        status, out, err = infer(capsys, place, *files(place))
        assert np.array_equal(tifffile.imread(place / f"seen/{A}_cloud.tif"), tifffile.imread(place / "seen/whole_cloud.tif"))


def test_a_file_that_names_its_bands_needs_no_option_and_others_are_asked_for(place, capsys):
    status, out, err = infer(capsys, place, str(place / "whole.tif"))
    assert (status, out) == (2, "") and "does not say which of its 4 bands is which; say it in their order: --bands red,green,blue,nir" in err
    bands = np.stack([tifffile.imread(path) for path in files(place)])
    said = "".join(f'<Item name="DESCRIPTION" sample="{i}" role="description">{band}</Item>' for i, band in enumerate(BANDS))
    tifffile.imwrite(place / "planes.tif", bands, photometric="minisblack", planarconfig="separate", metadata=None,
                     extratags=[*PLACED, (42112, 2, 0, f"<GDALMetadata>{said}</GDALMetadata>", True)])
    assert infer(capsys, place, str(place / "planes.tif"))[0] == 0
    assert infer(capsys, place, *files(place))[0] == 0
    assert np.array_equal(tifffile.imread(place / f"seen/{A}_cloud.tif"), tifffile.imread(place / "seen/planes_cloud.tif"))


def test_a_threshold_and_a_net_of_one_map(place, capsys):
    status, _, err = infer(capsys, place, *files(place), "--threshold", "0.5", "--scores", net="one")
    assert status == 0, err
    probable, mask = (tifffile.imread(place / f"seen/{A}_{what}.tif") for what in ("probability", "cloud"))
    assert np.array_equal(probable > 0.5, mask == 1) and 0 < mask.mean() < 1


def test_patches_beside_each_other_are_a_scene_of_one(place, capsys):
    """38-Cloud's own files go in too, by their names."""
    patch = f"patch_1_1_by_1_{A}"
    tiff(place / f"gt_{patch}.TIF", np.zeros((384, 384), np.uint8))
    bands = [str(place / f"root/38-Cloud_test/test_{band}/{band}_{patch}.TIF") for band in BANDS]
    status, out, err = infer(capsys, place, *bands, str(place / f"gt_{patch}.TIF"))
    assert status == 0 and "note: left out, being of other bands or no TIFFs: " in err and "does not say where it lies, so neither does its mask" in err
    assert tifffile.imread(place / f"seen/{patch}_cloud.tif").shape == (384, 384)


def broken(place, what):
    """The files to give."""
    red, green, blue, nir = files(place)
    if what == "missing":
        return [red, green, blue]
    if what == "eight":
        tiff(place / f"{A}_B5.TIF", np.zeros(SIZE, np.uint8))
    elif what == "size":
        tiff(place / f"{A}_B5.TIF", np.zeros((500, 601), np.uint16))
    elif what == "damaged":
        (place / f"{A}_B5.TIF").write_bytes((place / f"{A}_B5.TIF").read_bytes()[:9000])
    elif what == "none":
        (place / f"{A}_B5.TIF").write_text("no TIFF")
    elif what == "gone":
        (place / f"{A}_B5.TIF").unlink()
    elif what == "twice":
        shutil.copy(nir, place / f"{A}_SR_B5.TIF")
        return [*files(place), str(place / f"{A}_SR_B5.TIF")]
    elif what == "namesakes":
        shutil.copytree(place, place / "more")
        return [str(place / "whole.tif"), str(place / "more/whole.tif")]
    elif what == "both":
        shutil.copy(place / "whole.tif", place / f"{A}.tif")
        return [*files(place), str(place / f"{A}.tif")]
    elif what == "three":
        tifffile.imwrite(place / "three.tif", np.zeros((400, 400, 3), np.uint16))
        return [str(place / "three.tif")]
    elif what == "picture":
        Image.new("RGB", (30, 20)).save(place / "holiday.png")
        return [str(place / "holiday.png")]
    return [red, green, blue, nir]


@pytest.mark.parametrize(("what", "said"), [
    ("missing", f"scene {A} lacks the band nir (of Landsat 8, B5); it has red, green, blue"),
    ("eight", f"{A}_B5.TIF has pixels of uint8, expected 16 bits"),
    ("size", f"{A}_B5.TIF is 601x500 and "),
    ("damaged", f"{A}_B5.TIF cannot be read: "), ("none", f"{A}_B5.TIF cannot be read: "), ("gone", f"{A}_B5.TIF is not there"),
    ("twice", f"are the nir band of scene {A}; give one"),
    ("namesakes", "more/whole.tif are scene whole, and so would be their results; give one at a time"),
    ("both", f"scene {A} is "),
    ("three", "three.tif has 3 of the bands blue, green, red, nir; give one file that holds them all, or a file for each"),
    ("picture", "no scene is among ")])
def test_bad_input_is_one_sentence_and_nothing_is_written(place, capsys, what, said):
    status, out, err = infer(capsys, place, *broken(place, what))
    lines = [line for line in err.strip().splitlines() if not line.startswith("note: left out")]
    assert (status, out, len(lines)) == (2, "", 1) and said in lines[0], err
    assert not [*place.glob("seen/*")]


def with_kinds(path, kind, codes=()):
    """A TIFF's tags of these codes (all) get a data type."""
    data = bytearray(path.read_bytes())
    begin, = struct.unpack_from("<I", data, 4)
    for at in range(begin + 2, begin + 2 + 12 * struct.unpack_from("<H", data, begin)[0], 12):
        if struct.unpack_from("<H", data, at)[0] in codes or not codes:
            struct.pack_into("<H", data, at + 2, kind)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", [0, 53409])
def test_what_the_library_says_of_a_damaged_file_is_one_sentence(place, capsys, kind):
    with_kinds(place / "whole.tif", kind)
    status, _, err = infer(capsys, place, str(place / "whole.tif"))
    assert (status, err.count("\n")) == (2, 1) and "whole.tif" in err


def test_of_a_tag_that_nobody_reads_a_strange_kind_is_noted(place, capsys):
    with_kinds(place / "whole.tif", 99, [282])
    status, _, err = infer(capsys, place, str(place / "whole.tif"), "--bands", "red,green,blue,nir")
    assert (status, err.count("\n")) == (0, 1) and re.match("note: scene .*whole.tif: .*282.* invalid data type 99", err), err


@pytest.mark.parametrize(("options", "said"), [
    (["--bands", "red,green,blue,ni"], "--bands: 'ni' is no band; did you mean 'nir'?"),
    (["--bands", "red,red,blue,nir"], "--bands: red is named twice"),
    (["--bands", "red,green,blue,nir"], "--bands: says what is in a file of all bands, and none is given"),
    (["--protocol", "38clouds"], "--protocol: '38clouds' is not known; did you mean '38cloud'?"),
    (["--threshold", "1"], "--threshold 1: is from 0 to below 1"), (["--threshold", "cloud=0.5"], "--threshold: expected a number"),
    (["--cutout", "cloud"], "finds clouds in whole scenes, and has no such thing"),
    (["--mean", "1,2,3"], "reads 4 channels; its data set has 4 bands and the mean 3 numbers")])
def test_options_that_cannot_be_met(place, capsys, options, said):
    status, out, err = infer(capsys, place, *files(place), *options)
    assert (status, out) == (2, "") and said in err and len(err.strip().splitlines()) == 1


def test_a_result_never_comes_over_a_scene(place, capsys):
    shutil.copy(place / "whole.tif", place / "whole_cloud.tif")
    status = main(["infer", str(place / "net.prototxt"), str(place / "net.caffemodel"), str(place / "whole.tif"),
                   str(place / "whole_cloud.tif"), "--bands", "red,green,blue,nir", "--out", str(place)])
    assert status == 2 and "is read here, and would be written over" in capsys.readouterr().err


def test_other_bands_of_a_folder_are_told_and_one_bad_scene_does_not_stop_the_rest(place, capsys):
    shutil.copy(files(place)[0], place / f"{A}_B6.TIF")
    folder = place / "scenes"
    folder.mkdir()
    for path in [*files(place), place / f"{A}_B6.TIF"]:
        shutil.move(path, folder)
    shutil.copy(folder / f"{A}_B4.TIF", folder / "OTHER_B4.TIF")
    status, out, err = infer(capsys, place, str(folder))
    assert status == 2 and "note: left out, being of other bands or no TIFFs: " in err and "_B6.TIF" in err
    assert "scene OTHER lacks the band blue and green and nir" in err and "1 of 2 images gave no results" in err
    assert (place / f"seen/{A}_cloud.tif").is_file() and not [*place.glob("seen/OTHER*")]


def test_a_net_that_does_not_say_its_data_set_is_asked_for_it(place, capsys):
    text = (place / "net.prototxt").read_text()
    (place / "net.prototxt").write_text(text.replace("'dataset': '38cloud', ", ""))
    status, out, err = infer(capsys, place, *files(place))
    assert (status, out) == (2, "") and "does not say of which data set; give --dataset 38cloud or " in err
    assert infer(capsys, place, *files(place), "--dataset", "38cloud")[0] == 0


def test_without_the_library_the_sentence_names_it(place, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    status, out, err = infer(capsys, place, *files(place))
    assert (status, out) == (2, "") and "reading and writing scenes (GeoTIFF) needs tifffile: pip install tifffile" in err
