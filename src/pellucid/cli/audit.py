"""``pellucid audit``: cases to signed records, and what can be done with the records afterwards."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli import asking, options, output
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.audit.run import RunSummary

app = typer.Typer(
    help="Explain every decision on a table of cases, and sign a record of each.", rich_markup_mode="rich"
)

Cases = Annotated[Path | None, typer.Argument(metavar="CASES", help="CSV, TSV, JSONL or Parquet.", show_default=False)]
TemplateFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The text, with a {column} for every field.")]
Choices = Annotated[str | None, typer.Option(metavar="A,B", help="The answers to choose among.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Generate an answer so long, in place of a choice.")]
Expected = Annotated[str | None, typer.Option(metavar="A,B", help="Fields that should matter, the first the most.")]
Decoy = Annotated[str | None, typer.Option(metavar="A,B", help="Fields that must not matter.")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="The folder for the ledger and the report.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many cases.")]
ConfigFile = Annotated[Path | None, typer.Option(metavar="FILE", help="YAML or TOML; see: pellucid audit init.")]
IdColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column that names the cases.")]
OutcomeColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of what became of them.")]
Outcome = Annotated[
    list[str] | None,
    typer.Option(metavar="VALUE=CHOICE", help="The choice that a value of that column would have made right."),
]
Title = Annotated[str | None, typer.Option(help="The report's title.")]
StoreText = Annotated[
    bool | None, typer.Option("--store-text/--no-store-text", help="Whether records hold the patients' text.")
]
PublicKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A copy of the public key kept elsewhere.", show_default="the one beside the ledger"
    ),
]
CasesAgain = Annotated[Path | None, typer.Option(metavar="FILE", help="The cases, where records hold no text.")]
RecordId = Annotated[str | None, typer.Option(metavar="ID", help="Only this record.")]
NewConfig = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file.")]
DemoOut = Annotated[Path, typer.Option(metavar="DIR", help="The folder for the ledger and the report.")]


@app.command("run")
def run(
    cases: Cases = None,
    template: TemplateFile = None,
    choices: Choices = None,
    max_new_tokens: MaxNewTokens = None,
    expected: Expected = None,
    decoy: Decoy = None,
    model: options.MaybeModelName = None,
    method: options.MaybeMethodName = None,
    settings: options.Settings = None,
    baseline: options.Baseline = None,
    out: Out = None,
    limit: Limit = None,
    config: ConfigFile = None,
    id_column: IdColumn = None,
    outcome_column: OutcomeColumn = None,
    outcome: Outcome = None,
    checks: options.MaybeChecksLevel = None,
    seed: options.MaybeSeed = None,
    device: options.MaybeDevice = None,
    dtype: options.MaybeDtype = None,
    store_text: StoreText = None,
    title: Title = None,
    keys: options.Keys = None,
    as_json: options.AsJson = False,
) -> None:
    """Put cases to a model, explain every decision, sign a record of each, write the report. A killed run resumes.

    Example: pellucid audit run cases.csv --template prompt.txt --choices "low,high" --out audit-2026
    """
    from pellucid.audit.config import AuditConfig
    from pellucid.audit.run import run_audit

    given = _given(
        cases=cases, template_file=template, choices=choices, expected=expected, decoy=decoy, model=model,
        method=method, settings=asking.settings(settings) or None, imputer=baseline, out=out, limit=limit,
        id_column=id_column, outcome=_outcome(outcome_column, outcome), checks=checks, seed=seed, device=device,
        dtype=dtype, store_text=store_text, title=title, generate=max_new_tokens and {"max_new_tokens": max_new_tokens},
    )  # fmt: skip
    if config is None and not {"cases", "out"} <= given.keys():
        raise InputError("an audit needs CASES and --out DIR, or --config FILE; pellucid audit init writes one.")
    _summary(run_audit(AuditConfig.read(config, **given) if config else AuditConfig.of(**given), keys), as_json)


@app.command("demo")
def demo(out: DemoOut = Path("demo-out"), keys: options.Keys = None, as_json: options.AsJson = False) -> None:
    """Audit 20 breast-cancer cases with the embedded model. Everything comes with pellucid; nothing is downloaded.

    Example: pellucid audit demo --out demo-out
    """
    from pellucid.audit.config import AuditConfig
    from pellucid.audit.run import run_audit

    with as_file(files("pellucid.audit") / "gbsg2") as folder:
        _summary(run_audit(AuditConfig.read(folder / "audit.yaml", out=out), keys), as_json)


@app.command("verify")
def verify(folder: options.Ledger, public_key: PublicKey = None, as_json: options.AsJson = False) -> None:
    """Check every record and the signed head, offline. Ends with 1 where something does not hold.

    Example: pellucid audit verify audit-2026 --public-key /elsewhere/public_key.pem
    """
    from pellucid.audit import ledger

    found = ledger.verify(folder, public_key)
    if as_json:
        output.document(found.model_dump(mode="json") | {"sentence": found.sentence})
    else:
        notes = [f"Note: {note}" for note in found.notes]
        limits = [f"Not proven: {limit}" for limit in found.proves_not]
        _lines([found.sentence, *notes, *limits])
    if not found.ok:
        raise typer.Exit(1)


@app.command("replay")
def replay(
    folder: options.Ledger,
    cases: CasesAgain = None,
    record: RecordId = None,
    keys: options.Keys = None,
    as_json: options.AsJson = False,
) -> None:
    """Run records again and compare within the stated tolerance. Ends with 1 on a difference.

    Example: pellucid audit replay audit-2026 --cases cases.csv --record 7
    """
    from pellucid.audit.replay import replay as again

    found = again(folder, cases, record, keys)
    if as_json:
        output.document(found.to_json())
    else:
        _lines(found.lines)
    if not found.ok:
        raise typer.Exit(1)


@app.command("report")
def report(folder: options.Ledger, as_json: options.AsJson = False) -> None:
    """Write report.html again, from the ledger alone.

    Example: pellucid audit report audit-2026
    """
    from pellucid.audit.run import write_report

    path = write_report(folder)
    if as_json:
        output.document({"report": str(path)})
    else:
        output.line(f"Report: {path}")


@app.command("init")
def init(file: NewConfig = Path("audit.yaml"), force: Force = False) -> None:
    """Write a configuration with a sentence on every setting, to start from.

    Example: pellucid audit init audit.yaml
    """
    from pellucid.audit.config import commented_example
    from pellucid.files import write_atomically

    if file.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"the configuration is written as YAML; name it .yaml, not {str(file)!r}.")
    if file.exists() and not force:
        raise InputError(f"{str(file)!r} is there already; name another file, or overwrite it with --force.")
    output.require_folder_of(file)
    with output.naming(file):
        write_atomically(file, commented_example().encode())
    output.line(f"Wrote {file}; fill it in, then: pellucid audit run --config {file}")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _outcome(column: str | None, given: list[str] | None) -> dict[str, Any] | None:
    options = asking.pairs("--outcome", given)
    if bool(column) != bool(options):
        raise InputError("--outcome-column COLUMN and --outcome VALUE=CHOICE go together; one of them is missing.")
    return {"column": column, "options": options} if column else None


def _lines(lines: list[str]) -> None:
    for each in lines:
        output.line(each)


def _summary(summary: "RunSummary", as_json: bool) -> None:
    if as_json:
        output.document(summary.to_json())
    else:
        _lines([*summary.lines, f"Report: {summary.report}"])
