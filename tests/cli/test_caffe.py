"""Caffe's programs by their flags: what they write is held against bytes and numbers worked out here."""

import io
import os
import re
import signal
import struct
import sys
import time
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pytest
import torch
from PIL import Image
from training import BODY, SOLVER, write_job

from netspec.base.errors import Error
from netspec.cli import caffe
from netspec.cli.main import main
from netspec.data import databases
from netspec.proto.caffe_pb2 import BlobProto, Datum, NetParameter, SolverParameter
from netspec.proto.model import read_weights, write_weights
from netspec.proto.text import parse
from netspec.train.stopping import EFFECTS, stopping

LINE = re.compile(r"[IWE]\d{4} [\d:.]+ +\d+ (\S+\.cpp:\d+)\] (.*)")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(capsys, *words):
    """The lines that a program logs; it ends with status 0."""
    capsys.readouterr()
    status, err = main(["caffe", *map(str, words)]), capsys.readouterr().err
    assert status == 0, err
    return [LINE.fullmatch(line)[2] for line in err.splitlines() if LINE.fullmatch(line)]


def refused(capsys, *words):
    """The one sentence with which a program ends; it leaves nothing half written."""
    capsys.readouterr()
    status, err = main(["caffe", *map(str, words)]), capsys.readouterr().err
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("netspec caffe: ") and not list(Path().rglob("*.part")), err
    return last.removeprefix("netspec caffe: ")


def varint(number):
    """A number as protobuf writes it; a negative one as one of 64 bits."""
    number, out = number % (1 << 64), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def whole(field, number):
    return varint(field << 3) + varint(number)


def sized(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def planes(image):
    """BGR, a plane after the other, of an RGB image (H, W, 3), by plain loops."""
    height, width, _ = image.shape
    return bytes(int(image[y, x, 2 - c]) for c in range(3) for y in range(height) for x in range(width))


def entries(path):
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def images(shapes=((4, 6), (3, 5), (4, 6))):
    """im/ with PNGs of noise, and list.txt with labels 7, -2, 300."""
    rng = np.random.default_rng(1)
    Path("im/sub dir").mkdir(parents=True)
    made = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    names = [f"sub dir/{i}.png" for i in range(len(made))]
    for name, image in zip(names, made, strict=True):
        Image.fromarray(image).save(f"im/{name}")
    lines = [f"{name} {label}" for name, label in zip(names, (7, -2, 300), strict=False)]
    Path("list.txt").write_text("\n".join(lines) + "\n")
    return made, names


KNOWN = {"gray": False, "iterations": 50, "model": "", "snapshot": ""}


@pytest.mark.parametrize("given, values, words", [
    ("-model a.prototxt --iterations=3 x y", dict(model="a.prototxt", iterations=3), ["x", "y"]),
    ("x --gray y -iterations -2", dict(gray=True, iterations=-2), ["x", "y"]),
    ("-gray=false", dict(gray=False), []),
    ("-gray=true -nogray -", dict(gray=False), ["-"]),
    ("--model= -- -x --gray", {}, ["-x", "--gray"]),
    ("-gray false", dict(gray=True), ["false"]),  # the value of such a flag stands behind a =
])
def test_flags_are_read_as_gflags_reads_them(given, values, words):
    assert caffe.read_flags("p", KNOWN, given.split()) == ({**KNOWN, **values}, words)


@pytest.mark.parametrize("given, said", [
    ("-iteration 3", "p has no flag -iteration; did you mean 'iterations'? (flags: gray, iterations, model, snapshot)"),
    ("-nomodel", "p has no flag -nomodel"), ("-model", "-model needs a value"),
    ("-iterations many", "-iterations takes a whole number, found 'many'"), ("-iterations 3e3", "a whole number, found '3e3'"),
    ("-iterations=2147483648", "-iterations takes a whole number, found '2147483648'"),
])
def test_flags_that_are_none(given, said):
    with pytest.raises(Error) as found:
        caffe.read_flags("p", KNOWN, given.split())
    assert said in str(found.value)


@pytest.mark.parametrize("words, said", [
    ("", "'' is none of Caffe's programs (they are train, test, time, "),
    ("convert_imagest", "'convert_imagest' is none of Caffe's programs; did you mean 'convert_imageset'?"),
    ("train", "train needs -solver FILE"), ("test -model a -weights b -iterations -1", "test needs -iterations N, above 0"),
    ("train -solver a b", "train takes flags alone, found b"),
    ("train -solver a -sigint_effect halt", "train: -sigint_effect takes stop or snapshot or none, found 'halt'"),
    ("train -solver a -gpu x", "-gpu takes numbers with commas between them, or all; found 'x'"),
    ("time -model a -phase VAL", "time: -phase takes TRAIN or TEST, found 'VAL'"),
    ("convert_imageset a b", "convert_imageset takes ROOTFOLDER/ LISTFILE DB_NAME, found a b"),
    ("compute_image_mean -backend leveldb a", "compute_image_mean: -backend takes lmdb, found 'leveldb'"),
    ("compute_image_mean a", "database 'a' is not there"),
    ("extract_features w n a,b db 1 lmdb", "each blob needs a database of its own, found a,b and db"),
    ("extract_features w n a db 1 leveldb", "expected the number of batches, lmdb, and CPU or GPU N"),
    ("extract_features w n a db none lmdb", "expected the number of batches, lmdb, and CPU or GPU N"),
])
def test_mistakes_are_one_sentence(place, capsys, words, said):
    assert said in refused(capsys, *words.split())
    assert not list(place.iterdir())


def test_help_names_programs_and_flags(capsys):
    for words in ("--help", "train -help"):
        with pytest.raises(SystemExit) as end:
            main(["caffe", *words.split()])
        out = capsys.readouterr().out
        assert end.value.code == 0 and "compute_image_mean -backend INPUT_DB [OUTPUT_FILE]" in out and "-sighup_effect" in out


# -- databases ---------------------------------------------------------------------------------------------


def test_images_are_stored_as_caffe_stores_them(place, capsys):
    made, names = images()
    said = called(capsys, "convert_imageset", "im/", "list.txt", "db")
    assert said == ["A total of 3 images.", "Processed 3 files."]
    expected = {}
    for number, (image, name, label) in enumerate(zip(made, names, (7, -2, 300), strict=True)):
        height, width, _ = image.shape
        expected[f"{number:08d}_{name}".encode()] = (
            whole(1, 3) + whole(2, height) + whole(3, width) + sized(4, planes(image)) + whole(5, label) + whole(7, 0))
    assert entries("db") == expected
    assert sorted(path.name for path in Path("db").iterdir()) == ["data.mdb", "lock.mdb"]
    assert f"{Path('db')} is there already" in refused(capsys, "convert_imageset", "im/", "list.txt", "db")
    assert entries("db") == expected


def test_grey_shuffled_and_resized(place, capsys):
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 4  # of whose blocks of 2 x 2 the mean is a whole number
    Path("im").mkdir()
    Image.fromarray(grey).save("im/a.png")
    Path("list.txt").write_text("".join(f"a.png {label}\n" for label in range(40)))
    called(capsys, "convert_imageset", "-gray", "--shuffle", "-resize_height=2", "-resize_width", 3, "im/", "list.txt", "db")
    blocks = bytes(int(grey[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean()) for y in range(2) for x in range(3))
    found = entries("db")
    assert list(found) == [f"{number:08d}_a.png".encode() for number in range(40)]
    labels = [Datum.FromString(value).label for value in found.values()]
    assert sorted(labels) == list(range(40)) != labels
    head = whole(1, 1) + whole(2, 2) + whole(3, 3) + sized(4, blocks)
    assert [*found.values()] == [head + whole(5, label) + whole(7, 0) for label in labels]


def test_encoded_images_are_the_files_or_written_anew(place, capsys):
    made, names = images()
    called(capsys, "convert_imageset", "-encoded", "im/", "list.txt", "files")
    expected = [sized(4, Path("im", name).read_bytes()) + whole(5, label) + whole(7, 1)
                for name, label in zip(names, (7, -2, 300), strict=True)]
    assert [*entries("files").values()] == expected
    called(capsys, "convert_imageset", "-encode_type", "bmp", "im/", "list.txt", "anew")
    for image, value in zip(made, entries("anew").values(), strict=True):
        datum = Datum.FromString(value)
        shown = Image.open(io.BytesIO(datum.data))
        assert datum.encoded and not datum.channels and shown.format == "BMP" and np.array_equal(np.asarray(shown), image)
    called(capsys, "convert_imageset", "-encode_type=jpg", "-gray", "im/", "list.txt", "grey")
    shown = Image.open(io.BytesIO(Datum.FromString(entries("grey")[b"00000000_sub dir/0.png"]).data))
    assert (shown.format, shown.mode, shown.size) == ("JPEG", "L", (6, 4))
    said = refused(capsys, "convert_imageset", "-encode_type", "gif", "im/", "list.txt", "more")
    assert "'gif' is no way to encode it; give -encode_type one of jpg, jpeg, png" in said and not Path("more").exists()


def test_images_that_cannot_be_read_are_left_out_and_said(place, capsys):
    images()
    Path("im/bad.png").write_bytes(b"no image")
    lines = Path("list.txt").read_text().splitlines()
    Path("list.txt").write_text("\n".join([lines[0], "gone.png 1", "", "bad.png 2", lines[1], "name.png"]))
    said = called(capsys, "convert_imageset", "im/", "list.txt", "db")
    assert [*entries("db")] == [b"00000000_sub dir/0.png", b"00000004_sub dir/1.png"]  # numbers are those of the list
    assert [line.partition(":")[0] for line in said] == ["A total of 6 images."] + 4 * ["left out"] + ["Processed 2 files."]
    assert "im/gone.png is not there" in said[1]
    assert "no image that it names can be read; 'im' stands" in refused(capsys, "convert_imageset", "im", "list.txt", "none")
    big = "-resize_height", 10**7, "-resize_width", 10**7
    assert "make them smaller" in refused(capsys, "convert_imageset", *big, "im/", "list.txt", "none")
    assert "has 45 numbers, and the first one 72" in refused(capsys, "convert_imageset", "-check_size", "im/", "list.txt", "none")
    Path("list.txt").write_text(f"{lines[0]}\nsub dir/1.png 2147483648\n")
    assert "list.txt:2: expected a file name, a space and a whole number" in refused(
        capsys, "convert_imageset", "im/", "list.txt", "none")
    assert not Path("none").exists()


def test_a_database_grows_beyond_its_first_map(place, monkeypatch):
    monkeypatch.setattr(databases, "PART", 3 << 20)
    value = np.random.default_rng(0).bytes(1 << 20)
    with databases.creating(place / "new" / "db") as put:
        for number in range(20):
            put(f"{number:04d}", Datum(data=value[number:]))
        assert not (place / "new" / "db").exists()
    found = entries("new/db")
    assert [*found.values()] == [sized(4, value[number:]) for number in range(20)]


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError])
def test_what_is_not_finished_is_not_there(place, end):
    with pytest.raises(end), databases.creating(place / "new" / "db") as put:
        put("a", Datum(data=b"x"))
        raise end
    assert not list(place.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits there")
@pytest.mark.parametrize("most", [0, 9000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(place, capsys, most):
    import resource

    images([(60, 60)] * 3)
    before, limits = sorted(place.rglob("*")), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        said = refused(capsys, "convert_imageset", "im/", "list.txt", "db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said.startswith("database db cannot be written") and sorted(place.rglob("*")) == before


def test_without_lmdb_a_sentence_says_what_to_install(place, capsys, monkeypatch):
    images()
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert "needs lmdb: pip install lmdb" in refused(capsys, "convert_imageset", "im/", "list.txt", "db")


def floats(values):
    return b"".join(struct.pack("<f", value) for value in values)


def test_the_mean_of_a_database(place, capsys):
    made, _ = images([(4, 5)] * 3)
    called(capsys, "convert_imageset", "im/", "list.txt", "db")
    said = called(capsys, "compute_image_mean", "db", "deep/mean.binaryproto")
    means = [sum(planes(image)[at] for image in made) / 3 for at in range(60)]
    head = whole(1, 1) + whole(2, 3) + whole(3, 4) + whole(4, 5)
    assert Path("deep/mean.binaryproto").read_bytes() == head + sized(5, floats(means))
    channels = [f"mean_value channel [{c}]: {sum(means[20 * c : 20 * c + 20]) / 20:.6g}" for c in range(3)]
    assert said == ["Processed 3 files.", "Write to deep/mean.binaryproto", "Number of channels: 3", *channels]
    called(capsys, "convert_imageset", "-encoded", "im/", "list.txt", "encoded")
    called(capsys, "compute_image_mean", "-backend=lmdb", "encoded", "other")
    assert Path("other").read_bytes() == Path("deep/mean.binaryproto").read_bytes()


def test_the_mean_of_floats_and_of_images_of_several_sizes(place, capsys):
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(3, 6)).astype(np.float32)
    with databases.creating(Path("db")) as put:
        for i, row in enumerate(rows):
            put(str(i), Datum(channels=1, height=2, width=3, float_data=row))
    called(capsys, "compute_image_mean", "db", "mean")
    means = [sum(float(row[at]) for row in rows) / 3 for at in range(6)]
    assert [*BlobProto.FromString(Path("mean").read_bytes()).data] == [np.float32(mean) for mean in means]
    images()
    called(capsys, "convert_imageset", "im/", "list.txt", "several")
    assert "entry 1 of several is [3, 3, 5], the first [3, 4, 6]" in refused(capsys, "compute_image_mean", "several", "no")
    assert not Path("no").exists()


# -- nets --------------------------------------------------------------------------------------------------

NET = """name: "small"
layer { name: "data" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "data.txt" batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 2 }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST min_level: 1 } }
layer { name: "twice" type: "Power" bottom: "ip" top: "twice" power_param { scale: 2 } include { stage: "more" } }
"""
NAMES = "data ip relu loss".split()


@pytest.fixture
def job(place):
    """NET, its weights and data, in quarters, so that sums are exact and none are equal: (data, labels, weights, bias)."""
    rng = np.random.default_rng(3)
    data, labels = rng.integers(-3, 4, (5, 4)).astype(np.float32), np.array([0, 1, 2, 1, 0], np.float32)
    weights, bias = rng.integers(-2, 3, (3, 4)).astype(np.float32), np.array([30, 30.5, -60], np.float32)
    with h5py.File("data.h5", "w") as file:
        file["data"], file["label"] = data, labels
    Path("data.txt").write_text("data.h5\n")
    Path("net.prototxt").write_text(NET)
    write_weights("w.caffemodel", "small", {"ip": ("InnerProduct", [weights, bias])})
    return data, labels, weights, bias


def scores_of(job, item):
    data, _, weights, bias = job
    return [max(0.0, sum(float(w) * float(x) for w, x in zip(row, data[item % 5], strict=True)) + float(b))
            for row, b in zip(weights, bias, strict=True)]


def test_a_test_says_each_batch_and_the_means(job, capsys):
    said = called(capsys, "test", "-model", "net.prototxt", "--weights=w.caffemodel", "-iterations", 3, "-level", 1)
    losses, hits = [], []
    for batch in range(3):
        found = [(scores_of(job, item), int(job[1][item % 5])) for item in (2 * batch, 2 * batch + 1)]
        losses.append(sum(np.log(sum(np.exp(s) for s in scores)) - scores[label] for scores, label in found) / 2)
        hits.append(sum(max(range(3), key=lambda i: scores[i]) == label for scores, label in found) / 2)
    assert said[0] == "Running for 3 iterations." and len(said) == 1 + 6 + 3
    for batch in range(3):
        assert said[1 + 2 * batch] == f"Batch {batch}, accuracy = {hits[batch]:g}"
        assert float(said[2 + 2 * batch].removeprefix(f"Batch {batch}, loss = ")) == pytest.approx(losses[batch], rel=1e-5)
    assert float(said[7].removeprefix("Loss: ")) == pytest.approx(2 * sum(losses) / 3, rel=1e-5)
    assert said[8] == f"accuracy = {sum(hits) / 3:g}"
    mean, weighted = re.fullmatch(r"loss = (\S+) \(\* 2 = (\S+) loss\)", said[9]).groups()
    assert [float(mean), float(weighted)] == pytest.approx([sum(losses) / 3, 2 * sum(losses) / 3], rel=1e-5)


def test_level_and_stages_choose_layers(job, capsys):
    given = "test", "-model", "net.prototxt", "-weights", "w.caffemodel", "-iterations", 1
    assert not [line for line in called(capsys, *given) if "accuracy" in line or "twice" in line]
    said = called(capsys, *given, "-stage", "other,more")
    assert [line.split()[0] for line in said[-7:]] == ["loss"] + 6 * ["twice"]


@pytest.mark.parametrize("phase, more", [("", []), ("TEST", ["accuracy"])])
def test_time_says_each_layer(job, capsys, phase, more):
    said = called(capsys, "time", "-model=net.prototxt", "-iterations=2", f"-phase={phase}", "-level", 1)
    assert said[0] == "Performing Forward" and said[2] == "Performing Backward" and said[1].startswith("Initial loss: ")
    layers = [re.fullmatch(r" *(\w+)\t(forward|backward): (\S+) ms\.", line) for line in said]
    layers = [(each[1], each[2], float(each[3])) for each in layers if each]
    assert [each[:2] for each in layers] == [(name, way) for name in NAMES + more for way in ("forward", "backward")]
    means = {what: float(line.split()[-2]) for line in said for what in [line.partition(":")[0]] if line.endswith(" ms.")}
    assert means["Average Forward-Backward"] == pytest.approx(
        means["Average Forward pass"] + means["Average Backward pass"], rel=1e-4)
    assert means["Total Time"] == pytest.approx(2 * means["Average Forward-Backward"], rel=1e-4)
    for way, what in (("forward", "Forward"), ("backward", "Backward")):  # the layers are within the passes
        assert 0 < sum(each[2] for each in layers if each[1] == way) <= means[f"Average {what} pass"]
    assert [line for line in said if line.startswith("Iteration: 2 forward-backward time: ")]


def test_features_are_stored_as_caffe_stores_them(job, capsys):
    said = called(capsys, "extract_features", "w.caffemodel", "net.prototxt", "ip,label", "deep/ip,labels", 3, "lmdb")
    head = whole(1, 3) + whole(2, 1) + whole(3, 1)
    tag = varint(6 << 3 | 5)  # numbers of a Datum are not packed
    assert entries("deep/ip") == {f"{i:010d}".encode(): head + b"".join(tag + floats([s]) for s in scores_of(job, i))
                                  for i in range(6)}
    assert [*entries("labels").values()] == [whole(1, 1) + whole(2, 1) + whole(3, 1) + tag + floats([job[1][i % 5]])
                                             for i in range(6)]
    assert said == [*(f"Extracted features of 6 query images for feature blob {name}" for name in ("ip", "label")),
                    "Successfully extracted the features!"]
    given = "extract_features", "w.caffemodel", "net.prototxt", "ipp", "db", 1, "lmdb", "CPU"
    assert "'ipp'" in refused(capsys, *given) and not Path("db").exists()


def test_options_of_every_command_stand_among_flags(job, capsys):
    Path("net.prototxt").write_text(NET.replace("loss_weight: 2", "loss_weight: 2 strange_param { x: 1 }"))
    given = "test", "-iterations", 1, "-model", "net.prototxt"
    assert "strange_param" in refused(capsys, *given, "-weights", "w.caffemodel")
    assert called(capsys, *given, "--unknown-fields", "pass", "-weights", "w.caffemodel")[0] == "Running for 1 iterations."
    assert "'nowhere'" in refused(capsys, *given, "--ops", "nowhere", "-weights", "w.caffemodel")


def test_a_net_without_data_of_its_own_is_refused(job, capsys):
    Path("net.prototxt").write_text(NET.replace(NET.splitlines()[1], """layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: [2, 4] } shape { dim: 2 } } }"""))
    assert "there is nothing to load" in refused(capsys, "test", "-model", "net.prototxt", "-weights", "w.caffemodel")


# -- training ----------------------------------------------------------------------------------------------


def test_train_is_solve(place, capsys):
    write_job(place)
    write_weights("w.caffemodel", "x", {"score": ("Convolution", [np.full((4, 5, 1, 1), 0.1), np.zeros(4)])})
    assert main(["solve", "solver.prototxt", "--weights", "w.caffemodel", "--quiet"]) == 0
    expected = Path("run/snap_iter_12.caffemodel").read_bytes()
    called(capsys, "train", "--solver=solver.prototxt", "-weights", "w.caffemodel", "-log_dir", "logs")
    assert Path("run/snap_iter_12.caffemodel").read_bytes() == expected
    assert "Optimization Done." in Path("logs/caffe.INFO").read_text()
    Path("run/snap_iter_12.caffemodel").unlink()
    called(capsys, "train", "-solver", "solver.prototxt", "-snapshot", "run/snap_iter_6.solverstate")
    assert Path("run/snap_iter_12.caffemodel").read_bytes() == expected
    both = "-weights", "w.caffemodel", "-snapshot", "run/snap_iter_6.solverstate"
    assert "give one of them" in refused(capsys, "train", "-solver", "solver.prototxt", *both)


def test_level_and_stages_are_the_train_states(place, capsys):
    more = """layer { name: "%s" type: "Power" bottom: "score" top: "%s" include { %s } }\n"""
    body = BODY + "".join(more % (name, name, rule) for name, rule in (
        ("wide", 'stage: "wide"'), ("high", "min_level: 2"), ("kept", 'stage: "kept"'), ("low", "max_level: 0")))
    write_job(place, SOLVER.replace("max_iter: 12", 'max_iter: 1 train_state { level: 3 stage: "kept" }'), body)
    for flags, layers in (((), {"kept", "low"}), (("-level", 2, "-stage", "a,wide"), {"wide", "high", "kept"})):
        called(capsys, "train", "-solver", "solver.prototxt", *flags)  # Caffe, too, takes the level from its flag alone
        net = NetParameter.FromString(Path("run/snap_iter_1.caffemodel").read_bytes())
        assert {layer.name for layer in net.layer} & {"wide", "high", "kept", "low"} == layers
    assert read_weights("run/snap_iter_1.caffemodel")


class Stopped:
    last_snapshot, stop, snapshot_asked = None, None, False

    def log(self, *words):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("number, effect", [(number, effect) for number in ("SIGINT", "SIGHUP")
                                            for effect in ("stop", "snapshot", "none")])
def test_signals_do_what_is_asked(number, effect):
    solver, number = Stopped(), getattr(signal, number)
    with stopping(solver, {**EFFECTS, number: effect}):
        os.kill(os.getpid(), number)
        until = time.monotonic() + (5 if effect == "stop" else 0.05)
        while solver.stop is None and time.monotonic() < until:
            time.sleep(0.01)
        assert (solver.stop, solver.snapshot_asked) == (number if effect == "stop" else None, effect == "snapshot")


def stops(monkeypatch, number):
    """Have train see that a solver was stopped; the effects that it was told."""
    from netspec.base.errors import Interrupted
    from netspec.cli import solve

    told = []

    def stopped(args):
        told.append(args)
        raise Interrupted(number)
    monkeypatch.setattr(solve, "run", stopped)
    return told


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_a_stop_that_was_asked_for_ends_with_status_0(place, capsys, monkeypatch):
    told = stops(monkeypatch, signal.SIGINT)
    called(capsys, "train", "-solver", "s.prototxt", "-sighup_effect=stop", "-sigint_effect", "snapshot")
    assert told[0].effects == {signal.SIGTERM: "stop", signal.SIGINT: "snapshot", signal.SIGHUP: "stop"}
    assert told[0].device is None and told[0].solver == ["s.prototxt"]
    stops(monkeypatch, signal.SIGTERM)
    assert main(["caffe", "train", "-solver", "s.prototxt"]) == 128 + signal.SIGTERM


def test_several_gpus_are_several_processes(place, capsys, monkeypatch):
    def replaced(program, words):
        raise SystemExit((program, words[:7], words[7:], os.environ["CUDA_VISIBLE_DEVICES"]))
    monkeypatch.setattr(os, "execv", replaced)
    for variable in ("WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    for shown, expected in (("", "0,2"), ("4,5,7", "4,7")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        with pytest.raises(SystemExit) as end:
            main("caffe train -solver s.prototxt -gpu 0,2 -level=1 --unknown-fields pass".split())
        program, launcher, words, seen = end.value.code
        assert program == launcher[0] == sys.executable and seen == expected
        assert launcher[1:] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "netspec"]
        flags, rest = caffe.read_flags("train", {**caffe.SOLVER, **caffe.LOGGING}, words[2:-1])
        assert words[:2] == ["caffe", "train"] and not rest and words[-1] == "--unknown-fields=pass"
        assert flags == {**caffe.SOLVER, **caffe.LOGGING, "solver": "s.prototxt", "gpu": "0,2", "level": 1}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    told = stops(monkeypatch, signal.SIGINT)
    called(capsys, "train", "-solver", "s.prototxt", "-gpu", "0,1")
    assert told[0].device == "cuda"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_no_gpu_is(place, capsys, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    told = stops(monkeypatch, signal.SIGINT)
    assert main("caffe train -solver s.prototxt -gpu 0".split()) == 0
    assert capsys.readouterr().err == "note: no GPU is here; nets run on the CPU\n" and told[0].device == "cpu"
    assert called(capsys, "device_query") == ["Querying GPUs "]
    assert refused(capsys, "device_query", "-gpu", "all") == "GPU 0 is not here (0 CUDA devices found)"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu(job, capsys):
    said = called(capsys, "device_query", "-gpu", "all")
    assert said[1:4:2] == ["Device id:                     0", f"Name:                          {torch.cuda.get_device_name(0)}"]
    given = "-model", "net.prototxt", "-iterations", 2, "-gpu", 0
    assert called(capsys, "test", "-weights", "w.caffemodel", *given) == called(
        capsys, "test", "-weights", "w.caffemodel", *given[:-2])
    assert len(called(capsys, "time", *given)) == len(called(capsys, "time", *given[:-2]))
    for where in ("CPU", "GPU"):
        called(capsys, "extract_features", "w.caffemodel", "net.prototxt", "ip", where, 2, "lmdb", where, "DEVICE_ID=0")
    assert entries("CPU") == entries("GPU")


# -- upgrades ----------------------------------------------------------------------------------------------

OLD = """name: "old" layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "y" blobs_lr: 3 inner_product_param { num_output: 2 } }
input: "x" input_dim: 1 input_dim: 4 input_dim: 1 input_dim: 1"""


def test_old_files_are_upgraded(place, capsys):
    Path("old.prototxt").write_text(OLD)
    called(capsys, "upgrade_net_proto_text", "old.prototxt", "new.prototxt")
    net = parse(Path("new.prototxt").read_text(), NetParameter)
    assert not net.layers and [(layer.type, layer.name) for layer in net.layer][-1] == ("InnerProduct", "ip")
    assert net.layer[-1].param[0].lr_mult == 3
    old = parse(OLD, NetParameter)
    old.layers[0].blobs.add(num=1, channels=1, height=2, width=4, data=range(8))
    Path("old.caffemodel").write_bytes(old.SerializeToString())
    called(capsys, "upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel")
    net = NetParameter.FromString(Path("new.caffemodel").read_bytes())
    assert net.layer[-1].type == "InnerProduct" and [*net.layer[-1].blobs[0].data] == list(range(8))
    Path("solver.prototxt").write_text('net: "x" base_lr: 1 solver_type: NESTEROV')
    called(capsys, "upgrade_solver_proto_text", "solver.prototxt", "new_solver.prototxt")
    solver = parse(Path("new_solver.prototxt").read_text(), SolverParameter)
    assert solver.type == "Nesterov" and not solver.HasField("solver_type")


@pytest.mark.parametrize("program, file, said", [
    ("upgrade_net_proto_text", "solver.prototxt", "is a solver in text; expected a net in text"),
    ("upgrade_solver_proto_text", "old.prototxt", "is a net in text; expected a solver in text"),
    ("upgrade_net_proto_binary", "old.prototxt", "is a net in text; expected a net in binary"),
    ("upgrade_net_proto_text", "w.caffemodel", "is a net in binary; expected a net in text"),
])
def test_a_file_of_another_kind_is_refused(place, capsys, program, file, said):
    Path("old.prototxt").write_text(OLD)
    Path("solver.prototxt").write_text('net: "x" base_lr: 1')
    write_weights("w.caffemodel", "x", {"ip": ("InnerProduct", [np.ones((2, 4))])})
    assert refused(capsys, program, file, "new").endswith(f"{file}: {said}")
    assert not Path("new").exists()
