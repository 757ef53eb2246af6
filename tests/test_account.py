"""The conservation account: rows that add up, the largest leak first, and a table that hides nothing."""

import math
from io import StringIO

import pytest
from pydantic import ValidationError
from rich.console import Console

from pellucid.account import COLUMNS, MOST_ROWS, Account, Entry, summed
from pellucid.errors import UnknownNameError

ROWS = (
    Entry.of("linear", "layers.0.mlp", arrived=2.0, handed_on=1.5, absorbed=0.25),
    Entry.of("linear", "layers.1.mlp", arrived=3.0, handed_on=3.5),
    Entry.of("gelu", "layers.0.act", arrived=1.0, handed_on=1.0),
    Entry.of("softmax", "layers.0.attn", arrived=1.0, handed_on=0.25, absorbed=-0.5),
)
ODD = Entry(operation="exp", module="", in_=math.inf, out=0.0, absorbed=0.0, leaked=math.nan)


def account(*more):
    return Account([*ROWS, *more], seeded=4.0, arrived=2.5)


def test_a_row_leaks_what_was_neither_handed_on_nor_absorbed():
    assert [row.leaked for row in ROWS] == [0.25, -0.5, 0.0, 1.25]
    for row in ROWS:
        assert row.in_ == row.out + row.absorbed + row.leaked


def test_a_row_is_read_by_the_words_of_its_table():
    row = ROWS[0]
    assert [row[name] for name in COLUMNS] == ["linear", "layers.0.mlp", 2.0, 1.5, 0.25, 0.25]
    assert row["in"] == row.in_
    with pytest.raises(UnknownNameError, match="no column of the account is called 'leak'; did you mean 'leaked'"):
        row["leak"]
    with pytest.raises(UnknownNameError):
        row["model_dump"]


def test_a_row_goes_through_json_and_back():
    for row in (ROWS[0], ODD):
        document = row.model_dump(mode="json")
        assert list(document) == list(COLUMNS)
        again = Entry(**document)
        assert again.model_dump(mode="json") == document
    assert Entry(**ROWS[0].model_dump(mode="json")) == ROWS[0]
    assert ODD.model_dump(mode="json")["leaked"] is None
    assert math.isnan(Entry(**ODD.model_dump(mode="json")).leaked)
    with pytest.raises(ValidationError, match="leakage"):
        Entry(**ROWS[0].model_dump(mode="json"), leakage=1.0)


def test_the_largest_leak_comes_first_and_what_is_no_number_before_all():
    assert [row.operation for row in account()] == ["softmax", "linear", "linear", "gelu"]
    assert [row.module for row in account()][1] == "layers.1.mlp"
    assert account(ODD)[0] is ODD
    assert len(account(ODD)) == 5
    assert account()[1:3] == (ROWS[1], ROWS[0])
    assert ROWS[2] in account()


def test_the_totals_are_those_of_the_rows():
    whole = account()
    assert whole.absorbed == sum(row.absorbed for row in ROWS) == -0.25
    assert whole.leaked == sum(row.leaked for row in ROWS) == 1.0
    assert (whole.seeded, whole.arrived) == (4.0, 2.5)
    assert math.isnan(account(ODD).leaked)


def test_a_sum_over_modules_keeps_every_total():
    kinds = account().by_operation()
    assert [row.operation for row in kinds] == ["softmax", "linear", "gelu"]
    linear = kinds[1]
    assert (linear.module, linear.in_, linear.out, linear.absorbed, linear.leaked) == ("", 5.0, 5.0, 0.25, -0.25)
    for name in ("absorbed", "leaked", "seeded", "arrived"):
        assert getattr(kinds, name) == getattr(account(), name)
    assert summed([]) == ()


def test_the_text_is_the_table_with_its_totals():
    lines = repr(account(ODD)).splitlines()
    assert lines[0].split() == list(COLUMNS)
    assert lines[1].split() == ["exp", "+inf", "0", "0", "not", "a", "number"]
    assert lines[2].split() == ["softmax", "layers.0.attn", "+1", "+0.25", "-0.5", "+1.25"]
    assert lines[-1] == "seeded +4, arrived at the input +2.5, absorbed -0.25, leaked not a number"
    assert "module" not in repr(account().by_operation())
    assert repr(account()) == str(account())
    assert repr(Account([], seeded=0.0, arrived=0.0)).endswith("seeded 0, arrived at the input 0, absorbed 0, leaked 0")


def test_a_long_account_shows_the_largest_leaks_and_counts_the_rest():
    rows = [Entry.of("add", f"layer{i}", arrived=float(i), handed_on=0.0) for i in range(50)]
    text = repr(Account(rows, seeded=1.0, arrived=1.0))
    assert "layer49 " in text
    assert f"layer{50 - MOST_ROWS} " in text
    assert f"layer{49 - MOST_ROWS} " not in text
    assert f"{50 - MOST_ROWS} further operations leak no more" in text


def test_names_are_text_and_no_markup():
    console = Console(file=StringIO(), width=100, color_system=None)
    console.print(Account([Entry.of("[bold]x", "[red]y[/red]", arrived=1.0, handed_on=1.0)], seeded=1.0, arrived=1.0))
    assert "[bold]x" in console.file.getvalue()
    assert "[red]y[/red]" in console.file.getvalue()
