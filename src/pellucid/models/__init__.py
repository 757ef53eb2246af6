"""The models that can be asked, and how each is loaded."""

from pellucid.models.base import AbstractEmbedded, BoundTarget, Inputs, Meter, Row
from pellucid.models.base import AbstractModel as Model
from pellucid.models.causal_lm import CausalLM
from pellucid.models.loading import EMBEDDED, load
from pellucid.models.template import Field, Prompt, Template
from pellucid.models.text import AbstractTextModel, owners
from pellucid.models.text_classifier import TextClassifier

__all__ = [
    "EMBEDDED",
    "AbstractEmbedded",
    "AbstractTextModel",
    "BoundTarget",
    "CausalLM",
    "Field",
    "Inputs",
    "Meter",
    "Model",
    "Prompt",
    "Row",
    "Template",
    "TextClassifier",
    "load",
    "owners",
]
