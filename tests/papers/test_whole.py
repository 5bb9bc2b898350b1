"""`netspec infer` as a whole is held against plain scripts that do the same job, all of them processes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec import Error
from netspec.cli import main as cli
from netspec.convert import engines
from netspec.papers import whole

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models/shapes-fcn8s/deploy.prototxt"


@pytest.fixture
def pictures(tmp_path):
    """Three, of two sizes; one lies on its side."""
    folder, draw = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i, size in enumerate([(41, 56, 3), (41, 56, 3), (60, 33, 3)]):
        image = Image.fromarray(draw.integers(0, 256, size, np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6 if i == 1 else 1
        image.save(folder / f"im{i}.jpg", exif=exif)
    return folder


@pytest.mark.engine
@pytest.mark.slow
def test_infer_and_plain_scripts_do_the_same_job_and_are_timed(pictures, capsys):
    before = sorted(pictures.iterdir())
    assert cli.main(["time", "infer", str(SMALL), str(pictures), "--repeats", "1", "--precision", "fp32"]) == 0
    said = capsys.readouterr().out
    found = [re.split(r"  +", line) for line in said.splitlines() if line.startswith("fp32 ")]
    here = [*engines.available()]
    assert [row[1] for row in found] == ["netspec", *(f"infer --engine {name}" for name in here), "plain PyTorch",
                                         *(f"plain {name}" for name in here)]
    assert "3 pictures" in said and "plain PyTorch: channels_last" in said
    for row in found:
        median, least, most = map(float, row[2:5])
        assert 0 < least <= median <= most and float(row[8].rstrip("%")) > 99.9
    assert ["1.00"] * 3 in [row[5:8] for row in found]
    assert sorted(pictures.iterdir()) == before


def test_a_program_that_fails_says_why(pictures):
    (pictures / "im9.jpg").write_text("words")
    with pytest.raises(Error, match=r"-m netspec infer ended with status 2: .*im9\.jpg"):
        whole.time_infer(SMALL, None, str(pictures), ["fp32"], ["netspec"], 1)
    with pytest.raises(Error, match="no program has such a name"):
        whole.time_infer(SMALL, None, str(pictures), ["fp32"], ["nobody"], 1)


def test_tf32_is_refused_as_the_cpu_has_none(pictures, capsys):
    assert cli.main(["time", "infer", str(SMALL), str(pictures), "--precision", "fp32,tf32"]) == 2
    assert "--precision tf32: cpu has no TF32" in capsys.readouterr().err


def test_nets_that_plain_scripts_cannot_feed_are_refused(pictures, tmp_path):
    text = SMALL.read_text()
    grey = tmp_path / "grey.prototxt"
    grey.write_text(text.replace("dim: 3", "dim: 1", 1))
    with pytest.raises(Error, match="takes pictures of 1 channels"):
        whole.time_infer(grey, None, str(pictures), ["fp32"], [], 1)


def test_agreement_counts_pixels_and_what_lacks():
    a = {"x": np.zeros((2, 2)), "y": np.array([[1, 2, 3, 4]])}
    assert whole.share(a, a) == 1
    assert whole.share(a, {**a, "x": np.eye(2)}) == 0.75
    assert whole.share(a, {"y": a["y"]}) == whole.share({"y": a["y"]}, a) == 0.5
    assert whole.share(a, {**a, "x": np.zeros((4, 1))}) == 0.5 and whole.share({}, {}) == 0
