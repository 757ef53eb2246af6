"""What an evaluation found: frozen records, a sentence for each number."""

from typing import Any

from pydantic import Field

from pellucid.records import Record


class Interval(Record):
    """A number with its 95 % interval."""

    value: float | None
    """On everything that was seen; None where it is not defined."""
    low: float | None
    """2.5 % of the bootstrap's draws lie below; None where there are fewer than two samples."""
    high: float | None
    """2.5 % of them lie above."""


class Quality(Record):
    """How well some tokens are reconstructed. None where a number is not defined on them."""

    tokens: int
    """On how many."""
    fvu: float | None
    """Fraction of variance unexplained: sum ||x - xhat||^2 / sum ||x - mean||^2, with the mean of these tokens."""
    worst_share: float | None
    """Share of all squared error that the worst token alone has. Where it is large the FVU tells of that token;
    language models give a few tokens norms far above all others [sun2024]."""
    mse: float
    """Mean of ||x - xhat||^2 / d_in."""
    l0: float
    """Mean count of active latents."""
    cosine: float | None
    """Mean cosine of activation and reconstruction, over the tokens where both have a length."""
    norm_ratio: float | None
    """Mean of ||xhat|| / ||x||; below 1 the reconstruction is shrunk."""
    relative_bias: float | None
    """E||xhat||^2 / E[x . xhat]: below 1 the reconstruction is shrunk [rajamanoharan2024gated]."""
    alive: int
    """Latents that are active at least once."""
    dead_share: float
    """Share of the dictionary that is active on none of these tokens; it falls with their number."""


class Densities(Record):
    """On which share of the tokens latents are active."""

    edges: tuple[float, ...]
    """Ends of the bins, in log10 of the density."""
    counts: tuple[int, ...]
    """Latents in each bin; dead ones are in none."""
    dead: int
    """Latents that are active on no token."""
    median: float | None
    """Of the latents that are not dead."""
    above_tenth: int
    """Latents that are active on more than a tenth of the tokens."""


class Similarity(Record):
    """How near the dictionary's directions are to each other: of each latent the greatest cosine with another."""

    mean: float
    """Over the latents."""
    quantiles: dict[str, float]
    """Of the same, at 5, 25, 50, 75, 95 and 99 percent."""
    above: float
    """Share of the latents that have another within ``near``."""
    near: float
    """The cosine from which two count as near."""
    edges: tuple[float, ...]
    """Ends of the bins of cosines."""
    counts: tuple[int, ...]
    """Latents in each bin."""
    empty: int
    """Latents without a direction, whose decoder row is 0; they are in no other number."""


class Loss(Record):
    """What replacing activations does to the model's own predictions, in nats a token.

    The positions that the selector takes are replaced; the others are left as they are. Every prediction of a text
    token at or after the first replaced position counts; those before cannot change.
    """

    samples: int
    """Texts, or pictures with texts."""
    tokens: int
    """Predictions that count."""
    replaced: int
    """Positions that were replaced."""
    source: str
    """Where the samples come from."""
    ce_clean: float
    """Cross-entropy of the model as it is."""
    ce_spliced: float
    """Cross-entropy with reconstructions in place of the activations."""
    ce_zero: float
    """Cross-entropy with zeros in their place."""
    ce_mean: float
    """Cross-entropy with the mean activation in their place."""
    kl_spliced: float
    """KL(clean || spliced)."""
    kl_zero: float
    """KL(clean || zeros)."""
    kl_mean: float
    """KL(clean || mean)."""
    ce_score: Interval
    """(CE_zero - CE_spliced) / (CE_zero - CE_clean): 1 for perfect reconstructions, 0 for such as zeros. None where
    zeros do not raise the cross-entropy, as in a model that never learned to say the text that it reads."""
    kl_score: Interval
    """(KL_zero - KL_spliced) / KL_zero."""
    ce_score_mean: Interval
    """The CE score against the mean activation, which is harder to beat than zeros."""
    kl_score_mean: Interval
    """The KL score against the mean activation."""


class Probe(Record):
    """A logistic probe that tells one label from the others."""

    label: str
    """Which."""
    k: int
    """Latents that it reads; 0: all dimensions of the activations themselves."""
    latents: tuple[int, ...]
    """Which, the one with the greatest difference of class means first."""
    accuracy: float
    """Share of the test texts that it gets right."""
    balanced_accuracy: Interval
    """Mean of the shares among those with the label and those without: a constant answer has 0.5."""


class Probing(Record):
    """How much of some labels a few latents hold [gurnee2023]."""

    train: int
    """Texts that the probes learned from."""
    test: int
    """Texts that they were tried on."""
    labels: dict[str, int]
    """Texts of each label."""
    mean: dict[str, float | None]
    """Mean balanced accuracy over the labels, for each k; ``dense`` for the activations themselves."""
    probes: tuple[Probe, ...]
    """Each of them."""


class Evaluation(Record):
    """An autoencoder on the activations of a store."""

    version: int = 1
    """Of this record's form."""
    sae: str
    """Digest of the autoencoder."""
    store: str
    """Digest of the store."""
    site: str
    """Where in the model."""
    model: str
    """The store's model, by name."""
    corpus: str
    """What the model read."""
    selector: dict[str, Any]
    """Which tokens were taken."""
    held_out: bool | None
    """True: the autoencoder was trained on another corpus than this, not the same documents one for one, though some
    may be in both. False: on this very store. None: on the same corpus in another store, or it does not say on which.
    Tokens that it was trained on flatter it."""
    architecture: str
    """topk, batchtopk, matryoshka or jumprelu."""
    width: int
    """Latents."""
    d_in: int
    """Width of the activations."""
    all: Quality
    """On all tokens that were seen."""
    modalities: dict[str, Quality]
    """On those of each modality."""
    densities: Densities
    """Of the latents."""
    similarity: Similarity | None
    """Of the decoder's directions; None where fewer than two latents have one."""
    loss: Loss | None = None
    """On the model's predictions, where that was asked for."""
    probing: Probing | None = None
    """Of labels, where some were given."""
    seconds: float = Field(default=0.0, ge=0)
    """How long it took in all, over interruptions."""
