"""The public conformance suite: what every method and every metric must hold, built in or plugged in.

``check_method(MyMethod())`` runs the checks that fit the method's facts on a tiny transformer, or on a small
convolutional network where it does not explain texts, and
``check_metric(MyMetric())`` those of a metric on a small network whose Shapley values are known exactly. Both raise
``ConformanceError`` that names the first promise that is broken. What passes is a plug-in.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pellucid.api import explain
from pellucid.errors import InputError, PellucidError
from pellucid.explanation import Explanation
from pellucid.games import ask
from pellucid.methods import AbstractMethod, make_method
from pellucid.metrics import AbstractMetric, ValidityGate, explaining
from pellucid.models import CausalLM, Column, ImageClassifier, Model, Tabular
from pellucid.models.pictures import Preprocessing
from pellucid.targets import AbstractTarget, Answer, Logit, Tokens

TEXT = "the tumour is large and six positive"
METRIC_INPUTS, METRIC_COLUMNS = 40, 8
WORDS = [*TEXT.split(), "nodes", "are", "high", "low", "risk", "small", "no"]


class ConformanceError(PellucidError):
    """A method does not hold what its facts, or the contract of all methods, promise."""


class Subject(NamedTuple):
    """What a method is tried on."""

    model: Model
    """A model of a kind that it explains."""
    raws: tuple[Any, Any]
    """An input with as many features as promised, and another one."""
    features: int
    """Features of the first."""
    options: dict[str, Any]
    """How they are asked about, ``target`` among them."""
    single: AbstractTarget
    """A target that is one number."""
    targets: int
    """Numbers of the other one."""


class Promise(NamedTuple):
    """One thing that is checked."""

    name: str
    """What it is called in the result."""
    check: Callable[[], None]
    """Raises ConformanceError where it does not hold."""


def check_method(method: AbstractMethod) -> list[str]:
    """Run every promise that fits the method's facts, and return the names of those that were checked.

    Raises ConformanceError with the first that is broken.
    """
    names = []
    for promise in promises(method):
        promise.check()
        names.append(promise.name)
    return names


def promises(method: AbstractMethod) -> Iterator[Promise]:
    """The promises that fit the method's facts, each checkable by itself."""
    facts = method.facts
    checks: list[tuple[str, Callable[[AbstractMethod], None], bool]] = [
        ("deterministic for a seed", _deterministic, True),
        ("one score for each feature and target", _shapes, True),
        ("the model is left as it was", _restores, True),
        ("the random state is left as it was", _leaves_random_state, True),
        ("no more rows than declared", _rows, True),
        ("the scores sum to f(input) - f(baseline)", _complete, facts.complete),
        ("standard errors come with sampling", _errors, facts.sampled),
        ("a batch gives what single calls give", _batch, True),
        ("unsigned scores are not negative", _unsigned, not facts.signed),
    ]
    for name, check, wanted in checks:
        if wanted:
            yield Promise(name, lambda check=check: check(method))  # type: ignore[misc]


@cache
def tiny_model() -> CausalLM:
    """A Llama of two layers with random weights over a dozen words: small enough to be asked thousands of times."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<eos>", *sorted(set(WORDS))])}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<eos>")), pad_token="<pad>", eos_token="<eos>"
    )
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = LlamaForCausalLM(config)
        for parameter in module.parameters():
            # Default initialisation makes a network so close to linear that every method agrees with every other.
            torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    module.train(False)
    return CausalLM(module, tokenizer, name="tiny")


def check_metric(metric: AbstractMetric) -> list[str]:
    """Run every promise that fits the metric's facts, and return the names of those that were checked.

    Raises ConformanceError with the first that is broken.
    """
    if not isinstance(metric, AbstractMetric):
        raise InputError(f"{metric!r} is no metric; give one with its settings, such as Srg().")
    findings = (picture_gate() if "picture" in metric.facts.needs else metric_gate()).check(metric)
    for finding in findings:
        if not finding.passed:
            raise ConformanceError(f"{metric.facts.name}: not so: {finding.name}: {finding.detail}")
    return [finding.name for finding in findings]


@cache
def metric_gate() -> ValidityGate:
    """40 inputs of a random network over 8 columns, whose exact Shapley values are the oracle.

    One column changes nothing and two are interchangeable, so that the axioms have something to find. The rationale of
    an input is its three largest scores.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = torch.nn.Linear(METRIC_COLUMNS, 16)
        network = torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()
        with torch.no_grad():
            first.weight *= 2
            first.weight[:, 6] = first.weight[:, 5]
            first.weight[:, 7] = 0
        rows = torch.randn(METRIC_INPUTS, METRIC_COLUMNS, dtype=torch.float64)
        rows[:, 6] = rows[:, 5]
    columns = [Column(name=f"x{number}") for number in range(METRIC_COLUMNS)]
    model = Tabular(network, columns, ["no", "yes"], name="tiny network")
    method = make_method("exact_shapley")
    inputs = [row.tolist() for row in rows]
    oracle = [explain(model, each, method=method, checks="none").values[0].astype(np.float64) for each in inputs]
    return ValidityGate(
        model,
        inputs,
        oracle,
        methods={"seeing": explaining(method), "blind": lambda question: np.arange(1.0, 1.0 + len(question.features))},
        rationales=[each >= np.sort(each)[-3] for each in oracle],
        labels=[model.predicted(model.encode(each)) for each in inputs],
    )


@cache
def picture_gate() -> ValidityGate:
    """The same for the metrics of pictures: 40 of 4 x 8 grey pixels in eight patches, filled from their neighbours."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(128, 3)
        ).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(3)
        pictures = torch.randint(0, 256, (METRIC_INPUTS, 4, 8), dtype=torch.uint8).numpy()
    preprocessing = Preprocessing((4, 8), (0.5,), (0.25,))
    model = ImageClassifier(network, ["a", "b", "c"], preprocessing, name="tiny picture network")
    kind, imputer, method = "patch:2", "noisy-linear", explaining(make_method("exact_shapley"))
    questions = [ask(model, each, features=kind, imputer=imputer, seed=seed) for seed, each in enumerate(pictures)]
    return ValidityGate(model, list(pictures), list(map(method, questions)), features=kind, imputer=imputer)


@cache
def tiny_pictures() -> ImageClassifier:
    """A classifier of 6 x 6 grey pictures with random weights: two convolutions with ReLUs, and their mean."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 4, 3, 1, 1),
            torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3),
        )  # fmt: skip
    return ImageClassifier(module.eval(), list("abc"), Preprocessing((6, 6), (0.5,), (0.25,)), name="tiny pictures")


def subject(method: AbstractMethod) -> Subject:
    """What a method is tried on, by its facts: a text where it explains texts, else a picture."""
    if "text" in method.facts.modalities:
        options: dict[str, Any] = {"target": Tokens("high risk"), "features": "word"}
        other = "six nodes are positive and the tumour is small"
        return Subject(tiny_model(), (TEXT, other), len(TEXT.split()), options, Answer("high"), 2)
    first, second = np.random.default_rng(0).integers(0, 256, (2, 6, 6), dtype=np.uint8)
    return Subject(tiny_pictures(), (first, second), 9, {"target": Logit("b"), "features": "patch:2"}, Logit("a"), 1)


def _explain(method: AbstractMethod, number: int = 0, **options: Any) -> Explanation:
    on = subject(method)
    return explain(on.model, on.raws[number], method=method, seed=3, checks="none", **on.options | options)


def _require(holds: bool, method: AbstractMethod, message: str) -> None:
    if not holds:
        raise ConformanceError(f"{method.facts.name}: {message}.")


def _deterministic(method: AbstractMethod) -> None:
    first, second = _explain(method), _explain(method)
    _require(np.array_equal(first.values, second.values), method, "two runs with one seed differ")


def _shapes(method: AbstractMethod) -> None:
    explanation, on = _explain(method), subject(method)
    shape = explanation.values.shape
    _require(shape == (on.targets, on.features), method, f"scores have shape {shape}")
    _require(bool(np.isfinite(explanation.values).all()), method, "scores are not finite")


def _restores(method: AbstractMethod) -> None:
    module = subject(method).model.module

    def state() -> list[object]:
        hooks = [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules()]
        tensors = [(tensor.clone(), tensor.requires_grad, tensor.grad) for tensor in module.parameters()]
        return [hooks, tensors, module.training, torch.is_grad_enabled(), torch.get_num_threads()]

    before = state()
    _explain(method)
    after = state()
    same = all(
        torch.equal(a, b) and (a_needs, a_grad) == (b_needs, b_grad)
        for (a, a_needs, a_grad), (b, b_needs, b_grad) in zip(before.pop(1), after.pop(1), strict=True)  # type: ignore[call-overload]
    )
    _require(same and before == after, method, "weights, hooks, gradients or modes changed")


def _leaves_random_state(method: AbstractMethod) -> None:
    torch_before, numpy_before = torch.random.get_rng_state(), str(np.random.get_state())
    _explain(method)
    same = torch.equal(torch_before, torch.random.get_rng_state()) and numpy_before == str(np.random.get_state())
    _require(same, method, "it drew from the global random state")


def _rows(method: AbstractMethod) -> None:
    explanation = _explain(method, target=subject(method).single)
    # Beside the method's rows there are those of the prefix that gradient methods cache once, and of shared trunks.
    declared = method.rows(len(explanation.features))
    evaluations = explanation.cost.rows
    _require(evaluations <= 2 * declared + 2, method, f"it spent {evaluations} rows and declared {declared}")


def _complete(method: AbstractMethod) -> None:
    explanation = _explain(method)
    gap = np.abs(explanation.values.sum(1) - (explanation.full_values - explanation.base_values))
    error = explanation.standard_error
    allowed = 0.05 * np.abs(explanation.full_values - explanation.base_values) + 1e-4
    if error is not None:
        allowed = allowed + 4 * np.sqrt((error**2).sum(1))
    _require(bool((gap <= allowed).all()), method, f"the scores miss f(input) - f(baseline) by {gap.max():.3g}")


def _errors(method: AbstractMethod) -> None:
    error = _explain(method).standard_error
    _require(error is not None and bool((error >= 0).all()), method, "it samples and gives no standard errors")


def _batch(method: AbstractMethod) -> None:
    single = [_explain(method, number).values for number in (0, 1)]
    again = [_explain(method, number).values for number in (1, 0)][::-1]
    same = all(np.array_equal(one, other) for one, other in zip(single, again, strict=True))
    _require(same, method, "a result depends on what was explained before it")


def _unsigned(method: AbstractMethod) -> None:
    _require(bool((_explain(method).values >= 0).all()), method, "its facts say unsigned and a score is negative")
