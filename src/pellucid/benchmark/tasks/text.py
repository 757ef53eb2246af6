"""Tasks on sentences of which people, or the data's own construction, marked the words that decide."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pellucid.benchmark.tasks.task import Case, Split, Task
from pellucid.errors import InputError
from pellucid.learning import BUILT_IN, Rationale, read_jsonl
from pellucid.learning import find_task as find_learning_task
from pellucid.models import load

DATA = Path(__file__).parent / "data"
SPLITS: Mapping[Split, str] = MappingProxyType({"test": "test", "tuning": "dev"})
"""What the data call the splits. The models were chosen on dev, so it serves for settings only."""
IMPUTERS = ("mask", "delete")
"""These classifiers saw masked words in training: a mask asks them nothing new."""


class _Known(NamedTuple):
    """What a task is made of."""

    data: str
    """The task of ``learning`` whose texts these are."""
    model: str
    title: str


def sst2(data: Path | None = None) -> Task:
    """Film reviews: is a sentence positive or negative? [socher2013]."""
    return _task("sst2", data)


def hatexplain(data: Path | None = None) -> Task:
    """Posts from the net: normal or toxic? [mathew2021]. Needs ``data``, and is never quoted."""
    return _task("hatexplain", data)


def acceptability(data: Path | None = None) -> Task:
    """One side of a minimal pair: acceptable English or not? [warstadt2020]."""
    return _task("acceptability", data)


def sst2_lstm(data: Path | None = None) -> Task:
    """The sentences of ``sst2``, read by a recurrent network."""
    return _task("sst2-lstm", data)


def sst2_tiny(data: Path | None = None) -> Task:
    """The sentences of ``sst2``, read by a transformer of three layers, which is the fastest of them."""
    return _task("sst2-tiny", data)


def rationale_rows(name: str, data: Path, split: Split, count: int) -> list[dict[str, Any]]:
    """The first texts of a task, as the rows of the file that comes with pellucid."""
    return [_row(each) for each in _drawn(name, data, split)[:count]]


def _row(example: Rationale) -> dict[str, Any]:
    row = {"id": example.id, "words": example.words, "label": example.label}
    marks = example.rationale
    return row if marks is None else row | {"evidence": [place for place, mark in enumerate(marks) if mark]}


def _task(name: str, data: Path | None) -> Task:
    known = _KNOWN[name]
    facts = BUILT_IN[known.data]
    if data is None and not shipped_file(known.data, "test").is_file():
        raise InputError(
            f"the inputs of the task {name!r} are not part of pellucid; name the folder that they lie in: --data DIR."
        )
    return Task(
        name=name,
        title=known.title,
        model=known.model,
        load=partial(load, known.model),
        cases=partial(_cases, known.data, data),
        features="word",
        imputers=IMPUTERS,
        source=facts["source"],
        licence=facts["licence"],
        quotable=facts.get("quotable", True),
    )


def shipped_file(name: str, split: Split) -> Path:
    """Where the inputs that come with pellucid lie, if they do."""
    return DATA / f"{name}_{split}.jsonl"


def _cases(name: str, data: Path | None, split: Split) -> Sequence[Case]:
    examples = read_jsonl(shipped_file(name, split)) if data is None else _drawn(name, data, split)
    return [Case(each.id, list(each.words), cluster(each.id), each.label, each.rationale) for each in examples]


def _drawn(name: str, data: Path, split: Split) -> list[Rationale]:
    """All texts of a split in a random order that never changes; of a minimal pair the side that comes first in it.

    The two sides differ in a word, so that the second would hardly be another input. Neither the model's answers nor
    the marks bear on what is drawn.
    """
    seen: set[str] = set()
    found = []
    for each in find_learning_task(name, data).examples(SPLITS[split]):
        if cluster(each.id) not in seen:
            seen.add(cluster(each.id))
            found.append(Rationale(f"{split}-{each.id}", each.words, each.label, each.rationale))
    return found


def cluster(name: str) -> str:
    """What a case shares with those that are not independent of it: the pair of ``12/good`` and ``12/bad``.

    >>> cluster("test-12/good")
    'test-12'
    """
    return name.partition("/")[0]


_KNOWN: Mapping[str, _Known] = MappingProxyType(
    {
        "sst2": _Known("sst2", "minilm-sst2", "sentences from film reviews: positive or negative"),
        "hatexplain": _Known("hatexplain", "minilm-hatexplain", "posts: normal or toxic"),
        "acceptability": _Known("acceptability", "minilm-acceptability", "sentences: acceptable English or not"),
        "sst2-lstm": _Known("sst2", "lstm-sst2", "sentences from film reviews, read by a recurrent network"),
        "sst2-tiny": _Known("sst2", "tiny-sst2", "sentences from film reviews, read by a transformer of three layers"),
    }
)
TASKS: Mapping[str, Callable[[Path | None], Task]] = MappingProxyType(
    {
        "acceptability": acceptability,
        "hatexplain": hatexplain,
        "sst2": sst2,
        "sst2-lstm": sst2_lstm,
        "sst2-tiny": sst2_tiny,
    }
)
"""By the name that ``find_task`` takes."""
