"""Where time goes, by operation."""

import time

import torch

from netspec.papers.profiled import operations, time_operations


def work():
    torch.ones(200, 200) @ torch.ones(200, 200)
    torch.ones(8).sort()


def test_operations_are_those_of_the_call():
    found = operations(work, 2)
    assert found["mm"] > 0 and found["sort"] > 0 and "conv2d" not in found and min(found.values()) > 0


def test_the_times_of_operations_are_those_of_one_call():
    x = torch.randn(600, 600)
    begun = time.perf_counter()
    found = operations(lambda: x @ x, 5)
    whole = (time.perf_counter() - begun) * 1e3
    assert 0 < found["mm"] < whole / 5


def test_the_table_has_each_call_and_the_sums():
    lines = time_operations({"one": work, "other": lambda: torch.ones(8).sort()}, 1).splitlines()
    assert lines[0].split("  ")[-2].strip() == "one" and lines[0].endswith("other")
    cells = {line[:20].strip(): line.split()[-2:] for line in lines[2:]}
    assert cells["mm"][1] == "-" and float(cells["sort"][1]) >= 0
    assert float(cells["in all"][0]) >= float(cells["mm"][0])
