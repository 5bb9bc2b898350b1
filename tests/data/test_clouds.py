"""The generated scenes: same bytes every time, 38-Cloud's layout, and bright things that are no cloud."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.cli.main import main
from netspec.data.patches import Grid, place

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "clouds" / "prepare.py"
SMALL = ["--training", "2", "--test", "1", "--size", "370x370"]


@pytest.fixture(scope="module")
def prepare():
    spec = importlib.util.spec_from_file_location("clouds_prepare", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(prepare, tmp_path_factory):
    made = tmp_path_factory.mktemp("clouds") / "images"
    assert prepare.main(["--root", str(made), *SMALL]) == 0
    return made


def read(path):
    return np.asarray(Image.open(path))


def test_a_scene_is_the_one_that_was_measured(prepare):
    """All figures in the pages were measured on these pixels, which no machine makes otherwise."""
    found = hashlib.sha256()
    for turn, number in ((0, 1), (1, 2)):
        bands, truth = prepare.scene(np.random.default_rng([0, turn, number]), (150, 170))
        found.update(bands.astype("<u2").tobytes() + truth.tobytes())
    assert found.hexdigest() == "a15929dfb681c4dc9438ae06eb53bcc664915efbcc4b8405a5a9f60136cc10e9"


def test_the_files_are_38clouds_and_data_check_finds_no_fault(root, capsys):
    assert main(["data", "check", str(root), "--dataset", "38cloud", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "0 errors" in out and "384x384" in out
    for kind in ("non-empty", "lacks", "16 bits", "names"):
        assert kind not in out
    training = root / "38-Cloud_training"
    listed = (training / "training_patches_38-Cloud.csv").read_text().split()[1:]
    nonempty = (training / "training_patches_38-cloud_nonempty.csv").read_text().split()[1:]
    assert {path.stem.removeprefix("gt_") for path in (training / "train_gt").iterdir()} == set(listed) > set(nonempty)


def test_patches_put_together_are_the_scene_and_its_truth(prepare, root):
    test = root / "38-Cloud_test"
    (path,) = (test / "Entire_scene_gts").iterdir()
    truth = read(path)
    assert truth.shape[0] % 384 and truth.shape[1] % 384 and set(np.unique(truth)) == {0, 1}
    grid = Grid.of(truth.shape)
    for band, number in prepare.BANDS.items():
        patches = {place(path.name)[1:3]: read(path) for path in (test / f"test_{band}").iterdir()}
        assert len(patches) == grid.rows * grid.columns
        whole = grid.join(patches)
        assert whole.dtype == np.uint16 and np.array_equal(whole, read(root / f"scenes/made_test_00_B{number}.TIF"))
        dark = whole == 0
        assert 0.1 < dark.mean() < 0.5 and dark[0, 0] and not truth[dark].any()  # the valid area is tilted
        assert (dark[:, 0].sum() < len(dark)) and (dark[0].sum() < dark.shape[1])  # and touches the sides
    for masks in [root / "38-Cloud_training/train_gt"]:
        scene = {place(path.name)[1:3]: read(path) for path in masks.glob("*training_00.TIF")}
        whole = read(root / "38-Cloud_training/Entire_scene_gts/edited_corrected_gts_made_training_00.TIF")
        assert np.array_equal(Grid.of(whole.shape).join(scene), whole * 255)


def test_a_whole_scene_says_where_it_lies(root):
    tags = Image.open(root / "scenes/made_test_00_B4.TIF").tag_v2
    assert tags[33550] == (30, 30, 0) and tags[33922] == (0, 0, 0, 500000, 4500000, 0) and tags[34735][-1] == 32631


def test_snow_and_sand_are_as_bright_as_cloud_and_told_apart_by_near_infrared(prepare):
    red, nir = 0, 3
    for surface, of in ((prepare.SNOW, "snow"), (prepare.SAND, "sand")):
        assert surface[red] > prepare.CLOUD[red], of
    assert prepare.SNOW[nir] / prepare.SNOW[red] < 0.8 < 1 < prepare.CLOUD[nir] / prepare.CLOUD[red]
    assert prepare.SAND[2] / prepare.SAND[red] < 0.75


def test_same_options_give_the_same_files_and_others_replace_them(prepare, root, tmp_path, capsys):
    def files(folder):
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    other = tmp_path / "set"
    prepare.main(["--root", str(other), *SMALL])
    first = files(other)
    assert first == files(root)
    prepare.main(["--root", str(other), *SMALL])
    assert "already there" in capsys.readouterr().out
    prepare.main(["--root", str(other), *SMALL, "--seed", "1"])
    assert {name for name, data in files(other).items() if first.get(name) == data} <= {
        name for name in first if name.endswith("38-Cloud.csv") or name.endswith("nonempty.csv")}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.jpg").write_bytes(b"x")
    assert prepare.main(["--root", str(tmp_path / "photos"), *SMALL]) == 2 and "photos" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--size", "64"], ["--size", "8x8"], ["--training", "0"], ["--seed", "-1"]])
def test_senseless_options_are_refused(prepare, tmp_path, options):
    with pytest.raises(SystemExit) as stop:
        prepare.main(["--root", str(tmp_path / "set"), *options])
    assert stop.value.code == 2
