"""Where time goes, by operation."""

import time

import torch

from netspec.papers.profiled import operations, time_operations


def work():
    torch.ones(200, 200) @ torch.ones(200, 200)
    torch.ones(8).sort()


def test_operations_are_those_of_the_call():
    found = operations(work, 2)
    assert {"mm", "sort"} < {*found} and "conv2d" not in found


def test_the_times_of_operations_are_those_of_one_call():
    x, spent = torch.randn(400, 400), []

    def call():
        begun = time.perf_counter()
        x @ x
        spent.append((time.perf_counter() - begun) * 1e3)

    found = operations(call, 20)
    assert len(spent) == 21 and 0 < found["mm"] < 2 * sum(spent[1:]) / 20  # all 20 would take ten times as much


def test_the_table_has_each_call_and_the_sums():
    lines = time_operations({"one": work, "other": lambda: torch.ones(8).sort()}, 1).splitlines()
    assert lines[0].split("  ")[-2].strip() == "one" and lines[0].endswith("other")
    cells = {line[:20].strip(): line.split()[-2:] for line in lines[2:]}
    assert cells["mm"][1] == "-" and {"sort", "all others", "in all"} < {*cells}
    for column in 0, 1:
        parts = sum(float(row[column]) for name, row in cells.items() if name != "in all" and row[column] != "-")
        assert abs(parts - float(cells["in all"][column])) < 0.05 * len(cells)
