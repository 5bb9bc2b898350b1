"""Tables as text."""

import pytest

from netspec.base.errors import Error
from netspec.base.table import table


def test_plain_table():
    text = table([["fcn", 1.5, None], ["a longer one", 22, float("nan")]], ["net", "IU", "x"])
    assert text.splitlines() == [
        "net            IU  x",
        "------------  ---  -",
        "fcn           1.5  -",
        "a longer one   22  -",
    ]


def test_markdown_table():
    text = table([["a", "7.0%"], ["b", "12.5%"]], ["n", "share"], markdown=True)
    assert text.splitlines() == [
        "| n   | share |",
        "| --- | ----: |",
        "| a   |  7.0% |",
        "| b   | 12.5% |",
    ]


def test_a_column_of_numbers_stands_on_the_right_and_no_other():
    assert table([["fcn", 7]], ["net", "mean IU"]).splitlines()[2] == "fcn        7"
    assert table([["few", 7], [1, 8]], ["n", "m"]).splitlines()[2:] == ["few  7", "1    8"]


def test_table_without_rows_and_with_a_short_row():
    assert table([], ["a", "b"]).splitlines() == ["a  b", "-  -"]
    with pytest.raises(Error, match="1 cells for 2 headers"):
        table([["x"]], ["a", "b"])
