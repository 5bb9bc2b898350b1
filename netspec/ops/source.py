"""The contract of what makes data: the batch at a position is a pure function of the position."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ..base.errors import count
from ..proto.caffe_pb2 import LayerParameter
from .base import Context, Operation, Shape

Batch = tuple[np.ndarray, ...]


class Source(Operation, family="data", bottoms=0, tops=(1, None), data=True):
    """A layer without bottoms that makes data. A subclass writes `shapes` and `load`.

    A batch is a pure function of its position: the same in every process, whatever was loaded before. Random
    choices come from `generator`. So a run resumes by its position alone, with any number of workers.
    """

    fed: ClassVar[bool] = False  # the caller gives the tensors, `load` is not called
    workers: ClassVar[bool] = True  # False: loading is too quick for worker processes to pay

    batch_size: int = 1
    seed: int = 0  # of all random choices

    def shapes(self) -> list[Shape]:
        """The shapes of the tops in the first batch, which Caffe shapes the net by."""
        raise NotImplementedError

    def load(self, position: int) -> Batch:
        """Batch number `position`: float32 arrays, one a top.

        Positions run 0, 1, ... from the start of the run, over the epochs for ever. Raises Error naming the
        file that cannot be read.
        """
        raise NotImplementedError

    def describe(self, position: int) -> str:
        """Where batch `position` comes from, for error messages."""
        return f"batch {position} of layer '{self.layer.name}'"

    def gone(self) -> Iterator[tuple[str, str]]:
        """The files that are named and not there: what each is (image, label), and its path."""
        return iter(())

    def check_files(self) -> None:
        """Raise Error if files are not there, so that no run ends when one of them is drawn."""
        missing: dict[str, list[str]] = {}
        for what, path in self.gone():
            missing.setdefault(what, []).append(path)
        if missing:
            told = [f"{what} {paths[0]} is not there" if len(paths) == 1 else
                    f"{count(len(paths), what)} are not there, such as {paths[0]}"
                    for what, paths in missing.items()]
            what, paths = next(iter(missing.items()))
            raise self.error(f"{'; '.join(told)}{self.cure(what, len(paths))}")

    def cure(self, what: str, many: int) -> str:
        """The end of a sentence about so many images or labels that are not there: what to do."""
        return ""

    def remarks(self) -> list[str]:
        """What is to be said of its data before a run, in sentences."""
        return []

    def generator(self, *numbers: int) -> np.random.Generator:
        """The random generator of an item (an epoch, ...): follows from `seed` and the numbers alone."""
        return np.random.default_rng([self.seed, *numbers])

    def items(self, position: int) -> range:
        """The numbers of a batch's items, counted from the start of the run."""
        return range(position * self.batch_size, (position + 1) * self.batch_size)

    def image_names(self, position: int) -> list[str]:
        """Names for files about a batch's items: numbers, unless the data set has its own."""
        return [f"{item:06d}" for item in self.items(position)]

    def infer(self, *shapes: Shape) -> list[Shape]:
        return self.shapes()

    def __reduce__(self) -> tuple:
        # what it has open stays here: a spawned worker opens its own
        return _rebuild, (type(self), self.layer, self.context, self.seed)


def _rebuild(cls: type[Source], layer: LayerParameter, context: Context, seed: int) -> Source:
    source = cls(layer, (), context)
    source.seed = seed
    return source
