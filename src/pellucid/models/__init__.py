"""The models that can be asked, and how each is loaded."""

from typing import Any

from pellucid.models.base import AbstractEmbedded, AbstractInputs, AbstractModel, Baseline, BoundTarget, Meter
from pellucid.models.catalogue import NAMES
from pellucid.models.causal_lm import CausalLM
from pellucid.models.classifier import AbstractClassifier
from pellucid.models.image_classifier import ImageClassifier
from pellucid.models.keras_model import keras_module
from pellucid.models.loading import load
from pellucid.models.making import LoadedModel
from pellucid.models.pictures import AbstractImageModel, AbstractPreprocessing, ImageInputs, Preprocessing
from pellucid.models.segmentation import Segmentation
from pellucid.models.tabular import Column, Tabular, TabularInputs
from pellucid.models.template import Field, Prompt, Template
from pellucid.models.tensor import AbstractTensorClassifier, TensorInputs
from pellucid.models.text import AbstractTextModel
from pellucid.models.text_classifier import TextClassifier
from pellucid.models.tokens import Row, TextInputs
from pellucid.models.vision_language import VisionLanguage

Model = AbstractModel[Any, Any]
"""Any model."""

__all__ = [
    "NAMES",
    "AbstractClassifier",
    "AbstractEmbedded",
    "AbstractImageModel",
    "AbstractInputs",
    "AbstractModel",
    "AbstractPreprocessing",
    "AbstractTensorClassifier",
    "AbstractTextModel",
    "Baseline",
    "BoundTarget",
    "CausalLM",
    "Column",
    "Field",
    "ImageClassifier",
    "ImageInputs",
    "LoadedModel",
    "Meter",
    "Model",
    "Preprocessing",
    "Prompt",
    "Row",
    "Segmentation",
    "Tabular",
    "TabularInputs",
    "Template",
    "TensorInputs",
    "TextClassifier",
    "TextInputs",
    "VisionLanguage",
    "keras_module",
    "load",
]
