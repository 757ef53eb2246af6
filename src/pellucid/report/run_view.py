"""What a report shows of a whole audit, as frozen records. Whoever fills them has computed everything."""

from collections.abc import Mapping
from dataclasses import dataclass

from pellucid.records import Check, Cost
from pellucid.report.view import AttributionView, Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One answer that could have been chosen."""

    name: str
    """The answer."""
    probability: float
    """Its probability, normalised over the options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field set to another value."""

    field: str
    """The field."""
    before: str | None
    """What stood there; None where it was not stored."""
    after: str | None
    """What stands there instead; None where it was not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterfactual:
    """The smallest change found that flips a decision."""

    changes: tuple[Change, ...]
    """What is changed."""
    decision: str
    """The decision that follows."""
    probability: float
    """Its probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """One decision of the audit."""

    id: str
    """The case's name in the input."""
    decision: str
    """What the model decided."""
    options: tuple[Option, ...]
    """All options with their probabilities; one for a generated answer."""
    attributions: tuple[AttributionView, ...]
    """The explanations, coarse to fine."""
    counterfactual: Counterfactual | None = None
    """The smallest change that flips the decision; None where none was found or sought."""
    no_counterfactual: str = ""
    """Why there is none: one sentence, such as that no value of the cohort in one or two fields flips it."""
    outcome: str | None = None
    """What really happened, where an outcome column is given."""
    correct: bool | None = None
    """Whether the decision agrees with the outcome."""
    self_test: Check | None = None
    """Cached against uncached log-probabilities of this very case."""
    cost: Cost | None = None
    """What the whole case cost."""

    @property
    def probability(self) -> float | None:
        """Probability of the decision."""
        return next((option.probability for option in self.options if option.name == self.decision), None)

    @property
    def verdicts(self) -> tuple[tuple[str, bool | None], ...]:
        """Every explanation's heading and whether it can be relied on; and the self-test, where it failed."""
        states = tuple((attribution.heading, attribution.checks.reliable) for attribution in self.attributions)
        failed = self.self_test is not None and self.self_test.passed is False
        return (*states, ("self-test", False)) if failed else states


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its bootstrap interval."""

    mean: float
    """The estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortField:
    """What one field does over all cases."""

    name: str
    """The field."""
    signed: Interval
    """Mean signed attribution."""
    absolute: Interval
    """Mean absolute attribution."""
    mark: Mark = ""
    """Whether it was expected to matter, or is a decoy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How the model's drivers agree with the factors that were expected."""

    expected: tuple[str, ...]
    """The fields that a clinician expects to matter, first the strongest."""
    k: int
    """How many of the strongest fields are looked at."""
    precision_at_k: float
    """The share of those that was expected."""
    rank_correlation: float | None
    """Spearman's, of the expected order against the found one; None where it is undefined."""
    decoy_ranks: Mapping[str, float]
    """Where each decoy ranks among all fields, 1 being the strongest."""
    fields: int
    """How many fields there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """The cases whose probability fell into one bin."""

    predicted: float
    """Mean probability."""
    observed: float
    """Share in which the event happened."""
    count: int
    """How many cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Decisions against outcomes."""

    cases: int
    """Cases with a known outcome."""
    accuracy: Interval
    """Share of decisions that agree with the outcome."""
    event: str
    """The option whose probability is calibrated."""
    brier: float
    """Mean squared difference of probability and outcome."""
    expected_calibration_error: float
    """Mean distance of predicted and observed share, weighted by count."""
    bins: tuple[CalibrationBin, ...]
    """The reliability diagram."""
    note: str = ""
    """A sentence on what the numbers can bear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """The target while fields are removed, strongest first, against random orders, pooled over the cohort."""

    fraction: tuple[float, ...]
    """Share of features removed, from 0 to 1."""
    attributed: tuple[Interval, ...]
    """The target when the order is that of the attribution."""
    random: tuple[Interval, ...]
    """The target when the order is random."""
    unit: str
    """The unit of the target."""
    verdict: str
    """One sentence: whether the attribution's order is better than chance, and by how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView:
    """The signed ledger that the report stands beside."""

    count: int
    """Records in the chain."""
    head: str
    """SHA-256 of the last record, in hex."""
    key_id: str
    """Digest of the public key."""
    verify: str
    """The command that verifies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A whole audit."""

    title: str
    """What was audited."""
    subtitle: str
    """Model, cases and date, in one line."""
    headline: tuple[str, ...]
    """The lines that a reader wants first."""
    cases: tuple[CaseView, ...]
    """Every case, in the order of the ledger."""
    unit: str
    """The unit of the cohort's attributions."""
    cohort: tuple[CohortField, ...]
    """Every field, strongest first."""
    interval: str
    """What the intervals are, in words."""
    hardware: tuple[tuple[str, str], ...]
    """Name and value of every line of the hardware profile."""
    method: tuple[tuple[str, str], ...]
    """Name and value of every setting of the run: model, template, method, baseline, wordings of missing values."""
    proves: tuple[str, ...]
    """What the report shows, a sentence each."""
    proves_not: tuple[str, ...]
    """What it does not, a sentence each."""
    ledger: LedgerView | None
    """The ledger; None for a run that wrote none."""
    agreement: Agreement | None = None
    """Agreement with the expected factors, where any were named."""
    accuracy: Accuracy | None = None
    """Accuracy and calibration, where an outcome column was given."""
    deletion: Deletion | None = None
    """The pooled deletion test, where it was run."""
    text_stored: bool = True
    """Whether the cases' text is in the report."""
