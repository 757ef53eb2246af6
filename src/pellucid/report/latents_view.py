"""What a page about a latent shows, as plain records; nothing here knows of stores or networks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token of an example."""

    text: str
    """What it reads."""
    value: float
    """Activation; 0 where the latent is not active."""
    is_peak: bool = False
    """Whether the example was chosen for it."""
    is_picture: bool = False
    """Whether it stands for a whole picture."""


@dataclass(frozen=True, slots=True)
class PatchesView:
    """A picture, and the latent's activation on each of its patches."""

    colours: UInt8[np.ndarray, "height width 3"] | None
    """The picture; None where its file is gone."""
    values: Float[np.ndarray, "row column"]
    """Activation of each patch; 0 where the latent is not active."""
    path: str
    """File name of the picture."""
    note: str = ""
    """What else is to be said of it."""


@dataclass(frozen=True, slots=True)
class ExampleView:
    """A window of the corpus."""

    tokens: tuple[TokenView, ...]
    """In their order; a picture is one of them."""
    value: float
    """Activation at the token it was chosen for."""
    sample: int
    """Number of the sample in the store."""
    position: int
    """Position of that token in the sample."""
    document: str
    """What the sample is from."""
    cut: tuple[bool, bool]
    """Whether the sample goes on before and behind it."""
    picture: PatchesView | None = None
    """The picture, where the sample has one."""


@dataclass(frozen=True, slots=True)
class BandView:
    """Examples whose activations are alike in size."""

    name: str
    """Which part of the latent's events it is."""
    low: float
    """Least activation in it."""
    high: float
    """Greatest activation in it."""
    share: float
    """Share of the latent's events in it."""
    examples: tuple[ExampleView, ...]
    """Some of them."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; no interval: low and high are None."""

    value: float
    """The estimate."""
    low: float | None = None
    """Lower end."""
    high: float | None = None
    """Upper end."""


@dataclass(frozen=True, slots=True)
class ScoreView:
    """How well an explanation tells where a latent is active."""

    name: str
    """Scorer and measure, such as detection, balanced accuracy."""
    judge: str
    """Who judged."""
    found: Estimate
    """The score."""
    chance: float
    """The score of guessing."""
    beside: tuple[tuple[str, Estimate], ...] = ()
    """What the same judge gives a wrong explanation, a random latent, or a constant answer."""
    note: str = ""
    """How many examples, and how many answers could not be read."""


@dataclass(frozen=True, slots=True)
class NeighbourView:
    """Another latent."""

    latent: int
    """Its index."""
    value: float
    """How near it is."""
    detail: str
    """The number in words."""
    explanation: str
    """What it stands for; empty where it is not known."""
    page: str
    """Address of its page; empty where there is none."""


@dataclass(frozen=True, slots=True)
class LogitView:
    """A token of the vocabulary, and what a unit of the latent adds to its logit."""

    text: str
    """What it reads."""
    value: float
    """Above the mean of all tokens."""


@dataclass(frozen=True, slots=True)
class HistogramView:
    """Activations of a latent, counted."""

    edges: tuple[float, ...]
    """Ends of the bins, evenly spaced in their logarithm."""
    counts: tuple[int, ...]
    """Events in each bin."""


@dataclass(frozen=True, slots=True)
class LatentView:
    """Everything on one latent's page."""

    latent: int
    """Its index."""
    width: int
    """Latents in the dictionary."""
    model: str
    """The model whose activations it is of."""
    site: str
    """Where in the model."""
    architecture: str
    """Of the autoencoder."""
    group: str
    """Which prefix of a nested dictionary it first belongs to; empty where there are none."""
    count: int
    """Tokens on which it is active."""
    tokens: int
    """Tokens in all."""
    maximum: float
    """Its highest activation."""
    mean: float
    """Mean of its activations where it is active."""
    scale: float
    """End of the colour scale: what a twentieth of its activations exceeds."""
    by_modality: tuple[tuple[str, float], ...]
    """Density among the tokens of each modality, where there are several."""
    explanation: str
    """What it stands for; empty where nobody said."""
    mostly: str
    """The commonest tokens among its highest activations; empty where it is active nowhere."""
    explainer: str
    """Who said so."""
    scores: tuple[ScoreView, ...]
    """How well that holds."""
    histogram: HistogramView
    """Of its activations."""
    bands: tuple[BandView, ...]
    """The examples: first the highest, then parts from high to low."""
    coactive: tuple[NeighbourView, ...]
    """Latents that are often active on the same tokens."""
    similar: tuple[NeighbourView, ...]
    """Latents whose decoder direction is the nearest."""
    promoted: tuple[LogitView, ...]
    """Tokens whose logits it raises the most."""
    suppressed: tuple[LogitView, ...]
    """Tokens whose logits it lowers the most."""
    logits_note: str
    """Why there are no logits, or how they were found."""
    before: str = ""
    """Address of the page before this one."""
    behind: str = ""
    """Address of the page behind it."""

    @property
    def density(self) -> float:
        """Share of the tokens on which it is active."""
        return self.count / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True)
class RowView:
    """One latent in the index."""

    latent: int
    """Its index."""
    density: float
    """Share of the tokens on which it is active."""
    maximum: float
    """Its highest activation."""
    group: int
    """Index of the prefix that it first belongs to, from 0."""
    score: float | None
    """The first score of its explanation."""
    explanation: str
    """What it stands for; where nobody said, the tokens that it is active on."""


@dataclass(frozen=True, slots=True)
class IndexView:
    """What the index shows."""

    title: str
    """What the autoencoder is called."""
    model: str
    """The model whose activations it decodes."""
    site: str
    """Where in the model."""
    facts: tuple[tuple[str, str], ...]
    """Particulars: name and value."""
    groups: tuple[str, ...]
    """Names of the prefixes."""
    score: str
    """What the score in the rows is; empty where none was given."""
    rows: tuple[RowView, ...]
    """The latents that have a page."""
    density_histogram: HistogramView
    """Latents by density, dead ones left out."""
    dead: int
    """Latents with a page that are active nowhere."""
