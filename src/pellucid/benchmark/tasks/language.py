"""Tasks of a small language model: patients' records and passages, asked about one thing."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from pellucid.benchmark.tasks.rows import read_cases
from pellucid.benchmark.tasks.task import Case, Split, Task
from pellucid.benchmark.tasks.text import shipped_file
from pellucid.models import load
from pellucid.targets import Choice

MODEL = "smollm2"
GBSG2 = ("audit", "gbsg2", "template.txt")
"""Where the question of the audit's demo stands in the package."""


def clinical_choice(data: Path | None = None) -> Task:
    """An invented patient and a question with two or three options, which one field of the record answers.

    Nothing is read of ``data``. What decides is known by construction; whether the model reads it is another matter,
    and no case was left out for the model's answer.
    """
    return Task(
        name="clinical-choice",
        title="invented patients: a choice that one field of the record decides",
        model=MODEL,
        # A chat has no place for the beginning of an answer, which this model needs to say one of the options at all.
        load=partial(load, MODEL, chat=False),
        cases=partial(_cases, "clinical", None),
        features="field",
        imputers=("neutral", "delete"),
        source="made by scripts/draw_benchmark_data.py from lists of our own",
        licence="Apache-2.0",
    )


def context_questions(data: Path | None = None) -> Task:
    """A passage of four to eight short sentences and a question, to which one of them holds the answer.

    Explained is the log-probability of the right answer, whatever the model would have said, as contributions of the
    passage's sentences, after the manner of ContextCite [cohenwang2024]. They are fields, so that the question always
    stays. Nothing is read of ``data``, and no case was left out for the model's answer.
    """
    return Task(
        name="context-questions",
        title="questions about a passage: one sentence holds the answer",
        model=MODEL,
        load=partial(load, MODEL, chat=False),
        cases=partial(_cases, "context", None),
        features="field",
        imputers=("delete", "pad"),
        source="made by scripts/draw_benchmark_data.py from lists of our own",
        licence="Apache-2.0",
    )


def gbsg2_choice(data: Path | None = None) -> Task:
    """Patients with breast cancer, and the question of ``pellucid audit``'s demo: is a recurrence likely?

    Nobody knows which fields are the reason; hair colour and weekday, added at random, are none. Nothing is read of
    ``data``.
    """
    return Task(
        name="gbsg2-choice",
        title="patients with breast cancer: is the risk of recurrence high?",
        model=MODEL,
        load=partial(load, MODEL),
        cases=partial(_cases, "gbsg2", GBSG2),
        features="field",
        imputers=("neutral", "delete"),
        source="German Breast Cancer Study Group 2 [schumacher1994, sauerbrei1999], as lifelines has it",
        licence="MIT",
        target=Choice(("Yes", "No")),
    )


def _cases(name: str, place: Sequence[str] | None, split: Split) -> Sequence[Case]:
    template = None if place is None else files("pellucid").joinpath(*place).read_text("utf-8").rstrip("\n")
    return read_cases(shipped_file(name, split), "field", template=template)


TASKS: Mapping[str, Callable[[Path | None], Task]] = MappingProxyType(
    {"clinical-choice": clinical_choice, "context-questions": context_questions, "gbsg2-choice": gbsg2_choice}
)
"""By the name that ``find_task`` takes."""
