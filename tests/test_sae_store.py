"""The store of activations: what is in it, that a stopped harvest goes on, how it is read, and what is refused."""

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

import tiny
from pellucid.errors import InputError, NumericalError, PellucidError, RecordError, UnknownNameError
from pellucid.models import CausalLM, TextClassifier
from pellucid.sae.runs.holdout import choose
from pellucid.sae.site import Site
from pellucid.sae.store import Cursor, Store, harvest, harvesting, job, lock
from pellucid.sae.store.lock import LOCK, Holder
from pellucid.sae.store.order import order
from pellucid.sae.store.statistics import Sums
from pellucid.sae.store.values import Rows

FIRST, SECOND = "model.layers.0", "model.layers.1:input"
TEXTS = [" ".join(tiny.CORPUS[(n + m) % 3] for m in range(1 + n % 3)) + f" {n}" for n in range(12)]


@pytest.fixture(scope="module")
def model():
    return CausalLM(*tiny.decoder("llama"), name="tiny")


def made(model, out, **options):
    options = {"context": 24, "shard_tokens": 90, "batch_tokens": 120} | options
    return harvest(model, [FIRST, SECOND, FIRST], TEXTS, out, **options)


@pytest.fixture(scope="module")
def store(model, tmp_path_factory):
    return made(model, tmp_path_factory.mktemp("store") / "out", dtype="float32")


def alone(model, site, ids):
    """What passes at a site when a sample goes through the network by itself, caught by a hook of torch."""
    caught = []
    name, _, side = site.partition(":")
    module = model.module.get_submodule(name)
    if side:
        handle = module.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    else:
        handle = module.register_forward_hook(lambda _, args, out: caught.append(out))
    with torch.no_grad():
        model.module(input_ids=torch.tensor([ids]))
    handle.remove()
    found = caught[0]
    return (found[0] if isinstance(found, tuple) else found)[0]


# What is in it


@pytest.mark.parametrize("site", [FIRST, SECOND])
def test_every_row_is_what_passes_when_its_sample_goes_through_alone(model, store, site):
    places = store.places().to_pydict()
    found = store.read(site, np.arange(len(store)))
    for number in range(store.samples):
        sample = store.sample(number)
        expected = alone(model, site, sample.ids)
        rows = slice(*sample.rows)
        assert places["sample"][rows] == [number] * (sample.rows[1] - sample.rows[0])
        assert places["position"][rows] == list(range(1, len(sample.ids)))
        assert tuple(places["token"][rows]) == sample.ids[1:]
        torch.testing.assert_close(found[rows], expected[1:], atol=2e-5, rtol=1e-5)


def test_the_windows_of_each_document_are_its_text_and_no_other(model, store):
    whole = {}
    for number in range(store.samples):
        sample = store.sample(number)
        assert 0 < len(sample.ids) <= 24
        assert len(sample.ids) == len(sample.pieces) == len(sample.roles)
        whole.setdefault(sample.document, []).append(sample.text)
    assert ["".join(parts) for parts in whole.values()] == TEXTS
    ids = [store.sample(number).ids for number in range(store.samples) if store.sample(number).document == "4"]
    assert [token for each in ids for token in each] == model.tokenizer(TEXTS[4])["input_ids"]


def test_the_model_runs_no_further_than_the_last_site(model, tmp_path):
    run = Counter()
    handles = [
        module.register_forward_hook(lambda module, args, out, name=name: run.update([name]))
        for name, module in model.module.named_modules()
    ]
    harvest(model, ["model.layers.0.mlp", "model.layers.0:input"], TEXTS[:2], tmp_path / "out", context=24)
    [handle.remove() for handle in handles]
    assert run["model.layers.0.mlp"] == 1
    # Neither the rest of the layer, nor the next one, nor the head.
    assert not run.keys() & {"model.layers.0", "model.layers.1", "lm_head", "model.norm"}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())


def test_an_encoder_is_harvested_with_its_special_tokens_around_every_window(tmp_path):
    model = TextClassifier(*tiny.encoder("bert"), name="tiny")
    found = harvest(model, ["bert.encoder.layer.0"], TEXTS[:4], tmp_path / "out", context=10, dtype="float32")
    for number in range(found.samples):
        sample = found.sample(number)
        assert (sample.ids[0], sample.ids[-1]) == (101, 102)
        expected = alone(model, "bert.encoder.layer.0", sample.ids)
        rows = found.read("bert.encoder.layer.0", np.arange(*sample.rows))
        torch.testing.assert_close(rows, expected[1:-1], atol=2e-5, rtol=1e-5)


SITES = {
    "gpt2": "transformer.h.0", "qwen3": FIRST, "gemma2": FIRST, "gemma3": "model.layers.1",
    "roberta": "roberta.encoder.layer.0", "distilbert": "distilbert.transformer.layer.0",
    "deberta": "deberta.encoder.layer.0",
}  # fmt: skip


@pytest.mark.parametrize("family", SITES)
def test_padding_on_the_right_changes_nothing_in_other_families(family, tmp_path):
    encoder = family in tiny.ENCODERS
    make = TextClassifier if encoder else CausalLM
    model, site = make(*(tiny.encoder if encoder else tiny.decoder)(family), name=family), SITES[family]
    found = harvest(model, [site], TEXTS[:4], tmp_path / "out", context=30, dtype="float32", selector="all")
    for number in range(found.samples):
        sample = found.sample(number)
        expected = alone(model, site, sample.ids)
        torch.testing.assert_close(found.read(site, np.arange(*sample.rows)), expected, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 8), ("float16", 11)])
def test_half_precision_is_that_of_torch(model, store, tmp_path, dtype, bits):
    found = made(model, tmp_path / "out", dtype=dtype)
    rows = np.arange(len(store))
    expected = store.read(FIRST, rows)
    assert torch.equal(found.read(FIRST, rows), expected.to(getattr(torch, dtype)).float())
    assert (found.read(FIRST, rows) - expected).abs().max() <= expected.abs().max() * 2.0**-bits


def test_int8_is_within_half_a_step_of_each_tokens_largest(model, store, tmp_path):
    found = made(model, tmp_path / "out", dtype="int8")
    rows = np.arange(len(store))
    expected = store.read(FIRST, rows)
    step = expected.abs().amax(1, keepdim=True) / 127
    assert ((found.read(FIRST, rows) - expected).abs() <= step * 0.5001).all()
    assert found.manifest.bytes < store.manifest.bytes
    zeros = Rows.of(torch.zeros(2, 3), "int8").floats()
    assert torch.equal(zeros, torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_statistics_are_those_of_all_rows_that_are_read(model, store, tmp_path, dtype):
    found = store if dtype == "float32" else made(model, tmp_path / "out", dtype=dtype)
    rows = found.read(SECOND, np.arange(len(found))).double().numpy()
    told = found.statistics(SECOND)
    assert told.count == len(rows) == len(found)
    np.testing.assert_allclose(told.mean, rows.mean(0), rtol=1e-12, atol=1e-14)
    assert told.total_variance == pytest.approx(((rows - rows.mean(0)) ** 2).sum(1).mean(), rel=1e-12)
    assert told.mean_square_norm == pytest.approx((rows**2).sum(1).mean(), rel=1e-12)
    assert told.mean_norm == pytest.approx(np.linalg.norm(rows, axis=1).mean(), rel=1e-12)
    assert told.largest_norm == pytest.approx(np.linalg.norm(rows, axis=1).max(), rel=1e-12)
    assert found.statistics(SECOND, "text").total_variance == pytest.approx(told.total_variance, rel=1e-12)
    assert found.statistics(SECOND, "image").count == 0


def test_sums_of_parts_are_those_of_the_whole_far_from_zero_too():
    rows = np.random.default_rng(0).normal(size=(9000, 5)) + 1e7
    whole, parts = Sums.over(rows), Sums.over(rows[:17]).plus(Sums.over(rows[17:17])).plus(Sums.over(rows[17:]))
    expected = ((rows - rows.mean(0)) ** 2).sum()
    assert whole.deviation == pytest.approx(expected, rel=1e-9)
    assert parts.deviation == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(parts.mean, rows.mean(0), rtol=1e-14)


def test_it_ends_with_the_token_that_was_asked_for(model, store, tmp_path):
    found = made(model, tmp_path / "out", tokens=137, dtype="float32")
    assert len(found) == 137
    assert torch.equal(found.read(FIRST, np.arange(137)), store.read(FIRST, np.arange(137)))
    assert [shard.tokens for shard in found.manifest.shards][:-1] == [
        shard.tokens for shard in store.manifest.shards[: len(found.manifest.shards) - 1]
    ]


# A harvest that was stopped

KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from test_sae_store import CausalLM, made, tiny
def stop(progress):
    if progress.tokens > {after}:
        os.kill(os.getpid(), signal.SIGKILL)
import torch
torch.set_num_threads({threads})
made(CausalLM(*tiny.decoder("llama"), name="tiny"), {out!r}, on_progress=stop)
"""


def test_a_harvest_that_was_killed_goes_on_and_gives_the_same_store(model, tmp_path):
    out = tmp_path / "killed"
    script = KILLED.format(path=sys.path, after=250, out=str(out), threads=torch.get_num_threads())
    ended = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)})
    assert ended.returncode == -signal.SIGKILL
    kept = json.loads((out / "manifest.json").read_text())
    assert not kept["complete"]
    assert sum(shard["tokens"] for shard in kept["shards"]) >= 250 - 90
    with pytest.raises(InputError, match="did not come to its end"):
        Store.open(out)
    assert len(Store.open(out, partial=True)) == sum(shard["tokens"] for shard in kept["shards"])

    # As if it had been killed while writing, and again after a shard but before the manifest.
    (out / "values" / ".half.safetensors.1.tmp").write_bytes(b"half")
    (out / "values" / "orphan.safetensors").write_bytes(b"whole, and in no manifest")
    asked = []
    handle = model.module.get_submodule("model.embed_tokens").register_forward_hook(
        lambda module, args, out: asked.append(args[0].numel())
    )
    again = made(model, out)
    handle.remove()
    whole = made(model, tmp_path / "whole")
    assert (out / "manifest.json").read_bytes() == (tmp_path / "whole" / "manifest.json").read_bytes()
    assert again.digest == whole.digest
    again.verify()
    assert not list(out.rglob("*.tmp"))
    # What had been committed was not computed again.
    done = sum(shard["positions"] for shard in kept["shards"])
    assert sum(asked) < 1.3 * (whole.manifest.positions - done)


def test_a_finished_harvest_is_not_computed_again(model, tmp_path):
    first = made(model, tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    handle = model.module.register_forward_pre_hook(lambda module, args: pytest.fail("the model was asked"))
    assert made(model, tmp_path / "out").digest == first.digest
    handle.remove()
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"context": 20}, "context is 24 there and 20 now"),
        ({"dtype": "int8"}, "dtype is 'bfloat16' there and 'int8' now"),
        ({"selector": "text+first"}, "selector is"),
        ({"tokens": 100}, "limit is None there and 100 now"),
        ({"seed": 3}, "seed is 0 there and 3 now"),
    ],
)
def test_a_folder_holds_one_harvest(model, tmp_path_factory, changed, said):
    out = tmp_path_factory.getbasetemp() / "one-harvest"
    made(model, out)
    with pytest.raises(InputError, match=said):
        made(model, out, **changed)


def test_another_corpus_or_model_is_another_harvest(model, tmp_path):
    made(model, tmp_path / "out")
    with pytest.raises(InputError, match=r"corpus is '12 documents .* there and '11 documents"):
        harvest(
            model, [FIRST, SECOND], TEXTS[1:], tmp_path / "out", context=24, shard_tokens=90, batch_tokens=120
        )  # fmt: skip
    other = CausalLM(*tiny.decoder("llama", seed=1), name="tiny")
    with pytest.raises(InputError, match="the model's weights is"):
        made(other, tmp_path / "out")


def test_a_full_disk_is_one_sentence_and_the_shards_before_are_kept(model, store, tmp_path, monkeypatch):
    write, written = job.write_atomically, []

    def full(path, content):
        written.append(path)
        if len(written) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(job, "write_atomically", full)
    with pytest.raises(RecordError, match=r"No space left on device.*tokens before it are kept; make room"):
        made(model, tmp_path / "out", dtype="float32")
    kept = Store.open(tmp_path / "out", partial=True)
    assert len(kept) == sum(shard.tokens for shard in store.manifest.shards[:2])
    monkeypatch.undo()
    assert made(model, tmp_path / "out", dtype="float32").digest == store.digest


def test_ctrl_c_keeps_the_shards_before(model, store, tmp_path):
    def stop(progress):
        if progress.tokens > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(model, tmp_path / "out", dtype="float32", on_progress=stop)
    assert len(Store.open(tmp_path / "out", partial=True)) > 0
    assert made(model, tmp_path / "out", dtype="float32").digest == store.digest


def test_it_says_beforehand_what_it_takes_and_whether_the_disk_has_room(model, tmp_path, monkeypatch):
    told = []
    found = made(model, tmp_path / "out", on_estimate=told.append)
    (estimate,) = told
    assert estimate.tokens == pytest.approx(len(found), rel=0.3)
    assert estimate.bytes == estimate.left * (2 * 32 * 2 + 16)
    assert estimate.seconds == pytest.approx(estimate.left / estimate.tokens_per_second)
    assert "GB" in str(estimate)
    assert "minutes" in str(estimate)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**26 + 1500))
    with pytest.raises(InputError, match=r"take about .* GB free: take at most 10 tokens, dtype int8"):
        made(model, tmp_path / "small")
    assert not list((tmp_path / "small").iterdir())


def test_more_tokens_than_the_corpus_has_are_not_reckoned_with(model, tmp_path):
    told, progress = [], []
    found = made(model, tmp_path / "out", tokens=10**12, on_estimate=told.append, on_progress=progress.append)
    assert told[0].tokens == pytest.approx(len(found), rel=0.3)
    assert progress[0].total == told[0].tokens
    made(model, tmp_path / "few", tokens=50, on_estimate=told.append)
    assert told[1].tokens == 50


def test_two_harvests_into_one_folder_at_a_time_are_refused(model, store, tmp_path):
    out, said = tmp_path / "out", []

    def again(progress):
        if not said:
            with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is harvesting into .*; wait") as raised:
                made(model, out, dtype="float32")
            said.append(raised.value)

    assert made(model, out, dtype="float32", on_progress=again).digest == store.digest
    assert said
    assert not (out / LOCK).exists()


def test_the_lock_of_a_process_that_ended_is_taken_over(model, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = Holder(host=socket.gethostname(), process=os.getpid(), started=psutil.Process().create_time())
    for holder in (mine.model_copy(update={"process": ended.pid}), mine.model_copy(update={"started": 1e9})):
        (tmp_path / LOCK).write_text(holder.model_dump_json())
        with lock.alone(tmp_path):
            assert Holder.model_validate_json((tmp_path / LOCK).read_bytes()) == mine
        assert not (tmp_path / LOCK).exists()
    for content in (b"", mine.model_copy(update={"host": "elsewhere"}).model_dump_json().encode()):
        (tmp_path / LOCK).write_bytes(content)
        with (
            pytest.raises(InputError, match=r"is harvesting into .* or delete .*\.harvest\.lock"),
            lock.alone(tmp_path),
        ):
            pytest.fail("it was not held")
        assert (tmp_path / LOCK).read_bytes() == content
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match=r"no store can be written to .*file"), lock.alone(tmp_path / "file"):
        pytest.fail("a file is no folder")


# Reading


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_each_epoch_has_every_row_once(store, shuffle, size):
    for epoch in range(2):
        cursor = Cursor(epoch=epoch)
        found = list(store.batches(FIRST, size, epochs=epoch + 1, cursor=cursor, shuffle=shuffle))
        rows = torch.cat([batch.rows for batch in found])
        assert torch.equal(rows.sort().values, torch.arange(len(store)))
        assert shuffle != torch.equal(rows, torch.arange(len(store)))
        assert torch.equal(torch.cat([batch.x for batch in found]), store.read(FIRST, rows.numpy()))
        assert {len(batch.rows) for batch in found[:-1]} <= {size}


def test_epochs_and_seeds_are_orders_of_their_own(store):
    def rows(**options):
        return torch.cat([batch.rows for batch in store.batches(FIRST, 50, **options)]).tolist()

    count = len(store)
    both = rows(epochs=2)
    assert both[:count] == rows()
    assert both[count:] != both[:count]
    assert sorted(both[count:]) == list(range(count))
    assert rows(seed=1) != rows()
    assert rows(seed=1) == rows(seed=1)


def test_without_end_it_goes_on_and_a_short_last_batch_can_be_left_out(store):
    reading = store.batches(FIRST, len(store) - 1, epochs=None, drop_last=True)
    epochs = [next(reading).cursor.epoch for _ in range(3)]
    assert epochs == [0, 1, 2]


@pytest.mark.parametrize("shuffle", [False, True])
def test_reading_goes_on_from_a_cursor_to_the_bit(store, shuffle):
    whole = list(store.batches(FIRST, 41, seed=5, epochs=3, shuffle=shuffle))
    for stopped in (0, 3, len(whole) // 2, len(whole) - 2):
        cursor = json.loads(json.dumps(whole[stopped].cursor.model_dump()))
        fresh = Store.open(store.folder)
        rest = list(fresh.batches(FIRST, 41, seed=5, epochs=3, cursor=cursor, shuffle=shuffle))
        assert len(rest) == len(whole) - stopped - 1
        for one, other in zip(rest, whole[stopped + 1 :], strict=True):
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.rows, other.rows)
            assert one.cursor == other.cursor


def test_every_row_is_as_likely_in_every_place():
    sizes, counts = [30, 50, 20, 45, 55], np.zeros((200, 10))
    for seed in range(400):
        found = np.concatenate(list(order(sizes, Cursor(seed=seed), shuffle=True, window=100)))
        assert sorted(found) == list(range(200))
        counts[found, np.arange(200) // 20] += 1
    # 400 draws, of which each tenth of the places should have 40 of every row: about 6 standard deviations at most.
    assert counts.min() > 5
    assert np.abs(counts - 40).max() < 40
    first = next(order(sizes, Cursor(seed=0), shuffle=True, window=100))
    assert len(first) < 200
    # Rows of several shards come mixed, not one shard after another.
    shards = np.searchsorted(np.cumsum(sizes), first, "right")
    assert (np.diff(shards) != 0).mean() > 0.25


def test_a_part_of_the_places_and_samples_that_do_not_exist(store):
    whole = store.places()
    assert whole.column_names == ["row", "sample", "position", "token", "role", "modality", "patch_y", "patch_x"]
    assert whole.num_rows == len(store)
    assert whole["row"].to_pylist() == list(range(len(store)))
    assert set(whole["role"].to_pylist()) == {"document"}
    assert store.places(85, 203).to_pylist() == whole.slice(85, 118).to_pylist()
    assert store.places(len(store)).num_rows == 0
    with pytest.raises(InputError, match="there is no sample"):
        store.sample(store.samples)
    with pytest.raises(InputError, match="rows are 0 to"):
        store.read(FIRST, np.array([0, len(store)]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "at least 1 row"),
        ({"size": 10**6, "drop_last": True}, "at most the store's"),
        ({"size": 8, "cursor": Cursor(seed=2)}, "go on with the same store and seed"),
        ({"size": 8, "cursor": {"position": 10**6}}, "the cursor is at row 1,000,000"),
    ],
)
def test_reading_refuses(store, options, said):
    with pytest.raises(InputError, match=said):
        next(store.batches(FIRST, **options))
    with pytest.raises(UnknownNameError, match=r"did you mean 'model.layers.0'"):
        next(store.batches("model.layers.00", 8))


# Files that are not what they were

ASKED = {
    "values": [lambda found: found.read(FIRST, np.arange(3))],
    "places": [lambda found: found.places()],
    "texts": [lambda found: found.sample(0), lambda found: choose(found, 0.1, 0)],
}


@pytest.fixture
def copied(store, tmp_path):
    shutil.copytree(store.folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_changed_byte_is_found_when_its_shard_is_first_read(store, copied):
    path = copied / store.manifest.shards[1].values.name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match=path.name):
        Store.open(copied).verify()
    with pytest.raises(RecordError, match=rf"{path.name}' has the SHA-256 .* changed after it was written"):
        list(Store.open(copied).batches(FIRST, 50))
    before = store.manifest.shards[0].tokens
    assert torch.equal(Store.open(copied).read(FIRST, np.arange(before)), store.read(FIRST, np.arange(before)))
    assert len(list(Store.open(copied, hashed=False).batches(FIRST, 10_000))) == 1


@pytest.mark.parametrize("kind", ["places", "texts"])
def test_another_table_of_the_same_size_is_found_when_it_is_first_read(store, copied, kind):
    path = copied / getattr(store.manifest.shards[0], kind).name
    content = bytearray(path.read_bytes())
    # The name of the library that wrote it, which no page checksum covers.
    place = content.rindex(b"parquet-cpp")
    content[place] ^= 1
    path.write_bytes(content)
    for ask in ASKED[kind]:
        with pytest.raises(RecordError, match=rf"{path.name}' has the SHA-256"):
            ask(Store.open(copied))
        ask(Store.open(copied, hashed=False))


@pytest.mark.parametrize("content", [b"no table", None])
def test_what_is_held_out_is_read_as_all_else_is(store, copied, content):
    path = copied / store.manifest.shards[1].texts.name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(RecordError, match=path.name):
        choose(Store.open(copied), 0.1, 0)
    assert list(store.documents()) == [
        (sample.document, sample.rows[1] - sample.rows[0]) for sample in map(store.sample, range(store.samples))
    ]


@pytest.mark.parametrize("kind", ["values", "places", "texts"])
def test_a_shard_that_is_cut_or_gone_is_named(store, copied, kind):
    name = getattr(store.manifest.shards[0], kind).name
    (copied / name).write_bytes((copied / name).read_bytes()[:-1])
    with pytest.raises(RecordError, match=rf"{Path(name).name}' has \d+ bytes and not"):
        ASKED[kind][0](Store.open(copied))
    (copied / name).unlink()
    with pytest.raises(RecordError, match="is missing"):
        ASKED[kind][0](Store.open(copied))


def test_a_folder_without_a_store_or_with_a_broken_one(copied, tmp_path):
    with pytest.raises(InputError, match="there is no store"):
        Store.open(tmp_path)
    (copied / "manifest.json").write_text('{"version": 1}')
    with pytest.raises(RecordError, match="is no manifest of a store"):
        Store.open(copied)


# What a harvest refuses


def test_a_dtype_that_is_not_known_is_refused(model):
    # Tests check types as well, and users do not.
    with pytest.raises(UnknownNameError, match="no dtype of a store is called 'int4'"):
        harvesting._check([Site.of(FIRST)], model, "int4", {})


def test_nan_is_refused_with_its_sample_and_position(model, store, tmp_path):
    module, tokenizer = tiny.decoder("llama", seed=2)
    seven = tokenizer(" 7")["input_ids"][-1]
    with torch.no_grad():
        module.get_input_embeddings().weight[seven] = torch.nan
    # After an attention layer it would be in the positions before as well: what is masked is multiplied by 0.
    broken, site = CausalLM(module, tokenizer, name="tiny"), "model.embed_tokens"
    with pytest.raises(NumericalError) as raised:
        harvest(broken, [site], TEXTS, tmp_path / "out", context=24, shard_tokens=90, batch_tokens=120)
    said = re.search(r"at 'model.embed_tokens' .* sample (\d+) \(document '7'\), position (\d+);", str(raised.value))
    number, position = map(int, said.groups())
    assert store.sample(number).ids[position] == seven
    assert seven not in store.sample(number).ids[1:position]


def test_what_float16_cannot_hold_is_refused(tmp_path):
    module, tokenizer = tiny.decoder("llama", seed=2)
    with torch.no_grad():
        module.get_submodule("model.layers.0.mlp.down_proj").weight *= 1e5
    with pytest.raises(InputError, match="float16 cannot hold; use bfloat16"):
        made(CausalLM(module, tokenizer, name="tiny"), tmp_path / "out", dtype="float16")


@pytest.mark.parametrize(
    ("sites", "options", "error", "said"),
    [
        ([], {}, InputError, "no site was given"),
        (["model.layers.5"], {}, UnknownNameError, "did you mean 'model.layers.0'|Known"),
        (["model.layers.0:middle"], {}, InputError, "a site is the name of a module"),
        (["model.rotary_emb"], {}, InputError, "must give \\[sample, position, channel\\]"),
        ([FIRST], {"tokens": 0}, InputError, "tokens must be at least 1"),
        ([FIRST], {"shard_tokens": 0}, InputError, "shard_tokens must be at least 1"),
        ([FIRST], {"context": 1}, InputError, "the context is 1 tokens"),
        ([FIRST], {"context": 10_000}, InputError, "the model reads at most 256"),
        ([FIRST], {"selector": "assistant"}, InputError, "the selector keeps no token"),
        ([FIRST], {"selector": "tex"}, UnknownNameError, "did you mean 'text'"),
    ],
)
def test_a_harvest_refuses(model, tmp_path, sites, options, error, said):
    with pytest.raises(error, match=said) as raised:
        harvest(model, sites, TEXTS[:3], tmp_path / "out", **options)
    assert isinstance(raised.value, PellucidError)
    assert not (tmp_path / "out" / "manifest.json").exists()
