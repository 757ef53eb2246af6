"""Records as the report's parts: only places change, nothing is computed."""

from collections.abc import Mapping, Sequence

from pellucid import report
from pellucid.audit.attribution import Attribution
from pellucid.audit.config import AuditConfig
from pellucid.audit.hardware import HardwareProfile, Latency
from pellucid.audit.record import Counterfactual, DecisionRecord
from pellucid.records import Check


def case_view(record: DecisionRecord, outcome: str | None, marks: Mapping[str, report.Mark]) -> report.CaseView:
    """One case. What the record does not hold is None in the view."""
    decision, search = record.decision, record.counterfactual
    named = decision.chosen if decision.kind == "choice" else decision.output
    options = [
        report.Option(name=name, probability=probability or 0.0)
        for name, probability in zip(decision.options, decision.probabilities, strict=False)
    ]
    found = search is not None and search.found
    return report.CaseView(
        id=record.input.case,
        decision="(answer not stored)" if named is None else named,
        options=tuple(options),
        attributions=tuple(attribution_view(each, record, marks) for each in record.attributions),
        counterfactual=_flip(search) if search is not None and found else None,
        no_counterfactual=_nothing_flips(search) if search is not None and not found else "",
        outcome=outcome,
        correct=None if outcome is None else outcome == decision.chosen,
        self_test=_self_test(record),
        cost=record.cost,
    )


def attribution_view(
    attribution: Attribution, record: DecisionRecord, marks: Mapping[str, report.Mark]
) -> report.AttributionView:
    """One attribution of a record."""
    labels = attribution.labels or (None,) * len(attribution.roles)
    text = record.input.text
    said = {field.name: field.wording for field in record.input.fields}
    features = []
    for number, label in enumerate(labels):
        span = attribution.spans[number] if attribution.spans is not None else None
        if attribution.level == "field":
            shown = said.get(label or "")
        else:
            shown = text[span[0] : span[1]] if text is not None and span is not None else label
        features.append(
            report.FeatureView(
                label=label,
                kind=attribution.level,
                text=shown,
                role=attribution.roles[number],
                mark=marks.get(label or "", "") if attribution.level == "field" else "",
            )
        )
    errors = attribution.standard_error
    return report.AttributionView(
        features=tuple(features),
        output_names=attribution.outputs or tuple(f"token {n + 1}" for n in range(len(attribution.values))),
        values=_numbers(attribution.values),
        standard_error=None if errors is None else _numbers(errors),
        base_values=_row(attribution.base_values),
        full_values=_row(attribution.full_values),
        target=attribution.target.capitalize(),
        unit=attribution.unit,
        method=attribution.method,
        settings=attribution.settings,
        baseline=attribution.baseline,
        seed=attribution.seed,
        checks=attribution.checks,
        cost=attribution.cost,
        notice=attribution.notice,
    )


def hardware_lines(profile: HardwareProfile) -> tuple[tuple[str, str], ...]:
    """Name and value of every line of the hardware profile."""
    machine = profile.machine
    lines = [
        ("Model", f"{profile.model}, {profile.parameters / 1e6:.1f} million parameters, {profile.dtype}"),
        ("Model on disk", _bytes(profile.model_disk_bytes)),
        ("Model in memory", _bytes(profile.model_memory_bytes)),
        ("Loading", "not measured" if profile.load_seconds is None else f"{profile.load_seconds:.1f} s"),
        ("Decision", _latency(profile.decision)),
        ("Explanation with its checks", _latency(profile.explanation)),
        ("Tokens computed", f"{profile.tokens_per_second or 0:.0f} a second"),
        ("Highest memory of the process", _bytes(profile.peak_memory_bytes)),
        ("of that above the loaded model", _bytes(profile.peak_above_model_bytes)),
        ("Device", profile.device),
        ("Processor", f"{machine.cpu}, {machine.cores} cores used, {machine.threads} threads"),
        ("Memory of the machine", _bytes(machine.memory_bytes)),
        ("GPU", "none" if machine.gpu is None else f"{machine.gpu}, {_bytes(machine.gpu_memory_bytes)}"),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Versions", ", ".join(f"{name} {number}" for name, number in machine.versions.items())),
    ]
    if profile.peak_gpu_bytes is not None:
        lines.insert(9, ("Highest GPU memory", _bytes(profile.peak_gpu_bytes)))
    return tuple(lines)


def method_lines(config: AuditConfig, template: str, records: Sequence[DecisionRecord]) -> tuple[tuple[str, str], ...]:
    """Name and value of every setting of the run."""
    first = records[0]
    wordings = [
        f"{column}: {', '.join(f'{a} -> {b}' for a, b in table.items())}" for column, table in config.wordings.items()
    ]
    missing = (
        config.missing if isinstance(config.missing, str) else "; ".join(f"{a}: {b}" for a, b in config.missing.items())
    )
    gone = {
        field.name: sum(f.missing for r in records for f in r.input.fields if f.name == field.name)
        for field in first.input.fields
    }
    counts = ", ".join(f"{name} in {count} cases" for name, count in gone.items() if count) or "none in these cases"
    lines = [
        ("Template", template),
        ("Wordings", "; ".join(wordings) or "as written in the table"),
        ("A missing value is said as", f"{missing} ({counts})"),
        ("Answer", f"choice among {', '.join(config.choices)}" if config.choices else f"generated: {config.generate}"),
    ]
    for attribution in first.attributions:
        settings = ", ".join(f"{name} {value}" for name, value in attribution.settings.items() if value is not None)
        said = f"{attribution.method}; absent is {attribution.baseline}; seed {attribution.seed}; {settings}"
        lines.append((f"Scores of {attribution.level}s", said))
        if attribution.notice:
            lines.append((f"Notice on {attribution.method}", attribution.notice))
    model = first.model
    lines += [
        ("Weights, SHA-256", model.weights),
        ("Tokenizer, SHA-256", model.tokenizer),
        ("Chat template, SHA-256", model.template or "none"),
        ("Attention kernel", model.attention),
        ("Replay tolerance", f"{first.tolerance:g} {first.attributions[0].unit}"),
    ]
    return tuple(lines)


def _flip(search: Counterfactual) -> report.Counterfactual:
    changes = [report.Change(field=each.field, before=each.before, after=each.after) for each in search.changes]
    decision = "another option" if search.decision is None else search.decision
    return report.Counterfactual(changes=tuple(changes), decision=decision, probability=search.probability or 0.0)


def _nothing_flips(search: Counterfactual) -> str:
    return f"No change that was tried flips the decision ({search.evaluations} tried: {search.searched})."


def _self_test(record: DecisionRecord) -> Check | None:
    test = record.self_test
    if test is None:
        return None
    return Check(
        name="self_test",
        value=test.max_difference,
        threshold=test.tolerance,
        passed=test.passed,
        decisive=False,
        detail="Cached and plain scoring of this very case agree."
        if test.passed
        else "Cached and plain scoring differ.",
    )


def _numbers(rows: Sequence[Sequence[float | None]]) -> tuple[tuple[float, ...], ...]:
    return tuple(_row(row) for row in rows)


def _row(row: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(float("nan") if value is None else value for value in row)


def _bytes(number: int | None) -> str:
    if number is None:
        return "not measured"
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _latency(found: Latency) -> str:
    if found.median_seconds is None or found.p90_seconds is None:
        return "not measured"
    return f"median {found.median_seconds:.2f} s, nine in ten below {found.p90_seconds:.2f} s ({found.count} cases)"
