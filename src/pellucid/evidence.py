"""The explanation's own evidence: what is checked, against which limits, and what each check proves.

All limits stand here. *Free* checks reuse what the method computed anyway. *Full* checks ask the model again: deletion
and insertion against random orders, and the ranking under another seed and another baseline.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pellucid.account import Account
from pellucid.errors import InputError
from pellucid.facts import Modality
from pellucid.games import AbstractGame, Question
from pellucid.methods import AbstractMethod, Attribution
from pellucid.methods.latents_asking import trained_there
from pellucid.metrics.functional import removal as paths
from pellucid.ranks import spearman
from pellucid.records import Check, Checks

Level = Literal["none", "free", "full"]

COMPLETENESS_GAP = 0.05
"""Largest |sum of scores - (f(input) - f(baseline))|, as a fraction of that difference or of the largest score."""
SAMPLING_ERROR = 0.25
"""Largest standard error, as a fraction of the largest score: beyond it even the first rank is a guess."""
SELF_TEST = 1e-3
"""Largest difference between cached and plain scoring of the input, in the unit of the target (log-probability,
float32)."""
LEAK = 1e-3
"""Largest relevance that an operation may lose or make, as a fraction of the most that any operation received."""
NOISE_MULTIPLE = 4.0
"""The largest score must be at least so many times the rounding noise."""
NOISE_DRAWS = 4
"""Roundings of the input that the noise of a coarse dtype is measured with."""
SEED_CORRELATION = 0.8
"""Smallest rank correlation with a run under another seed."""
BASELINE_CORRELATION = 0.5
"""Smallest rank correlation with a run under another baseline."""
OTHER_BASELINE: dict[Modality, str] = {
    "text": "delete",
    "image": "blur",
    "tabular": "median",
    "vision-language": "blur+pad",
}
"""The baseline that a second run takes, by modality."""
FIRST_BASELINE: dict[Modality, str] = {
    "text": "pad",
    "image": "mean",
    "tabular": "mean",
    "vision-language": "mean+delete",
}
"""What it takes where the first run had that one."""
RANDOM_ORDERS = 20
"""Random orders that deletion and insertion are held against."""
FEWEST_ORDERED = 4
"""Features below which there are six orders at the most, so that chance alone finds that of the scores too often."""
DELETION_STEPS = 6
"""Most points of a deletion curve, beside its start."""


class Removal(NamedTuple):
    """The target as features go in the order of their scores, and in random orders."""

    removed: Float[np.ndarray, " point"]
    """Share of the features that is gone (or back, for insertion), from 0 to 1."""
    curves: Float[np.ndarray, "order point"]
    """The target, summed over its rows; the first order is that of the scores, all others are random."""

    @property
    def means(self) -> Float[np.ndarray, " order"]:
        """Mean of each curve."""
        return np.array([paths.area(each, self.removed) for each in self.curves])


def gather(
    level: Level,
    method: AbstractMethod,
    question: Question,
    attribution: Attribution,
    run: Callable[[Question], Attribution],
    account: Account | None = None,
) -> Checks:
    """All checks of a level. ``run`` runs the method again on a changed question."""
    if level == "none":
        return Checks()
    items = [*_free(method, question, attribution), *attribution.checks]
    if account is not None:
        items.append(conservation(account))
    if level == "full":
        items += _full(method, question, attribution, run)
    return Checks(level=level, items=tuple(items))


def _free(method: AbstractMethod, question: Question, attribution: Attribution) -> list[Check]:
    items = []
    if method.facts.complete:
        items.append(completeness(attribution))
    if attribution.standard_error is not None:
        items.append(sampling_error(attribution))
    elsewhere = trained_there(question)
    if elsewhere is not None:
        items.append(elsewhere)
    difference = question.game.self_test()
    if difference is not None:
        items.append(self_test(difference))
    # Scores in a unit of their own do not compare with how far rounding moves the target.
    if not method.facts.unit:
        items.append(above_noise(attribution, max(difference or 0.0, noise_floor(question))))
    return items


def account_of(level: Level, method: AbstractMethod, question: Question, attribution: Attribution) -> Account | None:
    """The account of where relevance went: the method's own, or at level full that of one more run."""
    if level != "full" or "account" not in type(method).model_fields:
        return attribution.account
    return attribution.account or method.model_copy(update={"account": True}).attribute(question).account


def conservation(account: Account) -> Check:
    """Whether every operation handed on or absorbed what it received; the worst one is named."""
    largest = max((abs(entry.in_) for entry in account), default=0.0)
    worst = max(account, key=lambda entry: abs(entry.leaked), default=None)
    leak = 0.0 if worst is None or largest == 0 else abs(worst.leaked) / largest
    where = "" if worst is None else f" ({worst.operation} at {worst.module or 'the network itself'})"
    return Check(
        name="conservation",
        value=leak,
        threshold=LEAK,
        passed=leak <= LEAK,
        decisive=False,
        detail=f"the largest leak of relevance{where} is {leak:.2g} of the largest relevance that any operation "
        f"received; at most {LEAK} is float error.",
    )


def completeness(attribution: Attribution) -> Check:
    """Whether the scores sum to f(input) - f(baseline); with standard errors, whether they do within three of them."""
    difference = attribution.full_values - attribution.base_values
    gap = np.abs(attribution.values.sum(1) - difference)
    if attribution.standard_error is not None:
        gap = np.maximum(0, gap - 3 * np.sqrt((attribution.standard_error**2).sum(1)))
    scale = np.maximum(np.abs(difference), np.abs(attribution.values).max(1))
    relative = float(np.max(gap / np.maximum(scale, np.finfo(np.float32).tiny)))
    return Check(
        name="completeness",
        value=relative,
        threshold=COMPLETENESS_GAP,
        passed=relative <= COMPLETENESS_GAP,
        decisive=True,
        detail=f"the scores miss f(input) - f(baseline) by {relative:.2%}; at most {COMPLETENESS_GAP:.0%} is allowed.",
    )


def sampling_error(attribution: Attribution) -> Check:
    """Whether the sampling error leaves the largest score standing."""
    assert attribution.standard_error is not None
    largest = np.maximum(np.abs(attribution.values).max(1), np.finfo(np.float32).tiny)
    relative = float(np.max(attribution.standard_error.max(1) / largest))
    return Check(
        name="sampling_error",
        value=relative,
        threshold=SAMPLING_ERROR,
        passed=relative <= SAMPLING_ERROR,
        decisive=True,
        detail=f"the largest standard error is {relative:.0%} of the largest score; at most "
        f"{SAMPLING_ERROR:.0%} is allowed (more samples make it smaller).",
    )


def self_test(difference: float) -> Check:
    """Whether scoring with a cache gives what scoring without gives, on this very input."""
    return Check(
        name="self_test",
        value=difference,
        threshold=SELF_TEST,
        passed=difference <= SELF_TEST,
        decisive=False,
        detail=f"cached and plain scoring of this input differ by {difference:.1e}; "
        f"at most {SELF_TEST:.0e} is allowed.",
    )


def noise_floor(question: Question) -> float:
    """How far rounding alone moves the target; 0 for float32 and finer.

    The 24 bits of float32 are negligible beside attributions. bfloat16 carries 8 bits: a step of .06 at a logit of 16,
    and each layer adds to it. So the embeddings are moved by one step of the dtype at random, and the largest move of
    the target over ``NOISE_DRAWS`` is taken, or the step at the size of the scored logits if that is larger. Cost:
    ``NOISE_DRAWS`` + 1 rows, for coarse dtypes only.
    """
    model, row = question.model, question.inputs.row
    if torch.finfo(model.dtype).bits >= 32:
        return 0.0
    step = torch.finfo(model.dtype).eps
    embedded = question.embedded(0)
    generator = torch.Generator().manual_seed(question.seed)
    with torch.no_grad():
        logits = [float(each.logit.abs().max()) for each in model.alternatives([row], question.target)]
        exact = embedded(embedded.embeddings[None])
        size = (NOISE_DRAWS, *embedded.embeddings.shape)
        nudges = 1 + step * (2 * torch.rand(size, generator=generator) - 1).to(embedded.embeddings.device)
        nudged = torch.cat([embedded((embedded.embeddings * nudge).to(model.dtype)[None]) for nudge in nudges])
    return max(step * max(logits), float((nudged - exact).abs().max()))


def above_noise(attribution: Attribution, noise: float) -> Check:
    """Whether the largest score stands clear of the rounding noise."""
    largest = float(np.abs(attribution.values).max())
    return Check(
        name="noise_floor",
        value=noise,
        threshold=largest / NOISE_MULTIPLE,
        passed=noise <= largest / NOISE_MULTIPLE,
        decisive=False,
        detail=f"rounding moves the target by about {noise:.1e} and the largest score is {largest:.1e}; "
        f"it must be at least {NOISE_MULTIPLE:.0f} times as large.",
    )


def _full(
    method: AbstractMethod, question: Question, attribution: Attribution, run: Callable[[Question], Attribution]
) -> list[Check]:
    ranks = attribution.values.sum(0)
    game = question.deleting()
    deletable = ranks[: game.players]
    items = [
        _beats_random(
            name, removal(game, deletable, RANDOM_ORDERS, question.seed, insert=name == "insertion"), game.players
        )
        for name in ("deletion", "insertion")
    ]
    if len(ranks) < 3:
        return items
    if method.facts.sampled:
        other = run(_reseeded(question)).values.sum(0)
        items.append(
            _agrees("seed_stability", spearman(ranks, other) or 0.0, SEED_CORRELATION, f"seed {question.seed + 1}")
        )
    if "baseline" not in type(method).model_fields and "baseline" in method.facts.needs:
        changed = _other_baseline(question)
        if changed is not None:
            name = changed.game.imputer.name
            other = run(changed).values.sum(0)
            items.append(
                _agrees("baseline_stability", spearman(ranks, other) or 0.0, BASELINE_CORRELATION, f"baseline {name}")
            )
    return items


def removal(
    game: AbstractGame,
    ranks: Float[np.ndarray, " player"],
    orders: int,
    seed: int,
    *,
    insert: bool = False,
) -> Removal:
    """Play a deletion curve from the highest score down, and one for each of several random orders.

    ``insert`` puts features back into an empty input in place of taking them out of a full one. All orders are played
    at once, so that equal coalitions are scored once. Cost: at most (orders + 1) ``DELETION_STEPS`` + 1 coalitions.
    """
    players, generator = len(ranks), np.random.default_rng(seed)
    sizes = paths.steps_of(players, DELETION_STEPS)
    # An order and its reverse: what one deletes, the other inserts, so that both curves need the same coalitions.
    drawn = [generator.permutation(players) for _ in range((orders + 1) // 2)]
    random_orders = [each for one in drawn for each in (one, one[::-1])][:orders]
    all_orders = [paths.order(ranks, seed), *random_orders]
    along = paths.inserted if insert else paths.removed
    coalitions = np.concatenate([along(order, sizes) for order in all_orders])
    values = game.value(coalitions).sum(1)
    return Removal(sizes / players, values.reshape(len(all_orders), len(sizes)))


def _beats_random(name: str, found: Removal, players: int) -> Check:
    own, *random = found.means
    gain = (1 if name == "insertion" else -1) * float(own - np.mean(random))
    margin = 1.96 * float(np.std(random, ddof=1))
    # Better than chance but within its interval is no failure, and no proof either.
    passed = None if players < FEWEST_ORDERED or 0 < gain <= margin else gain > margin
    few = f", of which {players} feature{'s have' if players > 1 else ' has'} too few to tell"
    verb = {"deletion": "lowers", "insertion": "raises"}[name]
    return Check(
        name=name,
        value=gain,
        threshold=margin,
        passed=passed,
        decisive=True,
        detail=f"{name} in the order of the scores {verb} the mean target by {gain:.3g} more than random orders, whose "
        f"95 % interval is +-{margin:.3g}{few if players < FEWEST_ORDERED else ''}.",
    )


def _agrees(name: str, correlation: float, threshold: float, what: str) -> Check:
    return Check(
        name=name,
        value=correlation,
        threshold=threshold,
        passed=correlation >= threshold,
        decisive=False,
        detail=f"under {what} the ranking correlates with this one at {correlation:.2f}; "
        f"at least {threshold} is expected.",
    )


def _reseeded(question: Question) -> Question:
    return question._replace(seed=question.seed + 1)


def _other_baseline(question: Question) -> Question | None:
    """The question with another imputer, or None where no other fits the features."""
    name = OTHER_BASELINE[question.model.modality]
    if name == question.game.imputer.name:
        name = FIRST_BASELINE[question.model.modality]
    try:
        return question.imputed(name)
    except InputError:
        return None
