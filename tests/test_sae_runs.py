"""Training runs: stopped and continued to the bit, what is held out and never learnt from, and what is refused."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import pellucid.sae.runs.checkpoints as checkpoints
from pellucid.errors import InputError, MissingPackageError, NumericalError, RecordError, UnknownNameError
from pellucid.sae import SAE, Config
from pellucid.sae.runs import Grid, fitted, read_plan, read_runs, train
from pellucid.sae.runs.feed import feed
from pellucid.sae.runs.holdout import choose
from pellucid.sae.runs.log import Log
from pellucid.sae.runs.plan import difference
from pellucid.sae.store import Store, harvest

WORDS = [*"abcdefghijklmnop", "patient", "tumour", "nodes", "left", "lung", "hurts"]
SITES = ("transformer.h.0", "transformer.h.1")
GRID = Grid(widths=(64,), ks=(4,), architectures=("matryoshka", "topk"), changes={"lr": 3e-3})


def texts(count: int = 60) -> list[str]:
    drawn = np.random.default_rng(0)
    return [" ".join(drawn.choice(WORDS, 24)) for _ in range(count)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    import tiny
    from pellucid.models import load

    model = load(tiny.decoder("gpt2"))
    folder = tmp_path_factory.mktemp("sae") / "store"
    return harvest(model, SITES, texts(), folder, context=32, dtype="float32", shard_tokens=700)


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name: SAE.load(path.parent).state_dict() for path in sorted(folder.glob("*/config.json"))}


def equal(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    assert a
    assert a.keys() == b.keys()
    return all(torch.equal(a[name][key], b[name][key]) for name in a for key in a[name])


def trained(store: Store, out: Path, **changes) -> list:
    return train(store, GRID, out, **{"sites": SITES[0], "epochs": 2, "batch": 64, "checkpoint_every": 20} | changes)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "runs"
    trained(store, out)
    return out


def test_every_run_is_there_with_its_record(store, whole):
    runs = read_runs(whole)
    assert list(runs) == ["transformer.h.0-matryoshka-64-k4-s0", "transformer.h.0-topk-64-k4-s0"]
    for run in runs.values():
        sae = SAE.load(whole / run.name)
        assert sae.origin.site == SITES[0]
        assert sae.origin.store == store.digest
        assert sae.origin.training["corpus_digest"] == store.manifest.making.corpus.digest
        assert sae.origin.tokens == run.tokens == 64 * read_plan(whole).steps[SITES[0]]
        assert sae.origin.training["config"]["normalisation"] == "mean-square"
        assert sae.origin.training["selection"] == "float32"
        assert run.figures["held_out_fvu"] is not None
    assert not (whole / "checkpoints").exists() or not list((whole / "checkpoints").rglob("*.safetensors"))


def test_it_learns_and_held_out_figures_are_those_of_the_saved_autoencoder(store, whole):
    lines = [json.loads(line) for line in (whole / "logs/transformer.h.0-topk-64-k4-s0.jsonl").read_text().splitlines()]
    assert lines[-1]["fvu"] < 0.7 * lines[0]["fvu"]
    run = read_runs(whole)["transformer.h.0-topk-64-k4-s0"]
    held = choose(store, 0.02, 0)
    rows = [row for row in range(len(store)) if bool(held.of(torch.tensor([row]))[0])]
    x = store.read(SITES[0], np.array(rows)).double()
    sae = SAE.load(whole / run.name)
    missed = (x - sae(x.float()).double()).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert run.figures["held_out_fvu"] == pytest.approx(float(missed), rel=1e-6)
    assert run.figures["held_out_l0"] == pytest.approx(float((sae.encode(x.float()) > 0).sum(1).double().mean()))
    assert run.figures["held_out_tokens"] == len(rows)


def test_one_reading_for_several_gives_what_each_gives_alone(store, whole, tmp_path):
    alone = train(store, GRID.configs(32)[1], tmp_path, sites=SITES[0], epochs=2, batch=64)
    mine, other = SAE.load(tmp_path / alone[0].name), SAE.load(whole / alone[0].name)
    assert all(torch.equal(a, b) for a, b in zip(mine.buffers(), other.buffers(), strict=True))


def test_several_sites_and_widths_and_seeds(store, tmp_path):
    grid = Grid(widths=(32, 48), ks=(4,), architectures=("batchtopk",), seeds=(0, 1))
    runs = train(store, grid, tmp_path, sites=SITES, tokens=640, batch=64)
    assert len({run.name for run in runs}) == 8
    assert {run.site for run in runs} == set(SITES)
    assert all(run.tokens == 640 for run in runs)


# Stopping and going on

KILLED = """
import sys
from pellucid.sae.runs import Grid, train
grid = Grid(**__import__("json").loads(sys.argv[3]))
def told(line):
    print(line["step"], flush=True)
settings = {"epochs": 2, "batch": 64, "checkpoint_every": 20, "log_every": 1}
train(sys.argv[1], grid, sys.argv[2], sites=sys.argv[4], told=told, **settings)
"""


def started(store: Store, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", KILLED, str(store.folder), str(out), GRID.model_dump_json(), SITES[0]]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def stopping(step: int, raised: type[Exception] | None):
    """A listener that stops training at a step: by an error, or as Ctrl-C does."""

    def told(line) -> None:
        if line["step"] == step and "topk" in line["run"]:
            if raised is not None:
                raise raised
            signal.raise_signal(signal.SIGINT)

    return told


def committed(out: Path) -> int:
    return json.loads(next(out.rglob("checkpoint.json")).read_text())["step"]


def stopped_at(process: subprocess.Popen, step: int, number: int) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= step:
            process.send_signal(number)
            break
    process.stdout.close()
    return process.wait(60)


def test_killed_it_ends_with_the_same_bits(store, whole, tmp_path):
    out = tmp_path / "runs"
    assert stopped_at(started(store, out), 27, signal.SIGKILL) == -signal.SIGKILL
    assert committed(out) >= 20
    trained(store, out)
    assert equal(out, whole)
    steps = [json.loads(line)["step"] for line in next((out / "logs").glob("*.jsonl")).read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_stopped_between_checkpoints_it_goes_back_and_ends_with_the_same_bits(store, whole, tmp_path):
    out = tmp_path / "runs"
    for step in (27, 43):
        with pytest.raises(InterruptedError):
            trained(store, out, log_every=1, told=stopping(step, raised=InterruptedError))
        assert committed(out) == step - step % 20
    trained(store, out)
    assert equal(out, whole)


def test_ctrl_c_writes_a_checkpoint_of_the_very_step(store, whole, tmp_path):
    out = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        trained(store, out, log_every=1, told=stopping(28, raised=None))
    assert committed(out) == 28
    assert not read_runs(out)
    trained(store, out)
    assert equal(out, whole)


def test_a_second_ctrl_c_is_not_waited_with():
    from pellucid.sae.runs.interruption import deferred

    with pytest.raises(KeyboardInterrupt), deferred() as found:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert found.asked
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_signals_are_left_alone(store, tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.extend(trained(store, tmp_path, tokens=128, epochs=None)))
    thread.start()
    thread.join(60)
    assert len(found) == 2


def test_a_finished_folder_is_not_trained_again(store, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    begun = time.monotonic()
    assert len(trained(store, whole)) == 2
    assert time.monotonic() - begun < 5
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}


def test_a_full_disk_keeps_the_checkpoint_before(store, whole, tmp_path, monkeypatch):
    real, out, written = checkpoints.write_atomically, tmp_path / "runs", []

    def full(path, content):
        written.append(path)
        if len(written) > 5:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(
        RecordError, match=r"checkpoint of step 40 cannot be written .*No space left.*before it is kept"
    ):
        trained(store, out)
    monkeypatch.undo()
    folder = next(out.rglob("checkpoint.json")).parent
    assert json.loads((folder / "checkpoint.json").read_text())["step"] == 20
    named = json.loads((folder / "checkpoint.json").read_text())["files"]
    assert {path.name for path in folder.glob("*.safetensors")} == set(named)
    trained(store, out)
    assert equal(out, whole)


def test_a_log_on_a_full_disk_names_its_file(tmp_path):
    log, path = Log(tmp_path, ["run"]), tmp_path / "logs/run.jsonl"
    log.write({"run": {"step": 1}})
    log.go_back_to(1)
    path.unlink()
    path.symlink_to("/dev/full")
    with pytest.raises(RecordError, match=r"run\.jsonl' cannot be written \(No space left.*checkpoint before.*kept"):
        log.write({"run": {"step": 2}})


def test_a_changed_checkpoint_is_refused(store, tmp_path):
    out = tmp_path / "runs"
    with pytest.raises(InterruptedError):
        trained(store, out, log_every=1, told=stopping(21, raised=InterruptedError))
    path = next(out.rglob("*topk*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match="its hash is not the one that was written down"):
        trained(store, out)


# What is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 32}, r"batch = 64 and is now given 32"),
        ({"seed": 1}, r"seed = 0 and is now given 1"),
        ({"epochs": 1}, r"steps.transformer.h.0"),
        ({"sites": SITES[1]}, r"transformer.h.0"),
    ],
)
def test_another_setting_in_a_folder_is_refused_by_name(store, whole, changes, said):
    with pytest.raises(InputError, match=said):
        trained(store, whole, **changes)


def test_another_configuration_in_a_folder_is_refused_by_name(store, whole):
    with pytest.raises(InputError, match=r"runs\[0\].config.lr = 0.003 and is now given 0.01"):
        train(store, GRID.model_copy(update={"changes": {"lr": 0.01}}), whole, sites=SITES[0], epochs=2, batch=64)


def test_the_first_difference_of_two_documents():
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == "a[1].b = 2 and is now given 3"
    assert difference({"a": 1}, {"a": 1}) is None
    assert difference({"a": [1]}, {"a": [1, 2]}) == "1 a and is now given 2"


def test_unusable_requests(store, tmp_path):
    with pytest.raises(UnknownNameError, match=r"did you mean 'transformer\.h\.1'"):
        trained(store, tmp_path, sites="transformer.h.11")
    with pytest.raises(InputError, match="the store has 2 sites"):
        trained(store, tmp_path, sites=None)
    with pytest.raises(InputError, match="have 32 dimensions and a configuration is for 16"):
        train(store, Config(d_in=16, width=32, k=2), tmp_path, sites=SITES[0], batch=64)
    with pytest.raises(InputError, match="less than one batch of 4,096"):
        trained(store, tmp_path, batch=4096)
    with pytest.raises(InputError, match="the device 'warp' is not there; this machine has cpu"):
        trained(store, tmp_path, device="warp")
    with pytest.raises(InputError, match="epochs and tokens both say"):
        trained(store, tmp_path, tokens=100)
    with pytest.raises(InputError, match="batch must be at least 1, not 0"):
        trained(store, tmp_path, batch=0)
    with pytest.raises(InputError, match=r"held_out is a share from 0 to 0\.5"):
        trained(store, tmp_path, held_out=0.9)
    with pytest.raises(InputError, match="k is given as a list of values and once more as a setting"):
        train(store, GRID.model_copy(update={"changes": {"k": 3}}), tmp_path, sites=SITES[0], batch=64)
    assert not list(tmp_path.iterdir())


def test_nan_activations_name_step_and_shard(store, tmp_path, monkeypatch):
    real = Store.read
    bad = 1000

    def spoilt(self, site, rows):
        x = real(self, site, rows)
        x[torch.from_numpy(np.asarray(rows) == bad)] = float("nan")
        return x

    monkeypatch.setattr(Store, "read", spoilt)
    with pytest.raises(
        NumericalError, match=rf"step \d+: row {bad} .* in the shard '(.*)', is NaN or infinite"
    ) as found:
        trained(store, tmp_path)
    shards = store.manifest.shards
    owner = shards[0] if bad < shards[0].tokens else shards[1]
    assert owner.values.name in str(found.value)


def test_a_loss_that_is_lost_names_run_and_step_and_keeps_the_checkpoint(store, tmp_path, monkeypatch):
    from pellucid.sae.trainer import Trainer

    real = Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda self, x: real(self, x)._replace(loss=float("nan") if self.steps > 27 else 1.0)
    )
    with pytest.raises(
        NumericalError, match=r"the loss of transformer.h.0-matryoshka.* is nan at step 28; the checkpoint of step 20"
    ):
        trained(store, tmp_path)
    assert json.loads(next(tmp_path.rglob("checkpoint.json")).read_text())["step"] == 20


def test_too_many_at_a_time_are_refused(store, tmp_path, monkeypatch):
    import psutil

    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1000))
    with pytest.raises(InputError, match="train fewer of them at a time"):
        trained(store, tmp_path)


# What is held out, and what is fed


def test_whole_documents_are_held_out_and_never_fed(store):
    held = choose(store, 0.05, 0)
    assert held.unit == "document"
    places = store.places()
    of_rows = held.of(torch.arange(len(store))).numpy()
    assert of_rows.sum() == held.rows
    assert 0.05 * len(store) <= held.rows <= 0.11 * len(store)
    documents = np.array([store.sample(int(number)).document for number in places["sample"].to_pylist()])
    assert not set(documents[of_rows]) & set(documents[~of_rows])
    assert choose(store, 0.05, 1).rows != held.rows or not np.array_equal(choose(store, 0.05, 1).held, held.held)
    assert choose(store, 0.0, 0).rows == 0


def test_batches_are_equal_in_size_and_have_each_row_once(store):
    held = choose(store, 0.05, 0)
    start = checkpoints.State(0, None, None, 0.0, {})
    found = torch.cat([fed.x for fed in feed(store, SITES[0], 50, 1, 3, held, start)])
    everything = store.read(SITES[0], np.arange(len(store)))[~held.of(torch.arange(len(store)))]
    assert len(found) == len(everything) // 50 * 50
    known = {tuple(row) for row in everything.tolist()}
    assert {tuple(row) for row in found.tolist()} <= known


def test_feeding_goes_on_to_the_bit(store):
    held = choose(store, 0.05, 0)
    start = checkpoints.State(0, None, None, 0.0, {})
    all_of_it = list(feed(store, SITES[0], 50, 2, 3, held, start))
    middle = all_of_it[20]
    state = checkpoints.State(21, middle.cursor, middle.carried, 0.0, {})
    rest = list(feed(store, SITES[0], 50, 2, 3, held, state))
    assert len(rest) == len(all_of_it) - 21
    assert all(torch.equal(a.x, b.x) for a, b in zip(rest, all_of_it[21:], strict=True))


# Schedules


def test_schedules_of_long_trainings_are_shortened_and_it_is_said():
    asked = Config(d_in=8, width=64, k=4, warmup=1000, threshold_start=1000)
    found = fitted(asked, steps=500, batch=4096)
    assert found.config.dead_after == 500 * 4096 // 10
    assert found.config.warmup == 25
    assert found.config.threshold_start == 250
    assert found.config.threshold_decay == pytest.approx(1 - 1 / 25)
    assert found.config.steps == 500
    assert found.asked == {"dead_after": 10_000_000, "warmup": 1000, "threshold_start": 1000, "threshold_decay": 0.999}
    kept = fitted(asked, steps=500, batch=4096, keep=["dead_after", "warmup"]).config
    assert (kept.dead_after, kept.warmup) == (10_000_000, 1000)


def test_long_trainings_keep_their_schedules():
    asked = Config(d_in=8, width=64, k=4, warmup=1000, threshold_start=1000)
    found = fitted(asked, steps=100_000, batch=4096)
    assert found.asked == {}
    assert found.config.dead_after == 10_000_000


def test_a_short_training_waits_twenty_batches_for_a_latent():
    assert fitted(Config(d_in=8, width=64, k=4), steps=50, batch=64).config.dead_after == 20 * 64


# The log


def test_tensorboard_is_asked_for_by_name(store, tmp_path, monkeypatch):
    monkeypatch.setattr("pellucid.sae.runs.log.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="tensorboard is not installed"):
        trained(store, tmp_path, tensorboard=True)
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_every_figure_of_every_run(store, tmp_path, monkeypatch):
    drawn = []

    class Writer:
        def __init__(self, folder: str) -> None:
            self.folder = Path(folder)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            drawn.append((self.folder.name, name, value, step))

        def close(self) -> None:
            drawn.append((self.folder.name, "closed"))

    monkeypatch.setattr("pellucid.sae.runs.log.find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    runs = trained(store, tmp_path, epochs=None, tokens=320, log_every=2, tensorboard=True)
    for run in runs:
        lines = [json.loads(line) for line in (tmp_path / "logs" / f"{run.name}.jsonl").read_text().splitlines()]
        losses = [(value, step) for name, what, value, step in (each for each in drawn if len(each) == 4)
                  if name == run.name and what == "loss"]  # fmt: skip
        assert losses == [(line["loss"], line["step"]) for line in lines]
        assert (run.name, "closed") in drawn
    assert [line["step"] for line in lines] == [2, 4, 5]


def test_on_a_terminal_each_run_has_a_line(store, tmp_path, monkeypatch):
    from pellucid.sae.runs import display

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(display, "SECONDS_BEFORE_SHOWN", 0.0)
    monkeypatch.setattr(display, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    trained(store, tmp_path, epochs=None, tokens=640)
    said = terminal.getvalue()
    for name in read_runs(tmp_path):
        assert name in said
    for word in ("loss", "L0 4.0", "FVU", "dead", "tokens/s"):
        assert word in said


# The command


@pytest.fixture
def command():
    from pellucid.cli.sae.train import train as body

    app = typer.Typer()
    app.command()(body)
    app.callback()(lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_the_command_trains_a_grid_and_tells_it_as_json(store, tmp_path, command):
    done = command(
        store.folder, "--site", SITES[0], "--preset", "sae-lens", "--width", "64,32", "--k", "4", "--seeds", "0,1",
        "--tokens", 640, "--batch", 64, "--set", "aux_weight=0.5", "--lr", "0.002", "--out", tmp_path, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["runs"]) == 4
    config = read_plan(tmp_path).runs[0].config
    assert (config.aux_weight, config.lr, config.decoder, config.prefix_weights) == (0.5, 0.002, "free", (1.0,) * 5)
    progress = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["run"] for line in progress} == {run["name"] for run in found["runs"]}


def test_the_command_says_it_in_a_table(store, tmp_path, command):
    done = command(
        store.folder, "--site", SITES[0], "--width", "64", "--k", "4", "--tokens", 128, "--batch", 64, "--out", tmp_path
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].split() == ["loss", "L0", "FVU", "dead", "FVU", "L0", "dead"]
    (run,) = read_runs(tmp_path).values()
    assert f"{run.figures['held_out_dead_share']:.1%}" in done.stdout
    assert "transformer.h.0-matryoshka-64-k4-s0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--width", "x"], "--width takes whole numbers"),
        (["--width", "64", "--k", "a"], "--k takes whole numbers"),
        (["--width", "64", "--set", "nonsense"], "--set takes NAME=VALUE"),
        (["--width", "64", "--batch", "64", "--preset", "maira"], "no preset of an autoencoder is called 'maira'"),
    ],
)
def test_the_command_refuses(store, tmp_path, command, arguments, said):
    done = command(store.folder, "--site", SITES[0], "--out", tmp_path, *arguments)
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
