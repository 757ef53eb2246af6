"""A steering experiment: a planted direction must be found out, a random one must not, and a stopped run goes on."""

import json
import math
import statistics
from functools import cache
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from typer.testing import CliRunner

import tiny
from pellucid.cli import app
from pellucid.cli.sae import steer_options as command
from pellucid.errors import InputError, RecordError, UnknownNameError
from pellucid.models import CausalLM, TextClassifier
from pellucid.report.steering import steering_page
from pellucid.sae import SAE, Config, Origin
from pellucid.sae.interpretation.asking import Ledger
from pellucid.sae.steering import (
    CONTROLS,
    MODES,
    Called,
    Classified,
    Judged,
    Pattern,
    Rating,
    Sampling,
    Settings,
    Subject,
    rate,
    steer_experiment,
)
from pellucid.sae.steering.controls import difference_of_means, random_directions, random_latents
from pellucid.sae.steering.intervals import bootstrap, sign_flip
from pellucid.sae.steering.journal import Generation
from pellucid.sae.steering.plan import Budget, Condition
from pellucid.sae.steering.positions import NAMED
from pellucid.sae.steering.summary import summarised
from pellucid.sae.steering.texts import distinct, edit_distance, longest_run

PROMPTS = tuple(f"{word} risk" for word in ("high", "low", "the", "left", "yes", "no", "large", "tumour"))
SITE = "model.norm"
PLANTED, WORD = 2, " risk"


@cache
def model():
    return CausalLM(*tiny.decoder("llama"))


@cache
def dictionary():
    """Latent 2 decodes to the direction that makes the last layer say " risk"."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(12, 32, generator=generator)
    (token,) = model().tokenizer(WORD)["input_ids"]
    rows[PLANTED] = model().module.lm_head.weight[token].detach()
    rows = rows / rows.norm(dim=1, keepdim=True)
    weights = {"W_enc": rows, "b_enc": torch.zeros(12), "W_dec": rows, "b_dec": torch.zeros(32)}
    return SAE(Config(d_in=32, width=12, k=6, architecture="topk"), weights, Origin(model="tiny", site=SITE))


def settings(**given):
    sampling = Sampling(max_new_tokens=4)
    wide = Budget(flips=1.0, perplexity=1e9, distinct=0.0)
    given = {"strengths": (-2.0, 2.0), "scale": "norm", "sampling": sampling, "budget": wide, **given}
    return Settings(**given)


def subject(latent=PLANTED, **rest):
    return Subject((latent,), Pattern("risk", "risk"), "risk", **rest)


def run(out, subjects=None, prompts=PROMPTS, **rest):
    given = {"settings": settings(), **rest}
    return steer_experiment(model(), dictionary(), subjects or [subject()], prompts, out=out, **given)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The planted latent and another one."""
    out = tmp_path_factory.mktemp("planted") / "run"
    asked = subject(prefix="Say risk."), Subject((7,), Pattern("risk", "risk"), prefix="Say risk.")
    asked = asked[0], Subject((7,), asked[0].matcher, prefix="Say risk.")
    controls = ("random-direction", "random-latent", "prompted")
    return out, run(out, asked, settings=settings(controls=controls), others=[Pattern("age", "age|old")])


def test_a_planted_direction_steers_and_random_ones_do_not(planted):
    _, summary = planted
    first, second = summary.subjects
    rates = {point.condition.key: point.on_target.mean for point in first.points}
    assert rates["steered add 2"] == 1
    assert rates["steered add -2"] == 0
    assert rates["unsteered"] < 0.5
    for arm in ("random-direction", "random-latent"):
        assert rates[f"{arm} add 2"] < 0.5
    best = first.best[0]
    assert (best.direction, best.strength, best.rate, best.holds) == ("promote", 2, 1, True)
    assert best.level == 0.05
    assert best.p == {"unsteered": 2**-8, "random-direction": 2**-8, "random-latent": 2**-8}
    assert second.best[0].holds is False
    share = summary.shares[0]
    assert (share.holding, share.told, share.untold) == (1, 2, 0)
    assert (
        "add: 1 of 2 latents can make the labelled concept appear (Wilson 95 %: 9% to 91%): mixed success"
        in share.sentence
    )
    assert (share.interval.low, share.interval.high) == pytest.approx((0.0945, 0.9055), abs=1e-4)


def test_every_answer_is_on_disk_with_its_measures(planted):
    out, summary = planted
    lines = [json.loads(line) for line in (out / "2.jsonl").read_text().splitlines()]
    assert len(lines) == len(PROMPTS) * (1 + 2 * 3)
    plain = [Generation.model_validate_json(line) for line in (out / "unsteered.jsonl").read_text().splitlines()]
    assert len(plain) == len(PROMPTS)
    by_prompt = {each.prompt: each for each in plain}
    for line in lines:
        each, before = Generation.model_validate(line), by_prompt[line["prompt"]]
        assert each.text == model().tokenizer.decode(list(each.ids))
        assert each.found == {"risk": "risk" in each.text.lower(), "age": "age" in each.text or "old" in each.text}
        assert each.edit == edit_distance(before.ids, each.ids)
        assert each.own.keys() == {PLANTED}
    assert json.loads((out / "summary.json").read_text()) == summary.model_dump(mode="json")


def test_a_stopped_run_goes_on_and_ends_as_the_whole_one(planted, tmp_path):
    out, whole = planted
    calls, stopping = [], True

    def count(text):
        calls.append(text)
        if stopping and len(calls) > 60:
            raise KeyboardInterrupt
        return "risk" in text.lower()

    def asked():
        matcher = Called("risk", count, "the word")
        return [Subject((latent,), matcher, label, "Say risk.") for latent, label in ((PLANTED, "risk"), (7, ""))]

    controls = ("random-direction", "random-latent", "prompted")
    rest = {"settings": settings(controls=controls), "others": [Pattern("age", "age|old")]}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, asked(), **rest)
    before = (tmp_path / "2.jsonl").read_bytes()
    # A crash in the middle of a line.
    (tmp_path / "2.jsonl").write_bytes(before + b'{"condition": {"arm": "stee')
    done = len(before.splitlines()) + len((tmp_path / "unsteered.jsonl").read_text().splitlines())
    stopping = False
    calls.clear()
    again = run(tmp_path, asked(), **rest)
    total = len(PROMPTS) * (1 + 2 * 7)
    assert len(calls) == total - done
    assert (tmp_path / "2.jsonl").read_bytes().startswith(before)
    for name in ("2.jsonl", "7.jsonl", "unsteered.jsonl"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert again.shares == whole.shares
    calls.clear()
    assert run(tmp_path, asked(), **rest) == again
    assert not calls


def test_another_experiment_in_the_folder_is_refused(planted):
    out, _ = planted
    with pytest.raises(InputError, match="holds another steering experiment, with another 'settings'"):
        run(out, settings=settings(strengths=(1.0,)))


def test_a_changed_file_is_refused(tmp_path):
    run(tmp_path, prompts=PROMPTS[:2], settings=settings(controls=(), strengths=(1.0,)))
    path = tmp_path / "2.jsonl"
    path.write_text(path.read_text().replace('"arm"', '"leg"', 1))
    with pytest.raises(RecordError, match=r"line 1 of .* is no generation"):
        run(tmp_path, prompts=PROMPTS[:2], settings=settings(controls=(), strengths=(1.0,)))


def test_strength_0_of_adding_changes_nothing(tmp_path):
    summary = run(tmp_path, settings=settings(strengths=(0.0,), controls=(), modes=("add",)))
    plain, same = summary.subjects[0].points
    assert same.condition.strength == 0
    assert same.edit.mean == same.shift.mean == 0
    assert same.on_target == plain.on_target
    assert same.ratio.mean == 1


def test_sampled_answers_are_clustered_by_prompt(tmp_path):
    how = Sampling(max_new_tokens=3, temperature=1.0, samples=3)
    summary = run(tmp_path, prompts=PROMPTS[:2], settings=settings(sampling=how, controls=(), strengths=(2.0,)))
    point = summary.subjects[0].points[1]
    assert point.answers == 6
    assert point.on_target.n == 2
    assert summary.subjects[0].best[0].holds is None
    assert "2 prompts cannot tell at a level of 0.05; it takes 5 or more" in summary.subjects[0].best[0].reason


# Curves and verdicts


def generation(arm, prompt, found, *, strength=None, **rest):
    condition = Condition(arm=arm, mode="" if strength is None else "add", strength=strength)
    given = {
        "ids": (1, 2, 3), "text": "a", "nll": 1.0, "distinct": 0.5, "run": 0, "edit": 0.0, "own": {}, "shift": 0.0,
        "sample": 0, **rest,
    }  # fmt: skip
    return Generation(condition=condition, prompt=prompt, found=found, **given)


def test_curves_are_means_over_prompts_and_the_budget_decides():
    others = ["x", "y"]
    plain = [generation("unsteered", n, {"c": n == 0, "x": True, "y": False}) for n in range(8)]
    mild = [generation("steered", n, {"c": n < 6, "x": n > 0, "y": False}, strength=1.0, nll=1.5) for n in range(8)]
    rough = [generation("steered", n, {"c": True, "x": False, "y": True}, strength=2.0, nll=3.0) for n in range(8)]
    mute = [
        generation("steered", n, {"c": None, "x": None, "y": None}, strength=4.0, nll=None, ids=()) for n in range(8)
    ]
    asked = Subject((0,), Pattern("c", "c"))
    found = summarised(asked, (1.0,), [*plain, *mild, *rough, *mute], Settings(strengths=(1.0,)), others, ["p"] * 8)
    _, one, two, four = found.points
    assert one.on_target.mean == 6 / 8
    assert one.gain.mean == 5 / 8
    assert one.flips.mean == pytest.approx(1 / 16)
    assert (one.others["x"].added, one.others["x"].dropped) == (0, 1 / 8)
    assert (two.others["y"].added, two.others["y"].flipped.mean) == (1, 1)
    assert one.ratio.mean == pytest.approx(math.exp(0.5))
    assert one.perplexity == pytest.approx(math.exp(1.5))
    assert (one.within, two.within) == (True, False)
    assert (four.empty, four.unknown, four.on_target, four.ratio) == (8, 8, None, None)
    (best,) = found.best
    assert (best.strength, best.tried) == (1.0, 3)
    # 5 of 8 prompts differ, all in one direction; three strengths were tried.
    assert best.p == {"unsteered": 2**-5}
    assert best.level == pytest.approx(0.05 / 3)
    assert best.holds is False
    assert best.reason.endswith("; over the budget, at strength 2, 100% of the answers have the concept")


def test_a_concept_that_is_never_there_cannot_be_suppressed():
    plain = [generation("unsteered", n, {"c": False}) for n in range(8)]
    less = [generation("steered", n, {"c": False}, strength=-1.0) for n in range(8)]
    found = summarised(Subject((0,), Pattern("c", "c")), (1.0,), [*plain, *less], Settings(), [], ["p"] * 8)
    assert found.best[0].holds is None
    there = [generation("unsteered", n, {"c": True}) for n in range(8)]
    found = summarised(Subject((0,), Pattern("c", "c")), (1.0,), [*there, *less], Settings(), [], ["p"] * 8)
    assert (found.best[0].direction, found.best[0].holds) == ("suppress", True)


def test_bootstrap_is_that_of_scipy():
    values = np.random.default_rng(1).exponential(size=40)
    wanted = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=0)
    found = bootstrap(list(values))
    assert found.low == pytest.approx(wanted.confidence_interval.low, abs=0.03)
    assert found.high == pytest.approx(wanted.confidence_interval.high, abs=0.03)
    assert bootstrap([]) is None
    assert bootstrap([0.5]).low is None


@pytest.mark.parametrize(
    "differences", [[1.0, 1.0, -1.0, 1.0, 0.5, 1.0], [1.0] * 6, [-1.0, -1.0, 0.3], [2.0, -2.0, 2.0, 0.0]]
)
def test_sign_flips_are_those_of_scipy(differences):
    kept = np.array([each for each in differences if each])
    wanted = scipy.stats.permutation_test(
        (kept, np.zeros_like(kept)), lambda a, b: (a - b).mean(), permutation_type="samples", alternative="greater"
    )
    assert sign_flip(differences) == pytest.approx(wanted.pvalue)
    assert sign_flip([0.0, 0.0]) == 1


def test_many_sign_flips_are_drawn():
    differences = [1.0] * 14 + [-1.0] * 8
    exact = scipy.stats.binomtest(14, 22, alternative="greater").pvalue
    assert sign_flip(differences) == pytest.approx(exact, rel=0.05)


def test_repetition_and_distance():
    def distance(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))

    for first, second in (("kitten", "sitting"), ("", "abc"), ("abc", "abc"), ("abc", "xyz"), ("flaw", "lawn")):
        assert edit_distance(first, second) == distance(first, second) / max(len(first), len(second))
    assert edit_distance("", "") == 0
    assert distinct("aaaa", 2) == 1 / 3
    assert distinct("a", 2) is None
    assert [longest_run(text) for text in ("aaaa", "xabcabcy", "abab!", "abcd", "", "abba")] == [4, 6, 4, 0, 0, 2]


# Controls


class Store:
    """A store of a few tokens, made by hand."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def batches(self, site, size, *, shuffle):
        assert not shuffle
        for start in range(0, len(self.x), 7):
            rows = torch.arange(start, min(start + 7, len(self.x)))
            yield SimpleNamespace(x=self.x[rows].bfloat16(), rows=rows)


class Events:
    """Where each latent is active, made by hand."""

    def __init__(self, active):
        self.active = active
        self.counts = active.sum(1)

    def is_active(self, latent, rows):
        return self.active[latent, rows]


def test_difference_of_means_is_that_of_numpy():
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    active = np.random.default_rng(0).random((3, 50)) < 0.3
    active[2] = False
    found = difference_of_means(Store(x), "site", Events(active), [0, 1], dictionary())
    for row, mask in zip(found.numpy(), active, strict=False):
        wanted = x.numpy()[mask].mean(0) - x.numpy()[~mask].mean(0)
        assert np.allclose(row, wanted, atol=1e-6)
    with pytest.raises(InputError, match="latent 2 is active in 0 of 50 tokens"):
        difference_of_means(Store(x), "site", Events(active), [2], dictionary())


def test_random_controls_are_alive_and_not_the_steered_ones():
    alive = torch.tensor([1, 4, 6, 9])
    for seed in range(20):
        found = random_latents(alive, 2, (4, 0), seed)
        assert len(set(found)) == 2
        assert set(found) <= {1, 6, 9}
    assert len({tuple(random_latents(alive, 1, (4,), seed)) for seed in range(20)}) == 3
    with pytest.raises(InputError, match="1 other latents are alive and the control needs 2"):
        random_latents(torch.tensor([1, 4]), 2, (4,), 0)
    drawn = random_directions(3, 32, 0)
    assert torch.allclose(drawn.norm(dim=1), torch.ones(3))
    assert not torch.equal(drawn, random_directions(3, 32, 1))


# Who says that a concept appears


class Scripted:
    """A judge that says what it is told to, and keeps what it was asked."""

    name, sees, per_prompt, ledger = "scripted", False, 1, Ledger()

    def __init__(self, *said):
        self.said, self.asked, self.notes = list(said), [], []

    def ask(self, questions):
        self.asked += questions
        return [SimpleNamespace(text=self.said.pop(0)) for _ in questions]


def test_a_judge_says_yes_or_no_or_nothing_usable():
    judge = Scripted("Yes.", " no, it does not", "maybe", "Nothing")
    found = Judged("war", judge, "war and armies").found(["a", "b", "", "c", "d"])
    assert found == [True, False, False, None, None]
    assert all("war and armies" in question.user for question in judge.asked)


def test_ratings_and_their_harmonic_mean():
    judge = Scripted("2", "I would say 1.", "2", "0", "2", "2", "2", "five", "1")
    ratings = rate(judge, "war", ["p", "q", "r"], ["a", "b", "c"])
    assert ratings == [Rating(2, 1, 2), Rating(0, 2, 2), Rating(2, None, 1)]
    assert ratings[0].harmonic == statistics.harmonic_mean([2, 1, 2])
    assert [each.harmonic for each in ratings[1:]] == [0, None]
    assert ["concept" in each.user for each in judge.asked[:3]] == [True, False, False]


def test_an_experiment_is_rated(tmp_path):
    class Same(Scripted):
        def ask(self, questions):
            return [
                SimpleNamespace(text="2" if "risk" in each.user.split("<answer>")[1] else "1") for each in questions
            ]

    rest = {"settings": settings(controls=(), strengths=(2.0,)), "judge": Same()}
    points = run(tmp_path, prompts=PROMPTS[:2], **rest).subjects[0].points
    assert points[0].harmonic is None
    assert points[1].harmonic.mean == 2


def test_a_classifier_says_it():
    classifier = TextClassifier(*tiny.encoder("bert"))
    texts = ["high risk", "no", "the scan of his left lung", "", "yes"] * 8
    found = {label: Classified("c", classifier, label).found(texts) for label in classifier.labels}
    assert all(sum(each) == 1 for each in zip(*found.values(), strict=True))
    (label,) = [name for name, said in found.items() if said[0]]
    assert classifier.predicted(classifier.encode(texts[0])) == label
    with pytest.raises(UnknownNameError, match="no label of"):
        Classified("c", classifier, "lowest")


@pytest.mark.parametrize(
    ("given", "said"),
    [("(", "cannot be read: missing \\)"), ("a*", "found in every text"), ("", "found in every text")],
)
def test_a_useless_pattern_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        Pattern("c", given)


# Bad input


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strengths": (1.0, 1.0)}, "differ from each other; got 1, 1"),
        ({"strengths": (math.inf,)}, "finite"),
        ({"modes": ("ad",)}, "no way to steer is called 'ad'; did you mean 'add'"),
        ({"modes": ()}, "at least one mode"),
        ({"positions": "end"}, "no place to steer is called 'end'"),
        ({"controls": ("random",)}, "no control is called 'random'"),
        ({"scale": -1.0}, "a scale is above 0; got -1"),
        ({"sampling": Sampling(samples=2)}, "without a temperature they are all the same"),
        ({"rows": 0}, "rows: Input should be greater than or equal to 1"),
        ({"strenghts": (1.0,)}, "strenghts: there is no such setting"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        Settings(**given)


def test_an_experiment_that_cannot_be_is_refused_before_it_begins(tmp_path):
    out = tmp_path / "run"
    refused = [
        ({"subjects": [subject(12)]}, "there is no latent 12"),
        ({"prompts": []}, "there is no prompt"),
        ({"prompts": ["a", " "]}, "one of them is empty"),
        ({"subjects": [subject(), subject()]}, "each subject is named once; got 2, 2"),
        ({"site": "model.layers.0.mlp.gate_proj"}, "40 dimensions and this autoencoder was made for 32"),
        ({"site": "model.layer.0"}, "no module of the network is called 'model.layer.0'"),
        ({"others": [Pattern("risk", "r")]}, "the other concept 'risk' is named twice"),
        ({"settings": settings(controls=("difference-of-means",))}, "needs a store of activations and the events"),
        ({"settings": settings(controls=("prompted",))}, "latent 2 has none; give it one"),
        ({"settings": settings(scale="activation")}, "a scale of activations needs the events"),
    ]
    for given, said in refused:
        with pytest.raises(InputError, match=said):
            run(out, **given)
    assert not out.exists()
    bare = SAE(dictionary().config, dict(dictionary().state_dict()))
    with pytest.raises(InputError, match="does not say where in the model it belongs; name the site"):
        steer_experiment(model(), bare, [subject()], PROMPTS, out=out)


# The page and the command


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "link", "col", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_draws_every_curve_and_escapes_every_text(planted):
    _, summary = planted
    document = json.loads(summary.model_dump_json())
    document["subjects"][0]["examples"][0]["answers"]["unsteered"] = "<script>x</script>\u202eabc"
    page = steering_page(document)
    tags = _Tags()
    tags.feed(page)
    assert not tags.open
    assert "script" not in tags.tags
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    measures = 5
    assert tags.tags.count("figure") == 2 * measures
    assert tags.tags.count("polyline") == 2 * measures * 3
    assert "mixed success" in page
    assert "steers as labelled" in page
    assert "does not steer" in page


def test_a_page_of_one_strength_has_no_curves(tmp_path):
    summary = run(tmp_path, prompts=PROMPTS[:2], settings=settings(modes=("ablate",), controls=()))
    page = steering_page(summary.model_dump(mode="json"))
    assert "<figure" not in page
    assert "the latent, ablate 0" in page


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The tiny model and its autoencoder, saved."""
    folder = tmp_path_factory.mktemp("saved")
    network, tokenizer = tiny.decoder("llama")
    network.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    network.config.max_position_embeddings = 2048
    network.save_pretrained(folder / "judge")
    tokenizer.save_pretrained(folder / "judge")
    weights = dict(dictionary().state_dict())
    SAE(dictionary().config, weights, Origin(model=str(folder / "model"), site=SITE)).save(folder / "sae")
    return folder


def invoked(folders, *words):
    words = ["sae", "steer", folders / "sae", "--max-new-tokens", 3, *words]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_writes_what_the_library_does(folders, tmp_path):
    (tmp_path / "prompts").write_text("\n".join(PROMPTS[:6]) + "\n")
    words = (
        "--latent", 2, "--latent", "3+7", "--prompts", tmp_path / "prompts", "--strengths=-2,2", "--concept", "risk",
        "--label", "2=danger", "--other", "age=age|old", "--prefix", "Say risk.", "--most-perplexity", 1e9,
        "--most-flips", 1, "--out", tmp_path / "out", "--html", tmp_path / "page.html",
    )  # fmt: skip
    result = invoked(folders, *words, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "out/summary.json").read_text())
    assert [each["name"] for each in document["subjects"]] == ["2", "3+7"]
    assert document["plan"]["settings"]["controls"] == ["random-direction", "random-latent", "prompted"]
    assert "danger" in (tmp_path / "page.html").read_text()
    again = invoked(folders, *words)
    assert again.exit_code == 0, again.output
    assert "steered add 2 " in again.stdout
    assert document["shares"][0]["sentence"] in again.stdout


def test_the_command_shows_answers_side_by_side(folders):
    words = ("--latent", 2, "--prompt", "high", "--prompt", "low", "--strengths", "0,2", "--show")
    result = invoked(folders, *words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line[:2] for line in lines] == ["> ", "  ", "  ", "  "] * 2
    unsteered, zero, two = (line.split("  ")[-1] for line in lines[1:4])
    assert unsteered == zero
    assert "risk risk" in two
    found = json.loads(invoked(folders, *words, "--json").stdout)
    assert [each["strength"] for each in found] == [None, None, 0, 0, 2, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--latent", "x", "--concept", "a"), "--latent takes a number, or several as 3+7, and 'x' is neither"),
        (("--latent", 99, "--concept", "a"), "there is no latent 99: this autoencoder has latents 0 to 11"),
        (("--latent", 2), "one of --concept, --classifier and --judge tells"),
        (("--latent", 2, "--concept", "("), "the regular expression '(' of '(' cannot be read"),
        (("--latent", 2, "--concept", "3=a"), "--concept names latent 3, and --latent names 2"),
        (("--latent", 2, "--latent", 3, "--concept", "3=a"), "give --concept 2=REGEX"),
        (("--latent", 2, "--concept", "a", "--concept", "b"), "--concept is given once for all latents"),
        (("--latent", 2, "--concept", "a", "--strengths", "1,b"), "--strengths takes numbers, and 'b' is none"),
        (("--latent", 2, "--concept", "a", "--site", "model.norms"), "did you mean 'model.norm'?"),
        (("--latent", 2, "--concept", "a", "--classifier", "b=c"), "one of --concept, --classifier and --judge tells"),
        (("--latent", 2, "--concept", "a", "--other", "b"), "--other takes NAME=VALUE"),
    ],
)
def test_every_mistake_is_one_sentence(folders, tmp_path, words, said):
    result = invoked(folders, "--prompt", "high", "--out", tmp_path / "out", *words)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_judge_is_asked_about_the_label(folders, tmp_path):
    words = ("--latent", 2, "--prompt", "high", "--strengths", "2", "--controls", "none", "--judge", folders / "judge")
    result = invoked(folders, *words, "--label", "risk", "--json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["subjects"][0]["matcher"].endswith("asked about risk")
    # A random network says neither yes nor no, and that is counted.
    assert document["subjects"][0]["points"][1]["unknown"] == 1
    assert "give --label 2=WORDS" in invoked(folders, *words, "--out", tmp_path / "other").stderr


def test_a_folder_and_a_prompt_are_needed(folders, tmp_path):
    words = ("--latent", 2, "--concept", "a")
    assert "there is no prompt" in invoked(folders, *words, "--out", tmp_path).stderr
    assert "give --out DIR, or --show" in invoked(folders, *words, "--prompt", "a").stderr


def test_what_completion_offers_is_what_there_is():
    assert tuple(MODES) == command.MODES
    assert NAMED == command.POSITIONS
    assert set(CONTROLS) == set(command.CONTROLS)
