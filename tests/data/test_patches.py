"""Scenes in patches and back: every pixel once, whatever the sides; and what patches' names say."""

import numpy as np
import pytest

from netspec.base.errors import Error
from netspec.data.patches import Grid, columns, place

RNG = np.random.default_rng(3)
SIZES = ((384, 384), (385, 384), (1, 1), (383, 767), (500, 600), (769, 1), (1151, 1153))
SMALL = ((31, 33), (65, 63), (64, 64), (90, 71), (1, 97), (32, 96))


@pytest.mark.parametrize(("size", "side"), [*((size, 384) for size in SIZES), *((size, 32) for size in SMALL), ((7, 9), 5)])
def test_a_scene_cut_and_joined_is_itself(size, side):
    numbers = np.arange(1, size[0] * size[1] + 1, dtype=np.int64).reshape(size)
    grid = Grid.of(size, side)
    patches = dict(grid.cut(numbers))
    assert {patch.shape for patch in patches.values()} == {(side, side)} and [*patches] == [*grid.places()]
    there = np.concatenate([patch.ravel() for patch in patches.values()])
    assert np.array_equal(np.sort(there[there > 0]), numbers.ravel())  # each pixel once, and else zeros
    assert np.array_equal(grid.join(patches), numbers)


@pytest.mark.parametrize("size", SMALL)
def test_patches_joined_and_cut_are_themselves_but_for_the_padding(size):
    grid = Grid.of(size, 32)
    patches = {at: RNG.integers(1, 256, (32, 32)).astype(np.uint8) for at in grid.places()}
    again = dict(grid.cut(grid.join(patches)))
    inside = dict(grid.cut(np.ones(size, bool)))
    for at, patch in patches.items():
        assert np.array_equal(again[at], np.where(inside[at], patch, 0)), at


def test_the_scene_lies_in_the_middle_and_what_is_odd_is_behind_it():
    grid = Grid.of((65, 63), 32)
    assert (grid.rows, grid.columns, grid.offset) == (3, 2, (15, 0))
    first = dict(grid.cut(np.ones((65, 63), bool)))
    assert first[1, 1].sum() == 17 * 32 and first[3, 2].sum() == 16 * 31
    assert Grid.of((64, 96), 32) == ((64, 96), 2, 3, 32) and Grid.of((64, 96), 32).offset == (0, 0)
    assert Grid.of((65, 63), 32, 4, 2).offset == (31, 0)  # a grid with more rows than it needs


def test_bands_are_cut_and_joined_alike():
    scene = RNG.integers(0, 65536, (40, 50, 4)).astype(np.uint16)
    grid = Grid.of((40, 50), 32)
    found = grid.join(dict(grid.cut(scene)))
    assert found.dtype == np.uint16 and np.array_equal(found, scene)


def test_a_missing_patch_is_zero_and_a_strange_one_is_refused():
    scene = np.ones((64, 60), np.uint8)
    grid = Grid.of((64, 60), 32)
    patches = dict(grid.cut(scene))
    del patches[1, 2]
    found = grid.join(patches)
    assert not found[:32, 30:].any() and found.sum() == 64 * 60 - 32 * 30
    with pytest.raises(Error, match=r"patch 3_by_1 stands outside its scene's 2 rows and 2 columns"):
        grid.join(patches | {(3, 1): scene[:32, :32]})
    with pytest.raises(Error, match=r"patch 1_by_2 is 30x32, expected 32x32"):
        grid.join(patches | {(1, 2): scene[:32, :30]})


def test_names():
    scene = "LC08_L1TP_002053_20160520_20170324_01_T1"
    found = place(f"patch_192_10_by_12_{scene}")
    assert found == (scene, 10, 12, 192)
    assert place(f"red_patch_192_10_by_12_{scene}.TIF") == found
    assert Grid.of((3800, 7600)).number(10, 12) == 192
    for wrong in ("patch_192_10_by_12", f"patch_10_by_12_{scene}", f"patch_0_1_by_1_{scene}", "name", f"patch_1_0_by_1_{scene}",
                  f"patch_192_10_by_12_{scene}.png"):
        with pytest.raises(Error, match="is no name of a patch, which is patch_NUMBER_ROW_by_COLUMN_SCENE"):
            place(wrong)


def test_the_numbers_tell_the_columns_where_they_agree():
    def told(*numbers):
        return columns([place(f"patch_{n}_{row}_by_{column}_LC08") for n, row, column in numbers])

    assert told((192, 10, 12)) == 20 and told((192, 10, 12), (3, 1, 3), (20, 1, 20)) == 20
    assert told((1, 1, 1), (2, 1, 2)) == 0  # the first row may have more
    assert told((192, 10, 12), (30, 2, 12)) == 0  # 20 or 18
    assert told((193, 10, 12)) == 0 and told((192, 10, 12), (4, 1, 3)) == 0 and told((5, 2, 3)) == 0
