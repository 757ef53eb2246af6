"""Draw the inputs that the benchmark's text and language tasks come with. The same bytes on every run.

    python scripts/draw_benchmark_data.py --data DATA

``DATA`` is the folder of the rationales, as ``pellucid learn`` takes it. Besides, it needs lifelines 0.30.3. Writes
``src/pellucid/benchmark/tasks/data``.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.benchmark.tasks import Split
from pellucid.benchmark.tasks.text import rationale_rows

OUT = Path(__file__).parent.parent / "src" / "pellucid" / "benchmark" / "tasks" / "data"
COUNTS: Mapping[Split, int] = {"test": 150, "tuning": 60}
SEED = 20261122
HORIZON_DAYS = 1096
"""Three years."""

_PEOPLE = """
Ada Ahmed Aisha Alan Amir Anna Bella Ben Boris Carla Carlos Chloe Dana David Diego Elena Emil Emma Farid Felix Fiona
George Grace Hana Hugo Ida Igor Ines Ivan Jack Jane Jonas Julia Karim Kate Lara Leo Lily Lucas Maria Max Mei Mila
Nadia Nina Noah Olga Omar Oscar Paula Peter Rosa Ruth Sam Sara Simon Sofia Tara Theo Tom Uma Vera Victor Wei Yara
Yusuf Zoe
"""
NAMES = tuple(_PEOPLE.split())


class Relation(NamedTuple):
    """What can be said of a person, and asked. ``{s}`` is the person, ``{a}`` the answer."""

    sentences: tuple[str, str]
    """Two ways to say it."""
    question: str
    stem: str
    """How an answer begins."""
    answers: str
    """Words, apart by spaces."""


RELATIONS = (
    Relation(
        ("{s} drives a {a} car.", "The car of {s} is {a}."),
        "What colour is {s}'s car?",
        "The car is",
        "red blue green black white yellow grey brown",
    ),
    Relation(
        ("{s} keeps a {a} at home.", "The pet of {s} is a {a}."),
        "Which animal does {s} have?",
        "{s} has a",
        "dog cat rabbit horse parrot snake turtle goat",
    ),
    Relation(
        ("{s} works as a {a}.", "By profession {s} is a {a}."),
        "What is {s}'s job?",
        "{s} is a",
        "teacher nurse farmer lawyer baker pilot painter judge dentist",
    ),
    Relation(
        ("{s} lives in {a}.", "The home of {s} is in {a}."),
        "In which city does {s} live?",
        "{s} lives in",
        "Paris London Rome Berlin Madrid Vienna Cairo Tokyo Boston",
    ),
    Relation(
        ("{s} plays the {a}.", "{s} practises the {a} every evening."),
        "Which instrument does {s} play?",
        "{s} plays the",
        "piano guitar violin flute drums trumpet harp",
    ),
    Relation(
        ("{s} was born in {a}.", "The birthday of {s} is in {a}."),
        "In which month was {s} born?",
        "{s} was born in",
        "January February March April June July August October December",
    ),
    Relation(
        ("{s} likes to eat {a}.", "The favourite food of {s} is {a}."),
        "What does {s} like to eat?",
        "{s} likes to eat",
        "bread cheese rice soup fish pizza apples cake",
    ),
    Relation(
        ("{s} studies {a}.", "At school {s} is best at {a}."),
        "Which subject does {s} study?",
        "{s} studies",
        "history physics music chemistry biology art law geography",
    ),
    Relation(
        ("{s} will arrive on {a}.", "The visit of {s} begins on {a}."),
        "On which day does {s} arrive?",
        "{s} arrives on",
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    ),
    Relation(
        ("{s} left the keys in the {a}.", "The keys of {s} are in the {a}."),
        "Where are {s}'s keys?",
        "The keys are in the",
        "kitchen garden bedroom garage office bathroom cellar",
    ),
    Relation(
        ("{s} speaks {a}.", "The mother tongue of {s} is {a}."),
        "Which language does {s} speak?",
        "{s} speaks",
        "French German Spanish Italian Russian Chinese Arabic Greek",
    ),
    Relation(
        ("{s} drinks {a} in the morning.", "The breakfast drink of {s} is {a}."),
        "What does {s} drink in the morning?",
        "{s} drinks",
        "coffee tea milk water juice cocoa",
    ),
    Relation(
        ("{s} travels by {a}.", "{s} goes to work by {a}."),
        "How does {s} travel?",
        "{s} travels by",
        "train bus tram bicycle boat plane",
    ),
    Relation(
        ("{s} likes {a} most of all sports.", "The sport of {s} is {a}."),
        "Which sport does {s} like?",
        "{s} likes",
        "football tennis swimming golf rugby boxing skiing",
    ),
)
"""What the passages are made of."""


class Query(NamedTuple):
    """A field of a record, and a question that it answers."""

    field: str
    question: str
    stem: str
    """How an answer begins."""
    values: Mapping[str, str]
    """What the field may say, and the answer that follows."""


def as_said(words: str) -> Mapping[str, str]:
    """Answers that are what the field says."""
    return {word: word for word in words.split()}


QUERIES = (
    Query(
        "age",
        "Is the patient a child or an adult?",
        "The patient is",
        {
            "3 years": "a child",
            "5 years": "a child",
            "8 years": "a child",
            "38 years": "an adult",
            "54 years": "an adult",
            "71 years": "an adult",
        },
    ),
    Query("sex", "Is the patient a man or a woman?", "The patient is a", {"male": "man", "female": "woman"}),
    Query(
        "complaint",
        "What does the patient complain of?",
        "The patient complains of",
        as_said("cough headache dizziness fatigue nausea fever"),
    ),
    Query("temperature", "How is the temperature?", "The temperature is", as_said("high normal low")),
    Query(
        "allergy",
        "What is the patient allergic to?",
        "The patient is allergic to",
        as_said("penicillin latex pollen nuts aspirin"),
    ),
    Query(
        "medicine",
        "What does the patient take every day?",
        "Every day the patient takes",
        as_said("insulin warfarin metformin ibuprofen digoxin"),
    ),
    Query(
        "operation",
        "Where was the patient operated on?",
        "The operation was on the",
        as_said("knee hip shoulder wrist heart eye"),
    ),
    Query("ward", "Where is the patient?", "The patient is in", as_said("surgery cardiology maternity neurology")),
)
"""A record, field by field, and what is asked about it."""
COLUMNS = {
    "age": "age",
    "menopause": "menostat",
    "size": "tsize",
    "grade": "tgrade",
    "nodes": "pnodes",
    "pr": "progrec",
    "er": "estrec",
    "hormone": "horTh",
}
WORDINGS = {"Pre": "before", "Post": "after"}
DECOYS = {
    "hair": ("black", "brown", "blond", "red"),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
}


def pick(generator: np.random.Generator, things: Sequence[Any]) -> Any:
    """One of the things."""
    return things[int(generator.integers(len(things)))]


def said(relation: Relation, person: str, answer: str, generator: np.random.Generator) -> str:
    """The relation in one of its wordings."""
    return str(pick(generator, relation.sentences)).format(s=person, a=answer)


def passage(number: int, generator: np.random.Generator) -> dict[str, Any]:
    """One case of ``context-questions``: the answer stands in one sentence, and no other names it."""
    people = [str(each) for each in generator.permutation(NAMES)[:4]]
    kinds = [RELATIONS[int(each)] for each in generator.permutation(len(RELATIONS))]
    asked, others = kinds[0], kinds[1:]
    answers = [str(each) for each in generator.permutation(asked.answers.split())[:3]]
    # The question cannot be answered by its kind alone, nor by its person alone.
    rest = [said(asked, person, answer, generator) for person, answer in zip(people[1:3], answers[1:], strict=True)]
    rest = rest[: int(generator.integers(1, 3))]
    rest.append(said(others[0], people[0], pick(generator, others[0].answers.split()), generator))
    for relation in others[1 : 1 + int(generator.integers(1, 5))]:
        rest.append(said(relation, pick(generator, people[1:]), pick(generator, relation.answers.split()), generator))
    sentences = [str(each) for each in generator.permutation(rest)]
    place = int(generator.integers(len(sentences) + 1))
    sentences.insert(place, said(asked, people[0], answers[0], generator))
    # The space goes with its sentence, so that taking one away leaves a text that a person could write.
    spaced = [*(f"{each} " for each in sentences[:-1]), sentences[-1]]
    fields = {f"sentence {at}": each for at, each in enumerate(spaced, 1)}
    question, stem = asked.question.format(s=people[0]), asked.stem.format(s=people[0])
    return {
        "id": f"passage-{number:03d}",
        "template": "".join(f"{{{name}}}" for name in fields) + f"\nQuestion: {question}\nAnswer: {stem}",
        "fields": fields,
        "rationale": [f"sentence {place + 1}"],
        "target": {"kind": "answer", "answer": f" {answers[0]}"},
    }


def record(number: int, generator: np.random.Generator) -> dict[str, Any]:
    """One case of ``clinical-choice``: the field that the question is about says which option is right."""
    fields = {query.field: str(pick(generator, list(query.values))) for query in QUERIES}
    asked = pick(generator, QUERIES)
    right = asked.values[fields[asked.field]]
    wrong = sorted({*asked.values.values()} - {right})
    options = [right, *(str(each) for each in generator.permutation(wrong)[:2])]
    said_fields = " ".join(f"{name.capitalize()}: {{{name}}}." for name in fields)
    return {
        "id": f"record-{number:03d}",
        "template": f"{said_fields}\nQuestion: {asked.question}\nAnswer: {asked.stem}",
        "fields": fields,
        "rationale": [asked.field],
        "target": {"kind": "choice", "options": [f" {each}" for each in generator.permutation(options)]},
        "label": f" {right}",
    }


def patients(generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The cases of ``gbsg2-choice``: patients of whom it is known whether they had an event within three years."""
    from lifelines.datasets import load_gbsg2

    table = load_gbsg2()
    event = (table["time"] < HORIZON_DAYS) & (table["cens"] == 1)
    known = table[event | (table["time"] >= HORIZON_DAYS)]
    for row in generator.permutation(len(known)):
        patient = known.iloc[int(row)]
        fields = {name: WORDINGS.get(str(patient[column]), str(patient[column])) for name, column in COLUMNS.items()}
        fields |= {name: str(pick(generator, values)) for name, values in DECOYS.items()}
        recurred = bool(event.loc[patient.name])
        yield {"id": f"gbsg2-{int(patient.name) + 1:03d}", "fields": fields, "label": "Yes" if recurred else "No"}


def split_up(rows: Sequence[Mapping[str, Any]]) -> dict[Split, Sequence[Mapping[str, Any]]]:
    """The first for the test, the next for tuning."""
    return {"test": rows[: COUNTS["test"]], "tuning": rows[COUNTS["test"] : sum(COUNTS.values())]}


def write(name: str, split: Split, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (OUT / f"{name}_{split}.jsonl").write_text(text, "utf-8")


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the rationales")
    data = parser.parse_args().data
    OUT.mkdir(exist_ok=True)
    for name in ("sst2", "acceptability"):
        for split, count in COUNTS.items():
            write(name, split, rationale_rows(name, data, split, count))
    total = range(1, sum(COUNTS.values()) + 1)
    made = {
        "context": [passage(each, np.random.default_rng([SEED, 1, each])) for each in total],
        "clinical": [record(each, np.random.default_rng([SEED, 2, each])) for each in total],
        "gbsg2": list(patients(np.random.default_rng([SEED, 3]))),
    }
    for name, rows in made.items():
        for split, part in split_up(rows).items():
            write(name, split, part)


if __name__ == "__main__":
    main()
