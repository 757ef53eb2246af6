"""Configurations in the manner of those that published or wrote Matryoshka autoencoders, every weight written out."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from pellucid.errors import InputError, UnknownNameError
from pellucid.sae.config import Config

BATCH = 4096
"""Tokens of a batch, where a source counts in batches what a configuration counts in tokens."""


class Preset(NamedTuple):
    """Whose manner, and how sure that is."""

    source: str
    """Where it was read."""
    unknown: str
    """What the source does not tell, or does and cannot be said in a configuration; empty where nothing is."""
    shares: tuple[float, ...]
    """Shares of the dictionary of the groups that the nested prefixes add, one after another."""
    weight: Callable[[int], float]
    """Weight in the loss of each of so many prefixes."""
    settings: dict[str, Any]
    """The other fields of the configuration."""
    required: tuple[str, ...] = ()
    """Fields that are asked for, because the source tells no value and a default would be taken for its own."""


_HALVED = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
_LIBRARY = {
    "decoder": "unit", "normalisation": "mean-square", "bias": "geometric-median",
    "aux_weight": 1 / 32, "aux_scale": "residual-variance", "aux_relu": True, "dead_after": 10_000_000,
    "betas": (0.9, 0.999), "clip": 1.0, "warmup": 1000, "decay": 0.2,
    "threshold_decay": 0.999, "threshold_start": 1000, "threshold_from": "first",
}  # fmt: skip

PRESETS = {
    "matryoshka": Preset(
        source="bartbussmann/matryoshka_sae c7c5787, the code of [bussmann2025]",
        unknown="its encoder's bias is allocated and never used, and here it is learned; its auxiliary loss is not "
        "scaled by the share of dead latents where they are fewer than 512",
        shares=_HALVED,
        weight=lambda count: 1 / (count + 1),
        settings={
            "reduction": "mean", "decoder": "unit", "normalisation": "none", "bias": "zero",
            "aux_weight": 1 / 32, "aux_k": 512, "aux_scale": "dead-share", "aux_relu": True,
            "dead_after": 20 * BATCH, "lr": 3e-4, "betas": (0.9, 0.99), "clip": 100_000.0, "decay": 0.0,
            "threshold_decay": 0.99, "threshold_from": "zero",
        },
    ),
    "sae-lens": Preset(
        source="sae-lens 6.54.12, MatryoshkaBatchTopKTrainingSAE and SAETrainer",
        unknown="it has no default sizes of prefixes",
        shares=_HALVED,
        weight=lambda count: 1.0,
        settings={
            "decoder": "free", "normalisation": "none", "bias": "zero",
            "aux_weight": 1.0, "aux_scale": "dead-share", "aux_relu": False, "dead_after": 1000 * BATCH,
            "lr": 3e-4, "betas": (0.9, 0.999), "clip": 1.0, "decay": 0.0,
            "threshold_decay": 0.99, "threshold_from": "zero",
        },
    ),
    "dictionary-learning": Preset(
        source="dictionary-learning 0.1.0, MatryoshkaBatchTopKTrainer; the groups are those of its demonstration",
        unknown="",
        shares=(1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2 + 1 / 32),
        # A weight of 1 / G for each prefix, and then the mean over the prefixes.
        weight=lambda count: 1 / count**2,
        settings=_LIBRARY,
    ),
    "maira-2": Preset(
        source="the model card of microsoft/maira-2-sae: a Matryoshka BatchTopK autoencoder trained with "
        "dictionary-learning, whose defaults stand here; the groups, half of the dictionary first, are a third "
        "party's word",
        unknown="k, the tokens it saw, the batch and the learning rate are not known, the library's defaults are "
        "assumed to have been kept, and the groups should be compared with the config.json of the release",
        shares=(0.5, 0.25, 0.125, 0.0625, 0.0625),
        weight=lambda count: 1 / count**2,
        settings=_LIBRARY,
        required=("k",),
    ),
}  # fmt: skip


def find_preset(name: str) -> Preset:
    """A preset by name. Raises UnknownNameError."""
    if name not in PRESETS:
        raise UnknownNameError("preset of an autoencoder", name, PRESETS)
    return PRESETS[name]


def preset(name: str, *, d_in: int, width: int, **changes: Any) -> Config:
    """A configuration in someone's manner, with every weight of the loss written out.

    ``matryoshka``: the mean over prefixes and one term of the bias alone, over numbers and not tokens; ``sae-lens``:
    the plain sum; ``dictionary-learning`` and ``maira-2``: 1 / G^2 each. So their losses, and what "1/32 auxiliary
    loss" means beside them, differ.

    Args:
        name: one of ``PRESETS``; each has its source, and what that does not tell, as data.
        d_in: width of the activations.
        width: latents in the dictionary.
        changes: fields of ``Config`` that are to be other than the preset's; another architecture than matryoshka has
            one prefix with weight 1.

    Raises:
        UnknownNameError: no such preset.
        InputError: a field that the preset's source does not tell is missing, or a value does not fit.
    """
    chosen = find_preset(name)
    missing = [field for field in chosen.required if field not in changes]
    if missing:
        raise InputError(f"the {missing[0]} of the preset {name!r} is not known to us; give one, such as k=64.")
    settings: dict[str, Any] = dict(chosen.settings)
    if changes.get("architecture", "matryoshka") == "matryoshka":
        asked = changes.get("prefixes")
        prefixes = tuple(asked) if isinstance(asked, list | tuple) and asked else sizes(width, chosen.shares)
        settings |= {"prefixes": prefixes, "prefix_weights": (chosen.weight(len(prefixes)),) * len(prefixes)}
        if name == "matryoshka":
            settings["bias_weight"] = chosen.weight(len(prefixes))
    else:
        settings["prefix_weights"] = (1.0,)
    given = {field: value for field, value in changes.items() if not (field == "prefixes" and not value)}
    return Config(**settings | {"d_in": d_in, "width": width} | given)


def sizes(width: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Cumulative sizes of groups that hold these shares, each cut to a whole number and the last taking the rest.

    Raises InputError where a group would have no latent.
    """
    groups = [int(width * share) for share in shares[:-1]]
    found = (*accumulate(groups), width)
    if min(groups, default=1) < 1:
        raise InputError(
            f"a dictionary of {width} latents is too small for groups of {', '.join(f'{each:g}' for each in shares)}; "
            "give more latents or prefixes of your own."
        )
    return found
