"""The paired task in words: one thing and one place in each sentence, and a tiny transformer for either label."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from safetensors.torch import load_file

from pellucid.ground_truth.planted import network, tokenizer
from pellucid.ground_truth.task import SPECIAL
from pellucid.models import TextClassifier

FOLDER = Path(__file__).parent / "paired"
LENGTH = 10
"""Words of a sentence."""
THINGS = {"animal": ("cat", "horse", "rabbit", "goat"), "vehicle": ("bus", "tractor", "bicycle", "lorry")}
PLACES = {
    "forest": ("moss", "oak", "fern", "bark", "glade", "acorn"),
    "harbour": ("wave", "pier", "gull", "salt", "mast", "tide"),
}
NEUTRAL = ("again", "quiet", "many", "small", "later", "with", "under", "near", "some", "then", "still", "almost")
SCENERY = 4
"""Words of the scene in a sentence; of the object there is one."""
LAYERS, DIMENSIONS = 1, 24
Part = Literal["object", "scene"]


class Paired(NamedTuple):
    """One sentence of the task."""

    words: tuple[str, ...]
    """Its words."""
    is_object: Bool[np.ndarray, " word"]
    """The word that one label depends on; on the others only the other one can."""
    labels: dict[Part, str]
    """Both labels."""


def vocabulary() -> dict[str, int]:
    """Number of each token."""
    marked = [word for classes in (THINGS, PLACES) for words in classes.values() for word in words]
    return {word: number for number, word in enumerate((*SPECIAL, *NEUTRAL, *marked))}


def labels(part: Part) -> tuple[str, ...]:
    """The classes that the model of a part tells apart."""
    return tuple(THINGS if part == "object" else PLACES)


def draw(generator: np.random.Generator) -> Paired:
    """One sentence: a thing and several words of one place among words that say nothing, in any order."""
    words = [str(word) for word in generator.choice(NEUTRAL, LENGTH)]
    thing, place = str(generator.choice(list(THINGS))), str(generator.choice(list(PLACES)))
    here, *there = generator.choice(LENGTH, 1 + SCENERY, replace=False)
    words[here] = str(generator.choice(THINGS[thing]))
    for spot in there:
        words[spot] = str(generator.choice(PLACES[place]))
    return Paired(tuple(words), np.arange(LENGTH) == here, {"object": thing, "scene": place})


@cache
def paired_model(part: Part) -> TextClassifier:
    """The trained classifier of one part that comes with the package."""
    # The network's first weights are drawn and thrown away: nobody else's random numbers may change by it.
    with torch.random.fork_rng(devices=[]):
        module: Any = network(len(vocabulary()), labels(part), LAYERS, DIMENSIONS)
    module.load_state_dict(load_file(FOLDER / f"{part}.safetensors"))
    module.requires_grad_(False)
    return TextClassifier(module.eval(), tokenizer(vocabulary()), name=f"paired-{part}")
