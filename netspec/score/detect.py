"""Which detections count, in a person's words: thresholds and classes."""

import math

from ..base.errors import Error
from .predict import Looks


def thresholds(given: str | None, looks: Looks, usual: float = 0.5) -> list[float]:
    """What a box of each class must have more than, from words such as 0.5 or 0.5,cat=0.8; else Error.

    usual: of the classes that nothing is said of.
    """
    found: dict[int | None, float] = {}
    for word in given.split(",") if given is not None else ():
        name, each, number = word.rpartition("=")
        try:
            least = float(number)
        except ValueError:
            least = math.nan
        if not math.isfinite(least):
            raise Error(f"--threshold: '{word}' is no number, nor CLASS=NUMBER (as in 0.5,cat=0.8)")
        if least >= 1:
            raise Error(f"--threshold: '{word}' lets no box through, since scores go up to 1; give less "
                        "(--classes shows some classes alone)")
        of = object_class(name.strip(), looks, "--threshold") if each else None
        if of in found:
            twice = looks.names[of] if of else "all classes"
            raise Error(f"--threshold {given}: gives two numbers for {twice}")
        found[of] = least
    return [found.get(number, found.get(None, usual)) for number in range(len(looks.names))]


def object_class(word: str, looks: Looks, option: str) -> int:
    """A class by its name or number; Error for none, and for the background, which has no boxes."""
    if not (number := looks.number(word, option)):
        raise Error(f"{option}: '{word}' is the background, of which there are no boxes")
    return number
