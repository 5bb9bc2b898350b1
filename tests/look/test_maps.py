"""Pictures of boxes and of votes, looked at in single pixels."""

import math

import numpy as np

from netspec.look.boxes import boxed, placed
from netspec.look.maps import HIGH, LOW, OWN, Vote, draw_votes, shade

PALETTE = [[0, 0, 0], [200, 0, 0], [0, 0, 200]]
GREY = np.full((400, 600, 3), 128, np.uint8)


def test_a_box_is_drawn_where_it_is_and_the_surest_on_top():
    rows = [[1, 100, 100, 299, 299, 0.4], [2, 100, 100, 299, 299, 0.9]]
    page = np.asarray(boxed(GREY, rows, PALETTE, ["none", "cat", "dog"]))
    assert page.shape == (400, 600, 3)
    for y, x in ((200, 100), (200, 299), (299, 200)):
        assert page[y, x].tolist() == [0, 0, 200]
    assert page[200, 99].tolist() == [255, 255, 255] and page[200, 98].tolist() == page[200, 200].tolist() == [128] * 3
    assert (page[80:99, 100:130] == [0, 0, 200]).all(2).any()  # its name above it


def test_a_small_image_is_enlarged_and_truth_has_no_score():
    page = boxed(GREY[:50, :100], [[1, 0, 0, 99, 49, math.nan]], PALETTE, ["none", "cat"])
    assert page.size == (300, 150)
    assert np.asarray(page)[149, 150].tolist() == [200, 0, 0]


def test_words_of_boxes_do_not_hide_each_other():
    rows = [[1, 100, 100, 299, 299, 0.9], [2, 104, 102, 303, 301, 0.8], [1, 98, 97, 297, 296, 0.7]]
    page = np.asarray(boxed(GREY, rows, PALETTE, ["none", "cat", "dog"]))
    alone = np.asarray(boxed(GREY, rows[:1], PALETTE, ["none", "cat", "dog"]))
    (x, y), = placed([(100, 100, 299, 299)], [(40, 16)], (600, 400))
    assert (page[int(y) : int(y) + 10, int(x) : int(x) + 30] == alone[int(y) : int(y) + 10, int(x) : int(x) + 30]).all()
    drawn = np.random.default_rng(0)
    corners = drawn.uniform(0, 300, (40, 2))
    frames = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners.tolist(), drawn.uniform(5, 90, (40, 2)).tolist(), strict=True)]
    found = [at for at in placed(frames, [(60, 14)] * 40, (400, 400)) if at]
    assert len(found) > 25
    for i, (x, y) in enumerate(found):
        assert 0 <= x <= 340 and 0 <= y <= 386
        assert all(abs(x - a) >= 60 or abs(y - b) >= 14 for a, b in found[:i])


def test_words_without_room_are_left_out_the_surest_ones_last():
    frames = [(100.0, 100.0, 160.0, 150.0)] * 20
    found = placed(frames, [(60, 14)] * 20, (400, 400))
    assert found[0] == (100, 86) and found[4:] == [None] * 16 and None not in found[:4]
    assert placed([(0, 0, 30, 9)], [(60, 14)], (40, 400)) == [(0, 0)]


def test_votes_are_blue_above_0_and_red_below():
    assert shade(np.array([2.0, -2, 0, 1]), 2.0)[:3].tolist() == [list(HIGH), list(LOW), [255] * 3]
    maps = np.zeros((3, 3, 5, 8))
    maps[0, 0], maps[2, 2] = 4, -4
    vote = Vote((0, 0, 599, 399), maps, maps.mean((2, 3)), "cat")
    page = np.asarray(draw_votes(GREY, [vote, vote], 75.0))
    found = {tuple(colour) for colour in page.reshape(-1, 3).tolist()}
    assert {HIGH, LOW, OWN} <= found
    one = np.asarray(draw_votes(GREY, [vote], 75.0))
    assert page.shape[1] == one.shape[1] and page.shape[0] > one.shape[0]
