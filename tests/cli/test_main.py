"""The command line: help of every command, one sentence for every mistake, doors that open from any folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from programs import environment

import netspec
from netspec.base.errors import Error, Interrupted
from netspec.base.files import writing
from netspec.cli import main as cli

PROJECT = Path(__file__).resolve().parents[2]
SHORT = ["weights", "list"]  # which loads no torch
TOOLS = [path for path in sorted((PROJECT / "tools").glob("*.py")) if path.name != "door.py"]


def run(capsys, *args):
    """(exit status, standard output, standard error) of the command in this process."""
    try:
        status = cli.main(list(map(str, args)))
    except SystemExit as e:  # argparse's way to end
        status = e.code
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_every_command(capsys, command):
    status, out, err = run(capsys, command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: netspec {command} ") and cli.COMMANDS[command].lower() in out.lower()


def test_help_lists_the_commands(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for name, text in cli.COMMANDS.items():
        assert name in out and text in " ".join(out.split())


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"netspec {netspec.__version__}\n", "")


@pytest.mark.parametrize("word, meant", [("sovle", "solve"), ("Solve", "solve"), ("explain_crop", "explain-crop")])
def test_unknown_commands_name_the_closest(capsys, word, meant):
    status, out, err = run(capsys, word, "x", "--option")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"netspec: '{word}' is no command; did you mean '{meant}'? (commands: solve, ")
    assert run(capsys, "qwertz")[2].startswith("netspec: 'qwertz' is no command (commands: ")


@pytest.mark.parametrize("args", [(), ("solve",), ("score",), ("solve", "a", "--no-such-option"),
                                  ("solve", "a", "--iterations", "many")])
def test_arguments_that_are_missing_or_wrong(capsys, args):
    status, out, err = run(capsys, *args)
    assert (status, out) == (2, "") and "error: " in err


@pytest.mark.parametrize("args", [
    ("solve", "nowhere.prototxt"), ("score", "nowhere.prototxt", "w.caffemodel"), ("explain-crop", "nowhere.prototxt"),
    ("infer", "nowhere.prototxt", "w.caffemodel", "image.png", "--out", "out"),
    ("convert", "weights", "nowhere.h5", "out.caffemodel"),
])
def test_missing_files_are_one_sentence(capsys, tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *args)
    assert status == 2 and err.count("\n") == 1 and "nowhere" in err and err.startswith(f"netspec {args[0]}: ")
    assert not list(tmp_path.iterdir())


def test_an_error_is_short_however_much_it_quotes(capsys, tmp_path):
    (tmp_path / "net.prototxt").write_text(f"layer {{ name: '{'[' * 30_000}' type: 'None' }}")
    for args in (("explain-crop", tmp_path / "net.prototxt"), ("describe", "net.prototxt", "--size", "9" * 30_000)):
        status, _, err = run(capsys, *args)
        assert status == 2 and len(err) < 3000 and " ... " in err


def test_what_a_library_warns_of_is_one_line(tmp_path):
    code = "import warnings; from netspec.cli import main; main._prepare(); warnings.warn('tags\\nare \\x1b damaged')"
    done = programs.run("-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "note: tags\\nare \\x1b damaged\n")


@pytest.mark.parametrize("content, words", [
    (b"", ""), (b"net: 3 {", "net"), (b"\xff\xfe\x00binary", ""), (b'nett: "x"', "did you mean 'net'"),
    (b'layer { name: "c" }', "NetParameter"),
])
def test_files_that_are_no_solver_are_one_sentence(capsys, tmp_path, content, words):
    path = tmp_path / "s.prototxt"
    path.write_bytes(content)
    status, out, err = run(capsys, "solve", path)
    err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("I"))  # the log has begun
    assert (status, out) == (2, "") and err.count("\n") == 1 and str(path) in err and words in err


@pytest.fixture
def command(monkeypatch):
    """Lets a function stand for the explain-crop command."""
    from netspec.cli import explain_crop

    def set_run(function):
        monkeypatch.setattr(explain_crop, "run", lambda args: function())
    return set_run


def fail(error):
    raise error


@pytest.mark.parametrize("error, status, said", [
    (Error("no"), 2, "netspec explain-crop: no\n"),
    (Interrupted(15), 143, ""),
    (Interrupted(2), 130, ""),
    (MemoryError(), 2, "netspec explain-crop: there is not enough memory for it\n"),
    (RuntimeError("CUDA out of memory."), 2, "netspec explain-crop: there is not enough memory for it\n"),
    (RecursionError("maximum"), 2, "netspec explain-crop: what it was given is nested too deeply\n"),
    (KeyboardInterrupt(), 130, "netspec explain-crop: stopped by Ctrl-C\n"),
    (PermissionError(13, "Permission denied", "file.x"), 2, "netspec explain-crop: file.x: Permission denied\n"),
    (OSError(28, "No space left on device", "out.x"), 2, "netspec explain-crop: out.x: No space left on device\n"),
])
def test_how_a_command_ends(capsys, command, error, status, said):
    command(lambda: fail(error))
    assert run(capsys, "explain-crop", "x") == (status, "", said)


@pytest.mark.parametrize("error", [ValueError("a mistake in the program"), RuntimeError("a mistake"), OSError("no file to name")])
def test_mistakes_of_the_program_are_not_hidden(capsys, command, error):
    command(lambda: fail(error))
    with pytest.raises(type(error)):
        run(capsys, "explain-crop", "x")


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.name)
def test_tools_open_from_any_folder(tmp_path, tool):
    assert "enter(" in tool.read_text() and os.access(tool, os.X_OK)
    clean = {k: v for k, v in environment().items() if k != "PYTHONPATH"}
    done = programs.run(tool, "--help", cwd=tmp_path, env=clean)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: netspec {tool.stem.replace('_', '-')}"), done.stderr
    assert tool.stem.replace("_", "-") in cli.COMMANDS


def test_a_reader_that_goes_away_gets_no_message_and_the_status_of_its_signal():
    process = subprocess.Popen([sys.executable, PROJECT / "tools" / "solve.py", "--help"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment(), text=True)
    process.stdout.close()
    assert process.wait(60) in (0, 120)
    process = subprocess.Popen([sys.executable, "-m", "netspec", *SHORT], cwd=PROJECT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment(), text=True)
    process.stdout.close()
    assert process.wait(60) == 141 and process.stderr.read() == ""


def test_python_m_netspec_is_the_command():
    done = subprocess.run([sys.executable, "-m", "netspec", "--version"], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("netspec ")


def test_every_command_has_a_door():
    assert {tool.stem.replace("_", "-") for tool in TOOLS} == set(cli.COMMANDS)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no full device here")
@pytest.mark.parametrize("size", [9, 99999])  # within the buffer, and beyond it
def test_output_that_cannot_be_written_is_one_sentence(size):
    code = ("import sys; from netspec.cli import main, layers\n"
            f"layers.run = lambda args: (print('x' * {size}), 0)[1]; sys.exit(main.main(['layers']))")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, stdout=full, stderr=subprocess.PIPE, env=environment(),
                              text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        2, "netspec layers: the output cannot be written: No space left on device\n")


def test_a_full_disk_is_said_of_the_file_that_is_written(tmp_path, capsys, command):
    def write():
        with writing(tmp_path / "made.x") as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    command(write)
    assert run(capsys, "explain-crop", "x") == (
        2, "", f"netspec explain-crop: {tmp_path}/made.x: No space left on device\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_from_the_start_is_not_taken_for_a_file(tmp_path, closed):
    """A file that is opened would get the lowest number, and what is printed."""
    code = ("import sys; from netspec.cli import main, layers\n"
            "layers.run = lambda args: (open('made', 'w').write('content'), print('said', flush=True), "
            "print('told', file=sys.stderr), 0)[-1]\n"
            "sys.exit(main.main(['layers']))")
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], cwd=tmp_path,
                          capture_output=True, env=environment(), text=True, timeout=60)
    assert done.returncode == 0 and (tmp_path / "made").read_text() == "content"
    assert done.stdout in ("said\n", "") and done.stderr in ("told\n", "")


@pytest.mark.parametrize("iterations, bounds", [(0, "at least 1"), (1 << 31, "at least 1 and at most 2147483647")])
def test_iterations_beyond_what_a_solver_counts_are_refused(capsys, iterations, bounds):
    assert run(capsys, "solve", "x", "--iterations", iterations) == (
        2, "", f"netspec solve: --iterations must be {bounds}, found {iterations}\n")


def test_a_current_folder_that_is_gone_is_said(tmp_path):
    done = subprocess.run(["sh", "-c", 'mkdir x; cd x; rmdir ../x; exec "$0" -m netspec describe voc-fcn8s', sys.executable],
                          cwd=tmp_path, capture_output=True, env=environment(), text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", "netspec describe: the current folder is not there any more; go to another\n")


@pytest.mark.parametrize("module, door", [
    pytest.param(module, door, marks=[pytest.mark.slow] if (module, name) == ("google.protobuf", "tools") else [], id=f"{module}-{name}")
    for module in ("netspec.cli.main", "netspec.cli.layers", "google.protobuf")
    for name, door in (("module", "runpy.run_module('netspec', run_name='__main__', alter_sys=True)"),
                       ("tools", "runpy.run_path('tools/layers.py', run_name='__main__')"))])
def test_ctrl_c_while_a_command_is_imported_is_one_line(module, door):
    code = ("import os, runpy, signal, sys\nclass Pressed:\n    def find_spec(self, name, *more):\n"
            f"        if name == '{module}':\n            os.kill(os.getpid(), signal.SIGINT)\n"
            f"sys.meta_path.insert(0, Pressed()); sys.path.insert(0, 'tools'); {door}")
    more = [] if "tools" in door else ["layers"]
    done = subprocess.run([sys.executable, "-c", code, *more], capture_output=True, env=environment(), text=True, timeout=60, cwd=PROJECT)
    assert done.returncode == 130 and not done.stdout, done.stderr
    assert re.fullmatch("netspec( layers)?: stopped by Ctrl-C\n", done.stderr), done.stderr


def test_ctrl_c_while_torch_is_imported_ends_at_once():
    """Its C++ aborts the process at an exception."""
    code = ("import importlib.machinery, os, signal, sys, types; from netspec.cli import main, layers\n"
            "fake = types.ModuleType('torch'); fake.__spec__ = importlib.machinery.ModuleSpec('torch', None)\n"
            "fake.__spec__._initializing = True\n"
            "def run(args):\n    sys.modules['torch'] = fake\n    try:\n        os.kill(os.getpid(), signal.SIGINT)\n"
            "    except KeyboardInterrupt:\n        os.abort()\n"
            "layers.run = run; sys.exit(main.main(['layers']))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment(), text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "netspec: stopped by Ctrl-C\n")


def test_output_that_is_closed_from_the_start_is_no_error():
    done = subprocess.run(["sh", "-c", 'exec "$0" -m netspec weights list >&-', sys.executable], cwd=PROJECT,
                          capture_output=True, env=environment(), text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
