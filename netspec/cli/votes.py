"""`netspec votes`: R-FCN's figures 3 and 4 of an image."""

import argparse

from ..base.errors import Error
from .finding import find_net, find_weights, is_weights
from .options import add_net_arguments, apart, ending, loaded, wrote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s NET [WEIGHTS] IMAGE --out FILE.png [options]"
    add_net_arguments(parser, "a net that detects, deploy or val; or the name of one in models/")
    parser.add_argument("image", nargs="+", metavar="[WEIGHTS] IMAGE",
                        help="an image, and before it the weights (default: what `netspec weights` has of "
                        "the net's name)")
    parser.add_argument("--out", required=True, metavar="FILE.png", help="to write")
    parser.add_argument("--class", dest="label", metavar="CLASS",
                        help="whose maps, a name or number (default: the class that the net is surest of)")
    parser.add_argument("--region", action="append", type=region, default=[], metavar="X1,Y1,X2,Y2",
                        help="in pixels of the image, from 0; several make a line each (default: the surest "
                        "one proposed, and the same moved by half its width)")


def run(args: argparse.Namespace) -> int:
    from ..look.pictures import save
    from ..net.detections import SCORES, BoxReader
    from ..proto.text import read_net
    from ..score import objects, predict
    from ..score.detect import object_class
    from ..score.frames import picture
    from ..score.votes import drawn, voting

    ending("--out", args.out, ".png")
    path, given = find_net(args.net, "deploy"), None
    if is_weights(args.image[0]):
        given, *args.image = args.image
    if len(args.image) != 1:
        raise Error(f"draws one image, {len(args.image)} given")
    apart("--out", args.out, args.image)
    weights = find_weights(given, path)
    scene = objects.scene(read_net(path), path)
    reader = BoxReader(scene.graph, args.score_blob or SCORES)
    voting(scene.graph, reader.blobs[1])
    looks = predict.looks(scene.known.facts, reader.classes)
    number = None if args.label is None else object_class(args.label, looks, "--class")
    net = loaded(args, scene.graph, weights, given is None)
    image = picture(args.image[0])
    for box in args.region:
        if not (0 <= box[0] <= box[2] < image.width and 0 <= box[1] <= box[3] < image.height):
            raise Error(f"--region {','.join(f'{at:g}' for at in box)}: not in an image of {image.width}x"
                        f"{image.height}, whose pixels are 0 to {image.width - 1}, 0 to {image.height - 1}")
    finder = objects.BoxFinder(net, scene, reader)
    save(args.out, drawn(finder, args.image[0], image, looks, number, args.region))
    wrote(args.out)
    return 0


def region(given: str) -> tuple[float, ...]:
    """Four numbers with commas between them; ValueError, which argparse words, for anything else."""
    found = tuple(float(word) for word in given.split(","))
    if len(found) != 4:
        raise ValueError(given)
    return found
