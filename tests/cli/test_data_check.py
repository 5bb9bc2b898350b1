"""`netspec data check`: its options."""

import pytest

from netspec.cli import main as cli


@pytest.mark.parametrize("jobs, words", [("1", "'nowhere' is not there"), ("0", "--jobs must be at least 1 and ")])
def test_jobs_are_at_least_1(capsys, jobs, words):
    assert cli.main(["data", "check", "nowhere", "--jobs", jobs]) == 2
    assert words in capsys.readouterr().err
