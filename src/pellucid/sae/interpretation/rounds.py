"""One round of judging: some latents, an explanation for each, and all scores of these."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pellucid.sae.interpretation.choosing import Chosen
from pellucid.sae.interpretation.items import detection, fuzzing
from pellucid.sae.interpretation.judging import Judge, Task
from pellucid.sae.interpretation.prompts import Item
from pellucid.sae.interpretation.results import Prompts
from pellucid.sae.interpretation.scoring import Score, score

RIGHT, WRONG = "right marks", "wrong marks"


class Round(NamedTuple):
    """What a round gave."""

    scores: dict[int, dict[str, Score]]
    """Of each latent, by name."""
    prompts: dict[int, tuple[str, ...]]
    """Of each latent, the digests of what was asked."""


def judged(
    chosen: Sequence[Chosen],
    explanations: Mapping[int, str],
    judges: Mapping[str, Judge],
    prompts: Prompts | None,
    purpose: str,
) -> Round:
    """Judge the examples of those latents that have an explanation; each judge gets all of its tasks at once.

    Args:
        chosen: the latents' examples.
        explanations: by latent.
        judges: by score.
        prompts: where questions are kept; None: nowhere.
        purpose: what the questions are for, written beside them.
    """
    able = [each for each in chosen if each.latent in explanations]
    found = Round({each.latent: {} for each in able}, {each.latent: () for each in able})
    for name, judge in judges.items():
        tasks = [Task(name, explanations[each.latent], _items(name, each)) for each in able]
        for each, task, result in zip(able, tasks, judge.judge(tasks), strict=True):
            truth = [item.truth for item in task.items]
            found.scores[each.latent][name] = score(truth, result.verdicts, [_kind(item) for item in task.items])
            if prompts is not None:
                found.prompts[each.latent] += prompts.add(each.latent, f"{purpose}: {name}", result.prompts)
    return found


def _items(scorer: str, chosen: Chosen) -> tuple[Item, ...]:
    if scorer != "fuzzing":
        return detection(chosen.score)
    return fuzzing(chosen.score, np.random.default_rng([chosen.latent, len(chosen.score)]))


def _kind(item: Item) -> str:
    return item.example.kind if item.marks is None else RIGHT if item.truth else WRONG
