"""Pages about latents: what they say against the dense matrix of activations, and that nothing can run in them."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import tiny
import tiny_stores
from pellucid import sae
from pellucid.cli import app
from pellucid.dashboard import sources
from pellucid.dashboard.gathering import Amounts, Gatherer, Meaning, Sources, group_of
from pellucid.dashboard.meanings import meanings
from pellucid.dashboard.pages import export_neuronpedia, write_dashboard
from pellucid.errors import InputError, RecordError
from pellucid.models import CausalLM
from pellucid.report import latents_figures
from pellucid.report.latents import COLUMNS, index_page, latent_page
from pellucid.report.latents_view import Estimate, HistogramView, ScoreView, TokenView
from pellucid.sae.events import Events, logits
from pellucid.sae.events.digest import digest
from pellucid.sae.interpretation.results import INTERPRETATIONS, SETTINGS, Interpretation
from pellucid.sae.interpretation.scoring import Verdict, score
from pellucid.sae.store.encoded import Encoded
from pellucid.sae.store.manifest import Manifest
from pellucid.sae.store.reading import Store
from pellucid.sae.store.tables import Chosen, spaced

D, WIDTH, SITE = 8, 20, tiny_stores.SITE
NASTY = "<script>alert(1)</script>\u202e</title>"
GRID = (2, 3)


def autoencoder(seed=0):
    """Random, with latent 5 dead and latent 6 nearly always active."""
    generator = torch.Generator().manual_seed(seed)
    config = sae.Config(d_in=D, width=WIDTH, k=4, architecture="matryoshka", prefixes=(4, 10, WIDTH))
    weights = {
        "W_enc": torch.randn(WIDTH, D, generator=generator),
        "b_enc": torch.randn(WIDTH, generator=generator) * 0.1,
        "W_dec": torch.randn(WIDTH, D, generator=generator),
        "b_dec": torch.zeros(D),
        "threshold": torch.tensor(2.0),
    }
    weights["b_enc"][5], weights["b_enc"][6] = -1e3, 1e2
    return sae.SAE(config, weights, sae.Origin(model="tiny", site=SITE))


def pictured_store(folder, x):
    """Samples of a start, six patches and three words; the first piece of text is as nasty as can be."""
    size = 1 + GRID[0] * GRID[1] + 3
    image = folder / "picture <b>.png"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    samples = []
    for number in range(len(x) // (size - 1)):
        ids = np.array([1, *[90] * 6, 10 + number % 5, 20, 30], np.int32)
        spans = np.where(ids == 90, 0, -1).astype(np.int16)
        patches = np.full((size, 2), -1, np.int16)
        patches[1:7] = np.stack(np.divmod(np.arange(6), GRID[1]), 1)
        encoded = Encoded(
            f"{NASTY} {number}", ids, np.full(size, 3, np.int8), np.zeros(size, bool), spans, patches,
            np.full((size, 2), -1, np.int32), f"word{10 + number % 5} word20 {NASTY}",
            image if number else folder / "gone.png", GRID,
        )  # fmt: skip
        samples.append(Chosen(number, encoded, np.arange(1, size)))
    pieces = {1: "<s>", 90: "<image>", 20: "word20", 30: NASTY}
    written = tiny_stores.texts_table
    tiny_stores.texts_table = lambda shard, _: written(shard, lambda token: pieces.get(token, f"word{token}"))
    try:
        manifest = tiny_stores._with_shard(
            folder / "store", Manifest(making=tiny_stores._making("float32", SITE)), samples, x, SITE
        )
    finally:
        tiny_stores.texts_table = written
    manifest.model_copy(update={"complete": True}).write(folder / "store")
    return Store.open(folder / "store")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(sources, dense activations [token, latent]) of 360 tokens in 40 samples."""
    folder = tmp_path_factory.mktemp("latents")
    x = 2 * torch.randn(360, D, generator=torch.Generator().manual_seed(1))
    store, model = pictured_store(folder / "pictured", x), autoencoder()
    model.save(folder / "sae")
    events = Events.write(model, store, SITE, folder / "events")
    said = {
        3: Meaning(f"about {NASTY}", "someone", (ScoreView("detection, AUC", "a judge", Estimate(0.8, 0.7, 0.9), 0.5),))
    }
    sources = Sources(model, events, store, said, None, list(range(WIDTH)), Amounts(top=5, each=2, radius=6))
    return sources, model.encode(x).numpy(), folder


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what could fetch or run."""

    VOID = frozenset(("meta", "link", "img", "input", "br", "rect", "line", "hr"))

    def __init__(self, text):
        super().__init__()
        self.open, self.scripts, self.addresses, self.handlers, self.text = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append(dict(attributes).get("type", "text/javascript"))
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "xlink:href")]
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_view_says_what_the_dense_matrix_says(made):
    sources, dense, _ = made
    gatherer = Gatherer(sources)
    for latent in (0, 3, 6, 19):
        view, values = gatherer.view(latent), dense[:, latent]
        assert view.count == int((values > 0).sum())
        assert view.density == pytest.approx((values > 0).mean())
        assert view.maximum == pytest.approx(values.max())
        assert view.mean == pytest.approx(values[values > 0].mean())
        assert view.scale == pytest.approx(np.quantile(values[values > 0], 0.95))
        assert sum(view.histogram.counts) == view.count
        highest = values.reshape(40, 9).max(1)
        expected = np.sort(highest)[::-1][:5]
        np.testing.assert_allclose([each.value for each in view.bands[0].examples], expected[expected > 0])
        by_modality = dict(view.by_modality)
        is_patch = np.arange(360) % 9 < 6
        assert by_modality["image"] == pytest.approx((values[is_patch] > 0).mean())
        assert by_modality["text"] == pytest.approx((values[~is_patch] > 0).mean())


def test_examples_hold_every_activation_of_their_window(made):
    sources, dense, _ = made
    for band in Gatherer(sources).view(3).bands:
        assert len({each.sample for each in band.examples}) == len(band.examples)
        for example in band.examples:
            values = dense[9 * example.sample : 9 * example.sample + 9, 3]
            assert example.value == pytest.approx(values[example.position - 1])
            start, picture, *words = example.tokens
            assert (start.text, start.value) == ("<s>", 0)
            assert picture.is_picture
            assert picture.value == pytest.approx(values[:6].max())
            np.testing.assert_allclose([each.value for each in words], values[6:])
            np.testing.assert_allclose(example.picture.values, values[:6].reshape(GRID))
            assert sum(each.is_peak for each in example.tokens) == 1
            assert example.cut == (False, False)
            assert (example.picture.colours is None) == (example.sample == 0)


def test_neighbours(made):
    sources, dense, _ = made
    view = Gatherer(sources).view(2)
    active = dense > 0
    jaccard = (active & active[:, [2]]).sum(0) / (active | active[:, [2]]).sum(0)
    jaccard[2] = -1
    best = view.coactive[0]
    assert best.value == pytest.approx(jaccard.max())
    assert best.latent == jaccard.argmax()
    cosines = torch.nn.functional.cosine_similarity(sources.sae.W_dec, sources.sae.W_dec[[2]])
    cosines[2] = -2
    assert [each.latent for each in view.similar] == cosines.argsort(descending=True)[:8].tolist()
    assert view.similar[0].page == f"{view.similar[0].latent}.html"


def test_groups_and_pages_beside(made):
    sources, _, _ = made
    assert [group_of(sources.sae, latent) for latent in (0, 3, 4, 9, 10, 19)] == [0, 0, 1, 1, 2, 2]
    few = sources._replace(pages=[3, 7, 12])
    view = Gatherer(few).view(7)
    assert (view.before, view.behind) == ("3.html", "12.html")
    assert view.group == "prefix 2 of 3 (latents 4 to 9)"
    assert {each.page for each in view.similar} <= {"", "3.html", "12.html"}


def test_a_page_is_whole_and_nothing_in_it_can_run(made):
    sources, _, _ = made
    for latent in (3, 5):
        text = latent_page(Gatherer(sources).view(latent))
        page = Page(text)
        assert page.scripts == []
        assert page.handlers == []
        assert all(re.fullmatch(r"data:.*|#\w+|\d+\.html|\.\./index\.html", each) for each in page.addresses)
        assert "default-src &#39;none&#39;" in text
        assert "script-src" not in text
        assert "alert(1)</script" not in text
        assert "\u202e" not in text
    assert "active on none of these tokens" in text


def test_the_picture_and_its_patches_are_drawn(made):
    sources, _, _ = made
    view = Gatherer(sources).view(3)
    shown = next(each for each in view.bands[0].examples if each.sample)
    plain, heat = (latents_figures.png_of(shown.picture, view.scale, heat=each) for each in (False, True))
    assert plain != heat
    text = latent_page(view)
    assert plain in text
    assert heat in text
    assert latents_figures.patches_spoken(shown.picture.values) in text
    assert "laid over the whole picture" in text
    gone = next((each for band in view.bands for each in band.examples if each.sample == 0), None)
    assert gone is None or "file is gone" in text


def test_patches_are_told_for_whoever_does_not_see_them():
    values = np.array([[0, 0, 2.5], [1, 0, 0]])
    assert latents_figures.patches_spoken(values) == (
        "2 of its 2 by 3 patches are active, the most in row 1, column 3: 2.5"
    )
    assert latents_figures.patches_spoken(0 * values) == "none of its 2 by 3 patches is active"


def test_the_index_holds_every_latent_as_data(made):
    sources, dense, folder = made
    found = write_dashboard(sources, folder / "pages", f"mine {NASTY}")
    assert (found.pages, found.new, found.dead) == (WIDTH, WIDTH, 1)
    text = found.page.read_text()
    page = Page(text)
    assert page.scripts == ["application/json", "text/javascript"]
    assert page.handlers == []
    assert "\u202e" not in text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert tuple(data["columns"]) == COLUMNS
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in data["rows"]}
    for latent, row in rows.items():
        assert row["density"] == pytest.approx((dense[:, latent] > 0).mean(), rel=1e-5)
        assert row["maximum"] == pytest.approx(dense[:, latent].max(), rel=1e-5)
        assert (folder / f"pages/latents/{latent}.html").is_file()
    assert rows[3]["score"] == 0.8
    assert rows[4]["score"] is None
    assert data["score"] == "detection, AUC"
    assert "⟨U+202E⟩" in rows[3]["explanation"]


def test_a_stopped_dashboard_goes_on_and_a_changed_one_is_made_anew(made, tmp_path):
    sources, _, _ = made
    few = sources._replace(pages=[2, 3, 4])
    write_dashboard(few, tmp_path / "out", "mine")
    kept = tmp_path / "out/latents/2.html"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out/latents/3.html").unlink()
    assert write_dashboard(few, tmp_path / "out", "mine").new == 1
    assert kept.stat().st_mtime_ns == before
    changed = few._replace(meanings={2: Meaning("something else")})
    assert write_dashboard(changed, tmp_path / "out", "mine").new == 3
    assert "something else" in kept.read_text()
    assert write_dashboard(changed._replace(pages=[2]), tmp_path / "out", "mine").pages == 1
    assert [path.name for path in (tmp_path / "out/latents").iterdir()] == ["2.html"]


def test_a_page_that_fails_leaves_the_others(made, tmp_path, monkeypatch):
    sources, _, _ = made
    view = Gatherer.view

    def broken(self, latent):
        if latent == 3:
            raise RecordError("a shard is missing.")
        return view(self, latent)

    with monkeypatch.context() as patch:
        patch.setattr(Gatherer, "view", broken)
        with pytest.raises(RecordError):
            write_dashboard(sources._replace(pages=[2, 3, 4]), tmp_path / "out", "mine")
    assert [path.name for path in (tmp_path / "out/latents").iterdir()] == ["2.html"]
    assert write_dashboard(sources._replace(pages=[2, 3, 4]), tmp_path / "out", "mine").new == 2


def test_other_files_and_other_events_are_refused(made, tmp_path):
    sources, _, _ = made
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        write_dashboard(sources, tmp_path, "mine")
    with pytest.raises(InputError, match="of another autoencoder"):
        Gatherer(sources._replace(sae=autoencoder(seed=1)))


def test_neuronpedias_format(made, tmp_path):
    sources, dense, _ = made
    beside = export_neuronpedia(sources._replace(pages=[3, 4, 5]), tmp_path / "out.json", "res-pellucid")
    batch = json.loads((tmp_path / "out.json").read_text())
    assert {name: batch[name] for name in batch if name != "features"} == {
        "model_id": "tiny", "layer": 0, "sae_set": "res-pellucid", "sae_id_suffix": None
    }  # fmt: skip
    assert [each["feature_index"] for each in batch["features"]] == [3, 4, 5]
    feature = batch["features"][0]
    # The fields of SAEDashboard's NeuronpediaDashboardFeature, but ``vector``, which is for steering alone.
    assert set(feature) == {
        "feature_index", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1",
        "correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson",
        "correlated_features_indices", "correlated_features_l1", "correlated_features_pearson", "neg_str", "neg_values",
        "pos_str", "pos_values", "frac_nonzero", "freq_hist_data_bar_values", "freq_hist_data_bar_heights",
        "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "n_prompts_total", "n_tokens_in_prompt",
        "dataset", "activations", "decoder_weights_dist",
    }  # fmt: skip
    assert feature["frac_nonzero"] == pytest.approx((dense[:, 3] > 0).mean())
    assert feature["n_prompts_total"] == 40
    first = feature["activations"][0]
    assert set(first) == {"bin_min", "bin_max", "bin_contains", "tokens", "values", "qualifying_token_index"}
    assert (first["bin_min"], first["bin_contains"]) == (-1, -1)
    assert first["bin_max"] == pytest.approx(dense[:, 3].max())
    assert (
        first["values"][first["qualifying_token_index"]]
        == max(first["values"])
        == pytest.approx(dense[:, 3].max(), abs=1e-3)
    )
    assert len(first["tokens"]) == len(first["values"])
    (line,) = beside.read_text().splitlines()
    assert json.loads(line)["description"] == f"about {NASTY}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-explanations.jsonl", "out.json"]


def test_logits_of_a_text_model_are_listed(tmp_path):
    module, tokenizer = tiny.decoder("llama")
    model = CausalLM(module, tokenizer, name="tiny")
    size = module.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(WIDTH, size, generator=generator) for name in ("W_enc", "W_dec")}
    weights |= {"b_enc": torch.zeros(WIDTH), "b_dec": torch.zeros(size)}
    found = sae.SAE(
        sae.Config(d_in=size, width=WIDTH, k=3, architecture="topk"), weights, sae.Origin(site="model.layers.0")
    )
    store = sae.harvest(model, ["model.layers.0"], tiny.CORPUS, tmp_path / "store", context=16)
    events = Events.write(found, store, "model.layers.0", tmp_path / "events")
    gatherer = Gatherer(Sources(found, events, store, {}, model, [int(events.counts.argmax())]))
    view = gatherer.view(gatherer.sources.pages[0])
    expected = logits(model, found, view.latent, 10)
    assert [each.value for each in view.promoted] == [each.logit for each in expected.top]
    assert [each.text for each in view.suppressed] == [each.text for each in expected.bottom]
    page = Page(latent_page(view))
    assert "Raises most" in "".join(page.text)
    assert view.group == ""
    assert "".join(token.text for token in view.bands[0].examples[0].tokens).strip() in " ".join(tiny.CORPUS)


def test_spaces_that_decoding_dropped_come_back():
    assert spaced(["A", " b", "\n", "c", "\ufffd", "\ufffd", "d"], "A b\ncx d") == [
        "A", " b", "\n", "c", "\ufffd", "\ufffd", " d"
    ]  # fmt: skip
    assert spaced(["Hel", "lo", "wor", "ld"], "Hello world") == ["Hel", "lo", " wor", "ld"]
    assert spaced(["<s>", "x", "</s>"], "y") == ["<s>", "x", "</s>"]


def test_runs_of_silent_tokens_are_one():
    tokens = [TokenView("a", 0.0), TokenView(" b", 0.0), TokenView("  c", 2.0), TokenView(" d", 0.0, is_peak=True)]
    merged = latents_figures.merged(tokens)
    assert [each.text for each in merged] == ["a b  ", "c", " ", "d"]
    assert [each.value for each in merged] == [0, 2.0, 0, 0]


def test_bars_have_the_counts_heights():
    drawn = latents_figures.histogram(HistogramView((1.0, 10.0, 100.0, 1000.0), (4, 0, 2)), "tokens")
    first, second = drawn.bars
    assert first.height == pytest.approx(2 * second.height)
    assert first.y + first.height == pytest.approx(drawn.bottom)
    assert second.x - first.x == pytest.approx((drawn.right - drawn.left) * 2 / 3, abs=0.2)
    assert second.spoken == "100 to 1e+03: 2 tokens"
    assert [tick.label for tick in drawn.x_ticks] == ["1", "10", "100", "1000"]


def test_scores_stand_beside_their_baselines():
    truth = [True] * 5 + [False] * 5
    judged = score(truth, [Verdict(each, 1.0 if each else -1.0) for each in truth], ["random"] * 10)
    wrong = score(truth, [Verdict(True, 0.5)] * 9 + [Verdict(None)], ["random"] * 10)
    found = meanings([
        Interpretation(
            latent=7, explanation="a phrase", explainer="someone", judges={"detection": "a model"},
            scores={"fuzzing": wrong, "detection": judged}, shuffled={"detection": wrong}, oracle={"detection": judged},
        )
    ])[7]  # fmt: skip
    assert [each.name for each in found.scores] == [
        "detection, balanced accuracy", "detection, AUC", "fuzzing, balanced accuracy", "fuzzing, AUC"
    ]  # fmt: skip
    first = found.scores[0]
    assert first.found == Estimate(1.0, judged.accuracy.low, judged.accuracy.high)
    assert dict(first.beside)["always the same answer"] == Estimate(0.5)
    assert dict(first.beside)["with the explanation of another latent"].value == wrong.accuracy.value
    assert found.scores[2].note == "10 examples, 1 of whose answers could not be read"


def test_every_page_has_the_runs_means_of_other_explanations_and_of_random_directions():
    truth = [True] * 5 + [False] * 5
    right, half = (
        score(truth, [Verdict(each, 1.0 if each else -1.0) for each in said], ["random"] * 10)
        for said in (truth, [True] * 10)
    )
    given = [Interpretation(latent=each, explanation="a phrase", scores={"detection": right},
                            shuffled={"detection": half} if each < 2 else {}) for each in range(3)]  # fmt: skip
    found = meanings(given, [Interpretation(latent=0, explanation="nothing", scores={"detection": half})])
    for latent in range(3):
        beside = dict(found[latent].scores[0].beside)
        assert beside["with the explanation of another latent, mean over 2 latents of the run"].value == 0.5
        assert beside["random directions, mean over 1 directions of the run"] == Estimate(0.5)
        assert ("with the explanation of another latent" in beside) == (latent < 2)


def test_interpretations_of_another_autoencoder_are_refused(made, tmp_path):
    sources_, _, folder = made
    given = Interpretation(latent=4, explanation="four")
    (tmp_path / INTERPRETATIONS).write_text(f"{given.model_dump_json()}\n")

    def opened():
        return sources.opened(
            folder / "sae", sources_.store.folder, folder / "events", interpretations=tmp_path, logits=False
        )

    (tmp_path / SETTINGS).write_text(json.dumps({"sources": {"sae": digest(sources_.sae)}}))
    assert opened().meanings[4].explanation == "four"
    (tmp_path / SETTINGS).write_text(json.dumps({"sources": {"sae": digest(autoencoder(seed=1))}}))
    with pytest.raises(InputError, match="of another autoencoder"):
        opened()
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(RecordError, match="no description of a run"):
        opened()
    (tmp_path / SETTINGS).unlink()
    beyond = given.model_copy(update={"latent": WIDTH})
    (tmp_path / INTERPRETATIONS).write_text(f"{beyond.model_dump_json()}\n")
    with pytest.raises(InputError, match=f"speak of latent {WIDTH}"):
        opened()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3,7-9", [3, 7, 8, 9]),
        ("explained", [1, 2]),
        ("alive", [*range(5), *range(6, WIDTH)]),
        ("0,explained", [0, 1, 2]),
    ],
)
def test_latents_are_chosen_by_words_and_numbers(made, text, expected):
    assert sources.chosen(text, made[0].events, [2, 1]) == expected


def test_random_latents_are_alive_and_follow_from_the_seed(made):
    events = made[0].events
    one, again, other = (sources.chosen("random:6", events, [], seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one)) == 6
    assert 5 not in one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("99", "there is no latent 99"), ("0-20", "there is no latent 20"), ("9-3", "goes down"),
        ("some", "'some' is"), ("", "no latent is meant"), ("explained", "no latent is meant"), ("-3", "'-3' is"),
    ],
)  # fmt: skip
def test_what_names_no_latents_is_told(made, text, said):
    with pytest.raises(InputError, match=said):
        sources.chosen(text, made[0].events, [])


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command(made, tmp_path):
    sources, _, folder = made
    given = Interpretation(latent=4, explanation="four", explainer="someone")
    (tmp_path / INTERPRETATIONS).write_text(f"{given.model_dump_json()}\n")
    words = (
        "sae", "dashboard", folder / "sae", "--store", sources.store.folder, "--events", tmp_path / "events",
        "--interpretations", tmp_path, "--out", tmp_path / "out", "--no-logits", "--neuronpedia", tmp_path / "np.json",
    )  # fmt: skip
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["latents"], told["pages"], told["new"], told["site"]) == ([4], 1, 1, SITE)
    assert "four" in (tmp_path / "out/latents/4.html").read_text()
    again = run(*words)
    assert "1 pages, 1 of which were there" in again.stdout
    wrong = run(*words[:-2], "--latents", "99")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("Error: there is no latent")


def test_the_index_page_of_nothing_is_still_a_page(made):
    sources, _, folder = made
    found = write_dashboard(sources._replace(pages=[5], meanings={}), folder / "dead", "mine")
    text = found.page.read_text()
    Page(text)
    assert '"score": ""' in text
    assert index_page is not None
