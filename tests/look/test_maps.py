"""Pictures of boxes and of votes, looked at in single pixels."""

import math

import numpy as np

from netspec.look.boxes import boxed
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
