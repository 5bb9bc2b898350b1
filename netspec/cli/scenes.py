"""`netspec infer` of nets that read patches of scenes: whole scenes in, masks that lie as they do."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..base import log
from ..base.errors import Error, listed
from ..data.layouts import LAYOUTS, Facts, Images, facts
from .options import engine, fraction, loaded
from .telling import Telling, files_of, shares

if TYPE_CHECKING:
    from ..data.geotiff import SceneFiles
    from ..net.graph import Graph
    from ..proto.caffe_pb2 import NetParameter

# options of `netspec infer` that scenes have nothing for
STRANGE = "alpha", "cutout", "classes", "samples", "seed", "tile", "dense", "names", "voc", "nms", "most"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--protocol", default="38cloud", metavar="NAME", help="nets of patches of scenes, "
                        "which take GeoTIFFs and give NAME_cloud.tif, with --scores also "
                        "NAME_probability.tif: as in `netspec score`")
    parser.add_argument("--bands", metavar="BAND,...", help="scenes: which bands a file that has them all "
                        "holds, in its order, such as red,green,blue,nir (- for others)")


def wanted(args: argparse.Namespace, net: "NetParameter", path: Path) -> bool:
    """Whether a net is for scenes: it, or a person, says that its data are patches of them."""
    from ..net.deploy import scored
    from ..score.predict import image_net

    if args.dataset in LAYOUTS:
        return bool(LAYOUTS[args.dataset].patches)
    try:
        _, _, channels, known = image_net(net, args.score_blob or scored(net), path)
    except Error:  # those that segment say it
        return False
    return known.bands is not None or channels == 4


def run(args: argparse.Namespace, path: Path, weights: Path, proto: "NetParameter", told: Telling) -> int:
    from ..data import geotiff
    from ..net.deploy import scored
    from ..score import predict, scenefiles
    from ..score.averaged import looked
    from ..score.scenes import THRESHOLDS
    from ..score.wholescene import SceneNet, protocol

    blob, chosen = args.score_blob or scored(proto), protocol(args.protocol)
    order = geotiff.parse_bands(args.bands) if args.bands else None
    threshold = THRESHOLDS[0] if args.threshold is None else _threshold(args.threshold)
    reading = _reading(args, path, proto, blob, chosen.side)
    ends = {"mask": "_cloud.tif"} | ({"scores": "_probability.tif"} if args.scores else {})
    files = _scenes(args, told, [*ends.values()])
    using = engine(args, weights, told.note)
    if files:
        geotiff.library()
        net = loaded(args, reading.made, weights, args.by_name)
        viewer = SceneNet(reading.made, looked(net, blob, args.scales, args.flip, using), blob, reading.top,
                          reading.mean, chosen)
        kept = scenefiles.Wanted(reading.bands, order, threshold, predict.looks(reading.facts, 2),
                                 Path(args.out), ends)
        with closing(log.make()) as said:
            told.all(scenefiles.segmented(files, viewer, kept, lambda done, total, scene: said.progress(
                "infer", done, total, scene, 1)), shares)
    for found in told.found:
        if not found["placed"]:
            told.note(f"{found['image']} does not say where it lies, so neither does its mask")
    return told.end({"net": str(path), "weights": str(weights), "protocol": args.protocol,
                     "threshold": threshold})


class _Reading(NamedTuple):
    """What a net makes of a scene's patches."""

    made: "Graph"
    top: str
    bands: Images
    mean: Sequence[float]
    facts: Facts


def _reading(args: argparse.Namespace, path: Path, proto: "NetParameter", blob: str, side: int) -> _Reading:
    from ..data.facts import bands_of
    from ..net import judged
    from ..score import predict

    pruned, top, channels, known = predict.image_net(proto, blob, path)
    bands = bands_of(LAYOUTS[args.dataset]) if args.dataset else known.bands
    told = facts(args.dataset) if args.dataset else known.facts
    if bands is None or told is None:
        sets = " or ".join(name for name, each in LAYOUTS.items() if each.patches)
        raise Error(f"{path} reads {channels} channels and does not say of which data set; give --dataset "
                    f"{sets}")
    mean = args.mean or known.mean or bands.mean
    if not len(mean) == len(bands.files) == channels:
        raise Error(f"{path} reads {channels} channels; its data set has {len(bands.files)} bands and the "
                    f"mean {len(mean)} numbers: --dataset and --mean say what is right")
    made = predict.fitted(pruned, top, channels, (side, side), path)
    if (found := judged.channels(made, blob)) not in (1, 2):
        raise Error(f"blob '{blob}' of {path} has {found} channels; cloud is told by two, clear and cloud, "
                    "or by one")
    if found == 1 and (args.flip or args.scales != (1.0,)):
        raise Error("--scales and --flip average the probabilities of classes, and the net has one map")
    return _Reading(made, top, bands, mean, told)


def _scenes(args: argparse.Namespace, told: Telling, ends: Sequence[str]) -> "list[SceneFiles]":
    """The scenes whose files are named; what is besides is said. Error where a result would come over one,
    and for --bands of no file."""
    from ..data import geotiff

    found, others = geotiff.scenes(files_of(args.image, Path(args.out), told))
    if others:
        told.note(f"left out, being of other bands or no TIFFs: {listed(others)}")
    if not found and not told.errors:
        raise Error(f"no scene is among {listed(args.image)}; a scene is a GeoTIFF of all bands, or one of "
                    "each, such as SCENE_B2.TIF to SCENE_B5.TIF")
    if args.bands and found and all(each.bands for each in found):
        raise Error("--bands: says what is in a file of all bands, and none is given")
    read = {path.resolve() for each in found for path in each.paths}
    for each in found:
        for end in ends:
            if (place := Path(args.out, each.name + end)).resolve() in read:
                raise Error(f"{place} is read here, and would be written over; give another --out")
    return found


def _threshold(given: str) -> float:
    """A probability, below 1, of --threshold's."""
    try:
        found = fraction(given)
    except argparse.ArgumentTypeError as error:
        raise Error(f"--threshold: {error}") from None
    if found == 1:
        raise Error("--threshold 1: is from 0 to below 1")
    return found
