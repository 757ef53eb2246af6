"""G8: pairs of models of the same inputs, one of the object and one of the scene."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.benchmark import judge
from pellucid.benchmark.truth_page import cell
from pellucid.games import ask
from pellucid.games.table import all_coalitions
from pellucid.ground_truth import all_truths
from pellucid.ground_truth.paired import OBJECTS, PATTERNS, PICTURES, SCENES, pattern, pattern_model, picture
from pellucid.ground_truth.paired_words import (
    LENGTH,
    PLACES,
    SCENERY,
    THINGS,
    draw,
    labels,
    paired_model,
    vocabulary,
)

ROOT = Path(__file__).parent.parent
TRUTHS = {truth.name: truth for truth in all_truths() if truth.rung == "G8"}
PARTS = ("object", "scene")


def test_patterns_are_alike_to_none_but_themselves():
    for name in PATTERNS:
        for other in PATTERNS:
            same = float((pattern(name) * pattern(other)).sum())
            assert same == 16 if name == other else same <= 0


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("case", PICTURES)
def test_what_a_part_is_worth_is_known_for_every_coalition(part, case):
    """4 for the object's patch and 1/2 for each of the scene's, of which a model holds its own part and no other."""
    thing, scene, place = case
    model = pattern_model(part)
    assert model.predicted(model.encode(picture(*case))) == (thing if part == "object" else scene)
    question = ask(model, picture(*case), features="patch:4")
    masks = all_coalitions(9)
    found = question.game.value(masks)[:, 0]
    mine = np.arange(9) == place if part == "object" else np.arange(9) != place
    np.testing.assert_allclose(found, (masks * mine).sum(1) * (4.0 if part == "object" else 0.5), atol=1e-6)


def test_pictures_are_what_they_say():
    thing, scene, place = PICTURES[1]
    drawn = picture(thing, scene, place).reshape(3, 4, 3, 4).transpose(0, 2, 1, 3).reshape(9, 4, 4)
    for number, patch in enumerate(drawn):
        expected = PATTERNS[thing if number == place else scene]
        assert ["".join("#" if pixel else "." for pixel in row) for row in patch.tolist()] == list(expected)
    assert {thing for thing, _, _ in PICTURES} == set(OBJECTS)
    assert {scene for _, scene, _ in PICTURES} == set(SCENES)


def test_paired_sentences_keep_their_word():
    for seed in range(200):
        each = draw(np.random.default_rng(seed))
        assert len(each.words) == LENGTH
        thing, place = THINGS[each.labels["object"]], PLACES[each.labels["scene"]]
        assert [word in thing for word in each.words] == each.is_object.tolist()
        assert each.is_object.sum() == 1
        assert sum(word in place for word in each.words) == SCENERY
        others = [word for classes in (THINGS, PLACES) for words in classes.values() for word in words]
        assert sum(word in others for word in each.words) == 1 + SCENERY


@pytest.mark.parametrize("part", PARTS)
def test_a_paired_network_knows_its_label_and_nothing_else(part):
    model, generator = paired_model(part), np.random.default_rng(9)
    drawn = [draw(generator) for _ in range(200)]
    inputs = [model.encode(" ".join(each.words)) for each in drawn]
    predicted = model.logits([each.row for each in inputs]).argmax(1).tolist()
    assert np.mean([model.labels[p] == each.labels[part] for p, each in zip(predicted, drawn, strict=True)]) > 0.99
    mask, start = vocabulary()["[MASK]"], inputs[0].row.ids[0]
    empty = model.logits([inputs[0].row._replace(ids=(start, *[mask] * LENGTH))]).softmax(1)[0, 1]
    assert 0.3 < float(empty) < 0.7
    assert tuple(model.labels) == labels(part)


def test_the_paired_files_are_small():
    files = list((ROOT / "src/pellucid/ground_truth/paired").iterdir())
    assert {file.name for file in files} == {"README.md", "object.safetensors", "scene.safetensors"}
    assert sum(file.stat().st_size for file in files) < 100_000


@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("method", ["exact_shapley", "integrated_gradients", "occlusion", "lrp-epsilon"])
def test_the_attribution_moves_with_the_label(method, name):
    truth = TRUTHS[name]
    verdict = judge(method, truth)
    assert verdict.quantity == "contrast"
    assert verdict.contrast > 0.95
    assert verdict.outcome == "exact" if name == "paired-pictures" else verdict.outcome in ("exact", "close")
    assert cell(verdict)[2:] in ("1.00", "0.99", "0.98", "0.97", "0.96", "0.95")
    # With the models changed over it moves the other way, and with one model twice it stays.
    turned = judge(method, replace(truth, model=truth.partner, partner=truth.model, fails={}))
    assert turned.contrast == pytest.approx(-verdict.contrast, abs=1e-6)
    assert turned.outcome == "wrong"
    still = judge(method, replace(truth, partner=truth.model, fails={}))
    assert still.contrast == pytest.approx(0, abs=1e-9)
    assert still.outcome == "wrong"


def test_guided_backpropagation_draws_the_picture_whatever_is_asked():
    verdict = judge("guided_backprop", TRUTHS["paired-pictures"])
    assert verdict.outcome == "wrong"
    assert abs(verdict.contrast) < 0.1
    assert not verdict.unexpected


def test_the_weights_are_those_of_the_script():
    """The first steps of training run, and the networks have the shape that was saved."""
    spec = importlib.util.spec_from_file_location("train_paired", ROOT / "training" / "train_paired.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    ids, classes = script.encoded([draw(np.random.default_rng(0)) for _ in range(3)], "scene")
    assert ids.shape == (3, 1 + LENGTH)
    assert set(classes.tolist()) <= {0, 1}
    gone = script.masked(ids, torch.Generator().manual_seed(0))
    assert (gone[:, 0] == ids[:, 0]).all()
    assert ((gone == ids) | (gone == vocabulary()["[MASK]"])).all()
