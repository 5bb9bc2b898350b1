"""What is kept of a picture that a classifier was run over: pictures of heat, and what is said of them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import Error, closest, listed
from ..base.files import writing
from ..look import pictures
from ..look.heat import enlarged, heat, with_legend
from ..proto.text import read_lines
from .dense import Seen


class Names(NamedTuple):
    """What classes are called, and all the words that they go by, with their numbers."""

    names: Sequence[str]
    words: dict[str, int]

    def number(self, given: str) -> int:
        """The class that a person means; Error with the closest if there is none."""
        word = next((w for w in (given, given.strip(), *(f for f in self.words if f.lower() == given.lower()))
                     if w in self.words), None)
        if word is not None:
            return self.words[word]
        if os.path.exists(given):
            raise Error(f"--dense: '{given}' is no class but a file: images stand before --dense")
        raise Error(f"--dense: '{given}' is no class{closest(given, self.words)} (classes: "
                    f"{listed(self.names, 24)})")

    def numbers(self, given: Sequence[str]) -> tuple[int, ...] | None:
        """Those that a person means, each once; None where none is given."""
        return tuple(dict.fromkeys(self.number(word) for word in given)) or None


def names_of(names: Sequence[str]) -> Names:
    """Of classes that go by their names and numbers."""
    return Names(names, {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)})


def read_names(path: Path, classes: int) -> Names:
    """The classes of a file, one a line in the order of the net's scores.

    Of a line as ILSVRC's synset_words.txt has them, 'n02123045 tabby, tabby cat', each word stands for the
    class, and the first is its name. Raises Error for a file that cannot be read or has another number.
    """
    lines = [line.strip() for line in read_lines(path, "--names:") if line.strip()]
    if len(lines) != classes:
        raise Error(f"--names: {path} has {len(lines)} lines and the net {classes} classes; expected a line "
                    "for each class, in the order of the net's scores")
    names, words = [], {str(i): i for i in range(classes)}
    for number, line in enumerate(lines):
        found = re.fullmatch(r"(?:(n\d{8})\s+)?(.+)", line)
        assert found
        alike = [word.strip() for word in found[2].split(",")]
        names.append(alike[0])
        for word in (line, found[2], found[1] or line, *alike):
            words.setdefault(word, number)
    return Names(names, words)


@dataclass(frozen=True)
class Heats:
    """What is kept: alpha, the share of the colours; classes: whose maps are drawn, a file each (None: the
    best of each picture but for background, in one); scores: whether the maps are kept as numbers."""

    names: Sequence[str]
    alpha: float
    classes: tuple[int, ...] | None = None
    scores: bool = False

    @property
    def files(self) -> dict[str, str]:
        """What is written of a picture -> the end of its name."""
        ends = {"dense": "_dense.png"}
        if self.classes is not None:
            words = [re.sub(r"[^\w.-]+", "_", self.names[i])[:80] for i in self.classes]
            parts = [f"{word}_{i}" if words.count(word) > 1 else word
                     for word, i in zip(words, self.classes, strict=True)]
            ends = {f"dense_{part}": f"_dense_{part}.png" for part in parts}
        return ends | ({"scores": "_scores.npy"} if self.scores else {})

    def keep(self, seen: Seen) -> dict[str, Any]:
        """Write what is wanted of a picture; what there is to say of it, for JSON.

        size: width and height. classes: those drawn, with the most that is reached, where (x and y), and the
        mean, of 0 to 1. files: what -> path.
        """
        image, maps, paths = seen
        ground = [i for i, name in enumerate(self.names) if name == "background"]
        chosen = maps.best(without=ground) if self.classes is None else self.classes
        found = maps.of(chosen)
        made = [heat(image, each, self.alpha) for each in found]
        names = [self.names[i] for i in chosen]
        drawn = [path for what, path in paths.items() if what != "scores"]
        if self.classes is None:
            columns = [("image", enlarged(image)), *zip(names, made, strict=True)]
            sheet = pictures.sheet([(title, [picture]) for title, picture in columns])
            pictures.save(drawn[0], with_legend(sheet, "probability", self.alpha))
        else:
            for path, name, picture in zip(drawn, names, made, strict=True):
                pictures.save(path, with_legend(picture, name, self.alpha))
        if self.scores:
            with writing(paths["scores"]) as file:
                np.save(file, found)
        return {"size": list(image.size), "classes": [_told(self.names[i], i, each)
                                                      for i, each in zip(chosen, found, strict=True)],
                "files": {what: str(path) for what, path in paths.items()}}


def _told(name: str, number: int, found: np.ndarray) -> dict[str, Any]:
    y, x = np.unravel_index(int(found.argmax()), found.shape)
    return {"name": name, "class": number, "most": float(found[y, x]), "at": [int(x), int(y)],
            "mean": float(found.mean())}
