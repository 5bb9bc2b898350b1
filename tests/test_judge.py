"""The judge of folders of results: counts, lines and exit status."""

import json
import shutil
from pathlib import Path

import numpy as np
import programs

PROJECT = Path(__file__).resolve().parent.parent
LAYERS = PROJECT / "tests/golden/layers"


def judged(*folders):
    found = programs.run("tests/judge.py", *folders, cwd=PROJECT)
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


def clouds(path, patches, names, truths, masks, results, side=4, **told):
    """A file of the form of 38-Cloud's: one patch a scene, so that what comes of it can be told by hand."""
    config = {"patch": side, "threshold": 12 / 255, "names": names, "results": results} | told
    np.savez(path, config=json.dumps(config), **{"in:patches": patches}, **{f"in:truth:{k}": v for k, v in truths.items()},
             **{f"out:mask:{k}": v for k, v in masks.items()})


def test_scenes_of_clouds_are_judged(tmp_path):
    truth = np.uint8([[1, 1, 0], [0, 0, 0]])
    patch = np.zeros((1, 4, 4), np.float16)
    patch[0, 1, 0] = patch[0, 1, 2] = 0.5  # the scene begins a row below and no column to the right
    found = np.uint8([[1, 0, 1], [0, 0, 0]])
    told = {"offset": [1, 0], "tp": 1, "fp": 1, "fn": 1, "tn": 3, "precision": 50, "recall": 50, "specificity": 75, "jaccard": 100 / 3,
            "accuracy": 400 / 6}
    clear = {"offset": [1, 0], "tp": 0, "fp": 0, "fn": 0, "tn": 6, "precision": None, "recall": float("nan"), "specificity": 100,
             "jaccard": None, "accuracy": 100}
    names = ["patch_1_1_by_1_LC08_A", "patch_1_1_by_1_LC08_B"]
    keys = ("precision", "recall", "specificity", "jaccard", "accuracy")
    mean = dict.fromkeys(keys) | {"specificity": 87.5, "accuracy": (100 + 400 / 6) / 2}
    clouds(tmp_path / "clouds_right.npz", patch, names[:1], {"LC08_A": truth}, {"LC08_A": found}, {"LC08_A": told},
           mean={key: told[key] for key in keys})
    both = np.concatenate([patch, np.zeros((1, 4, 4), np.float16)])
    everything = {"LC08_A": truth, "LC08_B": 0 * truth}, {"LC08_A": found, "LC08_B": 0 * truth}, {"LC08_A": told, "LC08_B": clear}
    clouds(tmp_path / "clouds_empty.npz", both, names, *everything, mean=mean)
    clouds(tmp_path / "clouds_wrong_mean.npz", both, names, *everything, mean=mean | {"jaccard": 50 / 3})
    clouds(tmp_path / "clouds_wrong_mask.npz", patch, names[:1], {"LC08_A": truth}, {"LC08_A": found[:, ::-1] * np.uint8(0)},
           {"LC08_A": told}, mean={key: told[key] for key in keys})
    status, lines = judged(tmp_path)
    assert status == 1 and lines[-1] == "2 of 4 agree"
    assert [line.partition(":")[0] for line in lines[:-1]] == ["clouds_wrong_mask", "clouds_wrong_mean"]
