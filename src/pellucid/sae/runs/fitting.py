"""Schedules that fit the length of a training: those in use were made for hundreds of millions of tokens."""

from collections.abc import Collection
from typing import Any, NamedTuple

from pellucid.sae.config import Config

LEAST_BATCHES = 20
"""Batches that a latent may be silent for at the least before it counts as dead."""
SILENT_SHARE = 1 / 10
"""Of the tokens of a training: those without firing after which a latent is dead."""
WARMUP_SHARE = 1 / 20
"""Of the steps: the longest warm-up."""
WAITING_SHARE = 1 / 2
"""Of the steps: the longest wait before the threshold of inference is averaged."""
AVERAGED_SHARE = 1 / 10
"""Of the steps that are left then: how far back its average reaches at the most."""


class Fitted(NamedTuple):
    """A configuration as it is trained."""

    config: Config
    """With every schedule within the training."""
    asked: dict[str, Any]
    """The fields that were longer than the training allows, as they were asked for."""


def fitted(config: Config, steps: int, batch: int, keep: Collection[str] = ()) -> Fitted:
    """Shorten what would never come to pass in ``steps`` steps of ``batch`` tokens.

    The window after which a latent counts as dead becomes a tenth of the tokens, and at least twenty batches; the
    warm-up a twentieth of the steps; the threshold's average begins at half of them and reaches back over a tenth of
    the rest. Nothing is made longer, and fields named in ``keep`` stay.
    """
    start = min(config.threshold_start, int(steps * WAITING_SHARE))
    if "threshold_start" in keep:
        start = config.threshold_start
    reach = max(1.0, (steps - start) * AVERAGED_SHARE)
    limits = {
        "dead_after": max(int(steps * batch * SILENT_SHARE), LEAST_BATCHES * batch),
        "warmup": int(steps * WARMUP_SHARE),
        "threshold_start": start,
        "threshold_decay": 1 - 1 / reach,
    }
    shortened = {name: limit for name, limit in limits.items() if name not in keep and getattr(config, name) > limit}
    asked = {name: getattr(config, name) for name in shortened}
    whole = {"steps": steps} if config.steps is None else {}
    return Fitted(Config(**config.model_dump() | shortened | whole), asked)
