"""Shards: plain tar archives of images and labels, of which a member is read without those before it.

What is a sample, WebDataset says, by its own function: members that follow each other with the same key,
which is a path up to the first dot of the file's name; what follows the dot is a member's ending, in small
letters. The way to a member is tarfile's: that library goes through archives from front to back alone. Local
files are opened, and nothing else; nothing is unpacked, decoded by its ending, run or written.
"""

import glob
import io
import itertools
import math
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from ..base.errors import Error, closest, lacking
from ..base.files import inside
from ..base.machine import check_room
from .unpack import DAMAGE, MOST_PATH, TarInfo

SUFFIX = ".tar"
MOST = 10_000  # shards that a pattern may name
PASSED = re.compile(r"^__[^/]*__(/|$)|(^|/)\.")  # WebDataset's facts of a shard; a system's hidden files
BLOCK = 512  # bytes of a tar's header, and of its end twice


class _Tar(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # those so far, which tarfile keeps


class Shard:
    """The samples of a shard, by its headers: about 60 bytes for each member, and its name.

    Raises Error, naming shard and member, for an archive that is compressed, damaged or cut short, and for
    one that holds links, devices, sparse files, or a key or member twice.
    """

    def __init__(self, path: Path) -> None:
        try:
            from webdataset.tariterators import base_plus_ext, group_by_keys
        except ImportError:
            raise Error(lacking(f"reading the shard {path}", "webdataset")) from None
        self.path, self.passed = path, list[str]()  # passed: members that are of no sample
        keys, ends, kinds, places, endings = [], [], [], [], dict[str, int]()

        def parts(name: str) -> tuple[str | None, str | None]:
            key, ending = (None, None) if PASSED.search(name) else base_plus_ext(name)
            if key is None:
                self.passed.append(name)
            elif str(ending).startswith("__"):
                raise ValueError(f"it holds '{name}', whose ending is a word of WebDataset's own")
            return key, ending

        try:
            for sample in group_by_keys(self._members(), parts):
                keys.append(os.fsencode(sample.pop("__key__")))
                for ending, place in sample.items():
                    if ending != "__url__":
                        kinds.append(endings.setdefault(ending, len(endings)))
                        places.append(place)
                ends.append(len(kinds))
        except DAMAGE as error:
            why = str(error.args[0] if error.args else type(error).__name__).partition(" dict_keys(")[0]
            raise Error(f"shard {path} cannot be read: {why}{self._packed()}") from None
        self._keys, self._endings = np.array(keys, bytes), list(endings)
        self._order = np.argsort(self._keys, kind="stable")
        self._ends, self._kinds = np.array([0, *ends]), np.array(kinds, np.int32)
        self._places = np.array(places, np.int64).reshape(-1, 2)
        ordered = self._keys[self._order]
        if len(twice := np.flatnonzero(ordered[1:] == ordered[:-1])):
            key = os.fsdecode(ordered[twice[0]])
            raise Error(f"shard {path} has members of the key '{key}' in two places, which would be two "
                        "samples of one name; put them behind each other, or rename some")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, place: int) -> str:
        """The key of a sample, by its place in the shard."""
        return os.fsdecode(self._keys[place])

    def members(self, key: str) -> dict[str, tuple[int, int]]:
        """The members of a sample: ending -> the byte where it begins, and how many it has; {} of none."""
        raw = os.fsencode(key)
        at = np.searchsorted(self._keys, raw, sorter=self._order) if raw else len(self)
        if at == len(self) or self._keys[place := self._order[at]] != raw:
            return {}
        part = slice(*self._ends[place : place + 2])
        return {self._endings[kind]: (int(begin), int(size))
                for kind, (begin, size) in zip(self._kinds[part], self._places[part], strict=True)}

    def _members(self) -> Iterator[dict[str, Any]]:
        """What group_by_keys takes: the name of a member, and what stands for its content."""
        whole, last = self.path.stat().st_size, -1
        with _Tar.open(self.path, "r:", tarinfo=TarInfo) as tar:
            while info := tar.next():
                tar.members = []
                if info.size < 0 or tar.offset <= last:  # it would go round in circles
                    raise tarfile.ReadError(f"'{_shown(info.name)}' ends before it begins")
                last = tar.offset
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse() or info.offset_data + info.size > whole:
                    wrong = ("ends beyond the archive" if info.offset_data + info.size > whole else
                             "a sparse file" if info.issparse() else "a link or device; files are expected")
                    raise tarfile.ReadError(f"it holds '{_shown(info.name)}', {wrong}")
                if _shown(info.name) != info.name:
                    raise tarfile.ReadError(f"it holds '{_shown(info.name)}', a name that no file has")
                yield {"fname": _plain(info.name), "data": (info.offset_data, info.size), "__url__": ""}
            end = tar.offset
        with open(self.path, "rb") as file:
            file.seek(end)
            if len(file.read(BLOCK)) < BLOCK:
                raise tarfile.ReadError("it is cut short: the blocks of zeros at its end are not there")

    def _packed(self) -> str:
        with open(self.path, "rb") as file:
            packed = file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
        return "; it is compressed, and shards are not: unpack it (gunzip, unxz)" if packed else ""


_indexed: dict[str, tuple[tuple[int, int], Shard]] = {}  # as they were when they were looked through


def shard(path: str) -> Shard:
    """The shard of this path, a file; it is looked through once, and again where it has changed."""
    state = os.stat(path)
    mark = state.st_size, state.st_mtime_ns
    if path not in _indexed or _indexed[path][0] != mark:
        _indexed[path] = mark, Shard(Path(path))
    return _indexed[path][1]


def named(root: Path, pattern: str, split: str) -> list[Path]:
    """The shards of a split below a folder: braces in the order that they stand for, other patterns' files by
    name. Raises Error for one that leaves the folder, that is not there, and for patterns that name none."""
    found = meant(root, pattern, split)
    for path in found:
        if not path.is_file():
            others = path.parent.glob(f"*{SUFFIX}")
            near = closest(path.name, (file.name for file in others if file.is_file()))
            raise Error(f"shard {path} is not there, or no file{near}")
    if not found:
        raise Error(f"no shard {root / pattern.replace('{split}', split)} is there")
    return found


def meant(root: Path, pattern: str, split: str) -> list[Path]:
    """The shards that a pattern means, each once; where it counts them, some may not be there."""
    found: list[Path] = []
    for each in _expanded(pattern):
        magic = glob.has_magic(each)
        name = each.replace("{split}", glob.escape(split) if magic else split)
        path = inside(root, name)
        found += [root / file for file in sorted(glob.glob(name, root_dir=root))] if magic else [path]
    return list(dict.fromkeys(found))


def _expanded(pattern: str) -> list[str]:
    """What braces in a pattern stand for; those of {split} stay."""
    try:
        from braceexpand import braceexpand  # WebDataset's own
    except ImportError:
        raise Error(lacking(f"reading the shards {pattern}", "webdataset")) from None
    ranges = re.findall(r"\{(-?\d+)\.\.(-?\d+)", pattern)
    many = math.prod(abs(int(a[:20]) - int(b[:20])) + 1 for a, b in ranges)
    try:
        found = list(itertools.islice(braceexpand(pattern, escape=False), MOST + 1)) if many <= MOST else []
    except (ValueError, RecursionError):
        raise Error(f"the shards '{pattern:.80}' have a brace without its other") from None
    if not 0 < len(found) <= MOST:
        raise Error(f"the shards '{pattern:.80}' are more than {MOST}")
    return found


def _within(path: Path) -> tuple[Shard, str] | None:
    """The shard that a path leads into, and the rest of it; None for other paths."""
    text, at = os.fspath(path), -1
    while (at := text.find(SUFFIX + os.sep, at + 1)) >= 0:
        if os.path.isfile(above := text[: at + len(SUFFIX)]):
            return shard(above), text[len(above) + 1 :].replace(os.sep, "/")
    return None


def opened(path: Path) -> IO[bytes] | None:
    """The bytes of a member of a shard, SHARD.tar/KEY.ENDING; None for a path that leads into none.

    Raises FileNotFoundError where the shard has no such member, and Error where memory has no room for it.
    """
    found = _within(path)
    if not found:
        return None
    folder, slash, last = found[1].rpartition("/")
    key, _, ending = last.partition(".")
    if not (place := found[0].members(f"{folder}{slash}{key}").get(ending)):
        raise FileNotFoundError(f"{path} is not there")
    begin, size = place
    check_room(size, torch.device("cpu"), f"{path} has", "images of such size are to be cut into parts")
    with open(found[0].path, "rb") as file:
        file.seek(begin)
        data = file.read(size)
    if len(data) < size:
        raise Error(f"{path} cannot be read: the shard was cut while it was read")
    return io.BytesIO(data)


def _plain(name: str) -> str:
    """A member's name as part of a path that leads nowhere else."""
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def _shown(name: str) -> str:
    """A member's name as a sentence can hold it: itself, if a file can have it."""
    return name if len(os.fsencode(name)) <= MOST_PATH and "\0" not in name else f"{name[:60]!r}..."
