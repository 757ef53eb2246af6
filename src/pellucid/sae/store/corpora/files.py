"""Corpora in files: plain text, a folder of texts, JSON lines, Parquet."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import InputError
from pellucid.sae.store.corpora.base import AbstractCorpus, Document
from pellucid.sae.store.corpora.rows import Fields, document

LONGEST = 1_000_000
"""Characters after which a text file is cut at the next line break, so that no file need fit into memory."""
BLANK_LINES = 2
"""Blank lines, one after another, that end a document."""
FORM_FEED = "\f"
ENDINGS = (".jsonl", ".ndjson", ".parquet", ".txt")


class TextFile(AbstractCorpus):
    """A text whose documents end at a form feed, or at two or more blank lines; a long one is cut at a line break."""

    def __init__(self, path: Path) -> None:
        self.path, self.source = path, str(path)

    def documents(self) -> Iterator[Document]:
        for number, text in enumerate(_divided(_lines(self.path))):
            yield Document(f"{self.path.name}:{number}", text)


class Folder(AbstractCorpus):
    """A folder of files, in the order of their names; of each .txt, whatever is in it is one document."""

    def __init__(self, path: Path, fields: Fields) -> None:
        self.path, self.source, self._fields = path, str(path), fields
        found = sorted(each for each in path.rglob("*") if each.suffix in ENDINGS and each.is_file())
        kinds = {each.suffix for each in found}
        if len(kinds) != 1:
            came = f"files of {', '.join(sorted(kinds))}" if kinds else "none of them"
            raise InputError(f"the folder {str(path)!r} must hold files of one ending of {', '.join(ENDINGS)}: {came}.")
        self._files = found

    def documents(self) -> Iterator[Document]:
        for each in self._files:
            name = each.relative_to(self.path).as_posix()
            if each.suffix == ".txt":
                text = "".join(_lines(each)).strip()
                yield from [Document(name, text)] if text else []
            else:
                part = of_file(each, self._fields)
                yield from (one._replace(id=f"{name}:{one.id}") for one in part.documents())


class JsonLines(AbstractCorpus):
    """One JSON object a line."""

    def __init__(self, path: Path, fields: Fields) -> None:
        self.path, self.source, self._fields = path, str(path), fields

    def documents(self) -> Iterator[Document]:
        for number, line in enumerate(_lines(self.path), 1):
            if not line.strip():
                continue
            place = f"line {number} of {str(self.path)!r}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{place} is not JSON: {error}.") from None
            yield document(row, number, self._fields, self.path.parent, place)


class ParquetFile(AbstractCorpus):
    """The rows of a Parquet file."""

    def __init__(self, path: Path, fields: Fields, source: str = "") -> None:
        self.path, self.source, self._fields = path, source or str(path), fields

    def documents(self) -> Iterator[Document]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=64):
                    for row in batch.to_pylist():
                        place = f"row {number} of {str(self.path)!r}"
                        yield document(row, number, self._fields, self.path.parent, place)
                        number += 1
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{str(self.path)!r} cannot be read as Parquet: {str(error).splitlines()[0]}.") from None


class Given(AbstractCorpus):
    """Texts or rows from memory."""

    source = "memory"

    def __init__(self, rows: Sequence[str | Mapping[str, Any]], fields: Fields) -> None:
        self._rows, self._fields = rows, fields

    def documents(self) -> Iterator[Document]:
        for number, row in enumerate(self._rows):
            given = {self._fields.text: row} if isinstance(row, str) else row
            yield document(given, number, self._fields, Path(), f"document {number}")


def of_file(path: Path, fields: Fields) -> AbstractCorpus:
    """The corpus in a file or a folder. Raises InputError where there is none, or of an ending that is not known."""
    if path.is_dir():
        return Folder(path, fields)
    if not path.is_file():
        raise InputError(f"there is no corpus {str(path)!r}: no built-in name, file or folder is called that.")
    if path.suffix == ".txt":
        return TextFile(path)
    if path.suffix in (".jsonl", ".ndjson"):
        return JsonLines(path, fields)
    if path.suffix == ".parquet":
        return ParquetFile(path, fields)
    raise InputError(f"a corpus is a file of {', '.join(ENDINGS)} or a folder of them, and {str(path)!r} is neither.")


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from (line.replace("\r\n", "\n") for line in file)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 ({error.reason}); convert it, for example by iconv.") from None


def _divided(lines: Iterator[str]) -> Iterator[str]:
    """The documents of a text, read line by line."""
    kept: list[str] = []
    length, blank = 0, 0
    for line in lines:
        *pages, rest = line.split(FORM_FEED)
        for page in pages:
            yield from _text([*kept, page])
            kept, length = [], 0
        blank = 0 if line.strip() else blank + 1
        kept.append(rest)
        length += len(rest)
        if blank >= BLANK_LINES or length >= LONGEST:
            yield from _text(kept)
            kept, length = [], 0
    yield from _text(kept)


def _text(lines: list[str]) -> list[str]:
    text = "".join(lines).strip()
    return [text] if text else []
