"""The part of an explanation that a record keeps."""

from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from pellucid.audit.canonical import finite
from pellucid.explanation import Explanation
from pellucid.records import Checks, Cost, Feature
from pellucid.records import Record as Base


class Attribution(Base):
    """Scores of one method for every feature of one level. ``values`` is [target, feature]."""

    level: Literal["field", "token", "word", "sentence"]
    """What the features are."""
    method: str
    """The method's name."""
    settings: dict[str, Any]
    """Every setting of the method, defaults included."""
    target: str
    """The kind of target, such as ``choice``."""
    outputs: tuple[str, ...] | None
    """A name for each target; None where redacted and the answer was generated."""
    unit: str
    """The unit of the target, and so of every value."""
    baseline: str
    """What stood in for an absent feature."""
    seed: int
    """The seed."""
    labels: tuple[str, ...] | None
    """The features' names; None where redacted, unless they are names of fields."""
    spans: tuple[tuple[int, int] | None, ...] | None = None
    """Where each feature stands in the prompt; None where redacted."""
    roles: tuple[Literal["input", "template"], ...]
    """Whether the person wrote each feature or the chat template added it."""
    owners: tuple[str | None, ...]
    """The field that each feature lies in, if it lies in one."""
    values: tuple[tuple[float | None, ...], ...]
    """Signed scores [target, feature]; None for what is not a finite number."""
    standard_error: tuple[tuple[float | None, ...], ...] | None = None
    """Standard errors [target, feature]; None where nothing is sampled."""
    base_values: tuple[float | None, ...]
    """The target with all features absent."""
    full_values: tuple[float | None, ...]
    """The target on the input itself."""
    checks: Checks
    """The evidence for and against these values."""
    verdict: Literal["reliable", "unreliable", "not checked"]
    """What the checks say."""
    cost: Cost
    """What these values cost."""
    notice: str = ""
    """Patents or terms that the method's users should know of; empty where none are known."""

    @classmethod
    def of(cls, explanation: Explanation) -> "Attribution":
        """The part of an explanation that a record keeps. Values are the shortest decimals of the same float32."""
        features, error = explanation.features, explanation.standard_error
        verdicts: dict[bool | None, Any] = {True: "reliable", False: "unreliable", None: "not checked"}
        return cls(
            level=features[0].kind,
            method=explanation.method,
            settings=finite(explanation.settings),
            target=explanation.target.kind,
            outputs=explanation.output_names,
            unit=explanation.unit,
            baseline=explanation.baseline,
            seed=explanation.seed,
            labels=tuple(explanation.feature_names),
            spans=tuple(None if f.start is None or f.end is None else (f.start, f.end) for f in features),
            roles=tuple(feature.role for feature in features),
            owners=tuple(_owner(feature, explanation.ladder.get("field", ())) for feature in features),
            values=tuple(_decimals(row) for row in explanation.values),
            standard_error=None if error is None else tuple(_decimals(row) for row in error),
            base_values=_decimals(explanation.base_values),
            full_values=_decimals(explanation.full_values),
            checks=explanation.checks,
            verdict=verdicts[explanation.reliable],
            cost=explanation.cost,
            notice=explanation.notice,
        )

    def without_text(self, generated: bool) -> "Attribution":
        """The same without what tells the patient's text, nor the tokens of an answer where it was ``generated``."""
        labels = self.labels if self.level == "field" else None
        return self.model_copy(update={"spans": None, "labels": labels, "outputs": None if generated else self.outputs})

    @model_validator(mode="after")
    def _rectangular(self) -> "Attribution":
        width = len(self.roles)
        rows = [
            *self.values,
            *(self.standard_error or ()),
            self.owners,
            self.labels or self.roles,
            self.spans or self.roles,
        ]
        if any(len(row) != width for row in rows):
            raise ValueError(f"an attribution over {width} features has a row of another length")
        if not len(self.values) == len(self.base_values) == len(self.full_values):
            raise ValueError(f"{len(self.values)} rows of values need as many base and full values")
        return self


def _decimals(row: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(str(value)) if np.isfinite(value) else None for value in row)


def _owner(feature: Feature, fields: tuple[Feature, ...]) -> str | None:
    """The field that holds the first visible character of a feature."""
    if feature.kind == "field":
        return feature.label
    if feature.start is None:
        return None
    visible = feature.start + len(feature.value) - len(feature.value.lstrip())
    for field in fields:
        if field.start is not None and field.end is not None and field.start <= visible < field.end:
            return field.label
    return None
