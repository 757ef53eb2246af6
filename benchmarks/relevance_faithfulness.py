"""Which composite is faithful: symmetric relevance gain of each, beside Shapley values, other methods and noise.

python benchmarks/relevance_faithfulness.py --data DATA   # writes results/relevance_faithfulness.json and its page
python benchmarks/relevance_faithfulness.py --quick       # a few inputs of each model; nothing is written

DATA may hold ``rationales/`` (sentences of SST-2 and BLiMP, as ``training/text_tasks.py`` reads them) and
``fashion-mnist/`` (the test pictures); without it the sentences are a few of our own, and the pictures of clothes those
that come with the models.
"""

import argparse
import json
import os
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

from relevance_measure import THREADS

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "relevance_faithfulness.json"
PAGE = HERE.parent / "docs" / "benchmarks-relevance-faithfulness.md"
BESIDE: dict[str, dict[str, Any]] = {
    "input_x_gradient": {},
    "gradient": {},
    "integrated_gradients": {"steps": 16},
    "occlusion": {},
}
"""Methods that are no composites of rules, with their settings."""
EXACT = 12
"""Most features of which exact Shapley values are computed."""
SHAPLEY, NOISE = "shapley", "random"


def explanations(subject: Any, name: str, count: int) -> list[Any]:
    """One method on each input."""
    import pellucid

    shared = {"features": subject.features, "target": subject.target, "checks": "none"} | BESIDE.get(name, {})
    return [pellucid.explain(subject.model, raw, method=name, **shared) for raw in subject.raws[:count]]


def shapley(subject: Any, sizes: list[int]) -> list[Any]:
    """Shapley values of each input: exact, or by permutations where there are too many features."""
    import pellucid

    found = []
    for raw, size in zip(subject.raws, sizes, strict=False):
        exact = size <= EXACT
        settings = {"method": "exact_shapley"} if exact else {"method": "permutation_shapley"}
        more = {} if exact else {"permutations": subject.permutations}
        shared = {"features": subject.features, "target": subject.target, "checks": "none"}
        found.append(pellucid.explain(subject.model, raw, **settings, **more, **shared))
    return found


def measured(subject: Any, count: int) -> dict[str, Any]:
    """The gain of every method on every input of a subject, and every two composites held against each other."""
    import numpy as np

    import pellucid
    from pellucid.methods.relevance import relevance_methods

    raws = subject.raws[:count]
    composites = list(relevance_methods())
    judged = {name: explanations(subject, name, count) for name in [*composites, *BESIDE]}
    sizes = [len(each.features) for each in judged["occlusion"]]
    judged[SHAPLEY] = shapley(subject, sizes)
    oracle = [each.values.sum(0).astype(np.float64) for each in judged[SHAPLEY]]
    judged[NOISE] = pellucid.metrics.references(oracle)["random"]
    target = {"target": subject.target, "features": subject.features}
    metric = pellucid.metrics.Srg(steps=subject.steps)
    scores = {each.of: each for each in pellucid.metrics.evaluate(subject.model, raws, judged, [metric], **target)}
    rows = {name: {**each.interval()._asdict(), "values": each.values.tolist()} for name, each in scores.items()}
    return {
        "title": subject.title,
        "use": subject.use,
        "about": subject.about,
        "metric": scores[SHAPLEY].metric,
        "features": [min(sizes), max(sizes)],
        "inputs": len(raws),
        "exact": sum(size <= EXACT for size in sizes),
        "permutations": subject.permutations,
        "rows": rows,
        "pairs": [compared(scores[one], scores[other]) for one, other in combinations(composites, 2)],
    }


def compared(first: Any, second: Any) -> dict[str, Any]:
    """A paired comparison as plain values."""
    import pellucid

    found = pellucid.metrics.compare(first, second)
    difference = {name: getattr(found.difference, name) for name in ("mean", "low", "high")}
    return {"pair": [first.of, second.of], **difference, "p": found.test.p_value, "wins": found.win_rate}


def facts() -> dict[str, dict[str, Any]]:
    """What the tables say of each composite."""
    from pellucid.methods.relevance import relevance_methods

    found = {name: each.facts for name, each in relevance_methods().items()}
    return {name: {"title": each.title, "class_specific": each.class_specific} for name, each in found.items()}


def main() -> None:
    from relevance_faithfulness_inputs import QUICK, SUBJECTS
    from relevance_faithfulness_page import page

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few inputs; nothing is written")
    parser.add_argument("--data", type=Path, help="folder with sentences and pictures")
    parser.add_argument(
        "--only",
        choices=SUBJECTS,
        nargs="+",
        default=list(SUBJECTS),
        help="some of the models; the others keep what is written of them",
    )
    given = parser.parse_args()
    for name in given.only:
        subject = SUBJECTS[name](given.data)
        count = QUICK if given.quick else len(subject.raws)
        found = {"facts": facts(), "subjects": {name: measured(subject, count)}}
        if given.quick:
            print(page(found))
        else:
            keep(found, list(SUBJECTS))
        print(f"{name}: done", file=sys.stderr, flush=True)


def keep(found: dict[str, Any], names: list[str]) -> None:
    """Put what was found in place of what an earlier run found: one that was stopped goes on with ``--only``."""
    from relevance_faithfulness_page import page

    known = json.loads(RESULTS.read_text("utf-8"))["subjects"] if RESULTS.exists() else {}
    merged = known | found["subjects"]
    found = {"facts": found["facts"], "subjects": {name: merged[name] for name in names if name in merged}}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    PAGE.write_text(page(found), "utf-8")


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)
    main()
