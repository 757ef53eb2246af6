"""What is judged of a latent: windows with and without it, and windows with right and with wrong marks."""

from collections.abc import Sequence

import numpy as np

from pellucid.sae.interpretation.examples import Example
from pellucid.sae.interpretation.prompts import Item


def detection(examples: Sequence[Example]) -> tuple[Item, ...]:
    """Each window, unmarked: is the latent in it?"""
    return tuple(Item(example, None, example.active) for example in examples)


def fuzzing(examples: Sequence[Example], generator: np.random.Generator) -> tuple[Item, ...]:
    """Each window with the latent, by turns with its own marks and with as many others: are the marks right?

    A window without room for as many wrong marks gets its own.
    """
    items: list[Item] = []
    wrong = bool(generator.integers(2))
    for example in examples:
        if not example.active:
            continue
        right, others = _marks(example)
        if wrong and len(others) >= len(right):
            drawn = generator.choice(others, len(right), replace=False)
            items.append(Item(example, tuple(sorted(int(place) for place in drawn)), False))
            wrong = False
        else:
            items.append(Item(example, tuple(right), True))
            wrong = True
    return tuple(items)


def _marks(example: Example) -> tuple[list[int], list[int]]:
    """Where the latent is active, and where else a mark could stand: on patches, or on tokens that can be seen."""
    picture = example.picture
    if picture is not None and example.on_picture:
        places = range(len(picture.levels))
        return [at for at in places if picture.levels[at]], [at for at in places if not picture.levels[at]]
    places = range(len(example.levels))
    right = [at for at in places if example.levels[at]]
    return right, [at for at in places if not example.levels[at] and example.pieces[at].strip()]
