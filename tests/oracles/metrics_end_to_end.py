"""Small models whose raw networks are asked by hand, and the metrics' formulas over the sets of features that stay."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import tiny
from oracles.metrics import area, pearson
from pellucid.models import Column, ImageClassifier, Tabular, TextClassifier
from pellucid.models.pictures import Preprocessing
from pellucid.targets import Margin

WORDS = ["two", "swollen", "lymphadenopathy", "nodes", "hurt"]
COLUMNS = [
    Column(name="age", mean=50.0, std=10.0),
    Column(name="grade", kind="category", levels=("I", "II", "III"), frequencies=(0.2, 0.5, 0.3), mode="II"),
    Column(name="nodes", mean=4.0, std=2.5),
    Column(name="size", mean=20.0, std=8.0),
]


@dataclass(frozen=True)
class Case:
    """One input of one model, and its network as a function of the features that are there and of nothing else."""

    model: Any
    raw: Any
    features: str
    imputer: str
    players: int
    logits: Callable[[frozenset], list[float]]
    graded: Callable[[list[float]], list[float]]
    label: str = "high"

    @property
    def options(self):
        return {"target": Margin(self.label), "features": self.features, "imputer": self.imputer}

    def worth(self, unit="log-odds"):
        return lambda present: in_unit(self.logits(frozenset(present)), self.model.labels.index(self.label), unit)


def in_unit(logits, index, unit):
    others = math.log(sum(math.exp(z) for place, z in enumerate(logits) if place != index))
    everything = math.log(sum(math.exp(z) for z in logits))
    log_p = logits[index] - everything
    return {
        "logit": logits[index],
        "log-odds": logits[index] - others,
        "log-probability": log_p,
        "probability": math.exp(log_p),
    }[unit]


def numbers(tensor):
    return [float(each) for each in tensor.detach().flatten()]


@cache
def text(family, imputer):
    module, tokenizer = tiny.encoder(family)
    module = module.double()
    words = [tokenizer(word, add_special_tokens=False).input_ids for word in WORDS]
    assert max(map(len, words)) > 1
    first, last, mask = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
    owners = [-1, *[place for place, word in enumerate(words) for _ in word], -1]
    absent = {"mask": (mask, 1), "pad": (0, 0)}

    @cache
    def logits(present):
        pairs = []
        for place, word in enumerate(words):
            if place in present:
                pairs += [(token, 1) for token in word]
            elif imputer != "delete":
                pairs += [absent[imputer]] * len(word)
        ids, seen = zip((first, 1), *pairs, (last, 1), strict=True)
        return numbers(module(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([seen])).logits)

    def graded(taken):
        ids = torch.tensor([first, *[token for word in words for token in word], last])
        vectors = module.get_input_embeddings()(ids).detach().clone()
        stands = tokenizer.pad_token_id if imputer == "pad" else mask
        blank = module.get_input_embeddings()(torch.tensor(stands)).detach()
        for position, place in enumerate(owners):
            if place >= 0:
                vectors[position] = taken[place] * blank + (1 - taken[place]) * vectors[position]
        return numbers(module(inputs_embeds=vectors[None], attention_mask=torch.ones(1, len(ids))).logits)

    model = TextClassifier(module, tokenizer, name=family)
    return Case(model, " ".join(WORDS), "word", imputer, len(WORDS), logits, graded)


def network(*parts, seed=0):
    """The parts in a row, in double precision, with weights large enough to make it far from linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(*[part() for part in parts])
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
    return module.double().eval()


@cache
def picture():
    """4 x 6 grey pixels in six patches; absent ones have the mean shade, which the network reads as zeros."""
    module = network(
        lambda: torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Tanh, torch.nn.Flatten, lambda: torch.nn.Linear(48, 3)
    )
    raw = np.random.default_rng(0).integers(0, 256, (4, 6)).astype(np.uint8)
    encoded = (torch.tensor(raw) / 255 - 0.4) / 0.3

    def graded(taken):
        shares = torch.tensor([[1 - taken[3 * (row // 2) + column // 2] for column in range(6)] for row in range(4)])
        return numbers(module((shares * encoded).double()[None, None]))

    logits = cache(lambda present: graded([float(place not in present) for place in range(6)]))
    labels = ["low", "middle", "high"]
    model = ImageClassifier(module, labels, Preprocessing((4, 6), (0.4,), (0.3,)), name="picture")
    return Case(model, raw, "patch:2", "mean", 6, logits, graded)


@cache
def table():
    """Three numbers and a category; absent ones are zeros and the shares of the levels."""
    module = network(lambda: torch.nn.Linear(6, 5), torch.nn.Tanh, lambda: torch.nn.Linear(5, 3))
    encoded, mean = [[1.1], [0, 0, 1], [2.0], [-0.75]], [[0.0], [0.2, 0.5, 0.3], [0.0], [0.0]]

    def graded(taken):
        mixed = [
            (1 - t) * x + t * b
            for t, xs, bs in zip(taken, encoded, mean, strict=True)
            for x, b in zip(xs, bs, strict=True)
        ]
        return numbers(module(torch.tensor([mixed], dtype=torch.float64)))

    logits = cache(lambda present: graded([float(place not in present) for place in range(4)]))
    raw = {"age": 61, "grade": "III", "nodes": 9, "size": 14}
    return Case(
        Tabular(module, COLUMNS, ["low", "middle", "high"], name="table"), raw, "column", "mean", 4, logits, graded
    )


CASES = {
    "bert mask": lambda: text("bert", "mask"),
    "bert pad": lambda: text("bert", "pad"),
    "bert delete": lambda: text("bert", "delete"),
    "roberta mask": lambda: text("roberta", "mask"),
    "distilbert pad": lambda: text("distilbert", "pad"),
    "deberta delete": lambda: text("deberta", "delete"),
    "picture": picture,
    "table": table,
}


# The formulas


def most_first(values):
    return sorted(range(len(values)), key=lambda place: -values[place])


def grid(players, steps):
    count = min(players, steps)
    return sorted({round(players * step / count) for step in range(count + 1)})


def flipping(f, order, steps):
    """Area under f as the first of an order go."""
    sizes = grid(len(order), steps)
    return area([f(order[size:]) for size in sizes], [size / len(order) for size in sizes])


def filling(f, order, steps):
    """Area under f as the first of an order come."""
    sizes = grid(len(order), steps)
    return area([f(order[:size]) for size in sizes], [size / len(order) for size in sizes])


def log_odds(f, order, bins):
    n = len(order)
    rest = [max(f(order[math.ceil(round(share * n, 6)) :]), math.log(1e-9)) for share in bins]
    return sum(rest) / len(rest) - f(order)


def subset_correlation(f, values, size):
    """Over all subsets of a size; a metric that draws many comes close."""
    everyone = frozenset(range(len(values)))
    drawn = list(combinations(sorted(everyone), size))
    return pearson(
        [sum(values[i] for i in each) for each in drawn], [f(everyone) - f(everyone - set(each)) for each in drawn]
    )


def infidelity(case, values, taken, unit="log-odds"):
    index = case.model.labels.index(case.label)
    full = in_unit(case.graded([0.0] * case.players), index, unit)
    terms = [
        (sum(t * a for t, a in zip(row, values, strict=True)) - full + in_unit(case.graded(row), index, unit)) ** 2
        for row in taken
    ]
    return sum(terms) / len(terms)


def dummies(f, players):
    """Players that change nothing in any coalition."""
    coalitions = [frozenset(c) for size in range(players + 1) for c in combinations(range(players), size)]
    return [i for i in range(players) if all(abs(f(c | {i}) - f(c - {i})) < 1e-9 for c in coalitions)]


def interchangeable(f, players):
    """Pairs of which either does the same in any coalition."""
    coalitions = [frozenset(c) for size in range(players + 1) for c in combinations(range(players), size)]
    return [
        (i, j)
        for i, j in combinations(range(players), 2)
        if all(abs(f((c - {j}) | {i}) - f((c - {i}) | {j})) < 1e-9 for c in coalitions)
    ]


def gradient_times_input(module, x, index, unit="log-odds"):
    """One score a position, of the logit or of its margin over all others."""
    x = x.clone().requires_grad_()
    logits = module(x[None])[0]
    others = torch.cat([logits[:index], logits[index + 1 :]]).logsumexp(0)
    (logits[index] - (others if unit == "log-odds" else 0)).backward()
    return (x * x.grad).detach().numpy()


def mprt(module, layers, x, index, values, seed, read=lambda a: a):
    """Mean rank correlation as the layers, given from the top down by name, are permuted in turn."""
    module, generator, found = copy.deepcopy(module), torch.Generator().manual_seed(seed), []
    for names in layers:
        for name in names:
            weight = module.get_parameter(name).data
            weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view(weight.shape))
        found.append(spearmanr(read(values), read(gradient_times_input(module, x, index))).statistic)
    return sum(found) / len(found)
