"""What the model decides on one prompt, and with what probability."""

import math
from typing import NamedTuple

import numpy as np
import torch

from pellucid.audit.config import AuditConfig
from pellucid.errors import InputError
from pellucid.models import CausalLM, TextClassifier, TextInputs
from pellucid.targets import AbstractTarget, Choice, Generated


class Verdict(NamedTuple):
    """A decision, before it is explained."""

    target: AbstractTarget
    """What is explained: the chosen option, or the generated answer."""
    options: tuple[str, ...]
    """The given answers; empty for a generated one."""
    probabilities: tuple[float, ...]
    """Probability of each option, normalised over the options."""
    log_probs: tuple[float, ...]
    """Log-probability of every option as the model scored it, or of every generated token."""
    output: str
    """The chosen option, or the generated text."""
    token_ids: tuple[int, ...]
    """The generated tokens; empty for a choice."""


def decide(model: CausalLM | TextClassifier, inputs: TextInputs, config: AuditConfig) -> Verdict:
    """Let the model choose, or answer. Cost: one forward pass for options of one token each."""
    if config.choices:
        return _choose(model, inputs, config.choices)
    if not isinstance(model, CausalLM):
        raise InputError("a classifier writes no answer; give choices in place of generate.")
    assert config.generate is not None
    wish = Generated(**config.generate.model_dump())
    bound = model.bind(wish, inputs)
    with torch.no_grad():
        (scored,) = model.alternatives([inputs.row], bound)
    ids = bound.alternatives[0]
    log_probs = tuple(scored.log_prob[0].double().tolist())
    text = str(model.tokenizer.decode(list(ids)))
    return Verdict(bound.target, (), (math.exp(sum(log_probs)),), log_probs, text, ids)


def _choose(model: CausalLM | TextClassifier, inputs: TextInputs, options: tuple[str, ...]) -> Verdict:
    bound = model.bind(Choice(options).all, inputs)
    with torch.no_grad():
        scored = model.alternatives([inputs.row], bound)
    log_probs = np.array([float(each.log_prob.double().sum()) for each in scored])
    normalised = np.exp(log_probs - np.logaddexp.reduce(log_probs))
    chosen = options[int(normalised.argmax())]
    probabilities = tuple(normalised.tolist())
    return Verdict(Choice(options, chosen), options, probabilities, tuple(log_probs.tolist()), chosen, ())
