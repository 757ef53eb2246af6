"""Mixtures of experts: the same relevance whoever computes the experts, and who among them gave what."""

from functools import partial

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.models.dbrx.modeling_dbrx import DbrxFFN

import pellucid
from families.experts import CHOSEN, EXAMPLES, EXPERTS, Mixture, WrittenOut, ids, network
from oracles.experts import dense, rectified
from pellucid.errors import InputError, ModelError
from pellucid.methods.relevance import relevance_method
from pellucid.models import CausalLM
from pellucid.relevance import all_composites, trace
from pellucid.relevance.experts import check_router
from pellucid.relevance.rule import Constant
from pellucid.relevance.tracer import Tracer
from pellucid.report import explanation_page, plots
from pellucid.targets import Logit
from relevance_tools import Net, backed, layer, near, randn
from tiny import CHATML, bpe, randomised

COMPOSITES = [name for name in all_composites() if name != "gradient"]
RULES = [name for name in COMPOSITES if name != "input-x-gradient"]
CARRYING = ["attnlrp", "lrp-gamma", "backtrace", "backtrace-contrast"]
FUSED = ["Mixtral", "Qwen2-MoE", "Qwen3-MoE", "OLMoE", "GPT-OSS", "DeepSeek-V3"]
HELD = "model.layers.1.mlp.experts"


class Rectified(nn.Module):
    """A mixture of rectified experts that nobody's library wrote, which is known by what it is given."""

    num_experts = EXPERTS

    def __init__(self, width=5, hidden=7, wide=6):
        super().__init__()
        self.up = nn.Parameter(torch.empty(EXPERTS, hidden, width))
        self.down = nn.Parameter(torch.empty(EXPERTS, wide, hidden))

    def forward(self, tokens, *, weights, chosen):
        answers = [F.relu(tokens @ self.up[e].mT) @ self.down[e].mT for e in range(EXPERTS)]
        picked = torch.stack(answers, 1).gather(1, chosen[..., None].expand(-1, -1, self.down.shape[1]))
        return (picked * weights[..., None]).sum(1)


class Routed(nn.Module):
    """Tokens to what the experts say, with a router of its own."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(5, EXPERTS, bias=False), Rectified()

    def forward(self, x):
        weights, chosen = self.gate(x).softmax(-1).topk(CHOSEN, -1)
        return self.experts(x, weights=weights, chosen=chosen)


def choice(gate, x):
    """[token, expert] of the weights that a softmax and a choice of the largest give."""
    weights, chosen = gate(x).softmax(-1).topk(CHOSEN, -1)
    return torch.zeros(len(x), EXPERTS, dtype=x.dtype).scatter(1, chosen, weights)


# The same numbers


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("model", FUSED)
def test_the_forward_pass_is_that_of_the_network(model, implementation):
    module, x = network(model), ids(2)
    module.set_experts_implementation(implementation)
    with torch.no_grad():
        expected = module(input_ids=x).logits[:, -1].max(-1).values.sum()
    found = trace(module, {"input_ids": x}, Logit(), composite="attnlrp", keep=())
    assert found.seeded == pytest.approx(float(expected), rel=1e-6)
    assert module.config._experts_implementation == implementation


@pytest.mark.parametrize(
    ("model", "composite"), [*(("Mixtral", name) for name in RULES), *(("GPT-OSS", name) for name in CARRYING)]
)
def test_relevance_is_that_of_every_expert_asked_for_every_token(model, composite):
    module, x = network(model).double(), {"input_ids": ids(2)}
    module.set_experts_implementation("eager")
    found = trace(module, x, Logit(), composite=composite, keep=HELD)
    expected = trace(dense(network(model).double()), x, Logit(), composite=composite, keep=HELD)
    assert float(found.seeded) == pytest.approx(float(expected.seeded), rel=1e-12)
    # Each sum has an epsilon of its own, and one that was written out in one piece has one.
    tolerance = 1e-4 if composite in ("lrp-gamma", "alpha-beta", "zplus") else 1e-7
    near(found.input["input_ids"], expected.input["input_ids"], tolerance)
    near(found[HELD], expected[HELD], tolerance)


@pytest.mark.parametrize("composite", ["attnlrp", "backtrace-contrast"])
@pytest.mark.parametrize("model", FUSED)
def test_implementations_agree(model, composite):
    module, found = network(model), []
    for implementation in ("eager", "batched_mm", "grouped_mm"):
        module.set_experts_implementation(implementation)
        found.append(trace(module, {"input_ids": ids()}, Logit(), composite=composite, keep="*"))
    name = "model.layers.1.mlp.experts"
    for other in found[1:]:
        torch.testing.assert_close(other.input["input_ids"], found[0].input["input_ids"], rtol=1e-3, atol=2e-5)
        torch.testing.assert_close(other.experts[name], found[0].experts[name], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("composite", "router"),
    [("lrp-0", "constant"), ("attnlrp", "constant"), ("attnlrp", "traced"), ("backtrace", "traced")],
)
@pytest.mark.parametrize("model", FUSED)
def test_the_account_closes_over_routing(model, router, composite):
    account = trace(network(model), {"input_ids": ids()}, Logit(), composite=composite, router=router).account()
    assert account.seeded == pytest.approx(account.arrived + account.absorbed + account.leaked, abs=1e-4)
    assert abs(account.leaked) < 5e-5
    if composite != "attnlrp" and model != "GPT-OSS":
        # Nothing here has a bias, and nothing but a softmax keeps a share.
        assert account.arrived == pytest.approx(account.seeded, rel=2e-3)


# Who gave what


@pytest.mark.parametrize("composite", COMPOSITES)
def test_experts_of_a_token_sum_to_what_their_module_gives(composite):
    module = network("Mixtral").double()
    module.set_experts_implementation("eager")
    found = trace(module, {"input_ids": ids(2)}, Logit(), composite=composite, keep="*.experts")
    assert [*found.experts] == ["model.layers.0.mlp.experts", "model.layers.1.mlp.experts"]
    for name, values in found.experts.items():
        assert values.shape == (14, EXPERTS)
        near(values.sum(-1), found[name].sum(-1), 1e-5 if composite in ("alpha-beta", "zplus", "lrp-gamma") else 1e-9)
        assert (values[found.routing[name] == 0] == 0).all()
        assert (values != 0).any()


def test_routing_is_what_the_router_chose():
    module, seen = network("Mixtral"), []
    gate = module.model.layers[0].mlp.gate
    handle = gate.register_forward_hook(lambda part, args, output: seen.append(output))
    found = trace(module, {"input_ids": ids()}, Logit(), keep=())
    handle.remove()
    _, weights, chosen = seen[0]
    routing = found.routing["model.layers.0.mlp.experts"]
    assert ((routing != 0).sum(-1) == CHOSEN).all()
    near(routing.gather(1, chosen), weights, 1e-7)
    near(routing.sum(-1), torch.ones(7), 1e-6)
    assert not routing.requires_grad


def test_a_mixture_of_nobody_in_closed_form():
    module, x = layer(Routed), randn(9, 5)
    r = randn(9, 6, seed=3)
    found = trace(module, x, composite="lrp-0", start=r, keep="*")
    with torch.no_grad():
        weights, c = choice(module.gate, x), r / module(x)
        at_x, at_experts = rectified(x, module.experts.up, module.experts.down, weights, c)
    near(found.input, at_x)
    near(found.experts["experts"], at_experts)
    near(found.routing["experts"], weights)
    assert float(found.arrived) == pytest.approx(float(found.seeded), rel=1e-9)


def test_several_targets_come_first():
    module = network("Qwen3-MoE")
    targets = [Logit(3), Logit(8), Logit(20)]
    for composite in ("attnlrp", "backtrace-contrast"):
        found = trace(module, {"input_ids": ids()}, targets, composite=composite, keep="*.experts").experts
        for row, target in enumerate(targets):
            alone = trace(module, {"input_ids": ids()}, target, composite=composite, keep="*.experts").experts
            for name, values in alone.items():
                assert found[name].shape == (3, 7, EXPERTS)
                torch.testing.assert_close(found[name][row], values, rtol=1e-3, atol=1e-5)


def test_a_row_of_a_batch_is_what_it_is_alone():
    module, x = network("OLMoE").double(), ids(3)
    module.set_experts_implementation("eager")
    for composite in CARRYING:
        together = trace(module, {"input_ids": x}, Logit(), composite=composite, keep="*.experts")
        for row in range(3):
            alone = trace(module, {"input_ids": x[row : row + 1]}, Logit(), composite=composite, keep="*.experts")
            near(together.input["input_ids"][row], alone.input["input_ids"][0], 1e-5)
            for name, values in alone.experts.items():
                near(together.experts[name].view(3, 7, EXPERTS)[row], values, 1e-5)


def test_nothing_is_kept_until_somebody_asks():
    module, x = network("Mixtral"), {"input_ids": ids()}
    lazy = trace(module, x, Logit())
    eager = trace(module, x, Logit(), keep="*.1.mlp.experts")
    assert trace(module, x, Logit(), keep=()).experts == {}
    assert [*eager.experts] == ["model.layers.1.mlp.experts"]
    assert [*lazy.experts] == ["model.layers.0.mlp.experts", "model.layers.1.mlp.experts"]
    near(lazy.experts["model.layers.1.mlp.experts"], eager.experts["model.layers.1.mlp.experts"], 1e-6)


def test_parts_of_experts_are_kept_as_often_as_they_are_called():
    module = network("Mixtral")
    module.set_experts_implementation("eager")
    found = trace(module, {"input_ids": ids()}, Logit(), keep="*")
    asked = int((found.routing["model.layers.0.mlp.experts"] != 0).any(0).sum())
    assert found.calls("model.layers.0.mlp.experts.act_fn") == asked
    rows = [found["model.layers.0.mlp.experts.act_fn", call].shape[0] for call in range(asked)]
    assert sum(rows) == 7 * CHOSEN
    assert found.entering("model.layers.0.mlp.experts")[0].shape == (7, 16)


def test_a_shared_expert_has_its_relevance_under_its_own_name():
    found = trace(network("Qwen2-MoE"), {"input_ids": ids()}, Logit(), composite="lrp-0", keep="*.1.mlp*")
    shared = found["model.layers.1.mlp.shared_expert"].sum(-1)[..., :]
    routed = found.experts["model.layers.1.mlp.experts"].sum(-1)
    torch.testing.assert_close(shared.flatten() + routed, found["model.layers.1.mlp"].sum(-1)[0], rtol=1e-4, atol=1e-5)
    assert (shared != 0).any()


# The router


def test_a_traced_router_receives_half_of_what_its_experts_do():
    module = network("Mixtral").double()
    module.set_experts_implementation("eager")
    found = trace(module, {"input_ids": ids()}, Logit(), router="traced", keep="*")
    name = "model.layers.1.mlp.experts"
    weights = found.entering(name)[1]
    # This family's routers compute in float32.
    near(weights.sum(-1).double(), found.experts[name].sum(-1) / 2, 1e-5)
    assert (found["model.layers.1.mlp.gate"][0] != 0).any()
    held = trace(module, {"input_ids": ids()}, Logit(), keep="*")
    near(held.experts[name], found.experts[name])
    assert (held["model.layers.1.mlp.gate"][0] == 0).all()
    assert ("router", name) in held.constants
    assert ("router", name) not in found.constants


def test_a_gradient_goes_through_the_router_whatever_is_said():
    module, x = layer(Routed), randn(3, 5)
    r = randn(3, 6, seed=1)
    with torch.no_grad():
        start = r * module(x)
    found = [trace(module, x, composite="gradient", start=start, router=each).input for each in ("constant", "traced")]
    near(found[0], found[1], 0)
    step = 1e-6 * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    with torch.no_grad():
        slopes = [((module(x + each) - module(x - each)) * r).sum() / 2e-6 for each in step]
    torch.testing.assert_close(found[0].flatten(), torch.stack(slopes), rtol=1e-5, atol=1e-6)


def test_a_product_gives_the_gradient_of_a_traced_router_half():
    """AttnLRP by hand: half of what the experts receive goes on to their tokens, half through the softmax."""
    module, x, r = layer(Routed), randn(4, 5), randn(4, 6, seed=2)
    found = trace(module, x, composite="lrp-gamma", start=r, router="traced", keep="*")
    held = trace(module, x, composite="lrp-gamma", start=r, keep="*")
    near(found.experts["experts"], held.experts["experts"])
    at_weights = found.entering("experts")[1]
    near(at_weights.sum(-1), found.experts["experts"].sum(-1) / 2, 1e-5)


def test_a_router_that_is_not_there_cannot_be_traced():
    with pytest.raises(InputError, match="no module of this network has num_experts"):
        trace(nn.Linear(3, 2), randn(1, 3).float(), composite="lrp-0", router="traced")
    with pytest.raises(InputError, match="router is 'constant' or 'traced', not 'free'"):
        check_router("free")
    plain = trace(nn.Linear(3, 2), randn(1, 3).float(), composite="lrp-0")
    assert plain.experts == {}
    assert plain.routing == {}


def test_gradients_are_not_divided_among_experts():
    with pytest.raises(InputError, match="only relevance is divided among experts; use 'input-x-gradient'"):
        _ = trace(network("Mixtral"), {"input_ids": ids()}, Logit(), composite="gradient", keep="*").experts


# Mixtures that were written out


class AllOfThem(nn.Module):
    """The mixture that was written out, with every expert asked and weights of 0."""

    def __init__(self, mixture):
        super().__init__()
        self.inside = mixture

    def forward(self, x):
        tokens = x.flatten(0, 1)
        weights = choice(self.inside.gate, tokens).detach()
        weights = weights / weights.sum(-1, keepdim=True)
        said = [expert(tokens) * weights[:, e, None] for e, expert in enumerate(self.inside.experts)]
        return torch.stack(said, 1).sum(1).view_as(x)


# A chain of sums divides by sizes of what was added so far, a sum of all by all sizes: only without them do both agree.
@pytest.mark.parametrize("composite", [name for name in RULES if not name.startswith("backtrace")])
def test_a_mixture_that_was_written_out_with_its_gate_held(composite):
    module, x = layer(WrittenOut), ids(2)
    rules = pellucid.composite(composite).with_rule("*.gate", Constant())
    found = trace(module, x, Logit(), composite=rules)
    assert found.experts == {}
    for place, mixture in enumerate(module.layers):
        module.layers[place] = AllOfThem(mixture)
    near(found.input, trace(module, x, Logit(), composite=composite).input, 1e-5)


@pytest.mark.parametrize("composite", [name for name in RULES if name not in ("alpha-beta", "zplus")])
def test_the_account_of_a_mixture_that_was_written_out_closes(composite):
    rules = pellucid.composite(composite).with_rule("*.gate", Constant())
    found = trace(layer(WrittenOut), ids(2), Logit(), composite=rules)
    assert float(found.arrived) == pytest.approx(float(found.seeded), rel=1e-3)
    assert abs(found.account().leaked) < 1e-4


# Sums into places


ROWS = torch.tensor([2, 0, 2, 1])


def into_places(x):
    total = torch.zeros(3, 3, dtype=x.dtype)
    total.index_add_(0, ROWS, x)
    return total


def by_matrix(x):
    moved = F.one_hot(ROWS, 3).to(x.dtype)
    return (x[:, None, :] * moved[..., None]).sum(0)


@pytest.mark.parametrize("composite", RULES)
@pytest.mark.parametrize(
    "spelling",
    [
        into_places,
        lambda x: torch.index_add(torch.zeros(3, 3, dtype=x.dtype), 0, ROWS, x),
        lambda x: torch.zeros(3, 3, dtype=x.dtype).scatter_add(0, ROWS[:, None].expand(4, 3), x),
        lambda x: torch.zeros(3, 3, dtype=x.dtype).scatter_add_(0, ROWS[:, None].expand(4, 3), x),
        lambda x: torch.zeros(3, 3, dtype=x.dtype).index_put((ROWS,), x, accumulate=True),
        lambda x: torch.zeros(3, 3, dtype=x.dtype).index_put_((ROWS,), x, True),
        lambda x: torch.index_add(torch.zeros(3, 3, dtype=x.dtype), 0, ROWS, x * 0.5, alpha=2),
    ],
)
def test_a_sum_into_empty_places_is_a_sum(spelling, composite):
    near(backed(spelling, randn(4, 3), composite)[0], backed(by_matrix, randn(4, 3), composite)[0], 1e-5)


@pytest.mark.parametrize("composite", [*RULES, "input-x-gradient"])
@pytest.mark.parametrize(
    "spelling",
    [
        lambda a, x: torch.index_add(a, 0, ROWS, x, alpha=-2),
        lambda a, x: a.index_add(0, ROWS, x, alpha=-2),
        lambda a, x: (a * 1.0).index_add_(0, ROWS, x, alpha=-2),
        lambda a, x: a.scatter_add(0, ROWS[:, None].expand(4, 3), x * -2),
        lambda a, x: torch.index_put(a, (ROWS,), x * -2, accumulate=True),
    ],
)
def test_a_sum_into_places_that_hold_something_gives_both_their_share(spelling, composite):
    x = (randn(3, 3), randn(4, 3, seed=1))
    found, r = backed(spelling, x, composite)
    expected, _ = backed(lambda a, x: a + by_matrix(x * -2), x, composite)
    if composite not in ("input-x-gradient", "backtrace-contrast"):
        assert float(found[0].sum() + found[1].sum()) == pytest.approx(float(r.sum()), abs=1e-4)
    near(found[0], expected[0], 1e-6)
    near(found[1], expected[1], 1e-6)


@pytest.mark.parametrize("composite", RULES)
def test_a_sum_into_places_that_hold_a_constant(composite):
    constant = randn(3, 3, seed=4)
    found, _ = backed(lambda x: constant.clone().index_add_(0, ROWS, x), randn(4, 3), composite)
    expected, _ = backed(lambda x: constant + by_matrix(x), randn(4, 3), composite)
    near(found, expected, 1e-6)


@pytest.mark.parametrize("composite", RULES)
@pytest.mark.parametrize("name", ["add", "mul", "sub"])
def test_a_constant_that_is_written_over_stays_what_it_was_to_the_rule(name, composite):
    constant = randn(4, 3, seed=4)
    found, _ = backed(lambda x: getattr(constant.clone(), f"{name}_")(x), randn(4, 3), composite)
    expected, _ = backed(lambda x: getattr(constant, name)(x), randn(4, 3), composite)
    near(found, expected, 1e-12)


# Stacks of matrices


@pytest.mark.parametrize("composite", RULES)
def test_runs_of_rows_times_matrices_of_their_own(composite):
    weight, x = randn(3, 4, 8).float(), randn(6, 4, seed=1).float()
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)

    def loop(x):
        return torch.cat([x[:2] @ weight[0], x[2:5] @ weight[2], torch.zeros(1, 8)])

    found = trace(Net(lambda x: F.grouped_mm(x, weight, offs=ends)[:5]), x, composite=composite, start=torch.ones(5, 8))
    expected = trace(Net(lambda x: loop(x)[:5]), x, composite=composite, start=torch.ones(5, 8))
    torch.testing.assert_close(found.input, expected.input, rtol=1e-4, atol=1e-5)


def test_other_forms_of_grouped_products_are_refused():
    ends = torch.tensor([2, 4], dtype=torch.int32)
    with pytest.raises(InputError, match="write other forms as one matmul for each group"):
        trace(Net(lambda x: F.grouped_mm(x, torch.ones(4, 4), offs=ends)[0]), torch.ones(8, 4), composite="lrp-gamma")


class Stacked(nn.Module):
    """Every head has a matrix of its own, in one parameter."""

    def __init__(self, spelling):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, 5, 4))
        self.spelling = spelling

    def forward(self, x):
        return self.spelling(x, self.weight)


@pytest.mark.parametrize("composite", ["lrp-gamma", "alpha-beta", "zplus", "backtrace", "attnlrp"])
@pytest.mark.parametrize(
    "spelling",
    [
        lambda x, w: torch.einsum("hbi,hoi->hbo", x, w),
        lambda x, w: torch.bmm(x, w.mT),
        lambda x, w: x @ w[torch.tensor([0, 1, 2])].transpose(1, 2),
        lambda x, w: (w.to(x.dtype) @ x.mT).mT,
    ],
)
def test_a_stack_of_parameters_is_weights(spelling, composite):
    x, r = randn(3, 2, 4), randn(3, 2, 5, seed=5)
    module, rows = (
        layer(lambda: Stacked(spelling)),
        layer(
            lambda: Stacked(
                lambda x, w: torch.stack(
                    [F.linear(each, matrix) for each, matrix in zip(x.unbind(0), w.unbind(0), strict=True)]
                )
            )
        ),
    )
    found = trace(module, x, composite=composite, start=r).input
    near(found, trace(rows, x, composite=composite, start=r).input)


# Edges


def test_a_number_beyond_the_experts_is_nobody():
    experts = network("Mixtral").double().model.layers[0].mlp.experts
    experts.config._experts_implementation = "eager"
    x, weights, r = randn(4, 16), torch.full((4, 2), 0.5, dtype=torch.float64), randn(4, 16, seed=1)
    chosen = torch.tensor([[0, 4], [3, 2], [2, 1], [1, 4]])
    with torch.no_grad():
        expected = experts(x, chosen, weights)
    found = trace(experts, (x, chosen, weights), composite="lrp-0", start=r, keep="*")
    near(found.experts[""].sum(-1), r.sum(-1))
    near(found.routing[""][0], torch.tensor([0.5, 0, 0, 0], dtype=x.dtype))
    assert found.arrived == pytest.approx(float(r.sum()))
    assert expected.shape == x.shape


def test_recomputing_experts_changes_nothing():
    class Again(nn.Module):
        def __init__(self, again):
            super().__init__()
            self.inside, self.again = layer(Routed), again

        def forward(self, x):
            return checkpoint(self.inside, x, use_reentrant=False) if self.again else self.inside(x)

    x, r = randn(6, 5), randn(6, 6, seed=1)
    for composite in CARRYING:
        for router in ("constant", "traced"):
            plain, again = (
                trace(Again(flag), x, composite=composite, start=r, keep="*.experts", router=router)
                for flag in (False, True)
            )
            near(again.input, plain.input)
            near(again.experts["inside.experts"], plain.experts["inside.experts"])
            near(again.routing["inside.experts"], plain.routing["inside.experts"])
    targets = [Logit(0), Logit(1)]
    several = [trace(Again(flag), x, targets, keep="*.experts") for flag in (False, True)]
    near(several[0].input, several[1].input)
    near(several[0].experts["inside.experts"], several[1].experts["inside.experts"])


class More(Rectified):
    """A mixture that gives something else than a sum over its experts."""

    def __init__(self, extra):
        super().__init__(wide=5)
        self.shared, self.extra = nn.Linear(5, 5), extra

    def forward(self, tokens, *, weights, chosen):
        return self.extra(self, tokens, weights, partial(super().forward, tokens, chosen=chosen))


MORE = {
    "normalised weights": lambda part, x, w, mix: mix(weights=w / w.sum(-1, keepdim=True)),
    "a shared expert": lambda part, x, w, mix: mix(weights=w) + part.shared(x),
    "a residual": lambda part, x, w, mix: mix(weights=w) + x,
    "a norm": lambda part, x, w, mix: F.layer_norm(mix(weights=w), (5,)),
    "a number": lambda part, x, w, mix: mix(weights=w).sum(-1),
    "two slots at least": lambda part, x, w, mix: mix(weights=torch.stack((w[:, 0], w[:, 1]), 1)),
}


@pytest.mark.parametrize("tokens", [3, 20])
@pytest.mark.parametrize("extra", MORE)
def test_a_module_that_gives_more_than_a_sum_is_traced_as_any_module(extra, tokens):
    module, x = layer(Routed), randn(tokens, 5)
    module.experts = layer(lambda: More(MORE[extra]))
    expected = module(x).detach()
    found = trace(module, x, composite="attnlrp", start=expected, keep="*")
    if expected.ndim == 2:
        near(trace(module, x, Logit(0), composite="attnlrp", keep=()).seeded, expected[:, 0].sum())
    assert found.experts == {}
    assert found.calls("experts.shared" if extra == "a shared expert" else "experts") == 1
    module.experts.num_experts = None
    plain = trace(module, x, composite="attnlrp", start=expected, keep="*")
    near(found.input, plain.input, 0)


def test_a_mixture_that_drops_tokens_is_refused():
    def limited(part, x, w, mix):
        fits = torch.ones(len(x), 1, dtype=x.dtype)
        fits[9:11] = not 16 < len(x) < 30
        return mix(weights=w * fits)

    module = layer(Routed)
    module.experts = layer(lambda: More(limited))
    with pytest.raises(ModelError, match="at 'experts' gives some tokens another value than the sum"):
        trace(module, randn(20, 5), Logit(0), composite="lrp-0")
    assert [*trace(module, randn(40, 5), Logit(0), keep="*").experts] == ["experts"]
    assert torch.is_grad_enabled()


def test_a_mixture_that_writes_into_its_arguments_is_refused():
    module = layer(Routed)
    module.experts = layer(lambda: More(lambda part, x, w, mix: mix(weights=w.mul_(2))))
    with pytest.raises(ModelError, match="at 'experts' writes into its arguments; let it work on copies"):
        trace(module, randn(20, 5), Logit(0))


def test_hooks_of_others_see_one_call_of_a_mixture():
    module, x, seen = layer(Routed), randn(4, 5), []

    def before(part, args, kwargs):
        seen.append([args[0].shape, kwargs["weights"].shape])
        return (2 * args[0],), kwargs

    def after(part, args, kwargs, output):
        seen.append([args[0].shape, kwargs["weights"].shape, output.shape])
        return output + args[0].sum() + 1

    module.experts.register_forward_pre_hook(before, with_kwargs=True)
    module.experts.register_forward_hook(after, with_kwargs=True)
    expected = module(x)[:, 0].detach()
    called, seen[:] = list(seen), []
    found = trace(module, x, Logit(0), composite="input-x-gradient", keep="*")
    assert seen == called
    near(found.seeded, expected.sum())
    assert found["experts"].shape == (4, 6)
    assert [*found.experts] == ["experts"]


def test_a_hook_that_another_thread_calls_half_registered_does_nothing():
    module, x = layer(Routed), randn(4, 5)
    with Tracer(module, pellucid.composite("lrp-0")):
        for part in module.modules():
            assert not any(hook(part, (x,)) for hook in part._forward_pre_hooks.values())
            assert not any(hook(part, (x,), x) is not None for hook in part._forward_hooks.values())


# Other forms of call


@pytest.mark.parametrize("sequences", [1, 2])
def test_tokens_in_sequences_are_tokens(sequences):
    """DBRX gives its experts tokens [sequence, token, hidden], and choices token by token."""
    inner = {"moe_num_experts": EXPERTS, "moe_top_k": CHOSEN, "hidden_size": 6, "ffn_hidden_size": 8}
    module = layer(lambda: DbrxFFN(hf.DbrxConfig(d_model=6, ffn_config=inner)))
    x = randn(sequences, 7, 6)
    r = module(x).detach()
    found = trace(module, x, composite="lrp-0", start=r, keep="*")
    assert found.experts["experts"].shape == (7 * sequences, EXPERTS)
    assert found["experts"].shape == x.shape
    near(found.experts["experts"].sum(-1), (r.flatten(0, 1)).sum(-1), 1e-5)
    held, traced = (trace(module, x, start=r, keep="*", router=each) for each in ("constant", "traced"))
    assert ("router", "experts") in held.constants
    assert (held["router"] == 0).all()
    assert (traced["router"] != 0).any()


def test_the_network_is_as_it_was():
    module = network("Qwen2-MoE")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for router in ("constant", "traced"):
        trace(module, {"input_ids": ids()}, Logit(), keep="*", router=router)
    with pytest.raises(InputError):
        trace(module, {"input_ids": ids()}, Logit(999))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_every_example_can_be_traced():
    families = [make() for make in EXAMPLES]
    assert {each.model for each in families} == {*FUSED, "a mixture written out"}
    for each in families:
        found = trace(each.module, each.inputs, each.target, keep=())
        assert np.isfinite(float(found.arrived))
        assert bool(found.routing) == isinstance(each.inputs, dict)
    assert isinstance(Mixture(), nn.Module)


# In an explanation


@pytest.fixture(scope="module")
def explained():
    """A chat prompt explained for two answers, by a tiny Mixtral."""
    tokenizer = bpe(CHATML)
    common = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2}
    routing = {"num_local_experts": EXPERTS, "num_experts_per_tok": CHOSEN}
    config = hf.MixtralConfig(**common, **routing, num_attention_heads=2, num_key_value_heads=1, pad_token_id=0)
    model = CausalLM(randomised(lambda: hf.MixtralForCausalLM(config)), tokenizer)
    return model, pellucid.explain(model, "Is the risk high?", method="attnlrp", target=pellucid.Token("high"))


def test_an_explanation_has_the_relevance_of_every_expert(explained, tmp_path):
    model, found = explained
    assert found.expert_layer_names == ("model.layers.0.mlp.experts", "model.layers.1.mlp.experts")
    assert found.expert_values.shape == (1, 2, len(found.features), EXPERTS)
    assert found.settings["router"] == "constant"
    assert (found.expert_values[0, 0] != 0).any()
    again = pellucid.Explanation.load(found.save(tmp_path / "one.zip"))
    np.testing.assert_array_equal(again.expert_values, found.expert_values)
    part = found.keeping([1, 0])
    np.testing.assert_array_equal(part.expert_values, found.expert_values[:, :, [1, 0]])
    coarse = found.sum_to("sentence")
    np.testing.assert_allclose(coarse.expert_values.sum(2), found.expert_values.sum(2), atol=1e-6)
    method = relevance_method(pellucid.composite("attnlrp"))(router="traced")
    traced = pellucid.explain(model, "Is the risk high?", method=method, target=pellucid.Token("high"))
    assert traced.settings["router"] == "traced"
    assert np.abs(traced.values - found.values).max() > 1e-4
    fields = {name: getattr(found, name) for name in pellucid.Explanation.model_fields}
    with pytest.raises(ValueError, match="expert_layer_names names 2 layers, and there are no expert_values"):
        pellucid.Explanation(**fields | {"expert_values": None})
    with pytest.raises(ValueError, match="expert_values has shape"):
        pellucid.Explanation(**fields | {"expert_values": found.expert_values[:, :1]})


def test_a_page_and_a_figure_show_the_experts(explained):
    _, found = explained
    page = explanation_page(found)
    assert "Relevance of what every expert gave" in page
    assert page.count("Expert by ") == 1
    without = found.model_copy(update={"expert_values": None, "expert_layer_names": ()})
    assert "every expert gave" not in explanation_page(without)
    rows = plots.experts(found).axes[0].images[0].get_array()
    np.testing.assert_allclose(rows, found.expert_values.sum((0, 2))[::-1], atol=1e-6)
    rows = plots.experts(found, 0).axes[0].images[0].get_array()
    heard = (found.expert_values[0, 0] != 0).any(0)
    np.testing.assert_allclose(rows, found.expert_values[0, 0].T[heard], atol=1e-6)
    with pytest.raises(InputError, match="gave no expert_values"):
        plots.experts(without)
    with pytest.raises(InputError, match="there is no layer 2; the explanation has 2 with experts"):
        plots.experts(found, 2)
