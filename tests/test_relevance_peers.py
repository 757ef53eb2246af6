"""Equal rules give equal numbers: what zennit, Captum and LXT made of small networks, beside ours.

Nothing of theirs is installed or copied here; ``fixtures/peers_relevance/README.md`` says how the numbers came to be.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors import safe_open
from torch import nn

from pellucid import Logit
from pellucid.relevance import Kind, composite, trace
from pellucid.relevance.coefficient import Epsilon
from pellucid.relevance.lrp import AlphaBeta, EpsilonRelevance, FirstOrder, Flat, Gamma, WSquare, ZBox

FOLDER = Path(__file__).parent / "fixtures" / "peers_relevance"
PLAIN = ("mlp", "mlp_nobias", "mlp_tanh", "cnn", "cnn_nobias", "residual", "residual_nobias", "normed")


class Residual(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


def layer(kind, options):
    if kind == "Residual":
        return Residual([layer(*each) for each in options])
    return getattr(nn, kind)(**options)


class Peers:
    """A network, its inputs, and its relevance by each peer's rule."""

    def __init__(self, name):
        self.tensors = {}
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            for key in file.keys():  # noqa: SIM118 - it is no dict
                kind, _, own = key.partition(":")
                self.tensors.setdefault(kind, {})[own] = widened(file.get_tensor(key))
        self.cases, self.target, described = facts["cases"], facts["target"], facts["network"]
        if "layers" in described:
            self.module = nn.Sequential(*(layer(*each) for each in described["layers"]))
        else:
            kind = getattr(hf, described["class"])
            self.module = kind._from_config(kind.config_class(**described["config"]), attn_implementation="eager")
        self.module = self.module.double().eval()
        self.module.load_state_dict(self.tensors["weight"])

    def inputs(self, which="x"):
        """What the network is called with: word embeddings in place of ids."""
        given = dict(self.tensors["input"])
        if "x" in given:
            return given["x"].abs() if which == "|x|" else given["x"]
        if "input_ids" in given:
            given["inputs_embeds"] = self.module.get_input_embeddings()(given.pop("input_ids")).detach()
        return given

    def traced(self, rules, which="x"):
        return trace(self.module, self.inputs(which), Logit(self.target), composite=rules)

    def expected(self, case):
        return self.tensors["relevance"][case]


def widened(tensor):
    return tensor.double() if tensor.is_floating_point() else tensor


def own(relevance):
    """The relevance of the first argument that can carry it."""
    if isinstance(relevance, torch.Tensor):
        return relevance
    return next(each for name, each in relevance.items() if name in ("inputs_embeds", "pixel_values"))


peers = cache(Peers)


def close(ours, theirs, tolerance):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


@pytest.mark.parametrize("name", [*PLAIN, "llama", "bert", "gpt2", "vit", "encoder"])
def test_forward_is_theirs(name):
    found = peers(name)
    given = found.inputs()
    output = found.module(given) if isinstance(given, torch.Tensor) else found.module(**given).logits
    output = output[:, -1] if output.ndim == 3 else output
    close(output.detach(), found.tensors["output"]["x"], 1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_epsilon_of_zennit_and_captum(name):
    found = peers(name)
    cases = [case for case, facts in found.cases.items() if facts["rule"] in ("Epsilon", "EpsilonRule")]
    for case in cases:
        if not found.cases[case].get("first"):
            rules = composite("lrp-0").with_rule(Kind.LINEAR, Epsilon(found.cases[case]["settings"]["epsilon"]))
            close(found.traced(rules).input, found.expected(case), 1e-7)


# What zennit's rules and Captum's are here, given the settings of a case and what denominators are kept from zero by.
RULES = {
    "Epsilon": lambda of, stabiliser: EpsilonRelevance(of["epsilon"]),
    "EpsilonRule": lambda of, stabiliser: EpsilonRelevance(of["epsilon"]),
    "Gamma": lambda of, stabiliser: Gamma(of["gamma"], stabiliser),
    "GammaRule": lambda of, stabiliser: Gamma(of["gamma"], stabiliser),
    "AlphaBeta": lambda of, stabiliser: AlphaBeta(of["alpha"], of["beta"], stabiliser),
    "ZPlus": lambda of, stabiliser: AlphaBeta(1, 0, stabiliser),
    "Alpha1_Beta0_Rule": lambda of, stabiliser: AlphaBeta(1, 0, stabiliser),
    "Flat": lambda of, stabiliser: Flat(),
    "WSquare": lambda of, stabiliser: WSquare(),
    "ZBox": lambda of, stabiliser: ZBox(of["low"], of["high"], stabiliser),
}
# Rules for convolutions; dense layers have epsilon.
NAMED = {
    "EpsilonPlusFlat": ({"rule": "ZPlus"}, {"rule": "Flat"}),
    "EpsilonAlpha2Beta1": ({"rule": "AlphaBeta", "alpha": 2, "beta": 1}, None),
    "EpsilonGammaBox": ({"rule": "Gamma", "gamma": 0.25}, {"rule": "ZBox", "low": -4.0, "high": 4.0}),
}
# Where one sign of two is left of a sum of relevance there are rules that divide by what is next to nothing.
SENSITIVE = 1e-7


def relevance_carrier_cases():
    for name in PLAIN:
        yield from ((name, case) for case, facts in peers(name).cases.items() if facts["rule"] != "DeepLift")


def composite_of(facts):
    """The composite of a case, carrying relevance: rules for all, for convolutions, and for the first layer by name."""
    settings = {"epsilon": 1e-12, **facts["settings"]}
    stabiliser = settings.get("stabilizer", 1e-9)
    rules, first = composite("zplus"), facts["first"]
    for kind in (Kind.AVERAGE, Kind.SUM, Kind.RESIDUAL):
        rules = rules.with_rule(kind, FirstOrder(1e-12))
    dense = facts["rule"]
    if dense in NAMED:
        of_convolutions, first = NAMED[dense]
        rules = rules.with_rule(nn.Conv2d, RULES[of_convolutions["rule"]](of_convolutions, stabiliser))
        dense = "Epsilon"
    rules = rules.with_rule(Kind.LINEAR, RULES[dense](settings, stabiliser))
    return rules if first is None else rules.with_rule("0", RULES[first["rule"]](first, stabiliser))


@pytest.mark.parametrize(("name", "case"), list(relevance_carrier_cases()))
def test_rules_of_zennit_and_captum_carrying_relevance(name, case):
    found, facts = peers(name), peers(name).cases[case]
    rules = composite_of(facts)
    if name == "normed":
        rules = rules.with_rule(nn.BatchNorm2d, FirstOrder(1e-12))
    close(found.traced(rules, facts["input"]).input, found.expected(case), SENSITIVE)


@pytest.mark.parametrize("name", ["mlp_nobias", "mlp_tanh", "cnn_nobias"])
def test_deeplift_from_zeros_is_lrp_0_where_nothing_has_a_bias(name):
    """Its multiplier of an activation, (f(x) - f(0)) / (x - 0), is our ratio."""
    close(peers(name).traced("lrp-0").input, peers(name).expected("captum_deeplift"), 1e-9)


LXT = [
    ("llama", "lxt_attnlrp", "attnlrp"),
    ("llama", "lxt_cp_lrp", "cp-lrp"),
    ("bert", "lxt_attnlrp", "attnlrp"),
    ("gpt2", "lxt_attnlrp", "attnlrp"),
    ("gpt2", "lxt_cp_lrp", "cp-lrp"),
    ("vit", "lxt_attnlrp", "attnlrp"),
    ("vit", "lxt_cp_lrp", "cp-lrp"),
    ("encoder", "lxt_cp_lrp", "cp-lrp"),
]


@pytest.mark.parametrize(("name", "case", "rules"), LXT)
def test_lxt(name, case, rules):
    """LXT gives linear layers the plain gradient: our epsilon rule with epsilon 0."""
    rules = composite(rules).with_rule(Kind.LINEAR, Epsilon(0.0))
    found = peers(name)
    traced = found.traced(rules)
    close(own(traced.input), found.expected(case), 1e-6)
    for each in found.cases[case]["layers"]:
        relevance = traced[each]  # of several tensors, LXT's is that of the first
        close(relevance[0] if isinstance(relevance, tuple) else relevance, found.expected(f"{case}@{each}"), 1e-6)
