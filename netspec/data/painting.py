"""What people drew, painted and written: palette PNGs, and a data set file where there is none."""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..base.errors import Error, count, listed
from ..base.files import make_folder, staging, writing
from ..base.table import table
from .drawn import Drawing, Picture, is_background
from .images import TURNS
from .labels import REST, VOID, Choices, Planned, Shelf, Tally, Target, judge, numbered
from .layouts import VOID_COLOUR, folder
from .options import read_file


def make_labels(drawing: Drawing, place: Target, choices: Choices,
                step: Callable[[int, int], None]) -> list[str]:
    """Judge, paint and write; what is to be said, in lines. step: called with what is done, of how many.

    Nothing is written before all is painted. Raises Error for what is wrong, and for what only a person can
    say.
    """
    shelf, tally, done = Shelf(place), Tally(), itertools.count(1)

    def stepped() -> None:
        step(next(done), 2 * drawing.number)

    plan = judge(drawing, place, choices, shelf, tally, stepped)
    numbers, rest = numbered(drawing, place, choices, tally)
    there = next(folder for folder in place.label("x").parents if folder.exists())
    with staging(there / "labels") as scratch:
        staged: dict[Path, Path] = {}  # label -> where it waits
        for planned, picture in zip(plan, drawing.pictures(), strict=True):
            if picture.shapes or choices.empty:
                painted = paint(picture, numbers, choices.overlap, tally)
                waiting = staged[place.label(planned.name)] = scratch / f"{len(staged)}.png"
                _save(painted, place, rest, planned.turn, tally, waiting)
            stepped()
        _all_drawn(place, choices, rest, tally)
        text = _described(drawing, place, scratch) if place.new else ""
        lines = _move(staged, choices.overwrite)
    if text:
        with writing(place.file, "w") as file:
            file.write(text)
        lines.append(f"{place.file} is new: it names images, labels and classes")
    return [*_said(drawing, place, choices.overlap, numbers, tally, rest),
            *_pictures(place, choices, plan, shelf), *lines]


def paint(picture: Picture, numbers: Mapping[str, int], overlap: str, tally: Tally) -> np.ndarray:
    """Numbers (H, W), int16, of classes, VOID or REST; numbers: of the tool's classes."""
    label = np.full(picture.size[::-1], REST, np.int16)
    before = tally.overlaps.total()
    for shape in picture.shapes:
        mask, number = shape.mask(), numbers[shape.label]
        for remark in [*shape.remarks, *(["that covers no pixel"] if not mask.any() else [])]:
            tally.remarks.setdefault(remark, []).append(shape.where)
        below = label[mask]
        other = (below != REST) & (below != number)
        found, counts = np.unique(below[other], return_counts=True)
        tally.overlaps.update({(int(old), number): int(n) for old, n in zip(found, counts, strict=True)})
        if overlap == "last":
            label[mask] = number
        elif overlap == "first":
            label[mask] = np.where(below == REST, number, below)
        else:
            label[mask] = np.where(other, VOID, number)
    tally.overlapping += tally.overlaps.total() > before
    return label


def _save(painted: np.ndarray, place: Target, rest: int, turn: int, tally: Tally, file: Path) -> None:
    """Write a painted label, turned back to the stored pixels, as a palette PNG."""
    tally.pixels.update(dict(enumerate(np.bincount(painted.ravel() - REST).tolist(), REST)))
    void = 255 if place.void is None else place.void
    painted[painted == REST] = rest
    painted[painted == VOID] = void
    image = Image.fromarray(painted.astype(np.uint8))
    if turn != 1:
        image = image.transpose(TURNS[{6: 8, 8: 6}.get(turn, turn)])
    palette = np.zeros((256, 3), np.uint8)
    palette[void] = VOID_COLOUR
    palette[: len(place.palette)] = place.palette
    image.putpalette(palette.tobytes())
    image.save(file, "PNG")


def _all_drawn(place: Target, choices: Choices, rest: int, tally: Tally) -> None:
    """Error where pixels have no class, or void, that could stand in the label."""
    bare, void = tally.pixels[REST], tally.pixels[VOID]
    share = f"{100 * bare / max(tally.pixels.total(), 1):.2g} % of the pixels"
    if bare and rest == REST:
        raise Error(f"nothing was drawn on {share}, and {place.file} has no class 'background'; say what "
                    "they are: --rest CLASS, --rest void, or add the class to the list")
    if place.void is None and (void or bare and rest == VOID):
        raise Error(f"{place.file} says that nothing is void, and some pixels are to be; take 'void: None' "
                    "out")
    if place.new and not tally.shapes and not bare:
        raise Error("nothing was drawn: no picture has a shape")
    if place.new and not bare and choices.rest is None and not any(
            tally.pixels[n] for n, name in enumerate(place.names) if is_background(name)):
        raise Error("all pixels were drawn on, so that no 'background' is left for a class; give --rest void")


def _described(drawing: Drawing, place: Target, scratch: Path) -> str:
    """The text of a new data set file, which has been read back."""
    below = place.images.resolve().relative_to(place.file.parent.resolve()).as_posix()
    lines = [f"# classes: where nothing was drawn, then {drawing.tool}'s that were drawn, {drawing.order}",
             f"images: {below}", f"labels: {Path(place.labels).parent.as_posix()}"]
    lines += [" ".join([name, *map(str, rgb)]) for name, rgb in zip(place.names, place.palette, strict=True)]
    text = "\n".join(lines) + "\n"
    trial = scratch / "set.txt"
    trial.write_text(text, encoding="utf-8")
    try:
        given = read_file(trial)
        folder(given, str(place.file))
    except Error as error:
        given = {"classes": [str(error)]}
    read = [" ".join(line.split()[:-3]) for line in given["classes"] if line]
    if read != place.names or given.get("images") != below:
        odd = next((name for name in place.names if name not in read), below)
        raise Error(f"'{odd}' cannot stand in a data set file (no '#', ':' or line ends, single blanks); "
                    "rename the folder, or give a class another name: --as NAME=CLASS")
    return text


def _move(staged: Mapping[Path, Path], overwrite: bool) -> list[str]:
    """Put the labels in their places; Error, and nothing is moved, if other ones are there."""
    there = {path: path.read_bytes() == wait.read_bytes() for path, wait in staged.items() if path.exists()}
    others = [str(path) for path, same in there.items() if not same]
    if others and not overwrite:
        raise Error(f"other labels are there already: {listed(others)}; --overwrite replaces them")
    for path in staged:
        make_folder(path.parent)
    for path, wait in staged.items():
        if not there.get(path):
            os.replace(wait, path)
    same = f", {sum(there.values())} of them there already" if any(there.values()) else ""
    folders = listed(dict.fromkeys(str(path.parent) for path in staged))
    return [f"wrote {count(len(staged), 'label')} into {folders}{same}" if staged else "no label was written"]


def _said(drawing: Drawing, place: Target, overlap: str, numbers: Mapping[str, int], tally: Tally,
          rest: int) -> list[str]:
    """What was drawn, and by which rules it was painted."""
    rows, total = [], max(tally.pixels.total(), 1)
    for number, name in [*enumerate(place.names), (VOID, "(void)")]:
        labels = [label for label in tally.shapes if numbers[label] == number]
        pixels = tally.pixels[number] + (tally.pixels[REST] if number == rest else 0)
        number_drawn = sum(tally.shapes[label] for label in labels)
        others = ", ".join(label for label in labels if label != name) or None
        share = f"{100 * pixels / total:.3f}"
        rows.append([name, number if number >= 0 else place.void, number_drawn, share, others])
    shapes = count(tally.shapes.total(), "shape")
    lines = [f"{drawing.tool}: {shapes} on {count(drawing.number, 'picture')}", "",
             table(rows, ["class", "number", "shapes", "pixels %", "drawn as"]), ""]
    if tally.pixels[REST]:
        lines.append(f"nothing was drawn on {100 * tally.pixels[REST] / total:.3f} % of the pixels: they are "
                     f"{'void' if rest == VOID else repr(place.names[rest])} (--rest CLASS or void)")
    if tally.overlaps:
        names = {VOID: "void"} | dict(enumerate(place.names))
        pairs = listed(f"'{names[b]}' on '{names[a]}' {n}" for (a, b), n in tally.overlaps.most_common(4))
        rule = {"last": "the later shape counts", "first": "the earlier shape counts",
                "void": "they are void"}[overlap]
        where = f"{count(tally.overlaps.total(), 'pixel')} of {count(tally.overlapping, 'picture')}"
        lines.append(f"{where} in shapes of two classes ({pairs}): {rule} "
                     "(--overlap last, first or void)")
    return lines + [f"{count(len(places), 'shape')} {remark}: {listed(places, 4)}"
                    for remark, places in sorted(tally.remarks.items())]


def _pictures(place: Target, choices: Choices, plan: Sequence[Planned], shelf: Shelf) -> list[str]:
    """What is to be said of pictures and images: turned, lost, empty, never drawn on."""
    names = {planned.name for planned in plan}
    empty = "all of it what is where nothing was drawn" if choices.empty else \
        "which gets no label (--empty: all of it what is where nothing was drawn)"
    said = [
        ("picture", "drawn on as the EXIF turn shows it, the label turned back to the stored pixels",
         [each.name for each in plan if each.turn != 1]),
        ("picture", f"not found in {place.images}, so that no EXIF turn could be seen",
         [each.name for each in plan if each.image is None]),
        ("picture", f"without a shape, {empty}", [each.name for each in plan if not each.shapes]),
        ("image", f"of {place.images} not drawn on, without a label: leave it out of the lists",
         [name for name in shelf.known if name not in names]),
    ]
    return [f"{count(len(found), what)} {how}: {listed(found)}" for what, how, found in said if found]
