"""The exception that says in one sentence what to mend in the input; and that of a stopped run."""

import difflib
import re
from collections.abc import Iterable

LETTERS = 1200  # letters of a message; what is longer quotes a file at length


class Error(Exception):
    """Bad input: where it is, what was expected, what was found, what to do.

    The command line prints the message and exits with status 2; in Python it is an ordinary exception. Of a
    message longer than LETTERS the middle is left out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class TooLarge(Error):
    """What a device has no room for."""


class Final(Error):
    """An Error that every other input would meet too: a run over many ends with it."""


# what ast.literal_eval raises for text that is no literal: the deepest and the longest among them
NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


# C0 and C1, U+2028 and U+2029 with the marks of direction about them, and halves of characters, which stand
# for the bytes of a file's name that is no UTF-8
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Interrupted(Exception):
    """A run was stopped by a signal, at a whole iteration; `status` is the exit status that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number, self.status = number, 128 + number


class Told(Exception):
    """An Error that another process of the same run says: the command line only exits with its `status`."""

    status = 2


def closest(word: str, known: Iterable[str], most: int = 1) -> str:
    """The end of an error sentence: "; did you mean 'x'?" for the `most` nearest of `known`, or ""."""
    known = list(known) if len(word) <= LETTERS else []
    near = difflib.get_close_matches(word, known, n=most, cutoff=0.6)
    if not near:  # a wrong case is the commonest slip of all
        near = [k for k in known if k.lower() == word.lower()][:most]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def shortened(message: str, most: int = LETTERS) -> str:
    """A message without its middle where it has more letters."""
    return message if len(message) <= most else f"{message[: most // 2]} ... {message[-most // 2 :]}"


def one_line(text: str) -> str:
    """A text as one line that can do nothing to a terminal or a log, whatever names it has in it: characters
    that control, end lines, turn the direction of writing, or are none are shown as `\\n` or `\\x1b`."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def exhausted(error: RuntimeError | MemoryError) -> str:
    """The sentence of an exception that says that memory or Python's stack is used up; raises others."""
    if isinstance(error, RecursionError):
        return "what it was given is nested too deeply"
    if isinstance(error, RuntimeError) and not any(w in str(error) for w in ("allocate", "out of memory")):
        raise error
    return "there is not enough memory for it"


def lacking(what: str, library: str) -> str:
    """The error sentence of `what` ("reading HDF5") without the library that does it, as pip calls it."""
    return f"{what} needs {library}: pip install {library}"


def said(error: OSError) -> str:
    """The error sentence of what the system says of a file."""
    return f"{error.filename2 or error.filename}: {error.strerror}"


def count(number: int, what: str) -> str:
    """A number of things that are called `what` one by one: "1 layer", "3 layers", "2 classes"."""
    return f"{number} {what}" + (("es" if what.endswith("s") else "s") if number != 1 else "")


def listed(names: Iterable[str], most: int = 6) -> str:
    """Names, the middle of a long list left out, with their number."""
    names = list(names)
    shown = names if len(names) <= most else [*names[: most - 2], "...", names[-1]]
    return ", ".join(shown) + (f" ({len(names)})" if len(names) > 1 else "")
