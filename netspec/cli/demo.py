"""`netspec demo`: train stages, score them, show them side by side."""

import argparse
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import Error, count
from .finding import find_solver
from .options import BESIDE, add_device_arguments, settings
from .terminal import say, show

if TYPE_CHECKING:
    from ..data.segmentation import SegmentationData

STAGES = ("shapes-fcn32s", "shapes-fcn16s", "shapes-fcn8s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [SOLVER ...] [options]"  # --seed takes all that follows
    parser.add_argument("solver", nargs="*", metavar="SOLVER",
                        help="stages (default: the embedded data set's 32s, 16s, 8s); each needs a "
                        "test.prototxt, or val.prototxt, beside its train net")
    parser.add_argument("--detection", action="store_true", help="a small R-FCN, end to end and "
                        "in the four steps of alternating training, in place of stages")
    parser.add_argument("--clouds", action="store_true", help="scenes with clouds, which `netspec data "
                        "clouds` makes: 32s, 16s, 8s, scored by the scene, in place of stages")
    parser.add_argument("--sigmoid", action="store_true", help="with --clouds: nets of one map and a sigmoid")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR",
                        help="for weights, predictions and pictures (default demo)")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], metavar="N",
                        help="random_seed; several: one run each")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="images in the picture (default 3)")
    add_device_arguments(parser, BESIDE)


def run(args: argparse.Namespace) -> int:
    if args.sigmoid and not args.clouds:
        raise Error("--sigmoid goes with --clouds")
    if args.detection or args.clouds:
        own = "--detection" if args.detection else "--clouds"
        if args.solver or args.detection and args.clouds:
            raise Error(f"{own} has its own solvers; leave '{[*args.solver, '--clouds'][0]}' out")
        return (_detection if args.detection else _clouds)(args)
    from ..papers.demo import draw_stages, keep, over_seeds, run_stages
    from ..score.summary import measures

    begun = time.monotonic()
    solvers = list(map(find_solver, args.solver or STAGES))
    said = settings(args)
    runs = {seed: run_stages(solvers, seed, args.out / f"seed{seed}", said, say, turn, len(args.seed))
            for turn, seed in enumerate(args.seed)}
    stages = runs[args.seed[0]]
    data = stages[0].data
    for seed, found in runs.items():
        say("", f"{count(len(data), 'image')}, '{data.split}' of '{data.dataset}', random_seed {seed}, in "
            "percent", "")
        show(measures([(stage.name, stage.scores) for stage in found]))
    if len(runs) > 1:
        say("", f"mean IU in percent over random_seed {', '.join(map(str, runs))}", "")
        show(over_seeds(list(runs.values())))
    path = args.out / "stages.png"
    others = ", ".join(draw_stages(path, stages, args.rows))
    say("", f"picture      {path}" + (f", without {others}, of other images" if others else ""))
    for stage in stages:
        say(f"{stage.name:<12} weights {stage.weights}, predictions {stage.predictions}")
    left = ", ".join(keep(stages, said))
    say(f"records      {said.results}, which netspec tables shows: seed {args.seed[0]}'s"
        + (f", without {left}: records of other weights are there" if left else ""))
    say(f"to look at   {shlex.join(['netspec', 'serve', str(args.out), *_images(data)])}")
    say(f"{time.monotonic() - begun:.0f} s in all")
    return 0


def _images(data: "SegmentationData") -> list[str]:
    """The folder of the images that were scored, for a page; none where they lie in several."""
    folders = {data.paths(number)[0].parent for number in range(len(data))}
    here = Path.cwd()
    return [str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
            for folder in folders if len(folders) == 1]


def _detection(args: argparse.Namespace) -> int:
    from ..look import pictures
    from ..papers import objects
    from ..score.boxscore import BoxResult, BoxScoring, sheet

    begun, rows, picture = time.monotonic(), [], args.out / "detections.png"

    def draw(scoring: BoxScoring, result: BoxResult) -> None:
        pictures.save(picture, sheet(scoring.source, result, args.rows))

    for seed in args.seed:
        place = objects.Place(args.out, seed, settings(args))
        for way in objects.WAYS:
            since = time.monotonic()
            found = place.scored(objects.NAME, way, draw)
            rows.append((f"{way}, seed {seed}" if len(args.seed) > 1 else way, found))
            say(f"{way}: weights {found['weights']}, {time.monotonic() - since:.0f} s")
    say("", f"{count(rows[0][1]['images'], 'image')}, average precision in percent", "")
    show(objects.measures(rows))
    say("", f"picture      {picture}, the images with the most mistakes of the last")
    say(f"{time.monotonic() - begun:.0f} s in all")
    return 0


def _clouds(args: argparse.Namespace) -> int:
    from ..base.machine import choose, origin
    from ..look import pictures
    from ..papers import clouds, record
    from ..papers.demo import train_stages
    from ..score.scenescore import SceneScoring
    from ..score.scenesheet import sheet

    begun, said, runs = time.monotonic(), settings(args), []
    solvers, other = list(map(find_solver, clouds.STAGES)), clouds.one_map if args.sigmoid else None
    for turn, seed in enumerate(args.seed):
        out = args.out / f"seed{seed}"
        for stage in train_stages(solvers, seed, out, said, say, turn, len(args.seed), other):
            runs.append(clouds.run_of(seed, clouds.scored(stage, out, said),
                                      clouds.scored(stage, out, said, clouds.NEIGHBOURS)))
    scoring = SceneScoring(stage.made)
    best = clouds.brightest(scoring)
    for seed in args.seed:
        say("", f"{count(len(scoring.scenes), 'scene')}, protocol {scoring.protocol}, random_seed {seed}, in "
            "percent, cloud above 12/255 / 0.5;",
            "and the best that brightness alone does on these scenes", "")
        show(clouds.measures([run for run in runs if run["seed"] == seed], best))
    over = f", random_seed {', '.join(map(str, args.seed))}: mean (least to most)" if args.seed[1:] else ""
    say("", f"where the threshold lies{over}", "")
    show(clouds.thresholds(runs))
    say("", f"borders between patches{over}; with neighbours: {clouds.NEIGHBOURS} pixels on all sides", "")
    show(clouds.borders(runs))
    names = list(dict.fromkeys(run["net"] for run in runs))
    kept, picture = (args.out / f"{names[0].rpartition('-')[0]}.{end}" for end in ("json", "png"))
    record.write(kept, {"clouds": runs, "baseline": best, "origin": origin(choose(args.device))})
    pictures.save(picture, sheet(scoring, {name: args.out / f"seed{args.seed[0]}" / name
                                           for name in names[::2]}))
    say("", f"picture      {picture}, masks above 12/255", f"record       {kept}")
    say(f"{time.monotonic() - begun:.0f} s in all")
    return 0
