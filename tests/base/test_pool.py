"""Work that several processes share: its order, what one raises, and one that dies at any moment."""

import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from netspec.base.errors import Error
from netspec.base.pool import Died, spread

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")


def square(number):
    time.sleep(0.01 * (number % 5 == 0))
    return number * number


def refuse(number):
    raise Error(f"{number} is refused")


def die_at(which, number):
    if number == which:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def children():
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


@pytest.mark.parametrize("many, processes", [(0, 2), (1, 5), (7, 1), (50, 3), (50, 100)])
def test_results_come_in_the_items_order(many, processes):
    before = children()
    assert list(spread(square, range(many), processes)) == [number * number for number in range(many)]
    assert children() == before


def test_what_one_raises_is_raised_here_and_all_end():
    before = children()
    with pytest.raises(Error, match="0 is refused"):
        list(spread(refuse, range(9), 2))
    assert children() == before


def test_one_that_dies_is_told_by_the_first_item_that_lacks():
    for which in (0, 17, 29):
        found = []
        with pytest.raises(Died) as death:
            for each in spread(partial(die_at, which), range(30), 3):
                found.append(each)
        assert found == list(range(len(found))) and len(found) == death.value.number <= which


def test_at_whichever_moment_one_is_killed_the_others_are_not_waited_for():
    """concurrent.futures waits for ever where one dies with a lock that all share."""
    draw, before = random.Random(1), children()
    for _ in range(60):
        seconds = 0.03 * draw.random()

        def strike(seconds=seconds):
            time.sleep(seconds)
            for pid in [pid for pid in children() if pid not in before][:1]:
                os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=strike)
        thread.start()
        begin = time.monotonic()
        try:
            list(spread(square, range(40), 2))
        except Died:
            pass
        thread.join()
        assert time.monotonic() - begin < 30 and children() == before


def test_who_goes_away_leaves_no_process():
    before, results = children(), spread(square, range(1000), 2)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert children() == before
