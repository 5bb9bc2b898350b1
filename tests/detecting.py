"""Small detection jobs for tests: a few images of shapes, and R-FCN's nets for them."""

import sys
from pathlib import Path

import programs
from training import solver_param

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "models"))

import rfcn  # noqa: E402 - the path comes first

from netspec.proto import text as prototext  # noqa: E402

SOLVER = 'base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 snapshot: 2 random_seed: 3 max_iter: 3'


def draw(root, train=4, val=1):
    """Make the shapes data with so many images in a folder."""
    done = programs.run(ROOT / "data/shapes/prepare.py", "--root", root, "--train", train, "--val", val, cwd=".")
    assert done.returncode == 0, done.stderr


def write_net(name, split="train"):
    """models/NAME/SPLIT.prototxt in the current folder; its path."""
    path = Path(f"models/{name}/{split}.prototxt")
    prototext.write(path, rfcn.generate(name, split))
    return str(path)


def solver(name, split="train", prefix="run", **lists):
    """A SolverParameter for a net's split. lists: of repeated fields, the values."""
    param = solver_param(f'train_net: "{write_net(name, split)}" snapshot_prefix: "{prefix}" {SOLVER}')
    for key, values in lists.items():
        getattr(param, key).extend(values)
    return param
