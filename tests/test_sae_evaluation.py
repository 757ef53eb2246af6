"""Every number of an evaluation against the plainest reading of its formula, and against its closed forms."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from oracles import sae_metrics as oracle
from pellucid import sae
from pellucid.cli import app
from pellucid.errors import InputError, NumericalError, RecordError
from pellucid.sae.evaluation import Evaluation, evaluate
from pellucid.sae.evaluation import evaluating as evaluating_module
from pellucid.sae.evaluation import partial as partial_module
from pellucid.sae.evaluation.similarity import max_cosines
from pellucid.sae.events.columns import column
from tiny_stores import D_IN, SITE, activations, autoencoder, constant, perfect, store_of


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """(evaluation, x, xhat, dense codes, whether of a picture) of a random autoencoder."""
    x = activations() + 3
    picture = (np.arange(len(x)) // 12) % 3 == 0
    store = store_of(tmp_path_factory.mktemp("store"), x, picture=picture)
    model = autoencoder()
    z = model.encode(x)
    return evaluate(model, store, batch=64), x.numpy(), model.decode(z).numpy(), z.numpy(), picture


def test_every_number_is_its_formula(judged):
    found, x, xhat, z, picture = judged
    for quality, rows in (
        (found.all, slice(None)), (found.modalities["text"], ~picture), (found.modalities["image"], picture)
    ):  # fmt: skip
        known = oracle.quality(x[rows], xhat[rows], z[rows])
        said = quality.model_dump()
        assert said.pop("tokens") == known.pop("tokens")
        assert said.keys() == known.keys()
        for name, value in known.items():
            assert said[name] == pytest.approx(value, rel=1e-6), name


def test_densities_and_similarity(judged):
    found, _, _, z, _ = judged
    counts = (z != 0).sum(0)
    assert found.densities.dead == (counts == 0).sum() == found.width - found.all.alive == 1
    assert sum(found.densities.counts) == (counts > 0).sum()
    logs = np.log10(counts[counts > 0] / len(z))
    for low, high, count in zip(
        found.densities.edges[:-2], found.densities.edges[1:-1], found.densities.counts[:-1], strict=True
    ):
        assert count == ((logs >= low) & (logs < high)).sum()
    assert found.densities.median == pytest.approx(np.median(counts[counts > 0]) / len(z))
    known = oracle.max_cosines(autoencoder().W_dec.numpy())
    assert found.similarity.mean == pytest.approx(np.mean(known), rel=1e-5)
    assert found.similarity.quantiles["0.95"] == pytest.approx(np.quantile(known, 0.95), rel=1e-5)


def test_max_cosines_in_chunks_with_empty_and_equal_directions(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(50, 6, generator=generator)
    directions[7] = 0
    directions[20] = 3 * directions[30]
    monkeypatch.setattr("pellucid.sae.evaluation.similarity.CHUNK_NUMBERS", 200)
    found = max_cosines(directions).numpy()
    known = oracle.max_cosines(np.delete(directions.numpy(), 7, 0))
    np.testing.assert_allclose(np.delete(found, 7), known, rtol=1e-5)
    assert np.isnan(found[7])
    assert found[20] == pytest.approx(1, abs=1e-6)
    assert torch.isnan(max_cosines(directions[:1])).all()


def test_fvu_ignores_shift_and_scale(tmp_path):
    """The autoencoder is moved along with the activations, so that it is as good as before."""
    x = activations().double()
    base = autoencoder()
    found = []
    for number, (shift, scale) in enumerate([(0.0, 1.0), (40.0, 1.0), (0.0, 0.125), (-40.0, 8.0)]):
        weights = {name: value.clone() for name, value in base.state_dict().items()}
        weights["W_dec"] *= scale
        weights["b_dec"] = weights["b_dec"] * scale + shift
        weights["W_enc"] /= scale
        moved = sae.SAE(base.config, weights)
        store = store_of(tmp_path / str(number), (x * scale + shift).float())
        found.append(evaluate(moved, store).all)
    for each in found[1:]:
        assert each.fvu == pytest.approx(found[0].fvu, rel=1e-4)
        assert each.l0 == found[0].l0


def test_the_wrong_formulas_of_the_field_differ(tmp_path):
    """A constant offset is an error; a mean far from zero is no variance; a token's own ratio is not the whole's."""
    x = activations() + 5
    model = autoencoder()
    model.b_dec.add_(2)
    found = evaluate(model, store_of(tmp_path, x)).all
    xhat = model(x).numpy()
    assert found.fvu == pytest.approx(oracle.fvu(x.numpy(), xhat), rel=1e-6)
    assert oracle.forgiving_fvu(x.numpy(), xhat) < 0.9 * found.fvu
    assert oracle.squaring_too_late_fvu(x.numpy(), xhat) < 0.9 * found.fvu
    assert abs(oracle.tokenwise_fvu(x.numpy(), xhat) - found.fvu) > 0.1 * found.fvu


def test_closed_forms(tmp_path):
    x = activations() + 1
    store = store_of(tmp_path, x)
    best = evaluate(perfect(), store).all
    assert best.fvu == pytest.approx(0, abs=1e-12)
    assert (best.cosine, best.norm_ratio, best.relative_bias) == pytest.approx((1, 1, 1))
    assert best.l0 == D_IN
    mean = evaluate(constant(x.double().mean(0).float()), store).all
    assert mean.fvu == pytest.approx(1, rel=1e-6)
    nothing = evaluate(constant(torch.zeros(D_IN)), store).all
    energy = float(x.double().pow(2).sum() / (x.double() - x.double().mean(0)).pow(2).sum())
    assert nothing.fvu == pytest.approx(energy, rel=1e-6)
    assert nothing.fvu > 1
    assert (nothing.l0, nothing.alive, nothing.dead_share) == (0, 0, 1)
    assert nothing.cosine is None
    assert nothing.relative_bias is None
    assert nothing.norm_ratio == 0


def test_shrinkage_shows_as_bias(tmp_path):
    x = activations()
    half = perfect()
    half.W_dec.mul_(0.5)
    found = evaluate(half, store_of(tmp_path, x)).all
    assert (found.norm_ratio, found.relative_bias, found.cosine) == pytest.approx((0.5, 0.5, 1))
    assert found.mse == pytest.approx(float((x / 2).pow(2).mean()), rel=1e-5)


def test_a_per_token_normalisation_is_undone(tmp_path):
    x = activations()
    model = autoencoder(normalisation="layer-norm")
    found = evaluate(model, store_of(tmp_path, x)).all
    xhat = model.decode(model.encode(x), like=x).numpy()
    assert found.fvu == pytest.approx(oracle.fvu(x.numpy(), xhat), rel=1e-6)


def test_batches_and_shards_change_nothing_but_rounding(tmp_path):
    x = activations()
    whole = evaluate(autoencoder(), store_of(tmp_path / "a", x, shards=1), batch=1000)
    parts = evaluate(autoencoder(), store_of(tmp_path / "b", x, shards=7), batch=17)
    for name, value in whole.all.model_dump().items():
        # Products of other shapes round otherwise in float32.
        assert parts.all.model_dump()[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert parts.densities == whole.densities


def test_some_rows_at_random(tmp_path):
    store = store_of(tmp_path, activations())
    some = [evaluate(autoencoder(), store, tokens=100, seed=seed, batch=64) for seed in (0, 0, 1)]
    assert [each.all.tokens for each in some] == [100] * 3
    assert some[0].all == some[1].all != some[2].all
    assert evaluate(autoencoder(), store, tokens=10**9).all.tokens == len(store)


def test_it_goes_on_where_it_stopped(tmp_path, monkeypatch):
    x, kept = activations(), tmp_path / "kept"
    store, asked = store_of(tmp_path / "store", x), []

    class Stops(sae.SAE):
        def codes(self, x):
            asked.append(len(x))
            if len(asked) == 4:
                raise KeyboardInterrupt
            return super().codes(x)

    base = autoencoder()
    stops = Stops(base.config, dict(base.state_dict()))
    with pytest.raises(KeyboardInterrupt):
        evaluate(stops, store, batch=64, partial=kept)
    assert kept.is_file()
    resumed = evaluate(stops, store, batch=64, partial=kept)
    assert len(asked) == 4 + 4
    assert not kept.exists()
    plain = evaluate(base, store, batch=64)
    assert resumed.model_dump(exclude={"seconds"}) == plain.model_dump(exclude={"seconds"})


def test_what_was_kept_of_another_question_is_not_used(tmp_path, monkeypatch):
    store, kept = store_of(tmp_path / "store", activations()), tmp_path / "kept"
    with monkeypatch.context() as patch:
        patch.setattr(evaluating_module, "similarity", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(autoencoder(), store, partial=kept)
    found = evaluate(autoencoder(seed=3), store, partial=kept)
    assert found.all == evaluate(autoencoder(seed=3), store).all
    kept.write_text("nonsense")
    assert evaluate(autoencoder(), store, partial=kept).all == evaluate(autoencoder(), store).all


def test_held_out_is_what_the_origin_says(tmp_path):
    store = store_of(tmp_path, activations())
    model = autoencoder()
    assert evaluate(model, store).held_out is None
    model.origin = sae.Origin(store=store.digest)
    assert evaluate(model, store).held_out is False
    # A name tells nothing: one file has many.
    model.origin = sae.Origin(store="0" * 64, site=SITE, corpus="./another")
    assert evaluate(model, store).held_out is None
    same = store.manifest.making.corpus.digest
    for digest, held_out in {"f" * 64: True, same: None}.items():
        model.origin = sae.Origin(store="0" * 64, corpus="./another", training={"corpus_digest": digest})
        assert evaluate(model, store).held_out is held_out


def full(*_):
    raise OSError(28, "No space left on device")


def test_a_result_that_cannot_be_written_is_kept(tmp_path, monkeypatch):
    store, kept, out = store_of(tmp_path / "store", activations()), tmp_path / "kept", tmp_path / "found.json"
    with monkeypatch.context() as patch:
        patch.setattr(evaluating_module, "write_atomically", full)
        with pytest.raises(RecordError, match=r"found\.json' cannot be written \(No space left"):
            evaluate(autoencoder(), store, partial=kept, out=out)
        patch.setattr(partial_module, "write_atomically", full)
        with pytest.raises(RecordError, match=r"found\.json' cannot be written"):
            evaluate(autoencoder(), store, partial=tmp_path / "other", out=out)
    assert kept.is_file()
    found = evaluate(autoencoder(), store, partial=kept, out=out)
    assert Evaluation.model_validate_json(out.read_bytes()) == found
    assert not kept.exists()
    with pytest.raises(InputError, match=r"is a folder.*evaluation\.json"):
        evaluate(autoencoder(), store, out=tmp_path)


def test_the_command_keeps_an_evaluation_whose_events_fail(tmp_path, monkeypatch):
    store_of(tmp_path / "store", activations())
    autoencoder().save(tmp_path / "sae")
    out, events = tmp_path / "found.json", tmp_path / "events"
    words = ["sae", "evaluate", tmp_path / "sae", "--store", tmp_path / "store", "--events", events, "--out"]

    def run(*more):
        return CliRunner().invoke(app, [*map(str, (*words, *more))])

    refused = run(tmp_path)
    assert refused.exit_code == 2
    assert "is a folder" in refused.stderr
    with monkeypatch.context() as patch:
        patch.setattr("pellucid.sae.events.columns.os", SimpleNamespace(getpid=os.getpid, fsync=full))
        failed = run(out, "--json")
    assert failed.exit_code == 1, failed.output
    assert "what was encoded before is kept" in failed.stderr
    assert str(events) in failed.stderr
    assert json.loads(failed.stdout) == json.loads(out.read_text())
    assert not list(events.glob(".*.npy.*"))
    assert "Events: " in run(out).stdout


def test_a_column_on_a_full_disk_names_its_file(tmp_path):
    (tmp_path / f".values.npy.{os.getpid()}.tmp").symlink_to("/dev/full")
    said = r"values\.npy' cannot be written \(No space left on device\).*what was encoded before is kept"
    with pytest.raises(RecordError, match=said), column(tmp_path / "values.npy", np.float32, 3) as append:
        append(np.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip(judged):
    found = judged[0]
    assert type(found).model_validate_json(found.model_dump_json()) == found
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_what_does_not_fit_is_refused(tmp_path):
    store = store_of(tmp_path / "store", activations())
    with pytest.raises(InputError, match="reads activations of 9 dimensions"):
        evaluate(autoencoder(d_in=9), store)
    with pytest.raises(InputError, match="tokens must be at least 1"):
        evaluate(autoencoder(), store, tokens=0)
    with pytest.raises(InputError, match="give the store's, 'tiny', as the model"):
        evaluate(autoencoder(), store, texts=["some text"])
    x = activations()
    x[301, 0] = torch.nan
    with pytest.raises(NumericalError, match="row 301 of the store, in the shard 'values/"):
        evaluate(autoencoder(), store_of(tmp_path / "nan", x))
