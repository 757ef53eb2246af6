"""The methods, one file each. ``all_methods()`` is every method by name, those of installed plug-ins included."""

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pellucid.errors import InputError, UnknownNameError
from pellucid.methods.attention import AbstractAttention
from pellucid.methods.attention_gradients import AttCat, AttentionXGradient, Cat, Gae, GradSam
from pellucid.methods.attention_patterns import AttentionFlow, RawAttention, Rollout
from pellucid.methods.attention_values import Alti, ValueNorm, ValueZeroing
from pellucid.methods.banzhaf import Banzhaf
from pellucid.methods.base import AbstractGameMethod, AbstractMethod, Attribution
from pellucid.methods.cam import AbstractCam, GradCam, GradCamPlusPlus, LayerCam
from pellucid.methods.deeplift import DeepLift
from pellucid.methods.exact_shapley import ExactShapley
from pellucid.methods.expected_gradients import ExpectedGradients
from pellucid.methods.expnet import Expnet, ExpnetRelevance
from pellucid.methods.gradient import Gradient, InputXGradient
from pellucid.methods.guided_backprop import GuidedBackprop
from pellucid.methods.integrated_gradients import IntegratedGradients
from pellucid.methods.kernel_shap import KernelShap
from pellucid.methods.lime import Lime
from pellucid.methods.occlusion import Occlusion
from pellucid.methods.owen import Owen
from pellucid.methods.path_integral import PathIntegral
from pellucid.methods.permutation_shapley import PermutationShapley
from pellucid.methods.relevance import Relevance, relevance_methods
from pellucid.methods.rise import Rise
from pellucid.methods.smoothgrad import SmoothGrad
from pellucid.methods.sparse_linear import SparseLinear
from pellucid.methods.transatt import TransAtt

BUILT_IN: tuple[type[AbstractMethod], ...] = (
    Occlusion,
    ExactShapley,
    KernelShap,
    PermutationShapley,
    Owen,
    Banzhaf,
    Rise,
    Lime,
    SparseLinear,
    PathIntegral,
    Gradient,
    InputXGradient,
    SmoothGrad,
    IntegratedGradients,
    ExpectedGradients,
    DeepLift,
    GuidedBackprop,
    GradCam,
    GradCamPlusPlus,
    LayerCam,
    RawAttention,
    Rollout,
    AttentionFlow,
    AttentionXGradient,
    GradSam,
    Gae,
    TransAtt,
    Cat,
    AttCat,
    ValueNorm,
    Alti,
    ValueZeroing,
    Expnet,
    ExpnetRelevance,
)


@cache
def all_methods() -> dict[str, type[AbstractMethod]]:
    """Every method by name. Raises InputError where a plug-in takes the name of another method."""
    known: dict[str, type[AbstractMethod]] = {method.facts.name: method for method in BUILT_IN}
    known |= relevance_methods()
    for entry in entry_points(group="pellucid.methods"):
        plugin: type[AbstractMethod] = entry.load()
        name = plugin.facts.name
        if name in known:
            raise InputError(f"the plug-in {entry.value} and {known[name].__module__} both define a method {name!r}.")
        known[name] = plugin
    return known


def make_method(name: str, /, **settings: Any) -> AbstractMethod:
    """The method of a name with its settings. Raises UnknownNameError, or InputError on a bad setting."""
    if name not in all_methods():
        raise UnknownNameError("method", name, all_methods())
    return all_methods()[name](**settings)


__all__ = [
    "AbstractAttention",
    "AbstractCam",
    "AbstractGameMethod",
    "AbstractMethod",
    "Alti",
    "AttCat",
    "AttentionFlow",
    "AttentionXGradient",
    "Attribution",
    "Banzhaf",
    "Cat",
    "DeepLift",
    "ExactShapley",
    "ExpectedGradients",
    "Expnet",
    "ExpnetRelevance",
    "Gae",
    "GradCam",
    "GradCamPlusPlus",
    "GradSam",
    "Gradient",
    "GuidedBackprop",
    "InputXGradient",
    "IntegratedGradients",
    "KernelShap",
    "LayerCam",
    "Lime",
    "Occlusion",
    "Owen",
    "PathIntegral",
    "PermutationShapley",
    "RawAttention",
    "Relevance",
    "Rise",
    "Rollout",
    "SmoothGrad",
    "SparseLinear",
    "TransAtt",
    "ValueNorm",
    "ValueZeroing",
    "all_methods",
    "make_method",
]
