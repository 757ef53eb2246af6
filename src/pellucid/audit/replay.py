"""Asking the same model the same questions again, and comparing with what the records say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.audit.attribution import Attribution
from pellucid.audit.case import Audited, environment_of
from pellucid.audit.cases import Case, Wordings, read_cases
from pellucid.audit.keys import SiteKey, open_keys
from pellucid.audit.ledger import read_records, verify
from pellucid.audit.record import DecisionRecord
from pellucid.audit.run import RunFile, loaded
from pellucid.errors import InputError, RecordError, UnknownNameError
from pellucid.models import Template
from pellucid.progress import hidden, progress


class Outcome(NamedTuple):
    """How one record fared."""

    record: str
    """Its id."""
    case: str
    """Its case."""
    difference: float
    """The largest difference of a log-probability or score, in the unit of the target."""
    tolerance: float
    """The largest that the record allows."""
    reasons: tuple[str, ...]
    """What differs, a sentence each; empty where nothing does."""


class Replay(NamedTuple):
    """What a replay showed."""

    outcomes: list[Outcome]
    """Every record that was replayed."""

    @property
    def ok(self) -> bool:
        """Whether everything came out as recorded."""
        return not any(outcome.reasons for outcome in self.outcomes)

    @property
    def lines(self) -> list[str]:
        """The result, a sentence a line: first the whole, then each record that differs."""
        largest = max(outcome.difference for outcome in self.outcomes)
        good = sum(not outcome.reasons for outcome in self.outcomes)
        first = (
            f"{good} of {len(self.outcomes)} records came out as recorded; the largest difference was {largest:.1e}."
        )
        differing = [outcome for outcome in self.outcomes if outcome.reasons]
        return [first, *(f"Record {each.record} (case {each.case}): {'; '.join(each.reasons)}." for each in differing)]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"ok": self.ok, "records": [outcome._asdict() for outcome in self.outcomes]}


def replay(
    folder: Path, cases: Path | None = None, record: str | None = None, keys_folder: Path | None = None
) -> Replay:
    """Verify a ledger, run its records again, and compare within the tolerance that each states.

    Replayed are the decision with its probabilities and every attribution; the search for a change that flips the
    decision is not. Where the text was not stored, the cases are needed again, and the site key that made the digests.

    Raises:
        InputError: the cases are needed and were not given, or are not those of the record, or the site key is another.
        UnknownNameError: there is no such record.
        RecordError: the ledger does not verify.
    """
    found = verify(folder)
    if not found.ok:
        raise RecordError(f"nothing is replayed: {found.sentence}")
    run = RunFile.read(folder)
    records = _chosen(list(read_records(folder)), record)
    site = open_keys(keys_folder).site
    template = Template(run.template, absent=run.config.absent, missing=run.config.missing)
    known = _cases(run, cases, template, records)
    for each in records:
        _refuse_other_run(each, run)
    model = loaded(run.config)
    wordings = Wordings(tables=run.config.wordings)
    audited = Audited(model, template, wordings, run.config, site, environment_of(model), None, run.identity)
    for each in records:
        _refuse_other_text(each, known[each.input.case], audited, site)
    outcomes = []
    with progress("Replaying", len(records)) as advance, hidden():
        for each in records:
            level = each.attributions[0].checks.level
            outcomes.append(_compare(each, audited.record(known[each.input.case], level)))
            advance(1)
    return Replay(outcomes)


def _chosen(records: Sequence[DecisionRecord], wanted: str | None) -> list[DecisionRecord]:
    chosen = [record for record in records if wanted in (None, record.record_id, record.input.case)]
    if not chosen:
        raise UnknownNameError("record", wanted, [record.record_id for record in records])
    return chosen


def _cases(
    run: RunFile, path: Path | None, template: Template, records: Sequence[DecisionRecord]
) -> Mapping[str, Case]:
    """The cases by name, from a file or from the records' own stored text."""
    if path is not None:
        known = {case.id: case for case in read_cases(path, id_column=run.config.id_column, columns=template.fields)}
    elif any(record.redacted for record in records):
        raise InputError("the records hold no text, so the cases are needed again: give them with --cases FILE.")
    else:
        known = {
            record.input.case: Case(
                id=record.input.case, row=number, values={field.name: field.value for field in record.input.fields}
            )
            for number, record in enumerate(records, 1)
        }
    for record in records:
        if record.input.case not in known:
            raise UnknownNameError("case", record.input.case, known, f"The record {record.record_id} is of it.")
    return known


def _refuse_other_run(record: DecisionRecord, run: RunFile) -> None:
    if record.run != run.identity or run.identity != run.config.identity_with(run.template):
        raise RecordError(
            f"the settings in run.json are not those that record {record.record_id} was made with; "
            "put the original back."
        )


def _refuse_other_text(record: DecisionRecord, case: Case, audited: Audited, site: SiteKey) -> None:
    if record.input.site_key != site.key_id:
        raise InputError("the site key is not the one that made the records' digests; give its folder with --keys.")
    if site.digest(audited.prompt(case).text, case.id) != record.input.digest:
        raise InputError(f"case {case.id!r} has another text than the record {record.record_id} was made of.")


def _compare(old: DecisionRecord, new: DecisionRecord) -> Outcome:
    digests = ("weights", "tokenizer", "template", "dtype")
    changed = [part for part in digests if getattr(old.model, part) != getattr(new.model, part)]
    reasons = [f"the model's {part} changed" for part in changed]
    if old.decision.output_digest != new.decision.output_digest:
        reasons.append("the decision is another one")
    both = zip(old.attributions, new.attributions, strict=True)
    gaps = [_attribution_gap(before, after) for before, after in both]
    worst = max(_gap(old.decision.log_probs, new.decision.log_probs), *gaps)
    if worst > old.tolerance:
        reasons.append(f"numbers differ by {worst:.2e}, and the record allows {old.tolerance:.0e}")
    return Outcome(old.record_id, old.input.case, worst, old.tolerance, tuple(reasons))


def _attribution_gap(before: Attribution, after: Attribution) -> float:
    pairs = [
        *zip(before.values, after.values, strict=True),
        (before.base_values, after.base_values),
        (before.full_values, after.full_values),
    ]
    return max(_gap(one, other) for one, other in pairs)


def _gap(one: Sequence[float | None], other: Sequence[float | None]) -> float:
    """The largest difference; infinite where only one side is a number or the lengths differ."""
    if len(one) != len(other):
        return float("inf")
    a, b = (np.array([np.nan if value is None else value for value in each], dtype=float) for each in (one, other))
    if (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nanmax(np.abs(a - b), initial=0.0))
