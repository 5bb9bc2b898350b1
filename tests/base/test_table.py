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


def test_table_without_rows_and_with_a_short_row():
    assert table([], ["a", "b"]).splitlines() == ["a  b", "-  -"]
    with pytest.raises(Error, match="1 cells for 2 headers"):
        table([["x"]], ["a", "b"])
