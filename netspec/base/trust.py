"""What a net may do beside arithmetic: import its Python layers' modules, write the files that it names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import Error


class Untrusted(Error):
    """A net needs code that may not be imported."""


class Leave:
    """What is allowed in this process; `say` is told of what is about to be imported."""

    def __init__(self) -> None:
        self.code = self.files = True
        self.unknown = False  # whether what is not understood of a net is passed by
        self.say: Callable[[str], None] = lambda text: None
        self.told: set[str] = set()

    def tell(self, text: str) -> None:
        """Have `say` say a text, once."""
        if text not in self.told:
            self.told.add(text)
            self.say(text)


leave = Leave()


@contextmanager
def looking(trusted: bool) -> Iterator[None]:
    """Within, layers write no file; and no Python layer's module is imported, unless it is trusted."""
    before = leave.code, leave.files
    leave.code, leave.files = trusted, False
    try:
        yield
    finally:
        leave.code, leave.files = before
