"""What is said of the machine."""

import pytest

from netspec.base.machine import amount


@pytest.mark.parametrize("size, words", [
    (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1e6, "1.0 MB"), (187_230_000, "187.2 MB"), (1e9, "1.0 GB"),
    (12.34e9, "12.3 GB"),
])
def test_amounts_have_the_largest_unit_that_they_reach(size, words):
    assert amount(size) == words
