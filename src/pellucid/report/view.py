"""What a report shows, as frozen records. Whoever fills them has computed everything; drawing computes only places.

A text that was not stored is None here, and is then absent from the page: the redaction happens before the drawing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int32, UInt8

from pellucid.explanation import Check, Checks, Cost, Explanation, Feature, FeatureKind, Fingerprint

Mark = Literal["", "expected", "decoy"]

# The label of such a feature is a name that the template gave it; the label of any other is the person's own text.
_NAMED_KINDS = frozenset({"field", "column", "rest"})
_PICTORIAL_KINDS = frozenset({"pixel", "patch", "superpixel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureView:
    """One feature of one attribution."""

    label: str | None
    """Its name, or its text; None where that text was not stored."""
    kind: FeatureKind
    """The rung of the ladder it stands on."""
    text: str | None = None
    """What stood there; None where it was not stored."""
    role: Literal["input", "template"] = "input"
    """Whether the person wrote it or the chat template added it."""
    mark: Mark = ""
    """Whether the audit expected it to matter, or planted it as a decoy."""

    @classmethod
    def of(cls, feature: Feature, stored: bool, mark: Mark = "") -> "FeatureView":
        """The view of a feature, without the person's text unless that is ``stored``."""
        named = feature.kind in _NAMED_KINDS or feature.role == "template"
        return cls(
            label=feature.label if stored or named else None,
            kind=feature.kind,
            text=feature.value if stored or feature.role == "template" else None,
            role=feature.role,
            mark=mark,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """The picture that was explained, and which feature each of its pixels belongs to."""

    height: int
    """Rows of pixels."""
    width: int
    """Pixels in a row."""
    pixels: bytes
    """Shades of red, green and blue, or of grey alone, row by row."""
    owners: bytes
    """Index of each pixel's feature, 32 bits in the machine's order."""

    @classmethod
    def of(cls, explanation: Explanation) -> "PictureView | None":
        """The picture of an explanation; None where its input is none."""
        picture, regions = explanation.picture, explanation.regions
        if picture is None or regions is None:
            return None
        return cls(height=len(picture), width=picture.shape[1], pixels=picture.tobytes(), owners=regions.tobytes())

    @property
    def shades(self) -> UInt8[np.ndarray, "height width channel"]:
        """The picture as an array."""
        return np.frombuffer(self.pixels, np.uint8).reshape(self.height, self.width, -1)

    @property
    def regions(self) -> Int32[np.ndarray, "height width"]:
        """The features' indices as an array."""
        return np.frombuffer(self.owners, np.int32).reshape(self.height, self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionView:
    """One explanation as a page shows it: matrices are [target][feature]."""

    features: tuple[FeatureView, ...]
    """The features, in the order of ``values``."""
    output_names: tuple[str, ...]
    """A name for each target."""
    values: tuple[tuple[float, ...], ...]
    """Signed attributions in the unit of the target."""
    standard_error: tuple[tuple[float, ...], ...] | None
    """Standard errors; None where the method does not sample."""
    base_values: tuple[float, ...]
    """The target with all features absent."""
    full_values: tuple[float, ...]
    """The target on the input itself."""
    target: str
    """What was explained, in words."""
    unit: str
    """The unit of every value."""
    method: str
    """The method's name."""
    settings: Mapping[str, Any]
    """Every setting of the method."""
    baseline: str
    """What stood in for an absent feature."""
    seed: int
    """The seed."""
    checks: Checks
    """The evidence, shown before any value."""
    cost: Cost
    """What it cost."""
    fingerprint: Fingerprint | None = None
    """What was asked; None where the report states it once for all cases."""
    title: str = ""
    """Heading inside a case, such as ``Fields``; empty for one made from the kind of the features."""
    picture: PictureView | None = None
    """The picture that was explained; None for other inputs, and where it was not stored."""

    @classmethod
    def of(
        cls, explanation: Explanation, *, stored: bool = True, marks: Mapping[str, Mark] | None = None, title: str = ""
    ) -> "AttributionView":
        """The view of an explanation. With ``stored=False`` no text of the person is in it; ``marks`` go by label."""
        marks = marks or {}
        error = explanation.standard_error
        return cls(
            features=tuple(FeatureView.of(f, stored, marks.get(f.label, "")) for f in explanation.features),
            output_names=explanation.output_names,
            values=_rows(explanation.values.tolist()),
            standard_error=None if error is None else _rows(error.tolist()),
            base_values=tuple(explanation.base_values.tolist()),
            full_values=tuple(explanation.full_values.tolist()),
            target=type(explanation.target).__name__,
            unit=explanation.unit,
            method=explanation.method,
            settings=explanation.settings,
            baseline=explanation.baseline,
            seed=explanation.seed,
            checks=explanation.checks,
            cost=explanation.cost,
            fingerprint=explanation.fingerprint,
            title=title,
            picture=PictureView.of(explanation) if stored else None,
        )

    @property
    def kind(self) -> str:
        """The kind of the first feature, which is that of the heat map."""
        return self.features[0].kind if self.features else "feature"

    @property
    def heading(self) -> str:
        """What it is called among the explanations of its case."""
        return self.title or plural(self.kind)

    @property
    def is_named(self) -> bool:
        """Whether the features have names of their own, rather than being pieces of the text."""
        return self.kind in _NAMED_KINDS

    @property
    def is_pictorial(self) -> bool:
        """Whether the features are parts of a picture."""
        return self.kind in _PICTORIAL_KINDS

    @property
    def is_withheld(self) -> bool:
        """Whether the features are pieces of an input that was not stored, so that nothing can be shown of them."""
        return any(feature.label is None for feature in self.features)


def plural(kind: str) -> str:
    """Several features of a kind."""
    return f"{kind}es" if kind.endswith("ch") else f"{kind}s"


def _rows(matrix: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix)


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
