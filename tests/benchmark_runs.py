"""A folder as ``pellucid benchmark run`` leaves it, with scores that a test chooses: written from its description."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

KINDS = {"random": "reference", "oracle": "reference", "inverted oracle": "reference", "constant": "reference"}
INTS = {"seed": pa.int32(), "rows": pa.int64(), "backwards": pa.int64(), "tokens": pa.int64(), "memory": pa.int64()}
FLOATS = {"score": pa.float64(), "seconds": pa.float64()}
LISTS = {
    "values": pa.list_(pa.float64()),
    "standard_error": pa.list_(pa.float64()),
    "features": pa.list_(pa.string()),
    "rationale": pa.list_(pa.bool_()),
}


def facts(metric: str, **changed: Any) -> dict[str, Any]:
    """The facts of a metric, as far as a leaderboard reads them."""
    return {
        "name": metric,
        "title": metric.upper(),
        "family": "removal",
        "higher_is_better": True,
        "chance": "0",
        "source": "A paper",
        "needs": ["game"],
        **changed,
    }


def kind_of(entrant: str) -> str:
    return KINDS.get(entrant, "peer" if ":" in entrant else "method")


class Run:
    """Rows to be written; ``scores`` maps whole metric names to entrants to scores, [case] or [seed, case]."""

    def __init__(self, scores: dict[str, dict[str, Any]], clusters: list[str] | None = None) -> None:
        self.scores = {
            metric: {name: np.atleast_2d(np.asarray(values, dtype=float)) for name, values in entrants.items()}
            for metric, entrants in scores.items()
        }
        first = next(iter(next(iter(self.scores.values())).values()))
        self.cases = [f"case {number:04}" for number in range(first.shape[1])]
        self.clusters = clusters or self.cases
        self.names = list(dict.fromkeys(name for each in self.scores.values() for name in each))
        shorts = list(dict.fromkeys(metric.split(" [")[0] for metric in self.scores))
        self.manifest: dict[str, Any] = {
            "version": 1,
            "task": "toy",
            "title": "Toy sentences",
            "model": "tiny",
            "weights": "abc",
            "target": "Margin",
            "features": "word",
            "imputers": ["mask", "pad"],
            "seeds": [0, 1, 2],
            "entrants": [
                {"name": name, "kind": kind_of(name), "family": "gradient", "settings": {}, "baseline": ""}
                for name in self.names
                if kind_of(name) != "reference"
            ],
            "metrics": [{"metric": short, "settings": {}, "facts": facts(short)} for short in shorts],
            "absent": [["shap:partition", "SHAP is not installed"]],
            "cases": len(self.cases),
            "quotable": True,
            "data": "123",
            "gate": [{"name": metric, "findings": [["a promise", True, "fine."]]} for metric in self.scores],
            "tuning": [],
            "budget": "10m",
            "estimate": None,
            "provenance": {"pellucid": "0.1", "packages": {"torch": "2"}},
        }
        self.rows: dict[str, list[dict[str, Any]]] = {
            "failures": [],
            "curves": [],
            "costs": [],
            "attributions": [],
            "scores": [],
        }
        self.case_rows = [
            {
                "case": case,
                "cluster": cluster,
                "text": f"the text of {case}",
                "features": ["a", "b", "c"],
                "rationale": None,
                "label": None,
                "predicted": "yes",
                "players": 3,
                "imputer": "mask",
            }
            for case, cluster in zip(self.cases, self.clusters, strict=True)
        ]

    def facts(self, metric: str) -> dict[str, Any]:
        return next(each["facts"] for each in self.manifest["metrics"] if each["metric"] == metric)

    def entrant(self, name: str) -> dict[str, Any]:
        return next(each for each in self.manifest["entrants"] if each["name"] == name)

    def fail(self, entrant: str, case: int, sentence: str, metric: str = "") -> None:
        who = {"case": self.cases[case], "entrant": entrant, "kind": kind_of(entrant), "seed": 0}
        self.rows["failures"].append({**who, "metric": metric, "error": "ModelError", "sentence": sentence})

    def cost(self, entrant: str, case: int, seed: int = 0, **spent: Any) -> None:
        who = {"case": self.cases[case], "entrant": entrant, "kind": kind_of(entrant), "seed": seed}
        known = {"rows": 1, "backwards": 0, "tokens": 9, "seconds": 1.0, "memory": None}
        self.rows["costs"].append(who | known | spent)

    def curve(self, entrant: str, case: int, rows: int, metric: str, score: float) -> None:
        who = {"case": self.cases[case], "entrant": entrant, "kind": kind_of(entrant), "seed": 0}
        self.rows["curves"].append({**who, "rows": rows, "metric": metric, "score": score})

    def attribute(self, entrant: str, case: int, values: list[float], seed: int = 0) -> None:
        who = {"case": self.cases[case], "entrant": entrant, "kind": kind_of(entrant), "seed": seed}
        self.rows["attributions"].append({**who, "values": values, "standard_error": None})

    def write(self, folder: Path, shards: int = 2) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(self.manifest), "utf-8")
        rows = {**self.rows, "scores": [*self.rows["scores"], *self._scores()], "cases": self.case_rows}
        for table, mine in rows.items():
            for number in range(shards):
                part = [row for row in mine if hash_of(row["case"]) % shards == number]
                if part:
                    (folder / table).mkdir(exist_ok=True)
                    pq.write_table(columns(part), folder / table / f"{number}.parquet", compression="zstd")
        return folder

    def _scores(self) -> list[dict[str, Any]]:
        """A row for each score: NaN is written as null, infinity as no row."""
        return [
            {
                "case": case,
                "cluster": cluster,
                "entrant": name,
                "kind": kind_of(name),
                "seed": seed,
                "metric": metric,
                "score": None if np.isnan(score) else float(score),
            }
            for metric, entrants in self.scores.items()
            for name, values in entrants.items()
            for seed, row in enumerate(values)
            for case, cluster, score in zip(self.cases, self.clusters, row, strict=True)
            if not np.isinf(score)
        ]


def hash_of(case: str) -> int:
    return sum(case.encode())


def columns(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {**INTS, **FLOATS, **LISTS, "players": pa.int32()}
    return pa.table(
        {name: pa.array([row[name] for row in rows], kinds.get(name, pa.string())) for name in rows[0]},
    )
