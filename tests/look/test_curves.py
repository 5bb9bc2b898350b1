"""Curves out of Caffe's log and of our own runs, live events, and what is no log."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import types
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from training import changed, solve, start, write_job

from netspec.base import log
from netspec.base.errors import Error
from netspec.base.machine import origin
from netspec.cli import main as cli
from netspec.look import curves

GOLDEN = Path(__file__).parents[1] / "golden" / "log" / "train.log"
OLD = """solver.cpp:43] Solving old
I0101 solver.cpp:106] Iteration 0, loss = 3.5
I0101 solver.cpp:122]     Train net output #0: loss = 3.25 (* 0.5 = 1.625 loss)
I0101 solver.cpp:122]     Train net output #1: accuracy = 0.1
I0101 solver.cpp:122]     Train net output #2: accuracy = 0.2
I0101 sgd_solver.cpp:46] Iteration 0, lr = 1e-10
I0101 solver.cpp:189] Iteration 10, Testing net (#1)
I0101 solver.cpp:204]     Test net output #0: accuracy = 0.75
I0101 solver.cpp:106] Iteration 20, loss = nan
I0101 solver.cpp:106] Iteration 30, loss = 2
"""


def test_the_numbers_of_caffes_log():
    (run,) = curves.read_log(GOLDEN)
    assert run.name == "tiny_fcn"
    assert run.series == {
        ("loss", "test loss"): [(0, 1.37386), (10, 1.33517), (20, 1.30484)],
        ("loss", "smoothed loss"): [(0, 1.37513), (5, 1.36663), (10, 1.34559), (15, 1.32247), (20, 1.3096)],
        ("loss", "train loss"): [(0, 1.37513), (5, 1.35804), (10, 1.3376), (15, 1.31301)],
        ("learning rate", "learning rate"): [(0, 0.01), (5, 0.01), (10, 0.005), (15, 0.005)],
    }


def test_older_lines_several_outputs_and_numbers_that_are_none(tmp_path):
    (tmp_path / "old.log").write_text(OLD)
    (run,) = curves.read_log(tmp_path / "old.log")
    assert {key: len(points) for key, points in run.series.items()} == {
        ("loss", "smoothed loss"): 3, ("loss", "train loss"): 1, ("other outputs", "train accuracy"): 1,
        ("other outputs", "train accuracy #2"): 1, ("other outputs", "test #1 accuracy"): 1, ("learning rate",) * 2: 1}
    assert run.series["other outputs", "test #1 accuracy"] == [(10, 0.75)]
    curves.draw_curves([run]).save(tmp_path / "old.png")
    assert Image.open(tmp_path / "old.png").size == (2 * 420, 3 * 2 * 290)  # two pixels a point, three panels


def test_the_mean_iu_of_tests_beside_the_losses(tmp_path):
    """Overfitting: the train loss falls, the test loss rises, the mean IU falls from its best."""
    lines = ["netspec] Iteration 0, test net #1: mean IU 5.0, 7 images"]
    for i, (smoothed, tested, iu) in enumerate(((3, 3.1, "10.0"), (2, 2.5, "35.5"), (1, 2.7, "33.0"), (0.5, 3.2, "30.1"))):
        lines += [f"] Iteration {20 * i}, loss = {smoothed}", f"] Iteration {20 * i}, Testing net (#0)",
                  f"]     Test net output #0: loss = {tested} (* 1 = {tested} loss)",
                  f"netspec] Iteration {20 * i}, test net #0: mean IU {iu} of 3 of 4 classes, 5 of 9 images (never in the truth: a)"]
    (tmp_path / "run.log").write_text("\n".join([*lines, ""]))
    (run,) = curves.read_log(tmp_path / "run.log")
    assert run.series["mean IU in percent", "test mean IU"] == [(0, 10), (20, 35.5), (40, 33), (60, 30.1)]
    assert run.series["mean IU in percent", "test #1 mean IU"] == [(0, 5)]
    assert run.series["loss", "test loss"][-1] == (60, 3.2)
    curves.draw_curves([run]).save(tmp_path / "run.svg")
    assert "test mean IU, best 35.5 at 20" in (tmp_path / "run.svg").read_text()


SPOKEN = """I1231 23:59:50.000000    1 netspec] max_iter: 450
I1231 23:59:50.000000    1 solver.cpp:289] Solving a
I1231 23:59:55.500000    1 solver.cpp:239] Iteration 0 (1.8e+28 iter/s, 0.007s/20 iters), loss = 9
I0101 00:00:05.500000    1 solver.cpp:239] Iteration 20 (2 iter/s, 10s/20 iters), loss = nan
"""


def spoken(at, seconds):
    return f"I0102 03:00:{seconds:09.6f}    1 solver.cpp:239] Iteration {at} (9 iter/s, 9s/20 iters), loss = 2\n"


def test_how_fast_a_run_is_and_how_long_it_takes_still(tmp_path, capsys):
    """Of the last five intervals; a log over new year, which its lines do not tell, says nothing until then."""
    log = tmp_path / "run.log"
    log.write_text(SPOKEN)
    (run,) = curves.read_log(log)
    assert (run.max_iter, run.iteration, run.speed, run.seconds_left, run.finished) == (450, 20, None, None, False)
    log.write_text(SPOKEN + "".join(spoken(20 * i, 4.0 * i) for i in range(2, 9)) + spoken(400, 59)[:-3])  # is being written
    (run,) = curves.read_log(log)
    assert (run.iteration, run.speed, run.seconds_left) == (160, 5.0, 58.0)
    assert cli.main(["curves", str(log), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"].values()
    assert found == {"panels": {"loss": {"smoothed loss": [[0, 9.0], [20, None], *([20 * i, 2.0] for i in range(2, 9))]}}, "iteration": 160,
                     "max_iter": 450, "finished": False, "iterations_per_second": 5.0, "seconds_left": 58.0}
    assert os.listdir(tmp_path) == ["run.log"]  # and no picture
    assert cli.main(["curves", str(log)]) == 0
    assert "a: 5 iterations/s of late, 0:58 left to 450\n" in capsys.readouterr().out
    with open(log, "a") as file:
        file.write("\nI0102 netspec] max_iter: 600\nI0102 solver.cpp:332] Optimization Done.\nSolving b\n] Iteration 0, loss = 1\n")
    one, two = curves.read_log(log)
    assert (one.max_iter, one.finished, one.seconds_left) == (450, True, 0) and (two.max_iter, two.finished, two.speed) == (600, False, None)


def test_a_resumed_run_is_as_fast_as_it_is_now():
    reader = curves.LogReader()
    for text in (*SPOKEN.splitlines(), "] Solving a", spoken(20, 50), spoken(40, 51)):
        reader.line(text)
    assert [run.speed for run in reader.runs] == [20.0]


def test_caffes_own_log_tells_its_speed():
    (run,) = curves.read_log(GOLDEN)
    assert run.speed == pytest.approx(20 / 0.016346) and run.max_iter is None and run.seconds_left == 0


@pytest.mark.parametrize("runs, names", [
    ({"a/x.log": ["net"]}, ["net"]), ({"a/x.log": ["fcn32s", "fcn16s"], "x.log": ["fcn8s"]}, ["fcn32s", "fcn16s", "fcn8s"]),
    ({"a/x.log": ["net"], "a/y.log": ["net"]}, ["x.log", "y.log"]), ({"a/x.log": ["net"], "b/x.log": ["net"]}, ["a/x.log", "b/x.log"]),
    ({"x.log": ["one", "two"], "y.log": ["one"]}, ["x.log one", "x.log two", "y.log one"]), ({"x.log": [""]}, ["x.log"]),
    ({"x.log": ["a", "b", "a"]}, ["x.log a #1", "x.log b #1", "x.log a #2"]),
])
def test_the_shortest_names_that_differ(runs, names):
    logs = {Path(path): [curves.Training(name) for name in those] for path, those in runs.items()}
    assert [run.name for run in curves.tell_apart(logs)] == names


def test_several_logs_side_by_side_and_in_one_column(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"{name}.log").write_text(OLD.replace("accuracy = 0.75", "right = 1") if name == "two" else OLD)
    assert cli.main(["curves", "one.log", "two.log"]) == 2
    assert "netspec curves: draws 2 logs into one picture; give it a name by --out FILE\n" in capsys.readouterr().err
    assert cli.main(["curves", "one.log", "two.log", "one.log", "--out", "c.svg"]) == 0
    assert "two.log: smoothed loss: 3 values" in capsys.readouterr().out
    assert re.findall(r">(one\.log|two\.log|smoothed loss)<", Path("c.svg").read_text()) == ["one.log", "smoothed loss", "two.log", "smoothed loss"]
    assert cli.main(["curves", "one.log", "two.log", "--overlay", "--json", "--out", "c.svg"]) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)["runs"]) == ["one.log", "two.log"] and err == "wrote c.svg\n"
    text = Path("c.svg").read_text()
    parts = re.split(r">(smoothed loss|train loss|test #1 \w+|train accuracy(?: #2)?|learning rate)<", text)
    assert {part: re.findall(r">(one\.log|two\.log)<", legend) for part, legend in zip(parts[1::2], parts[2::2], strict=True)} == {
        "smoothed loss": ["one.log", "two.log"], "train loss": ["one.log", "two.log"], "test #1 accuracy": ["one.log"],
        "test #1 right": ["two.log"], "train accuracy": ["one.log", "two.log"], "train accuracy #2": ["one.log", "two.log"], "learning rate": ["one.log", "two.log"]}
    figure = curves.draw_curves(curves.tell_apart({Path(name): curves.read_log(name) for name in ("one.log", "two.log")}), overlay=True).figure
    legends = [(text.get_text(), line.get_color()) for place in figure.subfigs for legend in place.legends
               for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)]
    assert len(legends) == 12 and len(set(legends)) == 2  # a run has its colour in all parts


def test_parts_of_runs_over_each_other_stand_side_by_side_and_legends_within_them():
    runs = [curves.Training(f"shapes-fcn{number}s") for number in (32, 16, 8)]
    for run in runs:
        run.series = {("loss", "smoothed loss"): [(0, 3.0), (1, 2.0)], ("mean IU in percent", "test mean IU"): [(20, 23.6)], ("learning rate", "learning rate"): [(0, 1.0)]}
    figure = curves.draw_curves(runs, overlay=True).figure
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    assert (width, height) == (2 * 420 / 72, 2 * 290 / 72)
    for place in figure.subfigs:
        for legend in place.legends:
            assert legend.get_window_extent().width <= place.bbox.width
    one = curves.Training("one")
    one.add("loss", "smoothed loss", 0, 3.0)
    assert curves.draw_curves([one], overlay=True).figure.get_size_inches()[0] == 420 / 72


def test_more_runs_than_colours_have_other_lines():
    runs = [curves.Training(f"net{number}") for number in range(12)]
    for run in runs:
        run.series["loss", "smoothed loss"] = [(0, 3.0), (1, 2.0)]
    assert curves.draw_curves(runs, overlay=True).content("SVG").decode().count("stroke-dasharray: 5.92") == 2 * 4


def test_a_resumed_run_takes_the_place_of_what_it_runs_again():
    reader = curves.LogReader()
    for text in ("] Solving a", "] Iteration 0, loss = 3", "] Iteration 10, loss = 2", "] Iteration 20, loss = 9", "] Solving a",
                 "] Iteration 10, loss = 2.5", "] Solving b", "] Iteration 0, loss = 7"):
        reader.line(text)
    found = {run.name: run.series["loss", "smoothed loss"] for run in reader.runs}
    assert found == {"a": [(0, 3), (10, 2.5)], "b": [(0, 7)]}


def test_what_is_no_log_is_refused(tmp_path, capsys):
    (tmp_path / "x.log").write_bytes(b"Iteration one\xff\x00")
    with pytest.raises(Error, match="is no log of a training"):
        curves.read_log(tmp_path / "x.log")
    assert cli.main(["curves", str(tmp_path / "x.log")]) == 2
    assert cli.main(["curves", str(tmp_path / "y.log")]) == 2
    assert cli.main(["curves", str(GOLDEN), "--out", str(tmp_path / "x.gif")]) == 2
    assert "'x.gif'" in capsys.readouterr().err.replace(str(tmp_path) + "/", "") and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no such file here")
def test_a_log_that_cannot_be_read_is_named():
    with pytest.raises(Error, match="/proc/self/mem: the log cannot be read: Input/output error"):
        curves.read_log("/proc/self/mem")


def test_numbers_that_no_axis_holds(tmp_path):
    (tmp_path / "run.log").write_text("I0101 solver.cpp:106] Iteration 0, loss = 1e308\nI0101 solver.cpp:106] Iteration 20, loss = -1e308\n"
                                      f"I0101 solver.cpp:106] Iteration {'9' * 5000}, loss = 1\nI0101 solver.cpp:106] Iteration 30, loss = 2\n")
    assert cli.main(["curves", str(tmp_path / "run.log")]) == 0
    series = curves.read_log(tmp_path / "run.log")[0].series
    assert [points for points in series.values()] == [[(0, float("inf")), (20, float("-inf")), (30, 2)]]


def test_what_is_no_line_of_a_log_is_passed_over(tmp_path, capsys):
    """Lines without an end, which are cut short, too long ones, and those that hold no number, of which it is said."""
    with open(tmp_path / "run.log", "w") as file:
        for text in ("Solving a\n", "Iteration 0, loss = 2\n", "Iteration 10, loss = abc\n", f"Iteration {'9' * 400}, loss = 1\n",
                     "Iteration 15, loss = 7" + " " * 70000 + "Iteration 16, loss = 7\n", "Epoch 1: loss 4\n", "Iteration 20, loss = 1.5\n",
                     "Iteration 30, loss = 1."):
            file.write(text)
    assert cli.main(["curves", str(tmp_path / "run.log")]) == 0
    out, err = capsys.readouterr()
    assert "a: smoothed loss: 2 values, iteration 0 to 20, the last 1.5\n" in out
    assert err == f"note: {tmp_path}/run.log: 2 lines without a number passed over, such as 'Iteration 10, loss = abc'\n"


def test_of_many_runs_the_last_are_drawn():
    runs = [curves.Training(f"net{number}") for number in range(300)]
    for run in runs:
        run.add(curves.LOSS, "loss", 1, 1.0)
    text = curves.draw_curves(runs).content("SVG").decode()
    assert re.findall(r"net\d+[^<]*", text) == ["net288 (after 288 other runs)", *(f"net{number}" for number in range(289, 300))]


def test_the_command_draws(tmp_path, capsys):
    assert cli.main(["curves", str(GOLDEN), "--out", str(tmp_path / "c.png")]) == 0
    assert "tiny_fcn: test loss: 3 values, iteration 0 to 20, the last 1.30484" in capsys.readouterr().out
    image = Image.open(tmp_path / "c.png").convert("RGB")
    assert len(image.getcolors(1 << 20)) > 20 and min(image.size) > 400
    assert cli.main(["curves", str(GOLDEN), "--out", str(tmp_path / "c.svg")]) == 0
    assert "learning rate" in (tmp_path / "c.svg").read_text()


def test_solve_writes_log_curves_and_events(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    write_job(tmp_path, changed("max_iter: 12 display: 3 snapshot: 6 average_loss: 2"))
    status, err = solve(tmp_path, "solver.prototxt", "--log", "logs/run.log", "--tensorboard", "events", "--quiet")
    assert status == 0 and not err  # what is quiet on the terminal is whole in the file
    text = (tmp_path / "logs/run.log").read_text()
    assert re.search(r"netspec\] command: \S*tools/solve.py solver.prototxt --log logs/run.log", text)
    assert "] Optimization Done." in text
    (run,) = curves.read_log(tmp_path / "logs/run.log")
    assert Image.open(tmp_path / "logs/run.log.png").width > 400
    events = EventAccumulator(str(tmp_path / "events/tiny")).Reload()
    assert events.Tags()["scalars"] == ["loss/smoothed_loss", "loss/train_loss", "learning_rate/learning_rate"]
    for (panel, label), points in run.series.items():
        seen = [(e.step, e.value) for e in events.Scalars(f"{panel}/{label}".replace(" ", "_"))]
        assert seen == [(i, pytest.approx(v)) for i, v in points]
    assert solve(tmp_path, "solver.prototxt", "--snapshot", "run/snap_iter_6.solverstate", "--log", "logs/run.log")[0] == 0
    assert curves.read_log(tmp_path / "logs/run.log")[0].series == run.series


def test_events_are_the_series_of_the_log(tmp_path, monkeypatch):
    """With a stand-in that keeps what SummaryWriter is given."""
    seen = {}

    class Writer:
        def __init__(self, folder, **more):
            self.kept = seen.setdefault(folder, [])

        def add_scalar(self, name, value, step):
            self.kept.append((name, value, step))

        def close(self):
            self.kept.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    events = curves.Events(str(tmp_path))
    for line in ("Solving <a b>", "Iteration 3, lr = 0.5", "    Train net output #0: loss = 2.5 (* 1 = 2.5 loss)"):
        events("solver.cpp:1", line)
    events.close()
    assert seen == {str(tmp_path / "-a-b-"): [("learning_rate/learning_rate", 0.5, 3), ("loss/train_loss", 2.5, 3), "closed"]}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("else")])
def test_what_the_thread_of_tensorboard_cannot_write_is_told_once(tmp_path, monkeypatch, error):
    """With a stand-in that writes in a thread too."""
    class Thread(threading.Thread):
        def run(self):
            raise error

    Thread.__module__ = "tensorboard.summary"

    class Writer:
        def __init__(self, folder, **more):
            self.thread = Thread()

        def add_scalar(self, name, value, step):
            self.thread.start()

        def close(self):
            self.thread.join()

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    others, said = [], log.Log(io.StringIO())
    monkeypatch.setattr(threading, "excepthook", others.append)
    with curves.following(said, folder=str(tmp_path)):
        said("solver.cpp:1", "Iteration 3, lr = 0.5")
    lost = "takes no lines (No space left on device): they are lost, and the run goes on" in said.stream.getvalue()
    assert (lost, len(others)) == ((True, 0) if isinstance(error, OSError) else (False, 1)) and threading.excepthook == others.append


def test_a_stopped_run_has_its_curves(tmp_path):
    write_job(tmp_path, changed("max_iter: 100000 display: 1"))
    process = start(tmp_path, "solver.prototxt", "--log", "run.log", "--iterations", "100000")
    for line in process.stderr:
        if "Iteration 5, lr" in line:
            process.terminate()
            break
    process.communicate(timeout=60)
    assert process.returncode == 128 + 15
    assert Image.open(tmp_path / "run.log.png").width > 400 and "stopped by SIGTERM" in (tmp_path / "run.log").read_text()
    (run,) = curves.read_log(tmp_path / "run.log")
    assert run.max_iter == 100000 and run.speed > 0 and run.seconds_left > 0 and not run.finished


def test_without_tensorboard_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(Error, match="pip install tensorboard"), \
            curves.following(log.Log(quiet=True), folder=str(tmp_path / "e")):
        pass


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no full device here")
def test_a_run_outlives_a_log_on_a_full_disk(job, capsys):
    assert cli.main(["solve", "solver.prototxt", "--log", "/dev/full", "--quiet"]) == 0
    assert Path("run/snap_iter_12.solverstate").exists()
    assert capsys.readouterr().err.count("/dev/full takes no lines (No space left on device): they are lost, and the run goes on") == 1


def test_a_run_outlives_a_pipe_whose_reader_is_gone(job, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError), open(writer, "w", buffering=1) as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", pipe)  # at its end it cannot write what it still has
        assert cli.main(["solve", "solver.prototxt", "--log", "run.log"]) == 0
    assert Path("run/snap_iter_12.solverstate").exists()
    text = Path("run.log").read_text()
    assert text.count("takes no lines (Broken pipe)") == 1 and "Optimization Done." in text


def test_without_matplotlib_a_run_keeps_its_log_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    said = log.Log(quiet=True)
    with curves.following(said, str(tmp_path / "a.log")):
        said("solver.cpp:239", "Iteration 0, loss = 3")
    assert "no curves are drawn: drawing charts needs matplotlib: pip install matplotlib" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_a_failed_run_keeps_its_log_and_the_listener_leaves(tmp_path):
    said = log.Log(quiet=True)
    with pytest.raises(ZeroDivisionError), curves.following(said, str(tmp_path / "a.log")):
        said("solver.cpp:1", "before")
        raise ZeroDivisionError
    said("solver.cpp:1", "after")
    text = (tmp_path / "a.log").read_text()
    assert "] before" in text and "after" not in text and not (tmp_path / "a.log.png").exists()


def test_origin_says_where_a_result_comes_from(tmp_path):
    found = origin()
    assert json.loads(json.dumps(found)) == found and list(found)[:2] == ["command", "date"]
    checkout = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if checkout.returncode == 0:
        assert f"commit {checkout.stdout.strip()}" in found["netspec"]
