"""What cannot be traced is refused in one sentence that names it, its place and the way out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pellucid import Logit, Margin
from pellucid.errors import InputError, ModelError, NoRuleError, NumericalError
from pellucid.relevance import trace
from relevance_tools import Net, X, classifier, near


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, c):
        return c * 2


@pytest.mark.parametrize("f", [lambda x: (Doubled.apply(x) + 1).sum(1) - 4, lambda x: Doubled.apply(x.sum(1))])
def test_an_operation_written_by_hand_has_no_rule(f):
    module = nn.Sequential(nn.Identity(), Net(f))
    with pytest.raises(NoRuleError, match=r"no rule for 'Doubled' at '1' in composite 'attnlrp'"):
        trace(module, X, Logit(1))
    found = trace(module, X, Logit(1), strict=False)
    assert found.approximated == (("Doubled", "1"),)
    near(found.input[..., 1], 2 * X[..., 1])
    near(trace(module, X, Logit(1), composite="input-x-gradient").input, found.input)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_scripted_function_cannot_hide():
    scripted = torch.jit.script(hidden)
    for f in (lambda x: scripted(x).sum(1), lambda x: scripted(x.sum(1))):
        with pytest.raises(NoRuleError, match="no rule for 'Lgamma"):
            trace(Net(f), X, Logit(1))
    near(
        trace(Net(lambda x: scripted(x.sum(1))), X, Logit(1), composite="gradient").input[..., 0],
        torch.zeros(3, 4).double(),
    )


def hidden(x: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(x.abs() + 1)


UNKNOWN = {
    "cumprod": lambda x: torch.cumprod(x, 1), "lgamma": torch.lgamma, "lgamma_": lambda x: x.clone().lgamma_(),
    "fft_rfft": torch.fft.rfft, "conv1d": lambda x: F.conv1d(x, x[:, :, :2]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_operation_of_no_table_is_refused_by_name(name):
    module = nn.Sequential(nn.Identity(), nn.Sequential(Net(lambda x: UNKNOWN[name](x[:1]).abs().sum(1))))
    x = X[:, :3, :] if name == "conv1d" else X
    with pytest.raises(NoRuleError, match=rf"'{name}' at '1.0' in composite 'reslrp'.*with_rule.*strict=False"):
        trace(module, x, Logit(1), composite="reslrp")
    found = trace(module, x, Logit(1), composite="reslrp", strict=False)
    assert found.approximated[0] == (name, "1.0")


TRAINING = {
    "dropout": nn.Dropout(), "dropout1d": nn.Dropout1d(), "alpha_dropout": nn.AlphaDropout(), "rrelu": nn.RReLU(),
    "batch_norm": nn.BatchNorm1d(4), "batch_norm ": nn.BatchNorm1d(4, track_running_stats=False),
    "scaled_dot_product_attention": Net(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAINING)
def test_what_draws_or_mixes_the_batch_is_refused(name):
    module = nn.Sequential(TRAINING[name].double().train(), Net(lambda x: x.sum(1)))
    if "track" in repr(module) and name.endswith(" "):
        module.eval()
    with pytest.raises(InputError, match=rf"{name.strip()} at '0' is in training mode.*call module.eval\(\)"):
        trace(module, X, Logit(1))
    if not name.endswith((" ", "attention")):
        assert trace(module.eval(), X, Logit(1)).input.any()


def quantised():
    return torch.ao.nn.quantized.dynamic.Linear(6, 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: torch.jit.trace(nn.Linear(6, 2), X.float()), "scripted module"),
        (lambda: torch.compile(nn.Linear(6, 2)), "compiled module"),
        (quantised, "quantised layer"),
    ],
)
def test_a_module_that_hides_its_operations_is_refused(make, says):
    with pytest.raises(ModelError, match=f"'1' is a {says}"):
        trace(nn.Sequential(nn.Identity(), make()), X.float(), Logit(1))


def test_nan_is_named_by_the_layer_that_gave_it():
    module = classifier()
    module.blocks[1].up.weight.data[0, 0] = torch.nan
    with pytest.raises(NumericalError, match=r"'blocks\.1\.up' gives NaN"):
        trace(module, X, Logit(1))


def test_targets_starts_and_inputs_that_cannot_be():
    module = classifier()
    for target, says in ((Logit(3), "outputs 0 to 2"), (Margin(-1), "does not exist")):
        with pytest.raises(InputError, match=says):
            trace(module, X, target)
    for start in (torch.zeros(3, 4), torch.zeros(3)):
        with pytest.raises(InputError, match="shape"):
            trace(module, X, start=start)
    with pytest.raises(InputError, match="'value', 'one' or a tensor"):
        trace(module, X, start="two")
    nothing = nn.Sequential(nn.Linear(6, 2, bias=False), nn.ReLU())
    with pytest.raises(InputError, match="the output is 0 where relevance should start"):
        trace(nothing, torch.zeros(2, 6), Logit(0), start="one")
    assert not trace(nothing, torch.zeros(2, 6), Logit(0)).input.any()
    with pytest.raises(ModelError, match="does not depend on the input"):
        trace(Net(lambda x: torch.softmax(x.sum(1), 1)), X, Logit(0), composite="cp-lrp")
    with pytest.raises(ModelError, match="runs without gradients"):
        trace(Net(lambda x: no_grad(lambda: x.sum(1))), X, Logit(0))
    with pytest.raises(InputError, match="holds no tensor"):
        trace(module, {"x": 3})


def no_grad(f):
    with torch.no_grad():
        return f()


def test_a_parameter_that_is_not_initialised_is_named():
    with pytest.raises(ModelError, match=r"'0\.weight' is not initialised yet; call the network once"):
        trace(nn.Sequential(nn.LazyLinear(2)), X.float(), Logit(1))


def test_the_logits_of_several_outputs_are_explained():
    for name in ("logits", "pred_logits", "out"):
        module = Net(lambda x, name=name: {"aux": x.sum(1) * 0, name: x.sum(1)})
        assert trace(module, X, Logit(1)).input.any()
