"""The validity gate: every metric passes it, and metrics that are broken on purpose fail it by name."""

import math

import numpy as np
import pytest
import torch

from pellucid.errors import InputError
from pellucid.facts import MetricFacts
from pellucid.metrics import AbstractMetric, MaxSensitivity, Mprt, Srg, all_metrics, make_metric, references
from pellucid.metrics.base import explainer
from pellucid.metrics.validity import normalised_scores
from pellucid.testing import ConformanceError, check_metric, metric_gate


@pytest.mark.parametrize("name", all_metrics())
def test_every_metric_passes(name):
    checked = check_metric(make_metric(name))
    assert len(checked) >= 4
    assert "deterministic for a seed" in checked
    assert "inside its range" in checked


def test_what_is_checked_follows_from_the_facts():
    assert set(check_metric(Srg())) == {
        "deterministic for a seed",
        "inside its range",
        "no wasted model call",
        "the random state is left as it was",
        "positive scaling changes nothing",
        "oracle beats random",
        "random beats inverted oracle",
        "a negated map gets another score",
        "with sign='absolute' it gets the same",
        "random is centred at 0",
    }


def facts(**changed):
    known = {
        "name": "broken", "title": "Broken", "family": "correlation", "higher_is_better": True,
        "range": (-1.0, 1.0), "signed": True, "scale_invariant": True, "needs": ("game",),
    }  # fmt: skip
    return MetricFacts(**{**known, **changed})


class Honest(AbstractMetric):
    """Cosine with what the removal of each feature costs."""

    facts = facts()

    def rows(self, players):
        return players + 1

    def score(self, example):
        players = len(example.values)
        masks = np.concatenate([np.ones((1, players), bool), ~np.eye(players, dtype=bool)])
        found = example.question.game.value(masks).sum(1)
        drops = found[0] - found[1:]
        return float(drops @ example.values / np.linalg.norm(drops) / np.linalg.norm(example.values))


class AlwaysTrue(Honest):
    """Says True of every attribution."""

    facts = facts(range=(0.0, 1.0))

    def score(self, example):
        return float(super().score(example) > -2)


class Sizes(Honest):
    """Takes the sizes of the scores, and says it is signed."""

    def score(self, example):
        return super().score(example._replace(values=np.abs(example.values)))


class GlobalState(Honest):
    """Draws from the global random state."""

    def score(self, example):
        return super().score(example) * 0.9 + 0.1 * float(np.random.random())


class Seeding(Honest):
    """Seeds the global random state with the example's seed."""

    def score(self, example):
        torch.manual_seed(example.seed)
        return super().score(example) * 0.9 + 0.1 * float(torch.rand(()))


class Scaling(Honest):
    """Grows with the scores, and says it does not."""

    def score(self, example):
        return math.tanh(super().score(example) * float(np.linalg.norm(example.values)))


class Spending(Honest):
    """Asks for every coalition, and declares one for each feature."""

    def score(self, example):
        players = len(example.values)
        example.question.game.value((np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool))
        return super().score(example)


class AskingAgain(Honest):
    """Asks the model beside the game, anew each time."""

    def score(self, example):
        example.question.model.predicted(example.question.inputs)
        return super().score(example)


class OutOfRange(Honest):
    """Leaves the range that it declares."""

    def score(self, example):
        return 3 * super().score(example)


class Undefined(Honest):
    """Is never defined."""

    def score(self, example):
        return math.nan


class OffCentre(Honest):
    """Says that chance is 0, and is not."""

    facts = facts(chance="0", centred=True)

    def score(self, example):
        return 0.5 + super().score(example) / 2


class WrongWay(Honest):
    """Declares that low is good."""

    facts = facts(higher_is_better=False)


@pytest.mark.parametrize(
    ("metric", "finding"),
    [
        (AlwaysTrue, "oracle beats random"),
        (AlwaysTrue, "random beats inverted oracle"),
        (Sizes, "random beats inverted oracle"),
        (GlobalState, "deterministic for a seed"),
        (GlobalState, "the random state is left as it was"),
        (Seeding, "the random state is left as it was"),
        (Scaling, "positive scaling changes nothing"),
        (Spending, "no wasted model call"),
        (AskingAgain, "no wasted model call"),
        (OutOfRange, "inside its range"),
        (Undefined, "inside its range"),
        (OffCentre, "random is centred at 0"),
        (WrongWay, "oracle beats random"),
    ],
)
def test_a_broken_metric_fails_by_name(metric, finding):
    with np.errstate(all="raise"):
        findings = {each.name: each for each in metric_gate().check(metric())}
    assert not findings[finding].passed, findings[finding].detail


def test_a_broken_metric_is_refused_and_the_honest_one_passes():
    with pytest.raises(ConformanceError, match="broken: not so: deterministic for a seed"):
        check_metric(GlobalState())
    assert all(finding.passed for finding in metric_gate().check(Honest()))


class BothSigns(Honest):
    """Has a sign to choose, and does not read it."""

    sign: str = "signed"


def test_a_sign_that_is_not_read_is_found():
    findings = {each.name: each.passed for each in metric_gate().check(BothSigns())}
    assert not findings["with sign='absolute' it gets the same"]
    assert findings["a negated map gets another score"]


class Forgetful(AbstractMetric):
    """Changes the weights and leaves them so."""

    facts = facts(needs=("method",), family="randomisation", higher_is_better=False, signed=False)

    def rows(self, players):
        return 0

    def score(self, example):
        with torch.no_grad():
            next(example.question.model.module.parameters()).mul_(1.01)
        found = explainer(example, self)(example.question.of(example.question.inputs))
        return float(np.corrcoef(found, example.values)[0, 1])


class Deaf(Forgetful):
    """Runs no method at all."""

    def score(self, example):
        return 0.0


def test_metrics_of_methods_that_are_broken_fail_by_name():
    # A gate of its own: the first of them leaves the model changed.
    findings = {each.name: each.passed for each in metric_gate.__wrapped__().check(Forgetful())}
    assert not findings["the model is left as it was"]
    findings = {each.name: each.passed for each in metric_gate().check(Deaf())}
    assert not findings["seeing beats blind"]
    assert findings["the model is left as it was"]


class WrongWayRound(Forgetful):
    """Randomisation with the wrong direction declared."""

    facts = facts(needs=("method",), family="randomisation", higher_is_better=True)

    def score(self, example):
        return Mprt(steps=2).score(example)


class Negated(Forgetful):
    """Randomisation with the sign of the similarity turned round."""

    def score(self, example):
        return -Mprt(steps=2).score(example)


class GrowsWithTheScores(Forgetful):
    """Robustness that is not relative, and says it is."""

    facts = facts(needs=("method",), family="robustness", higher_is_better=False, range=(0.0, math.inf))

    def rows(self, players):
        return 6

    def score(self, example):
        return MaxSensitivity(draws=2).score(example) * float(np.linalg.norm(example.values))


class LooksAtTheScoresAlone(GrowsWithTheScores):
    """Robustness without moving anything."""

    def score(self, example):
        return float(np.ptp(example.values) / np.linalg.norm(example.values))


class Wasteful(GrowsWithTheScores):
    """Robustness that asks the model more than it says."""

    def score(self, example):
        for _ in range(9):
            example.question.model.predicted(example.question.inputs)
        return MaxSensitivity(draws=2).score(example)


@pytest.mark.parametrize(
    ("metric", "finding"),
    [
        (WrongWayRound, "seeing beats blind"),
        (Negated, "seeing beats blind"),
        (GrowsWithTheScores, "positive scaling of method and scores changes nothing"),
        (LooksAtTheScoresAlone, "a constant map scores 0 and one that looks at the model more"),
        (Wasteful, "no wasted model call"),
    ],
)
def test_a_metric_of_methods_that_is_broken_fails_by_name(metric, finding):
    findings = {each.name: each for each in metric_gate().check(metric())}
    assert not findings[finding].passed, findings[finding].detail


def test_references():
    oracle = [np.array([3.0, -4.0]), np.array([0.5, 0.1, -2.0])]
    rows = references(oracle, seed=1)
    assert list(rows) == ["oracle", "random", "inverted random", "inverted oracle"]
    for place, best in enumerate(oracle):
        noise = rows["random"][place]
        assert np.linalg.norm(noise) == pytest.approx(np.linalg.norm(best))
        assert abs(noise @ best) < np.linalg.norm(best) ** 2
        np.testing.assert_array_equal(rows["inverted random"][place], -noise)
        np.testing.assert_array_equal(rows["inverted oracle"][place], -best)
        np.testing.assert_array_equal(noise, references(oracle, seed=1)["random"][place])
        assert not np.array_equal(noise, references(oracle, seed=2)["random"][place])


def test_normalised_scores():
    found = normalised_scores({"oracle": 5.0, "random": 1.0, "mine": 2.0, "inverted": -3.0})
    assert found == {"oracle": 1, "random": 0, "mine": 0.25, "inverted": -1}
    low_is_good = normalised_scores({"exact": 0.5, "noise": 4.5, "mine": 1.5}, ceiling="exact", floor="noise")
    assert low_is_good == {"exact": 1, "noise": 0, "mine": 0.75}
    assert all(map(math.isnan, normalised_scores({"oracle": 1.0, "random": 1.0, "mine": 3.0}).values()))


def test_a_metric_is_made_by_its_name():
    assert make_metric("srg", steps=7) == Srg(steps=7)
    with pytest.raises(InputError, match="did you mean 'srg'"):
        make_metric("srgg")
    assert all(make_metric(name).facts.name == name for name in all_metrics())
