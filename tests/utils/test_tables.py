"""Protects text tables: columns line up, whatever they hold."""

from __future__ import annotations

from ppdet.utils.tables import text_table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [["class", "AP", "AP50"], ["traffic light", "-", "12.5"], ["cat", "100.0", "7.0"]]
    assert text_table(rows).splitlines() == [
        "class             AP  AP50",
        "traffic light      -  12.5",
        "cat            100.0   7.0",
    ]


def test_each_column_has_its_side_and_no_line_ends_in_spaces() -> None:
    assert text_table([["a", "b", "c"], ["long", "1", "text"]], align="><<").splitlines() == [
        "   a  b  c",
        "long  1  text",
    ]


def test_no_rows() -> None:
    assert text_table([]) == ""
