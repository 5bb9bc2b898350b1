"""The words of sentences."""

import pytest

from netspec.base.errors import Error, Interrupted, count, exhausted


@pytest.mark.parametrize("number, what, said", [(1, "layer", "1 layer"), (0, "layer", "0 layers"), (2, "class", "2 classes"),
                                                (1, "class", "1 class"), (1200, "CPU core", "1200 CPU cores")])
def test_numbers_of_things(number, what, said):
    assert count(number, what) == said


def test_a_stop_names_its_signal():
    stop = Interrupted(15)
    assert (str(stop), stop.number, stop.status) == ("stopped by signal 15", 15, 143)


def test_a_message_that_quotes_at_length_keeps_its_ends():
    assert str(Error("short")) == "short" and str(Error()) == ""
    said = str(Error("begin" + "." * 10**6 + "end"))
    assert len(said) < 1300 and said.startswith("begin") and " ... " in said and said.endswith("end")


@pytest.mark.parametrize("error, said", [(MemoryError(), "not enough memory"), (RecursionError("maximum depth"), "too deeply"),
                                         (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
                                         (RuntimeError("CUDA out of memory."), "not enough memory"), (RuntimeError("no"), "")])
def test_what_is_used_up_is_told_and_nothing_else(error, said):
    if said:
        assert said in exhausted(error)
        return
    with pytest.raises(RuntimeError, match="no"):
        exhausted(error)
