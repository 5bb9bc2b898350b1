"""`netspec data check`: its options."""

import sys

import pytest

from netspec.base.log import Log
from netspec.base.machine import cores
from netspec.check import data
from netspec.cli import main as cli


def test_no_more_processes_are_begun_than_the_machine_takes(monkeypatch):
    asked = []

    class Images:
        split = "train"

        def __len__(self):
            return 100000

    def spread(work, items, processes):
        asked.append(processes)
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "spread", spread)
    monkeypatch.setattr(data, "Part", lambda source, title: source)
    for number in (3, 100000):
        with pytest.raises(KeyboardInterrupt):
            data.look([Images()], number, Log(sys.stderr, True))
    assert asked == [3, 4 * cores()]


@pytest.mark.parametrize("jobs, words", [("1", "'nowhere' is not there"), ("0", "--jobs must be at least 1 and ")])
def test_jobs_are_at_least_1(capsys, jobs, words):
    assert cli.main(["data", "check", "nowhere", "--jobs", jobs]) == 2
    assert words in capsys.readouterr().err
