"""Dictionaries whose truth is known: what is drawn, how it is matched, and that training finds it. The command too."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from typer.testing import CliRunner

import tiny
from pellucid import sae
from pellucid.cli.app import app
from pellucid.errors import InputError
from pellucid.models import CausalLM
from pellucid.sae.evaluation import Superposition, recovery
from pellucid.sae.evaluation.assignment import best_matching
from pellucid.sae.evaluation.evaluating import evaluate
from tiny_stores import SITE, activations, autoencoder, store_of


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 9), (9, 5), (30, 41)])
def test_matching_is_the_best_one(shape):
    for seed in range(6):
        gains = np.random.default_rng(seed).normal(size=shape).round(1)
        found = best_matching(gains)
        kept = found >= 0
        assert kept.sum() == min(shape) == len(set(found[kept].tolist()))
        rows, columns = linear_sum_assignment(-gains)
        assert gains[np.flatnonzero(kept), found[kept]].sum() == pytest.approx(gains[rows, columns].sum())


def test_what_is_drawn_is_what_is_said():
    plain = Superposition(features=40, d_in=12, active=3, skew=0.7, noise=0.1)
    draw = plain.draw(60_000)
    there = (draw.truth > 0).double().mean(0)
    np.testing.assert_allclose(there, plain.probabilities, atol=0.01)
    assert float(there.sum()) == pytest.approx(3, rel=0.02)
    noise = draw.x - draw.truth @ plain.directions
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    np.testing.assert_allclose(plain.directions.norm(dim=1), 1, rtol=1e-6)
    sizes = draw.truth[draw.truth > 0]
    assert (float(sizes.min()), float(sizes.max())) == pytest.approx((0.5, 1.5), abs=0.01)
    assert torch.equal(plain.draw(9).x, plain.draw(9).x)
    assert not torch.equal(plain.draw(9).x, plain.draw(9, part=1).x)


def test_groups_go_together_and_children_with_their_parent():
    apart = (Superposition(features=12, active=2).draw(40_000).truth > 0).double()
    joined = (Superposition(features=12, active=2, correlation=0.8).draw(40_000).truth > 0).double()
    inside = [np.corrcoef(each.T)[0, 1] for each in (apart, joined)]
    across = [np.corrcoef(each.T)[0, 5] for each in (apart, joined)]
    assert abs(inside[0]) < 0.02
    assert inside[1] > 0.3
    assert max(map(abs, across)) < 0.02
    np.testing.assert_allclose(joined.mean(0), apart.mean(0), atol=0.01)
    nested = Superposition(features=12, active=2, hierarchical=True).draw(5000).truth > 0
    for child in (1, 2, 3):
        assert nested[:, child].any()
        assert not (nested[:, child] & ~nested[:, 0]).any()


def exactly(synthetic, width=None, order=None, scale=1.0):
    """An autoencoder whose rows are the true directions, as far as there is room."""
    rows = synthetic.directions if order is None else synthetic.directions[order]
    width = width or len(rows)
    extra = torch.randn(max(0, width - len(rows)), rows.shape[1], generator=torch.Generator().manual_seed(9))
    rows = torch.cat([rows, extra])[:width] * scale
    config = sae.Config(d_in=rows.shape[1], width=width, k=1, architecture="batchtopk", normalisation="none")
    weights = {
        "W_enc": rows.clone(), "b_enc": torch.zeros(width), "W_dec": rows, "b_dec": torch.zeros(rows.shape[1]),
        "threshold": torch.tensor(0.25 * scale),
    }  # fmt: skip
    return sae.SAE(config, weights)


def test_the_truth_is_recovered_whole_in_any_order_and_length():
    apart = Superposition(features=16, d_in=400, active=2)
    draw = apart.draw(3000)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    found = recovery(apart.directions, exactly(apart, order=order, scale=3.0), draw)
    assert (found.mean_max_cosine, found.matched_cosine, found.recovered) == pytest.approx((1, 1, 1))
    assert found.precision > 0.99
    assert found.recall > 0.99
    assert found.unmatched == 0


def test_half_a_dictionary_recovers_half():
    apart = Superposition(features=16, d_in=400, active=2)
    found = recovery(apart.directions, exactly(apart, width=8), apart.draw(3000))
    assert found.recovered == 0.5
    assert found.matched_cosine == pytest.approx(0.5, abs=0.01)
    assert found.mean_max_cosine > 0.5
    assert found.recall == pytest.approx(0.5, abs=0.05)
    large = recovery(apart.directions, exactly(apart, width=40), apart.draw(3000))
    assert large.recovered == 1
    assert 0 < large.unmatched < 1


def test_one_latent_cannot_serve_two_features():
    apart = Superposition(features=2, d_in=50, active=1)
    twin = torch.stack([apart.directions[0], torch.nn.functional.normalize(apart.directions[0] + 0.01, dim=0)])
    found = recovery(twin, exactly(apart, width=1), apart.draw(50))
    assert found.mean_max_cosine > 0.99
    assert found.matched_cosine == pytest.approx(0.5, abs=0.01)


def test_training_recovers_what_random_directions_do_not():
    synthetic = Superposition(features=24, d_in=24, active=1)
    config = sae.Config(d_in=24, width=48, k=2, architecture="topk", normalisation="none", lr=1e-2, dead_after=2000)
    trainer = sae.Trainer(config)
    draw = synthetic.draw(600)
    # Of the same seed as the truth, and yet no better than chance.
    before = recovery(synthetic.directions, trainer.export(), draw)
    for part in range(1, 300):
        trainer.step(synthetic.draw(256, part).x)
    after = recovery(synthetic.directions, trainer.export(), draw)
    assert before.recovered == 0
    assert after.recovered > 0.9
    assert after.matched_cosine > before.matched_cosine + 0.4
    assert after.precision > before.precision
    assert after.recall > before.recall


def test_bad_wishes_are_refused():
    with pytest.raises(InputError, match="need a probability of 1"):
        Superposition(features=4, active=5)
    with pytest.raises(InputError, match="correlation: Input should be less than 1"):
        Superposition(correlation=1)
    with pytest.raises(InputError, match="at least 1 token"):
        Superposition().draw(0)
    with pytest.raises(InputError, match="true directions have 32 dimensions and the autoencoder 8"):
        recovery(Superposition().directions, autoencoder(), Superposition().draw(5))


# The command


def told(*words):
    return CliRunner().invoke(app, ["sae", "evaluate", *map(str, words)])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model, x = autoencoder(), activations() + 1
    model.save(folder / "sae")
    picture = (np.arange(len(x)) // 12) % 3 == 0
    return folder / "sae", store_of(folder / "store", x, picture=picture)


def test_the_command_says_what_the_function_found(saved, tmp_path):
    folder, store = saved
    out, events = tmp_path / "evaluation.json", tmp_path / "events"
    found = told(folder, "--store", store.folder, "--out", out, "--events", events, "--json")
    assert found.exit_code == 0, found.output
    document, known = json.loads(found.stdout), evaluate(folder, store)
    assert document == json.loads(out.read_text())
    assert document["all"] == json.loads(known.all.model_dump_json())
    assert len(sae.Events.open(events)) == round(known.all.l0 * known.all.tokens)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "events"]
    said = told(folder, "--store", store.folder)
    assert said.exit_code == 0
    for part in ("variance unexplained", f"{known.all.fvu:.4g}", "text", "image", "1 latents never active", "log10"):
        assert part in said.stdout


def test_the_command_with_a_model_and_labels(tmp_path):
    module, tokenizer = tiny.decoder("llama")
    texts = [f"high risk number {i}" for i in range(6)] + [f"The scan of his left lung {i}" for i in range(6)]
    model = CausalLM(module, tokenizer, name="tiny", chat=False)
    store = sae.harvest(model, ["model.layers.0"], texts, tmp_path / "store", dtype="float32")
    module.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    autoencoder(d_in=32).save(tmp_path / "sae")
    labels = [{"text": text, "label": text.split()[0]} for text in texts]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    words = ("--store", store.folder, "--model", tmp_path / "model", "--probe", tmp_path / "labels.jsonl")
    found = told(tmp_path / "sae", *words, "--loss-samples", 5)
    assert found.exit_code == 0, found.output
    for part in ("Next-token loss over", "zero-ablated", "Balanced accuracy", "all dimensions", "The, not high"):
        assert part in found.stdout


def test_the_command_refuses_in_one_sentence(saved, tmp_path):
    folder, store = saved
    autoencoder(d_in=9).save(tmp_path / "wide")
    cases = {
        ("--store", tmp_path / "none"): "there is no store in",
        ("--store", store.folder, "--site", "layers"): "did you mean 'layer'",
        ("--store", store.folder, "--out", tmp_path / "no" / "file"): "there is no folder",
        ("--store", store.folder, "--probe", tmp_path / "labels"): "cannot be read",
    }
    for words, said in cases.items():
        found = told(folder, *words)
        assert found.exit_code == 2
        assert said in found.stderr
        assert found.stderr.count("\n") == 1
    found = told(tmp_path / "wide", "--store", store.folder)
    assert found.exit_code == 2
    assert "reads activations of 9 dimensions and those at 'layer' in the store have 8" in found.stderr
    assert SITE in found.stderr
