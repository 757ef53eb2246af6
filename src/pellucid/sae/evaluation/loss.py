"""Loss recovered: what the model's own predictions lose when a site passes through the autoencoder."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.progress import progress
from pellucid.sae.autoencoder import SAE
from pellucid.sae.evaluation.intervals import Statistic, interval
from pellucid.sae.evaluation.logits import COLUMNS, Passage, losses, replacements
from pellucid.sae.evaluation.records import Loss
from pellucid.sae.site import Site
from pellucid.sae.store.encoding import Readable

POSITIONS = 1024
"""Positions in one call of the network, padding included."""
Done = list[list[float]]
"""For each passage the sums of ``COLUMNS``; an empty list for one that is still to come."""


def measure(
    model: Readable,
    sae: SAE,
    site: Site,
    passages: Sequence[Passage],
    mean: Float[Tensor, " dim"],
    done: Done,
    keep: Callable[[], None],
) -> None:
    """Fill ``done`` with the sums of every passage, and call ``keep`` after each call of the network."""
    ways = replacements(sae, mean.to(model.device))
    todo = [number for number, known in enumerate(done) if not known]
    with progress("Splicing into the model", len(done)) as advance:
        advance(len(done) - len(todo))
        for batch in _batches(passages, todo):
            found = losses(model.module, site, [passages[number] for number in batch], ways)
            for number, sums in zip(batch, found, strict=True):
                done[number] = sums.tolist()
            keep()
            advance(len(batch))


def summary(sums: Float[np.ndarray, "sample column"], source: str, seed: int) -> Loss:
    """Means over all predictions, and scores with intervals over samples. Raises InputError without a prediction."""
    total = dict(zip(COLUMNS, sums.sum(0).tolist(), strict=True))
    tokens = total["tokens"]
    if not tokens:
        raise InputError(
            f"no prediction of a text token follows a replaced position in {source}; give longer texts, or others."
        )
    per_token = {name: total[name] / tokens for name in COLUMNS[2:]}
    scores = {
        "ce_score": _ce_score("zero"), "kl_score": _kl_score("zero"),
        "ce_score_mean": _ce_score("mean"), "kl_score_mean": _kl_score("mean"),
    }  # fmt: skip
    return Loss(
        samples=len(sums),
        tokens=int(tokens),
        replaced=int(total["replaced"]),
        source=source,
        **per_token,
        **{name: interval(sums, score, seed) for name, score in scores.items()},
    )


def _ce_score(way: str) -> Statistic:
    """(CE_way - CE_spliced) / (CE_way - CE_clean); NaN where the ablation does not hurt."""
    clean, spliced, other = (COLUMNS.index(f"ce_{name}") for name in ("clean", "spliced", way))

    def score(sums: Float[np.ndarray, "*draw column"]) -> Float[np.ndarray, "*draw"]:
        harm = sums[..., other] - sums[..., clean]
        return np.asarray((sums[..., other] - sums[..., spliced]) / np.where(harm > 0, harm, np.nan))

    return score


def _kl_score(way: str) -> Statistic:
    """(KL_way - KL_spliced) / KL_way."""
    spliced, other = (COLUMNS.index(f"kl_{name}") for name in ("spliced", way))
    return lambda sums: (sums[..., other] - sums[..., spliced]) / sums[..., other]


def _batches(passages: Sequence[Passage], todo: Sequence[int]) -> Iterator[list[int]]:
    """Passages of about the same length go into one call; those with a picture and those without apart."""
    order = sorted(todo, key=lambda number: (sorted(passages[number].beside), -len(passages[number].ids), number))
    batch: list[int] = []
    for number in order:
        alike = batch and passages[batch[0]].beside.keys() == passages[number].beside.keys()
        if batch and (not alike or (len(batch) + 1) * len(passages[batch[0]].ids) > POSITIONS):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
