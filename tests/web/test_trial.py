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
from netspec.web.trying import LABELS, MAP, OVERLAY, PICTURE, about, checked, shown, words


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
        assert np.array_equal(pixels(shown(one, OVERLAY, 0.55, [0, 1, 2], 0, 0)), pixels(Image.open(one.files["overlay"])))
        less = pixels(shown(one, OVERLAY, 0.2, [0, 1, 2], 0, 0))
        assert less.shape == pixels(Image.open(one.files["overlay"])).shape and not np.array_equal(less, pixels(Image.open(one.files["overlay"])))
    one = seen(told, 0)
    height, width = (side * one.factor for side in one.labels.shape)
    plain = pixels(shown(one, PICTURE, 0.55, [0, 1, 2], 0, 0))[:height, :width]
    assert np.array_equal(plain, pixels(one.image).repeat(one.factor, 0).repeat(one.factor, 1))
    only = pixels(shown(one, OVERLAY, 0.55, [1], 0, 0))[:height, :width]
    there = (one.labels == 1).repeat(one.factor, 0).repeat(one.factor, 1)
    changed = (only != plain).any(-1)
    assert changed[there].any() and not changed[:, : width // 4].any()  # red is left as it is
    assert not np.array_equal(pixels(shown(one, LABELS, 0, [0, 1, 2], 0, 0)), plain)


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
    assert shown(one, MAP, 0, [], 2, 0).size[0] >= 300
    for x, y in ((12, 0), (0, 6), (-1, 0)):
        with pytest.raises(Error, match="lies outside the picture, which has 12 x 6 pixels"):
            one.at(x, y)


def test_boxes_above_a_score(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes = [{"name": "cat", "class": 1, "score": score, "box": [2, 3, 9, 8]} for score in (0.9, 0.5, 0.06)]
    thirds(40, 30).save("photo.png")
    told = {"names": ["background", "<b>cat"], "palette": [[0, 0, 0], [200, 0, 0]],
            "images": [{"image": "photo.png", "size": [40, 30], "boxes": boxes, "files": {"boxes": "b.png"}}]}
    one = seen(told, 0)
    assert isinstance(one, Detected) and [len(one.above(score)) for score in (0.05, 0.5, 0.95)] == [3, 1, 0]
    assert np.array_equal(pixels(shown(one, OVERLAY, 0, [], 0, 0.95)), pixels(one.image.resize((320, 240), Image.Resampling.NEAREST)))
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
