"""Which data is meant by a net, a solver, a folder or a data set file that is to be checked."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..base.errors import Error
from ..base.files import inside
from ..base.trust import Untrusted
from ..data.detection import DetectionData
from ..data.get import obtained
from ..data.layouts import BOXED, LAYOUTS
from ..data.options import read_file
from ..data.pictured import Pictured
from ..data.segmentation import SegmentationData
from ..data.tree import there
from ..ops.base import REGISTRY, Context
from ..proto.caffe_pb2 import TEST, TRAIN, LayerParameter, Phase
from ..train.jobs import OpenedNet, of_file
from .own import misnamed

Read = TypeVar("Read", bound=Pictured)
# the splits of a folder that are tried, the 2nd to 5th only where none is there yet
SPLITS = ("train", "trainval", "training", "all", "additional", "val", "test")


def about_boxes(path: Path) -> bool:
    """Whether a data set file, or a net or solver, is about boxes."""
    if path.is_dir():
        return False
    if path.suffix == ".txt":
        return "boxes" in read_file(path)
    nets = [job.opened(path.resolve().parent).net for job in of_file(path)[0]]
    layers = [layer for net in nets for layer in net.layer if not layer.bottom and layer.type == "Python"]
    found = False
    for layer in layers:
        with suppress(Untrusted):  # which `sources` tells
            found |= issubclass(REGISTRY["Python"].resolve(layer, f"{path}: "), DetectionData)
    return found


def sources(path: Path, dataset: str | None, of: type[Read]
            ) -> tuple[list[Read], list[OpenedNet], list[str]]:
    """The data of a net, of a solver's nets, of a folder or of a data set file, as `of` reads it.

    With them the nets, and sentences about what is not checked.
    """
    if path.is_dir() or path.suffix == ".txt":
        return _on_disk(path, dataset, of), [], []
    jobs, solver = of_file(path)
    nets = [job.opened(path.resolve().parent) for job in jobs]
    kinds: set[type] = set()
    found: dict[tuple, Read] = {}  # by phase: a list may be trained on and scored
    passed: dict[str, None] = {}
    untrusted: list[Error] = []
    for each in nets:
        file = each.path or path
        for layer in each.net.layer:
            if layer.bottom or layer.type not in REGISTRY:
                continue
            try:
                kind = REGISTRY[layer.type].resolve(layer, f"{file}: ")
            except Untrusted as error:
                untrusted.append(error)
                continue
            kinds.add(kind)
            if issubclass(kind, of):
                made = kind(layer, (), Context(each.state.phase, file.resolve().parent, f"{file}: "))
                if not solver:  # a net may be for either
                    made.context = replace(made.context, phase=_phase(made.split))
                found.setdefault((each.state.phase, mark(made)), made)
            else:
                passed[f"{file}: layer '{layer.name}' ({layer.type}) is not checked: it is no "
                       f"{of.__name__}"] = None
    if not found and untrusted:
        raise untrusted[0]
    if not found:
        lacking = [kind for kind in (SegmentationData, DetectionData) if kind not in kinds]
        raise Error(f"{path}: has no layer of {' or '.join(kind.__name__ for kind in lacking)}, whose images "
                    f"and {' or '.join(f'{kind.truth[0]}s' for kind in lacking)} could be checked")
    return list(found.values()), nets, [*passed, *dict.fromkeys(map(str, untrusted))]


def mark(source: Pictured) -> tuple:
    """Equal where the images are."""
    return source.dataset, source.root.resolve(), *source.names


def _on_disk(path: Path, dataset: str | None, of: type[Read]) -> list[Read]:
    """The splits of a folder or data set file; what a folder is, its path tells where it is not said."""
    folders = {*path.absolute().parts, *path.resolve().parts}
    sets = BOXED if issubclass(of, DetectionData) else LAYOUTS
    likely = [name for name, known in sets.items() if Path(known.root).parts[1] in folders]
    if path.is_dir() and not dataset and len(likely) != 1:
        raise Error(f"{path}: name its data set by --dataset ({', '.join(sets)}, or a data set file)")
    dataset = dataset or (likely[0] if path.is_dir() else str(path))
    found, errors, layout = list[Read](), list[Error](), of.layout_of(dataset)
    for split in SPLITS:
        of_all = split == "all" or "{split}" in layout.shards or not layout.shards
        if found and split in SPLITS[1:5] or layout.shared(split) or not of_all:
            continue
        param = {"dataset": dataset, "split": split} | ({"root": str(path)} if path.is_dir() else {})
        layer = LayerParameter(name=dataset, type="Python", top=of.usual_tops(dataset, split))
        layer.python_param.param_str = str(param)
        try:
            found.append(of(layer, (), Context(_phase(split))))
        except Error as error:
            if there(layout, path if path.is_dir() else path.parent, split):
                raise
            errors.append(error)
    if found:
        return found
    if layout.facts:
        raise Error(f"{path}: no split of data set '{dataset}' has a list there (tried: "
                    f"{', '.join(SPLITS)}){obtained(dataset)}")
    raise errors[0]


def unlisted(path: Path, dataset: str | None) -> list[tuple[str, str]]:
    """A finding where the data set file that is meant names lists, and none is there. Error where one differs
    from what is there in capitals alone."""
    dataset = dataset or str(path)
    on_disk = path.is_dir() or path.suffix == ".txt"
    pattern = read_file(Path(dataset)).get("lists") if on_disk and dataset.endswith(".txt") else None
    if not pattern:
        return []
    root = path if path.is_dir() else path.parent
    lists = [inside(root, pattern.format(split=split)) for split in SPLITS]
    if any(file.is_file() for file in lists):
        return []
    misnamed(dataset, lists, root)
    return [("unlisted", f"{dataset}: 'lists: {pattern}' (tried: {', '.join(SPLITS)}); what was found "
             "without them is checked")]


def _phase(split: str) -> Phase:
    """What a split is for, by its name."""
    return TRAIN if "train" in split or split in ("all", "additional") else TEST


def has_images(source: Pictured) -> bool:
    """Whether a single image of a source is there."""
    tops = [top for top in source.tops_read if top not in source.labels]
    return any(len(tree.lacking(top, split, name)) < len(tree.files(top, split, name))
               for tree, split, name in source.entries for top in tops)
