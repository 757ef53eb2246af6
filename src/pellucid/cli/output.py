"""What commands write: results to standard output, notices to standard error, files whole or not at all."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pellucid.errors import InputError
from pellucid.progress import hidden

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPED_WIDTH = 120
"""Columns of a table that goes to a file or another program."""
STANDARD_OUTPUT = "standard output"
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


class ReaderGoneError(Exception):
    """Whoever read the output stopped reading. No ``OSError``: typer gives those an exit code of its own."""


@contextmanager
def quietly() -> Iterator[None]:
    """No progress and no notices inside; results and errors only."""
    token = _quiet.set(True)
    try:
        with hidden():
            yield
    finally:
        _quiet.reset(token)


def visible(text: str) -> str:
    """A line of text in which control and direction characters are written out, so that they change no terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def line(text: str) -> None:
    """Print one line of a result."""
    with naming(STANDARD_OUTPUT):
        typer.echo(visible(text))


def document(value: Any) -> None:
    """Print one JSON document, in ASCII so that every terminal and every reader takes it."""
    with naming(STANDARD_OUTPUT):
        typer.echo(json.dumps(value, indent=1, allow_nan=False))


def drawn(renderable: "RenderableType") -> None:
    """Print something that rich can draw: in colour on a terminal, plain elsewhere."""
    from rich.console import Console

    fixed = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=PIPED_WIDTH if fixed else None)
    # Captured, because rich would end the process by itself where the reader of a pipe has gone.
    with console.capture() as capture:
        console.print(renderable)
    with naming(STANDARD_OUTPUT):
        typer.echo(capture.get(), nl=False, color=True)


def notice(text: str) -> None:
    """Tell something on standard error that is no result, unless ``--quiet`` was given."""
    if not _quiet.get():
        typer.echo(visible(text), err=True)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give an ``OSError`` the name that the person knows, in place of none or of a temporary file's."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def require_folder_of(path: Path | None) -> None:
    """Refuse a file to be written whose folder is not there, before any work is done for it."""
    if path is not None and not path.parent.is_dir():
        raise InputError(f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}; make it first.")
