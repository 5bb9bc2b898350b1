"""Commands that the page runs: they do what they do in a shell, can be stopped, and take nothing along when they break."""

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from programs import Program, alive
from thirds import NET, write_thirds
from training import SOLVER, write_job

from netspec.cli.main import main
from netspec.web.commands import OUT, SAID, Commands, Run, words

ENDLESS = SOLVER.replace("max_iter: 12 snapshot: 3", "max_iter: 100000000")
pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The folder that commands run in, with a module that says when it is imported."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "mine.py").write_text("import pathlib\npathlib.Path('ran').touch()\nclass Layer: pass\n")
    return folder


@pytest.fixture(scope="module")
def commands(home):
    before = Path.cwd()
    os.chdir(home)
    made = Commands(main)
    os.chdir(before)
    yield made
    made.close()
    assert not made.process.is_alive()


def ended(run, seconds=120):
    """A run that has ended."""
    for _ in range(20 * seconds):
        if run.status is not None:
            return run
        time.sleep(0.05)
    run.stop()
    raise AssertionError(f"'{run.argv}' did not end: {run.said}")


def place(folder):
    folder.mkdir()
    return folder


def children(process):
    """The processes that one has started."""
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def busy(commands, tmp_path):
    """A training without end, at its first steps, and its process."""
    job = place(tmp_path / "job")
    write_job(job, ENDLESS)
    run = commands.start(["solve", str(job / "solver.prototxt")], place(tmp_path / "at"))
    while "100000000" not in run.progress:
        assert run.status is None, run.said
        time.sleep(0.02)
    return run, children(commands.process.pid)[0]


def test_a_command_does_what_it_does_in_a_shell(commands, tmp_path, capfd):
    write_thirds(tmp_path)
    argv = ["describe", str(tmp_path / "net.prototxt"), "--json"]
    run = ended(commands.start(argv, place(tmp_path / "1")))
    assert (run.status, run.trouble(), main(argv)) == (0, None, 0)
    assert run.output == capfd.readouterr().out and json.loads(run.output)["net"] == "thirds"


def test_its_sentence_is_told_without_who_says_it(commands, home, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(home)
    argv = ["describe", "no/such.prototxt"]
    run = ended(commands.start(argv, place(tmp_path / "1")))
    assert run.status == main(argv) == 2
    assert f"netspec describe: {run.trouble()}\n" == capfd.readouterr().err


def test_the_last_line_that_a_terminal_would_show_is_how_far_it_is(tmp_path):
    run = Run(["score"], tmp_path, lambda: False, lambda: None)
    assert run.progress == run.said == run.output == "" and run.status is None
    (tmp_path / SAID).write_text("note: it is so\n\r\x1b[Kscore  1/9  ....\r\x1b[Kscore  2/9  ....")
    assert run.progress == "score  2/9  ...." and run.said == "note: it is so\nscore  2/9  ...."
    (tmp_path / SAID).write_text("x" * 100_000 + "\n\x1b[36mdone\x1b[0m\n")
    assert run.progress == "done"


def test_long_lines_are_read_at_once(tmp_path):
    """A log of a long training is one line of JSON: a pattern tried at each of its letters would hold all threads."""
    run = Run(["curves"], tmp_path, lambda: False, lambda: None)
    for name in (OUT, SAID):
        (tmp_path / name).write_text("1, " * 700_000)
    begin = time.process_time()
    assert len(run.output) == 2_100_000 and len(run.said) > 2_000_000 and run.progress
    assert time.process_time() - begin < 1


def test_a_run_whose_folder_goes_is_over(commands, tmp_path):
    run, process = busy(commands, tmp_path)
    shutil.rmtree(tmp_path / "at")
    assert run.status is not None
    run._stop()
    assert not alive(process)


def test_what_is_stopped_ends_with_its_processes(commands, tmp_path):
    run, process = busy(commands, tmp_path)
    run.stop()
    assert ended(run, 10).trouble() == "stopped" and not alive(process)


def test_what_breaks_takes_nothing_along(commands, tmp_path):
    run, process = busy(commands, tmp_path)
    os.kill(process, signal.SIGKILL)
    assert ended(run, 10).trouble() == "the command was ended by SIGKILL: it ran out of memory, or broke; the page goes on"
    assert ended(commands.start(["layers"], place(tmp_path / "next"))).status == 0


def test_where_the_process_that_they_come_from_is_gone_another_begins(tmp_path):
    commands = Commands(main)
    try:
        run, process = busy(commands, tmp_path)
        os.kill(commands.process.pid, signal.SIGKILL)
        assert "was ended by" in ended(run, 10).trouble() and not alive(process)
        assert ended(commands.start(["layers"], place(tmp_path / "next"))).status == 0
    finally:
        commands.close()


def test_none_outlives_a_page_that_is_killed(tmp_path):
    job = place(tmp_path / "job")
    write_job(job, ENDLESS)
    page = Program("-c", f"""
import os, signal, time
from pathlib import Path
from netspec.cli.main import main
from netspec.web.commands import Commands
if __name__ == "__main__":
    commands = Commands(main)
    run = commands.start(["solve", {str(job / "solver.prototxt")!r}], Path({str(tmp_path)!r}))
    while "100000000" not in run.progress:
        assert run.status is None, run.said
    print(Path(f"/proc/{{commands.process.pid}}/task/{{commands.process.pid}}/children").read_text(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
""", cwd=tmp_path, start_new_session=True)
    try:
        assert page.wait(120) == -signal.SIGKILL, page.stderr.read()
        assert not alive(page.pid, 10)
        assert not alive(int(page.stdout.read()), 10)  # a session of its own
    finally:
        with suppress(ProcessLookupError):
            os.killpg(page.pid, signal.SIGKILL)
        page.stdout.close()
        page.stderr.close()


def test_a_net_imports_no_module_unless_it_is_trusted(commands, home, tmp_path):
    mine = 'layer { name: "mine" type: "Python" bottom: "data" top: "seen" python_param { module: "mine" layer: "Layer" } }'
    write_thirds(tmp_path, NET.replace('bottom: "data"', 'bottom: "seen"').replace('layer { name: "score"', mine + 'layer { name: "score"'))
    net, weights, photo = (str(tmp_path / name) for name in ("net.prototxt", "net.caffemodel", "photo.png"))
    for argv in (["describe", net], ["infer", net, weights, photo], ["score", net, weights], ["doctor", net]):
        run = ended(commands.start(argv, place(tmp_path / argv[0])))
        assert "mine" in run.said + run.output and not (home / "ran").exists(), argv
    ended(commands.start(["describe", net, "--trust"], place(tmp_path / "trusted")))
    assert (home / "ran").exists()


def test_a_command_is_shown_as_a_person_types_it(tmp_path):
    argv = ["infer", "net.prototxt", str(tmp_path / "tab0/a picture.png"), "--out", str(tmp_path / "tab0/3")]
    assert words(argv, tmp_path) == "netspec infer net.prototxt 'a picture.png' --out 3"
    assert words(["draw", "a\nb"], tmp_path) == "netspec draw 'a\\nb'"
