"""What a model is given to read: texts, conversations, pictures with texts, from files or by name."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import InputError
from pellucid.sae.store.corpora.base import AbstractCorpus, Document, Message, Survey
from pellucid.sae.store.corpora.clinical import Clinosim, simulated
from pellucid.sae.store.corpora.files import Given, ParquetFile, of_file
from pellucid.sae.store.corpora.hub import HubCorpus
from pellucid.sae.store.corpora.rows import Fields

NAMES = ("clinosim", "sotu")
"""The corpora that are known by name."""
SOTU = Path(__file__).parent / "sotu.parquet"

Source = str | os.PathLike[str] | Sequence[str | Mapping[str, Any]] | AbstractCorpus


def read_corpus(source: Source, *, text_field: str = "text", image_field: str = "image") -> AbstractCorpus:
    """A corpus by what names it.

    Args:
        source: ``sotu`` (the 233 addresses on the State of the Union); ``clinosim`` (synthetic radiology reports, made
            by that package), ``clinosim:FOLDER`` or ``clinosim-notes:FOLDER`` (what it wrote before); ``hf:NAME`` or
            ``hf:NAME@SPLIT`` (by the package ``datasets``); a .txt, .jsonl or .parquet file or a folder of them; texts
            or rows in memory.
        text_field: the column of a table that holds the text. A column ``messages`` holds a conversation.
        image_field: the column that holds the path of a picture.

    Raises:
        InputError: there is no such corpus. MissingPackageError: a package that it needs is absent.
    """
    fields = Fields(text_field, image_field)
    if isinstance(source, AbstractCorpus):
        return source
    if not isinstance(source, str | os.PathLike):
        return Given(source, fields)
    name = os.fspath(source)
    kind, colon, rest = name.partition(":")
    if name == "sotu":
        return ParquetFile(SOTU, Fields(), "sotu")
    if name == "clinosim":
        return simulated()
    if colon and kind in ("clinosim", "clinosim-notes"):
        return Clinosim(Path(rest), notes=kind == "clinosim-notes", source=name)
    if colon and kind == "hf":
        return HubCorpus(rest, fields)
    if not name:
        raise InputError(f"a corpus is one of {', '.join(NAMES)}, a file or a folder, and no name was given.")
    return of_file(Path(name), fields)


__all__ = ["NAMES", "AbstractCorpus", "Document", "Message", "Source", "Survey", "read_corpus"]
