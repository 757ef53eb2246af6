"""Interpretation: examples of different documents, negatives truly silent, scores against truths known otherwise."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from pellucid.errors import InputError, RecordError
from pellucid.sae import interpretation as sut
from pellucid.sae.interpretation import choosing, examples, items, prompts, results, scoring
from pellucid.sae.interpretation.asking import Answer, Step
from pellucid.sae.interpretation.directions import RandomDirections
from pellucid.sae.interpretation.drawing import outlined
from pellucid.sae.interpretation.judging import Task, beliefs
from pellucid.sae.interpretation.places import draw
from pellucid.sae.interpretation.selecting import selected
from pellucid.sae.interpretation.summary import mean, summarised
from pellucid.sae.interpretation.windows import Activity, Windows, quantile_of
from toy_latents import ANIMALS, FRUITS, WORDS, Events, Store, on, toys

CHOICE = sut.Choice(radius=6, explain=8, score=12)


@pytest.fixture(scope="module")
def toy():
    return toys()


@pytest.fixture(scope="module")
def chooser(toy):
    store, events = toy
    generator = torch.Generator().manual_seed(0)
    return choosing.Chooser(events, store, draw(store, 0), CHOICE, torch.randn(events.width, 16, generator=generator))


def text(words, marks=()):
    return examples.marked([f" {word}" for word in words.split()], marks)


# Windows and marks


def test_marks_stand_around_runs_and_never_around_what_the_text_itself_holds():
    assert text("a b c d", {1, 2}) == " a<< b c>> d"
    assert text("a b", {1}) == " a<< b>>"
    assert examples.marked(["x<<", "y>>"], {0}) == "<<x< <>>y> >"
    assert text("a b c", ()) == " a b c"


def test_levels_are_tenths_of_the_largest_activation():
    values = np.array([0.0, 0.01, 1.0, 1.01, 9.99, 10.0])
    assert examples.levels(values, 10.0) == (0, 1, 1, 2, 10, 10)
    assert examples.levels(np.array([0.3]), 0.0) == (0,)


def test_a_window_holds_what_the_corpus_holds(toy):
    store, events = toy
    activity = Activity(events, 0)
    example = Windows(store, 6).example(activity, int(activity.samples[5]), int(activity.positions[5]), "active")
    sample = store.sample(example.sample)
    assert example.pieces == sample.pieces[example.start : example.end]
    truth = [token in FRUITS for token in sample.ids[example.start : example.end]]
    assert [bool(level) for level in example.levels] == truth
    assert example.value == activity.values[5]
    assert max(0, example.position - 6) == example.start
    assert example.end == min(len(sample.ids), example.position + 7)


def test_quantiles_divide_the_events_evenly_and_rise_with_the_activation():
    values = np.random.default_rng(0).random(1000)
    parts = quantile_of(values, 10)
    assert np.bincount(parts).tolist() == [100] * 10
    assert all(values[parts == low].max() <= values[parts == low + 1].min() for low in range(9))


# Which examples


@pytest.mark.parametrize("latent", [0, 1, 4, 5])
def test_explanation_and_scores_share_no_document(chooser, latent):
    chosen = chooser.choose(latent)
    assert len(chosen.explain) == 8
    assert len(chosen.score) == 24
    assert not {each.document for each in chosen.explain} & {each.document for each in chosen.score}
    assert all(each.active for each in chosen.explain)
    assert sum(each.active for each in chosen.score) == 12


@pytest.mark.parametrize("latent", [0, 1, 4, 5])
def test_negatives_are_silent_in_the_whole_window_and_of_every_kind(toy, chooser, latent):
    found = toy[1].of(latent)
    active = set(zip(found.samples.tolist(), found.positions.tolist(), strict=True))
    negatives = [each for each in chooser.choose(latent).score if not each.active]
    assert len(negatives) == 12
    for each in negatives:
        assert not any((each.sample, place) in active for place in range(each.start, each.end))
        assert not any(each.levels)
    assert {"random", "neighbour"} <= {each.kind for each in negatives}


def test_near_misses_stand_at_words_on_which_the_latent_is_active_elsewhere():
    store = Store()
    # Active on a word only in every second sample: in the others the same word is a near miss.
    events = Events(store, [lambda number, position, token: 1.0 * (number % 2 and token in FRUITS)])
    chosen = choosing.Chooser(events, store, draw(store, 0), CHOICE).choose(0)
    near = [each for each in chosen.score if each.kind == "same token"]
    assert len(near) == 3
    for each in near:
        assert store.sample(each.sample).ids[each.position] in FRUITS
        assert each.sample % 2 == 0


def test_windows_of_one_sample_do_not_overlap(chooser):
    chosen = chooser.choose(0)
    windows = sorted((each.sample, each.start, each.end) for each in (*chosen.explain, *chosen.score))
    for (one, _, end), (other, start, _) in pairwise(windows):
        assert one != other or end <= start


def test_examples_of_the_scores_come_from_all_parts_and_those_of_the_explanation_from_the_top(chooser):
    chosen = chooser.choose(0)
    positives = [each.quantile for each in chosen.score if each.active]
    assert len(set(positives)) == 10
    assert sum(each.quantile == 9 for each in chosen.explain) >= 4


def test_the_same_seed_gives_the_same_examples_whatever_was_asked_before(toy, chooser):
    store, events = toy
    again = choosing.Chooser(events, store, draw(store, 0), CHOICE, chooser._near._directions)
    assert again.choose(4) == chooser.choose(4)
    other = CHOICE.model_copy(update={"seed": 1})
    assert choosing.Chooser(events, store, draw(store, 1), other).choose(4) != again.choose(4)


def test_a_latent_without_enough_examples_says_why(chooser):
    assert "active nowhere" in chooser.choose(2).reason
    once = chooser.choose(3)
    assert "documents apart" in once.reason
    assert once.score == ()


def test_a_latent_that_is_active_everywhere_has_no_negatives():
    store = Store(documents=20)
    events = Events(store, [lambda *place: 1.0])
    assert "without it" in choosing.Chooser(events, store, draw(store, 0), CHOICE).choose(0).reason


def test_two_documents_are_shared_out():
    store = Store(documents=2, each=6)
    events = Events(store, [on(*FRUITS)])
    chosen = choosing.Chooser(events, store, draw(store, 0), CHOICE).choose(0)
    assert chosen.explain
    assert chosen.score
    assert not {each.document for each in chosen.explain} & {each.document for each in chosen.score}


def test_drawn_places_are_a_fair_sample_in_bounded_memory(monkeypatch):
    from pellucid.sae.interpretation import places

    monkeypatch.setattr(places, "CHUNK", 100)
    store = Store(documents=50)
    drawn = draw(store, 0, anywhere=500, of_each=5)
    assert len(drawn.anywhere.samples) == 500
    assert len(set(zip(drawn.anywhere.samples, drawn.anywhere.positions, strict=True))) == 500
    for token in range(len(WORDS)):
        some = drawn.of(token)
        assert len(some.samples) == 5
        ids = [store.sample(int(one)).ids[at] for one, at in zip(some.samples, some.positions, strict=True)]
        assert set(ids) == {token}
    # Early and late samples alike: the mean of the drawn numbers is that of all, to four standard errors.
    spread = np.std(np.arange(100)) / math.sqrt(500)
    assert abs(drawn.anywhere.samples.mean() - 49.5) < 4 * spread


@pytest.mark.parametrize("bad", [{"same_token": 0.7, "neighbour": 0.4}, {"radius": -1}, {"score": 2}])
def test_a_choice_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match=r"at most 1|greater than"):
        sut.Choice(**bad)


# Pictures


@pytest.fixture
def pictured(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (64, 64), "white").save(path)
    store = Store(documents=20, pictures=path)
    hot = lambda number, position, token: float(token == 99 and number % 3 == 0 and position in (5, 6))  # noqa: E731
    return store, Events(store, [hot])


def test_examples_of_a_picture_carry_it_with_its_patches(pictured):
    store, events = pictured
    chosen = choosing.Chooser(events, store, draw(store, 0), CHOICE).choose(0)
    for each in (*chosen.explain, *chosen.score):
        assert each.picture is not None
        assert len(each.picture.levels) == 16
        assert each.pieces.count("[image]") == 1
        assert "<image>" not in each.pieces
        hot = {place for place, level in enumerate(each.picture.levels) if level}
        # Patches 1 and 2 are positions 5 and 6.
        assert hot == ({1, 2} if each.active else set())
        assert each.on_picture is each.active
        assert (each.sample % 3 == 0) is each.active


def test_a_model_that_sees_gets_the_picture_outlined_and_another_one_gets_words(pictured):
    store, events = pictured
    chosen = choosing.Chooser(events, store, draw(store, 0), CHOICE).choose(0)
    seen = prompts.explaining(chosen.explain, sees=True)
    assert len(seen.pictures) == 8
    assert seen.pictures[0].outlined == (1, 2)
    image = np.asarray(outlined(seen.pictures[0]))
    assert image.shape == (448, 448, 3)
    # The frame of patch 1 (row 0, column 1) is red, the inside of it as it was.
    assert image[0, 112].tolist() == [255, 0, 0]
    assert image[50, 150].tolist() == [255, 255, 255]
    told = prompts.explaining(chosen.explain, sees=False)
    assert told.pictures == ()
    assert "(row 1, column 2) 10/10" in told.user
    for item in items.fuzzing(chosen.score, np.random.default_rng(0)):
        assert len(item.marks) == 2
        assert (set(item.marks) == {1, 2}) is item.truth
    judged = prompts.judging("detection", "red shapes", items.detection(chosen.score[:1]), sees=True)
    assert judged.pictures[0].outlined == ()


def test_a_picture_that_is_gone_is_one_sentence(pictured):
    store, events = pictured
    chosen = choosing.Chooser(events, store, draw(store, 0), CHOICE).choose(0)
    shown = prompts.explaining(chosen.explain, sees=True).pictures[0]
    store.sample(0).image.unlink()
    with pytest.raises(InputError, match=r"picture .* cannot be read"):
        outlined(shown)


# What is judged


def test_fuzzing_marks_as_many_tokens_rightly_and_wrongly(chooser):
    made = items.fuzzing(chooser.choose(0).score, np.random.default_rng(0))
    assert abs(sum(item.truth for item in made) - len(made) / 2) <= 1
    for item in made:
        right = {place for place, level in enumerate(item.example.levels) if level}
        assert len(item.marks) == len(right)
        assert (set(item.marks) == right) if item.truth else not set(item.marks) & right


# Questions and answers


def test_what_models_say_is_read_or_counts_as_unreadable():
    def read(text, count=1):
        return prompts.read_labels(Answer(text), count)

    assert read("1") == [True]
    assert read(" 0.") == [False]
    assert read("Answer: 1") == [True]
    assert read('{"labels": [0]}') == [False]
    assert read('```json\n{"labels": [1, 0, 1]}\n```', 3) == [True, False, True]
    assert read('Of {two}, as {"labels": [...]}: {"labels": [1, 0]} ok', 2) == [True, False]
    for bad in ("", "yes", "1 or 0", "10", "0.5", "{", '{"labels": [2]}', '{"labels": [1, 0]}'):
        assert read(bad) is None, bad
    for bad in ('{"labels": [1, 0]}', "1, 0, 1", "[1, 0, null]", "{}", '{"labels": "101"}'):
        assert read(bad, 3) is None, bad


def test_an_explanation_is_at_most_twenty_words():
    def read(text):
        return prompts.read_explanation(Answer(text))

    assert read('{"explanation": "names of fruits"}') == "names of fruits"
    assert read('"Names of fruits"\nbecause') == "Names of fruits"
    assert len(read(" ".join(["word"] * 50)).split()) == 20
    assert read("") is None
    assert read("...") is None
    assert read('{"explana') is None
    assert read("Explanation:\nwords about war") == "words about war"
    assert read("**The phrase:**\n\n* words about war") == "words about war"
    assert read('Sure! Here is the JSON: {"explanation":"dogs"}') == "dogs"
    assert read('Sure! {"explanation": "dogs') is None
    assert read("{" * 100_000) is None


def test_a_question_shows_marks_and_activations_and_says_that_the_text_is_no_instruction(chooser):
    chosen = chooser.choose(0)
    question = prompts.explaining(chosen.explain, sees=False)
    assert "never an instruction" in question.system
    assert question.user.count("Excerpt") == 8
    assert all(each.marked.strip() in question.user for each in chosen.explain)
    plain = prompts.judging("detection", "fruits", items.detection(chosen.score[:5]), sees=False)
    assert "<<" not in plain.user
    assert plain.labels == 5
    assert plain.answers["properties"]["labels"]["items"]["enum"] == [0, 1]
    fuzzed = prompts.judging("fuzzing", "fruits", items.fuzzing(chosen.score, np.random.default_rng(0))[:3], sees=False)
    assert fuzzed.user.count("<<") >= 3


def test_beliefs_are_log_odds_of_the_two_digits():
    steps = [
        Step('{"labels":', {'{"labels":': -0.1}),
        Step(" [", {" [": 0.0}),
        Step("1", {"1": math.log(0.7), "0": math.log(0.2), " 1": math.log(0.05)}),
        Step(",", {",": 0.0}),
        Step(" 0", {" 0": math.log(0.6), "0": math.log(0.3), "maybe": math.log(0.1)}),
    ]
    found = beliefs(steps, [True, False])
    assert found[0] == pytest.approx(math.log(0.75 / 0.2))
    # No 1 was considered: it is at most as likely as the least likely one that was.
    assert found[1] == pytest.approx(math.log(0.1 / 0.9))
    assert beliefs(steps, [True]) == [None]
    assert beliefs((), [True, False]) == [None, None]


# Scores


def verdicts(answers, believed=None):
    believed = believed if believed is not None else [None] * len(answers)
    return [scoring.Verdict(*pair) for pair in zip(answers, believed, strict=True)]


def test_scores_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    truth = generator.random(60) < 0.4
    belief = (truth + generator.normal(0, 1, 60)).round(1)
    answers = [bool(each > 0.3) for each in belief]
    found = scoring.score(truth.tolist(), verdicts(answers, belief.tolist()), ["random"] * 60)
    assert found.accuracy.value == pytest.approx(balanced_accuracy_score(truth, answers))
    assert found.auc.value == pytest.approx(roc_auc_score(truth, belief))
    assert found.accuracy_read == pytest.approx(found.accuracy.value)
    assert found.constant == 0.5


def test_an_answer_that_cannot_be_read_is_wrong_and_listed():
    truth = [True] * 10 + [False] * 10
    answers = [True] * 8 + [None] * 2 + [False] * 9 + [None]
    found = scoring.score(truth, verdicts(answers), ["random"] * 20)
    assert found.accuracy.value == pytest.approx((0.8 + 0.9) / 2)
    assert found.accuracy_read == 1
    assert found.counts.unread == 3
    assert (found.counts.unread_positives, found.counts.unread_negatives) == (2, 1)
    assert found.auc is None


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator, covered, ranked = np.random.default_rng(0), 0, 0
    truth = [True] * 20 + [False] * 20
    area = stats.norm.cdf(1 / math.sqrt(2))
    for _ in range(400):
        right = generator.random(40) < 0.8
        found = scoring.score(
            truth, verdicts([bool(r == t) for r, t in zip(right, truth, strict=True)]), ["random"] * 40
        )
        covered += found.accuracy.low <= 0.8 <= found.accuracy.high
        interval = scoring.auc(generator.normal(1, 1, 20), generator.normal(0, 1, 20))
        ranked += interval.low <= area <= interval.high
    assert 0.92 < covered / 400 <= 0.995
    assert 0.92 < ranked / 400 <= 0.995


def test_a_perfect_score_of_few_examples_is_not_certain():
    found = scoring.score([True] * 10 + [False] * 10, verdicts([True] * 10 + [False] * 10), ["random"] * 20)
    assert found.accuracy.value == found.accuracy.high == 1
    assert found.accuracy.low < 0.87
    perfect = scoring.auc(np.arange(10.0) + 10, np.arange(10.0))
    assert perfect.value == perfect.high == 1
    assert 0.6 < perfect.low < 0.95


def test_false_positives_are_told_by_how_the_examples_were_come_by():
    truth, kinds = [False] * 4 + [True], ["random", "random", "neighbour", "neighbour", "active"]
    found = scoring.score(truth, verdicts([False, False, True, False, True]), kinds)
    assert found.false_positive_rates == {"neighbour": 0.5, "random": 0.0}


# The oracle, and the whole job


class Silent:
    """An explainer that cannot be read."""

    name = "silent"

    def explain(self, latents):
        from pellucid.sae.interpretation.explaining import Explained

        return [Explained(None) for _ in latents]


SETTINGS = sut.Settings(choice=CHOICE, baselines=3, random_directions=2, together=2)


def run(toy, out, judge=None, latents=(0, 1, 2, 3, 4, 5), explainer=None, settings=SETTINGS, **more):
    store, events = toy
    explainer = explainer or sut.TokenExplainer()
    return sut.interpret(events, store, out, explainer, [judge or sut.Oracle()], latents, settings=settings, **more)


@pytest.mark.parametrize("error", [0.0, 0.2, 0.5])
def test_the_oracles_score_is_one_minus_its_error(toy, tmp_path, error):
    summary = run(toy, tmp_path / "run", sut.Oracle(error), settings=SETTINGS.model_copy(
        update={"choice": CHOICE.model_copy(update={"score": 40, "radius": 2})}
    ))  # fmt: skip
    for row in summary.rows:
        truth = 1 - error
        spread = math.sqrt(error * (1 - error) / max(1, row.judged))
        assert abs(row.accuracy.mean.value - truth) <= 5 * spread
        assert row.oracle_accuracy.mean.value == 1
        assert row.constant.mean.value == 0.5
    for each in sut.read_interpretations(tmp_path / "run").values():
        for name, found in each.scores.items():
            assert found.accuracy.low - 0.05 <= 1 - error <= found.accuracy.high + 0.05, (each.latent, name)


def test_results_tell_what_each_latent_is_and_why_some_are_not_scored(toy, tmp_path):
    summary = run(toy, tmp_path, site="toy")
    found = sut.read_interpretations(tmp_path)
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    assert set(found[0].explanation.removeprefix("the tokens ").split(", ")) == {"apple", "pear", "plum"}
    assert set(found[1].explanation.removeprefix("the tokens ").split(", ")) == {
        WORDS[word].strip() for word in ANIMALS
    }
    assert found[0].scores["detection"].accuracy.value == 1
    assert found[0].score == 1
    assert found[2].explanation == ""
    assert "active nowhere" in found[2].reason
    assert found[3].explanation
    assert found[3].score is None
    assert (summary.latents, summary.explained, summary.scored) == (6, 5, 4)
    assert sum(summary.reasons.values()) == 2
    shuffled = [each for each in found.values() if each.shuffled]
    assert 1 <= len(shuffled) <= 3
    assert all(each.shuffled_from not in (None, each.latent) for each in shuffled)
    assert summary.rows[0].random_accuracy.latents == 2
    for each in found.values():
        assert not {one.split(":")[0] for one in each.explained_from} & {one.split(":")[0] for one in each.scored_on}


def test_a_mean_of_one_latent_has_no_interval(toy, tmp_path):
    assert mean([]).mean is None
    assert mean([0.75]).mean.model_dump() == {"value": 0.75, "low": None, "high": None}
    several = mean([0.5, 0.75, 1.0]).mean
    assert several.low < several.value == 0.75 < several.high
    run(toy, tmp_path, latents=[0])
    row = json.loads((tmp_path / "summary.json").read_text())["rows"][0]
    assert row["accuracy"] == {"mean": {"value": 1.0, "low": None, "high": None}, "latents": 1}


def test_unreadable_answers_are_counted_in_the_summary(toy, tmp_path):
    summary = run(toy, tmp_path, sut.Oracle(unreadable=0.25, seed=3))
    for row in summary.rows:
        assert 0.1 * row.judged < row.unread < 0.4 * row.judged
        assert row.accuracy.mean.value < 0.9
    found = sut.read_interpretations(tmp_path)[0].scores["detection"]
    assert found.accuracy_read == 1
    assert found.examples == 24


def test_an_explanation_that_cannot_be_read_is_told(toy, tmp_path):
    summary = run(toy, tmp_path, explainer=Silent(), latents=[0, 1])
    assert summary.reasons == {"no explanation could be read in the answer": 2}
    assert summary.explained == 0


class Interrupting:
    """An oracle that is interrupted after so many rounds."""

    name, scorers = "oracle(0)", ("detection", "fuzzing")

    def __init__(self, rounds):
        self.rounds, self.asked = rounds, []

    def judge(self, tasks):
        if self.rounds == 0:
            raise KeyboardInterrupt
        self.rounds -= 1
        self.asked += [task.explanation for task in tasks]
        return sut.Oracle().judge(tasks)


def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(toy, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path / "one", Interrupting(6))
    kept = sut.read_interpretations(tmp_path / "one")
    assert 0 < len(kept) < 6
    judge = Interrupting(-1)
    run(toy, tmp_path / "one", judge)
    assert not any(each.explanation in judge.asked for each in kept.values() if not each.shuffled) or len(kept) < 6
    run(toy, tmp_path / "two", Interrupting(-1))
    assert sut.read_interpretations(tmp_path / "one") == sut.read_interpretations(tmp_path / "two")
    again = Interrupting(0)
    run(toy, tmp_path / "one", again)
    assert again.asked == []


def test_more_latents_can_be_asked_for_later(toy, tmp_path):
    run(toy, tmp_path, latents=[0])
    before = (tmp_path / results.INTERPRETATIONS).read_text()
    run(toy, tmp_path, latents=[0, 4])
    assert (tmp_path / results.INTERPRETATIONS).read_text().startswith(before)
    assert sorted(sut.read_interpretations(tmp_path)) == [0, 4]


def test_a_line_left_half_by_a_kill_is_done_again(toy, tmp_path):
    run(toy, tmp_path, latents=[0, 1])
    path = tmp_path / results.INTERPRETATIONS
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    assert sorted(sut.read_interpretations(tmp_path)) == [0]
    run(toy, tmp_path, latents=[0, 1])
    assert path.read_bytes() == whole


def test_a_damaged_line_is_named(toy, tmp_path):
    run(toy, tmp_path, latents=[0])
    path = tmp_path / results.INTERPRETATIONS
    path.write_text(path.read_text().replace('"latent":0', '"latent":"x"'))
    with pytest.raises(RecordError, match="line 1"):
        sut.read_interpretations(tmp_path)


def test_a_full_disk_leaves_no_half_line(toy, tmp_path, monkeypatch):
    run(toy, tmp_path, latents=[0])
    path = tmp_path / results.INTERPRETATIONS
    before, write = path.read_bytes(), results.os.write

    def full(descriptor, content):
        if len(content) > 50:
            return write(descriptor, content[:20])
        raise OSError(28, "No space left on device")

    lines = results.Lines(path)
    monkeypatch.setattr(results.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        lines.add([{"text": "x" * 100}])
    lines.close()
    assert path.read_bytes() == before


def test_a_folder_of_another_run_is_refused(toy, tmp_path):
    run(toy, tmp_path, latents=[0])
    other = SETTINGS.model_copy(update={"choice": CHOICE.model_copy(update={"radius": 3})})
    with pytest.raises(InputError, match="another choice"):
        run(toy, tmp_path, latents=[0], settings=other)
    with pytest.raises(InputError, match="another judges"):
        run(toy, tmp_path, sut.Oracle(0.1), latents=[0])


@pytest.mark.parametrize(("latents", "said"), [([6], "no latent 6"), ([], "no latent was named")])
def test_latents_that_do_not_exist_are_refused(toy, tmp_path, latents, said):
    with pytest.raises(InputError, match=said):
        run(toy, tmp_path, latents=latents)


def test_each_score_needs_one_judge(toy, tmp_path):
    store, events = toy
    with pytest.raises(InputError, match="2 judges"):
        sut.interpret(events, store, tmp_path, sut.TokenExplainer(), [sut.Oracle(), sut.Oracle()], [0])
    with pytest.raises(InputError, match="0 judges were given for embedding"):
        run(toy, tmp_path, settings=sut.Settings(scorers=("embedding",)))


@pytest.mark.parametrize(
    ("given", "found"), [("all", range(50)), ("0-3,7", [0, 1, 2, 3, 7]), ("3, 3,1", [3, 1]), ("49", [49])]
)
def test_latents_are_named_in_short(given, found):
    assert list(selected(given, None, 50, np.ones(50), 0)) == list(found)


@pytest.mark.parametrize("given", ["x", "3-1", "50", "1-", "-1", "", "1,,2x", "0-99"])
def test_latents_that_are_named_wrongly_are_refused(given):
    with pytest.raises(InputError):
        selected(given, None, 50, np.ones(50), 0)


def test_a_sample_of_latents_is_of_those_that_are_active():
    counts = np.zeros(50)
    counts[10:30] = 5
    found = selected(None, 12, 50, counts, 0)
    assert len(set(found)) == 12
    assert all(10 <= latent < 30 for latent in found)
    assert len(selected(None, 99, 50, counts, 0)) == 20
    with pytest.raises(InputError, match="both"):
        selected("1", 3, 50, counts, 0)


# Embeddings and random directions


def counting(texts):
    """An encoder that counts words."""
    known = {word.strip(): place for place, word in enumerate(WORDS)}
    vectors = torch.full((len(texts), len(known)), 1e-3)
    for row, one in enumerate(texts):
        for word in one.replace(",", " ").replace(".", " ").split():
            if word in known:
                vectors[row, known[word]] += 1
    return vectors


def test_embeddings_rank_windows_by_their_cosine_with_the_explanation(chooser):
    chosen = chooser.choose(0)
    judge = sut.EmbeddingJudge(counting)
    task = Task("embedding", "apple, pear, plum", items.detection(chosen.score))
    (judged,) = judge.judge([task])
    truth = [item.truth for item in task.items]
    found = scoring.score(truth, judged.verdicts, [each.kind for each in chosen.score])
    assert found.accuracy is None
    assert found.counts is None
    assert found.auc.value == 1
    other = judge.judge([task._replace(explanation="river, road")])[0]
    assert 0.2 < scoring.score(truth, other.verdicts, [each.kind for each in chosen.score]).auc.value < 0.8


def test_minilm_tells_fruit_from_traffic():
    encode = sut.sentence_encoder()
    phrase, fruit, road = encode(["names of fruits", "I ate an apple and two pears", "the bus was late again"])
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(phrase, fruit, 0) > cosine(phrase, road, 0) + 0.2
    with pytest.raises(InputError, match=r"no config\.json"):
        sut.sentence_encoder(results.Path("/nowhere"))


def test_random_directions_are_active_where_the_projection_is_largest():
    store = Store(documents=10)
    drawn = RandomDirections(store, "toy", 3, 40, seed=1)
    x = torch.cat([batch.x for batch in store.batches("toy", 100, shuffle=False)])
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(3, 32, generator=generator), dim=1)
    for latent in range(3):
        found = drawn.of(latent)
        assert len(found.values) == 40
        rows = found.samples * 60 + found.positions
        assert (np.diff(rows) > 0).all()
        projections = (x @ directions[latent]).numpy()
        outside = np.delete(projections, rows)
        assert projections[rows].min() >= outside.max()
        assert found.values == pytest.approx(np.maximum(projections[rows] - outside.max(), 1e-6), abs=1e-6)


# Scale


class Many:
    """10,000 latents whose events are made when they are asked for; nothing is kept."""

    def __init__(self, width, samples, length):
        self.width, self.tokens, self._shape = width, samples * length, (samples, length)
        self.counts, self.maxima = np.full(width, 60), np.full(width, 5.0)
        self.held = 0

    def of(self, latent):
        generator = np.random.default_rng(latent)
        rows = np.sort(generator.choice(self.tokens, 60, replace=False))
        from toy_latents import LatentEvents

        return LatentEvents(rows // self._shape[1], rows % self._shape[1], generator.uniform(0.1, 5, 60))


def test_ten_thousand_latents_are_taken_a_few_at_a_time(tmp_path, monkeypatch):
    """Bound by construction: what is alive at a time is one group, however many latents there are."""
    store = Store(documents=60)
    events, most, alive = Many(10_000, store.samples, 60), [0], [0]
    settings = sut.Settings(
        choice=sut.Choice(radius=2, explain=2, score=3), baselines=0, random_directions=0, together=4,
        scorers=("detection",), keep_prompts=False,
    )  # fmt: skip

    class Watching:
        name, scorers = "oracle(0)", ("detection",)

        def judge(self, tasks):
            most[0] = max(most[0], len(tasks))
            alive[0] += len(tasks)
            return sut.Oracle().judge(tasks)

    latents = range(0, 10_000, 250)
    summary = sut.interpret(events, store, tmp_path, sut.TokenExplainer(), [Watching()], latents, settings=settings)
    assert summary.scored == 40
    assert most[0] <= 4
    assert alive[0] >= 40


def test_the_summary_is_of_the_latents_that_were_asked_for(toy, tmp_path):
    run(toy, tmp_path, latents=[0, 1, 4])
    one = summarised(tmp_path, [1], ("detection",), sut.Ledger())
    assert (one.latents, one.scored) == (1, 1)
    assert json.loads((tmp_path / "summary.json").read_text())["latents"] == 3
