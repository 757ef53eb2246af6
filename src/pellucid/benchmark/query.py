"""Results of a benchmark as tables that answer SQL."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pellucid.benchmark.results import read_table
from pellucid.benchmark.store import SCHEMAS, read_manifest, run_folders, shards
from pellucid.errors import InputError, RecordError


class Answer(NamedTuple):
    """A table."""

    columns: list[str]
    """Names of the columns."""
    rows: list[tuple[Any, ...]]
    """Their values."""


def query(folder: Path, sql: str) -> Answer:
    """Answer a SELECT over ``scores``, ``costs``, ``attributions``, ``failures``, ``curves`` and ``cases``.

    Each table has a column ``task``. Nothing outside the results can be read, and nothing is written.

    Raises:
        InputError: a folder without results, SQL that cannot be answered.
        RecordError: results of another version, or a broken shard.
    """
    folders = run_folders(folder)
    for each in folders:
        read_manifest(each)
    with duckdb.connect() as connection:
        for table in SCHEMAS:
            _create(connection, folders, table)
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        try:
            answered = connection.execute(sql)
            if answered is None or answered.description is None:
                raise InputError(f"{sql!r} answers with no table; write a SELECT.")
            return Answer([each[0] for each in answered.description], answered.fetchall())
        except duckdb.Error as error:
            known = "; ".join(f"{name}({', '.join(['task', *schema.names])})" for name, schema in SCHEMAS.items())
            raise InputError(f"{' '.join(str(error).split())} The tables are {known}.") from None


def _create(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path], table: str) -> None:
    """One table of all folders. Raises RecordError for a broken shard."""
    files = shards(folders, table)
    if not files:
        connection.from_arrow(SCHEMAS[table].empty_table()).project("'' AS task, *").create(table)
        return
    try:
        # A file lies in TASK/table/shard.parquet.
        found = connection.read_parquet(files, filename=True)
        found.project("parse_path(filename)[-3] AS task, * EXCLUDE (filename)").create(table)
    except duckdb.Error as error:
        for folder in folders:
            # Names the shard.
            read_table(folder, table)
        raise RecordError(f"the table {table!r} cannot be read: {' '.join(str(error).split())}") from None


def records(answer: Answer) -> Iterator[dict[str, Any]]:
    """Each row by the names of its columns. Raises InputError where two have one name."""
    twice = next((name for name in answer.columns if answer.columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two columns of the answer are named {twice!r}; give each its own name with AS.")
    return (dict(zip(answer.columns, row, strict=True)) for row in answer.rows)
