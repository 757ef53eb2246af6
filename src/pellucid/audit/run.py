"""A whole audit: cases in, a signed ledger and a report out. A run that was stopped goes on where it stopped."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from pellucid.audit.case import Audited, environment_of
from pellucid.audit.cases import Case, Wordings, read_cases
from pellucid.audit.cohort import Performance, performance
from pellucid.audit.config import AuditConfig
from pellucid.audit.counterfactual import FlipSearch
from pellucid.audit.hardware import HardwareProfile, Latency, read_machine
from pellucid.audit.keys import Keys, open_keys
from pellucid.audit.ledger import Ledger, read_records
from pellucid.audit.record import DecisionRecord
from pellucid.audit.summary import headline, run_view
from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically
from pellucid.memory import PeakMemory
from pellucid.models import CausalLM, Template, TextClassifier, load
from pellucid.progress import hidden, is_hidden
from pellucid.records import Record
from pellucid.report import run_page

RUN = "run.json"
REPORT = "report.html"


class RunFile(Record):
    """What a ledger's folder says of the run beside the signed records.

    It holds no patient's text unless that was stored.
    """

    created: str
    """When the run was first started, UTC."""
    identity: str
    """Digest of the settings; every record of the run names it."""
    config: AuditConfig
    """The settings."""
    template: str
    """The template's text."""
    hardware: HardwareProfile | None = None
    """What the run took; None until it has ended once."""
    performance: Performance | None = None
    """How right the decisions were; None without outcomes, or until the run has ended once."""
    outcomes: dict[str, str] = Field(default={})
    """The option that would have been right, by case; only where the text is stored."""

    @classmethod
    def read(cls, folder: Path) -> "RunFile":
        """Read it from a ledger's folder. Raises InputError where there is none, RecordError where it is broken."""
        path = folder / RUN
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{str(folder)!r} holds no audit: {RUN} cannot be read ({error.strerror}).") from None
        except ValidationError as error:
            raise RecordError(f"{str(path)!r} is no description of a run: {error.errors()[0]['msg']}.") from None

    def write(self, folder: Path) -> None:
        """Write it whole, or not at all."""
        write_atomically(folder / RUN, self.model_dump_json(indent=1).encode())


class RunSummary(NamedTuple):
    """What a run gave."""

    lines: list[str]
    """The lines that a reader wants first."""
    report: Path
    """The report."""
    folder: Path
    """The folder of the ledger."""
    cases: int
    """Records in the ledger."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"headline": self.lines, "report": str(self.report), "ledger": str(self.folder), "cases": self.cases}


def run_audit(config: AuditConfig, keys_folder: Path | None = None) -> RunSummary:
    """Audit every case that the ledger does not hold yet, then write the report.

    Every case is encoded before the first is decided, so that bad input is known before time is spent. Whatever stops
    the run, the cases that were finished are in the ledger, and the ledger verifies.

    Raises:
        InputError: cases, template, settings or folder cannot be used.
        ModelError: the model cannot be loaded, or gave NaN on a case.
        RecordError: the ledger in the folder is broken, or the disk is full.
    """
    template = Template(config.template_text(), absent=config.absent, missing=config.missing)
    cases = read_cases(config.cases, id_column=config.id_column, columns=template.fields)
    config.check_names(template.fields, list(cases[0].values))
    wordings = Wordings(tables=config.wordings)
    for case in cases:
        wordings.words(case, template.fields)
    wanted = cases[: config.limit]
    keys = open_keys(keys_folder)
    with Ledger.open(config.out, keys.signer) as ledger:
        run = _run_file(config, template, ledger)
        model = loaded(config)
        audited = _audited(model, template, wordings, config, keys, cases, run.identity)
        for case in wanted:
            audited.model.encode(audited.prompt(case))
        todo = _todo(ledger, audited, wanted)
        with PeakMemory() as memory:
            _work(ledger, audited, todo, len(wanted), config)
        records = list(ledger.records())
        run = _finished(run, audited, records, cases, memory)
        run.write(config.out)
    report = write_report(config.out)
    return RunSummary(headline(run.config, records, run.performance, config.out), report, config.out, len(records))


def loaded(config: AuditConfig) -> CausalLM | TextClassifier:
    """The model that the settings name. Raises InputError where it reads no text."""
    model = load(config.model, device=config.device or "cpu", dtype=config.dtype)
    if not isinstance(model, CausalLM | TextClassifier):
        raise InputError(f"an audit asks models of text, and {config.model!r} reads {model.modality}.")
    return model


def write_report(folder: Path) -> Path:
    """Draw the report anew from the ledger and the run file alone."""
    run = RunFile.read(folder)
    records = list(read_records(folder))
    if not records:
        raise InputError(f"the ledger in {str(folder)!r} holds no record yet, so there is nothing to report.")
    view = run_view(run.config, run.template, records, run.hardware, run.performance, run.outcomes, folder)
    write_atomically(folder / REPORT, run_page(view).encode())
    return folder / REPORT


def _run_file(config: AuditConfig, template: Template, ledger: Ledger) -> RunFile:
    """The run file of the folder: a new one, or that of the run that is to go on."""
    identity = config.identity()
    if (config.out / RUN).exists():
        run = RunFile.read(config.out)
        if run.identity != identity:
            raise InputError(
                f"{str(config.out)!r} holds an audit with other settings; give another folder with --out, or the "
                f"settings that stand in its {RUN}."
            )
        return run.model_copy(update={"config": config})
    if ledger.count:
        raise InputError(f"{str(config.out)!r} holds a ledger without {RUN}; give another folder with --out.")
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    run = RunFile(created=created, identity=identity, config=config, template=template.text)
    run.write(config.out)
    return run


def _audited(
    model: CausalLM | TextClassifier,
    template: Template,
    wordings: Wordings,
    config: AuditConfig,
    keys: Keys,
    cases: Sequence[Case],
    run: str,
) -> Audited:
    search = None
    if config.choices and config.counterfactual.max_changes:
        values = {field: [case.values[field] for case in cases] for field in template.fields}
        search = FlipSearch(model, template, config.choices, values, wordings, config.counterfactual)
    return Audited(model, template, wordings, config, keys.site, environment_of(model), search, run)


def _todo(ledger: Ledger, audited: Audited, wanted: Sequence[Case]) -> list[Case]:
    """The cases that are not in the ledger. Raises InputError where a record is of another case or another model."""
    by_name = {case.id: case for case in wanted}
    weights = audited.model.fingerprint().weights
    done = set()
    for record in ledger.records():
        name = record.input.case
        if record.model.weights != weights:
            raise InputError(
                f"the ledger's record of case {name!r} is of another model; give another folder with --out."
            )
        if name in by_name:
            text = audited.prompt(by_name[name]).text
            if record.input.digest != audited.site.digest(text, name):
                raise InputError(
                    f"case {name!r} is recorded already, with another text; give another folder with --out."
                )
            done.add(name)
    return [case for case in wanted if case.id not in done]


def _work(ledger: Ledger, audited: Audited, todo: Sequence[Case], total: int, config: AuditConfig) -> None:
    with _display(total - len(todo), total) as show, hidden():
        for case in todo:
            show(case.id, 0)
            level = "full" if ledger.count < config.full_checks_on else config.checks
            record = audited.record(case, level)
            ledger.append(record if config.store_text else record.redact())
            show(case.id, 1)


@contextmanager
def _display(done: int, total: int) -> Iterator[Any]:
    """A bar on standard error: which case, how many of how many, how long still."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("Auditing {task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=is_hidden()) as bar:
        task = bar.add_task("cases", total=total, completed=done)
        yield lambda name, steps: bar.update(task, description=f"case {name[:40]}", advance=steps)


def _finished(
    run: RunFile, audited: Audited, records: Sequence[DecisionRecord], cases: Sequence[Case], memory: PeakMemory
) -> RunFile:
    outcomes = _outcomes(audited.config, cases)
    found = [outcomes.get(record.input.case) for record in records]
    rows = [[p or 0.0 for p in record.decision.probabilities] for record in records]
    options = audited.config.choices or ()
    judged = performance(np.array(rows, dtype=np.float64), options, found) if any(found) and records else None
    stored = {name: outcome for name, outcome in outcomes.items() if audited.config.store_text}
    hardware = _hardware(audited, records, memory)
    return run.model_copy(update={"hardware": hardware, "performance": judged, "outcomes": stored})


def _outcomes(config: AuditConfig, cases: Sequence[Case]) -> dict[str, str]:
    """The option that would have been right, for each case whose outcome is known."""
    if config.outcome is None:
        return {}
    column, options = config.outcome.column, config.outcome.options
    found = {case.id: options.get(case.values[column] or "") for case in cases}
    return {name: option for name, option in found.items() if option is not None}


def _hardware(audited: Audited, records: Sequence[DecisionRecord], memory: PeakMemory) -> HardwareProfile:
    model = audited.model
    parameters = list(model.module.parameters())
    explanations = [attribution.cost.seconds for record in records for attribution in record.attributions[:1]]
    rates = [record.cost.tokens / record.cost.seconds for record in records if record.cost.seconds]
    return HardwareProfile(
        machine=read_machine(),
        model=model.name,
        parameters=sum(each.numel() for each in parameters),
        model_memory_bytes=sum(each.numel() * each.element_size() for each in parameters),
        model_disk_bytes=model.disk_bytes or None,
        load_seconds=model.load_seconds or None,
        dtype=str(model.dtype).removeprefix("torch."),
        device=model.device.type,
        decision=Latency.of([record.decision.seconds for record in records]),
        explanation=Latency.of(explanations),
        tokens_per_second=statistics.median(rates) if rates else None,
        peak_memory_bytes=memory.peak_bytes,
        peak_above_model_bytes=memory.above_bytes,
        peak_gpu_bytes=memory.gpu_bytes,
    )
