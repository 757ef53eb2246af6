"""Training autoencoders from a store: a plan, one reading for each site, and a folder for each result."""

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch

from pellucid.errors import InputError
from pellucid.sae.config import Config
from pellucid.sae.runs.course import Course, Watching, require_memory
from pellucid.sae.runs.fitting import fitted
from pellucid.sae.runs.grid import Grid
from pellucid.sae.runs.holdout import HeldOut, choose
from pellucid.sae.runs.log import Line, require_tensorboard
from pellucid.sae.runs.plan import Plan, Planned, names, settle
from pellucid.sae.runs.record import Run, read_runs
from pellucid.sae.store import Store

BATCH = 4096
HELD_OUT = 0.02
CHECKPOINT_EVERY = 200
LOG_EVERY = 10


def train(
    store: Store | Path | str,
    configs: Grid | Config | Sequence[Config],
    out: Path | str,
    *,
    sites: Sequence[str] | str | None = None,
    epochs: int | None = None,
    tokens: int | None = None,
    batch: int = BATCH,
    held_out: float = HELD_OUT,
    seed: int = 0,
    keep: Collection[str] = (),
    checkpoint_every: int = CHECKPOINT_EVERY,
    log_every: int = LOG_EVERY,
    tensorboard: bool = False,
    told: Callable[[Line], None] | None = None,
    device: str = "cpu",
) -> list[Run]:
    """Train every autoencoder on every site, each site's from one reading of the store, and write them into ``out``.

    Run again after it was stopped, even by a killed process, it goes on from the last checkpoint, and the weights are
    then equal, to the bit, to those of a training that was not stopped. Schedules that were made for hundreds of
    millions of tokens are shortened to fit (see ``fitted``), and the autoencoder's record says from what.

    Args:
        store: what ``harvest`` wrote.
        configs: what to train.
        out: the folder; each autoencoder gets its own in it.
        sites: which of the store's; None: its only one.
        epochs: how often the store is read; one, where ``tokens`` is not given either.
        tokens: how many tokens to learn from, instead; the store is read as often as that takes.
        batch: tokens of a step.
        held_out: share of the tokens, in whole documents, to judge the result on. 0: none.
        seed: of the order of reading and of what is held out; that of the weights is in each configuration.
        keep: fields of the configuration that are not shortened.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log, one file for each run in ``logs``.
        tensorboard: whether to write TensorBoard's files too.
        told: called with each line of the log.
        device: where to train.

    Raises:
        InputError: an unknown site or device, a configuration for another width, too few tokens, more autoencoders than
            fit into memory, or a folder that was begun with something else, which it names.
        NumericalError: activations or a loss that are NaN or infinite, with step and shard; the last checkpoint stays.
        MissingPackageError: TensorBoard is asked for and not installed.
        RecordError: a broken shard or checkpoint, or a checkpoint that cannot be written.
        KeyboardInterrupt: after Ctrl-C, once the step is finished and a checkpoint written.
    """
    store = store if isinstance(store, Store) else Store.open(store)
    _check_device(device)
    _check(batch=batch, checkpoint_every=checkpoint_every, log_every=log_every, epochs=epochs, tokens=tokens)
    if tensorboard:
        require_tensorboard()
    held = choose(store, held_out, seed)
    plan = planned(
        store, configs, _sites(store, sites), held,
        epochs=epochs, tokens=tokens, batch=batch, held_out=held_out, seed=seed, keep=keep,
    )  # fmt: skip
    return _carried_out(store, plan, Path(out), held, device, Watching(checkpoint_every, log_every, tensorboard, told))


def _carried_out(store: Store, plan: Plan, folder: Path, held: HeldOut, device: str, watching: Watching) -> list[Run]:
    """Every site of a plan that is not done yet, one after the other; the results of all."""
    settle(plan, folder)
    for site in plan.steps:
        done = read_runs(folder)
        if not all(run.name in done for run in plan.of_site(site)):
            require_memory(plan, site)
            Course(store, plan, site, folder, held, device, watching).run()
    done = read_runs(folder)
    return [done[run.name] for run in plan.runs]


def planned(
    store: Store,
    configs: Grid | Config | Sequence[Config],
    sites: Sequence[str],
    held: HeldOut,
    *,
    epochs: int | None,
    tokens: int | None,
    batch: int,
    held_out: float,
    seed: int,
    keep: Collection[str],
) -> Plan:
    """What will be trained. Raises InputError."""
    seen = len(store) - held.rows
    steps = (epochs or 1) * seen // batch if tokens is None else math.ceil(tokens / batch)
    if steps < 1 or seen < batch:
        raise InputError(
            f"the store has {seen:,} tokens to train on, which is less than one batch of {batch:,}; harvest more or "
            "take a smaller batch."
        )
    readings = (epochs or 1) if tokens is None else math.ceil(steps * batch / seen)
    wanted = {site: _configs(configs, store.manifest.d_in[site], site) for site in sites}
    runs = []
    for name, site, config in names(sites, wanted):
        found = fitted(config, steps, batch, keep)
        runs.append(Planned(name=name, site=site, config=found.config, asked=found.asked))
    return Plan(
        store=store.digest, batch=batch, steps=dict.fromkeys(sites, steps), epochs=readings, seed=seed,
        held_out=held_out, preset=configs.preset if isinstance(configs, Grid) else None, runs=tuple(runs),
    )  # fmt: skip


def _configs(configs: Grid | Config | Sequence[Config], d_in: int, site: str) -> list[Config]:
    if isinstance(configs, Grid):
        return configs.configs(d_in)
    found = [configs] if isinstance(configs, Config) else list(configs)
    if not found:
        raise InputError("there is no configuration to train; give at least one.")
    for config in found:
        if config.d_in != d_in:
            raise InputError(
                f"the activations of {site} have {d_in} dimensions and a configuration is for {config.d_in}; give "
                f"d_in={d_in}."
            )
    return found


def _sites(store: Store, given: Sequence[str] | str | None) -> list[str]:
    known = list(store.manifest.d_in)
    if given is None:
        if len(known) > 1:
            raise InputError(f"the store has {len(known)} sites, {', '.join(known)}; say which to train on.")
        return known
    found = list(dict.fromkeys([given] if isinstance(given, str) else map(str, given)))
    if not found:
        raise InputError(f"no site was given; the store has {', '.join(known)}.")
    for site in found:
        # Raises UnknownNameError.
        store.statistics(site)
    return found


def _check_device(device: str) -> None:
    try:
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError):
        there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
        raise InputError(f"the device {device!r} is not there; this machine has {there}.") from None


def _check(**sizes: int | None) -> None:
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise InputError(f"{name} must be at least 1, not {size}.")
    if sizes["epochs"] is not None and sizes["tokens"] is not None:
        raise InputError("epochs and tokens both say how long to train; give one of them.")
