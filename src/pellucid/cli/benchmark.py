"""``pellucid benchmark``: which explanation to believe, for a model and its data."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli import options, output
from pellucid.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pellucid.report.leaderboard import Board, MetricTable

app = typer.Typer(
    help="Rank methods of explanation on a task: which one to believe, for this model and this data.",
    rich_markup_mode="rich",
)
# Like those of ``options`` they stand here because completion must not wait for torch.
TASKS = (
    "acceptability",
    "chest-xray",
    "clinical-choice",
    "context-questions",
    "credit",
    "credit-boosting",
    "fashion-cnn",
    "fashion-vit",
    "gbsg2",
    "gbsg2-boosting",
    "gbsg2-choice",
    "hatexplain",
    "imagenet",
    "shapes",
    "sst2",
    "sst2-lstm",
    "sst2-tiny",
    "wisconsin",
    "wisconsin-boosting",
)
"""The tasks that are known by name."""
LEADERBOARD = "leaderboard"
"""Name of the report's files, less the ending."""


def _tasks(incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in TASKS if name.startswith(last)]


def _methods(incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    known = ["all", "pellucid", "peers", *options.method_names()]
    return [f"{before}{comma}{name}" for name in known if name.startswith(last)]


Names = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="A,B",
        help="Tasks by name (see: pellucid benchmark tasks), or .yaml files of your own.",
        autocompletion=_tasks,
    ),
]
Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where results go; a stopped run goes on there.")]
Results = Annotated[Path, typer.Argument(metavar="DIR", help="The results' folder.")]
Methods = Annotated[
    str,
    typer.Option(
        metavar="A,B|all",
        help="Methods, peers such as captum:lime, families, or all, pellucid, peers.",
        autocompletion=_methods,
    ),
]
Metrics = Annotated[str, typer.Option(metavar="A,B|default|all", help="Metrics, families of them, default or all.")]
Money = Annotated[
    str, typer.Option(metavar="10m|5000rows|none", help="Time or rows of the network, for each task of this session.")
]
MostRows = Annotated[
    int | None,
    typer.Option(
        "--rows", min=4, help="Rows that a method that draws may spend on an input.", show_default="50 + 4 a feature"
    ),
]
Steps = Annotated[int, typer.Option(min=1, help="Points of the removal curves beside their start.")]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds of the methods that draw.")]
Most = Annotated[int | None, typer.Option("--cases", min=1, help="The most inputs.", show_default="all")]
Tuning = Annotated[
    int, typer.Option("--tune", min=0, help="Inputs of another split on which settings are chosen; 0: none are.")
]
Curves = Annotated[int, typer.Option("--curves", min=0, help="Inputs on which quality against rows is measured.")]
Part = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Only every Nth input, from the Ith on (1/4 ... 4/4).")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", envvar="PELLUCID_DATA", help="The folder of a task's data, for all inputs."),
]


@app.command("run")
def run(
    task: Names,
    out: Folder,
    methods: Methods = "all",
    metrics: Metrics = "default",
    budget: Money = "10m",
    rows: MostRows = None,
    steps: Steps = 10,
    seeds: Seeds = 3,
    cases: Most = None,
    tune: Tuning = 10,
    curves: Curves = 10,
    shard: Part = None,
    data: Data = None,
    as_json: options.AsJson = False,
) -> None:
    """Score every method under every metric on the inputs of a task, and write the leaderboard. A stopped run goes on.

    Example: pellucid benchmark run --task sst2 --methods all --budget 10m --out results
    """
    from pellucid.benchmark.budget import Budget
    from pellucid.benchmark.preparing import Settings
    from pellucid.benchmark.runner import run as run_task
    from pellucid.benchmark.tasks import find_task

    settings = Settings(
        methods=methods,
        metrics=metrics,
        budget=Budget.parse(budget),
        rows=rows,
        steps=steps,
        seeds=seeds,
        cases=cases,
        tuning=tune,
        curves=curves,
        shard=_part(shard),
    )
    found = [find_task(name.strip(), data) for name in task.split(",")]
    outcomes = []
    for each in found:
        outcome = run_task(each, out / each.name, settings, partial(_told, each.name))
        outcomes.append(outcome)
        if not as_json:
            output.line(f"{each.name}: {outcome.sentence}")
    if as_json:
        output.document([{**each._asdict(), "folder": str(each.folder)} for each in outcomes])
        return
    written = write_report(out)
    output.line(f"Leaderboard: {written[0]}")


@app.command("report")
def report(
    folder: Results,
    html: options.Html = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every standing as CSV.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write the leaderboard of results as one HTML page, as Markdown and as CSV, and show its first table.

    Example: pellucid benchmark report results
    """
    from dataclasses import asdict

    from pellucid.benchmark.board import read_boards

    for path in (html, markdown, csv):
        output.require_folder_of(path)
    boards = read_boards(folder)
    written = write_report(folder, html, markdown, csv)
    if as_json:
        output.document([_finite(asdict(each)) for each in boards])
        return
    for board in boards:
        _show(board)
    for path in written:
        output.line(f"Wrote {path}")


@app.command("query")
def query(
    folder: Results,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT.")],
    as_json: options.AsJson = False,
) -> None:
    """Answer a SELECT over the results: scores, costs, attributions, failures, curves, cases.

    Example: pellucid benchmark query results "SELECT entrant, avg(score) FROM scores GROUP BY entrant"
    """
    from rich.table import Table
    from rich.text import Text

    from pellucid.benchmark.query import query as answer
    from pellucid.benchmark.query import records

    found = answer(folder, sql)
    if as_json:
        output.document([_finite(each) for each in records(found)])
        return
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for name in found.columns:
        drawn.add_column(Text(name))
    for row in found.rows:
        drawn.add_row(
            *(Text("" if each is None else f"{each:.6g}" if isinstance(each, float) else str(each)) for each in row)
        )
    output.drawn(drawn)


@app.command("tasks")
def tasks(as_json: options.AsJson = False) -> None:
    """List the tasks that are known by name, and what each needs.

    Example: pellucid benchmark tasks
    """
    from rich.table import Table
    from rich.text import Text

    from pellucid.benchmark.tasks import find_task, task_names
    from pellucid.errors import PellucidError

    found: list[dict[str, str]] = []
    for name in task_names():
        try:
            each = find_task(name)
        except PellucidError as error:
            found.append({"name": name, "model": "", "features": "", "title": str(error), "licence": ""})
            continue
        known = {"name": name, "model": each.model, "features": each.features, "title": each.title}
        found.append(known | {"licence": each.licence})
    if as_json:
        output.document(found)
        return
    drawn = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("name", "model", "features", "title", "licence"):
        drawn.add_column(heading, overflow="fold", no_wrap=heading in ("name", "model"))
    for row in found:
        drawn.add_row(*(Text(value) for value in row.values()))
    output.drawn(drawn)


def cite(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...|DIR", help="Methods and metrics, or a folder of benchmark results.")
    ],
) -> None:
    """Print the BibTeX entries of methods, metrics and peers, or of all that took part in a benchmark.

    Example: pellucid cite attnlrp kernel_shap srg
    """
    from pellucid.benchmark.citing import citations, taking_part

    known = [each for name in names for each in (taking_part(Path(name)) if Path(name).is_dir() else [name])]
    with output.naming(output.STANDARD_OUTPUT):
        typer.echo(citations(known), nl=False)


def write_report(
    folder: Path, html: Path | None = None, markdown: Path | None = None, csv: Path | None = None
) -> list[Path]:
    """Write what was asked for; where nothing was, all three into the results' folder."""
    from pellucid.benchmark.board import read_boards
    from pellucid.benchmark.citing import citations, taking_part
    from pellucid.benchmark.csv_output import board_csv
    from pellucid.benchmark.markdown import board_markdown
    from pellucid.files import write_atomically
    from pellucid.report import leaderboard_page

    if html is None and markdown is None and csv is None:
        html, markdown, csv = (folder / f"{LEADERBOARD}.{ending}" for ending in ("html", "md", "csv"))
    boards = read_boards(folder)
    made: dict[Path | None, Callable[[], str]] = {
        html: lambda: leaderboard_page(boards, citations(taking_part(folder))),
        markdown: lambda: "\n".join(board_markdown(each) for each in boards),
        csv: lambda: board_csv(boards),
    }
    written = []
    for path, make in made.items():
        if path is not None:
            with output.naming(path):
                write_atomically(path, make().encode())
            written.append(path)
    return written


def _told(task: str, said: str) -> None:
    output.notice(f"{task}: {said}")


def _part(text: str | None) -> tuple[int, int]:
    """``2/4`` as (1, 4)."""
    if text is None:
        return 0, 1
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise InputError(f"--shard is {text!r}; write the part and the number of parts, such as 1/4.")
    return int(part) - 1, int(parts)


def _finite(value: Any) -> Any:
    """The same for JSON, in which there is no NaN, and no date or the like either: those become text."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def _show(board: "Board") -> None:
    """What a board says first, in the terminal."""
    output.line(f"{board.task}: {board.title} ({board.model}, {board.features}, {board.target})")
    for note in board.notes:
        output.line(f"  {note}")
    table = next((each for each in board.tables if each.valid and each.standings), None)
    if table is not None:
        output.drawn(_standings(board, table))


def _standings(board: "Board", table: "MetricTable") -> "Table":
    from rich.table import Table
    from rich.text import Text

    prices = {each.entrant: each for each in board.prices}
    drawn = Table(box=None, padding=(0, 1), header_style="bold", title=Text(table.name), title_justify="left")
    for heading in (
        "rank",
        "entrant",
        "mean",
        "95 % interval",
        "0 random, 1 oracle",
        "p to the best",
        "rows",
        "seconds",
    ):
        drawn.add_column(heading, justify="left" if heading == "entrant" else "right", no_wrap=True)
    for each in table.standings:
        price = prices.get(each.entrant)
        cells = (
            _number(each.rank, "g"),
            each.entrant,
            f"{each.mean:.3g}",
            f"{each.low:.3g} to {each.high:.3g}",
            _number(each.normalised, ".2f"),
            _number(each.p_value, ".2g"),
            _number(None if price is None else price.rows, ".0f"),
            _number(None if price is None else price.seconds, ".2g"),
        )
        drawn.add_row(*(Text(cell) for cell in cells))
    return drawn


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
