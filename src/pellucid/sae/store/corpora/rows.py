"""A row of a table as a document: a text, a conversation, or a picture with a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import InputError, UnknownNameError
from pellucid.sae.store.corpora.base import ROLES, Document, Message

MESSAGES = "messages"
ANSWER = "answer"
IDENTITY = "id"


class Fields(NamedTuple):
    """The columns that hold what is read."""

    text: str = "text"
    """The text."""
    image: str = "image"
    """The path of a picture, from the folder of the file on; a row may have none."""


def document(row: Any, number: int, fields: Fields, folder: Path, place: str) -> Document:
    """A row as a document: ``messages`` where there are any, else the text, with its picture and answer.

    Raises InputError, which names ``place``, and UnknownNameError where there is no such column.
    """
    if not isinstance(row, Mapping):
        raise InputError(f"{place} is no object with columns, but {type(row).__name__}.")
    name = str(row.get(IDENTITY) if row.get(IDENTITY) is not None else number)
    if row.get(MESSAGES) is not None:
        return Document(name, messages=_messages(row[MESSAGES], place))
    if fields.text not in row:
        raise UnknownNameError(f"column of {place}", fields.text, row, "Name it with --text-field.")
    picture = row.get(fields.image)
    if not isinstance(picture, str | None):
        raise InputError(
            f"{place}: the column {fields.image!r} must hold the path of a picture, not {type(picture).__name__}; "
            "save the pictures as files first."
        )
    path = None if picture is None else folder / picture
    if path is not None and not path.is_file():
        raise InputError(f"{place}: there is no picture {str(path)!r}.")
    answer = row.get(ANSWER) if path is not None else None
    return Document(
        name, _text(row[fields.text], fields.text, place), image=path, answer=_text(answer or "", ANSWER, place)
    )


def _text(value: Any, column: str, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: {column!r} must be a text, not {type(value).__name__}.")
    return value


def _messages(given: Any, place: str) -> tuple[Message, ...]:
    found = []
    for each in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(each, Mapping) or not isinstance(each.get("content"), str):
            raise InputError(f"{place}: {MESSAGES!r} must be a list of {{'role': ..., 'content': text}}.")
        if each.get("role") not in ROLES:
            raise UnknownNameError(f"role in {place}", each.get("role"), ROLES)
        found.append(Message(str(each["role"]), each["content"]))
    if not found:
        raise InputError(f"{place}: the conversation has no messages.")
    return tuple(found)
