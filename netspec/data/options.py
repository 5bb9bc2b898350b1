"""What data layers' param_str and data set files take: the options, what each is, and a file's lines."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..base.errors import NO_LITERAL, Error, closest
from ..proto.text import read_lines


def _number(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 24  # float32, as labels are fed, has these whole


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e38  # True is none; as float32 it is finite


def is_list(value: Any, check: Callable[[Any], bool], count: int | None = None) -> bool:
    """Whether a value is a list, or a tuple, of so many (or any number of) entries that pass a check."""
    return isinstance(value, tuple | list) and all(map(check, value)) and count in (None, len(value))


def whole(least: int) -> tuple[str, Callable[[Any], bool]]:
    """What takes a whole number, at least so large: in words, and as a check."""
    return f"a whole number from {least}", lambda v: type(v) is int and v >= least


def _drawn(value: Any, most: float) -> bool:
    """Whether a value is [least, most], from 0 to so much, and maybe how often it is drawn."""
    return (is_list(value, is_number) and len(value) in (2, 3) and 0 <= value[0] <= value[1] <= most
            and all(0 <= chance <= 1 for chance in value[2:]))


# Options: what they take, in words and as a check
FLAG = ("True or False", lambda v: isinstance(v, bool))
# those that describe a data set of one's own, in param_str or in a data set file
FOLDER: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "images": ("a folder, or a pattern with {name}", is_text),
    "labels": ("a folder, or a pattern with {name}", is_text),
    "boxes": ("a folder, a pattern with {name}, or a JSON file of COCO", is_text),
    "lists": ("a pattern with {split}", is_text),
    "shards": ("a pattern of tar archives, such as {split}-*.tar or train-{000000..000011}.tar", is_text),
    "classes": ("a list of lines 'name' or 'name r g b'", lambda v: is_list(v, is_text)),
    "void": ("a whole number, or None", lambda v: v is None or _number(v)),
    "values": ("a dict of whole numbers, such as {255: 1}",
               lambda v: isinstance(v, dict) and all(_number(n) for pair in v.items() for n in pair)),
    "mean": ("a number for each channel: BGR", lambda v: is_list(v, is_number)),
    "colours": FLAG,
    "nearest": FLAG,
    "key": ("the name of a variable in .mat files", is_text),
}

# what chance does to images in training; in a data set file it is for the nets that `netspec own` writes
CHANCE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "mirror": FLAG,
    "crop": ("[height, width]", lambda v: is_list(v, lambda n: type(n) is int and n >= 1, 2)),
    "zoom": ("[least, most], above 0, at most 8, or with a chance of 0 to 1 behind them",
             lambda v: _drawn(v, 8) and v[0] > 0),
    "rotate": ("[least, most], degrees from 0 to 180, or with a chance of 0 to 1 behind them",
               lambda v: _drawn(v, 180)),
    "brightness": ("a number from 0 to 1, by which the factor differs from 1 at most",
                   lambda v: is_number(v) and 0 <= v <= 1),
}


def check_shards(given: dict[str, Any], where: str) -> None:
    """Error for options of a data set in shards that do not go together; `where` names it."""
    for key in ("images", "labels"):
        if not re.fullmatch(r"\{name\}(\.[^./{}]+)+", given[key]):
            raise Error(f"{where}: '{key}' of shards takes {{name}}.ENDING, found '{given[key]:.80}'")
    if not given["shards"].endswith(".tar"):
        raise Error(f"{where}: 'shards' is '{given['shards']:.80}'; names of shards end in .tar, and what is "
                    "compressed is to be unpacked (gunzip, unxz)")
    if given["images"].lower() == given["labels"].lower():
        raise Error(f"{where}: 'images' and 'labels' are both {given['images']:.80}; a label needs an ending "
                    "of its own")
    if given["labels"].lower().endswith((".npy", ".mat")):
        raise Error(f"{where}: 'labels' is '{given['labels']:.80}'; labels in shards are images, such as PNG")
    if "lists" in given:
        raise Error(f"{where}: 'lists' name images in folders; of shards each sample is read, and 'shards' "
                    "with {split} tells splits apart")


def read_file(path: Path) -> dict[str, Any]:
    """A data set file as options FOLDER and CHANCE: lines "key: value", and a line "name" or "name r g b" for
    each class."""
    lines = read_lines(path, "data set file")
    known = FOLDER | CHANCE
    keys = [key for key in known if key != "classes"]
    given: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        key, colon, text = (part.strip() for part in line.partition("#")[0].partition(":"))
        given.setdefault("classes", []).append("" if colon else key)  # in their lines' places, for errors
        if not colon:
            continue
        if key not in keys or key in given:
            wrong = f"there is no key '{key}'{closest(key, keys)}"
            wrong = f"has the key '{key}' a second time" if key in keys else wrong
            raise Error(f"{path}:{number}: {wrong} (keys: {', '.join(keys)}; a class is a line by itself)")
        try:
            given[key] = ast.literal_eval(text)
        except NO_LITERAL:
            given[key] = text
        if not known[key][1](given[key]):
            raise Error(f"{path}:{number}: '{key}' takes {known[key][0]}, found '{text:.60}'")
    return given
