"""The results of one task, read into arrays: who was asked what, and what came of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, ValidationError

from pellucid.benchmark.store import MANIFEST, SCHEMAS, read_manifest, shards
from pellucid.errors import InputError, RecordError
from pellucid.report.leaderboard import UNTRIED, Kind


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class EntrantEntry(_Entry):
    """One entrant, as the manifest names it."""

    name: str
    """Its name."""
    kind: Kind
    """A method of pellucid, or of another library."""
    family: str = ""
    """Family of the method."""
    settings: dict[str, Any] = {}
    """Settings other than the defaults."""
    tuned: bool = False
    """Whether they were chosen on the tuning split."""
    baseline: str = ""
    """What stands in for an absent feature in the method itself; empty where it has none."""


class MetricEntry(_Entry):
    """One metric, as the manifest names it."""

    metric: str
    """The short name."""
    facts: dict[str, Any]
    """``MetricFacts`` as plain JSON values."""


class GateEntry(_Entry):
    """What the validity gate found about one metric."""

    name: str
    """The whole name, or the short one where the findings hold for all its settings."""
    findings: tuple[tuple[str, bool, str], ...]
    """Each promise, whether it holds, and the numbers."""


class Manifest(_Entry):
    """``run.json``, as far as a leaderboard needs it."""

    task: str
    title: str = ""
    model: str
    weights: str = ""
    target: str = ""
    features: str = ""
    imputers: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    entrants: tuple[EntrantEntry, ...]
    metrics: tuple[MetricEntry, ...]
    absent: tuple[tuple[str, str], ...] = ()
    cases: int | None = None
    """Inputs that the run was to have; None where it does not say."""
    quotable: bool = True
    data: str = ""
    """SHA-256 of the inputs."""
    gate: tuple[GateEntry, ...] = ()
    selection: dict[str, Any] = {}
    """What the run was asked for: methods, metrics, rows."""
    tuning_cases: int = 0
    """Inputs of another split on which settings were chosen."""
    budget: Any = None
    estimate: Any = None
    provenance: dict[str, Any] = {}


class Results(NamedTuple):
    """Everything that is known about one task."""

    folder: Path
    """Where it lies."""
    run: Manifest
    """What was asked."""
    cases: tuple[str, ...]
    """Ids of the inputs that are done."""
    clusters: Int[np.ndarray, " case"]
    """Number of the cluster of each, from 0."""
    entrants: tuple[str, ...]
    """Methods and peers in the order of the manifest, then reference rows."""
    kinds: Mapping[str, Kind]
    """What each entrant is."""
    metrics: tuple[str, ...]
    """Whole names, in the order of the manifest."""
    scores: Float[np.ndarray, "metric entrant seed case"]
    """NaN where undefined, refused, or not asked."""
    asked: Bool[np.ndarray, "metric entrant seed case"]
    """Whether there is a row, be its score defined or not."""
    failures: tuple[tuple[str, str, str, str], ...]
    """Case, entrant, metric ("" where the method itself failed) and sentence of each failure."""
    twice: tuple[str, ...] = ()
    """Ids of the inputs that stand in more than one shard."""

    def table(self, name: str) -> Any:
        """One of the other tables of the folder, of the cases that are done. Raises RecordError."""
        found = read_table(self.folder, name)
        return found.filter(pc.is_in(found["case"], pa.array(self.cases, pa.string())))

    def entry(self, metric: str) -> MetricEntry:
        """What the manifest says of a metric, given its whole name."""
        return next(each for each in self.run.metrics if each.metric == short_name(metric))

    def findings(self, metric: str) -> tuple[tuple[str, bool, str], ...]:
        """What the validity gate found; one failed promise where it was not asked."""
        known = {each.name: each.findings for each in self.run.gate}
        found = known.get(metric) or known.get(short_name(metric))
        return found or ((UNTRIED, False, "the run holds no findings about it."),)


def short_name(metric: str) -> str:
    """The name without its conditions.

    >>> short_name("srg [mask, word, log-odds]")
    'srg'
    """
    return metric.partition(" [")[0]


def read_results(folder: Path) -> Results:
    """Read the folder of one task.

    Raises:
        InputError: the folder holds no results, or none is finished.
        RecordError: they are of another version, broken, or name an entrant or a metric that the manifest does not.
    """
    run = _manifest(folder)
    cases = read_table(folder, "cases").sort_by("case")
    names = tuple(cases["case"].to_pylist())
    if not names:
        raise InputError(f"no input of {str(folder)!r} is finished; go on: pellucid benchmark run with the same --out.")
    if len(set(names)) != len(names):
        raise RecordError(f"a shard of {str(folder / 'cases')!r} holds a case twice; remove it and run it again.")
    scores = read_table(folder, "scores")
    failures = read_table(folder, "failures")
    kinds: dict[str, Kind] = {each.name: each.kind for each in run.entrants}
    drawn = scores.filter(pc.equal(scores["kind"], "reference"))["entrant"].unique().to_pylist()
    kinds |= dict.fromkeys(drawn, "reference")
    metrics = _metrics(run, [*scores["metric"].unique().to_pylist(), *failures["metric"].unique().to_pylist()], folder)
    grid, asked = _grid(folder, scores, (metrics, tuple(kinds), names))
    return Results(
        folder=folder,
        run=run,
        cases=names,
        clusters=np.unique(np.array(cases["cluster"].to_pylist(), dtype=object), return_inverse=True)[1],
        entrants=tuple(kinds),
        kinds=kinds,
        metrics=metrics,
        scores=grid,
        asked=asked,
        failures=tuple(
            (row["case"], row["entrant"], row["metric"] or "", row["sentence"] or "")
            for row in failures.to_pylist()
            if row["case"] in set(names)
        ),
        twice=tuple(sorted(set().union(*_repeated(folder).values()))),
    )


def _manifest(folder: Path) -> Manifest:
    document = read_manifest(folder)
    if "entrants" not in document:
        raise InputError(f"the run in {str(folder)!r} has not begun to score; the same command goes on with it.")
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise RecordError(str(InputError.from_validation(repr(str(folder / MANIFEST)), error))) from None


def read_table(folder: Path, name: str) -> Any:
    """One table of all shards, each input from the first that has it; empty where there is none.

    Raises:
        RecordError: a broken shard.
    """
    schema, repeated, found = SCHEMAS[name], _repeated(folder), []
    for path in shards([folder], name):
        table = _shard(path, schema)
        if drop := repeated.get(Path(path).name):
            table = table.filter(pc.invert(pc.is_in(table["case"], pa.array(sorted(drop), pa.string()))))
        found.append(table)
    return pa.concat_tables(found) if found else schema.empty_table()


def _repeated(folder: Path) -> dict[str, set[str]]:
    """By name of a shard, the inputs that an earlier shard has already."""
    seen: set[str] = set()
    found = {}
    for path in shards([folder], "cases"):
        mine = set(_shard(path, SCHEMAS["cases"])["case"].to_pylist())
        if mine & seen:
            found[Path(path).name] = mine & seen
        seen |= mine
    return found


def _shard(path: str, schema: pa.Schema) -> Any:
    """One file of a table. Raises RecordError where it is broken."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read().select(schema.names).cast(schema)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(
            f"the shard {path!r} cannot be read ({reason}); remove it and the one of the same name in 'cases', "
            "and run the benchmark again, which makes them anew."
        ) from None


def _metrics(run: Manifest, found: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Whole names, by their place in the manifest and then as they came. Raises RecordError for an unknown one."""
    order = {each.metric: place for place, each in enumerate(run.metrics)}
    names = [name for name in dict.fromkeys(found) if name]
    for name in names:
        if short_name(name) not in order:
            raise RecordError(f"{str(folder)!r} holds scores of {name!r}, which its {MANIFEST} does not name.")
    return tuple(sorted(names, key=lambda name: order[short_name(name)]))


def _grid(
    folder: Path, table: Any, names: tuple[Sequence[str], Sequence[str], Sequence[str]]
) -> tuple[Float[np.ndarray, "metric entrant seed case"], Bool[np.ndarray, "metric entrant seed case"]]:
    """Scores by metric, entrant, seed and case, and where there is a row. ``names``: metrics, entrants and cases."""
    seeds, seed = np.unique(table["seed"].to_numpy(), return_inverse=True)
    metric, entrant, case = (
        pc.fill_null(pc.index_in(table[column], pa.array(known, pa.string())), -1).to_numpy()
        for column, known in zip(("metric", "entrant", "case"), names, strict=True)
    )
    if (entrant < 0).any():
        name = table["entrant"][int(np.argmax(entrant < 0))].as_py()
        raise RecordError(f"{str(folder)!r} holds scores of {name!r}, which its {MANIFEST} does not name.")
    shape = (len(names[0]), len(names[1]), max(1, len(seeds)), len(names[2]))
    scores, asked = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    # A run that was stopped within a shard has scores of cases that are not done.
    done = case >= 0
    place = metric[done], entrant[done], seed[done], case[done]
    values = pc.fill_null(table["score"], np.nan).to_numpy()[done]
    scores[place] = np.where(np.isfinite(values), values, np.nan)
    asked[place] = True
    return scores, asked
