"""Tasks on rows of tables: cell nuclei, patients with breast cancer, credits; a perceptron and trees for each."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from pellucid.benchmark.tasks.reading import records
from pellucid.benchmark.tasks.task import Case, Split, Task
from pellucid.models import load


class _Table(NamedTuple):
    title: str
    source: str
    licence: str


_TABLES: Final[Mapping[str, _Table]] = MappingProxyType(
    {
        "wisconsin": _Table(
            "benign or malignant, from 30 measurements of cell nuclei",
            "Breast Cancer Wisconsin (Diagnostic) [wolberg1993], as scikit-learn has it",
            "CC BY 4.0",
        ),
        "gbsg2": _Table(
            "recurrence or death within three years, from 8 clinical columns",
            "German Breast Cancer Study Group 2 [schumacher1994, sauerbrei1999], as lifelines has it",
            "MIT",
        ),
        "credit": _Table(
            "a credit paid back or not, from 18 columns",
            "German credit [hofmann1994] with its codes put right [gromping2019]",
            "CC BY 4.0",
        ),
    }
)


def _cases(table: str, split: Split) -> Sequence[Case]:
    found = [record for _, record in records(table, split)]
    # No row says whose it is, so that each counts as one of its own.
    return [
        Case(id=record.pop("case"), cluster=str(number), label=record.pop("label"), raw=record)
        for number, record in enumerate(found)
    ]


def _task(name: str, table: str, model: str, kind: str, data: Path | None = None) -> Task:
    """A task on a shipped table; nothing is read of ``data``. Absent columns come from other rows, or are the mean."""
    about = _TABLES[table]
    return Task(
        name=name,
        title=f"{kind}: {about.title}",
        model=model,
        load=partial(load, model),
        cases=partial(_cases, table),
        features="column",
        imputers=("marginal", "mean"),
        source=about.source,
        licence=about.licence,
    )


def _tasks(table: str) -> dict[str, Callable[[Path | None], Task]]:
    boosted = f"{table}-boosting"
    return {
        table: partial(_task, table, table, f"{table}-mlp", "perceptron"),
        boosted: partial(_task, boosted, table, boosted, "boosted trees"),
    }


TASKS: Final[Mapping[str, Callable[[Path | None], Task]]] = MappingProxyType(
    {name: make for table in _TABLES for name, make in _tasks(table).items()}
)
"""By name, what makes the task. The rows ship with pellucid, so that no folder of data is needed."""
