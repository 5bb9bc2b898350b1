"""`netspec studies`: the papers' studies, each with a figure."""

import argparse
from pathlib import Path

from ..base.errors import Error, count
from ..base.files import writing
from ..papers.plans import STUDIES
from .options import BESIDE, add_device_arguments, renamed, settings, wrote
from .terminal import say, show

QUICK = 60  # iterations
RFCN = "rfcn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s NAME [options]"  # --seed takes all that follows
    parser.add_argument("study", choices=(*STUDIES, "all", RFCN), metavar="NAME",
                        help=f"{', '.join(STUDIES)}, or all of these; {RFCN}: k and OHEM, on shapes")
    parser.add_argument("--family", default="shapes", metavar="NAME",
                        help="a data set of models/fcn.py with solvers (default shapes)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--budget", type=int, metavar="N",
                        help="iterations of the 32s; other runs in proportion (default: the solvers' own)")
    budget.add_argument("--quick", action="store_const", const=QUICK, dest="budget",
                        help=f"--budget {QUICK}: minutes on shapes")
    seed = parser.add_argument("--seed", type=_seeds, nargs="+", default=[[1]], metavar="N",
                               help="random_seed of the runs; several: each run once for each (default 1)")
    renamed(parser, "--seeds", seed)
    parser.add_argument("--out", type=Path, default=Path("studies"), metavar="DIR",
                        help="for the runs, which an interrupted command goes on with (default studies)")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="gets what is printed, a folder of the "
                        "same name beside it the pictures (default OUT/FAMILY.md)")
    add_device_arguments(parser, BESIDE)


def _seeds(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]  # --seeds 1,2,3 is how it was given before


def run(args: argparse.Namespace) -> int:
    from ..base.machine import origin
    from ..papers.studies import Place, run_study

    if args.budget is not None and args.budget < 1:
        raise Error(f"--budget must be at least 1, found {args.budget}")
    seeds = [seed for given in args.seed for seed in given]
    if args.study == RFCN:
        return _rfcn(args, seeds)
    page = args.page or args.out / f"{args.family}.md"
    places = [Place(args.family, args.budget, seed, settings(args), args.out) for seed in seeds]
    said, iterations = origin(), args.budget or places[0].first
    parts = [f"# The papers' studies on {args.family}",
             f"Budget: {count(iterations, 'iteration')} of the 32s and the others in the solvers' "
             f"proportion; random_seed {', '.join(map(str, seeds))} (fillers and draws; the images' "
             "order is one). Seconds are of the processor on a CPU, over all threads, of the clock on a GPU; "
             "losses and "
             "seconds are the first seed's. One budget and one data set: what a study shows here, it shows "
             "here.",
             f"`{said['command']}`", f"{said['device']}; {said['date']}; {said['netspec']}"]
    show("\n\n".join(parts))
    for name in STUDIES if args.study == "all" else [args.study]:
        parts.append(run_study(name, places, page.with_suffix("") / f"{name}.png"))
        show(f"\n{parts[-1]}")
        with writing(page, "w") as file:
            file.write("\n\n".join(parts) + "\n")
    say("")
    wrote(page, page.with_suffix(""))
    return 0


def _rfcn(args: argparse.Namespace, seeds: list[int]) -> int:
    from ..base.machine import origin
    from ..papers.objects import Place, study

    page, said = args.page or args.out / f"{RFCN}.md", origin()
    folder = args.out / f"{RFCN}-{args.budget or 'whole'}"
    places = [Place(folder, seed, settings(args), args.budget) for seed in seeds]
    found = study(places, say)
    parts = ["# R-FCN on shapes: k and OHEM", f"End to end, on the held-out images; random_seed "
             f"{', '.join(map(str, seeds))}; AP is the area under the curve, in percent.", found,
             f"`{said['command']}`", f"{said['device']}; {said['date']}; {said['netspec']}"]
    show(f"\n{found}\n")
    with writing(page, "w") as file:
        file.write("\n\n".join(parts) + "\n")
    wrote(page)
    return 0
