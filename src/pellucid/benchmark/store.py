"""Where the results of a benchmark lie: a manifest, and Parquet shards of a few cases each.

A folder holds ``run.json`` and, for each table, files named by the cases that they hold. A shard is written whole or
not at all, so that a run that was stopped goes on with the first case that has none.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.errors import InputError, RecordError
from pellucid.files import write_atomically

VERSION: Final = 1
"""Of the folder's form."""
MANIFEST = "run.json"
_WHO = [("case", pa.string()), ("entrant", pa.string()), ("kind", pa.string()), ("seed", pa.int32())]
SCHEMAS: Mapping[str, pa.Schema] = {
    "scores": pa.schema([*_WHO, ("cluster", pa.string()), ("metric", pa.string()), ("score", pa.float64())]),
    "costs": pa.schema(
        [
            *_WHO,
            ("rows", pa.int64()),
            ("backwards", pa.int64()),
            ("tokens", pa.int64()),
            ("seconds", pa.float64()),
            ("memory", pa.int64()),
        ]
    ),
    "attributions": pa.schema([*_WHO, ("values", pa.list_(pa.float64())), ("standard_error", pa.list_(pa.float64()))]),
    "failures": pa.schema([*_WHO, ("metric", pa.string()), ("error", pa.string()), ("sentence", pa.string())]),
    "curves": pa.schema([*_WHO, ("rows", pa.int64()), ("metric", pa.string()), ("score", pa.float64())]),
    "cases": pa.schema(
        [
            ("case", pa.string()),
            ("cluster", pa.string()),
            ("text", pa.string()),
            ("features", pa.list_(pa.string())),
            ("rationale", pa.list_(pa.bool_())),
            ("label", pa.string()),
            ("predicted", pa.string()),
            ("players", pa.int32()),
            ("imputer", pa.string()),
        ]
    ),
}
"""The tables; ``cases`` is written last and says which cases are done."""
Rows = dict[str, list[dict[str, Any]]]


def empty_rows() -> Rows:
    """A table of no rows for each schema."""
    return {name: [] for name in SCHEMAS}


class Store:
    """The results of one task in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, manifest: Mapping[str, Any], same: Iterable[str]) -> dict[str, Any]:
        """Write the manifest, or find that the folder holds the beginning of the same run, and return what is there.

        ``same``: the keys that make it the same run. Raises InputError where one differs, RecordError where the
        folder is of another version or broken.
        """
        if not (self.folder / MANIFEST).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.write_manifest(manifest)
            return dict(manifest)
        known = read_manifest(self.folder)
        for key in same:
            if known.get(key) != manifest[key]:
                what, held, asked = _difference(key, known.get(key), manifest[key])
                raise InputError(
                    f"{str(self.folder)!r} holds a run with other {what} ({held}, not {asked}); give the same, or "
                    "another folder."
                )
        return known

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write ``run.json``."""
        document = json.dumps({"version": VERSION, **manifest}, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(self.folder / MANIFEST, f"{document}\n".encode())

    def read(self) -> dict[str, Any]:
        """The manifest as it stands."""
        return read_manifest(self.folder)

    def done(self) -> set[str]:
        """The ids of the cases whose results are there. Raises RecordError where a shard cannot be read."""
        found: set[str] = set()
        for path in sorted((self.folder / "cases").glob("*.parquet")):
            try:
                found.update(pq.read_table(path, columns=["case"])["case"].to_pylist())
            except (OSError, pa.ArrowInvalid) as error:
                raise RecordError(
                    f"{str(path)!r} is no shard of results ({error}); remove it to run it again."
                ) from None
        return found

    def columns(self, table: str, *names: str) -> list[tuple[Any, ...]]:
        """Some columns of a table, row by row, of all cases whose results are whole."""
        files = shards([self.folder], table)
        found = [pq.read_table(path, columns=list(names)) for path in files] or [SCHEMAS[table].empty_table()]
        return list(zip(*(pa.concat_tables(found)[name].to_pylist() for name in names), strict=True))

    def write(self, name: str, rows: Rows) -> None:
        """Write one shard of every table that has rows, ``cases`` last."""
        for table, schema in SCHEMAS.items():
            if rows[table]:
                (self.folder / table).mkdir(exist_ok=True)
                content = BytesIO()
                pq.write_table(pa.Table.from_pylist(rows[table], schema=schema), content, compression="zstd")
                write_atomically(self.folder / table / f"{name}.parquet", content.getvalue())


def read_manifest(folder: Path) -> dict[str, Any]:
    """``run.json`` of a folder. Raises InputError without one, RecordError where it is broken or of another version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{str(folder)!r} holds no results of a benchmark ({MANIFEST} is missing).")
    try:
        document = json.loads(path.read_text("utf-8"))
        version = document["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{str(path)!r} cannot be read as a benchmark's manifest: {error}.") from None
    if version != VERSION:
        raise RecordError(
            f"{str(folder)!r} holds results of version {version}, and this pellucid reads version {VERSION}; run the "
            "benchmark again, or use the pellucid that wrote them."
        )
    return dict(document)


def run_folders(folder: Path) -> list[Path]:
    """The folders with results: this one, or those in it. Raises InputError where there is none."""
    if (folder / MANIFEST).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not found:
        raise InputError(
            f"{str(folder)!r} holds no results of a benchmark; make some: pellucid benchmark run --out DIR."
        )
    return found


def shards(folders: Sequence[Path], table: str) -> list[str]:
    """The files of a table, of those cases whose results are whole."""
    return [
        str(path)
        for folder in folders
        for path in sorted((folder / table).glob("*.parquet"))
        if (folder / "cases" / path.name).is_file()
    ]


def _difference(key: str, held: object, asked: object) -> tuple[str, str, str]:
    """What differs, and how it stands there and here; of several settings the first that differs."""
    if isinstance(held, dict) and isinstance(asked, dict):
        for name, value in asked.items():
            if held.get(name) != value:
                return name, _short(held.get(name)), _short(value)
    return key, _short(held), _short(asked)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}..."
