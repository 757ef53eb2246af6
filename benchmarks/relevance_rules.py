"""Relevance by the rules of zennit and Captum, on networks of plain layers."""

import relevance_torchvision  # noqa: F401 - before zennit

# isort: split
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import zennit.composites
import zennit.layer
import zennit.rules
from captum.attr import LRP, DeepLift
from captum.attr._utils import lrp_rules
from torch import Tensor, nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.core import collect_leaves
from zennit.types import Linear as AnyLinear

from relevance_specs import Network, sequential

STABLE = 1e-12


class Case(NamedTuple):
    """A peer's rule with its settings, as they are written into the fixture."""

    peer: str
    rule: str
    settings: dict[str, Any]
    first: dict[str, Any] | None = None
    """The rule of the first layer and its settings, where it has one of its own."""
    input: str = "x"
    """``x``, or ``|x|`` for rules that hold for positive inputs alone."""


def zennit_case(rule: str, first: dict[str, Any] | None = None, **settings: Any) -> Case:
    return Case("zennit", rule, settings if rule == "Epsilon" else {"stabilizer": STABLE} | settings, first)


STANDARD = {
    "zennit_epsilon": zennit_case("Epsilon", epsilon=STABLE),
    "zennit_epsilon_wide": zennit_case("Epsilon", epsilon=0.1),
    "zennit_gamma": zennit_case("Gamma", gamma=0.25),
    "zennit_alpha2_beta1": zennit_case("AlphaBeta", alpha=2.0, beta=1.0),
    "zennit_alpha1_beta0": zennit_case("AlphaBeta", alpha=1.0, beta=0.0),
    "zennit_zplus": zennit_case("ZPlus"),
}
NO_BIAS = {"stabilizer": STABLE, "zero_params": ["bias"]}
FIRST = {
    "zennit_flat": zennit_case("Epsilon", {"rule": "Flat", "stabilizer": STABLE}, epsilon=STABLE),
    "zennit_wsquare": zennit_case("Epsilon", {"rule": "WSquare"} | NO_BIAS, epsilon=STABLE),
    "zennit_zbox": zennit_case("Epsilon", {"rule": "ZBox", "low": -4.0, "high": 4.0} | NO_BIAS, epsilon=STABLE),
}
BOX = {"low": -4.0, "high": 4.0, "epsilon": STABLE, "gamma": 0.25, "stabilizer": STABLE}
NAMED = {
    "zennit_epsilon_plus_flat": Case("zennit", "EpsilonPlusFlat", {"epsilon": STABLE, "stabilizer": STABLE}),
    "zennit_epsilon_alpha2_beta1": Case("zennit", "EpsilonAlpha2Beta1", {"epsilon": STABLE, "stabilizer": STABLE}),
}
NAMED_BOX = {"zennit_epsilon_gamma_box": Case("zennit", "EpsilonGammaBox", BOX)}
CAPTUM = {
    "captum_epsilon": Case("captum", "EpsilonRule", {"epsilon": STABLE}),
    "captum_epsilon_wide": Case("captum", "EpsilonRule", {"epsilon": 0.1}),
}
POSITIVE = {
    "captum_gamma": Case("captum", "GammaRule", {"gamma": 0.25}, input="|x|"),
    "captum_alpha1_beta0": Case("captum", "Alpha1_Beta0_Rule", {}, input="|x|"),
}
DEEPLIFT = {"captum_deeplift": Case("captum", "DeepLift", {"baseline": 0.0})}

CASES: dict[str, dict[str, Case]] = {
    "mlp": STANDARD | FIRST | CAPTUM,
    "mlp_nobias": STANDARD | FIRST | CAPTUM | POSITIVE | DEEPLIFT,
    "mlp_tanh": {"zennit_epsilon": STANDARD["zennit_epsilon"]} | DEEPLIFT,
    "cnn": STANDARD | FIRST | NAMED | {"captum_epsilon": CAPTUM["captum_epsilon"]},
    "cnn_nobias": STANDARD
    | FIRST
    | NAMED
    | NAMED_BOX
    | {"captum_epsilon": CAPTUM["captum_epsilon"]}
    | POSITIVE
    | DEEPLIFT,
    "residual": STANDARD,
    "residual_nobias": STANDARD,
    "normed": {"zennit_epsilon": STANDARD["zennit_epsilon"]},
}


def relevance(network: Network, weights: dict[str, Tensor], case: Case) -> Tensor:
    """Relevance of the input, shaped like it; the explained output starts with its own value."""
    x = network.inputs["x"]
    x = (x.abs() if case.input == "|x|" else x).clone().requires_grad_()
    module = sequential(network.described, zennit.layer.Sum).double()
    module.load_state_dict(weights)
    module.requires_grad_(False)
    by = {"zennit": by_zennit, "captum": by_captum}[case.peer]
    return by(module, x, case, network.target).detach()


def by_zennit(module: nn.Module, x: Tensor, case: Case, target: int) -> Tensor:
    composite = made(case)
    composite.canonizers = [SequentialMergeBatchNorm()] if any_norm(module) else []
    for parameter in module.parameters():  # a rule leaves alone what needs no gradient
        parameter.requires_grad_()
    with composite.context(module) as explained:
        output = explained(x)
        start = torch.zeros_like(output)
        start[:, target] = output[:, target].detach()
        (found,) = torch.autograd.grad(output, x, start)
    return found


def made(case: Case) -> zennit.composites.Composite:
    """The composite of a rule for all layers with weights, or the one of that name."""
    if not hasattr(zennit.rules, case.rule):
        settings = dict(case.settings)
        for bound in {"low", "high"} & set(settings):
            settings[bound] = torch.tensor(settings[bound]).double().reshape(1, 1, 1, 1)
        return getattr(zennit.composites, case.rule)(**settings)
    layers = [(AnyLinear, rule_of({"rule": case.rule} | case.settings)), *zennit.composites.layer_map_base(STABLE)]
    first = [(AnyLinear, rule_of(case.first))] if case.first else []
    return zennit.composites.SpecialFirstLayerMapComposite(layers, first)


def rule_of(described: dict[str, Any]) -> zennit.rules.BasicHook:
    settings = {name: value for name, value in described.items() if name != "rule"}
    for bound in {"low", "high"} & set(settings):
        settings[bound] = torch.tensor([[settings[bound]]]).double()
    return getattr(zennit.rules, described["rule"])(**settings)


def any_norm(module: nn.Module) -> bool:
    return any(isinstance(each, nn.BatchNorm2d) for each in module.modules())


def by_captum(module: nn.Module, x: Tensor, case: Case, target: int) -> Tensor:
    leaves = list(collect_leaves(module))
    for leaf in leaves:
        if isinstance(leaf, nn.ReLU):
            leaf.inplace = False  # its hooks cannot bear the other
    if case.rule == "DeepLift":
        return DeepLift(module).attribute(x, torch.full_like(x, case.settings["baseline"]), target=target)
    rule: Callable[..., Any] = getattr(lrp_rules, case.rule)
    for leaf in leaves:
        if not isinstance(leaf, nn.ReLU | nn.Tanh):
            weighted = isinstance(leaf, nn.Linear | nn.Conv2d)
            leaf.rule = rule(**case.settings) if weighted else lrp_rules.EpsilonRule(STABLE)
    return LRP(module).attribute(x, target=target)
