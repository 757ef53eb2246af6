"""Draw the demo's 20 patients from GBSG2. Writes src/pellucid/audit/gbsg2/cases.csv, the same bytes on every run.

    pip install lifelines==0.30.3
    python training/draw_gbsg2.py

The real columns are copied as they are and only renamed. Two decoy columns are added: drawn at random, independent of
everything else, so a sound explanation gives them little weight.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from lifelines.datasets import load_gbsg2

SEED = 20260117
PATIENTS_PER_OUTCOME = 10
HORIZON_DAYS = 1096
"""Three years."""
COLUMNS = {
    "age": "age",
    "menostat": "menopause",
    "tsize": "size",
    "tgrade": "grade",
    "pnodes": "nodes",
    "progrec": "pr",
    "estrec": "er",
    "horTh": "hormone",
}
DECOYS = {
    "hair": ["black", "brown", "blond", "red"],
    "weekday": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"],
}
OUTPUT = Path(__file__).parent.parent / "src" / "pellucid" / "audit" / "gbsg2" / "cases.csv"


def with_known_outcome(patients: pd.DataFrame) -> pd.DataFrame:
    """The patients of whom it is known whether they had an event within three years, with that in ``recurrence``."""
    event = (patients["time"] < HORIZON_DAYS) & (patients["cens"] == 1)
    event_free = patients["time"] >= HORIZON_DAYS
    outcome = np.where(event, "yes", "no")
    return patients.assign(recurrence=outcome)[event | event_free]


def draw(patients: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """As many patients with as without an event, in the order of the source; ``id`` is the source's row, from 1."""
    known = with_known_outcome(patients)
    rows = [
        generator.choice(known.index[known["recurrence"] == outcome], PATIENTS_PER_OUTCOME, replace=False)
        for outcome in ("yes", "no")
    ]
    drawn = known.loc[np.sort(np.concatenate(rows))].rename(columns=COLUMNS)
    drawn.insert(0, "id", [f"gbsg2-{row + 1:03d}" for row in drawn.index])
    for name, values in DECOYS.items():
        drawn[name] = generator.choice(values, len(drawn))
    return drawn[["id", *COLUMNS.values(), *DECOYS, "recurrence"]]


if __name__ == "__main__":
    cases = draw(load_gbsg2(), np.random.default_rng(SEED))
    cases.to_csv(OUTPUT, index=False, lineterminator="\n")
    print(f"{len(cases)} patients written to {OUTPUT}")
