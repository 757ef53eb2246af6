"""The loss of a spliced model against one sample at a time and lists of numbers; closed forms, pictures, probes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from families import vision_language as families
from oracles import sae_metrics as oracle
from pellucid import sae
from pellucid.errors import InputError
from pellucid.models import CausalLM, VisionLanguage
from pellucid.sae.evaluation import Labelled, evaluate, read_labelled
from pellucid.sae.evaluation.intervals import interval
from pellucid.sae.evaluation.logits import COLUMNS, losses, replacements
from pellucid.sae.evaluation.loss import summary
from pellucid.sae.evaluation.matter import passages_of_store, passages_of_texts
from pellucid.sae.evaluation.probes import logistic
from pellucid.sae.evaluation.probing import pool
from pellucid.sae.site import Site
from pellucid.sae.store import harvest, read_corpus
from tiny_stores import constant, perfect

SITE = "model.layers.0"
TEXTS = [
    "The patient is 52 years old.", "It hurts. Does it? Yes!", "high risk low risk highly likely",
    "The tumour is large.", "Mr. O'Neill didn't pay for the scan of his left lung.", "five positive nodes, grade two",
]  # fmt: skip


def rough(seed=0, d_in=32, width=48):
    generator = torch.Generator().manual_seed(seed)
    config = sae.Config(d_in=d_in, width=width, k=6, architecture="topk", normalisation="none")
    weights = {
        "W_enc": torch.randn(width, d_in, generator=generator) * 0.3, "b_enc": torch.zeros(width),
        "W_dec": torch.randn(width, d_in, generator=generator) * 0.3, "b_dec": torch.zeros(d_in),
    }  # fmt: skip
    return sae.SAE(config, weights)


@pytest.fixture(scope="module")
def model():
    module, tokenizer = tiny.decoder("llama")
    return CausalLM(module, tokenizer, name="tiny", chat=False)


@pytest.fixture(scope="module")
def store(model, tmp_path_factory):
    return harvest(model, [SITE], TEXTS, tmp_path_factory.mktemp("store"), context=24, dtype="float32", batch_tokens=64)


def plainly(model, passage, replace):
    """Logits [seq, vocab] of one sample alone, with a hook of the test's own."""

    def hook(module, args, out):
        rows = []
        for h, replaced in zip(out[0], passage.replaced, strict=True):
            rows.append(replace(h[None])[0] if replaced else h)
        return torch.stack(rows)[None]

    handle = model.module.get_submodule(SITE).register_forward_hook(hook) if replace else None
    try:
        with torch.no_grad():
            return model.module(passage.ids[None]).logits[0].double().numpy()
    finally:
        if handle:
            handle.remove()


def test_sums_are_those_of_one_sample_after_the_other(model, store):
    passages = passages_of_store(model, store, 100, seed=0)
    assert len(passages) == store.samples > 3
    assert len({len(each.ids) for each in passages}) > 1
    autoencoder, mean = rough(), torch.from_numpy(store.statistics(SITE).mean).float()
    ways = replacements(autoencoder, mean)
    found = losses(model.module, Site.of(SITE), passages, ways)
    for passage, sums in zip(passages, found, strict=True):
        clean = plainly(model, passage, None)
        known = oracle.spliced_losses(
            passage.ids.tolist(), passage.replaced.tolist(), passage.predicted.tolist(), clean,
            {way: plainly(model, passage, replace) for way, replace in ways.items()},
        )  # fmt: skip
        np.testing.assert_allclose(sums, [known[name] for name in COLUMNS], rtol=1e-4, atol=1e-5)


def test_only_what_the_selector_takes_is_replaced(model, store):
    for passage in passages_of_store(model, store, 100, seed=0):
        # The first position is no row of the store.
        assert not passage.replaced[0]
        assert passage.replaced[1:].any()
    whole = sum(int(each.replaced.sum()) for each in passages_of_store(model, store, 100, seed=0))
    assert whole == len(store)


def test_closed_forms(model, store):
    mean = torch.from_numpy(store.statistics(SITE).mean).float()
    best = evaluate(perfect(32), store, model=model).loss
    assert best.ce_score.value == pytest.approx(1, abs=1e-4)
    assert best.kl_score.value == pytest.approx(1, abs=1e-6)
    assert best.ce_spliced == pytest.approx(best.ce_clean, abs=1e-5)
    assert best.kl_spliced == pytest.approx(0, abs=1e-6)
    nothing = evaluate(constant(torch.zeros(32)), store, model=model).loss
    assert nothing.ce_spliced == pytest.approx(nothing.ce_zero, rel=1e-6)
    assert (nothing.ce_score.value, nothing.kl_score.value) == pytest.approx((0, 0), abs=1e-5)
    flat = evaluate(constant(mean), store, model=model).loss
    assert flat.kl_spliced == pytest.approx(flat.kl_mean, rel=1e-5)
    assert (flat.ce_score_mean.value, flat.kl_score_mean.value) == pytest.approx((0, 0), abs=1e-4)
    assert best.kl_zero > 0.01


def test_held_out_texts_are_cut_and_selected_as_the_store(model, store):
    again = passages_of_texts(model, store.manifest.making, read_corpus(TEXTS), 100, seed=0)
    own = passages_of_store(model, store, 100, seed=0)
    for one, other in zip(again, own, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.replaced, other.replaced)
    some = passages_of_texts(model, store.manifest.making, read_corpus(TEXTS * 3), 4, seed=0)
    assert len(some) == 4
    drawn = {
        tuple(each.ids.tolist())
        for seed in range(30)
        for each in passages_of_texts(model, store.manifest.making, read_corpus(TEXTS), 2, seed=seed)
    }
    assert len(drawn) == len({tuple(each.ids.tolist()) for each in own})
    found = evaluate(rough(), store, model=model, texts=TEXTS[:3], loss_samples=3)
    assert found.loss.samples == 3
    assert found.loss.source == read_corpus(TEXTS[:3]).source


def test_the_model_stays_as_it_was(model, store):
    model.module.train()
    try:
        before = {name: value.clone() for name, value in model.module.state_dict().items()}
        evaluate(rough(), store, model=model, loss_samples=2)
        assert model.module.training
    finally:
        model.module.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert not model.module.get_submodule(SITE)._forward_hooks


def test_a_stopped_loss_goes_on(model, store, tmp_path, monkeypatch):
    asked, forward = [], model.module.forward

    def stops(*args, **kwargs):
        asked.append(1)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr("pellucid.sae.evaluation.loss.POSITIONS", 30)
    plain = evaluate(rough(), store, model=model)
    monkeypatch.setattr(model.module, "forward", stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate(rough(), store, model=model, partial=tmp_path / "kept")
    kept = json.loads((tmp_path / "kept").read_text())
    assert sum(bool(each) for each in kept["losses"]) == 1
    found = evaluate(rough(), store, model=model, partial=tmp_path / "kept")
    assert found.loss == plain.loss


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held, rounds = 0, 200
    for seed in range(rounds):
        sizes = generator.integers(5, 20, 40)
        sums = np.stack([generator.normal(0.3 * sizes, np.sqrt(sizes)), sizes], 1)
        found = interval(sums, lambda total: total[..., 0] / total[..., 1], seed)
        held += found.low < 0.3 < found.high
    assert 0.88 < held / rounds < 0.99
    one = interval(np.ones((1, 2)), lambda total: total[..., 0] / total[..., 1], 0)
    assert (one.value, one.low, one.high) == (1, None, None)
    assert interval(np.zeros((3, 2)), lambda total: total[..., 0] / total[..., 1], 0).value is None


def test_another_model_is_refused(store):
    module, tokenizer = tiny.decoder("llama", seed=5)
    with pytest.raises(InputError, match="weights of other are not those"):
        evaluate(rough(), store, model=CausalLM(module, tokenizer, name="other", chat=False))


def test_a_store_without_predictions_is_told(model, tmp_path):
    store = harvest(model, [SITE], TEXTS, tmp_path, context=2, dtype="float32")
    with pytest.raises(InputError, match="no prediction of a text token follows"):
        evaluate(rough(), store, model=model)


def test_pictures_are_replaced_and_never_predicted(tmp_path):
    seeing = VisionLanguage(families.random_llava(), families.processor(), name="seeing")
    rows = []
    for number, question in enumerate(
        ["what color is the shape?", "is there a red circle?", "what shape is in the image?"]
    ):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append({"image": str(tmp_path / f"{number}.png"), "text": question})
    site = "model.language_model.layers.0"
    store = harvest(seeing, [site], rows, tmp_path / "store", selector="text+image", dtype="float32")
    passages = passages_of_store(seeing, store, 10, seed=0)
    shown = int(seeing.module.config.image_token_id)
    for passage in passages:
        assert passage.replaced[passage.ids == shown].any()
        assert torch.equal(passage.predicted, passage.ids != shown)
    d_in = store.manifest.d_in[site]
    found = evaluate(perfect(d_in), store, model=seeing)
    assert set(found.modalities) == {"text", "image"}
    assert found.loss.kl_spliced == pytest.approx(0, abs=1e-5)
    assert found.loss.kl_zero > 1e-3


def labelled(count=12):
    return [Labelled(f"high risk number {i}", "high") for i in range(count)] + [
        Labelled(f"The scan of his left lung {i}", "scan") for i in range(count)
    ]


def test_pooled_texts_are_means_over_their_tokens(model, store):
    texts = [each.text for each in labelled(20)]
    autoencoder = rough()
    pooled = pool(model, autoencoder, Site.of(SITE), store.manifest.making, texts)
    for number in (0, 3, 25):
        ids = torch.tensor([model.tokenizer(texts[number])["input_ids"]])
        with torch.no_grad():
            h = model.module(ids, output_hidden_states=True).hidden_states[1][0, 1:]
        np.testing.assert_allclose(pooled.dense[number], h.double().mean(0), rtol=1e-4, atol=1e-5)
        columns = pooled.columns(np.arange(autoencoder.width))[number]
        np.testing.assert_allclose(columns, autoencoder.encode(h).double().mean(0), rtol=1e-4, atol=1e-5)


def test_probes_find_the_latent_that_tells(model, store):
    found = evaluate(rough(), store, model=model, loss_samples=1, examples=labelled()).probing
    assert found.labels == {"high": 12, "scan": 12}
    assert (found.train, found.test) == (18, 6)
    assert {each.k for each in found.probes} == {0, 1, 2, 5}
    assert found.mean["dense"] == 1
    five = next(each for each in found.probes if each.k == 5)
    two = next(each for each in found.probes if each.k == 2)
    assert five.latents[:2] == two.latents
    assert five.balanced_accuracy.value >= 0.8


def test_logistic_against_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 3))
    y = x @ [1.0, -2.0, 0.0] + generator.normal(size=200) > 0.8
    found = logistic(x, y)
    # The library weighs the mean loss of both classes alike by class_weight, and its C is 1 / (penalty * rows).
    peer = LogisticRegression(C=1 / (1e-3 * 200), class_weight="balanced", tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(found, [*peer.coef_[0], peer.intercept_[0]], rtol=1e-4)


def test_labelled_lines(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"text": "one", "label": 1}\n\n{"text": "two", "label": "b"}\n')
    assert read_labelled(path) == [Labelled("one", "1"), Labelled("two", "b")]
    for line, said in {
        "nothing": "line 2 is not JSON",
        '{"label": 1}': 'line 2 has no "text"',
        '{"text": "a"}': "label",
    }.items():
        path.write_text('{"text": "one", "label": 1}\n' + line)
        with pytest.raises(InputError, match=said):
            read_labelled(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_labelled(tmp_path / "none")


def test_too_few_labels_are_refused(model, store):
    few = SimpleNamespace(one=[Labelled("a text", "a")] * 8, rare=labelled(12) + [Labelled("a text", "a")] * 3)
    with pytest.raises(InputError, match="at least 2 labels, and 1 came"):
        evaluate(rough(), store, model=model, loss_samples=1, examples=few.one)
    with pytest.raises(InputError, match="label 'a' has 3 texts"):
        evaluate(rough(), store, model=model, loss_samples=1, examples=few.rare)


def test_a_score_without_harm_is_none():
    sums = np.array([[10.0, 9.0, 40.0, 41.0, 0.1, 30.0, 2.0, 35.0, 1.5]] * 3)
    found = summary(sums, "a test", seed=0)
    assert found.ce_score.value is None
    assert found.ce_score_mean.low is None
    assert found.kl_score.value == pytest.approx(1.9 / 2)
    assert found.ce_clean == 4
