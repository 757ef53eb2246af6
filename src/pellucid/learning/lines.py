"""Reading text and JSON, with errors that name the file and the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails

from pellucid.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without its byte order mark. Raises InputError where it cannot be read."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{str(path)!r} is not UTF-8: see byte {error.start}; convert it, for example by iconv."
        ) from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank."""
    # Only a line feed ends a line: U+2028 and its like may stand in a string.
    for number, text in enumerate(read_text(path).split("\n"), 1):
        if text.strip():
            yield number, text


def parse_json(text: str, place: str) -> Any:
    """A JSON document. Raises InputError, naming ``place``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON: {error}.") from None


def read_objects(path: Path, kind: type[Model]) -> Iterator[tuple[int, str, Model]]:
    """(line number, place, object) of each line of a JSONL file. Raises InputError for a line of another form."""
    for number, text in read_lines(path):
        place = f"line {number} of {str(path)!r}"
        yield number, place, checked(kind, parse_json(text, place), place)


def checked(kind: type[Model], document: object, place: str) -> Model:
    """A document as what it should be. Raises InputError, naming ``place`` and the first field that is wrong."""
    if not isinstance(document, dict):
        raise InputError(f"{place} must hold an object, {{name: value}}, and holds {document!r:.40}.")
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        # A list of the wrong things has as many errors as things, and they all say the same.
        first = error.errors(include_url=False)[0]
        details = InitErrorDetails(type=first["type"], loc=first["loc"], input=first["input"], ctx=first.get("ctx", {}))
        raise InputError.from_validation(place, ValidationError.from_exception_data(error.title, [details])) from None
