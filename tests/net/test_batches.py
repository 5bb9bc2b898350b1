"""Data layers as torch's data sets: a batch is a function of its position, however many load."""

import itertools
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from programs import SERVER
from torch.utils.data import DataLoader, IterableDataset
from training import BODY, VOC, write_job

import netspec
from netspec.base.errors import Error
from netspec.data.feed import Batches
from netspec.net.build import load
from netspec.net.module import Net
from netspec.proto.caffe_pb2 import TEST, TRAIN
from netspec.proto.text import read_net, read_solver

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 4, 4] } } }'
DATA = {"HDF5Data": None, "SegmentationData": VOC}


@pytest.fixture(params=DATA)
def net(request, tmp_path, monkeypatch):
    """A prototxt in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, **{"data": DATA[request.param]} if DATA[request.param] else {})
    return "net.prototxt"


def taken(batches, count=12):
    return [{blob: tensor.clone() for blob, tensor in batch.items()} for batch in itertools.islice(batches, count)]


def same(ours, expected):
    assert len(ours) == len(expected)
    for mine, other in zip(ours, expected, strict=True):
        assert mine.keys() == other.keys() and all(torch.equal(mine[blob], other[blob]) for blob in other)


def fed(net, seed, count=12):
    """The batches of `solve`."""
    graph = load(net, TRAIN)
    for source in graph.readers:
        if "seed" not in vars(source):
            source.seed = seed
    data = Batches(graph.readers, torch.device("cpu"), workers=0)
    return [data.next() for _ in range(count)]


def test_they_are_those_of_solve(net):
    dataset = netspec.batches(net, seed=7)
    assert isinstance(dataset, IterableDataset)
    same(taken(dataset), fed(net, 7))
    for given in (load(net, TRAIN), Net(load(net, TRAIN)), pickle.loads(pickle.dumps(dataset))):
        same(taken(given if isinstance(given, IterableDataset) else netspec.batches(given, seed=7)), fed(net, 7))
    same([dataset.at(5), dataset.at(2)], [fed(net, 7)[5], fed(net, 7)[2]])


@pytest.mark.parametrize("workers, start", [(0, None), (1, "fork"), (2, "fork"), (2, SERVER)])  # which is sent it, as a spawned one
def test_workers_give_each_batch_once_and_in_order(net, workers, start):
    options = {"multiprocessing_context": start} if start else {}
    dataset = netspec.batches(net, seed=7, count=7)
    same(taken(DataLoader(dataset, batch_size=None, num_workers=workers, **options), 99), fed(net, 7, 7))


def test_processes_take_turns(net):
    whole = fed(net, 0)
    for rank in range(3):
        part = netspec.batches(net, first=rank, step=3, count=4)
        same(taken(DataLoader(part, batch_size=None, num_workers=2), 99), whole[rank::3])


def test_they_end_where_they_are_told(net):
    assert not taken(netspec.batches(net, count=0)) and len(taken(netspec.batches(net, count=5), 99)) == 5
    assert len(taken(netspec.batches(net), 50)) == 50
    assert netspec.batches(net).epoch == 4  # 7 arrays in twos, 4 images


def test_a_graph_that_others_read_from_keeps_its_seed(net):
    graph = load(net, TRAIN)
    before = [dict(vars(source)).get("seed") for source in graph.readers]
    taken(netspec.batches(graph, seed=99), 2)
    assert [dict(vars(source)).get("seed") for source in graph.readers] == before


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, data=VOC)
    dataset = netspec.batches("net.prototxt")
    for image in (tmp_path / "images/JPEGImages").iterdir():
        image.unlink()
    for workers in (0, 1):
        with pytest.raises(Error, match=r"JPEGImages/im\d.jpg"):
            taken(DataLoader(dataset, batch_size=None, num_workers=workers), 1)


def test_a_net_without_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, data=INPUT, body=BODY.partition('layer { name: "loss"')[0])
    with pytest.raises(Error, match=r"layer 'data' \(Input\): is filled by the caller; there is nothing to load"):
        netspec.batches("net.prototxt")
    write_job(tmp_path, data='layer { name: "d" type: "DummyData" top: "data" include { phase: TEST } '
              'dummy_data_param { shape { dim: [1, 3, 4, 4] } } }', body="")
    assert taken(netspec.batches(read_net("net.prototxt"), TEST), 2)
    with pytest.raises(Error, match="net 'tiny' has no data layer"):
        netspec.batches("net.prototxt")


def test_a_name_is_a_net_in_programs_as_in_commands(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("NETSPEC_MODELS", str(tmp_path))
    monkeypatch.chdir(tmp_path / "mine")
    write_job(tmp_path / "mine")
    for kind in ("train", "val", "deploy"):
        shutil.copy("net.prototxt", f"{kind}.prototxt")
    monkeypatch.chdir(tmp_path)
    expected = fed(tmp_path / "mine/net.prototxt", 7, 3)
    for given in ("mine", "mine/train", "mine/train.prototxt", Path("mine/train.prototxt")):
        same(taken(netspec.batches(given, seed=7), 3), expected)
    Path("mine/train.prototxt").unlink()
    with pytest.raises(Error, match=r"net 'mine' has no train.prototxt in .* \(there are mine/deploy"):
        netspec.batches("mine")
    assert taken(netspec.batches("mine", TEST), 1)
    for given in ("mine", "mine/val", "mine/net.prototxt"):
        assert netspec.build(given).name == netspec.deploy(given).name == "tiny"
    for function in (netspec.build, netspec.deploy, netspec.batches):
        with pytest.raises(Error, match="'voc-fcn8' is not there .*did you mean 'voc-fcn8s'"):
            function("voc-fcn8")


def test_a_solver_goes_by_its_name_in_programs():
    net = Net(netspec.deploy("shapes-fcn8s"))
    made, _ = netspec.optimizer(net, "shapes-fcn8s")
    assert made.solver.max_iter == read_solver("solvers/shapes-fcn8s.prototxt").max_iter
    with pytest.raises(Error, match="did you mean 'shapes-fcn8s'"):
        netspec.optimizer(net, "shapes-fcn8")
