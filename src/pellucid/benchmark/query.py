"""Results of a benchmark as tables that answer SQL."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pellucid.benchmark.store import SCHEMAS, read_manifest, run_folders, shards
from pellucid.errors import InputError


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
        RecordError: results of another version.
    """
    folders = run_folders(folder)
    for each in folders:
        read_manifest(each)
    with duckdb.connect() as connection:
        for table, schema in SCHEMAS.items():
            files = shards(folders, table)
            if files:
                found = connection.read_parquet(files, filename=True)
                # A file lies in TASK/table/shard.parquet.
                named = found.project("parse_path(filename)[-3] AS task, * EXCLUDE (filename)")
            else:
                named = connection.from_arrow(schema.empty_table()).project("'' AS task, *")
            named.create(table)
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        try:
            answered = connection.execute(sql)
            if answered is None or answered.description is None:
                raise InputError(f"{sql!r} answers with no table; write a SELECT.")
            return Answer([each[0] for each in answered.description], answered.fetchall())
        except duckdb.Error as error:
            known = "; ".join(f"{name}({', '.join(['task', *schema.names])})" for name, schema in SCHEMAS.items())
            raise InputError(f"{' '.join(str(error).split())} The tables are {known}.") from None


def records(answer: Answer) -> Iterator[dict[str, Any]]:
    """Each row by the names of its columns."""
    return (dict(zip(answer.columns, row, strict=True)) for row in answer.rows)
