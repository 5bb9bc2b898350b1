"""The losses of a solver's iterations, which a GPU computes while the host goes on."""

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

MOST = 100  # losses that wait


class Losses(deque[float]):
    """The losses of the last iterations, of which `mean` is shown; those that nobody has read yet wait."""

    def __init__(self, window: int) -> None:
        """window: how many count in the mean."""
        super().__init__(maxlen=window)
        self._waiting: dict[int, Tensor] = {}  # by iteration

    @property
    def mean(self) -> float:
        return sum(self) / len(self) if self else math.nan

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MOST

    def wait(self, iteration: int, loss: Tensor) -> None:
        """Take the loss of an iteration, one number on its device."""
        self._waiting[iteration] = loss

    def read(self, size: int, refuse: Callable[[float, int], Exception]) -> list[float]:
        """The losses that waited, each divided by `size`, from now on among the others.

        The host waits for the device. Raises what `refuse` makes of one that is not finite and its iteration.
        """
        waited, self._waiting = self._waiting, {}
        found = [loss / size for loss in torch.stack([*waited.values()]).tolist()] if waited else []
        for iteration, loss in zip(waited, found, strict=True):
            if not math.isfinite(loss):
                raise refuse(loss, iteration)
        self.extend(found)
        return found

    def clear(self) -> None:
        super().clear()
        self._waiting.clear()
