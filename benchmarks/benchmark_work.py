"""What the benchmark does for one sentence, and the passes of the network that it cannot do without.

The floor is recorded from the work itself: each distinct row of tokens that the work asks about, each call that starts
from embeddings, and how often the work goes back from it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from pellucid.benchmark.entrants import choose
from pellucid.benchmark.examining import Examiner
from pellucid.benchmark.references import oracle_method, references
from pellucid.benchmark.tasks import find_task
from pellucid.games import Question
from pellucid.methods import AbstractGameMethod, Occlusion
from pellucid.metrics import Example, make_metric
from pellucid.metrics.base import AbstractGameMetric

TASK = "sst2"
METHODS = (
    *("occlusion", "kernel_shap", "permutation_shapley", "banzhaf", "lime", "sparse_linear"),
    *("input_x_gradient", "smoothgrad", "integrated_gradients", "attnlrp"),
    *("rollout", "attention_x_gradient"),
)
"""Six that only play the game, four that go back through the network, two that read attention."""
METRICS = (
    *("srg", "morf", "lerf", "comprehensiveness", "sufficiency", "insertion", "deletion"),
    "faithfulness_correlation",
)
CURVES, STEPS = ("srg", "morf", "lerf", "insertion", "deletion"), 10
SEEDS = (0,)
BUDGETS = (512, 1024, 2048, 4096, 8192)
"""Tokens of a batch among which the floor's best is found."""
Scores = dict[tuple[str, int, str], float]


class Setting(NamedTuple):
    """One way to run the benchmark."""

    title: str
    """What the page says of it."""
    imputers: tuple[str, ...]
    """What the metrics perturb with."""
    has_oracle: bool
    """Whether the reference attribution has coalitions of its own; else occlusion, which plays anyway, stands for it.

    The network's time for thousands of its rows would make whatever else costs time look small.
    """


SETTINGS = {
    "aim": Setting("eight metrics x twelve methods, one imputer, no oracle", ("mask",), False),
    "task": Setting("the task as it is run: two imputers, and the oracle's coalitions", ("mask", "delete"), True),
}


def _occlusion(players: int) -> AbstractGameMethod:
    return Occlusion()


@contextmanager
def references_of(setting: Setting) -> Iterator[Callable[[int], AbstractGameMethod]]:
    """Inside, the benchmark makes its reference attributions as the setting says."""
    made = oracle_method if setting.has_oracle else _occlusion
    with patch("pellucid.benchmark.attributing.oracle_method", made):
        yield made


def examiners() -> dict[str, Examiner]:
    """The benchmark of each setting, on one model."""
    task = find_task(TASK)
    model = task.load()
    entrants = choose(",".join(METHODS), model.modality).entrants
    # One number of points for all curves, as the benchmark has it, so that they share their coalitions.
    metrics = [make_metric(name, **({"steps": STEPS} if name in CURVES else {})) for name in METRICS]
    return {
        name: Examiner(replace(task, imputers=setting.imputers), model, entrants, metrics, SEEDS, None)
        for name, setting in SETTINGS.items()
    }


class Embedded(NamedTuple):
    """A call of the network that starts from embeddings."""

    embeddings: Tensor
    """What it starts from [batch, seq, dim]."""
    visible: Tensor
    """Which positions are seen [batch, seq]."""
    backwards: int
    """Backward passes through the network; those of its head alone are not counted."""


@dataclass
class Passes:
    """All that a piece of work asks of the network."""

    plain: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Ids and mask of the calls that start from tokens."""
    calls: list[Embedded] = field(default_factory=list)
    """Calls that start from embeddings."""

    @property
    def rows(self) -> list[tuple[int, ...]]:
        """Rows of tokens, as often as computed. Raises ValueError for hidden tokens before visible ones."""
        if not all((seen.sort(1, descending=True).values == seen).all() for _, seen in self.plain):
            raise ValueError("a hidden token stands before a visible one.")
        return [
            tuple(row[: sum(mask)])
            for ids, seen in self.plain
            for row, mask in zip(ids.tolist(), seen.tolist(), strict=True)
        ]

    @property
    def distinct(self) -> list[tuple[int, ...]]:
        """The rows of tokens, each once."""
        return list(dict.fromkeys(self.rows))

    @property
    def embedded(self) -> int:
        """Rows of the calls that start from embeddings."""
        return sum(len(call.embeddings) for call in self.calls)


@contextmanager
def recorded(model: Any) -> Iterator[Passes]:
    """Inside, all that the network is called with is kept, which takes no time to speak of: nothing is copied."""
    found, run, meter = Passes(), model.run, model.meter
    started: list[tuple[Tensor, Tensor, int]] = []

    def watched(given: Tensor, visible: Tensor) -> Tensor:
        logits: Tensor = run(given, visible)
        if given.is_floating_point():
            started.append((given.detach(), visible, meter.backwards))
        else:
            found.plain.append((given, visible))
        return logits

    model.run = watched
    try:
        yield found
    finally:
        del model.run
        # Whoever goes back does so before the next call. Without calls there is one end too many.
        ends = [*(before for _, _, before in started[1:]), meter.backwards]
        found.calls = [
            Embedded(given, visible, end - before) for (given, visible, before), end in zip(started, ends, strict=False)
        ]


def batches(rows: Sequence[tuple[int, ...]], budget: int) -> list[tuple[Tensor, Tensor]]:
    """Rows of similar length as ids and mask, at most ``budget`` tokens or one row in each."""
    order, found = sorted(rows, key=len), []
    while order:
        size = 1
        while size < len(order) and (size + 1) * len(order[size]) <= budget:
            size += 1
        batch, order = order[:size], order[size:]
        width = len(batch[-1])
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in batch])
        seen = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
        found.append((ids, seen))
    return found


def floor(module: Any, passes: Passes, budget: int) -> dict[str, Callable[[], float]]:
    """The bare passes, batches made beforehand; each work returns the sum of its calls' first logits.

    ``tokens``: the distinct rows of tokens; ``embedded``: the calls that start from embeddings, forward and back;
    ``forward``: these calls again, forward alone.
    """
    made = batches(passes.distinct, budget)

    def tokens() -> float:
        with torch.no_grad():
            found = [module(input_ids=ids, attention_mask=seen).logits[0, 0] for ids, seen in made]
        return float(sum(found))

    def forward() -> float:
        with torch.no_grad():
            found = [_bare(module, call)[0, 0] for call in passes.calls]
        return float(sum(found))

    def embedded() -> float:
        return sum(float(_back(module, call)[0, 0]) for call in passes.calls)

    return {"tokens": tokens, "embedded": embedded, "forward": forward}


def _bare(module: Any, call: Embedded) -> Tensor:
    logits: Tensor = module(inputs_embeds=call.embeddings, attention_mask=call.visible.long()).logits
    return logits


def _back(module: Any, call: Embedded) -> Tensor:
    """A call forward and as often back as in the work."""
    if not call.backwards:
        with torch.no_grad():
            return _bare(module, call)
    leaf = call.embeddings.detach().requires_grad_()
    logits = _bare(module, call._replace(embeddings=leaf))
    for number in range(call.backwards):
        torch.autograd.grad(logits.sum(), leaf, retain_graph=number + 1 < call.backwards)
    return logits.detach()


def scores(rows: Any) -> Scores:
    """What the benchmark found, by entrant, seed and metric."""
    return {
        (each["entrant"], each["seed"], each["metric"]): math.nan if each["score"] is None else each["score"]
        for each in rows["scores"]
    }


def asked(examiner: Examiner, question: Question, rows: Any, oracle: AbstractGameMethod) -> dict[str, int]:
    """Rows that everybody would ask for alone: the methods with the oracle, and the metrics of all attributions."""
    examples = [Example(question, np.array(each["values"]), question.seed) for each in rows["attributions"]]
    # The imputers change what a coalition looks like, not which ones are asked for.
    metrics = [each for each in examiner.metrics if isinstance(each, AbstractGameMetric)]
    found = [len(set(map(bytes, metric.asked(example)))) for metric in metrics for example in examples]
    return {
        "methods": oracle.rows(len(question.features)) + sum(each["rows"] for each in rows["costs"]),
        "metrics": len(examiner.task.imputers) * sum(found),
    }


def naive(examiner: Examiner, case: Any, number: int, oracle: Callable[[int], AbstractGameMethod]) -> Scores:
    """The same attributions and the same scores, each made by itself on a fresh question."""

    def fresh() -> Question:
        return examiner.question(case, number)

    first = fresh()
    players, most = len(first.features), examiner.budget(first)
    found = {(each.name, 0): each.method(players, most).attribute(fresh()).values.sum(0) for each in examiner.entrants}
    best = oracle(players).attribute(fresh()).values.sum(0)
    found |= {(each.name, each.seed): each.values for each in references(best, first.seed)}
    scored: Scores = {}
    for imputer in examiner.task.imputers:
        for metric in examiner.metrics:
            for (name, seed), values in found.items():
                question = fresh().imputed(imputer)
                score = metric.score(Example(question, values, question.seed))
                scored[name, seed, metric.named(question)] = score
    return scored


def difference(one: Scores, other: Scores) -> float:
    """Largest difference of two sets of scores. Raises ValueError where they are not of the same things."""
    if one.keys() != other.keys():
        raise ValueError(f"scores of different things: {sorted(one.keys() ^ other.keys())[:3]} and others.")
    return max(0.0 if math.isnan(one[key]) and math.isnan(other[key]) else abs(one[key] - other[key]) for key in one)
