"""`make gpu`: what it says without a GPU, and what it keeps of what it runs (tests/gpu.py)."""

import gpu
import pytest
import torch
from gpu import Part, main

from netspec.cli.main import main as main_of_commands


def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert main(report=tmp_path / "gpu.txt", here=False) == 2
    out, err = capsys.readouterr()
    assert not out and err == "make gpu: no CUDA device is here; run it on a machine that has one\n"
    assert not (tmp_path / "gpu.txt").exists()


def test_all_that_is_printed_goes_into_one_file(tmp_path, capsys):
    parts = [Part("good", ["-c", "print(6 * 7)"]), Part("without data", ["-c", "print('no')"], needs=["data/none"])]
    report = tmp_path / "records/gpu.txt"
    assert main(parts, report, here=True) == 0
    text = report.read_text()
    assert all(f"\n{name:<8} " in f"\n{text}" for name in ("command", "date", "device", "netspec"))
    assert "== good\n$ python -c print(6 * 7)\n42\n-- exit status 0 " in text
    assert "\n-- left out: data/none not there\n" in text and str(report) in capsys.readouterr().out
    assert main([Part("bad", ["-c", "raise SystemExit(3)"]), *parts], report, here=True) == 1
    assert "-- exit status 3 " in report.read_text()


def test_a_part_ends_at_its_limit_and_the_whole_at_its_own(tmp_path, monkeypatch):
    report = tmp_path / "gpu.txt"
    sleeping = ["-ISc", "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on', flush=True)\ntime.sleep(60)"]
    monkeypatch.setattr(gpu, "ENDING", 0.5)
    assert main([Part("deaf", sleeping, 1)], report, here=True) == 1
    assert "on\n-- stopped at its limit after " in report.read_text()
    monkeypatch.setattr(gpu, "LIMIT", 0.0)
    assert main([Part("late", sleeping)], report, here=True) == 0 and "-- left out: no time is left" in report.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the parts would run")
@pytest.mark.parametrize("part", [part for part in gpu.PARTS if part.words[:2] == ["-m", "netspec"]], ids=lambda part: part.title)
def test_the_parts_get_as_far_as_the_device(part, capsys, monkeypatch):
    """Their options are there, and what they ask for, but for a GPU."""
    monkeypatch.chdir(gpu.HOME)
    if all((gpu.HOME / name).exists() for name in part.needs):
        assert main_of_commands(part.words[2:]) == 2
        assert "device 'cuda' is not here" in capsys.readouterr().err


def test_the_parts_are_commands_that_there_are():
    for part in gpu.PARTS:
        assert all((gpu.HOME / word).exists() for word in part.words if word.endswith((".py", ".prototxt")))
    assert 300 <= gpu.LIMIT - sum(part.limit for part in gpu.PARTS[:-1]) <= 480  # for the last, which takes what is left
    assert all(part.limit > gpu.ENDING for part in gpu.PARTS)
