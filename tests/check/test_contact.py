"""The sheet of images beside their labels, pixel by pixel."""

import numpy as np
from PIL import Image

from netspec.base import log
from netspec.check.contact import CELL, MARK, contact_sheet
from netspec.check.data import look
from netspec.check.given import sources
from netspec.data.segmentation import SegmentationData


def sheet(root, dataset):
    """The contact sheet of a folder, (H, W, 3)."""
    return np.asarray(contact_sheet(look(sources(root, dataset, SegmentationData)[0], 1, log.make(quiet=True))))


def count(pixels, colour):
    return int((pixels == colour).all(-1).sum())


def test_the_brightest_of_pixels_that_are_no_bytes_stay_bright(tmp_path):
    """Red all over, and three times that red in less than the hundredth that is left out of the scale."""
    name = "patch_1_1_by_1_LC08_L1TP_002053_20160520_20170324_01_T1"
    folder = tmp_path / "38-Cloud_training"
    red = np.full((384, 384), 20000, np.uint16)
    red[200:220, 200:220] = 60000
    dark = np.zeros((384, 384), np.uint16)
    for band, pixels in {"red": red, "green": dark, "blue": dark, "nir": dark, "gt": np.uint8(255) * np.eye(384, dtype=np.uint8)}.items():
        (folder / f"train_{band}").mkdir(parents=True)
        Image.fromarray(pixels).save(folder / f"train_{band}/{band}_{name}.TIF")
    (folder / "training_patches_38-Cloud.csv").write_text(f"name\n{name}\n")
    assert count(sheet(tmp_path, "38cloud"), (255, 0, 0)) >= CELL * CELL


def test_images_with_findings_have_a_frame_and_others_none(tmp_path):
    for folder, shape in (("train", (12, 10, 3)), ("trainannot", (12, 10))):
        (tmp_path / folder).mkdir()
        for i in range(3):
            Image.fromarray(np.random.default_rng(i).integers(0, 11, shape, np.uint8)).save(tmp_path / folder / f"t{i}.png")
    (tmp_path / "train.txt").write_text("t0\nt1\nt2\n")
    legend = count(sheet(tmp_path, "camvid"), MARK)
    width, height, line = 2 * CELL + 2, CELL // 2 + 1, 4  # of an image that cannot be read
    frame = width * height - (width - 2 * line) * (height - 2 * line)
    for wrong in (1, 2):
        (tmp_path / f"train/t{wrong}.png").write_bytes(b"")
        assert count(sheet(tmp_path, "camvid"), MARK) == legend + wrong * frame
