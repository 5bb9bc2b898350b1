"""The demo on scenes with clouds: its tables and picture, the best that brightness does, and the whole way in few steps."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.base.machine import PROJECT
from netspec.cli.main import main
from netspec.data.images import read_label
from netspec.net.build import load
from netspec.papers import clouds
from netspec.papers.demo import Trained
from netspec.papers.record import Settings
from netspec.proto.caffe_pb2 import TEST
from netspec.proto.model import write_weights
from netspec.score.scenes import judged, mean
from netspec.score.scenescore import SceneScoring
from netspec.score.scenesheet import MISTAKES, sheet

NET = """name: "clouds-tiny"
layer { name: "data" type: "Python" top: "data" python_param { module: "netspec.datasets" layer: "SegmentationData"
  param_str: "{'dataset': 'clouds', 'root': 'data/clouds/images', 'split': 'test', 'batch_size': 2}" } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 2 kernel_size: 1 } }"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two small test scenes, one of four patches."""
    root = tmp_path_factory.mktemp("clouds") / "data/clouds/images"
    spec = importlib.util.spec_from_file_location("clouds_prepare", PROJECT / "data/clouds/prepare.py")
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    assert prepare.main(["--root", str(root), "--training", "3", "--test", "2", "--size", "370x370"]) == 0
    return root


@pytest.fixture
def place(images, tmp_path, monkeypatch):
    """The current folder, with the scenes where they are sought."""
    monkeypatch.chdir(tmp_path)
    Path("data/clouds").mkdir(parents=True)
    Path("data/clouds/images").symlink_to(images)
    return tmp_path


def stage():
    """A net that finds what is brighter in near infrared than in red, within reason, cloud."""
    Path("test.prototxt").write_text(NET)
    kernel = np.zeros((2, 4, 1, 1), np.float32)
    kernel[1, :, 0, 0] = 0.06, 0.06, -0.1, 0.02
    write_weights("w.caffemodel", "clouds", {"score": ("Convolution", [kernel, np.array([0, -1.5], np.float32)])})
    return Trained("clouds-tiny", load(Path("test.prototxt"), TEST), Path("w.caffemodel"))


def test_brightness_is_held_to_the_best_band_and_threshold(place):
    scoring = SceneScoring(stage().made)
    best = clouds.brightest(scoring)
    bands = ("blue", "green", "red", "nir")
    seen = {scene.name: scoring.pixels(scene) / 255 for scene in scoring.scenes}
    assert best["band"] in (*bands, "the mean of all bands", "every band")

    def jaccard(band, threshold):
        bright = {"the mean of all bands": lambda x: x.mean(2), "every band": lambda x: x.min(2)}.get(
            band, lambda x: x[..., bands.index(band)])
        return mean(judged(scene.read(), bright(seen[scene.name]) > threshold)[1] for scene in scoring.scenes).jaccard

    assert best['jaccard'] == pytest.approx(jaccard(best["band"], best["threshold"]), abs=1e-4)
    assert 0.3 < best['jaccard'] < 0.9
    for band in (*bands, "every band", "the mean of all bands"):
        assert best['jaccard'] >= max(jaccard(band, k / 255) for k in (40, 60, 80)) - 1e-4


def test_the_tables_have_the_records_numbers_and_the_picture_the_scenes(place):
    trained, out = stage(), Path("demo")
    found = clouds.scored(trained, out, Settings("cpu", quiet=True))
    beside = clouds.scored(trained, out, Settings("cpu", quiet=True), 64)
    assert found["margin"] == 0 and beside["margin"] == 64 and (out / "clouds-tiny.json").is_file()
    before = (out / "clouds-tiny.json").read_bytes()
    assert clouds.scored(trained, out, Settings("cpu", quiet=True)) == found and (out / "clouds-tiny.json").read_bytes() == before
    best = clouds.brightest(SceneScoring(trained.made))
    run = clouds.run_of(1, found, beside)
    rows = clouds.measures([run], best).splitlines()
    first, second = (100 * told["mean"]["jaccard"] for told in found["thresholds"])
    assert re.search(rf"^clouds-tiny +{first:.1f} / +{second:.1f} ", rows[2]) and f"{100 * best['jaccard']:.1f}" in rows[3]
    told = clouds.thresholds([run, run])
    top = max(point["jaccard"] for point in found["curve"])
    assert f"{100 * top:.1f} ({100 * top:.1f} to {100 * top:.1f})" in told and f"{second:.1f}" in told
    near = found["seams"]["near"][1]["mean"]["jaccard"]
    lines = clouds.borders([run]).splitlines()
    assert f"{second:.1f}" in lines[2] and lines[3].startswith("clouds-tiny, with neighbours")
    assert (f"{100 * near:.1f}" if near is not None else "-") in lines[2]
    page = sheet(SceneScoring(trained.made), {"tiny": out / "clouds-tiny"})
    wide = 4 * 400  # scene, truth, mask, mistakes
    assert 0.9 * wide < page.width < 1.1 * wide and page.height > 2 * 300
    assert {MISTAKES[i].tobytes() for i in range(4)} <= {bytes(colour) for _, colour in page.getcolors(1 << 24)}


@pytest.mark.parametrize(("options", "said"), [
    (["--clouds", "shapes-fcn32s"], "--clouds has its own solvers; leave 'shapes-fcn32s' out"),
    (["--sigmoid"], "--sigmoid goes with --clouds"),
    (["--clouds", "--detection"], "--detection has its own solvers; leave '--clouds' out")])
def test_the_demo_takes_no_other_solver(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *options]) == 2 and said in capsys.readouterr().err


@pytest.mark.slow
def test_from_patches_to_scored_scenes_in_few_steps(place, capsys):
    """Prepare, train 32s, 16s and 8s, predict, put together, score, show; a second run trains nothing."""
    for folder in ("models", "solvers"):
        for path in (PROJECT / folder).glob("clouds-fcn*"):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, Path(folder, path.name) if path.is_dir() else (Path(folder).mkdir(exist_ok=True) or folder))
    for path in Path("solvers").iterdir():
        text = re.sub(r"(max_iter|snapshot|test_interval): \d+", r"\1: 2", path.read_text())
        path.write_text(re.sub(r"iter_\d+\.", "iter_2.", text))
    assert main(["demo", "--clouds", "--quiet", "--device", "cpu", "--seed", "1", "2"]) == 0
    out = capsys.readouterr().out
    for stride in (32, 16, 8):
        rows = re.findall(rf"^clouds-fcn{stride}s .*$", out, re.MULTILINE)
        assert len(rows) == 4  # a table a seed, thresholds, borders
        found = json.loads(Path(f"demo/seed2/clouds-fcn{stride}s.json").read_text())
        assert f"{100 * found['thresholds'][0]['mean']['jaccard']:.1f} / " in rows[1]
        masks = [read_label(path) for path in Path(f"demo/seed1/clouds-fcn{stride}s").iterdir()]
        assert len(masks) == 2 and all(set(np.unique(mask)) <= {0, 1} for mask in masks)
    assert "2 scenes, protocol 38cloud, random_seed 2" in out and "mean (least to most)" in out
    assert Image.open("demo/clouds.png").width > 1000
    assert main(["demo", "--clouds", "--quiet", "--device", "cpu", "--seed", "1"]) == 0
    assert capsys.readouterr().out.count("kept from an earlier run") == 3
