"""Any number of images into a folder with a manifest: each once, whatever ends a run."""

import json
import os
import pickle
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import programs
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.base.files import alone
from netspec.cli import main as cli
from netspec.proto.model import write_weights
from netspec.score import archive, manifest
from netspec.score.archive import Job, place

from .test_infer import NET, thirds, written
from .test_infer import place as folder  # noqa: F401 - a fixture


@pytest.fixture
def many(folder):  # noqa: F811
    """Pictures of several sizes in the folder many and one in it, with equal names in both."""
    for i in range(12):
        at = Path("many", "deep" * (i % 2), f"im{i // 2}.png")
        at.parent.mkdir(parents=True, exist_ok=True)
        thirds(9 + i, 8, order=(i % 3, (i + 1) % 3, (i + 2) % 3)).save(at)
    return folder


def run(capsys, *argv, given="many", out="o", weights="net.caffemodel"):
    status = cli.main(["infer", "net.prototxt", weights, "--list", given, "--out", out, "--device", "cpu", *map(str, argv)])
    return status, *capsys.readouterr()


def results(out="o"):
    return {str(path.relative_to(out)): path.read_bytes() for path in Path(out).rglob("*")
            if path.is_file() and path.name != manifest.NAME}


def lines(out="o"):
    return [json.loads(line) for line in Path(out, manifest.NAME).read_text().splitlines()]


def names(out="o"):
    return [row["image"] for row in lines(out)[1:]]


EACH = [*(f"im{i}.png" for i in range(6)), *(f"deep/im{i}.png" for i in range(6))]


def test_a_folder_gives_what_infer_gives_of_each(many, capsys):
    status, out, err = run(capsys, "--scores", "--cutout", "red")
    assert (status, err) == (0, "") and out.startswith("12 images in ")
    assert names() == EACH and len(results()) == 4 * 12
    argv = ["infer", "net.prototxt", "net.caffemodel", "--device", "cpu", "--scores", "--cutout", "red", "--json"]
    assert cli.main([*argv, "many", "--out", "a"]) == cli.main([*argv, "many/deep", "--out", "a/deep"]) == 0
    assert results() == results("a")
    told = json.loads(capsys.readouterr().out.partition("}\n{")[0] + "}")
    rows = {row["image"]: row for row in lines()[1:]}
    for image in told["images"]:
        row = rows[image["image"].removeprefix("many/")]
        assert all(row[key] == image[key] for key in ("size", "classes"))
        assert {what: f"a/{path}" for what, path in row["files"].items()} == image["files"]


def test_a_second_run_does_what_is_new_changed_gone_or_was_wrong(many, capsys):
    Path("many/im1.png").write_bytes(b"no picture")
    status, out, err = run(capsys)
    assert status == 2 and out.startswith("11 images in ")
    assert "im1.png" in err and "1 of 12 images gave no results: o/manifest.jsonl says why" in err
    before = Path("o", manifest.NAME).read_bytes()
    thirds().save("many/new.png")
    thirds(7, 7).save("many/im2.png")
    os.utime("many/im3.png", ns=(1, 1))
    Path("o/deep/im4_overlay.png").unlink()
    thirds(9, 9).save("many/im1.png")
    status, out, err = run(capsys)
    assert (status, err) == (0, "note: 8 of 13 images are done already, as o/manifest.jsonl says\n")
    assert Path("o", manifest.NAME).read_bytes().startswith(before)
    assert names()[12:] == ["im1.png", "im2.png", "im3.png", "new.png", "deep/im4.png"]
    run(capsys, out="straight")
    assert results() == results("straight")
    assert run(capsys)[:2] == (0, "nothing to do\n")
    assert sorted(row["image"] for row in manifest.rows(Path("o", manifest.NAME))) == sorted([*EACH, "new.png"])


def test_other_results_are_refused_with_what_differs(many, capsys):
    assert run(capsys)[0] == 0
    write_weights("other.caffemodel", "thirds", {"score": ("Convolution", [np.ones((3, 3, 3, 3), np.float32), np.zeros(3, np.float32)])})
    status, _, err = run(capsys, "--flip", "--alpha", "0.3", weights="other.caffemodel")
    assert status == 2 and len(err.splitlines()) == 1
    assert "(other weights; alpha 0.55, now 0.3; flip false, now true); give another --out" in err
    shutil.copy("net.caffemodel", "copy.caffemodel")
    assert run(capsys, weights="copy.caffemodel")[:2] == (0, "nothing to do\n")


def test_what_a_wrong_start_leaves_is_no_obstacle(many, capsys):
    write_weights("other.caffemodel", "x", {"x": ("Convolution", [np.ones((3, 3, 3, 3), np.float32)])})
    assert run(capsys, weights="other.caffemodel")[0] == 2
    assert run(capsys)[0] == 0


def test_of_a_last_line_without_its_end_nothing_counts(many, capsys):
    run(capsys)
    whole = Path("o", manifest.NAME).read_bytes()
    for tail in (b"{", b"\0\0\0", b'{"image": "im0.png", "bytes": 1, "mtime_ns": 1, "error": ""}'):
        Path("o", manifest.NAME).write_bytes(whole + tail)
        assert run(capsys)[:2] == (0, "nothing to do\n")
        assert Path("o", manifest.NAME).read_bytes() == whole
    Path("o", manifest.NAME).write_bytes(whole[:-7])
    assert run(capsys)[1].startswith("1 image in ") and names() == EACH


def test_a_damaged_line_is_refused_with_its_number(many, capsys):
    run(capsys)
    kept = Path("o", manifest.NAME).read_bytes().splitlines(keepends=True)
    for line in (b"{", b"[]", b'{"image": "a"}', b'{"image": "a", "bytes": 1, "mtime_ns": 1, "frames": [1]}',
                 b'{"image": "a", "bytes": 1%s, "mtime_ns": 1, "error": ""}' % (b"0" * 5000), b'{"image": 1, "bytes": 1, "mtime_ns": 1, "error": ""}', b"\xff\xff", b"[" * 100_000):
        Path("o", manifest.NAME).write_bytes(b"".join([*kept[:3], line + b"\n", *kept[3:]]))
        status, _, err = run(capsys)
        assert status == 2 and "o/manifest.jsonl:4: is no line of a manifest" in err and len(err) < 400
    Path("o", manifest.NAME).write_bytes(b"".join(kept[1:]))
    assert "o/manifest.jsonl:1: " in (err := run(capsys)[2]) and "take the line away" not in err


def test_of_two_runs_one_writes(many, capsys):
    run(capsys)
    with alone(Path("o", manifest.NAME)):
        status, _, err = run(capsys)
    assert status == 2 and "another run is at work on o/manifest.jsonl" in err


def test_a_list_names_images_and_nothing_leaves_the_folder(many, capsys, tmp_path):
    outside = tmp_path / "else/im9.png"
    outside.parent.mkdir()
    thirds().save(outside)
    Path("lists").mkdir()
    thirds().save("lists/im8.png")
    Path("o").mkdir()
    thirds().save("o/in.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.png")
    else:
        Path("pipe.png").mkdir()
    given = ["many/im0.png", str(outside), "im8.png", "../many/im1.png", "many/im0.png", "o/in.png", "pipe.png", "gone.png", "many", "-", ""]
    Path("lists/list.txt").write_text("\r\n".join(given))
    status, out, err = run(capsys, given="lists/list.txt")
    assert status == 2 and out.startswith("4 images")
    assert {name for name in results() if "labels" in name} == {
        "many/im0_labels.png", "im8_labels.png", "many/im1_labels.png", f"{str(outside)[1:-4]}_labels.png"}
    errors = {row["image"]: row["error"] for row in lines()[1:] if "error" in row}
    assert [*errors] == ["o/in.png", "pipe.png", "gone.png", "many", "-"]
    assert "give another --out" in errors["o/in.png"] and "a pipe" in errors["pipe.png"] and "a folder" in errors["many"]
    assert "5 of 9 images gave no results" in err


@pytest.mark.parametrize("name, found", [("a.jpg", "a"), ("b/a.tar.gz", "b/a.tar"), ("../../a.jpg", "a"), ("/x/y/a.jpg", "x/y/a"), ("b/../../a", "a"), ("./b//a.jpg", "b/a"), ("b\\a.jpg", "b/a"), ("..", ""), ("b/.hidden", "b/.hidden")])
def test_places(name, found):
    assert place(name) == found


def test_of_two_images_with_one_place_the_one_that_was_done_is_kept(many, capsys):
    assert run(capsys)[0] == 0
    before = results()
    thirds(5, 5).save("many/im0.bmp")
    status, _, err = run(capsys)
    assert status == 2 and "image im0.bmp would have the same results as im0.png; rename one of them" in err
    assert results() == before
    thirds(5, 5).save("many/b.bmp")
    thirds(5, 5).save("many/b.png")
    assert "image b.png would have the same results as b.bmp" in run(capsys)[2]


def test_files_of_several_pictures(many, capsys):
    thirds().save("many/move.gif", save_all=True, append_images=[thirds(order=(2, 1, 0))])
    thirds().save("many/move_0002.png")
    status, _, err = run(capsys)
    assert status == 2 and "image move_0002.png would have the same results as one of the pictures in move.gif" in err
    row = next(row for row in lines() if row.get("image") == "move.gif")
    assert [frame["files"]["labels"] for frame in row["frames"]] == ["move_0001_labels.png", "move_0002_labels.png"]
    Path("many/move_0002.png").unlink()
    assert run(capsys)[:2] == (0, "nothing to do\n")
    Path("o/move_0002_labels.png").unlink()
    assert run(capsys)[1].startswith("1 image")
    data = Path("many/move.gif").read_bytes()
    Path("many/move.gif").write_bytes(data[:-30])
    assert run(capsys)[0] == 2 and "error" in lines()[-1] and len(lines()[-1]["frames"]) == 1


@pytest.mark.parametrize("argv, said", [
    (["--json"], "--json: --list has no such thing"), (["--engine", "openvino"], "--engine: --list has no such thing"),
    (["--samples", "3"], "drops nothing in TEST"), (["photo.png"], "it goes without IMAGE (photo.png)"), (["--out", "."], "--list needs --out DIR"),
    (["--out", "many"], "give another --out"), (["--tile", "16", "--flip"], "--tile goes without"), (["--list", "empty.txt"], "names no image"),
    (["--list", "nowhere"], "--list 'nowhere' is not there"), (["--list", "net.caffemodel"], "--list net.caffemodel is binary"),
    (["--list", "/dev/zero"], "is a folder, a device or a pipe"), (["--list", "empty"], "has no images"), (["--out", "net.prototxt"], "a file stands")])
def test_what_does_not_go_is_one_sentence(many, capsys, argv, said):
    Path("empty.txt").write_text("\n \n")
    Path("empty").mkdir()
    status, out, err = run(capsys, *argv)
    assert (status, out) == (2, "") and said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("net, said", [("shapes-rfcn", "finds objects in images, and --list is of nets that segment"), ("clouds-fcn8s", "finds clouds in whole scenes, and --list is of images")])
def test_nets_for_something_else_are_refused(many, capsys, net, said):
    status = cli.main(["infer", net, "net.caffemodel", "--list", "many", "--out", "o"])
    assert status == 2 and said in capsys.readouterr().err and not Path("o").exists()


def test_a_net_that_draws_gives_the_same_with_samples_alone(many, capsys):
    drop = 'layer { name: "drop" type: "Dropout" bottom: "data" top: "seen" dropout_param { sample_weights_test: true } }\n'
    Path("net.prototxt").write_text(NET.replace('layer { name: "score"', drop + 'layer { name: "score"').replace('bottom: "data" top: "score"', 'bottom: "seen" top: "score"'))
    status, _, err = run(capsys)
    assert status == 2 and "no two runs would give the same: --samples N" in err
    for out in ("o", "again"):
        assert run(capsys, "--samples", "3", out=out)[0] == 0
    assert results() == results("again") and len(results()) == 36 and "uncertainty" in lines()[1]
    assert "draws [3, 0], now [3, 5]" in run(capsys, "--samples", "3", "--seed", "5")[2]


def test_what_goes_with_a_list_alone(many, capsys):
    for argv in (["--jobs", "2"], ["--parquet"]):
        assert cli.main(["infer", "net.prototxt", "net.caffemodel", "photo.png", *argv]) == 2
        assert f"{argv[0]} goes with --list" in capsys.readouterr().err
    assert cli.main(["infer", "net.prototxt", "net.caffemodel"]) == 2
    assert "no IMAGE is given: net.caffemodel holds weights" in capsys.readouterr().err
    assert "--jobs must be at least 1, found 0" in run(capsys, "--jobs", "0")[2]


def test_a_job_that_cannot_be(many):
    with pytest.raises(Error, match="tiles go without scales, flip and draws"):
        Job("net.prototxt", "net.caffemodel", "p", device="cpu", tile=16, flip=True).open()
    Path("net.prototxt").write_text(NET.replace(", 'mean': [0, 0, 0]", ""))
    with pytest.raises(Error, match="give the job one"):
        Job("net.prototxt", "net.caffemodel", "p", device="cpu").open()
    with pytest.raises(Error, match="a mean of 2 numbers"):
        Job("net.prototxt", "net.caffemodel", "p", device="cpu", mean=(1.0, 2.0)).open()


def test_results_below_the_folder_are_no_images(many, capsys):
    assert run(capsys, out="many/seen")[0] == 0
    assert run(capsys, out="many/seen")[:2] == (0, "nothing to do\n")
    assert len(results("many/seen")) == 24


def test_a_link_that_leads_nowhere_is_said(many, capsys):
    Path("many/gone.png").symlink_to("nowhere.png")
    status, out, err = run(capsys)
    assert status == 2 and out.startswith("12 images") and "image gone.png is a link that leads nowhere" in err
    assert "(0.0 images/s)" in run(capsys)[1]


def test_a_full_disk_ends_the_run(many, capsys, monkeypatch):
    from netspec.score import stream

    kept = []

    def full(*args):
        kept.append(None)
        if len(kept) > 3:
            raise OSError(28, "No space left on device", "o/x_labels.png")
        return write(*args)

    write = stream.write
    monkeypatch.setattr(stream, "write", full)
    status, _, err = run(capsys)
    assert (status, err) == (2, "netspec infer: o/x_labels.png: No space left on device\n")
    assert names() == EACH[:3]


def test_a_worker_is_for_programs_of_ones_own(many, tmp_path):
    job = pickle.loads(pickle.dumps(Job("net.prototxt", "net.caffemodel", "p", device="cpu")))
    worker = job.open()
    row = worker("deep/im1.png", tmp_path / "many/deep/im1.png")
    assert row["files"]["labels"] == "deep/im1_labels.png" and row["classes"][0]["name"] in ("red", "green", "blue")
    assert sorted(results("p")) == ["deep/im1_labels.png", "deep/im1_overlay.png"] and json.dumps(row)
    assert "is not there" in worker("gone.png")["error"]
    assert worker("photo.png")["size"] == [12, 6] and written("p") == ["deep", "photo_labels.png", "photo_overlay.png"]


def test_notes_are_rows_too(many, capsys):
    image = Image.new("RGB", (9, 9))
    image.save("many/p.png", icc_profile=b"no profile")
    assert run(capsys)[0] == 0
    assert "colour profile" in next(row for row in lines() if row.get("image") == "p.png")["notes"][0]
    assert archive.stamp("many/p.png") == {key: next(row for row in lines() if row.get("image") == "p.png")[key] for key in ("bytes", "mtime_ns")}


ODD = """import os
import signal

import netspec as caffe


class Odd(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        if bottom[0].data.shape[2:] == (13, 17):
            os.kill(os.getpid(), signal.SIGKILL)
        top[0].data[...] = bottom[0].data
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_several_processes_give_the_same_and_one_that_dies_costs_its_image(many, capsys, monkeypatch):
    """The net itself ends the process at an image of 17x13."""
    monkeypatch.syspath_prepend(str(many))
    Path("odd.py").write_text(ODD)
    odd = 'layer { name: "odd" type: "Python" bottom: "data" top: "seen" python_param { module: "odd" layer: "Odd" } }\n'
    Path("net.prototxt").write_text(NET.replace('layer { name: "score"', odd + 'layer { name: "score"').replace('bottom: "data" top: "score"', 'bottom: "seen" top: "score"'))
    assert run(capsys, out="straight")[0] == 0
    thirds(17, 13).save("many/fatal.png")
    status, out, err = run(capsys, "--jobs", "2")
    assert status == 2 and out.startswith("12 images in ")
    assert "image many/fatal.png: a process that computed it ended by SIGKILL, twice; where memory ran out, fewer --jobs" in err
    assert results() == results("straight") and sorted(names()) == sorted([*EACH, "fatal.png"])
    assert "error" in next(row for row in lines()[1:] if row["image"] == "fatal.png")


def test_a_process_that_cannot_hold_the_net_ends_the_run(many, capsys):
    write_weights("other.caffemodel", "x", {"x": ("Convolution", [np.ones((3, 3, 3, 3), np.float32)])})
    status, _, err = run(capsys, "--jobs", "1", weights="other.caffemodel")
    assert status == 2 and "has no layer of net 'thirds'" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_who_stops_a_run_gets_the_images_in_flight(many, number):
    for i in range(300):
        shutil.copy("many/im0.png", f"many/copy{i}.png")
    process = begun()
    wait_for(lambda: len(lines()) > 5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    done = names()
    assert process.returncode == 128 + number and 5 <= len(done) < 300
    assert err.endswith(f": {len(done)} of 312 images are done; the same command goes on\n")
    assert len(results()) == 2 * len(done)


def begun(*argv, out="o"):
    return programs.Program("-m", "netspec", "infer", "net.prototxt", "net.caffemodel", "--list", "many", "--out", out, "--device", "cpu", *argv, cwd=".")


def wait_for(condition):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError, ValueError):
            if condition():
                return
        time.sleep(0.005)
    raise AssertionError("it does not come")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_again_and_again_it_ends_as_if_it_was_not(many, capsys):
    for i in range(60):
        thirds(8 + i % 5, 9).save(f"many/more{i}.png")
    for more in (3, 25):
        process = begun()
        wait_for(lambda more=more: len(lines()) > more)
        process.kill()
        process.wait(60)
        assert all(name.startswith(".") or Image.open(f"o/{name}").load() for name in os.listdir("o") if name.endswith("png"))
    assert run(capsys)[0] == run(capsys, out="straight")[0] == 0
    assert results() == results("straight") and len(names()) == len(set(names())) == 72


def test_a_manifest_is_a_table_too(many, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    thirds().save("many/move.gif", save_all=True, append_images=[thirds(order=(2, 1, 0))])
    Path("many/im1.png").write_bytes(b"no picture")
    Path("many/\udcff.png").write_bytes(b"no picture")
    status, out, _ = run(capsys, "--parquet")
    assert status == 2 and out.endswith("wrote o/manifest.parquet\n")
    told = parquet.read_table("o/manifest.parquet").to_pylist()
    assert len(told) == 11 + 2 + 2 and {row["image"] for row in told if row["status"] == "error"} == {"im1.png", "\\udcff.png"}
    first = told[0]
    assert first["image"] == "im0.png" and (first["width"], first["height"]) == (9, 8) and first["labels"] == "im0_labels.png"
    assert first["share_red"] == next(c["share"] for c in lines()[1]["classes"] if c["name"] == "red")
    assert [row["frame"] for row in told if row["image"] == "move.gif"] == [1, 2]
    assert next(row for row in told if row["image"] == "im1.png")["share_red"] is None


def test_a_table_needs_its_library(many, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, out, err = run(capsys, "--parquet")
    assert (status, out, err) == (2, "", "netspec infer: writing Parquet needs pyarrow: pip install pyarrow\n") and not Path("o").exists()
