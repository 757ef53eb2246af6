"""See why a model said what it said, and prove it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pellucid._version import __version__

if TYPE_CHECKING:
    from pellucid import attention, benchmark, expnet, learning, methods, metrics, relevance, sae, testing
    from pellucid.api import explain, explain_batch
    from pellucid.errors import NoRuleError, PellucidError
    from pellucid.explanation import Explanation
    from pellucid.facts import Facts, MetricFacts
    from pellucid.models import (
        CausalLM,
        Column,
        ImageClassifier,
        Preprocessing,
        Prompt,
        Segmentation,
        Tabular,
        Template,
        TextClassifier,
        VisionLanguage,
        keras_module,
        load,
    )
    from pellucid.records import Check, Checks, Cost, Feature, Fingerprint
    from pellucid.relevance.catalogue import composite, composites
    from pellucid.relevance.trace import Trace
    from pellucid.relevance.tracing import trace
    from pellucid.table import write_table
    from pellucid.targets import (
        Answer,
        Box,
        Choice,
        Contrast,
        Generated,
        Latent,
        Logit,
        Margin,
        Options,
        Pixel,
        Region,
        Step,
        Target,
        Token,
        Tokens,
    )

# Importing torch takes seconds; `pellucid --help` and an import of the package alone must not wait for it.
_HOMES = {
    "pellucid.api": ("explain", "explain_batch"),
    "pellucid.errors": ("NoRuleError", "PellucidError"),
    "pellucid.explanation": ("Explanation",),
    "pellucid.facts": ("Facts", "MetricFacts"),
    "pellucid.models": (
        "CausalLM",
        "Column",
        "ImageClassifier",
        "Preprocessing",
        "Prompt",
        "Segmentation",
        "Tabular",
        "Template",
        "TextClassifier",
        "VisionLanguage",
        "keras_module",
        "load",
    ),
    "pellucid.records": ("Check", "Checks", "Cost", "Feature", "Fingerprint"),
    "pellucid.relevance.catalogue": ("composite", "composites"),
    "pellucid.relevance.trace": ("Trace",),
    "pellucid.relevance.tracing": ("trace",),
    "pellucid.table": ("write_table",),
    "pellucid.targets": (
        "Answer",
        "Box",
        "Choice",
        "Contrast",
        "Generated",
        "Latent",
        "Logit",
        "Margin",
        "Options",
        "Pixel",
        "Region",
        "Step",
        "Target",
        "Token",
        "Tokens",
    ),
}
_ROOMS = ("attention", "benchmark", "expnet", "learning", "methods", "metrics", "relevance", "sae", "testing")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Box",
    "CausalLM",
    "Check",
    "Checks",
    "Choice",
    "Column",
    "Contrast",
    "Cost",
    "Explanation",
    "Facts",
    "Feature",
    "Fingerprint",
    "Generated",
    "ImageClassifier",
    "Latent",
    "Logit",
    "Margin",
    "MetricFacts",
    "NoRuleError",
    "Options",
    "PellucidError",
    "Pixel",
    "Preprocessing",
    "Prompt",
    "Region",
    "Segmentation",
    "Step",
    "Tabular",
    "Target",
    "Template",
    "TextClassifier",
    "Token",
    "Tokens",
    "Trace",
    "VisionLanguage",
    "__version__",
    "attention",
    "benchmark",
    "composite",
    "composites",
    "explain",
    "explain_batch",
    "expnet",
    "keras_module",
    "learning",
    "load",
    "methods",
    "metrics",
    "relevance",
    "sae",
    "testing",
    "trace",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"pellucid.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
