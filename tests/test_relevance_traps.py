"""Every way to spell an operation carries the same relevance, and gives the number that it gives outside."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pellucid import Logit
from pellucid.errors import NoRuleError
from pellucid.relevance import composite, trace
from pellucid.relevance.versions import Versions
from relevance_tools import Net, layer, near, randn

RULES = ("cp-lrp", "reslrp")
SHAPE = (2, 4, 6)
C = randn(1, 4, 1, seed=5)
D = randn(2, 4, 6, seed=6)
M = randn(2, 4, 6, seed=7) > 0
M[..., 0] = False
INNER = layer(lambda: nn.Linear(6, 6))


class Around(nn.Module):
    """A spelling between two linear maps, so that the rules before and after it have something to lose."""

    def __init__(self, f):
        super().__init__()
        self.before, self.f = layer(lambda: nn.Linear(6, 6), 1), f
        with torch.no_grad():
            width = f(self.before(randn(*SHAPE)))[0].numel()
        self.after = layer(lambda: nn.Linear(width, 3), 2)

    def forward(self, x):
        return self.after(self.f(self.before(x)).flatten(1))


def check_same(spelling, plain, rules=RULES, keep=None):
    x = randn(*SHAPE, seed=8)
    one, other = Around(spelling), Around(plain)
    for name in rules:
        with torch.no_grad():
            near(one(x), other(x))
        found = trace(one, x, Logit(1), composite=name, keep=keep)
        expected = trace(other, x, Logit(1), composite=name)
        near(found.input, expected.input)
        assert found.input.any()
        near(found.seeded, expected.seeded)
        with torch.no_grad():
            near(torch.as_tensor(found.seeded), one(x)[:, 1].sum().double())


def in_statement(f):
    """A spelling whose statement has no result of use: what it did to y is what counts."""

    def spelled(x):
        y = x * 1.0
        f(y)
        return y

    return spelled


def set_in_place(x):
    out = torch.zeros_like(x)
    out[:, 1:3] = x[:, 2:]
    out[:, 0] += x[:, 0]
    return out


def set_traced(x):
    y = x * 1.0
    y[:, 0] = 2.0
    y[:, 1] = x[:, 2]
    return y


def plain_set_traced(x):
    return torch.cat([torch.full_like(x[:, :1], 2.0), x[:, 2:3], x[:, 2:]], 1)


def stale_view(x):
    y = x * 1.0
    flat = y.view(2, 24)
    y.add_(1.5)
    y.relu_()
    return flat


def through_views(x):
    y = x * 1.0
    a, b = y[:, :2], y[:, 1:]
    a += 1
    b.mul_(2)
    return torch.cat([y, a, b], 1)


def plain_through_views(x):
    y = torch.cat([x[:, :1] + 1, (x[:, 1:2] + 1) * 2, x[:, 2:] * 2], 1)
    return torch.cat([y, y[:, :2], y[:, 1:]], 1)


def keras_norm(x):
    mean, variance = C.flatten()[:4].reshape(1, 4, 1), (C.flatten()[:4].reshape(1, 4, 1) ** 2 + 0.3)
    inverse = (variance * 1.0).add_(1e-3).rsqrt_()
    y = x - mean
    y.mul_(inverse)
    y.mul_(0.7)
    y.add_(C)
    return y


def keras_norm_of_itself(x):
    inverse = x.var(1, keepdim=True).add_(1e-3).rsqrt_()
    return x.sub(x.mean(1, keepdim=True)).mul_(inverse).add_(C)


def turned_in_place(x):
    y = x * 1.0
    y.squeeze_(1)
    return y.transpose_(1, 2).unsqueeze_(0).squeeze_(0).add_(1).swapaxes_(1, 2)


def turned_under_a_view(x):
    y = x[0, :, :4] * 1.0
    row = y[0]
    y.t_()
    y[0] = y[1] * 2
    y.t_()
    return torch.cat([y, row[None]])


def plain_turned_under_a_view(x):
    y = torch.cat([x[0, :, 1:2] * 2, x[0, :, 1:4]], 1)
    return torch.cat([y, y[:1]])


def turned_views(x):
    y = x * 1.0
    part, row = y[..., :3], y[0]
    part.unsqueeze_(0).mul_(2)
    part.squeeze_(0)
    row.t_()
    y.add_(1)
    return torch.cat([y.flatten(), part.flatten(), row.flatten()])[None]


def plain_turned_views(x):
    y = torch.cat([x[..., :3] * 2, x[..., 3:]], -1) + 1
    return torch.cat([y.flatten(), y[..., :3].flatten(), y[0].T.flatten()])[None]


SPELLINGS = {
    "turned in place": (turned_in_place, lambda x: x + 1),
    "turned under a view": (lambda x: turned_under_a_view(x)[None], lambda x: plain_turned_under_a_view(x)[None]),
    "turned views": (turned_views, plain_turned_views),
    "x + x": (lambda x: x + x, lambda x: 2 * x),
    "x * x": (lambda x: x * x, lambda x: x**2),
    "x - x / 2": (lambda x: x - x / 2, lambda x: x * 0.5),
    "add(alpha)": (lambda x: torch.add(x, D, alpha=-2), lambda x: x + -2 * D),
    "constant.add(x, alpha)": (lambda x: D.add(x, alpha=3), lambda x: D + 3 * x),
    "rsub": (lambda x: torch.rsub(x, D, alpha=2), lambda x: D - 2 * x),
    "1 - x": (lambda x: 1 - x, lambda x: -x + 1),
    "D - x": (lambda x: D - x, lambda x: D + (-x)),
    "sub alpha": (lambda x: torch.sub(x, other=D, alpha=2), lambda x: x + (-2 * D)),
    "2 / number": (lambda x: x / 4, lambda x: 0.25 * x),
    "div named": (lambda x: torch.div(x, other=D), lambda x: x * (1 / D)),
    "__rdiv__": (lambda x: x * (1 / (x.abs() + 1)), lambda x: x / (x.abs() + 1)),
    "broadcast left": (lambda x: C * x, lambda x: x * C.expand(2, 4, 6)),
    "broadcast sum": (lambda x: x + C, lambda x: C.expand(2, 4, 6) + x),
    "broadcast up": (lambda x: x[:, :1] + D, lambda x: x[:, :1].expand(2, 4, 6) + D),
    "broadcast traced": (lambda x: x * x[:, :1] + x[..., :1], lambda x: x * x[:, [0] * 4] + x[..., [0] * 6]),
    "masked_fill": (lambda x: x.masked_fill(M, 0.0), lambda x: torch.where(M, 0.0, x)),
    "masked softmax": (
        lambda x: torch.softmax(x.masked_fill(M, -torch.inf), -1) + x,
        lambda x: torch.softmax(x + M.double() * -1e300, -1) + x,
    ),
    "where": (lambda x: torch.where(M, x, D), lambda x: x * M + D * ~M),
    "where of two": (lambda x: torch.where(M, x, INNER(x)), lambda x: x * M + INNER(x) * ~M),
    "+=": (in_statement(lambda y: y.__iadd__(D)), lambda x: x + D),
    "-=, *=, /=": (in_statement(lambda y: y.__isub__(D).__imul__(C).__itruediv__(4)), lambda x: (x - D) * C / 4),
    "**=": (in_statement(lambda y: y.__ipow__(2)), lambda x: x**2),
    "relu_": (in_statement(lambda y: y.relu_()), F.relu),
    "F.relu(inplace)": (in_statement(lambda y: F.relu(y, inplace=True)), F.relu),
    "F.relu(input=, inplace)": (in_statement(lambda y: F.relu(input=y, inplace=True)), F.relu),
    "F.silu(inplace)": (in_statement(lambda y: F.silu(y, True)), F.silu),
    "nn.ReLU6(inplace)": (in_statement(nn.ReLU6(inplace=True)), F.relu6),
    "nn.ELU(inplace)": (in_statement(nn.ELU(0.5, inplace=True)), lambda x: F.elu(x, 0.5)),
    "nn.Dropout(inplace)": (in_statement(nn.Dropout(0.5, inplace=True).eval()), lambda x: x * 1.0),
    "add_ of a float": (in_statement(lambda y: y.add_(D.float(), alpha=2)), lambda x: x + 2 * D.float()),
    "sigmoid_ and tanh_": (lambda x: x * (x * 1.0).sigmoid_() + (x * 1.0).tanh_(), lambda x: F.silu(x) + torch.tanh(x)),
    "addcmul_": (in_statement(lambda y: y.addcmul_(D, C, value=2)), lambda x: x + 2 * D * C),
    "lerp_": (in_statement(lambda y: y.lerp_(D, 0.25)), lambda x: x * 0.75 + D * 0.25),
    "mul_ by itself": (in_statement(lambda y: y.mul_(y)), lambda x: x**2),
    "residual +=": (in_statement(lambda y: y.__iadd__(INNER(y))), lambda x: (y := x * 1.0) + INNER(y)),
    "__setitem__ on a constant": (set_in_place, lambda x: torch.cat([x[:, :1], x[:, 2:], 0 * x[:, :1]], 1)),
    "__setitem__ on a traced tensor": (set_traced, plain_set_traced),
    "a view of what changes": (stale_view, lambda x: F.relu(x + 1.5)),
    "changes through views": (through_views, plain_through_views),
    "index_put": (lambda x: x.index_put((torch.tensor([0]),), D[:1]), lambda x: torch.cat([D[:1], x[1:]])),
    "index_fill, copy": (
        lambda x: x.index_fill(1, torch.tensor([0]), 2.0).index_copy(1, torch.tensor([3]), x[:, :1]),
        lambda x: torch.cat([torch.full_like(x[:, :1], 2), x[:, 1:3], x[:, :1]], 1),
    ),
    "copy_ and zero_": (
        in_statement(lambda y: (y[:, 2:].copy_(y[:, :2] + D[:, 2:]), y[:, :2].zero_())),
        lambda x: torch.cat([x[:, :2] * 0, x[:, :2] + D[:, 2:]], 1),
    ),
    "Keras' batch norm": (keras_norm, lambda x: (x - C) * (C**2 + 0.301).rsqrt() * 0.7 + C),
    "Keras' norm of the input": (
        keras_norm_of_itself, lambda x: (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True) + 1e-3) + C
    ),
    "mean without keepdim": (lambda x: x.mean(1), lambda x: x.sum(1) / 4),
    "mean over everything": (lambda x: x * 0 + x.mean(), lambda x: x * 0 + x.sum().div(48)),
    "split, chunk, unbind, stack": (
        lambda x: torch.stack([*x.split(2, 1)[0].chunk(2, 2), x.unbind(2)[0][:, :2, None].expand(2, 2, 3)], 3),
        lambda x: torch.cat([x[:, :2, :3, None], x[:, :2, 3:, None], x[:, :2, :1, None].repeat(1, 1, 3, 1)], 3),
    ),
    "T, mT, permute": (
        lambda x: x.mT.permute(1, 2, 0) + x[0].T[..., None],
        lambda x: x.permute(2, 1, 0) + x[0, :, :, None].transpose(0, 1),
    ),
    "glu": (lambda x: F.glu(x), lambda x: x[..., :3] * torch.sigmoid(x[..., 3:])),
    "addcmul": (lambda x: torch.addcmul(x, x, D, value=2), lambda x: x + x * D * 2),
    "addcdiv": (lambda x: torch.addcdiv(D, x, C), lambda x: D + x / C),
    "lerp": (lambda x: torch.lerp(x, INNER(x), 0.25), lambda x: x * 0.75 + INNER(x) * 0.25),
    "addmm": (
        lambda x: torch.addmm(D[0, 0], x[0], INNER.weight, beta=2, alpha=3)[None].expand(2, 4, 6),
        lambda x: F.linear(x[0], 3 * INNER.weight.T, 2 * D[0, 0])[None].expand(2, 4, 6),
    ),
    "baddbmm": (
        lambda x: torch.baddbmm(D[..., :4], x, x.mT, beta=0.5), lambda x: 0.5 * D[..., :4] + torch.matmul(x, x.mT)
    ),
    "baddbmm(beta=0)": (
        lambda x: torch.baddbmm(torch.full((1,), torch.nan).double(), batch1=x, batch2=x.mT, beta=0, alpha=0.5),
        lambda x: torch.bmm(x, x.mT) * 0.5,
    ),
    "einsum of weights": (lambda x: torch.einsum("btd,ed->bte", x, INNER.weight), lambda x: F.linear(x, INNER.weight)),
    "einsum of a list": (lambda x: torch.einsum("btd,ed->bte", [x, INNER.weight]), lambda x: x @ INNER.weight.T),
    "einsum of two": (lambda x: torch.einsum("bid,bjd->bij", x, x), lambda x: x @ x.mT),
    "einsum of one": (lambda x: torch.einsum("btd->bdt", x), lambda x: x.mT),
    "einsum that sums": (lambda x: torch.einsum("btd->bd", x), lambda x: x.sum(1)),
    "inner": (lambda x: torch.inner(x, INNER.weight), lambda x: x @ INNER.weight.T),
    "weights on the left": (lambda x: INNER.weight @ x.mT, lambda x: F.linear(x, INNER.weight).mT),
    "matmul named": (lambda x: torch.matmul(input=x, other=INNER.weight.T), lambda x: F.linear(x, INNER.weight)),
    "F.normalize": (lambda x: F.normalize(x, dim=1), lambda x: x * (x.norm(dim=1, keepdim=True).reciprocal())),
    "cosine_similarity": (
        lambda x: F.cosine_similarity(x, INNER(x), dim=-1),
        lambda x: ((x / x.norm(dim=-1, keepdim=True)) * (INNER(x) / INNER(x).norm(dim=-1, keepdim=True))).sum(-1),
    ),
    "max along a dimension": (lambda x: x.max(1).values + torch.amin(x, 1), lambda x: x.amax(1) + x.min(dim=1)[0]),
    "maximum": (lambda x: torch.maximum(x, INNER(x)), lambda x: torch.where(x > INNER(x), x, INNER(x))),
    "relu by clamp": (lambda x: x.clamp_min(0), F.relu),
    "sort": (lambda x: x.sort(1).values, lambda x: x.gather(1, x.argsort(1))),
    "a table": (lambda x: F.embedding(torch.tensor([[0, 3]]), x[0]), lambda x: x[0][torch.tensor([[0, 3]])]),
    "no_grad inside": (lambda x: x * scale(x), lambda x: x * x.detach().abs().amax()),
    "shape of x": (lambda x: x.reshape(x.size(0), x.shape[1] * x.shape[2]), lambda x: x.flatten(1)),
}  # fmt: skip


def scale(x):
    with torch.no_grad():
        return x.abs().max()


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_what_it_spells(name):
    # A sum of one tensor with itself, or with its part, is a residual sum, which reslrp treats on purpose.
    rules = (
        RULES
        if name not in ("x - x / 2", "broadcast traced", "addcmul", "lerp", "where of two")
        else ("cp-lrp", "attnlrp")
    )
    check_same(*SPELLINGS[name], rules=rules if name != "masked softmax" else ("input-x-gradient", "attnlrp"))


def test_activations_in_place_do_not_lose_what_came_in():
    def spelled(x):
        y = INNER(x)
        return F.silu(y, inplace=True) + y

    check_same(spelled, lambda x: 2 * F.silu(INNER(x)))


def test_a_non_linear_operation_in_place_on_a_view_is_refused():
    module = Net(lambda x: (y := INNER(x), y[:, :2].tanh_(), y.sum(1))[2])
    x = randn(2, 4, 6)
    with pytest.raises(NoRuleError, match="'tanh in place on a view' at 'the network itself' in composite 'attnlrp'"):
        trace(module, x, Logit(0), composite="attnlrp")
    found = trace(module, x, Logit(0), composite="attnlrp", strict=False)
    assert found.approximated == (("tanh in place on a view", ""),)


INTERPOLATIONS = {
    "nearest": (3, {}), "linear": (3, {"align_corners": False}), "bilinear": (4, {"align_corners": True}),
    "bicubic": (4, {}), "area": (4, {}), "nearest-exact": (4, {}), "trilinear": (5, {}),
}  # fmt: skip


@pytest.mark.parametrize("mode", INTERPOLATIONS)
def test_interpolation_is_a_linear_map(mode):
    dims, options = INTERPOLATIONS[mode]
    x = randn(2, 1, *[2, 3, 2][: dims - 2], seed=1)
    module = Net(lambda x: F.interpolate(x, scale_factor=2.0, mode=mode, **options).flatten(1))
    found = trace(module, x, Logit(3), composite="attnlrp")
    near(found.input, trace(module, x, Logit(3), composite="input-x-gradient").input)
    near(found.input.flatten(1).sum(1), module(x)[:, 3])


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 6}, {"add_zero_attn": True}])
@pytest.mark.parametrize("first", [True, False])
def test_multi_head_attention_with_and_without_its_weights(options, first):
    attention = layer(lambda: nn.MultiheadAttention(6, 2, batch_first=first, **options))
    padding = torch.tensor([[False, True, False, False], [False] * 4])
    mask = torch.triu(torch.full((4, 4), -torch.inf), 1).double()

    def attended(need_weights, **masks):
        def f(x):
            x = x if first else x.transpose(0, 1)
            y = attention(x, x, x, need_weights=need_weights, **masks)[0]
            return y if first else y.transpose(0, 1)

        return f

    for masks in ({}, {"attn_mask": mask}, {"key_padding_mask": padding}, {"attn_mask": mask != 0}):
        check_same(attended(True, **masks), attended(False, **masks), rules=("cp-lrp", "attnlrp"))


def test_an_encoder_layer_of_torch_is_its_own_operations():
    encoder = layer(lambda: nn.TransformerEncoderLayer(6, 2, 8, activation="gelu", batch_first=True, norm_first=True))

    def written(x):
        y = encoder.norm1(x)
        q, k, v = F.linear(y, encoder.self_attn.in_proj_weight, encoder.self_attn.in_proj_bias).chunk(3, -1)
        q, k, v = (each.unflatten(-1, (2, 3)).transpose(1, 2) for each in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + encoder.self_attn.out_proj(attended)
        return x + encoder.linear2(F.gelu(encoder.linear1(encoder.norm2(x))))

    check_same(encoder, written)


def test_weights_are_shared_and_a_module_is_called_twice():
    module = Net(lambda x: INNER(torch.tanh(INNER(x))).sum(1))
    module.inner = INNER
    x = randn(2, 4, 6, seed=1)
    found = trace(module, x, Logit(0), composite="lrp-0", keep="inner")
    assert found.calls("inner") == 2
    assert found["inner", 1].shape == x.shape
    near(found["inner", 1].sum((1, 2)), module(x)[:, 0].detach())
    # Between the two calls, the second bias keeps its share.
    near(found["inner"].sum((1, 2)), (module(x) - 4 * INNER.bias)[:, 0].detach())


def test_a_unit_that_is_dead_gives_no_nan():
    net = nn.Sequential(INNER, nn.Flatten())
    for rules in RULES:
        assert not trace(net, torch.zeros(*SHAPE).double(), Logit(0), composite=rules).input.any()
    dead = Net(lambda x: (F.relu(x - 100) + F.silu(x * 0) + F.normalize(x * 0, dim=1)).sum(1) + x.sum(1))
    assert torch.isfinite(trace(dead, randn(*SHAPE), Logit(0), composite=composite("attnlrp")).input).all()


def test_what_was_changed_in_place_is_forgotten_with_the_tensor():
    versions, x = Versions(), randn(4, 6).requires_grad_()
    y = x * 1.0
    view = y[:2]
    versions.see(view)
    changed = versions.replace(y, y + 1)
    near(versions.current(view), changed[:2])
    assert versions.current(y) is changed
    del y, view, changed
    assert not versions._now
