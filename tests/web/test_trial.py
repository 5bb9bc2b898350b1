"""What the page shows of a picture is what infer made of it."""

import json

import numpy as np
import pytest
from PIL import Image
from thirds import thirds, write_thirds

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.web.desk import Pair
from netspec.web.trial import Detected, seen
from netspec.web.trying import LABELS, MAP, OVERLAY, PICTURE, about, checked, in_common, shown, words

NAMES = ["red", "green", "blue"]


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """What infer printed of photo.png and of a picture with a turned one in its EXIF."""
    monkeypatch.chdir(tmp_path)
    write_thirds(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    thirds(60, 20).save("turned.png", exif=exif)
    capsys.readouterr()
    assert main(words(Pair("net.prototxt", "net.caffemodel"), ["photo.png", "turned.png"], tmp_path / "out")) == 0
    return json.loads(capsys.readouterr().out)


def pixels(image):
    return np.asarray(image.convert("RGB"))


def test_the_overlay_is_infers_file_and_moves_with_its_share_and_classes(told):
    for which in (0, 1):
        one = seen(told, which)
        assert np.array_equal(pixels(shown(one, OVERLAY, 0.55, NAMES, "red", 0)), pixels(Image.open(one.files["overlay"])))
        less = pixels(shown(one, OVERLAY, 0.2, NAMES, "red", 0))
        assert less.shape == pixels(Image.open(one.files["overlay"])).shape and not np.array_equal(less, pixels(Image.open(one.files["overlay"])))
    one = seen(told, 0)
    height, width = (side * one.factor for side in one.labels.shape)
    plain = pixels(shown(one, PICTURE, 0.55, NAMES, "red", 0))[:height, :width]
    assert np.array_equal(plain, pixels(one.image).repeat(one.factor, 0).repeat(one.factor, 1))
    only = pixels(shown(one, OVERLAY, 0.55, ["green"], "red", 0))[:height, :width]
    there = (one.labels == 1).repeat(one.factor, 0).repeat(one.factor, 1)
    changed = (only != plain).any(-1)
    assert changed[there].any() and not changed[:, : width // 4].any()  # red is left as it is
    assert not np.array_equal(pixels(shown(one, LABELS, 0, NAMES, "red", 0)), plain)


def test_the_map_of_a_class_and_a_pixel_are_the_softmax_of_the_scores(told):
    one = seen(told, 0)
    scores = np.load(one.files["scores"]).astype(np.float64)
    odds = np.exp(scores - scores.max(0)) / np.exp(scores - scores.max(0)).sum(0)
    for number in range(3):
        np.testing.assert_allclose(one._odds(number), odds[number], atol=1e-6)
    for x, y in ((0, 0), (11, 5), (5, 3)):
        found = one.at(x, y)
        assert [name for name, *_ in found] == [told["names"][i] for i in np.argsort(-odds[:, y, x], kind="stable")]
        np.testing.assert_allclose([p for _, p, _ in found], np.sort(odds[:, y, x])[::-1])
        assert found[0][0] == told["names"][one.labels[y, x]] and found[0][2] == pytest.approx(scores[:, y, x].max())
    assert shown(one, MAP, 0, [], "blue", 0).size[0] >= 300
    with pytest.raises(Error, match="the net has no class 'sky'"):
        one.map("sky")
    for x, y in ((12, 0), (0, 6), (-1, 0)):
        with pytest.raises(Error, match="lies outside the picture, which has 12 x 6 pixels"):
            one.at(x, y)


def test_boxes_above_a_score(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes = [{"name": "cat", "class": 1, "score": score, "box": [2, 3, 9, 8]} for score in (0.9, 0.5, 0.06)]
    thirds(40, 30).save("photo.png")
    (tmp_path / "b.png").touch()
    told = {"names": ["background", "<b>cat"], "palette": [[0, 0, 0], [200, 0, 0]],
            "images": [{"image": "photo.png", "size": [40, 30], "boxes": boxes, "files": {"boxes": "b.png"}}]}
    one = seen(told, 0)
    assert isinstance(one, Detected) and [len(one.above(score)) for score in (0.05, 0.5, 0.95)] == [3, 1, 0]
    assert np.array_equal(pixels(shown(one, OVERLAY, 0, [], "", 0.95)), pixels(one.image.resize((320, 240), Image.Resampling.NEAREST)))
    assert "no box above 0.95" in about(one, 0.95) and about(one, 0.05).count("<tr>") == 4
    assert "<b>" not in about(seen(told | {"images": [{**told["images"][0], "boxes": [boxes[0] | {"name": "<b>cat"}]}]}, 0), 0)


def test_pictures_of_too_many_pixels_and_none_are_refused_with_the_number(tmp_path):
    Image.new("L", (3000, 2000)).save(tmp_path / "large.png")
    (tmp_path / "none.png").write_text("no picture")
    large, none = str(tmp_path / "large.png"), str(tmp_path / "none.png")
    assert checked([large, none, large], 6) == [large, none]  # of which infer says what is wrong
    with pytest.raises(Error, match=r"^large.png has 3000 x 2000 = 6.0 million pixels, and this page takes 5.9 million: make it smaller"):
        checked([none, large], 5.9)
    with pytest.raises(Error, match="no picture is given"):
        checked([], 40)


def test_files_that_hold_several_pictures_or_none_by_their_names_are_refused(tmp_path):
    thirds().save(tmp_path / "two.gif", save_all=True, append_images=[thirds(order=(1, 2, 0))])
    for name, said in (("two.gif", "two.gif has 2 pictures, and this page shows one"), ("film.mp4", "film.mp4 is no picture by its name")):
        with pytest.raises(Error, match=said):
            checked([str(tmp_path / name)], 40)
    with pytest.raises(Error, match="51 pictures are given, and this page takes 50"):
        checked(["a.png"] * 51, 40)


def test_a_click_beside_a_wide_legend_is_told_of_the_pixel_that_is_seen(told):
    thirds(40, 100).save("photo.png")
    one = seen({**told, "images": [{**told["images"][0], "size": [40, 100]}]}, 0)
    assert one.factor == 3 and one.pixel(0, 6, 120) == (0, 2) and one.pixel(60, 6, 240) == (0, 2) and one.pixel(179, 299, 240) == (39, 99)


def test_of_several_nets_the_pictures_that_all_show_stand_beside_each_other():
    found = [{"images": [{"image": name} for name in names]} for names in (("x/a.png", "x/b.png", "x/c.png"), ("x/c.png", "x/a.png"))]
    assert in_common(found) == "not all nets show b.png, which is left out"
    assert [[one["image"] for one in each["images"]] for each in found] == [["x/a.png", "x/c.png"]] * 2 and in_common(found) is None
