"""The ``pellucid`` program: its global options and its commands."""

import io
import os
import sys
from typing import Annotated

import typer

from pellucid._version import __version__
from pellucid.cli import audit, benchmark, composites, explain, learn, methods, metrics, models, sae, trace
from pellucid.cli.failures import DEBUG, QUIET, Shell
from pellucid.cli.output import line

app = typer.Typer(
    cls=Shell,
    name="pellucid",
    help="See why a model said what it said, and prove it.",
    epilog="Exit codes: 0 done, 1 a check does not hold, 2 unusable input, 3 the model cannot answer, "
    "4 a file cannot be read or written, 70 unexpected, 130 interrupted.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("explain")(explain.explain)
app.command("trace")(trace.trace)
app.command("methods")(methods.methods)
app.command("composites")(composites.composites)
app.command("metrics")(metrics.metrics)
app.command("models")(models.models)
app.command("cite")(benchmark.cite)
app.add_typer(audit.app, name="audit")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(learn.app, name="learn")
app.add_typer(sae.app, name="sae")


def _version(wanted: bool) -> bool:
    if wanted:
        line(f"pellucid {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error, and every warning.")] = False,
    quiet: Annotated[bool, typer.Option(*QUIET, help="Show no progress and no notices.")] = False,
) -> None:
    """See why a model said what it said, and prove it."""
    # The options are declared for parsing and help; ``Shell`` acts on them, because it stands around the parsing too.


def main() -> None:
    """The console script. Ends the process with one of the documented exit codes."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character must not end the run.
            stream.reconfigure(errors="backslashreplace")
    app()
