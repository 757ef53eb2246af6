"""Every method passes the public suite, and the suite catches every way of breaking a promise."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from pellucid.facts import Facts
from pellucid.methods import AbstractMethod, Attribution, Occlusion, all_methods
from pellucid.testing import ConformanceError, check_method, promises, tiny_model

SETTINGS = {"path_integral": {"max_pieces": 256}}


@pytest.mark.parametrize("name", all_methods())
def test_every_method_conforms(name):
    names = check_method(all_methods()[name](**SETTINGS.get(name, {})))
    assert len(names) >= 6


@pytest.mark.parametrize("name", all_methods())
def test_facts_are_complete(name):
    method = all_methods()[name]
    facts = method.facts
    assert facts.name == name
    assert facts.title
    assert facts.cost
    assert facts.source
    assert facts.to_dict()["modalities"] == list(facts.modalities)
    assert method(**SETTINGS.get(name, {})).rows(5) > 0


class Honest(AbstractMethod):
    """Occlusion with a handle for breaking it."""

    facts: ClassVar[Facts] = Occlusion.facts

    def rows(self, players: int) -> int:
        return players + 2

    def attribute(self, question):
        return Occlusion().attribute(question)


def facts(**changes):
    return Facts(**{"name": "broken", "title": "Broken", "family": "perturbation", "modalities": ("text",)} | changes)


class Random(Honest):
    def attribute(self, question):
        found = super().attribute(question)
        return found._replace(values=found.values + np.random.default_rng().normal(size=found.values.shape))


class WrongShape(Honest):
    def attribute(self, question):
        found = super().attribute(question)
        return found._replace(values=found.values[:, :-1])


class Trains(Honest):
    def attribute(self, question):
        question.model.module.train(not question.model.module.training)
        return super().attribute(question)


class Hooks(Honest):
    def attribute(self, question):
        question.model.module.model.norm.register_forward_hook(lambda *given: None)
        return super().attribute(question)


class Changes(Honest):
    def attribute(self, question):
        with torch.no_grad():
            question.model.module.model.norm.weight[0] += 1e-3
        found = super().attribute(question)
        return found._replace(values=np.zeros_like(found.values))


class Draws(Honest):
    def attribute(self, question):
        torch.rand(1)
        return super().attribute(question)


class DrawsNumpy(Honest):
    def attribute(self, question):
        np.random.rand()
        return super().attribute(question)


class Spends(Honest):
    def rows(self, players: int) -> int:
        return 1


class Incomplete(Honest):
    facts: ClassVar[Facts] = facts(complete=True)

    def attribute(self, question):
        found = super().attribute(question)
        return found._replace(values=found.values * 0 + 10)


class NoErrors(Honest):
    facts: ClassVar[Facts] = facts(sampled=True)


class Negative(Honest):
    facts: ClassVar[Facts] = facts(signed=False)

    def attribute(self, question):
        found = super().attribute(question)
        return found._replace(values=-np.abs(found.values) - 1)


class Remembers(Honest):
    seen: ClassVar[list] = []

    def attribute(self, question):
        text = question.inputs.prompt.text
        found: Attribution = super().attribute(question)
        self.seen.append(text)
        # The same text twice in a row gives the same; a text after another one does not.
        fresh = len(self.seen) < 2 or self.seen[-2] == text
        return found if fresh else found._replace(values=found.values + len(set(self.seen)) + len(self.seen))


BROKEN = {
    Random: "deterministic for a seed",
    WrongShape: None,
    Trains: "the model is left as it was",
    Hooks: "the model is left as it was",
    Changes: "the model is left as it was",
    Draws: "the random state is left as it was",
    DrawsNumpy: "the random state is left as it was",
    Spends: "no more rows than declared",
    Incomplete: "the scores sum to f(input) - f(baseline)",
    NoErrors: "standard errors come with sampling",
    Negative: "unsigned scores are not negative",
    Remembers: "a batch gives what single calls give",
}


@pytest.fixture(autouse=True)
def fresh_model():
    """Broken methods break the model; the next one gets a new one."""
    yield
    if tiny_model.cache_info().currsize:
        module = tiny_model().module
        broken = module.training or module.model.norm._forward_hooks or bool((module.model.norm.weight != 1).any())
        if broken:
            tiny_model.cache_clear()


def test_the_honest_method_passes():
    assert len(check_method(Honest())) >= 6


@pytest.mark.parametrize("method", BROKEN, ids=lambda method: method.__name__)
def test_a_broken_promise_is_caught(method):
    tiny_model.cache_clear()
    Remembers.seen.clear()
    named = {promise.name: promise.check for promise in promises(method())}
    with pytest.raises(ConformanceError if BROKEN[method] else (ConformanceError, ValueError)):
        named[BROKEN[method] or "one score for each feature and target"]()
    tiny_model.cache_clear()
