"""What is said of the machine, and which device is taken."""

import pytest
import torch

from netspec.base.errors import Error, count
from netspec.base.machine import amount, choose, cores, device_name


@pytest.mark.parametrize("size, words", [
    (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1e6, "1.0 MB"), (187_230_000, "187.2 MB"), (1e9, "1.0 GB"),
    (12.34e9, "12.3 GB"),
])
def test_amounts_have_the_largest_unit_that_they_reach(size, words):
    assert amount(size) == words


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:x", "cpu:"])  # torch knows some of them
def test_devices_that_are_not_known(name):
    with pytest.raises(Error, match=f"device '{name}' is not known; use cpu, cuda or cuda:N"):
        choose(name)


def test_the_cpu():
    assert choose("cpu") == torch.device("cpu")
    assert device_name("cpu").endswith(f", {count(cores(), 'core')}, {count(torch.get_num_threads(), 'thread')}")
