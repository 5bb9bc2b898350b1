"""The papers' tables with what is measured here, and the check of the released nets; on tiny nets and images."""

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from netspec import NetSpec
from netspec import layers as L
from netspec.base import files
from netspec.base.machine import PROJECT, device_name
from netspec.cli import main as cli
from netspec.net import weights
from netspec.net.build import load
from netspec.net.module import Net
from netspec.papers import published, tables
from netspec.proto import text as prototext

sys.path.insert(0, str(PROJECT / "data" / "shapes"))

import prepare  # noqa: E402 - the path comes first


def net(split):
    n = NetSpec()
    if split == "deploy":
        n.data = L.Input(shape=[dict(dim=[1, 3, 40, 48])])
    else:
        n.data, n.label = L.Python(module="netspec.datasets", layer="SegmentationData", ntop=2, param_str=str(
            dict(dataset="shapes", root="data/shapes/images", split=split)))
    n.score = L.Convolution(n.data, num_output=5, kernel_size=1)
    if split != "deploy":
        n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=True, ignore_label=255))
    return n.to_proto()


def make(family, strides=(32, 16)):
    for stride in strides:
        name = f"{family}-fcn{stride}s"
        for split in ("train", "val", "deploy"):
            prototext.write(f"models/{name}/{split}.prototxt", net(split))
        start = f'weights: "snapshot/{family}-fcn{2 * stride}s_iter_2.caffemodel"' * (stride < 32)
        (Path("solvers")).mkdir(exist_ok=True)
        Path(f"solvers/{name}.prototxt").write_text(
            f'train_net: "models/{name}/train.prototxt" base_lr: 1e-5 lr_policy: "fixed" max_iter: 2 solver_mode: CPU {start} '
            f'snapshot_prefix: "snapshot/{name}" random_seed: 3')


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not prepare.main(["--root", "data/shapes/images", "--train", "3", "--val", "2", "--size", "48x40"])
    make("tiny")
    return tmp_path


def shown(capsys, *words):
    status = cli.main(["tables", *words])
    return status, capsys.readouterr()


def lines(text, whose):
    return [row for row in csv.DictReader(io.StringIO(text)) if row["whose"] == whose]


def test_what_is_not_measured_is_empty_and_the_papers_figures_are_the_papers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out = shown(capsys, "2", "--format", "csv")
    assert status == 0 and "nothing was measured here (no records in results): --run measures" in out.err
    for row in lines(out.out, "here"):
        assert {row[m] for m in tables.SCORES} == {""} and row["origin"] == ""
    for row in lines(out.out, "paper"):
        assert tuple(float(row[m]) for m in tables.SCORES) == published.PAPER[row["net"]]
    status, out = shown(capsys, "all", "--format", "json")
    every = json.loads(out.out)
    assert [t["table"][:7] for t in every] == [f"Table {n}" for n in range(1, 6)]
    assert not any(row["origin"] for t in every for row in t["rows"])
    fact = {row["net"]: row["cells"] for row in every[0]["rows"] if row["whose"] == "here"}
    assert fact["voc-fcn32s"]["receptive_field"] == 404 and fact["voc-fcn-alexnet"]["convolution_layers"] == 8
    assert fact["voc-fcn32s"]["parameters"] == (138_357_544 - 4097 * 1000 + 4097 * 21) / 1e6  # VGG16's, of other classes
    assert fact["voc-fcn32s"]["mean_iu"] is None and fact["voc-fcn32s"]["milliseconds"] is None


@pytest.mark.parametrize("table, rows", [
    (2, ["89.1 73.3 59.4 81.4", "90.0 75.7 62.4 83.0", "90.3 75.9 62.7 83.2", "83.0 59.7 45.4 72.0"]),
    (4, ["60.0 42.2 29.2 43.9", "61.5 42.4 30.5 45.5", "57.1 35.2 24.2 40.4", "64.3 44.9 32.8 48.0", "65.4 46.1 34.0 49.5"]),
    (5, ["85.2 51.7 39.5 76.1 94.3"]),
])
def test_rows_are_as_the_paper_prints_them(tmp_path, monkeypatch, capsys, table, rows):
    monkeypatch.chdir(tmp_path)
    found = lines(shown(capsys, str(table), "--format", "csv")[1].out, "paper")
    assert {" ".join(v for key, v in row.items() if key not in ("table", "net", "whose", "origin")) for row in found} == set(rows)


def test_run_measures_once_in_stages_and_again_where_weights_change(place, capsys):
    command = ("2", "--family", "tiny", "--run", "--quiet", "--format", "csv")
    status, first = shown(capsys, *command)
    measured = lines(first.out, "here")
    assert "wrote results: the records of what was measured\n" in first.err
    assert status == 0 and [row["net"] for row in measured] == ["tiny-fcn32s", "tiny-fcn16s"]
    assert all(0 <= float(row["mean_iu"]) <= 100 and "tiny" not in row["mean_iu"] for row in measured)
    assert all(device_name("cpu") in row["origin"] for row in measured)
    assert shown(capsys, *command)[1].out == first.out  # dates and all: nothing was measured again
    assert shown(capsys, *command[:3], "--format", "csv")[1].out == first.out
    shutil.copy("snapshot/tiny-fcn16s_iter_2.caffemodel", "snapshot/tiny-fcn32s_iter_2.caffemodel")
    before = json.loads(Path("results/tiny-fcn32s.scores.json").read_text())["mark"]
    shown(capsys, *command)
    assert json.loads(Path("results/tiny-fcn32s.scores.json").read_text())["mark"] != before


def test_run_says_what_cannot_be_measured_and_goes_on(place, capsys):
    Path("solvers/tiny-fcn32s.prototxt").write_text("base_lr: what")
    status, out = shown(capsys, "1", "--family", "tiny", "--run", "--quiet", "--format", "json")
    assert status == 1 and "tiny-fcn32s: no scores measured: " in out.err and "solvers/tiny-fcn32s.prototxt:1:10" in out.err
    cells = {row["net"]: row["cells"] for row in json.loads(out.out)[0]["rows"]}
    assert cells["tiny-fcn32s"]["mean_iu"] is None and cells["tiny-fcn32s"]["milliseconds"] > 0
    assert cells["tiny-fcn32s"]["maximum_stride"] == 1


def test_differences_signs_and_layouts(place, capsys):
    def write(name, facts):
        with files.writing(f"results/{name}.json", "w") as file:
            json.dump({**facts, "origin": {"command": "c", "device": "d", "date": "t", "netspec": "n"}}, file)

    scores = dict(pixel_accuracy=0.9, mean_accuracy=0.74, mean_iu=0.600, fw_iu=None)
    write("voc-fcn32s.scores", scores)
    write("voc-fcn32s.released", scores | {"mean_iu": 0.637})
    write("siftflow-fcn16s.scores", scores | {"heads": {"geo": 0.94}})
    text = shown(capsys, "2")[1].out
    apart = [line.split() for line in text.splitlines() if "  less " in line]
    assert apart == [["voc-fcn32s", "less", "paper", "+0.9", "+0.7", "+0.6", "-"],
                     ["voc-fcn32s", "less", "others", "-0.5", "-2.5", "+0.1", "-"]]
    assert "voc-fcn32s, scores: c; d; t; n" in text
    sift = shown(capsys, "5", "--format", "json")[1].out
    cells = {row["whose"].strip(): row["cells"] for row in json.loads(sift)[0]["rows"]}
    assert cells["here"]["geometric"] == pytest.approx(94) and cells["less paper"]["geometric"] == pytest.approx(-0.3)
    latex = shown(capsys, "2", "--format", "latex")[1].out.splitlines()
    assert {line.count("&") for line in latex if line.endswith(r"\\")} == {5} and latex[-1] == r"\end{tabular}"
    for number in range(1, 4):
        text = shown(capsys, str(number))[1].out
        assert ("are a K40c's" in text, "Only the servers" in text) == (number == 1, number == 3)
    assert "| voc-fcn32s" in shown(capsys, "2", "--format", "markdown")[1].out


def test_neighbours_of_camvid_are_beside_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = shown(capsys, "2", "--family", "camvid-half", "--format", "csv")[1].out
    assert {row["net"]: row["mean_iu"] for row in lines(text, "cited")} == {
        "FCN-8s, all layers from ILSVRC": "57.0", "SegNet, ILSVRC encoder": "46.4"}
    nets = [[row["net"] for row in lines(shown(capsys, number, "--family", "camvid", "--format", "csv")[1].out, "here")]
            for number in "12"]  # SegNet's take no image of 500x500, which times are of
    assert nets[1] == [*nets[0], "camvid-segnet-basic", "camvid-segnet"] == [
        *(f"camvid-fcn{stride}s" for stride in (32, 16, 8)), "camvid-segnet-basic", "camvid-segnet"]


def test_bad_words_are_refused(place, capsys):
    status, out = shown(capsys, "2", "--family", "shaps")
    assert status == 2 and "did you mean 'shapes'" in out.err
    status, out = shown(capsys, "--family", "shapes")
    assert status == 0 and out.out.startswith("Table 1: ") and "Table 2: strides (shapes)" in out.out and "Table 3" not in out.out
    status, out = shown(capsys, "4", "--family", "tiny")
    assert status == 2 and "tables 1 and 2" in out.err


# verify released


@pytest.fixture
def released(place):
    """Tiny nets in the place of the released ones, their weights and data elsewhere."""
    make("voc", (32, 16, 8))
    shutil.move("data", "elsewhere")
    for name, file in (("voc-fcn32s", "fcn32s"), ("voc-fcn16s", "fcn16s"), ("voc-fcn8s", "fcn8s")):
        weights.save(f"given/{file}-heavy-pascal.caffemodel", Net(load(f"models/{name}/deploy.prototxt")))
    return ["verify", "released", "--weights", "given", "--data", "elsewhere", "--quiet"]


def test_verify_says_no_to_other_scores_and_yes_to_the_published(released, capsys, monkeypatch):
    assert cli.main(released) == 1
    out, err = capsys.readouterr()
    assert err.endswith("wrote results: the records of what was measured\n")
    assert out.count("NO") == 3 and "63.6" in out and "65.5" in out
    found = 100 * json.loads(Path("results/voc-fcn8s.released.json").read_text())["mean_iu"]
    for name in ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s"):
        monkeypatch.setitem(published.RELEASED, name, (0, 0, round(found + 0.04, 2), 0))
    assert cli.main(released) == 0
    assert capsys.readouterr().out.count("yes") == 3
    assert cli.main([*released, "--tolerance", "0.01"]) == 1
    assert cli.main(["tables", "2"]) == 0  # which shows them
    assert capsys.readouterr().out.count("released net, scored here") == 3


def test_verify_names_all_that_is_missing_and_where_it_comes_from(released, capsys):
    Path("given/fcn16s-heavy-pascal.caffemodel").unlink()
    Path("given/fcn8s-heavy-pascal.caffemodel").unlink()
    assert cli.main(released) == 2
    err = capsys.readouterr().err
    assert "lacks the weights of voc-fcn16s, voc-fcn8s" in err and "netspec weights get voc-fcn16s voc-fcn8s" in err
    shutil.copy("given/fcn32s-heavy-pascal.caffemodel", "given/fcn16s-heavy-pascal.caffemodel")
    shutil.copy("given/fcn32s-heavy-pascal.caffemodel", "given/fcn8s-heavy-pascal.caffemodel")
    assert cli.main([*released[:4], "--data", "nowhere", "--quiet"]) == 2
    err = capsys.readouterr().err
    assert "nowhere/shapes/images" in err and "docs/voc.md" in err
