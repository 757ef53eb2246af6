"""Steering that would give wrong numbers in silence: other events, a mute model, readings of a judge, odd requests."""

from pathlib import Path

import pytest
import torch

from pellucid.errors import InputError, NumericalError
from pellucid.report.steering import steering_page
from pellucid.sae import SAE, Site, edited
from pellucid.sae.events import Events
from pellucid.sae.steering import Called, Pattern, Positions, Sampling, Settings, Steer, Subject, answers, asked, rate
from pellucid.sae.steering.modes import MODES
from pellucid.sae.steering.opening import bench_of
from pellucid.sae.steering.summary import summarised
from test_sae_steering_experiment import (
    PROMPTS,
    SITE,
    Scripted,
    dictionary,
    folders,
    generation,
    invoked,
    model,
    run,
    settings,
    subject,
)
from tiny_stores import store_of

__all__ = ["folders"]


# What belongs together


def twin(**origin):
    """An autoencoder of the same size whose latents are others."""
    weights = {name: tensor.flip(0) for name, tensor in dictionary().state_dict().items()}
    return SAE(dictionary().config, weights, dictionary().origin.model_copy(update=origin))


@pytest.fixture(scope="module")
def harvested(tmp_path_factory):
    """Two stores, and events in the first: of the autoencoder, and of another one of the same size."""
    folder = tmp_path_factory.mktemp("harvested")
    x = torch.randn(60, 32, generator=torch.Generator().manual_seed(3))
    stores = [store_of(folder / name, x + shift, site=SITE) for name, shift in (("store", 0), ("other", 1))]
    mine = Events.write(dictionary(), stores[0], SITE, folder / "mine")
    theirs = Events.write(twin(), stores[0], SITE, folder / "theirs")
    return stores, mine, theirs


def test_events_of_another_autoencoder_store_or_site_are_refused(harvested, folders, tmp_path):
    stores, mine, theirs = harvested
    how = settings(controls=(), strengths=(1.0,), scale="activation")
    for given, said in (
        ({"events": theirs}, "are of another autoencoder"),
        ({"events": mine, "store": stores[1]}, "were found in another store"),
        ({"events": mine, "site": "model.layers.0"}, "are of 'model.norm' and the steering is at 'model.layers.0'"),
    ):
        with pytest.raises(InputError, match=said):
            run(tmp_path / "run", settings=how, **given)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="are of another autoencoder"):
        bench_of(folders / "sae", None, PROMPTS, site=None, settings=how, events=theirs.folder)
    plan = run(tmp_path / "run", prompts=PROMPTS[:2], settings=how, events=mine, store=stores[0]).plan
    assert (plan["events"]["sae"], plan["store"]) == (mine.manifest.source.sae, stores[0].digest)


def test_another_model_is_refused_and_another_site_is_said(folders, tmp_path):
    weights = model().fingerprint().weights
    small = settings(controls=(), strengths=(1.0,))
    mine, foreign = (dictionary().origin.model_copy(update={"fingerprint": each}) for each in (weights, "0" * 64))
    for origin, name in ((mine, "mine"), (foreign, "foreign")):
        SAE(dictionary().config, dict(dictionary().state_dict()), origin).save(tmp_path / name)
    name = str(folders / "model")
    assert bench_of(tmp_path / "mine", name, PROMPTS, site=None, settings=small).site == Site.of(SITE)
    with pytest.raises(InputError, match="float32 are not those that the autoencoder was trained on, 'tiny' with 0000"):
        bench_of(tmp_path / "foreign", name, PROMPTS, site=None, settings=small)
    moved = run(tmp_path / "moved", prompts=PROMPTS[:2], settings=small, site="model.layers.0")
    assert "was trained at model.norm and is steered at model.layers.0" in moved.notes[0]
    assert "was trained at model.norm and is steered at model.layers.0" in steering_page(moved.model_dump(mode="json"))
    shown = invoked(folders, "--latent", 2, "--prompt", "high", "--strengths", 1, "--show", "--site", "model.layers.0")
    assert "is steered at model.layers.0" in shown.stderr


# Too much


def test_a_model_that_falls_silent_is_over_the_budget():
    plain = [generation("unsteered", n, {"c": True}) for n in range(10)]
    mute = {"text": "", "nll": None, "distinct": None, "ids": ()}
    silent = [generation("steered", n, {"c": False}, strength=-2.0, **mute) for n in range(10)]
    often, seldom = (
        [generation("steered", n, {"c": False}, strength=at, **(mute if n < count else {})) for n in range(10)]
        for at, count in ((-1.0, 3), (-0.5, 2))
    )
    asked_for = Subject((0,), Pattern("c", "c"))
    every = [*plain, *silent, *often, *seldom]
    found = summarised(asked_for, (1.0,), every, Settings(), [], ["p"] * 10)
    assert [point.within for point in found.points] == [True, False, False, True]
    assert found.best[0].strength == -0.5
    alone = summarised(asked_for, (1.0,), [*plain, *silent], Settings(), [], ["p"] * 10).best[0]
    assert (alone.strength, alone.holds) == (None, False)
    # Empty before as well: nothing new.
    before = [generation("unsteered", n, {"c": n < 5}, **mute) for n in range(10)]
    assert all(point.within for point in summarised(asked_for, (1.0,), [*before, *silent], Settings(), [], []).points)


def test_what_is_over_the_budget_is_told_only_where_it_is_more_than_nothing():
    plain = [generation("unsteered", n, {"c": False}) for n in range(8)]
    wild = [generation("steered", n, {"c": False}, strength=1.0, nll=9.0) for n in range(8)]
    best = summarised(Subject((0,), Pattern("c", "c")), (1.0,), [*plain, *wild], Settings(), [], ["p"] * 8).best[0]
    assert (best.holds, best.reason) == (False, "no strength that was tried stays within the budget")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_push_beyond_all_numbers_is_refused(temperature):
    prompts, how = asked(model(), PROMPTS[:2]), Sampling(max_new_tokens=2, temperature=temperature)
    push, site = Steer(dictionary(), (2,), (1e39,), 2.0), Site.of("model.layers.0")
    with pytest.raises(NumericalError, match=r"activations become NaN .* under latent 2 at strength 2 by add; take a"):
        answers(prompts, how, steer=push, site=site)
    # What is finite at one site need not stay so further on.
    mild = Steer(dictionary(), (2,), (1.0,), 2.0)
    with edited(model().module, Site.of("lm_head"), lambda logits: logits * torch.nan):
        with pytest.raises(NumericalError, match="pushed by latent 2 at strength 2 by add, made logits that are NaN"):
            answers(prompts, how, steer=mild, site=site)
        with pytest.raises(NumericalError, match="the model made logits that are NaN"):
            answers(prompts, how)


@pytest.mark.parametrize("mode", MODES)
def test_a_control_of_several_latents_is_as_long_as_all_of_them(mode):
    h, along = torch.randn(40, 32) * 3, torch.randn(2, 32)
    given = {"latents": (2, 5), "scales": (0.7, 0.9), "strength": 2.0, "mode": MODES[mode]}
    overlapping = dictionary().W_dec.clone()
    overlapping[5] = 0.6 * overlapping[2] + 0.8 * overlapping[5]
    sae = SAE(dictionary().config, {**dictionary().state_dict(), "W_dec": overlapping})
    plain, other = Steer(sae, **given).change(h), Steer(sae, **given, along=along).change(h)
    assert torch.allclose(plain.norm(dim=1), other.norm(dim=1), rtol=1e-4, atol=1e-5)
    assert Steer(sae, **{**given, "strength": 0.0, "mode": MODES["add"]}, along=along).change(h).eq(0).all()


# What is asked for


def test_a_position_that_no_sequence_has_is_refused(folders, tmp_path):
    lengths = [len(row.ids) for row in asked(model(), PROMPTS).rows]
    least = min(lengths)
    for given in (500, least + 3, -least - 1):
        with pytest.raises(InputError, match=f"the position {given} is steered nowhere: the prompt '"):
            run(tmp_path / "run", settings=settings(positions=f"0,{given}"))
    assert not (tmp_path / "run").exists()
    shown = invoked(folders, "--latent", 2, "--prompt", "high", "--show", "--positions", "500")
    assert "the position 500 is steered nowhere" in shown.stderr
    last = settings(positions=f"{least + 2},{-least}", controls=(), strengths=(1.0,))
    assert run(tmp_path / "run", settings=last).plan["settings"]["positions"] == str(Positions.of(last.positions))


def test_a_picture_for_a_model_of_texts_is_refused(folders):
    shown = invoked(folders, "--latent", 2, "--prompt", "high", "--image", Path("x.png"), "--show")
    assert shown.exit_code == 2
    assert "reads no pictures; leave --image out" in shown.stderr


def test_a_latent_is_named_once_and_a_judge_needs_a_label(folders, tmp_path):
    words = ("--latent", 2, "--prompt", "high", "--out", tmp_path / "out")
    twice = invoked(folders, *words, "--concept", "2=a", "--concept", "2=b")
    assert "--concept names latent 2 twice; give it once" in twice.stderr
    unnamed = invoked(folders, *words, "--concept", "risk", "--judge", folders / "judge")
    assert "the judge is asked about a concept in words; give --label 2=WORDS" in unnamed.stderr
    with pytest.raises(InputError, match="give latent 2 a label"):
        run(tmp_path / "run", [Subject((2,), Pattern("risk", "risk"))], judge=Scripted())


@pytest.mark.parametrize(
    ("said", "rating"),
    [
        ("1.0", 1), ("2.0", 2), ("Rating: 2 (scale 0-2)", 2), ("**1**", 1), ("2.", 2),
        ("0.5", None), ("1.5", None), ("1 out of 2", None), ("1/2", None), ("0 to 2: 1", None), ("0-2", None),
        ("10", None), ("-1", None), ("3", None), ("2nd", None), ("20%", None),
    ],
)  # fmt: skip
def test_a_rating_is_a_number_that_stands_for_itself(said, rating):
    (found,) = rate(Scripted(said, "2", "2"), "war", ["p"], ["a"])
    assert found.concept == rating


# What is measured


def test_concepts_of_other_latents_are_to_be_left_alone(tmp_path):
    first, second = subject(), Subject((7,), Pattern("the", r"\bthe\b"), "the")
    small = settings(controls=(), strengths=(2.0,))
    both = run(tmp_path / "both", [first, second], prompts=PROMPTS[:3], settings=small, others=[Pattern("age", "age")])
    assert [list(each.points[1].others) for each in both.subjects] == [["the", "age"], ["risk", "age"]]
    assert [each["others"] for each in both.plan["subjects"]] == [["the", "age"], ["risk", "age"]]
    assert both.notes == ()
    alone = run(tmp_path / "one", prompts=PROMPTS[:2], settings=small)
    assert alone.subjects[0].points[1].flips is None
    assert alone.notes == ("no other concepts were given, so it is not measured whether steering changes those",)
    assert "no other concepts were given" in steering_page(alone.model_dump(mode="json"))


def test_a_page_without_a_rate_of_unsteered_answers(tmp_path):
    calls = []

    def late(text):
        calls.append(text)
        return None if len(calls) <= 2 else True

    given = [Subject((2,), Called("c", late), "c")]
    summary = run(tmp_path, given, prompts=PROMPTS[:2], settings=settings(controls=(), strengths=(1.0,)))
    assert (summary.subjects[0].best[0].rate, summary.subjects[0].best[0].unsteered) == (1, None)
    assert "cannot be told" in steering_page(summary.model_dump(mode="json"))
