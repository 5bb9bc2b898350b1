"""The words of sentences."""

import pytest

from netspec.base.errors import Interrupted, count


@pytest.mark.parametrize("number, what, said", [(1, "layer", "1 layer"), (0, "layer", "0 layers"), (2, "class", "2 classes"),
                                                (1, "class", "1 class"), (1200, "CPU core", "1200 CPU cores")])
def test_numbers_of_things(number, what, said):
    assert count(number, what) == said


def test_a_stop_names_its_signal():
    stop = Interrupted(15)
    assert (str(stop), stop.number, stop.status) == ("stopped by signal 15", 15, 143)
