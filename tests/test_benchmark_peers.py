"""Captum, SHAP and LIME as methods: their own numbers, on the same question."""

import threading

import numpy as np
import pytest
import torch

from peer_questions import ROW, TARGET, TEXT, boosted, classifier, convolutions, of_text, perceptron, picture
from pellucid import Logit
from pellucid.api import Asked
from pellucid.benchmark import peers
from pellucid.benchmark.peers import PEERS, absent_peers, all_peers, make_peer
from pellucid.benchmark.peers.base import ForeignCode
from pellucid.errors import InputError, MissingPackageError, ModelError, NumericalError, UnknownNameError
from pellucid.games import FunctionGame
from pellucid.testing import promises

NAMES = [peer.facts.name for peer in PEERS]
SMALL = {"samples": 12, "permutations": 2, "steps": 4}
TEXTUAL = [peer for peer in PEERS if "text" in peer.facts.modalities]


def small(peer):
    return peer(**{name: size for name, size in SMALL.items() if name in peer.model_fields})


@pytest.mark.parametrize("peer", PEERS, ids=NAMES)
def test_facts_are_complete(peer):
    facts = peer.facts
    assert facts.name.startswith(f"{peer.library}:")
    assert facts.title
    assert facts.cost
    assert facts.source
    assert facts.modalities
    assert small(peer).rows(5) > 0
    assert all_peers()[facts.name] is peer
    assert type(make_peer(facts.name)) is peer


@pytest.mark.parametrize("peer", TEXTUAL, ids=[peer.facts.name for peer in TEXTUAL])
def test_every_peer_holds_what_its_facts_promise(peer):
    """All promises of a method but two: none of the libraries tells a standard error, and each target costs rows."""
    method = small(peer)
    waived = {"standard errors come with sampling"}
    waived |= {"no more rows than declared"} if peer.facts.family == "gradient" else set()
    # Four points on the path do not make an integral converge.
    waived |= {"the scores sum to f(input) - f(baseline)"} if "steps" in peer.model_fields else set()
    checked = 0
    for promise in promises(method):
        if promise.name not in waived:
            promise.check()
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_declares_the_rows_that_it_asks(name):
    """No more than that, and the same again."""
    peer = all_peers()[name]
    method = small(peer)
    model, raw, options = {
        "text": (classifier(), TEXT, {"target": TARGET, "features": "word"}),
        "image": (convolutions(), picture(), {"target": Logit("a"), "features": "patch:4"}),
        "tabular": (boosted() if name == "shap:tree" else perceptron(), ROW, {"target": Logit("yes")}),
    }[peer.facts.modalities[0]]
    asked = Asked.of(model, raw, imputer="mask" if model.modality == "text" else "mean", **options)
    before = model.meter.snapshot()
    found = method.attribute(asked.question)
    spent = model.meter - before
    assert spent.rows <= method.rows(len(asked.question.features))
    assert found.settings["rows_asked"] <= method.rows(len(asked.question.features))
    assert (spent.backwards > 0) == (peer.facts.family == "gradient")
    again = method.attribute(asked.question)
    np.testing.assert_array_equal(found.values, again.values)


# The same whatever else is running


def test_what_a_peer_draws_is_its_own():
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = of_text(make_peer("captum:kernel_shap"), "mask", seed=1).values
    assert (np.random.get_state()[1] == states[0]).all()
    assert torch.equal(torch.get_rng_state(), states[1])
    np.random.default_rng()
    assert (of_text(make_peer("captum:kernel_shap"), "mask", seed=1).values == first).all()
    assert (of_text(make_peer("captum:kernel_shap"), "mask", seed=2).values != first).any()


def test_peers_side_by_side_draw_what_they_draw_alone():
    """Each waits for the model in turn, in the middle of its draws."""

    def drawn(seed):
        with ForeignCode(seed) as code:
            found = []
            for _ in range(50):
                found.append((np.random.random(), float(torch.rand(1))))
                with code.outside():
                    barrier.wait(5)
            return found

    barrier = threading.Barrier(1)
    alone = [drawn(seed) for seed in (1, 2)]
    barrier = threading.Barrier(2)
    together = {}
    threads = [threading.Thread(target=lambda seed=seed: together.update({seed: drawn(seed)})) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [together[seed] for seed in (1, 2)] == alone


def test_an_error_of_a_library_is_told_in_a_sentence(monkeypatch):
    import captum.attr

    def broken(*_, **__):
        raise KeyError("some\nkey")

    monkeypatch.setattr(captum.attr.FeatureAblation, "attribute", broken)
    with pytest.raises(ModelError, match=r"^captum:feature_ablation raised KeyError: 'some\\nkey'\.$"):
        of_text(make_peer("captum:feature_ablation"))


def test_an_error_of_the_model_stays_what_it_is():
    def broken(coalitions):
        raise NumericalError("not a number.")

    question = Asked.of(classifier(), TEXT, target=TARGET, features="word").question
    with pytest.raises(NumericalError, match="not a number"):
        make_peer("shap:permutation").attribute(question._replace(game=FunctionGame(broken, 5)))
    # The lock is free again.
    assert of_text(make_peer("captum:feature_ablation")).values.shape == (1, 5)


def test_a_library_that_is_not_there(monkeypatch):
    def no_lime(name):
        return None if name == "lime" else object()

    monkeypatch.setattr(peers, "find_spec", no_lime)
    monkeypatch.setattr("pellucid.benchmark.peers.base.find_spec", no_lime)
    sentence = "lime, whose methods are compared, is not installed; run: pip install 'pellucid[lime]'"
    assert absent_peers() == {"lime": sentence}
    assert not any(name.startswith("lime:") for name in all_peers())
    with pytest.raises(MissingPackageError, match="run: pip install"):
        make_peer("lime:text")


def test_an_unknown_peer_is_named():
    assert absent_peers() == {}
    with pytest.raises(UnknownNameError, match="no peer is called 'captum:limes'; did you mean 'captum:lime'"):
        make_peer("captum:limes")
    with pytest.raises(InputError, match="samples"):
        make_peer("captum:lime", samples=0)


def test_warming_up_explains_nothing_wrong():
    peers.warm_up()
