"""What latents stand for: explained from marked examples, scored on others, always beside what nothing would score."""

from importlib import import_module
from typing import Any

# Where each public name lives; most of them need torch, which commands import late.
_HOMES = {
    "Answer": "asking",
    "Budget": "budget",
    "Cache": "cache",
    "Choice": "choosing",
    "EmbeddingJudge": "embedding",
    "Endpoint": "endpoint",
    "Example": "examples",
    "Interpretation": "results",
    "LLM": "asking",
    "LLMExplainer": "explaining",
    "LLMJudge": "judging",
    "Ledger": "asking",
    "LocalLLM": "local",
    "Oracle": "judging",
    "Question": "asking",
    "Score": "scoring",
    "Settings": "settings",
    "Summary": "summary",
    "TokenExplainer": "explaining",
    "interpret": "job",
    "read_interpretations": "results",
    "read_ledger": "run",
    "sentence_encoder": "embedding",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pellucid.sae.interpretation' has no attribute {name!r}")
    return getattr(import_module(f"pellucid.sae.interpretation.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
