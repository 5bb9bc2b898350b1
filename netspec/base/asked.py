"""The state that a command's nets are built in: what --phase, --level and --stage ask for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from .trust import leave


@dataclass
class Asked:
    """phase: 0 TRAIN, 1 TEST, None: the command's. level: None: the net's. stages: beside the net's."""

    phase: int | None = None
    level: int | None = None
    stages: tuple[str, ...] = ()


asked = Asked()


@contextmanager
def answered() -> Iterator[None]:
    """Within, nothing is asked for: nets hold the state that they are to be built in."""
    before = asdict(asked)
    vars(asked).update(vars(Asked()))
    try:
        yield
    finally:
        vars(asked).update(before)


def handed_on() -> Callable[[], None]:
    """What has a spawned process ask for the same, and pass by the same."""
    return partial(_take, asdict(asked), leave.unknown)


def _take(given: dict[str, Any], unknown: bool) -> None:
    vars(asked).update(given)
    leave.unknown = unknown
