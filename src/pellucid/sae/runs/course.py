"""The training of all autoencoders of one site, from the beginning or a checkpoint to their folders."""

import math
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import InputError, NumericalError
from pellucid.sae.runs import checkpoints
from pellucid.sae.runs.checkpoints import State
from pellucid.sae.runs.display import Display, displayed
from pellucid.sae.runs.feed import Fed, feed
from pellucid.sae.runs.holdout import HeldOut
from pellucid.sae.runs.interruption import Interruption, deferred
from pellucid.sae.runs.log import Line, Log
from pellucid.sae.runs.plan import Plan, Planned
from pellucid.sae.runs.record import Run, machine, manner, origin, read_runs, write_runs
from pellucid.sae.runs.scoring import Score, score
from pellucid.sae.store import Store
from pellucid.sae.trainer import Step, Trainer, scale_of


class Watching(NamedTuple):
    """What is kept and said on the way; nothing of it changes the result."""

    checkpoint_every: int
    """Steps between two checkpoints."""
    log_every: int
    """Steps between two lines of the log."""
    tensorboard: bool
    """Whether TensorBoard's files are written."""
    told: Callable[[Line], None] | None
    """Called with every line of the log."""


class Course:
    """One reading of a site, and everything that learns from it."""

    def __init__(
        self, store: Store, plan: Plan, site: str, folder: Path, held: HeldOut, device: str, watching: Watching
    ) -> None:
        self._store, self._plan, self._site, self._folder = store, plan, site, folder
        self._held, self._device, self._watching = held, device, watching
        self._runs = {run.name: run for run in plan.of_site(site)}
        self._steps = plan.steps[site]
        first = next(iter(self._runs))
        self._checkpoint = folder / checkpoints.FOLDER / first
        known = store.statistics(site)
        self._trainers = {
            name: Trainer(
                run.config, scale=scale_of(run.config, known.mean_square_norm, known.mean_norm), device=device
            )
            for name, run in self._runs.items()
        }
        self._widths = {name: run.config.width for name, run in self._runs.items()}

    def run(self) -> None:
        """Train to the end, and write the autoencoders. Raises KeyboardInterrupt between two steps, with a checkpoint.

        Raises NumericalError on activations or a loss that are NaN or infinite; the last checkpoint is kept.
        """
        state = checkpoints.read(self._checkpoint, self._plan.digest, self._trainers) or State(0, None, None, 0.0, {})
        log = Log(self._folder, list(self._runs), tensorboard=self._watching.tensorboard, told=self._watching.told)
        log.go_back_to(state.step)
        try:
            with displayed(list(self._runs), self._steps, state.step) as display, deferred() as interruption:
                state = self._trained(state, log, display, interruption)
        finally:
            log.close()
        self._finish(state)

    def _trained(self, state: State, log: Log, display: Display, interruption: Interruption) -> State:
        plan, begun, first, saved = self._plan, time.monotonic(), state, state.step
        reading = feed(self._store, self._site, plan.batch, plan.epochs, plan.seed, self._held, state)
        for fed in islice(reading, self._steps - state.step):
            last = self._learned(fed, state.step + 1, saved)
            seconds = time.monotonic() - begun
            state = State(state.step + 1, fed.cursor, fed.carried, first.seconds + seconds, last)
            speed = (state.step - first.step) * plan.batch / seconds if seconds else 0.0
            display.show(last, self._widths, speed)
            ended = state.step == self._steps
            if ended or state.step % self._watching.log_every == 0:
                log.write({name: self._line(name, last[name], speed) for name in self._runs})
            # The last one too: judging what was held out reads a lot, and may be interrupted.
            if ended or interruption.asked or state.step % self._watching.checkpoint_every == 0:
                checkpoints.write(self._checkpoint, plan.digest, state, self._trainers)
                saved = state.step
            if interruption.asked:
                raise KeyboardInterrupt
        return state

    def _learned(self, fed: Fed, number: int, saved: int) -> dict[str, Step]:
        """What one step of each says."""
        steps = {}
        for name, trainer in self._trainers.items():
            kept = f"the checkpoint of step {saved} is kept" if saved else "there is no checkpoint before it"
            advice = "train with a smaller lr into another folder"
            try:
                found = trainer.step(fed.x)
            except NumericalError as error:
                said = str(error).rstrip(".")
                raise NumericalError(f"{name}, step {number}: {said}; {kept}; {advice}.") from None
            if not math.isfinite(found.loss):
                raise NumericalError(f"the loss of {name} is {found.loss} at step {number}; {kept}; {advice}.")
            steps[name] = found
        return steps

    def _line(self, name: str, found: Step, speed: float) -> Line:
        line = {field: _finite(value) for field, value in found._asdict().items()}
        left = (self._steps - found.step) * self._plan.batch / speed if speed else None
        share = found.dead / self._widths[name]
        return line | {
            "dead_share": share,
            "tokens_per_second": round(speed, 1),
            "seconds_left": left and round(left, 1),
        }

    def _finish(self, state: State) -> None:
        """Judge every autoencoder on what was held out, write it with its record, and remove the checkpoint."""
        scores = score(
            {name: trainer.export() for name, trainer in self._trainers.items()}, self._store, self._site, self._held
        )
        done = read_runs(self._folder)
        for name, planned in self._runs.items():
            trainer = self._trainers[name]
            figures = _figures(state.last[name], self._widths[name], scores.get(name))
            training = self._training(planned, state, figures, trainer.scale)
            found = trainer.export(origin(self._store, self._plan, planned, trainer.tokens, training))
            found.save(self._folder / name)
            done[name] = Run(
                name=name, folder=str(self._folder / name), site=self._site, config=planned.config, figures=figures,
                tokens=trainer.tokens, seconds=round(state.seconds, 3),
            )  # fmt: skip
        write_runs(self._folder, done)
        checkpoints.remove(self._checkpoint)

    def _training(self, planned: Planned, state: State, figures: Mapping[str, Any], scale: float) -> dict[str, Any]:
        plan = self._plan
        return {
            "config": planned.config.model_dump(mode="json"),
            "asked": planned.asked,
            "batch": plan.batch,
            "steps": state.step,
            "epochs": plan.epochs,
            "reading_seed": plan.seed,
            "scale": scale,
            "held_out": {
                "share": plan.held_out,
                "unit": self._held.unit,
                "units": self._held.units,
                "tokens": self._held.rows,
            },
            "figures": dict(figures),
            "seconds": round(state.seconds, 3),
            **manner(plan.preset),
            **machine(self._device, planned.config.selection),
        }


def _figures(last: Step, width: int, judged: Score | None) -> dict[str, float | int | None]:
    """What is told of a finished run."""
    return {
        "loss": last.loss,
        "l0": last.l0,
        "fvu": _finite(last.fvu),
        "dead_share": last.dead / width,
        "threshold": last.threshold,
        "held_out_fvu": judged and _finite(judged.fvu),
        "held_out_l0": judged and judged.l0,
        "held_out_dead_share": judged and judged.dead_share,
        "held_out_tokens": judged.tokens if judged else 0,
    }


def require_memory(plan: Plan, site: str) -> None:
    """Refuse more autoencoders than fit beside each other. Raises InputError."""
    import psutil

    numbers = sum(2 * run.config.width * run.config.d_in for run in plan.of_site(site))
    # Weights, their gradients and Adam's two moments.
    needed, free = 4 * 4 * numbers, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{len(plan.of_site(site))} autoencoders of {site} at a time take about {needed / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free; train fewer of them at a time, into folders of their own."
        )


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None
