"""The tally of a folder: each kind of file by each of its outcomes, counted as it should be."""

import json
import math
import os
import time

import numpy as np
import pytest

from netspec.base.pool import each
from netspec.check.batch import draw
from netspec.check.corpus import gathered
from netspec.check.opencv import numbers_apart, rows_apart
from netspec.check.tally import reason, reasons, totals, types
from netspec.cli.main import main
from netspec.net import weights
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.text import parse

CONV = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }'
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 9 dim: 9 } } }'
SOLVER = 'net: "nowhere.prototxt"\nbase_lr: 0.1\nlr_policy: "fixed"\nmax_iter: 9\n'
STAGED = """layer { name: "d" type: "Data" top: "data" top: "label" include { stage: "val" } }
            layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } include { stage: "deploy" } }
            layer { name: "odd" type: "Odd" bottom: "c" top: "odd" include { stage: "deploy" } }"""
FILES = {
    "one/net.prototxt": INPUT + CONV,
    "two/same.prototxt": INPUT + CONV,
    "one/v1.prototxt": 'input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9\n'
                       'layers { name: "r" type: INNER_PRODUCT bottom: "data" top: "r" inner_product_param { num_output: 2 } }',
    "one/odd.prototxt": INPUT + 'layer { name: "x" type: "Odd" bottom: "data" top: "x" }',
    "two/odd.prototxt": INPUT + 'layer { name: "y" type: "Odd" bottom: "data" top: "x" }',
    "two/train.prototxt": 'layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } }' + CONV,
    "two/staged.prototxt": STAGED.replace("Odd", "ReLU") + CONV.replace('"c" type', '"c2" type').replace('top: "c"', 'top: "c2"'),
    "two/python.prototxt": INPUT + 'layer { name: "x" type: "Python" bottom: "data" top: "x" python_param { module: "m.n" layer: "L" } }',
    "two/large.prototxt": INPUT.replace("dim: 9 dim: 9", "dim: 10000 dim: 10000") + 'layer { name: "f" type: "Flatten" bottom: "data" top: "f" }',
    "two/solver.prototxt": SOLVER,
    "two/policy.prototxt": SOLVER.replace("fixed", "odd"),
    "two/tests.prototxt": SOLVER + 'test_iter: 5 test_interval: 5\n',
    "two/labels.prototxt": 'item { name: "cat" label: 1 }',
    "two/notes.txt": "layer {",
    "three/nets/deploy.prototxt": INPUT.replace("dim: 9 dim: 9", "dim: 8 dim: 8") + CONV,
    "three/nets/other_deploy.prototxt": INPUT + CONV.replace('"c" type', '"b" type'),
}


@pytest.fixture(scope="module")
def tally(tmp_path_factory):
    """The rows, what was printed, and the exit status."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, text in FILES.items():
        (folder / "all" / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / "all" / name).write_text(text)
    weights.save(folder / "all" / "one" / "w.caffemodel", Net(folder / "all" / "one" / "net.prototxt"))
    weights.save(folder / "all" / "two" / "r.caffemodel", Net(folder / "all" / "one" / "v1.prototxt"))
    (folder / "y.prototxt").write_text(FILES["one/v1.prototxt"].replace('"r"', '"y"'))
    weights.save(folder / "all" / "two" / "y.caffemodel", Net(folder / "y.prototxt"))
    (folder / "all" / "three" / "trained").mkdir()
    weights.save(folder / "all" / "three" / "trained" / "w.caffemodel", Net(folder / "all" / "three" / "nets" / "deploy.prototxt"))
    status = main(["corpus", str(folder / "all"), "--json", str(folder / "now.json"), "--workers", "2"])
    return json.loads((folder / "now.json").read_text()), folder, status


def test_each_content_counts_once_and_as_what_it_is(tally):
    rows, folder, status = tally
    assert status == 0
    kinds = {row["path"]: row["kind"] for row in rows}
    assert {kinds.pop(f"{name}.caffemodel") for name in ("one/w", "two/r", "two/y", "three/trained/w")} == {"weights"}
    assert kinds == {
        name: "label map" if "labels" in name else "solver" if any(w in name for w in ("solver", "policy", "tests")) else "net"
        for name in FILES if name not in ("two/same.prototxt", "two/notes.txt")}
    assert [row["places"] for row in rows if row["path"] == "one/net.prototxt"] == [["one/net.prototxt", "two/same.prototxt"]]
    assert len(gathered(folder / "all")) == len(rows)


def test_what_comes_of_each_net(tally):
    ran = {row["path"]: row["steps"]["run"] for row in tally[0] if row["kind"] == "net"}
    assert [name for name, why in ran.items() if not why] == ["one/net.prototxt", "one/v1.prototxt", "three/nets/deploy.prototxt", "three/nets/other_deploy.prototxt", "two/large.prototxt", "two/train.prototxt"]
    assert "'Odd'" in ran["one/odd.prototxt"] and "--trust" in ran["two/python.prototxt"]
    assert {row["path"]: row["how"] for row in tally[0] if row["steps"].get("run") == ""}["two/large.prototxt"] == "meta"
    looked = {row["path"] for row in tally[0] if row["steps"].get("compared") == ""}
    assert "one/odd.prototxt" in looked  # it is equal to itself, whatever it computes
    assert "'c'" in ran["two/staged.prototxt"]  # in stage deploy


def test_weights_run_in_the_net_beside_them_that_they_fit(tally):
    rows = {row["path"]: row for row in tally[0]}
    assert rows["one/w.caffemodel"]["steps"] == {"read": "", "run": ""} and rows["one/w.caffemodel"]["net"] == "net.prototxt"
    assert rows["two/r.caffemodel"]["steps"] == {"read": ""}  # nothing beside them is their net
    assert "'Odd'" in rows["two/y.caffemodel"]["steps"]["run"]  # of which the net with their layer cannot be built
    apart = rows["three/trained/w.caffemodel"]  # in a folder without nets
    assert apart["steps"] == {"read": "", "run": ""} and apart["net"] == "../nets/deploy.prototxt"


def test_detections_agree_in_any_order_of_equal_scores():
    found = np.array([[0, 1, 0.9, 1, 2, 3, 4], [0, 1, 0.5, 0, 0, 1, 1], [0, 1, 0.5, 5, 5, 6, 6], [1, 2, 0.4, 0, 0, 2, 2]], np.float32)
    theirs = np.concatenate([found[[0, 3, 2, 1]], np.zeros((3, 7), np.float32)])[None, None]
    assert rows_apart(found[None, None], theirs) == 0
    none = np.float32([[0, -1, -1, -1, -1, -1, -1]])
    assert rows_apart(none, np.zeros((5, 7), np.float32)) == 0
    assert rows_apart(none, theirs) == math.inf
    assert rows_apart(found[[0, 1, 2]], theirs) == math.inf
    moved = found.copy()
    moved[1, 6] += 0.6  # one box of those of equal scores
    assert rows_apart(moved, theirs) == pytest.approx(0.1)
    assert rows_apart(found[[1, 0, 2, 3]], theirs) > 0.05  # the surest is first
    moved[:, 1] = 2
    assert rows_apart(moved, theirs) == math.inf


def test_numbers_are_as_far_apart_as_the_largest_of_opencvs_says():
    assert numbers_apart(np.float32([1, 2]), np.float32([[1, 4]])) == 0.5
    assert numbers_apart(np.float32([1, 2]), np.float32([1])) == math.inf


def test_it_is_counted(tally):
    counts = totals(tally[0])
    assert counts["weights that are read"] == (4, 4) and counts["- that run in a net beside them"] == (2, 3)
    assert counts["nets that build and run forward"] == (6, 10)
    assert counts["- by shapes alone: large"] == (1, 6)
    assert counts["solvers"] == (2, 3) and counts["files that are none of these"] == (1, 18)
    assert counts["tracebacks"] == counts["time-outs"] == (0, 18)
    why = {line[2]: line[:2] for line in reasons(tally[0], ["run"])}
    assert why["type Odd"] == (3, 2) and why["python module m.n"] == (1, 1)
    assert types(tally[0])[0] == (2, 2, 2, "Odd", "not known")
    assert {line[3] for line in types(tally[0])} >= {"InnerProduct", "Convolution"}


def test_a_tally_beside_an_earlier_one(tally, capsys):
    rows, folder, _ = tally
    before = [row | {"steps": {}} for row in rows]
    (folder / "before.json").write_text(json.dumps(before))
    small = folder / "small"
    small.mkdir()
    (small / "net.prototxt").write_text(INPUT + CONV)
    assert main(["corpus", str(small), "--before", str(folder / "before.json"), "--workers", "1"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("nets that build"))
    assert line.split("forward")[1].split() == ["0", "of", "1", "(0.0", "%)", "1", "of", "1", "(100.0", "%)"]


@pytest.mark.parametrize("words, said", [
    (["FILE"], "is a file; expected a folder"),
    ([".", "--limit", "inf"], "--limit at most a million seconds"),
    ([".", "--before", "FILE"], "is no file that --json of this command wrote"),
    ([".", "--before", "ROWS"], "is no file that --json of this command wrote"),
])
def test_what_is_no_folder_tally_or_time_is_said(tmp_path, capsys, words, said):
    (tmp_path / "FILE").write_text(INPUT)
    (tmp_path / "ROWS").write_text('[{"kind": "net"}]')
    assert main(["corpus", *(str(tmp_path / word) if word.isupper() or word == "." else word for word in words)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("said, counted", [
    ("a/b.prototxt:3:9: ConvolutionParameter has no field 'odd'", "field ConvolutionParameter.odd"),
    ("a.prototxt:3: layer 'x' has type 'Odd', which is not known; did you mean 'Add'?", "type Odd"),
    ("s.prototxt: solver type 'Odd' is not known; did you mean 'SGD'?", "solver type Odd"),
    ("a.prototxt: layer 'x': filler type 'odd' is not known; did you mean 'gaussian'?", "filler type odd"),
    ("a.prototxt:3: layer 'x' (Concat): needs [1, 2], found [3]", "Concat: needs N, found N"),
    ("a.prototxt:3: layer 'y' (Concat): needs [7], found [8, 9]", "Concat: needs N, found N"),
])
def test_sentences_of_one_reason_are_one(said, counted):
    assert reason(said) == counted


def test_words_at_random_are_rows_of_the_table():
    net = parse('layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 50 dim: 1 dim: 4 } } } layer { name: "f" '
                'type: "Flatten" bottom: "d" top: "f" } layer { name: "e" type: "Embed" bottom: "f" top: "e" '
                'embed_param { input_dim: 9 num_output: 2 } }', NetParameter)
    words = draw(build(net)).blobs["d"]
    assert words.shape == (50, 1, 4) and sorted({*words.flatten().tolist()}) == [*range(9)]


def busy(number):
    if number == 1:
        time.sleep(60)
    if number == 3:
        os._exit(9)
    return number * number


def test_a_process_that_hangs_or_ends_costs_its_item_alone():
    found = {number: (made, why) for number, made, why in each(busy, range(6), 2, 0.7)}
    assert found == {n: (n * n, "") for n in (0, 2, 4, 5)} | {1: (None, "took longer than 0.7 s"), 3: (None, "ended its process")}
