"""The conservation account as bars: what came into each kind of operation, and where it went."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from pellucid.account import Entry, by_leak, summed
from pellucid.report.heatmap import digits, largest
from pellucid.report.visible import visible

AMOUNTS = ("in", "out", "absorbed", "leaked")
"""The bars of an operation, from the top."""
BAR_WIDTH = 200
"""User units of the drawing; the page stretches it."""
BAR_STEP = 6
"""From one bar to the next."""
MOST_ENTRIES = 100
"""Operations that are listed one by one, those with the largest leaks."""
ALARMING = 1e-3
"""Share of the largest amount that came in, from which on a leak's number stands in the colour of alarm."""


class AmountBar(NamedTuple):
    """One amount of one operation."""

    name: str
    """In, out, absorbed or leaked."""
    amount: float
    """How much, in the unit of the target."""
    y: float
    """Upper edge."""
    start: float
    """Left end."""
    width: float
    """From end to end."""
    number: str
    """The amount in digits."""
    alarming: bool
    """Whether it is a leak that matters."""


class OperationRow(NamedTuple):
    """The bars of one kind of operation."""

    operation: str
    """The kind."""
    module: str
    """Where it was called; empty in a sum over modules."""
    bars: tuple[AmountBar, ...]
    """One for each of ``AMOUNTS``."""


@dataclass(frozen=True, slots=True)
class AccountChart:
    """Every kind of operation on one scale."""

    rows: tuple[OperationRow, ...]
    """The largest leak first."""
    zero: float
    """Place of zero."""
    low: float
    """The left end of the scale, at most 0."""
    high: float
    """The right end, at least 0."""
    height: float
    """Of one row's drawing."""


def account_chart(entries: Sequence[Entry], by_module: bool = False) -> AccountChart:
    """The bars of each kind of operation, or of each single one of the ``MOST_ENTRIES`` with the largest leaks."""
    shown = by_leak(entries)[:MOST_ENTRIES] if by_module else summed(entries)
    amounts = [amount for entry in shown for amount in _amounts(entry) if isfinite(amount)]
    low, high = min([0.0, *amounts]), max([0.0, *amounts])
    span = (high - low) or 1.0
    alarm = ALARMING * largest(entry.in_ for entry in shown)

    def place(amount: float) -> float:
        return round(BAR_WIDTH * (amount - low) / span, 2) if isfinite(amount) else place(0.0)

    def bar(index: int, amount: float) -> AmountBar:
        start, end = sorted((place(amount), place(0.0)))
        leak = AMOUNTS[index] == "leaked"
        alarming = leak and not abs(amount) <= alarm
        number = digits(amount, signed=True)
        return AmountBar(AMOUNTS[index], amount, 1.0 + BAR_STEP * index, start, round(end - start, 2), number, alarming)

    rows = tuple(
        OperationRow(entry.operation, entry.module, tuple(bar(i, amount) for i, amount in enumerate(_amounts(entry))))
        for entry in shown
    )
    return AccountChart(rows, place(0.0), low, high, 1.0 + BAR_STEP * len(AMOUNTS))


def in_words(entries: Sequence[Entry], unit: str) -> str:
    """The account in one sentence."""
    worst = by_leak(entries)[0]
    where = f"{visible(worst.operation, 60)}{f' of {visible(worst.module, 80)}' if worst.module else ''}"
    count = f"{len(entries)} operation{'s' if len(entries) > 1 else ''}"
    return (
        f"{count}: absorbed {digits(sum(entry.absorbed for entry in entries), True)} and "
        f"leaked {digits(sum(entry.leaked for entry in entries), True)}, in {visible(unit)}; "
        f"the largest single leak is {digits(worst.leaked, True)}, at {where}."
    )


def _amounts(entry: Entry) -> tuple[float, ...]:
    return entry.in_, entry.out, entry.absorbed, entry.leaked
