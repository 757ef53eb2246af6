"""Logistic probes on a few latents, chosen by the difference of class means [gurnee2023, section 3.2]."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from pellucid.errors import NumericalError
from pellucid.sae.evaluation.intervals import interval
from pellucid.sae.evaluation.records import Probe

PENALTY = 1e-3
"""Weight of half the squared length of a probe's weights, beside the mean loss."""
STEPS = 200


class Pooled(NamedTuple):
    """Texts as the means over their tokens."""

    texts: Int[np.ndarray, " entry"]
    """Index of the text, rising."""
    latents: Int[np.ndarray, " entry"]
    """Index of a latent that is active on one of its tokens."""
    values: Float[np.ndarray, " entry"]
    """Mean activation of the latent over all of its tokens."""
    dense: Float[np.ndarray, "text dim"]
    """Mean of what the autoencoder reads."""
    width: int
    """Latents there are."""

    def columns(self, latents: Int[np.ndarray, " latent"]) -> Float[np.ndarray, "text latent"]:
        """Some latents of all texts."""
        place = np.full(self.width, -1)
        place[latents] = np.arange(len(latents))
        found = np.zeros((len(self.dense), len(latents)))
        kept = place[self.latents] >= 0
        found[self.texts[kept], place[self.latents[kept]]] = self.values[kept]
        return found

    def means(self, chosen: Bool[np.ndarray, " text"]) -> Float[np.ndarray, " latent"]:
        """Mean of every latent over some texts."""
        kept = chosen[self.texts]
        sums = np.bincount(self.latents[kept], self.values[kept], minlength=self.width)
        return np.asarray(sums / chosen.sum())


def strongest_latents(
    pooled: Pooled, positive: Bool[np.ndarray, " text"], train: Bool[np.ndarray, " text"], k: int
) -> Int[np.ndarray, " latent"]:
    """The k latents whose means over training texts with and without a label differ most; equal ones by index."""
    gap = np.abs(pooled.means(train & positive) - pooled.means(train & ~positive))
    return np.argsort(-gap, kind="stable")[:k]


def probe(
    x: Float[np.ndarray, "text feature"],
    positive: Bool[np.ndarray, " text"],
    train: Bool[np.ndarray, " text"],
    *,
    label: str,
    latents: tuple[int, ...],
    seed: int,
) -> Probe:
    """Learn on the training texts to tell a label from the rest, and try it on the others."""
    center, scale = x[train].mean(0), x[train].std(0)
    x = (x - center) / np.where(scale > 0, scale, 1)
    weights = logistic(x[train], positive[train])
    said = x[~train] @ weights[:-1] + weights[-1] > 0
    truth = positive[~train]
    right = said == truth
    columns = np.stack([right & truth, truth, right & ~truth, ~truth], 1).astype(np.float64)
    balanced = interval(columns, lambda sums: (sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2, seed)
    return Probe(label=label, k=len(latents), latents=latents, accuracy=float(right.mean()), balanced_accuracy=balanced)


def logistic(
    x: Float[np.ndarray, "text feature"], positive: Bool[np.ndarray, " text"]
) -> Float[np.ndarray, " feature_and_one"]:
    """Weights and, last, the bias of a logistic regression in which both classes weigh alike, by L-BFGS.

    Minimises mean over classes of the mean log loss + PENALTY / 2 ||w||^2; the bias is not held back. Raises
    NumericalError where it does not converge to finite numbers.
    """
    data, truth = torch.from_numpy(np.asarray(x, np.float64)), torch.from_numpy(positive).double()
    share = truth.mean()
    balance = torch.where(truth > 0, 0.5 / share, 0.5 / (1 - share)) / len(truth)
    weights = torch.zeros(data.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS(
        [weights], max_iter=STEPS, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        descent.zero_grad()
        logits = data @ weights[:-1] + weights[-1]
        found = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth, balance, reduction="sum")
        found = found + PENALTY / 2 * weights[:-1].pow(2).sum()
        found.backward()
        return found

    with torch.enable_grad():
        descent.step(loss)
    if not torch.isfinite(weights).all():
        raise NumericalError("a logistic probe did not converge to finite weights; look at the activations it got.")
    return weights.detach().numpy()
