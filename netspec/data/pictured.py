"""What sources have in common whose images and truth lie in a data set on disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ..base import files
from ..base.errors import Error, count
from ..ops.source import Source
from . import layouts
from .get import obtained
from .layouts import Labels, Layout
from .options import FLAG, FOLDER, is_text, whole
from .sharded import Sharded, on_disk
from .tree import Tree


class Pictured(Source):
    """A source that reads the images of a split, `entries`, and what else a subclass's `tops_read` name.

    A subclass's `setup` calls `open`.
    """

    OPTIONS: ClassVar[dict[str, tuple[str, Callable[[Any], bool]]]] = {
        "dataset": ("a data set, 'folder' or a data set file", is_text),
        "split": ("the name of a list, such as 'train'", is_text),
        "root": ("a folder", is_text),
        "list": ("a file with names", is_text),
        "seed": whole(0),
        "randomize": FLAG,
        "batch_size": whole(1),
        "overlap": FLAG,
    }
    truth: ClassVar[tuple[str, str]] = "label", "labels"  # a file of it, the option that says where

    overlap: bool = False  # it is meant that it has images that are trained on
    tops_read: tuple[str, ...] = ()  # of the layout's tops
    places: Sequence[int] = ()  # in the list, of what is given alone; else all of it is

    @staticmethod
    def layout_of(dataset: str, own: dict[str, Any] | None = None) -> Layout:
        """Where a data set, by its name or file, has what is read; Error if it is not known."""
        return layouts.layout(dataset, own)

    @classmethod
    def usual_tops(cls, dataset: str, split: str = "") -> Sequence[str]:
        """The names of the tops that a layer has which reads a split of a data set."""
        return cls.layout_of(dataset).usual(split)

    def open(self, given: Mapping[str, Any]) -> None:
        """Find the data set and the split that options name; Error if they are not there."""
        for key in ("dataset", "split"):
            if key not in given:
                raise self.error(f"param_str needs '{key}': {self.OPTIONS[key][0]}")
        self.dataset, self.split = given["dataset"], given["split"]
        self.overlap = given.get("overlap", False)
        try:
            self.tree = self._tree(given)
            self.entries = self.list_entries(given.get("list"))
        except Error as error:
            raise self.error(str(error)) from None
        self.layout, self.root = self.tree.layout, self.tree.root
        self.names = [name for _, _, name in self.entries]

    def list_entries(self, given: str | None) -> list[tuple[Tree, str, str]]:
        """The images of the split (tree, split, name). given: the list to read, if not the usual one."""
        return self.tree.entries(self.split, given)

    def _tree(self, given: Mapping[str, Any]) -> Tree:
        own = {key: given[key] for key in FOLDER if key in given}
        base, root = self.context.base, given.get("root")
        if Path(self.dataset).suffix == ".txt":
            path = files.find(self.dataset, base, "data set file")
            self.dataset, root = str(path), root or str(path.parent)
        found = self.layout_of(self.dataset, own)
        root = root or found.root
        try:
            place = files.find(root, base, f"the folder of data set '{self.dataset}',")
        except Error as error:
            raise Error(f"{error}{obtained(self.dataset, root) if found.facts else ''}") from None
        beside = {key: given[key] for key in found.beside if key in given}
        return on_disk(self.dataset, found, place, base, **beside)

    def __len__(self) -> int:
        return len(self.names)

    def only(self, places: Sequence[int]) -> None:
        """Give these places of the list alone, counted from 0, once each in this order, whatever else orders
        it. Raises Error for one that is not there."""
        if beyond := [place for place in places if not 0 <= place < len(self)]:
            raise Error(f"place {beyond[0]} is not in the list of '{self.split}', whose places are 0 to "
                        f"{len(self) - 1}")
        self.places, self.batch_size = tuple(places), min(self.batch_size, len(places))

    @property
    def labels(self) -> dict[str, Labels]:
        """Those of its tops that hold the truth, by name."""
        tops = {name: self.layout.tops[name] for name in self.tops_read}
        return {name: kind for name, kind in tops.items() if isinstance(kind, Labels)}

    def paths(self, index: int) -> tuple[Path, ...]:
        """The files of a place in the list, in the order of the tops: the image's, then the label's."""
        tree, split, name = self.entries[index]
        return tuple(path for top in self.tops_read for path in tree.files(top, split, name))

    def gone(self) -> Iterator[tuple[str, str]]:
        for top in self.tops_read:
            what = self.truth[0] if top in self.labels else "image"
            for tree, split, name in dict.fromkeys(self.entries):
                if gone := tree.lacking(top, split, name):
                    yield what, str(gone[0])

    def cure(self, what: str, many: int) -> str:
        if self.layout.facts:
            how = f"; data/{self.dataset}/README.md says how to get the data set"
            return how if many >= len(set(self.names)) else ""
        if isinstance(self.tree, Sharded):
            key = self.truth[1] if what == self.truth[0] else "images"
            return f"; {self.tree.option(key, '{name}.ENDING')} says which member of a sample is its {what}"
        where = self.tree.option(self.truth[1] if what == self.truth[0] else "images", "FOLDER")
        return f"; {where} says where {what}s are, {self.split}.txt names them"


def overlap(a: Pictured, b: Pictured) -> list[str]:
    """The images that two sources have in common, sorted: a training set and a validation set must have none.

    Known data sets have a name for each photograph; images of one's own are the same where their files are.
    """
    def marks(source: Pictured) -> set[str]:
        return {name if tree.layout.facts else str(source.paths(index)[0].resolve())
                for index, (tree, _, name) in enumerate(source.entries)}

    return sorted(marks(a) & marks(b))


def shared(train: Pictured, held: Pictured) -> str:
    """A sentence about the images of a TEST net that are trained on; "" if there are none, or `held` says
    'overlap': True, which means that they are to be there."""
    both = [] if held.overlap else overlap(train, held)
    if not both:
        return ""
    return (f"{len(both)} of the {count(len(held), 'image')} of '{held.split}' are in '{train.split}', which "
            f"is trained on, such as {both[0]}; scores on them mean little: take a list that has none of "
            "them (or, to watch the training, give 'overlap': True in param_str)")
