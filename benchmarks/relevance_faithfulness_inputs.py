"""The models, and the inputs of each, that composites are judged on."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pellucid
from pellucid.targets import AbstractTarget

QUICK = 3
"""Inputs of each subject in a smoke run."""
PROMPT = (
    "A woman of {age} years had breast cancer: size {size} mm, grade {grade}, {nodes} positive lymph nodes, "
    "progesterone receptor {pr}, hormone therapy {hormone}. Did it come back? Yes or No:"
)
FACTS = (
    "The capital of France is called",
    "The largest planet of the solar system is",
    "Water freezes at zero degrees",
    "The opposite of hot is",
    "Romeo and Juliet was written by William",
    "The sun rises in the",
    "A spider has eight legs and an ant has",
    "The mother of my mother is my",
    "Bees make honey and cows give",
    "One, two, three, four,",
    "The currency of Japan is the",
    "Monday, Tuesday, Wednesday, Thursday,",
    "In winter the lake is covered with",
    "The opposite of black is",
)
REVIEWS = (
    "A warm and honest film with a wonderful cast .",
    "The plot is dull and the jokes fall flat .",
    "Clever , moving and never too long .",
    "I was bored after ten minutes .",
    "A beautiful score cannot save this lazy script .",
    "Not a great film , but a charming one .",
    "The acting is superb from start to finish .",
    "An ugly , noisy and pointless remake .",
    "Funny at times , yet it lacks a heart .",
    "It never fails to surprise and delight .",
    "A tired story told without any wit .",
    "One of the best dramas of the year .",
)
GRAMMAR = (
    "The girls have hurt themselves.",
    "The girls have hurt herself.",
    "Every child likes these books.",
    "Every child like these books.",
    "Who did the teacher see?",
    "The senators that met the boy laughs.",
    "There is a dog in the garden.",
    "There is every dog in the garden.",
    "Nobody has ever seen that lake.",
    "Somebody has ever seen that lake.",
    "This man was thought to be here.",
    "These man was thought to be here.",
)
PICTURES = ("chelsea", "coffee", "astronaut", "rocket")


class Subject(NamedTuple):
    """A model and what is asked of it."""

    title: str
    """What the tables call it."""
    use: str
    """The use that it stands for: text, LLM, vision or rows."""
    about: str
    """Its inputs, in one sentence."""
    model: Any
    raws: list[Any]
    features: str
    target: AbstractTarget | None
    """What is explained; None: the margin of the predicted class."""
    steps: int
    """Points of each curve."""
    permutations: int
    """Permutations of the Shapley row where there are too many features for the exact one."""


def drawn(rows: Sequence[Any], count: int) -> list[Any]:
    """Some of the rows, at random and always the same."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    return [rows[place] for place in chosen]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rationales(data: Path | None, name: str) -> list[Any]:
    return [] if data is None else lines(data / "rationales" / f"{name}_test.jsonl")


def sst2(data: Path | None) -> Subject:
    sentences = [" ".join(row["tokens"]) for row in rationales(data, "sst2_tree_rationales")]
    about = "test sentences of SST-2" if sentences else "sentences about films written for this"
    raws = drawn([each for each in sentences if 5 <= len(each.split()) <= 24] or REVIEWS, 20)
    return Subject("minilm-sst2", "text", about, pellucid.load("minilm-sst2"), raws, "word", None, 10, 10)


def acceptability(data: Path | None) -> Subject:
    pairs = drawn(rationales(data, "blimp_evidence"), 32)
    sentences = [" ".join(pair["good" if place % 2 else "bad"]) for place, pair in enumerate(pairs)]
    about = "test sentences of BLiMP, half of them unacceptable" if pairs else "sentences written for this"
    model = pellucid.load("minilm-acceptability")
    return Subject("minilm-acceptability", "text", about, model, sentences or list(GRAMMAR), "word", None, 10, 20)


def facts(data: Path | None) -> Subject:
    model = pellucid.load("smollm2", chat=False)
    about = "beginnings of sentences; the log-probability of the token that the model prefers"
    return Subject("smollm2, sentences", "LLM", about, model, list(FACTS), "word", pellucid.Token(), 10, 20)


def cases(data: Path | None) -> Subject:
    from pellucid.audit.cases import read_cases

    template = pellucid.Template(PROMPT, absent="unknown", missing="unknown")
    table = read_cases(Path(pellucid.__file__).parent / "audit" / "gbsg2" / "cases.csv", id_column="id")
    raws = [template(**{name: case.values[name] for name in template.fields}) for case in drawn(table, 6)]
    model, target = pellucid.load("smollm2", chat=False), pellucid.Contrast(" Yes", " No")
    about = "GBSG2 patients, six fields; the log-odds of Yes against No"
    return Subject("smollm2, cases", "LLM", about, model, raws, "field", target, 6, 20)


def clothes(name: str, data: Path | None) -> Subject:
    from PIL import Image

    model = pellucid.load(name)
    path = None if data is None else data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"
    if path is not None and path.exists():
        pixels = np.frombuffer(gzip.decompress(path.read_bytes())[16:], np.uint8).reshape(-1, 28, 28)
        pictures, about = list(pixels), "test pictures of Fashion-MNIST, patches of 4 x 4 pixels"
    else:
        folder = Path(pellucid.__file__).parent / "models" / "zoo" / name / "background"
        pictures = [np.asarray(Image.open(each)) for each in sorted(folder.glob("*.png"))]
        about = "training pictures of Fashion-MNIST, patches of 4 x 4 pixels"
    return Subject(name, "vision", about, model, drawn(pictures, 32), "patch:4", None, 12, 10)


def photographs(data: Path | None) -> Subject:
    import skimage.data
    from sklearn.datasets import load_sample_images

    pictures = [getattr(skimage.data, name)() for name in PICTURES] + list(load_sample_images().images)
    about = "photographs of scikit-image and scikit-learn, patches of 32 x 32 pixels"
    model = pellucid.load("efficientnet-lite0")
    return Subject("efficientnet-lite0", "vision", about, model, pictures, "patch:32", None, 8, 4)


def nuclei(data: Path | None) -> Subject:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    names = [str(name) for name in table.feature_names]
    raws = [dict(zip(names, map(float, row), strict=True)) for row in drawn(table.data, 48)]
    about = "rows of the Wisconsin table, 30 columns"
    return Subject("wisconsin-mlp", "rows", about, pellucid.load("wisconsin-mlp"), raws, "column", None, 15, 20)


SUBJECTS: Mapping[str, Callable[[Path | None], Subject]] = {
    "sst2": sst2,
    "acceptability": acceptability,
    "facts": facts,
    "cases": cases,
    "fashion-vit": lambda data: clothes("fashion-vit", data),
    "fashion-cnn": lambda data: clothes("fashion-cnn", data),
    "photographs": photographs,
    "nuclei": nuclei,
}
