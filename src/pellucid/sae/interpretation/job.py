"""The whole job: examples, explanations, judgements and their baselines, latent by latent, into a folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from pellucid.errors import InputError
from pellucid.files import write_atomically
from pellucid.records import Record
from pellucid.sae.interpretation.asking import Ledger
from pellucid.sae.interpretation.choosing import Chooser
from pellucid.sae.interpretation.explaining import Explainer
from pellucid.sae.interpretation.judging import Judge
from pellucid.sae.interpretation.places import draw
from pellucid.sae.interpretation.results import SETTINGS
from pellucid.sae.interpretation.run import Run, Ways, read_ledger
from pellucid.sae.interpretation.settings import Settings
from pellucid.sae.interpretation.sources import Events, Store
from pellucid.sae.interpretation.summary import SUMMARY, Summary, summarised
from pellucid.sae.site import Site


def interpret(
    events: Events,
    store: Store,
    out: Path | str,
    explainer: Explainer,
    judges: Sequence[Judge],
    latents: Sequence[int],
    *,
    settings: Settings | None = None,
    directions: Float[Tensor, "latent dim"] | None = None,
    site: Site | str | None = None,
    spent: Callable[[], Ledger] = Ledger,
) -> Summary:
    """Explain latents and score the explanations; in a folder where this was begun, what is missing is done.

    Args:
        events: where each latent is active.
        store: the corpus behind it.
        out: the folder of results.
        explainer: makes an explanation of examples.
        judges: score it; each score has one judge.
        latents: which.
        settings: how; the names of who explains and judges are filled in.
        directions: the decoder's rows [latent, d_in]; None: no near misses of neighbours.
        site: where the activations are from; None: no random directions beside.
        spent: tells what was spent in this session.

    Raises:
        InputError: a latent that does not exist, a score without a judge, or a folder of another run.
        ModelError: a language model cannot be reached or answers nonsense, or the budget is used up. What was done is
            kept.
    """
    folder, ways = Path(out), Ways(explainer, _by_score(judges, settings or Settings()), spent)
    settings = (settings or Settings()).model_copy(
        update={"explainer": explainer.name, "judges": {name: each.name for name, each in ways.judges.items()}}
    )
    wanted = _checked(latents, events.width)
    _begin(folder, settings)
    places = draw(store, settings.choice.seed)
    chooser = Chooser(events, store, places, settings.choice, directions)
    with Run(folder, settings, ways) as run:
        run.of_latents(chooser, events, wanted)
        if site is not None and settings.random_directions:
            run.of_directions(store, site, places, _typical(events, wanted))
    found = summarised(folder, wanted, settings.scorers, read_ledger(folder))
    write_atomically(folder / SUMMARY, f"{found.model_dump_json(indent=1)}\n".encode())
    return found


def _by_score(judges: Sequence[Judge], settings: Settings) -> dict[str, Judge]:
    found: dict[str, Judge] = {}
    for name in settings.scorers:
        able = [judge for judge in judges if name in judge.scorers]
        if len(able) != 1:
            raise InputError(f"{len(able)} judges were given for {name}, which needs one; give one, or leave it out.")
        found[name] = able[0]
    if not found:
        raise InputError("no score was asked for; name at least one of detection, fuzzing, embedding.")
    return found


def _checked(latents: Sequence[int], width: int) -> list[int]:
    wanted = list(dict.fromkeys(latents))
    wrong = next((latent for latent in wanted if not 0 <= latent < width), None)
    if wrong is not None:
        raise InputError(f"there is no latent {wrong}: the autoencoder has {width}, from 0 to {width - 1}.")
    if not wanted:
        raise InputError("no latent was named; name some, such as 0-99,512, or all.")
    return wanted


def _typical(events: Events, latents: Sequence[int]) -> int:
    """The number of events that the middle one of the latents has."""
    counts = np.asarray(events.counts)[list(latents)]
    return int(np.clip(np.median(counts[counts > 0]) if (counts > 0).any() else 1, 20, 4096))


def _begin(folder: Path, settings: Settings) -> None:
    """Make the folder, or check that it is of the same run."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if path.is_file():
        try:
            known = Settings.model_validate_json(path.read_bytes())
        except ValidationError:
            raise InputError(f"{str(path)!r} is no description of such a run; take another folder.") from None
        for name in Settings.model_fields:
            if name not in ("together", "keep_prompts") and getattr(known, name) != getattr(settings, name):
                raise InputError(
                    f"{str(folder)!r} holds a run with another {name} ({_short(getattr(known, name))}, now "
                    f"{_short(getattr(settings, name))}); take another folder, or the same settings."
                )
    write_atomically(path, f"{settings.model_dump_json(indent=1)}\n".encode())


def _short(value: Any) -> str:
    text = json.dumps(value.model_dump() if isinstance(value, Record) else value)
    return text if len(text) < 200 else f"{text[:200]}..."
