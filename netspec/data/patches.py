"""A scene of 38-Cloud in square patches, and put together from them again: names, grid, padding."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..base.errors import Error

# a patch of 38-Cloud and its place in the scene's grid, both from 1
PATCH = re.compile(r"patch_(?P<number>\d+)_(?P<row>\d+)_by_(?P<column>\d+)_(?P<scene>\w+)")
SIDE = 384  # pixels of a patch of 38-Cloud


class Place(NamedTuple):
    """Where a patch stands in its scene: row and column from 1, and the number that its name gives it."""

    scene: str
    row: int
    column: int
    number: int


class Grid(NamedTuple):
    """The patches that a scene of a size (height, width) is cut into, rows and columns of `side` pixels.

    The scene lies in the middle of them; where what is left over is odd, a row or column more is behind it.
    """

    size: tuple[int, int]
    rows: int
    columns: int
    side: int = SIDE

    @classmethod
    def of(cls, size: tuple[int, int], side: int = SIDE, rows: int = 0, columns: int = 0) -> "Grid":
        """As many as the size needs, and so many at least."""
        return cls(size, max(rows, -(-size[0] // side)), max(columns, -(-size[1] // side)), side)

    @property
    def offset(self) -> tuple[int, int]:
        """The row and column of pixels, of all patches side by side, at which the scene begins."""
        return (self.rows * self.side - self.size[0]) // 2, (self.columns * self.side - self.size[1]) // 2

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and column of each patch, row by row."""
        return ((row, column) for row in range(1, self.rows + 1) for column in range(1, self.columns + 1))

    def number(self, row: int, column: int) -> int:
        """What the patch's name has as its number."""
        return (row - 1) * self.columns + column

    def cut(self, scene: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Row and column of each patch, and its pixels; zeros around the scene. scene: (H, W, ...)."""
        whole = np.zeros((self.rows * self.side, self.columns * self.side, *scene.shape[2:]), scene.dtype)
        self.inner(whole)[:] = scene
        for row, column in self.places():
            yield (row, column), self.patch(whole, row, column)

    def join(self, patches: Mapping[tuple[int, int], np.ndarray]) -> np.ndarray:
        """The scene (H, W, ...) of patches (side, side, ...) by row and column; 0 where one is missing.

        Raises Error for a patch of another size, and one that stands outside the grid.
        """
        first = next(iter(patches.values()))
        whole = np.zeros((self.rows * self.side, self.columns * self.side, *first.shape[2:]), first.dtype)
        for (row, column), patch in patches.items():
            if not (1 <= row <= self.rows and 1 <= column <= self.columns):
                raise Error(f"patch {row}_by_{column} stands outside its scene's {self.rows} rows and "
                            f"{self.columns} columns")
            if patch.shape[:2] != (self.side, self.side):
                raise Error(f"patch {row}_by_{column} is {patch.shape[1]}x{patch.shape[0]}, expected "
                            f"{self.side}x{self.side}")
            self.patch(whole, row, column)[:] = patch
        return self.inner(whole)

    def seams(self, within: int) -> np.ndarray:
        """Which pixels of the scene are among so many on either side of a border between patches: (H, W)."""
        near: list[np.ndarray] = []
        for count, offset, length in zip((self.rows, self.columns), self.offset, self.size, strict=True):
            at, borders = np.arange(offset, offset + length)[:, None], self.side * np.arange(1, count)
            around = (at >= borders - within) & (at < borders + within)
            near.append(np.asarray(around.any(axis=1, keepdims=True)))
        return near[0] | near[1].T

    def patch(self, whole: np.ndarray, row: int, column: int) -> np.ndarray:
        """The part of all patches side by side, (H, W, ...), that is one of them."""
        top, left = (row - 1) * self.side, (column - 1) * self.side
        return whole[top : top + self.side, left : left + self.side]

    def inner(self, whole: np.ndarray) -> np.ndarray:
        """The part of all patches side by side that is the scene: without the padding."""
        top, left = self.offset
        return whole[top : top + self.size[0], left : left + self.size[1]]


def place(name: str) -> Place:
    """Where a patch stands by its name, with or without a band before it and .TIF behind.

    Raises Error for a name that is none of a patch.
    """
    found = PATCH.fullmatch(name[name.find("patch_") :].removesuffix(".TIF"))
    if not found or "0" in {found[key].lstrip("0") or "0" for key in ("number", "row", "column")}:
        raise Error(f"'{name}' is no name of a patch, which is patch_NUMBER_ROW_by_COLUMN_SCENE, counted "
                    "from 1")
    return Place(found["scene"], int(found["row"]), int(found["column"]), int(found["number"]))


def columns(places: Collection[Place]) -> int:
    """How many columns the grid of a scene has, by the numbers of its patches, which count row by row.

    0 where they do not tell, being of the first row alone, or contradict each other.
    """
    found = {(at.number - at.column) // (at.row - 1) for at in places if at.row > 1} or {0}
    count = max(found)
    agree = all((at.row - 1) * count + at.column == at.number for at in places)
    return count if len(found) == 1 and agree and count >= max(at.column for at in places) else 0
