"""param_str, whatever stands in it."""

import pytest

from netspec.base.errors import Error
from netspec.ops.settings import read_settings

HUGE = "9" * 400


@pytest.mark.parametrize("text", [
    "{[1]: 2}", "{{}: 1}", "{[1, 2]: 3}", "[1]: 2", "!!int 1e999: 1", "a: !!int [1]", "a: 1\n  b: 2",
    "{'a': " + "[" * 100_000 + "]" * 100_000 + "}", "{'a': " + "-" * 100_000 + "1}", "a: " + "[" * 50_000, "{a: " * 3000,
    "a: '" + "''" * 1_000_000 + "'", "a: [" + "1, " * 1_000_000 + "1]", "{'a': 1+", "- 1", "{**{}}"],
    ids=lambda text: text[:15])
def test_what_is_no_dict_is_none_at_once(text):
    assert read_settings(text) is None


@pytest.mark.parametrize("text", ["{'a': " + HUGE + "}", "a: " + HUGE, "{'a': 0x" + HUGE * 20 + "}", "a: [1, -0x" + HUGE + "]",
                                  "{0x" + HUGE * 20 + ": 1, 0x" + HUGE * 20 + ": 2}"], ids=lambda text: text[:9])
def test_numbers_beyond_63_bits_are_one_sentence(text):
    with pytest.raises(Error, match=r"param_str has a number of \d+ bits; whole numbers have at most 63"):
        read_settings(text)
