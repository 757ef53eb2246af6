"""Cases from a table: every cell is text, exactly as it was written, and a missing value is None."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import Field, model_validator

from pellucid.errors import InputError, UnknownNameError
from pellucid.records import Record

Row = Mapping[str, str | None]
DEFAULT = "*"


class Case(Record):
    """One input of an audit."""

    id: str
    """What the id column says, or the row's number."""
    row: int
    """Position in the file, from 1, the header not counted."""
    values: dict[str, str | None]
    """Every column of the row, as text; None where the cell is empty, blank or null."""


class Wordings(Record):
    """What a template says for the values of a column, such as ``2`` -> ``moderately differentiated``."""

    tables: dict[str, dict[str, str]] = Field(default={})
    """For each column a table from value to wording; ``*`` stands for every other value. Columns without one are said
    as they are written."""

    @model_validator(mode="after")
    def _no_empty_wording(self) -> "Wordings":
        for column, table in self.tables.items():
            if not table:
                raise ValueError(f"the wordings of column {column!r} are empty; remove the table or fill it")
            for value, wording in table.items():
                if not wording.strip():
                    raise ValueError(f"the wording of {value!r} in column {column!r} is empty")
        return self

    def word(self, column: str, value: str | None, place: str = "") -> str | None:
        """The wording of a value; None for a missing one, which the template words itself.

        Raises InputError, naming ``place``, where the column has a table in which the value does not stand.
        """
        table = self.tables.get(column)
        if value is None or table is None:
            return value
        if value not in table and DEFAULT not in table:
            known = ", ".join(repr(each) for each in table)
            where = f"{place}: " if place else ""
            raise InputError(
                f"{where}column {column!r} holds {_short(value)}, for which there is no wording; "
                f"there is one for {known}. Add it, or a wording for '*' that stands for every other value."
            )
        return table.get(value, table.get(DEFAULT))

    def words(self, case: Case, columns: Sequence[str]) -> dict[str, str | None]:
        """The wordings of a case, ready for a template with these placeholders."""
        place = f"case {case.id!r} (row {case.row})"
        return {column: self.word(column, case.values[column], place) for column in columns}


def read_cases(path: Path | str, *, id_column: str | None = None, columns: Sequence[str] = ()) -> list[Case]:
    """Read a ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file.

    ``columns`` are those that the template uses: they must be there, and a case in which all of them are missing is
    refused. A column that a line of JSON leaves out is missing there.

    Raises InputError, in one sentence with the place and the fix, for everything that cannot be read without guessing.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"cases are read from {', '.join(sorted(_READERS))} files, and {str(path)!r} is none of these."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the cases {str(path)!r} cannot be read: {error.strerror}.") from None
    if not content.strip():
        raise InputError(f"the file of cases {str(path)!r} is empty.")
    rows = reader(content, path)
    if not rows:
        raise InputError(f"there are no rows in {str(path)!r}.")
    known = list(rows[0])
    for column in [*columns, *([id_column] if id_column else [])]:
        if column not in known:
            raise UnknownNameError("column", column, known, f"They are the columns of {str(path)!r}.")
    cases = [_case(number, row, id_column, path) for number, row in enumerate(rows, 1)]
    _refuse_repeated_ids(cases, path)
    for case in cases:
        if columns and all(case.values[column] is None for column in columns):
            raise InputError(
                f"case {case.id!r} (row {case.row} of {str(path)!r}) is empty: {', '.join(columns)} are all missing; "
                "fill it or remove it."
            )
    return cases


def _case(number: int, row: Row, id_column: str | None, path: Path) -> Case:
    values = {
        column: _clean(value, f"row {number}, column {column!r} of {str(path)!r}") for column, value in row.items()
    }
    name = values[id_column] if id_column else str(number)
    if name is None:
        raise InputError(f"row {number} of {str(path)!r} has nothing in its id column {id_column!r}.")
    return Case(id=name, row=number, values=values)


def _clean(value: str | None, place: str) -> str | None:
    if value is None or not value.strip():
        return None
    if "\0" in value:
        raise InputError(f"{place} holds a NUL character at position {value.index(chr(0))}; remove it.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place} holds a lone surrogate at position {error.start}, which is no character.") from None
    return value


def _refuse_repeated_ids(cases: Sequence[Case], path: Path) -> None:
    seen: dict[str, int] = {}
    for case in cases:
        if case.id in seen:
            raise InputError(
                f"rows {seen[case.id]} and {case.row} of {str(path)!r} have the same id {_short(case.id)}; "
                "every case needs its own."
            )
        seen[case.id] = case.row


def _decoded(content: bytes, path: Path) -> str:
    """UTF-8 text, with or without its byte order mark."""
    for mark, encoding in ((b"\xff\xfe", "UTF-16LE"), (b"\xfe\xff", "UTF-16BE")):
        if content.startswith(mark):
            raise InputError(
                f"{str(path)!r} is written in {encoding}; convert it: "
                f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
            )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{str(path)!r} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} (line {line}) fits "
            f"no character; if it is Latin-1, convert it: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from None


def _check_columns(columns: Sequence[str], path: Path) -> None:
    for number, column in enumerate(columns, 1):
        if not column.strip():
            raise InputError(f"column {number} of {str(path)!r} has no name.")
        if column in columns[: number - 1]:
            raise InputError(f"the column {column!r} stands twice in {str(path)!r}; rename one of them.")


def _csv(content: bytes, path: Path, delimiter: str = ",") -> list[Row]:
    text = _decoded(content, path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"line {line} of {str(path)!r} holds a NUL character; remove it.")
    # The limit is a setting of the whole process: it is put back.
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        return list(
            _csv_rows(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), path, delimiter)
        )
    except csv.Error as error:
        raise InputError(f"{str(path)!r} is not well-formed: {error}.") from None
    finally:
        csv.field_size_limit(before)


def _csv_rows(reader: Iterator[list[str]], path: Path, delimiter: str) -> Iterator[Row]:
    header = next(reader)
    if len(header) == 1 and delimiter == "," and (";" in header[0] or "\t" in header[0]):
        other = "semicolons" if ";" in header[0] else "tabs"
        raise InputError(
            f"{str(path)!r} separates its columns by {other}; write it with commas (or tabs, as a .tsv file)."
        )
    _check_columns(header, path)
    blank = 0
    for number, row in enumerate(reader, 1):
        if not row:
            blank = blank or number
            continue
        if blank or len(row) != len(header):
            ragged, cells = (blank, 0) if blank else (number, len(row))
            raise InputError(
                f"row {ragged} of {str(path)!r} has {cells} cells and the header has {len(header)}; "
                "a cell that holds a separator must stand in double quotes."
            )
        yield dict(zip(header, row, strict=True))


def _tsv(content: bytes, path: Path) -> list[Row]:
    return _csv(content, path, "\t")


def _jsonl(content: bytes, path: Path) -> list[Row]:
    rows: list[dict[str, str | None]] = []
    # Only a line feed ends a line: U+2028 and its like may stand in a string.
    for line, text in enumerate(_decoded(content, path).split("\n"), 1):
        if text.strip():
            rows.append(_json_row(text, f"line {line} of {str(path)!r}"))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    _check_columns(columns, path)
    return [{column: row.get(column) for column in columns} for row in rows]


def _json_row(text: str, place: str) -> dict[str, str | None]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise ValueError(f"a name stands twice in {names}")
        return dict(pairs)

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON, write null for a missing value")

    try:
        row = json.loads(text, parse_int=str, parse_float=str, parse_constant=refuse, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} cannot be read: {error}.") from None
    if not isinstance(row, dict):
        raise InputError(f"{place} holds {type(row).__name__} where an object of columns must stand.")
    for column, value in row.items():
        if isinstance(value, list | dict):
            raise InputError(f"{place}: column {column!r} holds {_short(value)}; a cell is a text, a number, or null.")
    return {column: str(value).lower() if isinstance(value, bool) else value for column, value in row.items()}


def _parquet(content: bytes, path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{str(path)!r} is no Parquet file that can be read: {str(error).splitlines()[0]}.") from None
    _check_columns(table.column_names, path)
    texts: dict[str, list[str | None]] = {}
    for column in table.column_names:
        cells = table.column(column)
        if pa.types.is_floating(cells.type):
            cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
        try:
            texts[column] = cells.cast(pa.string()).to_pylist()
        except (pa.ArrowException, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"column {column!r} of {str(path)!r} cannot be read as text: {reason}.") from None
    return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


_READERS: dict[str, Callable[[bytes, Path], list[Row]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
    ".tsv": _tsv,
}
