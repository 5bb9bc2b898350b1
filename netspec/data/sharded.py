"""Data sets in shards: which files a sample has, and which sample comes when."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from ..base.errors import Error, count
from .layouts import Layout
from .shards import SUFFIX, Shard, named, shard
from .tree import Entry, Tree, suffixes


class Sharded(Tree):
    """A data set whose files are members of shards: the name of an image is SHARD.tar/KEY.

    What its layout's patterns have behind {name} are endings of members, in small letters.
    """

    def shards(self, split: str) -> dict[str, Shard]:
        """The shards of a split, by their names below the root."""
        paths = named(self.root, self.layout.shards, split)
        return {path.relative_to(self.root).as_posix(): shard(str(path)) for path in paths}

    def entries(self, split: str, given: str | None = None) -> list[Entry]:
        if given:
            raise Error(f"'list' names images in folders, and split '{split}' is in shards, of which each "
                        "sample is read")
        found: list[Entry] = [(self, split, f"{name}/{each.key(place)}")
                              for name, each in self.shards(split).items() for place in range(len(each))]
        if not found:
            raise Error(f"the shards {self.layout.shards} of split '{split}' hold no sample")
        return found

    def files(self, top: str, split: str, name: str) -> list[Path]:
        asked = self._asked(top)
        return [self.root / f"{name}.{self._ending(asked, name) or asked}"]

    def lacking(self, top: str, split: str, name: str) -> list[Path]:
        return [] if self._ending(self._asked(top), name) else self.files(top, split, name)

    def remarks(self, split: str) -> list[str]:
        """A sentence for each shard that has members of no sample."""
        return [f"{each.path}: {count(len(each.passed), 'member')} of no sample left out, such as "
                f"{each.passed[0]}; names are KEY.ENDING"
                for each in self.shards(split).values() if each.passed]

    def _asked(self, top: str) -> str:
        """How members of a top end; * stands for an image's ending."""
        return self.layout.tops[top].files[0].removeprefix("{name}.").lower()

    def _ending(self, asked: str, name: str) -> str | None:
        """How the member of a sample that is asked for ends; None where there is none."""
        start, _, key = name.partition(f"{SUFFIX}/")
        members, begin = shard(str(self.root / start) + SUFFIX).members(key), asked.removesuffix("*")
        if asked == begin:
            return asked if asked in members else None
        fits = [each for each in members if each.startswith(begin) and f".{each[len(begin):]}" in _kinds()]
        if len(fits) > 1:
            raise Error(f"both {self.root / name}.{fits[0]} and .{fits[1]} are there; say which is meant by "
                        f"a pattern: {{name}}.{fits[0]}")
        return fits[0] if fits else None


@cache
def _kinds() -> frozenset[str]:
    """How images end; arrays are read as files alone."""
    return suffixes() - {".mat", ".npy"}


def on_disk(dataset: str, layout: Layout, root: Path, base: Path | None = None, **beside: str) -> Tree:
    """A data set on disk, in folders or shards: see Tree."""
    return (Sharded if layout.shards else Tree)(dataset, layout, root, beside, base)


class Order:
    """Which sample is item i of a run: a pure function of i, whatever was read before.

    Of S shards with n[0], n[1], ... samples, M together, epoch e has the items from e M to (e + 1) M - 1, and
    each sample once. The batch at position p is of shard p mod S: a process that takes every Nth position
    reads 1 / N of the shards, where N divides S, and these as long as the run lasts. So

        shard c = (i div B) mod S       (B images a batch)
        place k = how many items of the epoch before i have the same c,

    and with `draw` the place is that of a permutation of the shard, of its own for each epoch. Where a shard
    has fewer samples than the epoch has items of it (k >= n[c]), such items take what others have too many
    of, in the order of c, then k, and of shards, then places. Of equal shards, of a multiple of B, none is.
    """

    def __init__(self, counts: Sequence[int], batch: int,
                 draw: Callable[[int, int], np.random.Generator] | None = None) -> None:
        """counts: of samples in each shard. draw: of an epoch and a shard's number; None: places in order."""
        self.counts, self.batch, self.draw = np.array(counts, np.int64), batch, draw
        self.begins = np.cumsum(self.counts) - self.counts  # of shards in the list of all samples
        self.total = int(self.counts.sum())
        self._epoch = lru_cache(4)(self._shares)
        self._drawn: tuple[int, dict[int, np.ndarray]] = -1, {}

    def index(self, item: int) -> int:
        """The place of an item in the list of all samples, shard after shard."""
        epoch, column = item // self.total, item // self.batch % len(self.counts)
        first, slots, missing, spare = self._epoch(epoch)
        place = int(self._before(item, column) - first[column])
        if place >= self.counts[column]:
            number = int(missing[column]) + place - int(self.counts[column])
            column = int(np.searchsorted(spare, number, side="right")) - 1
            place = int(slots[column] + number - spare[column])
        return int(self.begins[column]) + self._placed(epoch, column, place)

    def _before(self, item: int, columns: int | np.ndarray) -> np.ndarray:
        """How many items before this one, of all epochs, are of each of some shards."""
        rounds, rest = divmod(item, self.batch * len(self.counts))
        return rounds * self.batch + np.clip(rest - self.batch * columns, 0, self.batch)

    def _shares(self, epoch: int) -> tuple[np.ndarray, ...]:
        """Of an epoch: the items of each shard before it, and in it; and of the shards before each, how many
        items lack a sample, and how many samples an item."""
        columns = np.arange(len(self.counts))
        first = self._before(epoch * self.total, columns)
        slots = self._before((epoch + 1) * self.total, columns) - first
        missing, spare = np.maximum(slots - self.counts, 0), np.maximum(self.counts - slots, 0)
        return first, slots, np.cumsum(missing) - missing, np.cumsum(spare) - spare

    def _placed(self, epoch: int, column: int, place: int) -> int:
        if not self.draw:
            return place
        if self._drawn[0] != epoch:
            self._drawn = epoch, {}
        drawn = self._drawn[1]
        if column not in drawn:
            drawn[column] = self.draw(epoch, column).permutation(int(self.counts[column]))
        return int(drawn[column][place])
