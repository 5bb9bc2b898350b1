"""The judge of folders of results: counts, lines and exit status."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
LAYERS = PROJECT / "tests/golden/layers"


def judged(*folders):
    found = subprocess.run([sys.executable, "tests/judge.py", *map(str, folders)], cwd=PROJECT, capture_output=True, text=True)
    return found.returncode, found.stdout.splitlines()


def copied(name, folder, **changed):
    shutil.copy(LAYERS / f"{name}.prototxt", folder)
    np.savez(folder / f"{name}.npz", **{**np.load(LAYERS / f"{name}.npz"), **changed})


def test_it_counts_what_agrees(tmp_path):
    copied("relu", tmp_path)
    copied("roi_ties", tmp_path)
    assert judged(tmp_path) == (0, ["2 of 2 agree"])


def test_it_says_what_disagrees(tmp_path):
    copied("roi_ties", tmp_path, **{"indiff:x": np.load(LAYERS / "roi_ties.npz")["indiff:x"] + 1})
    copied("tanh", tmp_path)
    (tmp_path / "unread.npz").write_bytes((tmp_path / "tanh.npz").read_bytes())
    (tmp_path / "README.md").write_text("no case")
    status, lines = judged(tmp_path)
    assert status == 1 and lines[-1] == "1 of 3 agree"
    assert [line.partition(":")[0] for line in lines[:-1]] == ["roi_ties", "unread"] and "indiff:x" in lines[0]


def test_targets_are_judged(tmp_path):
    dets = np.array([[0, 0, 9, 9, 0.5], [0, 0, 9, 4, 0.9], [20, 0, 29, 9, 0.5]], np.float32)
    for name, keep in (("nms_right", [1, 2]), ("nms_order", [2, 1]), ("nms_count", [1, 2, 0]), ("other_kind", [1, 2])):
        np.savez(tmp_path / f"{name}.npz", config='{"threshold": 0.5}', **{"in:dets": dets, "out:keep": np.array(keep)})
    status, lines = judged(tmp_path)
    assert status == 1 and lines[-1] == "1 of 4 agree" and lines[2] == "other_kind: files of no known form"
    assert [line.partition(":")[0] for line in lines[:-1]] == ["nms_count", "nms_order", "other_kind"]


def test_nothing_judged_is_no_agreement(tmp_path):
    assert judged(tmp_path) == (1, ["0 of 0 agree"])
    assert judged(tmp_path / "none")[0] == 1


def test_average_precision_is_judged_by_its_files(tmp_path):
    case = {"classes": ["a", "b"], "truth": {"1": [{"name": "a", "bbox": [1, 1, 20, 20], "difficult": 0}], "2": []},
            "detections": [{"name": "a", "image": "1", "score": 0.9, "bbox": [1, 1, 20, 20]}],
            "results": {"a@0.5": {"ap": 1.0, "ap_11_point": 1.0, "recall": [1.0], "precision": [1.0]},
                        "b@0.5": {"ap": 0.0, "ap_11_point": 0.0, "recall": [], "precision": []}},
            "mean": {"0.5": {"map": 0.5, "map_11_point": 0.5}}}
    (tmp_path / "voc_ap_right.json").write_text(json.dumps(case))
    case["results"]["a@0.5"]["precision"] = [0.5]
    (tmp_path / "voc_ap_wrong.json").write_text(json.dumps(case))
    status, (line, last) = judged(tmp_path)
    assert status == 1 and line.startswith("voc_ap_wrong: AssertionError:") and "precision of a at 0.5" in line
    assert last == "1 of 2 agree"
