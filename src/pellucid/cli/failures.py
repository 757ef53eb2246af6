"""Every failure as one sentence on standard error and a documented exit code."""

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from itertools import takewhile
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from pellucid.cli.output import STANDARD_OUTPUT, ReaderGoneError, quietly, visible
from pellucid.errors import InputError, PellucidError

DEBUG = "--debug"
QUIET = ("--quiet", "-q")


class ExitCode(IntEnum):
    """The exit codes that are not those of a ``PellucidError``."""

    MODEL = 3
    """The model cannot answer: here, for lack of memory."""
    FILE = 4
    """A file or stream cannot be read or written."""
    UNEXPECTED = 70
    """A mistake in pellucid or in what it builds on."""
    INTERRUPTED = 130
    """Ctrl-C."""
    READER_GONE = 141
    """Whoever read the output stopped reading, as ``head`` does."""


class Failure(NamedTuple):
    """What is told of an exception."""

    sentence: str
    """One sentence for a person."""
    exit_code: int
    """What the process ends with."""


def failure(error: BaseException) -> Failure:
    """What to tell of an exception, whatever it is."""
    if isinstance(error, PellucidError):
        return Failure(str(error), error.exit_code)
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Failure("interrupted; whatever was finished before is kept.", ExitCode.INTERRUPTED)
    if _is_out_of_memory(error):
        advice = "use a smaller model, a shorter text, fewer samples, or --dtype bfloat16."
        return Failure(f"the memory is used up; {advice}", ExitCode.MODEL)
    if isinstance(error, OSError):
        return _file(error)
    if "pydantic" in sys.modules:
        from pydantic import ValidationError

        if isinstance(error, ValidationError):
            return failure(InputError.from_validation(error.title, error))
    name = type(error).__name__
    return Failure(f"unexpected {name}: {error}; run with --debug to see where.", ExitCode.UNEXPECTED)


def _usage(error: typer.TyperException) -> Failure:
    message = str(getattr(error, "format_message", error.__str__)()).strip()
    context = getattr(error, "ctx", None)
    advice = f" See: {context.command_path} --help" if context is not None else ""
    return Failure(f"{message.rstrip('.')}.{advice}", getattr(error, "exit_code", InputError.exit_code))


def _file(error: OSError) -> Failure:
    place = repr(str(error.filename)) if error.filename is not None else "a file"
    reason = error.strerror or str(error) or type(error).__name__
    return Failure(f"{place} cannot be read or written: {reason}.", ExitCode.FILE)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules or not isinstance(error, RuntimeError):
        return False
    from torch import OutOfMemoryError

    # On the CPU torch has no class of its own for it.
    return isinstance(error, OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def told(debug: bool) -> Iterator[None]:
    """Tell any failure in one sentence, after its traceback where ``debug`` asks for it, and end the process."""
    try:
        yield
        sys.stdout.flush()
    except (SystemExit, typer.Exit):
        raise
    except (BrokenPipeError, ReaderGoneError):
        _leave_standard_output()
        raise SystemExit(ExitCode.READER_GONE) from None
    except BaseException as error:
        if debug:
            traceback.print_exception(error)
        sentence, code = failure(error)
        if getattr(error, "filename", None) == STANDARD_OUTPUT:
            _leave_standard_output()
        typer.echo(f"Error: {visible(' '.join(sentence.split()))}", err=True)
        raise SystemExit(code) from None


def _leave_standard_output() -> None:
    """Let what is still in its buffer go nowhere: Python writes it once more at the end, and would complain."""
    try:
        number = sys.stdout.fileno()
    except OSError:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


class Shell(TyperGroup):
    """The outermost group of commands: no exception leaves it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the context names. Raises Abort on Ctrl-C, which typer would end without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, or show the help where none is named, and end the process with its exit code."""
        words = list(sys.argv[1:] if args is None else args) or ["--help"]
        everywhere = set(takewhile(lambda word: word.startswith("-"), words))
        debug = DEBUG in everywhere
        with told(debug), _calmly(debug, quiet=not everywhere.isdisjoint(QUIET)):
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        raise SystemExit(code if isinstance(code, int) else 0)


@contextmanager
def _calmly(debug: bool, quiet: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if not debug:
            # Deprecations inside other libraries are no news for who runs a command.
            stack.enter_context(warnings.catch_warnings(action="ignore"))
        if quiet:
            stack.enter_context(quietly())
        yield
