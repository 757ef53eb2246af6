"""Metrics as plain functions: ``srg(model, raw, values)`` for one input, or for several with lists of both."""

from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import InputError
from pellucid.explanation import Explanation
from pellucid.metrics.base import AbstractMetric, Attributing, Explain
from pellucid.metrics.scores import Given, evaluate
from pellucid.targets import AbstractTarget

_HOW_TO_CALL = """

Args:
    model: what ``load`` gave.
    raw: the input, or a list of inputs.
    values: its attribution, one score for each feature (or an Explanation); for a list of inputs a list of them.
    target: what was explained; None: as the explanation says, or the model's default.
    features: the kind of feature; None: the model's default.
    imputer: what stands in for an absent feature; None: mask for a text where the model has a mask token, otherwise as
        in ``explain``.
    background: other inputs, for the imputers that draw.
    seed: seed of ties and of everything that is drawn.
    rationale: a mark for each feature; for a list of inputs a list of them.
    label: the true label; for a list of inputs a list of them.
    method: the method that made the values, for the metrics that run it again.
    settings: the metric's settings.

Returns:
    One score for each input [example], float64; NaN where it is undefined.

Raises:
    InputError: scores of another length or NaN; a metric that does not fit; a bad setting.
"""


class MetricFunction:
    """A metric as a function."""

    def __init__(self, metric: type[AbstractMetric]) -> None:
        self.metric = metric
        self.__name__ = metric.facts.name
        self.__doc__ = f"{metric.__doc__}{_HOW_TO_CALL}"
        settings = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in metric.model_fields.items()
        ]
        shared = Signature.from_callable(self.__call__).parameters.values()
        plain = [each for each in shared if each.kind is not Parameter.VAR_KEYWORD]
        self.__signature__ = Signature([*plain, *settings], return_annotation=Tensor)

    def __repr__(self) -> str:
        return f"<metric {self.__name__}: {self.metric.facts.title}>"

    def __call__(
        self,
        model: Any,
        raw: Any,
        values: Given | Sequence[Given],
        *,
        target: AbstractTarget | None = None,
        features: str | None = None,
        imputer: str | None = None,
        background: Sequence[Any] = (),
        seed: int = 0,
        rationale: Any = None,
        label: str | Sequence[str] | None = None,
        method: Attributing | Explain | None = None,
        **settings: Any,
    ) -> Float[Tensor, " example"]:
        """See the metric's own description."""
        single = _is_single(values)
        if not single and isinstance(raw, str | Mapping):
            shape = list(values.shape) if isinstance(values, np.ndarray | Tensor) else type(values).__name__
            raise InputError(
                f"one input was given, with values {shape}; give the Explanation itself, or one number for "
                "each feature, such as explanation.values.sum(0)."
            )
        given: Any = [values] if single else values
        one = (lambda each: None if each is None else [each]) if single else (lambda each: each)
        (found,) = evaluate(
            model,
            [raw] if single else raw,
            {"": given},
            [self.metric(**settings)],
            target=target,
            features=features,
            imputer=imputer,
            background=background,
            seed=seed,
            rationales=one(rationale),
            labels=one(label),
            methods={} if method is None else {"": method},
        )
        return found.values


def _is_single(values: Any) -> bool:
    """Whether these are the scores of one input: numbers, and not a list of attributions."""
    if isinstance(values, Explanation):
        return True
    if isinstance(values, np.ndarray | Tensor):
        return values.ndim == 1
    return bool(values) and all(isinstance(each, Real) for each in values)
