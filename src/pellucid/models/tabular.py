"""Models of table rows: numbers standardised, categories one-hot; the features are the columns."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.errors import InputError, UnknownNameError
from pellucid.models.base import Baseline
from pellucid.models.fingerprint import fingerprint
from pellucid.models.networks import Boosting
from pellucid.models.tensor import AbstractTensorClassifier, TensorInputs
from pellucid.records import Feature, Fingerprint

TableRow = Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the table, with what the training rows say of it."""

    name: str
    kind: Literal["number", "category"] = "number"
    mean: float = 0.0
    """Mean of a number."""
    std: float = 1.0
    """Deviation of a number; the network reads (value - mean) / std."""
    median: float = 0.0
    """Median of a number."""
    unit: str = ""
    """Unit of a number."""
    levels: tuple[str, ...] = ()
    """What a category can be; the network reads a one for the level that holds and a zero for every other."""
    frequencies: tuple[float, ...] = ()
    """Share of each level."""
    mode: str = ""
    """The commonest level."""

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise InputError(f"the column {self.name!r} has the deviation {self.std}; leave out what never varies.")

    @property
    def width(self) -> int:
        """Positions that the column takes in the network's input."""
        return 1 if self.kind == "number" else len(self.levels)

    def encoded(self, value: Any) -> list[float]:
        """What the network reads of a value. Raises InputError where the column has no such value."""
        if self.kind == "category":
            if str(value) not in self.levels:
                raise InputError(f"{self.name!r} is one of {', '.join(self.levels)}, not {value!r}.")
            return [float(level == str(value)) for level in self.levels]
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{self.name!r} is a number, not {repr(value)[:80]}.") from None
        if not math.isfinite(number):
            raise InputError(f"{self.name!r} is {value!r}; a missing value has to be filled in before it is explained.")
        standardised = (number - self.mean) / self.std
        if abs(standardised) > torch.finfo(torch.float32).max:
            raise InputError(f"{self.name!r} is {value!r}, which is too large for the network to read.")
        return [standardised]

    @property
    def average(self) -> list[float]:
        """The mean of what the network reads."""
        return [0.0] if self.kind == "number" else list(self.frequencies)

    @property
    def middle(self) -> list[float]:
        """The median of a number, the commonest level of a category."""
        return self.encoded(self.median if self.kind == "number" else self.mode)


@dataclass(frozen=True)
class TabularInputs(TensorInputs):
    """An encoded row of a table."""

    values: tuple[str, ...]
    """Each column's value, as it was given."""


class Tabular(AbstractTensorClassifier[TabularInputs]):
    """A network that gives a row of a table one of several labels.

    Args:
        module: takes [batch, position] and returns logits.
        columns: the columns, in the order of the positions.
        labels: the class labels, in the order of the logits.
        name: what to call the model in results.
        background: rows that stand for the data, to draw absent columns and baselines from.
    """

    modality = "tabular"

    def __init__(
        self,
        module: torch.nn.Module,
        columns: Sequence[Column],
        labels: Sequence[str],
        *,
        name: str = "",
        background: Sequence[TableRow] = (),
    ) -> None:
        super().__init__(module, labels, name=name)
        self.columns = tuple(columns)
        self.differentiable = not isinstance(module, Boosting)
        self._background = tuple(background)
        self._owners = [number for number, column in enumerate(self.columns) for _ in range(column.width)]

    def encode(self, raw: Any) -> TabularInputs:
        """One row, by column name or in the order of the columns. Raises InputError where it does not fit them."""
        values = self._values(raw)
        row = [number for column, value in zip(self.columns, values, strict=True) for number in column.encoded(value)]
        return TabularInputs(torch.tensor(row), tuple(str(value) for value in values))

    def _values(self, raw: Any) -> list[Any]:
        names = [column.name for column in self.columns]
        # A row of a data frame is no Mapping, and its order need not be ours.
        keys = getattr(raw, "keys", None)
        if callable(keys):
            raw = {key: raw[key] for key in keys()}
        if not isinstance(raw, Mapping):
            if isinstance(raw, str | bytes) or not isinstance(raw, Sequence | np.ndarray) or len(raw) != len(names):
                raise InputError(f"a row has {len(names)} values ({', '.join(names)}), and {raw!r} was given.")
            return list(raw)
        for name in raw:
            if name not in names:
                raise UnknownNameError("column", str(name), names)
        missing = [name for name in names if name not in raw]
        if missing:
            raise InputError(f"the row has no value for {', '.join(missing)}; every column of the model needs one.")
        return [raw[name] for name in names]

    # Features

    def default_kind(self, inputs: TabularInputs) -> str:
        return "column"

    def features(self, inputs: TabularInputs, kind: str) -> tuple[Feature, ...]:
        if kind != "column":
            raise UnknownNameError("kind of feature", kind, ["column"])
        return tuple(
            Feature(label=column.name, kind="column", value=f"{value} {column.unit}".strip(), index=number)
            for number, (column, value) in enumerate(zip(self.columns, inputs.values, strict=True))
        )

    def owners(self, inputs: TabularInputs, features: Sequence[Feature]) -> Int[Tensor, " seq"]:
        return torch.tensor(self._owners)

    # Tensors

    def to_sequence(self, tensor: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq dim"]:
        return tensor[..., None]

    def to_tensor(self, sequence: Float[Tensor, "batch seq dim"], inputs: TabularInputs) -> Float[Tensor, "batch seq"]:
        return sequence.squeeze(2)

    # What stands for an absent column

    def preferred_baseline(self) -> str:
        return "mean"

    def baseline(self, name: str, inputs: TabularInputs) -> Baseline:
        """The training rows' mean (shares, for a category), their median (commonest level), or zeros."""
        known = {
            "zero": ([0.0] * len(self._owners), "zeros, as the network reads them"),
            "mean": ([each for column in self.columns for each in column.average], "mean of the training rows"),
            "median": ([each for column in self.columns for each in column.middle], "median of the training rows"),
        }
        if name not in known:
            raise UnknownNameError("baseline", name, known)
        numbers, described = known[name]
        return Baseline(torch.tensor(numbers, device=self.device, dtype=self.dtype)[:, None], described)

    def background_draws(
        self, inputs: TabularInputs, count: int, generator: torch.Generator, background: Sequence[Any]
    ) -> Baseline:
        """Whole rows, drawn with replacement."""
        rows = self.background(background)
        drawn = torch.randint(len(rows), (count,), generator=generator)
        described = f"rows drawn from {len(rows)} of the background"
        return Baseline(self.to_sequence(rows[drawn]).to(self.like), described)

    def background(self, given: Sequence[Any] = ()) -> Float[Tensor, "row seq"]:
        """The given background rows, or the model's own, encoded. Raises InputError without any."""
        rows = given or self._background
        if not rows:
            raise InputError(f"{self.name} has no background rows to draw from; give background=[...].")
        return torch.stack([self.encode(row).row for row in rows])

    def fingerprint(self) -> Fingerprint:
        columns = [asdict(column) for column in self.columns]
        return fingerprint(self, json.dumps([columns, self.labels]).encode())
