"""Small training jobs for tests: a folder with data, net and solver, and the solve command as a process."""

import io
import os
from contextlib import redirect_stderr
from pathlib import Path

import h5py
import numpy as np
from google.protobuf import text_format
from PIL import Image
from programs import PROJECT, Program, run

from netspec.cli.main import main
from netspec.proto import caffe_pb2
from netspec.train.solver import Solver

CLASSES = 4
SOLVER = """net: "net.prototxt" base_lr: 0.05 lr_policy: "step" gamma: 0.5 stepsize: 7 momentum: 0.9 weight_decay: 0.001
max_iter: 12 snapshot: 3 snapshot_prefix: "run/snap" random_seed: 5 solver_mode: CPU"""
HDF5 = """layer { name: "data" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param { source: "data.txt" batch_size: 2 shuffle: true } }"""
VOC = """layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "netspec.datasets"
  layer: "SegmentationData" param_str: "dict_here" } }"""
BODY = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.02 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_param { ignore_label: 255 } }
"""
STILL = BODY.replace('layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }', "")  # with nothing drawn


def rows(size):
    """HDF5Data of so many rows a batch, in their order."""
    return HDF5.replace("batch_size: 2 shuffle: true", f"batch_size: {size}")


def write_hdf5(folder, items=7, size=(8, 9), bad=None):
    """data.h5 and data.txt: images of normal noise, labels of 4 classes and 255."""
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 1, 2, 3, 255], (items, 1, *size)).astype(np.float32)
    if bad is not None:
        labels[0, 0, 0, :3] = bad
    with h5py.File(folder / "data.h5", "w") as file:
        file["data"] = rng.standard_normal((items, 3, *size)).astype(np.float32) * 20
        file["label"] = labels
    (folder / "data.txt").write_text("data.h5\n")


def write_voc(folder, count=4):
    """images/ in VOC's layout, images of different sizes with blocks of classes 0..3 and void."""
    rng = np.random.default_rng(4)
    root = folder / "images"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    names = [f"im{i}" for i in range(count)]
    for i, name in enumerate(names):
        size = (11 + i, 14 - i)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / f"JPEGImages/{name}.jpg", quality=95)
        label = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), size)
        Image.fromarray(label).save(root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(names) + "\n")


def write_job(folder, solver=SOLVER, body=BODY, data=HDF5, name="solver.prototxt", net="net.prototxt"):
    """The job's files in a folder; the solver's path."""
    if "HDF5Data" in data and not (folder / "data.h5").exists():
        write_hdf5(folder)
    if "SegmentationData" in data and not (folder / "images").exists():
        write_voc(folder)
    options = dict(dataset="voc", root="images", split="train", mean=(104, 117, 123), seed=11, overlap=True)
    (folder / net).write_text('name: "tiny"\n' + data.replace("dict_here", str(options).replace('"', "'")) + body)
    (folder / name).write_text(solver)
    return folder / name


def solver_param(text):
    return text_format.Parse(text, caffe_pb2.SolverParameter())


def changed(*settings):
    """SOLVER with some fields given anew, later ones last."""
    param = solver_param(SOLVER)
    for text in settings:
        param.MergeFrom(solver_param(text))
    return str(param)


def make_solver(text, **options):
    return Solver(solver_param(text), **options)


def params_of(solver):
    """key -> a copy of the parameter."""
    return {slot.key: p.detach().clone().numpy() for slot, p in solver.net.parameters_by_slot()}


def same(a, b):
    """Bit for bit."""
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], err_msg=key)


def solved(folder, *more):
    """What the solve command says of solver.prototxt in a folder: for a job that several tests begin with."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with redirect_stderr(io.StringIO()) as said:
            assert main(["solve", "solver.prototxt", *more]) == 0, said.getvalue()
    finally:
        os.chdir(before)
    return said.getvalue()


def write_tested(folder):
    """A training that has ended, with tests of images: solver, nets, images/, run/run.log and snapshots; the folder."""
    solver = SOLVER.replace('net: "net.prototxt"', 'train_net: "train.prototxt" test_net: "val.prototxt" test_iter: 4 test_interval: 6 display: 3')
    settings = dict(dataset="voc", root="images", split="train", mean=(104, 117, 123), seed=11)
    for net, more in (("train", {}), ("val", dict(randomize=False, overlap=True))):
        write_job(folder, solver, data=VOC.replace("dict_here", str(settings | more).replace('"', "'")), net=f"{net}.prototxt")
    solved(folder, "--log", "run/run.log")
    return folder


def start(folder, *args, **options):
    """tools/solve.py as a process, its standard output and error on pipes."""
    return Program(PROJECT / "tools/solve.py", *args, cwd=folder, **options)


def solve(folder, *args):
    """(exit status, standard error) of tools/solve.py."""
    done = run(PROJECT / "tools/solve.py", *args, cwd=folder)
    return done.returncode, done.stderr
