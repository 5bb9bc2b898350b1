"""The one exception that means "you, not the program": bad input, said in one sentence."""

import difflib
from collections.abc import Iterable


class Error(Exception):
    """Bad input: where it is, what was expected, what was found, what to do.

    The command line prints the message and exits with status 2; in Python it is an ordinary exception.
    """


def closest(word: str, known: Iterable[str]) -> str:
    """The end of an error sentence: "; did you mean 'x'?" for the nearest of `known`, or ""."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not near:  # a wrong case is the commonest slip of all
        near = [k for k in known if k.lower() == word.lower()]
    return f"; did you mean '{near[0]}'?" if near else ""
