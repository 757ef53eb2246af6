"""What the records of a run show together: the lines a reader wants first, and everything that the report draws."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pellucid import report
from pellucid.audit.cohort import (
    Agreement,
    FieldEffect,
    Interval,
    Performance,
    agreement,
    field_effects,
    mean_intervals,
)
from pellucid.audit.config import AuditConfig
from pellucid.audit.hardware import HardwareProfile
from pellucid.audit.ledger import BESIDE, ROLLBACK
from pellucid.audit.record import DecisionRecord
from pellucid.audit.views import case_view, hardware_lines, method_lines

DELETION_GRID = 11
INTERVAL = "Intervals are 95 % percentile bootstrap intervals over cases."
PROVES = (
    "Each record says which model (by the digest of its weights, tokenizer and template) was given which input, what "
    "it answered with which probability, and how its answer changes when fields are taken away.",
    "The records are chained and signed: a later change of any of them, their order or their number is seen by "
    "'pellucid audit verify'.",
    "Each attribution stands beside its own evidence, and says so where it should not be relied on.",
)
PROVES_NOT = (
    "An attribution is a statistical statement about this model, not about the disease: it shows what moved the "
    "model's answer, not what causes a recurrence, and not that the answer is right.",
    "Scores depend on the method and on what stands in for an absent field; another choice can change order and sign.",
    "Attribution is one piece of evidence for traceability and human oversight. It does not by itself make a system "
    "comply with any regulation.",
)


class Cohort:
    """Everything that is computed over the records, once."""

    def __init__(self, config: AuditConfig, records: Sequence[DecisionRecord]) -> None:
        self.config, self.records = config, records
        first = [record.attributions[0] for record in records]
        self.unit = first[0].unit
        self.effects: tuple[FieldEffect, ...] = ()
        self.agreement: Agreement | None = None
        if config.features == "field":
            fields = first[0].labels or ()
            values = _field_values(records, fields)
            self.effects = field_effects(values, fields, seed=config.seed)
            if config.expected:
                self.agreement = agreement(values, fields, config.expected, config.decoy, seed=config.seed)

    @property
    def strongest(self) -> list[FieldEffect]:
        """The fields, those that move decisions most first."""
        return sorted(self.effects, key=lambda effect: -effect.mean_absolute.estimate)

    @property
    def decisions(self) -> Counter[str]:
        """How often each option was chosen."""
        return Counter(record.decision.chosen or "(generated)" for record in self.records)

    @property
    def reliable(self) -> Counter[str]:
        """How many explanations of the first kind are reliable, unreliable, not checked."""
        return Counter(record.attributions[0].verdict for record in self.records)

    def deletion(self) -> tuple[list[float], list[Interval], list[Interval], Interval] | None:
        """Shares removed, mean curves by score and at random, and the mean gain of the one over the other."""
        found = [record.deletion for record in self.records if record.deletion is not None]
        if not found:
            return None
        grid = np.linspace(0, 1, DELETION_GRID)
        by_score = np.stack([np.interp(grid, each.removed, each.by_score) for each in found])
        at_random = np.stack([np.interp(grid, each.removed, each.at_random) for each in found])
        gain = np.asarray(np.trapezoid(at_random - by_score, grid, axis=1))
        columns = np.concatenate([by_score, at_random, gain[:, None]], axis=1)
        means = mean_intervals(columns, seed=self.config.seed)
        return grid.tolist(), means[:DELETION_GRID], means[DELETION_GRID:-1], means[-1]


def headline(
    config: AuditConfig, records: Sequence[DecisionRecord], performance: Performance | None, folder: Path
) -> list[str]:
    """The lines that a reader wants first."""
    cohort = Cohort(config, records)
    counts = ", ".join(f"{count} {option}" for option, count in cohort.decisions.most_common())
    decided = f"{len(records)} cases decided by {records[0].model.model}: {counts}"
    if performance is not None:
        right, majority = performance.accuracy, performance.majority_rate
        decided += (
            f"; right in {right.estimate:.0%}{_range(right, '.0%')} of {performance.cases}, "
            f"always giving the commonest answer would be right in {majority:.0%}"
        )
    lines = [f"{decided}."]
    if cohort.effects:
        parts = [f"{each.field} {each.mean_absolute.estimate:.3f}" for each in cohort.strongest[:3]]
        lines.append(f"What moves the decisions most (mean absolute {cohort.unit}): {', '.join(parts)}.")
    if cohort.agreement is not None:
        lines.append(_agreement_line(cohort.agreement))
    lines.append(_evidence_line(cohort))
    last = records[-1].integrity
    lines.append(
        f"Ledger: {len(records)} signed records, last hash {last.record_hash[:16] if last else 'none'}; check it with: "
        f"pellucid audit verify {folder}"
    )
    return lines


def run_view(
    config: AuditConfig,
    template: str,
    records: Sequence[DecisionRecord],
    hardware: HardwareProfile | None,
    performance: Performance | None,
    outcomes: Mapping[str, str],
    folder: Path,
) -> report.RunView:
    """The whole audit as the report draws it."""
    cohort = Cohort(config, records)
    last = records[-1].integrity
    marks: dict[str, report.Mark] = {name: "expected" for name in config.expected}
    marks |= {name: "decoy" for name in config.decoy}
    return report.RunView(
        title=config.title,
        subtitle=f"{records[0].model.model}, {len(records)} cases, {records[0].started[:10]}",
        headline=tuple(headline(config, records, performance, folder)),
        cases=tuple(case_view(record, outcomes.get(record.input.case), marks) for record in records),
        unit=cohort.unit,
        cohort=tuple(
            report.CohortField(
                name=each.field,
                signed=_interval(each.mean),
                absolute=_interval(each.mean_absolute),
                mark=marks.get(each.field, ""),
            )
            for each in cohort.strongest
        ),
        interval=INTERVAL,
        hardware=hardware_lines(hardware) if hardware else (),
        method=method_lines(config, template, records),
        proves=PROVES,
        proves_not=(*PROVES_NOT, BESIDE, ROLLBACK),
        ledger=report.LedgerView(
            count=len(records),
            head=last.record_hash if last else "",
            key_id=last.key_id if last else "",
            verify=f"pellucid audit verify {folder}",
        ),
        agreement=_agreement(cohort.agreement, config) if cohort.agreement else None,
        accuracy=_accuracy(performance) if performance else None,
        deletion=_deletion(cohort),
        text_stored=config.store_text,
    )


def _field_values(records: Sequence[DecisionRecord], fields: Sequence[str]) -> Float[np.ndarray, "case field"]:
    rows = []
    for record in records:
        attribution = record.attributions[0]
        scores = dict(zip(attribution.labels or (), np.array(attribution.values, dtype=float).sum(0), strict=True))
        rows.append([scores.get(field, np.nan) for field in fields])
    return np.array(rows)


def _range(interval: Interval, form: str) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f" (95 % interval {interval.low:{form}} to {interval.high:{form}})"


def _agreement_line(found: Agreement) -> str:
    decoys = ", ".join(f"{name} ranks {rank:g}" for name, rank in found.decoy_ranks.items())
    line = (
        f"Expected factors ({', '.join(found.expected_ranks)}) among the {found.k} strongest fields: "
        f"{found.precision_at_k:.0%}, {found.precision_by_chance:.0%} by chance"
    )
    return f"{line}; decoys: {decoys} of {found.fields}." if decoys else f"{line}."


def _evidence_line(cohort: Cohort) -> str:
    counts = cohort.reliable
    line = f"Explanations: {counts['reliable']} of {len(cohort.records)} reliable by their own checks"
    if counts["unreliable"]:
        line += f", {counts['unreliable']} not"
    pooled = cohort.deletion()
    return f"{line}; {_deletion_sentence(pooled[3], cohort.unit)}" if pooled else f"{line}."


def _deletion_sentence(gain: Interval, unit: str) -> str:
    better = gain.low is not None and gain.low > 0
    verdict = "better than random" if better else "NOT shown to be better than random"
    return (
        f"removing fields in the order of their scores lowers the target by {gain.estimate:.3f} {unit}"
        f"{_range(gain, '.3f')} more than a random order: {verdict}."
    )


def _interval(found: Interval) -> report.Interval:
    low = found.estimate if found.low is None else found.low
    high = found.estimate if found.high is None else found.high
    return report.Interval(mean=found.estimate, low=low, high=high)


def _agreement(found: Agreement, config: AuditConfig) -> report.Agreement:
    return report.Agreement(
        expected=config.expected,
        k=found.k,
        precision_at_k=found.precision_at_k,
        rank_correlation=found.rank_correlation,
        decoy_ranks=found.decoy_ranks,
        fields=found.fields,
    )


def _accuracy(found: Performance) -> report.Accuracy:
    bins = [
        report.CalibrationBin(predicted=each.confidence, observed=each.accuracy, count=each.cases)
        for each in found.bins
        if each.confidence is not None and each.accuracy is not None
    ]
    return report.Accuracy(
        cases=found.cases,
        accuracy=_interval(found.accuracy),
        event="the decision",
        brier=found.brier,
        expected_calibration_error=found.calibration_error,
        bins=tuple(bins),
        note=f"Always giving the commonest answer would be right in {found.majority_rate:.0%}. Wilson's 95 % interval; "
        f"with {found.cases} cases the calibration is a rough picture.",
    )


def _deletion(cohort: Cohort) -> report.Deletion | None:
    pooled = cohort.deletion()
    if pooled is None:
        return None
    grid, by_score, at_random, gain = pooled
    sentence = _deletion_sentence(gain, cohort.unit)
    return report.Deletion(
        fraction=tuple(grid),
        attributed=tuple(_interval(each) for each in by_score),
        random=tuple(_interval(each) for each in at_random),
        unit=cohort.unit,
        verdict=f"One random order a case, pooled over {len(cohort.records)} cases: {sentence}",
    )
