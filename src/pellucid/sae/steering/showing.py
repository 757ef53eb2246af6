"""Steered answers to be read beside the unsteered ones: nothing is measured, nothing is written."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pellucid.sae.steering.bench import Bench
from pellucid.sae.steering.generating import answers, asked, written
from pellucid.sae.steering.modes import mode_of
from pellucid.sae.steering.plan import text_of
from pellucid.sae.steering.positions import Positions
from pellucid.sae.steering.steer import Steer, check_latents


class Shown(NamedTuple):
    """One answer."""

    prompt: str
    """The prompt's words."""
    mode: str
    """The way to steer; empty where nothing was steered."""
    strength: float | None
    """How strongly; None where nothing was steered."""
    text: str
    """The answer."""


def steered_answers(bench: Bench, latents: Sequence[int]) -> Iterator[Shown]:
    """The unsteered answer to each prompt, and one for each way and strength; latents are steered together.

    Raises as ``steer_experiment`` does.
    """
    check_latents(bench.sae, latents)
    bench.check_positions()
    scales, positions = bench.scales(latents), Positions.of(bench.settings.positions)
    ways: list[tuple[str, float]] = [
        (mode, strength)
        for mode in bench.settings.modes
        for strength in (bench.settings.strengths if mode_of(mode).has_strength else (0.0,))
    ]
    for chunk in bench.chunks:
        raws = [bench.prompts[place] for place in chunk]
        prompts = asked(bench.model, raws)
        for way in (None, *ways):
            steer = None
            if way is not None:
                steer = Steer(bench.sae, tuple(latents), scales, way[1], mode_of(way[0]), positions)
            found = answers(prompts, bench.settings.sampling, steer=steer, site=bench.site)
            mode, strength = way or ("", None)
            for raw, ids in zip(raws, found, strict=True):
                yield Shown(text_of(raw), mode, strength, written(prompts.reader, ids))
