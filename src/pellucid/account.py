"""The conservation account of a relevance pass: what came into each operation, and where it went."""

from collections.abc import Iterable, Sequence
from io import StringIO
from math import isfinite, nan
from typing import TYPE_CHECKING, Annotated, Any, overload

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer

from pellucid.errors import UnknownNameError
from pellucid.records import Record

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

COLUMNS = ("operation", "module", "in", "out", "absorbed", "leaked")
"""What a row of the account says, in the order of its table."""
MOST_ROWS = 30
"""Rows of a printed account; of more only those with the largest leaks, and the rest is counted."""


def _from_json(amount: Any) -> Any:
    return nan if amount is None else amount


def _to_json(amount: float) -> float | None:
    return amount if isfinite(amount) else None


Amount = Annotated[
    float, BeforeValidator(_from_json), PlainSerializer(_to_json, return_type=float | None, when_used="json")
]
"""Relevance in the unit of the target; NaN and infinity are null in JSON, where neither exists."""


class Entry(Record):
    """One operation of the account, in the unit of the target: ``in`` = ``out`` + ``absorbed`` + ``leaked``.

    Python keeps the word ``in`` to itself: the attribute is ``in_``, and ``entry["in"]`` reads it as well.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    operation: str
    """What was computed, such as ``linear`` or ``softmax``."""
    module: str
    """Path of the module that called it; empty for the network itself, and in a sum over modules."""
    in_: Amount = Field(alias="in")
    """Relevance that arrived at the operation's output."""
    out: Amount
    """What the operation handed on to its operands."""
    absorbed: Amount
    """What stayed with biases, constants and masks, as the rule says it must."""
    leaked: Amount
    """What is neither: ``in`` - ``out`` - ``absorbed``. 0 to float error where the rule conserves."""

    @classmethod
    def of(cls, operation: str, module: str, *, arrived: float, handed_on: float, absorbed: float = 0.0) -> "Entry":
        """The row of an operation at whose output ``arrived`` came in and whose operands got ``handed_on``."""
        leaked = arrived - handed_on - absorbed
        return cls(operation=operation, module=module, in_=arrived, out=handed_on, absorbed=absorbed, leaked=leaked)

    def __getitem__(self, column: str) -> str | float:
        """The value in a column of the account's table. Raises UnknownNameError for a column it does not have."""
        if column not in COLUMNS:
            raise UnknownNameError("column of the account", column, COLUMNS)
        value: str | float = getattr(self, "in_" if column == "in" else column)
        return value


class Account(Sequence[Entry]):
    """Every operation that relevance went through, the largest leak first; what is not a number comes before all.

    ``seeded`` is what the pass began with, ``arrived`` what it brought to the input, both in the unit of the target.
    """

    def __init__(self, entries: Iterable[Entry], *, seeded: float, arrived: float) -> None:
        self._entries = by_leak(entries)
        self.seeded = seeded
        self.arrived = arrived

    @property
    def absorbed(self) -> float:
        """What biases, constants and masks kept, over all operations."""
        return sum((entry.absorbed for entry in self), 0.0)

    @property
    def leaked(self) -> float:
        """What got lost or came from nowhere, over all operations; leaks of opposite signs cancel here."""
        return sum((entry.leaked for entry in self), 0.0)

    def by_operation(self) -> "Account":
        """The same account with one row for each kind of operation."""
        return Account(summed(self), seeded=self.seeded, arrived=self.arrived)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Entry, ...]: ...

    def __getitem__(self, index: int | slice) -> Entry | tuple[Entry, ...]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __rich__(self) -> "Group":
        from rich.console import Group

        rest = len(self) - MOST_ROWS
        more = f"{rest} further operations leak no more than the last of these\n" if rest > 0 else ""
        totals = (
            f"{more}seeded {_number(self.seeded)}, arrived at the input {_number(self.arrived)}, "
            f"absorbed {_number(self.absorbed)}, leaked {_number(self.leaked)}"
        )
        return Group(table(self[:MOST_ROWS]), totals)

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(file=StringIO(), width=110, color_system=None, force_jupyter=False, _environ={})
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip()


def by_leak(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Rows with the largest leak first, whichever its sign; a leak that is not a number stands before all."""
    return tuple(sorted(entries, key=lambda entry: -abs(entry.leaked) if isfinite(entry.leaked) else -float("inf")))


def summed(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """One row for each kind of operation, the largest leak first; leaks of opposite signs within a kind cancel."""
    kinds: dict[str, list[Entry]] = {}
    for entry in entries:
        kinds.setdefault(entry.operation, []).append(entry)
    return by_leak(
        Entry(
            operation=kind,
            module="",
            in_=sum((row.in_ for row in rows), 0.0),
            out=sum((row.out for row in rows), 0.0),
            absorbed=sum((row.absorbed for row in rows), 0.0),
            leaked=sum((row.leaked for row in rows), 0.0),
        )
        for kind, rows in kinds.items()
    )


def table(entries: Sequence[Entry]) -> "Table":
    """The rows as a table for a terminal, without the column of modules where none is named."""
    from rich.table import Table
    from rich.text import Text

    columns = [name for name in COLUMNS if name != "module" or any(entry.module for entry in entries)]
    drawn = Table(box=None, padding=(0, 1), show_edge=False, header_style="bold")
    for name in columns:
        words = name in ("operation", "module")
        drawn.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for entry in entries:
        values = [entry[name] for name in columns]
        drawn.add_row(*(Text(value if isinstance(value, str) else _number(value)) for value in values))
    return drawn


def _number(amount: float) -> str:
    if amount != amount:
        return "not a number"
    return f"{amount:+.4g}" if amount else "0"
