"""From a name on a command line to who explains and who judges."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pellucid.errors import InputError, UnknownNameError
from pellucid.models import load
from pellucid.sae.interpretation.asking import LLM, Ledger
from pellucid.sae.interpretation.budget import Budget
from pellucid.sae.interpretation.cache import Cache
from pellucid.sae.interpretation.embedding import EmbeddingJudge, sentence_encoder
from pellucid.sae.interpretation.endpoint import Endpoint
from pellucid.sae.interpretation.explaining import Explainer, LLMExplainer, TokenExplainer
from pellucid.sae.interpretation.judging import Judge, LLMJudge, Oracle
from pellucid.sae.interpretation.local import LocalLLM

ORACLE, NONE = "oracle", "none"
SCORERS = ("detection", "fuzzing", "embedding")


class Asked(NamedTuple):
    """How a language model is asked."""

    llm: str
    """A model of pellucid, the address of an endpoint, ``oracle``, or ``none``."""
    model: str | None = None
    """The model's name at the endpoint."""
    key_variable: str | None = None
    """Environment variable with the endpoint's key."""
    sees: bool = False
    """Whether the endpoint's model takes pictures."""
    per_prompt: int | None = None
    """Examples a prompt; None: as suits the model."""
    per_minute: float | None = None
    """The most calls a minute."""
    timeout: float = 120.0
    """Seconds."""
    retries: int = 5
    """Attempts beyond the first."""
    threads: int = 8
    """Calls side by side."""
    device: str = "cpu"
    """Where a model of pellucid runs."""
    dtype: str = "float32"
    """What it computes in."""


class Backends(NamedTuple):
    """Who does the work."""

    explainer: Explainer
    """Makes explanations."""
    judges: tuple[Judge, ...]
    """Score them."""
    spent: Callable[[], Ledger]
    """What was spent on them in this session."""
    notes: list[str]
    """What could not be asked for as intended; grows while they work."""


def backends(
    asked: Asked, scorers: Sequence[str], *, budget: Budget, cache: Cache | None = None, encoder: Path | None = None
) -> Backends:
    """Make them.

    Args:
        asked: the language model.
        scorers: which scores are wanted.
        budget: what may be spent.
        cache: answers of before.
        encoder: folder of the sentence encoder; None: MiniLM.

    Raises:
        UnknownNameError: a score that does not exist. InputError: settings that do not go together.
        MissingPackageError, ModelError: a model is not there.
    """
    for name in scorers:
        if name not in SCORERS:
            raise UnknownNameError("score", name, SCORERS)
    judges: list[Judge] = []
    if "embedding" in scorers:
        judges.append(EmbeddingJudge(sentence_encoder(encoder), "minilm" if encoder is None else encoder.name))
    if asked.model and "://" not in asked.llm:
        raise InputError(f"--llm-model goes with the address of an endpoint, and {asked.llm!r} is none.")
    if asked.llm in (ORACLE, NONE):
        if asked.llm == ORACLE:
            judges.append(Oracle())
        elif {"detection", "fuzzing"} & set(scorers):
            raise InputError("detection and fuzzing need a language model; name one, or ask for embedding alone.")
        return Backends(TokenExplainer(), tuple(judges), Ledger, [])
    llm = language_model(asked, budget, cache)
    return Backends(LLMExplainer(llm), (*judges, LLMJudge(llm, asked.per_prompt)), lambda: llm.ledger, llm.notes)


def language_model(asked: Asked, budget: Budget, cache: Cache | None) -> LLM:
    """The endpoint at an address, or a model of pellucid by its name. Raises InputError, ModelError."""
    if "://" in asked.llm:
        if not asked.model:
            raise InputError(f"the endpoint {asked.llm} needs the name of a model there; name it with --llm-model.")
        return Endpoint(
            asked.llm, asked.model, key_variable=asked.key_variable, budget=budget, cache=cache, sees=asked.sees,
            threads=asked.threads, timeout=asked.timeout, retries=asked.retries, per_minute=asked.per_minute,
        )  # fmt: skip
    return LocalLLM(load(asked.llm, device=asked.device, dtype=asked.dtype), budget, cache)
