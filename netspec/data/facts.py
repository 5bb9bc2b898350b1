"""What a net says of the images it was made for: names, colours, mean and range, in the param_str of its data
layer, or of a deploy net's Input layer, in the words of data set files (docs/datasets.md)."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..base.errors import Error
from ..ops.python import ALIASES
from ..ops.settings import read_settings
from ..proto.caffe_pb2 import LayerParameter
from . import boxes, layouts, options
from .detection import DetectionData
from .layouts import LAYOUTS, Facts, Images, Layout
from .options import FOLDER
from .segmentation import RELEASE

RANGE = [0, 255]  # of pixels, before the mean is subtracted
SIDES = 600, 1000  # of R-FCN's release


class Known(NamedTuple):
    """What a net's data layer makes of an image, and the facts of its data set."""

    mean: tuple[float, ...] | None  # BGR; None: not said
    resize: float = 1.0  # of the image's sides
    scale: float = 1.0  # of pixels less the mean
    facts: Facts | None = None
    sides: tuple[int, int] = SIDES  # with boxes: what the shorter side is brought to, and the longer at most
    bands: Images | None = None  # of patches of scenes: the top that is read


def written(layout: Layout, **more: Any) -> dict[str, Any]:
    """The facts of a data set of one's own as param_str has them, for the Input layer of a deploy net."""
    found = layouts.facts(layout)
    lines = [" ".join([name, *map(str, colour)])
             for name, colour in zip(found.names, found.palette.tolist(), strict=True)]
    return {"classes": lines, "void": found.void, "mean": list(found.mean), "range": RANGE} | more


def known(layer: LayerParameter, path: Path) -> Known:
    """What a layer that gives images says of them, without opening its data: they may not be here.

    path: the net's file. Raises Error for a param_str that cannot be read.
    """
    where = f"{path}: layer '{layer.name}'"
    given = _given(layer, where)
    own = {key: given[key] for key in FOLDER if key in given and FOLDER[key][1](given[key])}
    dataset = str(given.get("dataset"))
    found = ALIASES.get((layer.python_param.module, layer.python_param.layer)) is DetectionData
    named = dataset if found and dataset in layouts.BOXED else layouts.nearby(dataset, path.resolve().parent)
    folder, layout_of = (boxes.folder, boxes.layout) if found else (layouts.folder, layouts.layout)
    layout = folder(own, where) if own.get("classes") else layout_of(named) if named else None
    implied = bands = None
    if layout and "dataset" in given:
        tops = given.get("tops")
        tops = tops if isinstance(tops, list | tuple) else ()
        bands = bands_of(layout, tops)
        implied = bands.mean if bands else _mean(layout, tops)
    mean = given.get("mean", implied)
    resize = given.get("resize", 1.0)
    for key, numbers in (("mean", () if mean is None else mean), ("resize", (resize,))):
        if not options.is_list(numbers, options.is_number):
            raise Error(f"{where}: '{key}' of param_str is {given[key]!r}, expected numbers")
    if not 0 < resize <= 8:
        raise Error(f"{where}: 'resize' of param_str is {resize}, expected above 0 to 8")
    sides = given.get("scale", SIDES[0]), given.get("max_size", SIDES[1])
    if not all(type(side) is int and side > 0 for side in sides):
        raise Error(f"{where}: 'scale' and 'max_size' of param_str are {sides}, expected whole numbers "
                    "from 1 on")
    return Known(None if mean is None else tuple(mean), resize, layer.transform_param.scale,
                 layouts.facts(layout) if layout else None, sides, bands)


def _given(layer: LayerParameter, where: str) -> dict[str, Any]:
    """The param_str of a layer, and what it says otherwise, in param_str's words."""
    named = layer.python_param
    try:
        given = read_settings(named.param_str)
    except Error as error:
        raise Error(f"{where}: {error}") from None
    if given is None:
        raise Error(f"{where}: param_str must be a dict such as {{'dataset': 'voc'}}")
    if given.get("range", RANGE) not in (RANGE, tuple(RANGE)):
        raise Error(f"{where}: 'range' of param_str is {given['range']!r}; images have pixels from 0 to 255")
    if release := RELEASE.get((named.module, named.layer)):
        given = {"dataset": release[0]} | given
    if layer.transform_param.mean_value:
        given = {"mean": tuple(layer.transform_param.mean_value)} | given
    return given


def by_name(names: Iterable[str], classes: int) -> tuple[str, Facts] | None:
    """The data set of a released net, which says nothing of it, by a name such as voc-fcn8s; and its facts.

    names: those that the net goes by. It is none whose number of classes is another, nor one whose images are
    not in colours; of several kinds of image the last part of the name says which (nyud-fcn32s-hha).
    """
    for name in names:
        dataset, fcn, rest = name.partition("-fcn")
        if fcn and dataset in LAYOUTS:
            mean, facts = _mean(LAYOUTS[dataset], [rest.rpartition("-")[2]]), layouts.facts(dataset)
            if mean and len(facts.names) == classes:
                return dataset, facts._replace(mean=mean)
    return None


def exported(layers: Sequence[LayerParameter], names: Collection[str], classes: Collection[int],
             path: Path) -> dict[str, Any]:
    """What a net says of its images as other programs may want it: classes, palette (RGB), mean, range and
    order of channels, as lists; only what is known.

    layers: its data layers; of several nothing is said. names, path: as `by_name` and `known` take them.
    classes: the channels of each of its outputs.
    """
    found = Known(None)
    with suppress(Error) if layers and layers[0].type == "Python" else nullcontext():  # it may mean anything
        found = known(layers[0], path) if len(layers) == 1 else found
    guessed = next((guess[1] for n in classes if (guess := by_name(names, n))), None)
    facts, mean = found.facts or guessed, found.mean or guessed and not found.facts and guessed.mean
    told: dict[str, Any] = {}
    if facts and len(facts.names) in classes:
        told |= {"classes": list(facts.names), "palette": facts.palette.tolist()}
    if mean:
        told |= {"mean": list(mean), "range": RANGE, "order": "BGR" if len(mean) == 3 else "grey"}
        told |= {key: value for key in ("scale", "resize") if (value := getattr(found, key)) != 1}
    return told


def bands_of(layout: Layout, tops: Sequence[str] = ()) -> Images | None:
    """Of a data set of patches of scenes the first of `tops` with images, or of all; None of others."""
    found = [kind for top in (*tops, *layout.tops) if isinstance(kind := layout.tops.get(top), Images)]
    return found[0] if layout.patches else None


def _mean(layout: Layout, tops: Sequence[str]) -> tuple[float, ...] | None:
    """The mean of the first of `tops` with images, or of the first that there is; None where these are no
    photographs, since their channels would have to come in another order than BGR."""
    found = [kind for top in tops if isinstance(kind := layout.tops.get(top), Images)]
    images = found[0] if found else layout.first(Images)
    return images.mean if images.order == Images.order else None
