"""pictures.py: the pixels of the pictures."""

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.look import pictures

PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
NAMES = ["background", "cat", "dog"]


def test_saved_labels_are_indices_with_a_palette(tmp_path):
    labels = np.array([[0, 1, 2], [255, 2, 1]], np.int64)
    path = tmp_path / "new" / "x.png"
    pictures.save_labels(path, labels, PALETTE)
    image = Image.open(path)
    assert image.mode == "P" and np.array_equal(np.array(image), labels)
    rgb = np.array(image.convert("RGB"))
    assert rgb[0, 1].tolist() == [128, 0, 0] and rgb[1, 0].tolist() == [224, 224, 192]
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]


def test_labels_that_cannot_be_written(tmp_path):
    for labels, message in [(np.zeros((2, 2, 3)), "3 axes"), (np.array([[0, 256]]), "0 to 256")]:
        with pytest.raises(Error, match=message):
            pictures.save_labels(tmp_path / "x.png", labels, PALETTE)
    assert not list(tmp_path.iterdir())


def test_overlay_mixes_and_names_the_classes_present():
    image = np.full((300, 400, 3), 200, np.uint8)
    labels = np.zeros((300, 400), np.uint8)
    labels[:, 200:] = 2
    picture = pictures.overlay(image, labels, PALETTE, NAMES, alpha=0.5)
    pixels = np.array(picture)
    assert picture.width == 400 and picture.height > 310
    assert pixels[150, 100].tolist() == [150, 150, 150]  # black at half weight
    assert pixels[150, 300].tolist() == [100, 164, 100]
    assert pixels[150, 200].min() > pixels[150, 300].min()  # outline
    legend = pixels[300:].reshape(-1, 3)
    assert (legend == [0, 128, 0]).all(1).any() and (legend == [0, 0, 0]).all(1).any()
    assert not (legend == [128, 0, 0]).all(1).any()
    assert [k.name for k in pictures.keys(labels, PALETTE, NAMES)] == ["background", "dog"]
    assert [k.name for k in pictures.keys([255, 7], PALETTE, NAMES)] == ["class 7", "void"]


def test_overlay_of_small_grey_and_tall_images():
    labels = np.zeros((40, 8), np.uint8)
    picture = pictures.overlay(Image.new("L", (8, 40), 90), labels, PALETTE, NAMES)
    assert picture.mode == "RGB" and picture.width == 240 and picture.height > 320
    with pytest.raises(Error, match="labels are 8 x 40 for an image of 40 x 8"):
        pictures.overlay(Image.new("L", (40, 8)), labels, PALETTE, NAMES)


@pytest.mark.parametrize("size", [(500, 4000), (4000, 500), (2000, 2000), (600, 800)])
def test_a_legend_is_legible_where_the_overlay_is_shown_on_a_small_screen(size):
    labels = np.zeros(size[::-1], np.uint8)
    labels[:, ::2] = 1
    picture = pictures.overlay(Image.new("RGB", size), labels, PALETTE, NAMES)
    picture.thumbnail((800, 800))
    swatch = (np.abs(np.array(picture).astype(int) - PALETTE[1]) < 8).all(2)
    assert swatch.sum(0).max() >= 10  # as high as the letters beside it


def test_long_legend_breaks_into_lines():
    labels = np.arange(21, dtype=np.uint8).repeat(20)[None].repeat(100, 0)
    names = [f"a rather long name {i}" for i in range(21)]
    palette = [(10 * i, 255 - 10 * i, 128) for i in range(21)]
    pixels = np.array(pictures.overlay(np.zeros((100, 420, 3), np.uint8), labels, palette, names))
    for entry in palette:
        assert (pixels[100:] == entry).all(-1).sum() > 50


def test_sheet():
    small = [pictures.colour(np.full((50, 60), i, np.uint8), PALETTE) for i in (1, 2)]
    page = np.array(pictures.sheet([("image", small), ("truth", small[::-1])]))
    red, green = (page == PALETTE[1]).all(-1), (page == PALETTE[2]).all(-1)
    assert red.sum() == green.sum() == 2 * 60 * 50 * 4**2  # enlarged 4 times to 240 pixels
    assert (page[0] == 255).all() and (page[:, 0] == 255).all()
    assert page[:30].min() < 100  # titles
    for column, title in zip(np.split(page, 2, 1), ("image", "truth"), strict=True):
        ink = np.flatnonzero((column[:30] < 100).any((0, 2)))
        assert abs((ink[0] + ink[-1]) / 2 - column.shape[1] / 2) < 8, title  # over its pictures' middle
    with_legend = pictures.sheet([("image", small)], legend=pictures.keys([1], PALETTE, NAMES))
    assert with_legend.height > pictures.sheet([("image", small)]).height
    with pytest.raises(Error, match="'b': 1"):
        pictures.sheet([("a", small), ("b", small[:1])])
    with pytest.raises(Error, match="no columns"):
        pictures.sheet([])


def test_texts_stand_below_the_pictures_of_a_sheet():
    images = [Image.new("RGB", (220, 50), (9, 9, 200))] * 2
    plain = pictures.sheet([("xx", images)])
    told = pictures.sheet([("xx", images, ["x" * 300, ""])])
    assert told.width == plain.width and told.height == plain.height + 2 * 16
    ink = (np.array(told) < 120).all(-1).any(1)  # rows with letters: the title, and one text
    assert np.flatnonzero(np.diff(ink.astype(int)) == 1).size == 2


def test_letters_are_no_larger_than_fonts_have_them():
    assert [pictures.letters(size) for size in ((300, 200), (4500, 10), (9, 1 << 24))] == [14, 100, pictures.MOST_LETTERS]
    assert pictures._legend([pictures.Key("sky", (1, 2, 3))], 300, pictures.MOST_LETTERS).width > 1000
