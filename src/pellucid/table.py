"""Many explanations as one Parquet table: a row for each record, target and method."""

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from pellucid.errors import InputError
from pellucid.explanation import Explanation
from pellucid.files import write_atomically


def write_table(explanations: Sequence[Explanation], path: str | Path, records: Sequence[str] | None = None) -> Path:
    """Write a Parquet file (zstd), whole or not at all.

    Args:
        explanations: any number of them, of any methods and models.
        path: the file.
        records: a name for each explanation's input; None: their numbers.

    Raises:
        InputError: nothing to write, or names that do not fit the explanations.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [str(number) for number in range(len(explanations))] if records is None else list(records)
    if not explanations:
        raise InputError("there is no explanation to write into a table.")
    if len(names) != len(explanations):
        raise InputError(f"{len(names)} names were given for {len(explanations)} explanations; each needs one.")
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(_rows(zip(names, explanations, strict=True)))), buffer, compression="zstd")
    path = Path(path)
    write_atomically(path, buffer.getvalue())
    return path


def _rows(named: Iterable[tuple[str, Explanation]]) -> Iterator[dict[str, Any]]:
    for record, explanation in named:
        error = explanation.standard_error
        for row, target in enumerate(explanation.output_names):
            yield {
                "record": record,
                "target": target,
                "method": explanation.method,
                "unit": explanation.unit,
                "baseline": explanation.baseline,
                "seed": explanation.seed,
                "base_value": float(explanation.base_values[row]),
                "full_value": float(explanation.full_values[row]),
                "features": explanation.feature_names,
                "data": explanation.data,
                "values": explanation.values[row].tolist(),
                "standard_errors": None if error is None else error[row].tolist(),
                "reliable": explanation.reliable,
                "checks": explanation.checks.model_dump_json(),
                "cost": explanation.cost.model_dump_json(),
                "fingerprint": explanation.fingerprint.model_dump_json(),
            }
