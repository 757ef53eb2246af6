"""Small models and inputs that the peers are asked about."""

from functools import cache

import numpy as np
import torch

import pellucid
import tiny
from pellucid import Logit, Margin
from pellucid.api import explain
from pellucid.models import Column, ImageClassifier, Preprocessing, Tabular
from pellucid.models.networks import Boosting, SmallCnn

TEXT = "The tumour grows fast today"
TARGET = Margin("high")


@cache
def classifier():
    return pellucid.load(tiny.encoder("bert"), dtype="float64")


def of_text(method, baseline=None, **settings):
    return explain(
        classifier(), TEXT, method=method, target=TARGET, features="word", baseline=baseline, checks="none", **settings
    )


def fixed(seed, build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


COLUMNS = [
    *(Column(name=f"x{number}") for number in range(3)),
    Column(name="c", kind="category", levels=("a", "b", "d"), frequencies=(0.2, 0.3, 0.5), mode="d"),
]
ROW = [1.0, 2.0, -1.0, "b"]


def background():
    generator = np.random.default_rng(0)
    return [[*generator.normal(size=3).tolist(), "abd"[generator.integers(3)]] for _ in range(30)]


def perceptron(activation=torch.nn.ReLU):
    layers = [torch.nn.Linear(6, 8), activation(), torch.nn.Linear(8, 2)]
    module = fixed(1, lambda: tiny.randomised(lambda: torch.nn.Sequential(*layers), std=1.0)).double()
    return Tabular(module, COLUMNS, ["no", "yes"], name="perceptron", background=background())


def boosted(classes=2, columns=COLUMNS):
    module = Boosting(classes=classes, trees=5, depth=3)
    generator = torch.Generator().manual_seed(0)
    module.feature[:] = torch.randint(0, sum(each.width for each in columns), module.feature.shape, generator=generator)
    module.threshold[:] = torch.randn(module.threshold.shape, generator=generator)
    module.leaves.data[:] = torch.randn(module.leaves.shape, generator=generator)
    module.bias.data[:] = torch.randn(classes, generator=generator)
    rows = [[*row[:3]] for row in background()] if columns is not COLUMNS else background()
    labels = ["no", "yes", "perhaps"][:classes]
    return Tabular(module, columns, labels, name="boosted", background=rows)


def convolutions(activation="relu"):
    module = SmallCnn(channels=1, classes=3, widths=[4, 6], activation=activation)
    module = tiny.randomised(lambda: module, std=0.5).double()
    return ImageClassifier(module, ["a", "b", "c"], Preprocessing((16, 16), (0.5,), (0.25,)), name="convolutions")


def picture():
    return np.random.default_rng(3).integers(0, 255, (16, 16), dtype=np.uint8)


def of_picture(method, model=None, **options):
    options = {"target": Logit("a"), "features": "patch:4"} | options
    return explain(model or convolutions(), picture(), method=method, checks="none", **options)
