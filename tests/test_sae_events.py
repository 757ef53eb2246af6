"""The event store against the dense matrix of activations; resuming, refusing, and the logits of a direction."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

import tiny
from oracles.sae_metrics import jaccard, phi
from pellucid import sae
from pellucid.errors import InputError, NumericalError, RecordError, UnknownNameError
from pellucid.models import CausalLM
from pellucid.sae.events import Events, logits
from pellucid.sae.events import writing as writing_module
from tiny_stores import SITE, TOKENS, WIDTH, activations, autoencoder, store_of


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(events, store, dense activations [token, latent], whether each row is of a picture)."""
    folder = tmp_path_factory.mktemp("events")
    picture = (np.arange(TOKENS) // 12) % 3 == 0
    x = activations()
    store = store_of(folder / "store", x, picture=picture)
    model = autoencoder()
    events = Events.write(model, store, SITE, folder / "events", batch=64, run_events=700)
    return events, store, model.encode(x).numpy(), picture


def test_events_are_the_dense_matrix(written):
    events, store, dense, _ = written
    places = store.places()
    assert (events.width, events.tokens, len(events)) == (WIDTH, TOKENS, int((dense != 0).sum()))
    for latent in range(WIDTH):
        found = events.of(latent)
        rows = np.flatnonzero(dense[:, latent])
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.values, dense[rows, latent])
        np.testing.assert_array_equal(found.samples, places["sample"].to_numpy()[rows])
        np.testing.assert_array_equal(found.positions, places["position"].to_numpy()[rows])
    for row in range(TOKENS):
        np.testing.assert_array_equal(events.at(row), np.flatnonzero(dense[row]))


def test_totals(written):
    events, _, dense, picture = written
    np.testing.assert_array_equal(events.counts, (dense != 0).sum(0))
    np.testing.assert_array_equal(events.maxima, dense.max(0))
    np.testing.assert_allclose(events.sums, dense.astype(float).sum(0), rtol=1e-12)
    np.testing.assert_array_equal(events.densities, (dense != 0).mean(0))
    assert events.dead.tolist() == [5]
    by_kind = dict(zip(events.modalities, events.modality_counts, strict=True))
    np.testing.assert_array_equal(by_kind["image"], (dense[picture] != 0).sum(0))
    np.testing.assert_array_equal(by_kind["text"], (dense[~picture] != 0).sum(0))
    assert dict(zip(events.modalities, events.modality_tokens.tolist(), strict=True)) == {
        "image": int(picture.sum()), "text": int((~picture).sum())
    }  # fmt: skip


def test_is_active_is_the_dense_matrix(written):
    events, _, dense, _ = written
    rows = np.random.default_rng(0).permutation(TOKENS)
    for latent in (0, 5, 6, WIDTH - 1):
        np.testing.assert_array_equal(events.is_active(latent, rows), dense[rows, latent] != 0)


def test_top_is_the_head_of_the_sorted_values(written):
    events, store, dense, _ = written
    samples = store.places()["sample"].to_numpy()
    for latent in (0, 6, 9):
        order = sorted(np.flatnonzero(dense[:, latent]), key=lambda row: (-dense[row, latent], row))
        assert events.top(latent, 7).rows.tolist() == order[:7]
        once = list({samples[row]: row for row in reversed(order)}.values())
        once.sort(key=lambda row: (-dense[row, latent], row))
        assert events.top(latent, 7, distinct=True).rows.tolist() == once[:7]
        assert len(events.top(latent, 10**6)) == len(order)
    assert len(events.top(5, 3)) == 0


def test_quantiles_cover_equal_parts_and_repeat(written):
    events, _, dense, _ = written
    values = np.sort(dense[:, 6][dense[:, 6] != 0])
    parts = events.quantiles(6, 5, 4, seed=3)
    for part, known in zip(parts, np.array_split(values, 4), strict=True):
        assert len(part) == 5
        assert set(part.values) <= set(known)
        assert (np.diff(part.values) <= 0).all()
    again = events.quantiles(6, 5, 4, seed=3)
    assert [each.rows.tolist() for each in parts] == [each.rows.tolist() for each in again]
    other = events.quantiles(6, 5, 4, seed=4)
    assert [each.rows.tolist() for each in parts] != [each.rows.tolist() for each in other]
    apart = events.quantiles(6, 5, 4, distinct=True)
    samples = np.concatenate([each.samples for each in apart])
    assert len(set(samples.tolist())) == len(samples)
    whole = events.quantiles(6, 10**6, 4)
    assert sorted(np.concatenate([each.values for each in whole])) == sorted(values)


def test_histogram_counts_every_event_once(written):
    events, _, dense, _ = written
    values = dense[:, 6][dense[:, 6] != 0]
    found = events.histogram(6, bins=9)
    assert found.counts.sum() == len(values)
    for low, high, count in zip(found.edges[1:-2], found.edges[2:-1], found.counts[1:-1], strict=True):
        assert count == ((values >= low) & (values < high)).sum()
    ratios = found.edges[1:] / found.edges[:-1]
    np.testing.assert_allclose(ratios, ratios[0])
    assert events.histogram(5).counts.sum() == 0


@pytest.mark.parametrize("by", ["jaccard", "phi", "both"])
def test_coactivation_is_exact(written, by):
    events, _, dense, _ = written
    active = dense != 0
    for latent in (0, 9):
        both = (active & active[:, latent : latent + 1]).sum(0)
        known = [
            (other, int(both[other]), *(measure(active[:, latent], active[:, other]) for measure in (jaccard, phi)))
            for other in range(WIDTH)
            if other != latent and both[other]
        ]  # fmt: skip
        known.sort(key=lambda each: (-each[{"both": 1, "jaccard": 2, "phi": 3}[by]], each[0]))
        found = events.coactive(latent, 6, by)
        assert [(each.latent, each.both) for each in found] == [each[:2] for each in known[:6]]
        np.testing.assert_allclose([each.jaccard for each in found], [each[2] for each in known[:6]], rtol=1e-12)
        np.testing.assert_allclose([each.phi for each in found], [each[3] for each in known[:6]], atol=1e-12)
    assert events.coactive(5, 6, by) == ()


def test_the_size_of_runs_and_batches_changes_no_byte(written, tmp_path):
    events, store, _, _ = written
    other = Events.write(autoencoder(), store, SITE, tmp_path / "whole", batch=400, run_events=10**6)
    assert _contents(other.folder) == _contents(events.folder)
    tight = Events.write(autoencoder(), store, SITE, tmp_path / "tight", batch=400, run_events=1)
    assert _contents(tight.folder) == _contents(events.folder)


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_pass_that_stops_goes_on(written, tmp_path, monkeypatch):
    events, store, _, _ = written
    asked = []

    class Stops(sae.SAE):
        def codes(self, x):
            asked.append(len(x))
            if len(asked) == 4:
                raise KeyboardInterrupt
            return super().codes(x)

    base = autoencoder()
    stops = Stops(base.config, dict(base.state_dict()))
    with pytest.raises(KeyboardInterrupt):
        Events.write(stops, store, SITE, tmp_path, batch=64, run_events=700)
    with pytest.raises(InputError, match="goes on where it was stopped"):
        Events.open(tmp_path)
    Events.write(stops, store, SITE, tmp_path, batch=64, run_events=700)
    kept = json.loads((events.folder / "events.json").read_text())
    assert json.loads((tmp_path / "events.json").read_text()) == kept
    assert _contents(tmp_path) == _contents(events.folder)
    # Seven batches in all; of the four that were begun at least one need not be done again.
    assert len(asked) < 4 + 7
    before = len(asked)
    Events.write(stops, store, SITE, tmp_path, batch=64, run_events=700)
    assert len(asked) == before


def test_a_merge_that_stops_goes_on(written, tmp_path, monkeypatch):
    events, store, _, _ = written

    def fails(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing_module, "merge", fails)
        with pytest.raises(OSError, match="No space left"):
            Events.write(autoencoder(), store, SITE, tmp_path, batch=64, run_events=700)
    Events.write(autoencoder(), store, SITE, tmp_path, batch=64, run_events=700)
    assert _contents(tmp_path) == _contents(events.folder)


def test_other_events_in_the_folder_are_refused(written, tmp_path):
    events, store, _, _ = written
    with pytest.raises(InputError, match="events of another autoencoder"):
        Events.write(autoencoder(seed=9), store, SITE, events.folder)
    other = store_of(tmp_path / "other", activations(seed=9))
    with pytest.raises(InputError, match="events of another store"):
        Events.write(autoencoder(), other, SITE, events.folder)


def test_what_does_not_fit_is_refused(written, tmp_path):
    events, store, _, _ = written
    with pytest.raises(InputError, match="reads activations of 9 dimensions and those at 'layer' in the store have 8"):
        Events.write(autoencoder(d_in=9), store, SITE, tmp_path / "a")
    with pytest.raises(UnknownNameError, match="no site of the store is called 'layers'"):
        Events.write(autoencoder(), store, "layers", tmp_path / "a")
    with pytest.raises(InputError, match="no latent 24: the autoencoder has 24, from 0 to 23"):
        events.of(WIDTH)
    with pytest.raises(InputError, match="no row -1"):
        events.at(-1)
    with pytest.raises(InputError, match="n must be at least 1"):
        events.top(0, 0)
    with pytest.raises(InputError, match=r"has no events\.json"):
        Events.open(tmp_path)
    assert not (tmp_path / "a").exists()


def test_nan_is_named_by_row_and_shard(tmp_path):
    x = activations()
    x[317, 2] = torch.nan
    store = store_of(tmp_path / "store", x)
    with pytest.raises(NumericalError, match=r"row 317 of the store, in the shard 'values/[0-9a-f]{24}\.safetensors'"):
        Events.write(autoencoder(), store, SITE, tmp_path / "events")


def test_damage_is_told(written, tmp_path):
    events, _, _, _ = written
    for path in events.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "values.npy").write_bytes((events.folder / "values.npy").read_bytes()[:-40])
    with pytest.raises(RecordError, match=r"values\.npy' cannot be read"):
        Events.open(tmp_path)
    (tmp_path / "totals.safetensors").write_bytes(b"nothing")
    with pytest.raises(RecordError, match="totals of the events"):
        Events.open(tmp_path)
    (tmp_path / "events.json").write_text("{}")
    with pytest.raises(RecordError, match=r"events\.json' is broken"):
        Events.open(tmp_path)


def test_no_event_at_all(tmp_path):
    silent = autoencoder()
    silent.threshold.fill_(1e9)
    store = store_of(tmp_path / "store", activations(30))
    events = Events.write(silent, store, SITE, tmp_path / "events")
    assert len(events) == 0
    assert len(events.dead) == WIDTH
    assert len(events.of(0)) == len(events.at(3)) == 0
    assert not events.is_active(0, np.arange(30)).any()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_logits_are_what_a_nudge_does(family):
    """Where the norm's division is held fixed, a step along the direction moves the logits by the effects."""
    module, tokenizer = tiny.decoder(family)
    model = CausalLM(module, tokenizer, chat=False)
    config = sae.Config(d_in=32, width=6, k=2, architecture="topk", normalisation="none")
    generator = torch.Generator().manual_seed(0)
    weights = {
        "W_enc": torch.randn(6, 32, generator=generator), "b_enc": torch.zeros(6),
        "W_dec": torch.randn(6, 32, generator=generator), "b_dec": torch.zeros(32),
    }  # fmt: skip
    autoencoded = sae.SAE(config, weights)
    norm = {"gpt2": lambda: module.transformer.ln_f}.get(family, lambda: module.model.norm)()
    with torch.no_grad():
        norm.weight += torch.linspace(-0.4, 0.4, 32)
        direction = autoencoded.W_dec[3]
        scale = norm.weight + 1 if family == "gemma2" else norm.weight
        centred = direction - direction.mean() if family == "gpt2" else direction
        effects = module.get_output_embeddings().weight @ (centred * scale)
        effects -= effects.mean()
    found = logits(model, autoencoded, 3, n=5)
    order = effects.argsort(descending=True).tolist()
    assert [each.token for each in found.top] == order[:5]
    assert [each.token for each in found.bottom] == order[::-1][:5]
    np.testing.assert_allclose([each.logit for each in found.top], effects[order[:5]], rtol=1e-3, atol=1e-4)
    assert found.top[0].text == tokenizer.decode([found.top[0].token])
    plain = logits(model, autoencoded, 3, n=1, normalised=False)
    assert plain.top[0].token == int((module.get_output_embeddings().weight @ direction).argmax())


def test_logits_refuse_another_width():
    module, tokenizer = tiny.decoder("llama")
    with pytest.raises(InputError, match="8 dimensions and the unembedding"):
        logits(CausalLM(module, tokenizer, chat=False), autoencoder(), 0)


KILLED = """
    import os, signal, sys, torch
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tiny_stores import SITE, autoencoder
    from pellucid import sae
    from pellucid.sae.store import Store
    asked = []

    class Dies(sae.SAE):
        def codes(self, x):
            asked.append(1)
            if len(asked) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().codes(x)

    base = autoencoder()
    sae.events.Events.write(
        Dies(base.config, dict(base.state_dict())), Store.open({store!r}), SITE, {out!r}, batch=64, run_events=300
    )
"""


def test_a_killed_pass_goes_on(written, tmp_path):
    events, store, _, _ = written
    root = os.path.dirname(os.path.abspath(__file__))
    script = textwrap.dedent(KILLED).format(root=root, store=str(store.folder), out=str(tmp_path))
    script = script.replace("from pellucid import sae\n", "from pellucid import sae\nimport pellucid.sae.events\n")
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == -signal.SIGKILL, found.stderr
    assert json.loads((tmp_path / "progress.json").read_text())["rows"] > 0
    Events.write(autoencoder(), store, SITE, tmp_path, batch=64, run_events=300)
    assert _contents(tmp_path) == _contents(events.folder)
