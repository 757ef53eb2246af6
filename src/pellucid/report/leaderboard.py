"""What a leaderboard shows, as plain records; nothing here knows of models or of how the numbers came about."""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["method", "peer", "reference"]
"""One of pellucid's methods, one of another library, or a row that shows what scores mean."""
LEVEL: Final = 0.05
"""Adjusted p-values below it tell two entrants apart."""
UNTRIED: Final = "tried by the validity gate"
"""The one promise that a metric fails of which the gate found nothing at all."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One entrant under one metric."""

    entrant: str
    """Its name, such as ``kernel_shap``, ``captum:kernel_shap`` or ``random``."""
    kind: Kind
    """What it is."""
    family: str
    """Family of the method; empty for a reference row."""
    mean: float
    """Mean over the inputs that all entrants have a score on."""
    low: float
    """Lower end of its 95 % interval (clusters resampled)."""
    high: float
    """Upper end."""
    normalised: float | None
    """0 is the random row, 1 the oracle; None where both are the same."""
    rank: float | None
    """Place among methods and peers, 1 is best, ties share; None for a reference row."""
    difference: tuple[float, float, float] | None
    """Mean paired difference to the best with its interval; None for the best and for reference rows."""
    p_value: float | None
    """Wilcoxon's test against the best, Holm's correction over all entrants; None as above."""
    win_rate: float | None
    """Share of the inputs on which it beats the best; None as above."""
    seeds: float | None
    """Standard deviation of the mean over seeds; None where nothing is drawn."""
    undefined: int
    """Inputs on which its score is undefined."""

    @property
    def is_worse(self) -> bool:
        """Whether it is told apart from the best: by the test of ranks, on most inputs, and by the mean difference."""
        if not self._is_tested or self.win_rate is None or self.difference is None:
            return False
        _, low, high = self.difference
        return self.win_rate < 0.5 and (low > 0 or high < 0)

    @property
    def is_disputed(self) -> bool:
        """Whether the test of ranks finds a difference to the best that its mean does not bear out."""
        return self._is_tested and not self.is_worse

    @property
    def _is_tested(self) -> bool:
        return self.p_value is not None and self.p_value < LEVEL


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All entrants under one metric, the best first, reference rows last."""

    name: str
    """The whole name, with imputer, unit and scale: only equal names can be compared."""
    metric: str
    """The short name."""
    title: str
    """The name that the literature uses."""
    family: str
    """What kind of question it asks."""
    higher_is_better: bool | None
    """Which way is good; None for a control."""
    chance: str
    """What a random attribution is expected to get."""
    source: str
    """Paper and equation."""
    standings: tuple[Standing, ...]
    """The entrants."""
    valid: bool
    """Whether it passed every promise of the validity gate; of one that did not, no number is shown."""
    findings: tuple[tuple[str, bool, str], ...]
    """Each promise, whether it holds, and the numbers."""
    inputs: int
    """Inputs that the numbers rest on: those that every ranked entrant has a score on."""
    clusters: int
    """Independent groups of them."""
    same_imputer: tuple[str, ...] = ()
    """Entrants whose own baseline is this metric's imputer: they play at home here."""

    @property
    def is_tried(self) -> bool:
        """Whether the validity gate found anything about it, good or bad."""
        return all(name != UNTRIED for name, _, _ in self.findings)


@dataclass(frozen=True, slots=True)
class Price:
    """What one entrant costs, for one input."""

    entrant: str
    kind: Kind
    rows: float
    """Rows of the network, mean, as if it had run alone."""
    backwards: float
    """Rows of them that were differentiated, mean."""
    seconds: float
    """Median."""
    memory_bytes: float | None
    """Peak above the start, median; None where it shares its forward passes with others."""
    settings: str
    """Its settings, where they are not the defaults."""
    tuned: bool
    """Whether they were chosen on the tuning split."""


@dataclass(frozen=True, slots=True)
class FamilyRanks:
    """Ranks within one family of metrics: median over its metrics, never over families."""

    family: str
    metrics: tuple[str, ...]
    ranks: tuple[tuple[str, float], ...]
    """Entrant and median rank, the best first."""


@dataclass(frozen=True, slots=True)
class RankDiagram:
    """A critical-difference diagram: mean ranks over inputs, and what is not told apart."""

    metric: str
    ranks: tuple[tuple[str, float], ...]
    """Entrant and mean rank over the blocks, the best first."""
    critical_difference: float
    """Nemenyi's, at 5 %."""
    blocks: int
    """Independent inputs that were ranked."""
    p_value: float
    """Friedman's test."""
    groups: tuple[tuple[str, ...], ...]
    """Maximal runs of entrants whose mean ranks differ by less than the critical difference."""


@dataclass(frozen=True, slots=True)
class TauMatrix:
    """Kendall's tau between metrics: how far they order the entrants alike."""

    metrics: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    """Symmetric, 1 on the diagonal; None where undefined."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Quality of an entrant at a number of rows."""

    entrant: str
    rows: float
    """Rows of the network for one input, mean."""
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An input on which two metrics choose different winners."""

    case: str
    text: str
    """The input as a line of text; empty where it may not be shown."""
    first_metric: str
    second_metric: str
    first_winner: str
    second_winner: str
    features: tuple[str, ...]
    """Labels of the features."""
    first_values: tuple[float, ...]
    """Scores of the first winner, divided by the largest size."""
    second_values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """An entrant that could not explain some inputs."""

    entrant: str
    inputs: int
    of: int
    ranked: bool
    """Whether it is ranked all the same, on what the others share with it."""
    reason: str
    """The commonest sentence."""


@dataclass(frozen=True, slots=True)
class Board:
    """The leaderboard of one task."""

    task: str
    title: str
    model: str
    target: str
    """What was explained."""
    features: str
    inputs: int
    clusters: int
    enough: bool
    """Whether there are enough independent inputs (100) for a claim."""
    tables: tuple[MetricTable, ...]
    prices: tuple[Price, ...]
    families: tuple[FamilyRanks, ...]
    diagram: RankDiagram | None
    """Of the first valid metric; None with fewer than three entrants or two inputs."""
    tau: TauMatrix
    curves: tuple[CurvePoint, ...]
    curve_metric: str
    disagreements: tuple[Disagreement, ...]
    failures: tuple[Failed, ...]
    absent: tuple[tuple[str, str], ...]
    """Entrants that did not take part, with the reason: a peer that is not installed, a modality it does not read."""
    provenance: tuple[tuple[str, str], ...]
    """Name and value: versions, digests, seeds, imputers, settings, budget."""
    notes: tuple[str, ...]
    """Sentences that a reader must see before any number, such as that the inputs are too few."""
