"""What is refused before the first step, what is said about the net, and the warning of a loss that does not move."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from net.test_graph import DATA, LABEL, TRAIN, conv, net, relu
from PIL import Image
from training import BODY, HDF5, VOC, changed, params_of, same, write_hdf5, write_job

from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import BlobProto, BlobShape
from netspec.train import preflight
from netspec.train.solver import get_solver

G = 'weight_filler { type: "gaussian" std: 0.1 }'
BIAS = 'bias_filler { type: "constant" value: 0.5 }'


def refused(capsys, *args):
    status = cli.main(["solve", "solver.prototxt", "--quiet", *args])
    err = capsys.readouterr().err
    assert status == 2 and err.count("\n") == 1 and "Traceback" not in err, err
    return err


# nets that cannot learn

def stuck(body):
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }\n'
    return preflight.stuck_layers(Net(build(net(LABEL + body + loss), TRAIN)))


def trunk(a="", b="", score=""):
    return conv("a", "data", more=a) + relu("ra", "a") + conv("b", "a", more=b) + relu("rb", "b") + conv("score", "b", more=score)


@pytest.mark.parametrize("body, expected", [
    (trunk(), ["a", "b", "score"]),  # nothing was loaded
    (trunk(score=G), ["a", "b"]),
    (trunk(a=G), ["b", "score"]),
    (trunk(G, G), []),  # the paper's zero-initialised score
    (trunk(G, G, G), []),
    (trunk(a=G, score=G), ["b"]),  # a ReLU at 0 lets no gradient through
    (trunk(a=G, b=BIAS, score=G), []),  # unless a bias lifts it
    (trunk(a=G, b=BIAS), []),  # the score learns from the bias, then b from the score
    (trunk(a=BIAS, b=BIAS, score=G), []),
    (conv("a", "data") + conv("score", "a", more=G), []),  # without a ReLU the gradient comes back
])
def test_layers_of_zeros_behind_each_other_never_learn(body, expected):
    assert stuck(body) == expected


def train_a_little(body, iterations=3):
    """The layers whose weights are still zero after some steps of gradient descent."""
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }\n'
    torch.manual_seed(0)
    one = Net(build(net(LABEL + body + loss), TRAIN))
    label = torch.randint(0, 4, (2, 1, 8, 9)).float()
    for _ in range(iterations):
        one.zero_grad()
        one.loss(one({"data": torch.randn(2, 3, 8, 9), "label": label})).backward()
        with torch.no_grad():
            for p in one.parameters():
                p -= 0.1 * p.grad
    return [name for name, blobs in one.layers_with_params().items() if not blobs[0].any()]


@pytest.mark.parametrize("a", ["", G, BIAS])
@pytest.mark.parametrize("b", ["", G, BIAS])
@pytest.mark.parametrize("score", ["", G])
def test_the_verdict_is_what_training_shows(a, b, score):
    body = trunk(a, b, score)
    assert set(stuck(body)) <= set(train_a_little(body))
    assert set(train_a_little(body)) <= set(stuck(body))


def test_branches_that_lead_around_layers_of_zeros():
    add = 'layer {{ name: "{0}" type: "Eltwise" bottom: "{1}" bottom: "{2}" top: "{0}" }}\n'
    head = conv("a", "data", more=G)
    residual = head + conv("r1", "a") + add.format("s1", "a", "r1") + conv("r2", "s1") + add.format("s2", "s1", "r2")
    assert stuck(residual + conv("score", "s2")) == []  # each block's last layer starts at zero, on purpose
    skip = head + conv("deep", "a", more=G) + conv("score_deep", "deep") + conv("skip", "a") + \
        add.format("score", "score_deep", "skip")
    assert stuck(skip) == []
    assert stuck(conv("a", "data") + conv("deep", "a") + conv("score_deep", "deep") + conv("skip", "a")
                 + add.format("score", "score_deep", "skip")) == ["a", "deep", "score_deep", "skip"]


def test_sizes_labels_and_what_is_not_learned_do_not_count():
    crop = 'layer { name: "score" type: "Crop" bottom: "b" bottom: "data" top: "score" crop_param { axis: 2 } }\n'
    assert stuck(conv("a", "data") + conv("b", "a") + crop) == ["a", "b"]  # that data reach the crop feeds nobody
    frozen = conv("a", "data", extra="param { lr_mult: 0 } param { lr_mult: 0 }") + conv("score", "a")
    assert stuck(frozen) == ["score"]
    halves = conv("a", "data", extra="param { lr_mult: 0 } param { lr_mult: 1 }") + relu("ra", "a") + conv("score", "a")
    assert stuck(halves) == ["score"]  # of `a` the bias alone is learned
    aside = trunk(G, G, G) + conv("x", "data") + conv("y", "x")  # no loss behind them
    assert stuck(aside) == []


def test_layers_of_zeros_may_have_no_bias():
    bare = "bias_term: false"
    assert stuck(trunk(bare, bare, bare)) == ["a", "b", "score"]
    assert stuck(trunk(bare + " " + G, bare + " " + G, bare)) == []


def test_a_net_without_weights_is_refused_before_it_starts(job, capsys):
    write_job(job, body=BODY.replace('weight_filler { type: "gaussian" std: 0.02 }', "").replace(
        'weight_filler { type: "xavier" }', ""))
    message = refused(capsys)
    assert "net 'tiny': the weights of conv, score (2) are all zero" in message
    assert "load weights (weights: in the solver, or --weights), or give the layers a weight_filler" in message
    assert not list(Path("run").glob("*"))


# labels

def test_labels_out_of_range_are_counted_and_their_place_named(job, capsys):
    os.remove("data.h5")
    write_hdf5(job, bad=(4, 4, 17))
    write_job(job, data=HDF5.replace("shuffle: true", ""))
    message = refused(capsys)
    assert f"{job / 'data.h5'} row 0, {job / 'data.h5'} row 1: 3 of 144 label values are not whole numbers from 0 to 3 and are " \
        "not 255 (ignored): 4 (2 times), 17 (1 times)" in message
    write_job(job, data=HDF5.replace("shuffle: true", ""), body=BODY.replace("ignore_label: 255", ""))
    assert "255 (" in refused(capsys)


def test_a_loss_with_weighted_classes_is_looked_at_as_well(job, capsys):
    os.remove("data.h5")
    write_hdf5(job, bad=(4, 4, 17))
    Path("weights.binaryproto").write_bytes(BlobProto(shape=BlobShape(dim=[4, 4]), data=np.eye(4).ravel()).SerializeToString())
    write_job(job, data=HDF5.replace("shuffle: true", ""), body=BODY.replace(
        '"SoftmaxWithLoss"', '"InfogainLoss" infogain_loss_param { source: "weights.binaryproto" }'))
    assert "3 of 144 label values are not whole numbers from 0 to 3" in refused(capsys)


def test_the_file_of_a_wrong_label_is_named(job, capsys):
    write_job(job, data=VOC)
    for path in sorted(Path("images/SegmentationClass").iterdir()):
        label = np.array(Image.open(path))
        label[0, 0] = 21
        Image.fromarray(label).save(path)
    message = refused(capsys)
    assert "images/SegmentationClass/im" in message and "21 (1 times)" in message


def test_a_label_image_in_colours_is_recognised(job, capsys):
    write_job(job, data=VOC)
    for path in Path("images/SegmentationClass").iterdir():
        Image.open(path).convert("RGB").save(path)
    message = refused(capsys)
    assert "images/SegmentationClass/im" in message and "is in colours (RGB); expected one channel of class indices" in message


def test_a_first_batch_that_cannot_be_read_is_refused_unless_some_may_be_skipped(job):
    write_job(job, data=VOC)
    one = get_solver("solver.prototxt")
    for path in Path("images/SegmentationClass").iterdir():
        path.write_bytes(b"")
    with pytest.raises(Error, match="images/SegmentationClass/im.* is empty"):
        preflight.check_run(one)
    one.skips.most = 1
    preflight.check_run(one)
    one.close()


def test_the_test_nets_labels_are_looked_at_too(job, capsys):
    write_job(job, changed('test_net: "val.prototxt" test_iter: 1 test_interval: 100 test_initialization: false'))
    text = Path("net.prototxt").read_text()
    Path("val.prototxt").write_text(text.replace('source: "data.txt"', 'source: "val.txt"').replace("shuffle: true", ""))
    (job / "val").mkdir()
    write_hdf5(job / "val", bad=(9,))
    Path("val.txt").write_text("val/data.h5\n")
    assert "val/data.h5 row 0" in refused(capsys)


# snapshots

def test_a_test_net_on_some_of_the_training_images_is_refused(tmp_path):
    for name in "abc":
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB" if folder == "images" else "L", (8, 8)).save(tmp_path / folder / f"{name}.png")
    lists = {"train": "a\nb\n", "val": "b\nc\n", "apart": "c\n"}
    for split, listed in lists.items():
        (tmp_path / f"{split}.txt").write_text(listed)
    def graph(split, **more):
        param = dict(dataset="folder", root=str(tmp_path), split=split, classes=["one"], **more)
        return build(prototext.parse(VOC.replace("dict_here", str(param)), caffe_pb2.NetParameter))

    train = graph("train")
    with pytest.raises(Error, match="1 of the 2 images of 'val' are in 'train', which is trained on, such as .*b.png"):
        preflight.check_apart(train, graph("val"))
    with pytest.raises(Error, match=r"2 of the 2 images of 'train' are in 'train'.*'overlap': True in param_str\)"):
        preflight.check_apart(train, graph("train"))
    for test in (graph("apart"), graph("val", overlap=True), graph("train", overlap=True)):
        preflight.check_apart(train, test)


def test_a_test_net_that_reads_the_list_that_is_trained_on_is_warned_of(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for split in ("train", "val"):
        (tmp_path / f"{split}.txt").write_text("a.png 0\n")

    def graph(split):
        return build(prototext.parse('layer { name: "d" type: "ImageData" top: "data" top: "label" image_data_param { source: "'
                                     f'{tmp_path}/{split}.txt" root_folder: "{tmp_path}/" batch_size: 1 }} }}', caffe_pb2.NetParameter))

    assert preflight.check_apart(graph("train"), graph("val")) == []
    (told,) = preflight.check_apart(graph("train"), graph("train"))
    assert told.startswith("layer 'd' of the test net reads what is trained on, ") and told.endswith("train.txt: scores on it mean little")


@pytest.mark.parametrize("many, status", [(2, 2), (201, None)])
def test_a_class_of_ones_own_that_no_training_label_shows_is_refused(tmp_path, many, status):
    """255 is void unless one says what it means: the mask has one class alone."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images/a.png")
    Image.fromarray(np.array([[0, 255]] * 2, np.uint8).repeat(2, 0).repeat(2, 1)).save(tmp_path / "labels/a.png")
    (tmp_path / "train.txt").write_text("a\n" * many)

    def found(**more):
        param = dict(dataset="folder", root=str(tmp_path), split="train", classes=["one", "two"], **more)
        net = prototext.parse(VOC.replace("dict_here", str(param)), caffe_pb2.NetParameter)
        return preflight.unseen_classes(build(net))

    assert found(values={255: 1}) == []
    if status is None:  # not all were looked at
        assert "of the first 200 of 201 labels: class 'two' (1) never occurs" in found()[0]
        return
    with pytest.raises(Error, match=r"class 'two' \(1\) never occurs in the labels of 'train', which hold 0, 255 \(void\): if 255 is "
                       r"'two', add the option 'values': \{255: 1\} in param_str; or take it out"):
        found()


def test_a_prefix_that_cannot_be_written_to_is_refused(job, capsys):
    Path("file").write_text("")
    write_job(job, changed('snapshot_prefix: "file/snap"'))
    message = refused(capsys)
    assert "snapshots cannot be written to file (" in message and "change snapshot_prefix" in message


# the summary

def test_the_summary_is_one_screen():
    body = conv("a", "data", more=G, extra="param { lr_mult: 0 } param { lr_mult: 0 }") + conv("b", "a") + conv("c", "b")
    one = Net(build(net(DATA + body), TRAIN))
    lines = preflight.summary(one, {"a": "copied", "b": "reshaped"}, [])
    assert lines == [
        "n: 3 layers, 3 with parameters, 56 parameters (40 learned)", "  loaded: a", "  loaded, reshaped: b",
        "  left at their filler: c", "  frozen (lr_mult 0): a",
    ]
    many, bottom = DATA, "data"
    for i in range(30):
        many, bottom = many + conv(f"conv{i}", bottom), f"conv{i}"
    lines = preflight.summary(Net(build(net(many), TRAIN)), {})
    assert lines[1] == "  left at their filler: conv0, conv1, conv2, conv3, conv4, conv5, ..., conv29 (30)"


# the plateau

def watched(body, losses):
    one = Net(build(net(LABEL + body), TRAIN))
    said = []
    watch = preflight.watch_plateau(one, said.append, iterations=10)
    for loss in losses:
        watch(None, loss)
    return said


LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" MORE }\n'


def test_a_loss_that_sits_at_chance_is_warned_of_once():
    body = conv("score", "data") + LOSS.replace("MORE", "")
    chance = math.log(4)
    said = watched(body, [chance + 0.002 * (-1) ** i for i in range(30)])
    assert len(said) == 1 and "after 10 iterations the loss is still 1.386, which is ln(4 classes)" in said[0]
    assert not watched(body, [chance] * 9)
    assert not watched(body, [chance - 0.05 * i for i in range(30)])  # it falls
    assert len(watched(conv("score", "data") + LOSS.replace("MORE", "loss_weight: 3"), [3 * chance] * 10)) == 1
    summed = body.replace('top: "loss"', 'top: "loss" loss_param { normalization: NONE }')
    assert not watched(summed, [chance] * 10)  # by chance only
    assert not watched(body + LOSS.replace("MORE", "").replace('"loss"', '"other"'), [chance] * 10)
    assert not watched(conv("score", "data"), [chance] * 10)


def test_a_run_that_learns_nothing_is_warned_of(job, capsys):
    write_job(job, changed("base_lr: 1e-9 max_iter: 101 snapshot: 0"), body=BODY.replace("std: 0.02", "std: 1e-6"))
    assert cli.main(["solve", "solver.prototxt", "--quiet"]) == 0
    err = capsys.readouterr().err
    doubt, plateau = err.splitlines()
    assert doubt.startswith("W") and "it would learn nothing" in doubt
    assert plateau.startswith("W") and "netspec] after 100 iterations the loss is still 1.386" in plateau


def test_check_says_all_of_it(job):
    one = get_solver("solver.prototxt")
    said = []
    one.log = lambda where, text, level="I": said.append((where, text))
    preflight.check_run(one)
    assert said[1:] == [("netspec", "  left at their filler: conv, score (2)")]
    assert len(one.callbacks) == 1 and not Path("run").exists()
    with torch.no_grad():
        for p in one.net.parameters():
            p.zero_()
    with pytest.raises(Error, match="are all zero"):
        preflight.check_run(one)


def test_the_summary_names_layers_of_the_file_that_the_net_lacks():
    made = Net(build(net(LABEL + trunk(G, G, G)), TRAIN))
    said = preflight.summary(made, {"a": "copied"}, skipped=["fc8"])
    assert "  skipped, not in the net: fc8" in said and "  loaded: a" in said


def test_a_solver_remembers_what_a_weights_file_held_in_vain(job):
    one = get_solver("solver.prototxt")
    one.save("one.caffemodel")
    Path("solver.prototxt").write_text(Path("solver.prototxt").read_text() + ' weights: "one.caffemodel"')
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(text.replace('name: "conv"', 'name: "other"'))
    two = get_solver("solver.prototxt")
    assert two.skipped == ["conv"] and "other" not in two.loaded
    one.close()
    two.close()


# rates

def doubts(rate, momentum, normalize, size=375, width=500):
    loss = (f'layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "loss" '
            f'loss_param {{ normalize: {str(normalize).lower()} }} }}\n')
    shapes = {"data": (1, 21, size, width), "label": (1, 1, size, width)}
    param = prototext.parse(f"base_lr: {rate} momentum: {momentum}", caffe_pb2.SolverParameter)
    param.type = "SGD"
    return preflight.rate_doubts(build(net(LABEL + loss), TRAIN, shapes=shapes), param)


@pytest.mark.parametrize("rate, momentum, normalize", [
    (1e-4, 0.9, True), (1e-3, 0.9, True), (1e-8, 0.9, True), (3e-3, 0.9, True),  # the paper's, and the demo's
    (1e-10, 0.99, False), (1e-12, 0.99, False), (1e-14, 0.99, False)])  # the release's
def test_the_rates_of_paper_and_release_are_taken_without_a_word(rate, momentum, normalize):
    assert doubts(rate, momentum, normalize) == [] == doubts(rate, momentum, normalize, size=61)


def test_a_rate_for_a_sum_with_a_mean_is_doubted_with_the_arithmetic():
    (text,) = doubts(1e-10, 0.99, True)
    assert "mean over pixels" in text and "1e-08" in text and "187,500 pixels, which makes it 0.002" in text


def test_a_rate_for_a_mean_with_a_sum_is_doubted_with_the_arithmetic():
    (text,) = doubts(1e-4, 0.9, False)
    assert "0.001 x 187,500 = 2e+02" in text and "diverge" in text


def test_a_sum_whose_step_is_the_means_at_rate_1_is_taken():
    """Exactly at MOST_RATE: 1/4096, which float32 holds, times 4096 pixels."""
    assert not doubts(2**-12, 0, False, 64, 64)
    assert doubts(2**-12 + 2**-30, 0, False, 64, 64)


def test_a_missing_label_is_told_before_the_first_step_and_called_a_label(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in "abcdefghijkl":
        Image.fromarray(np.random.default_rng(ord(name)).integers(0, 256, (40, 40, 3), np.uint8)).save(f"images/{name}.png")
        Image.fromarray(np.resize(np.array([0, 1], np.uint8), (40, 40))).save(f"labels/{name}.png")
    Path("set.txt").write_text("ground\ncrack\n")
    for split, names in (("train", "abcdefgh"), ("val", "ijkl")):
        Path(f"{split}.txt").write_text("\n".join(names))
    assert cli.main(["own", "set.txt", "--iterations", "2"]) == 0
    Path("labels/l.png").unlink()  # the last that is scored
    assert cli.main(["solve", "set-fcn32s.prototxt", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"label \S*labels/l\.\* is not there; the line 'labels: FOLDER' in \S*set.txt says where", said), said
    assert not list(Path().glob("snapshot/*"))


def test_what_killed_runs_of_this_prefix_left_is_removed(job):
    """Whatever iteration they were at; what is another's stays."""
    Path("run").mkdir()
    left = [".snap_iter_7.caffemodel.abcdefgh.part", ".snap_iter_31.resume.a_c1efgh.part", ".snap_iter_4.solverstate.h5.abcdefgh.part",
            ".snap_best.caffemodel.abcdefgh.part"]
    kept = [".snap2_iter_7.caffemodel.abcdefgh.part", ".snap_iter_7.caffemodel.abc.part", ".snap_iter_7.abcdefgh.part"]
    for name in (*left, *kept):
        Path("run", name).touch()
    one = get_solver("solver.prototxt")
    preflight.check_run(one)
    one.close()
    assert {path.name for path in Path("run").iterdir()} == set(kept)


@pytest.mark.parametrize("form", ["HDF5", "BINARYPROTO"])
@pytest.mark.parametrize("name", ["/conv", "conv/", "a//b", "..", "a/./b", "score/0", "a/b", "naïve", "0", "-"])
def test_no_snapshot_is_written_that_cannot_be_read_again(job, form, name):
    """Names that the format holds are trained with and read again; others are refused before the first step."""
    path = write_job(job, changed(f"snapshot_format: {form}"), BODY.replace('name: "conv"', f'name: "{name}"'))
    one = get_solver(path)
    try:
        preflight.check_run(one)
    except Error as error:
        assert form == "HDF5" and f"does not hold the layers '{name}'" in str(error) and not Path("run").exists()
        assert name not in ("a/b", "naïve", "0", "-")
    else:
        one.step(3)
        again = get_solver(path)
        again.restore(one.last_snapshot.state)
        same(params_of(one), params_of(again))
        again.close()
    finally:
        one.close()


def test_a_prefix_that_makes_names_too_long_is_refused_before_the_first_step(job):
    one = get_solver(write_job(job, changed(f'snapshot_prefix: "run/{"x" * 230}"')))
    with pytest.raises(Error, match="snapshots cannot be written to run .File name too long.; change snapshot_prefix"):
        preflight.check_run(one)
    one.close()
