"""A corpus: documents that can be read as often as one likes, from the first to the last, one at a time."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from pellucid.records import Record

ROLES = ("system", "user", "assistant", "tool")
"""Who may speak in a conversation."""


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    """One of ``ROLES``."""
    content: str
    """What was said."""


class Document(NamedTuple):
    """A text, a conversation, or a picture with a text about it."""

    id: str
    """Its name in the corpus."""
    text: str = ""
    """The text; empty for a conversation."""
    messages: tuple[Message, ...] = ()
    """The turns of a conversation; empty for anything else."""
    image: Path | None = None
    """The picture that the text is about."""
    answer: str = ""
    """What the model is taken to have answered to a picture and a text."""

    @property
    def characters(self) -> int:
        """How many there are to read."""
        return len(self.text) + len(self.answer) + sum(len(each.content) for each in self.messages)


class Survey(Record):
    """What a corpus holds."""

    source: str
    """Where it was read from, as it was given."""
    documents: int = Field(ge=0)
    """How many."""
    characters: int = Field(ge=0)
    """In all of them."""
    digest: str
    """SHA-256 over all documents in their order; of a picture, its file's name and size."""


class AbstractCorpus(ABC):
    """Documents in an order that stays."""

    source: str
    """Where they are read from, as it was given."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """Every document, one at a time. Raises InputError where one cannot be read."""

    def survey(self) -> Survey:
        """Count and digest the documents, which reads all of them once."""
        digest, documents, characters = hashlib.sha256(), 0, 0
        for each in self.documents():
            picture = None if each.image is None else [each.image.name, each.image.stat().st_size]
            parts = [each.id, each.text, each.messages, picture, each.answer]
            digest.update(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            documents += 1
            characters += each.characters
        return Survey(source=self.source, documents=documents, characters=characters, digest=digest.hexdigest())
