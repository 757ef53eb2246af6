"""Recurrent networks: the fused operations, the same written out, a cell by hand, packed rows."""

import copy
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import rnn as rows

from oracles.recurrent import Hand, Plain
from pellucid.errors import InputError
from pellucid.relevance import Kind, calls, composite, composites, trace
from pellucid.relevance.backtrace import BacktraceLinear
from pellucid.relevance.coefficient import Ratio
from pellucid.relevance.recurrence import recurrent, unrolled
from pellucid.relevance.rule import Place
from pellucid.relevance.scan import scan_of
from pellucid.targets import Logit, Margin
from relevance_tools import Net, layer, near, randn

KINDS = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
    "projected": (nn.LSTM, {"proj_size": 2}),
}
DEEP = {"num_layers": 2, "bidirectional": True, "dropout": 0.5}
FORMS = {"plain": {}, "no bias": {"bias": False}, "both ways": {"bidirectional": True}, "deep": DEEP}
EVERY = tuple(composites())
AT_ONCE = ("lrp-0", "lrp-epsilon", "cp-lrp", "decompx", "attnlrp", "reslrp", "gradient", "input-x-gradient")
X = randn(3, 5, 4, seed=1)
LENGTHS = (2, 5, 3)


def fused(kind, **options):
    """A double network over [batch, time, 4] whose weights are of the size that training gives."""
    make, more = KINDS[kind]
    module = layer(lambda: make(4, 6, **{"batch_first": True, **more, **options}))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5)
    return module


def begun(module, seed=5):
    """An initial state of three rows."""
    count = module.num_layers * (1 + module.bidirectional)
    hidden = randn(count, 3, module.proj_size or 6, seed=seed)
    return (hidden, randn(count, 3, 6, seed=seed + 1)) if module.mode == "LSTM" else hidden


class Said(nn.Module):
    """All that a recurrent network gives, output and states, in one row [batch, number]."""

    def __init__(self, rnn, initial=None):
        super().__init__()
        self.rnn, self.initial = rnn, initial

    def forward(self, x):
        output, final = self.rnn(x, self.initial)
        return in_rows(output, final)


def in_rows(output, final):
    final = final if isinstance(final, tuple) else (final,)
    return torch.cat([output.flatten(1), *(each.transpose(0, 1).flatten(1) for each in final)], 1)


def carried(network, x, rules, **options):
    """Relevance of the input from one random start, the same for networks of the same output."""
    with torch.no_grad():
        said = network(x)
        # No coefficient R / z can begin where a relu gave 0.
        start = randn(*said.shape, seed=9) * (said != 0)
    return trace(network, x, composite=rules, start=start, keep=(), **options)


def by(rules):
    return scan_of(composite(rules), Place("", nn.Identity()), lambda: None)


# The forward pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_the_value_is_that_of_the_fused_operation(kind, form):
    module = fused(kind, **FORMS[form])
    initial = begun(module)
    options = (module.bias, module.num_layers, module.dropout, False, module.bidirectional)
    function = recurrent()[module.mode.lower()]
    packed = rows.pack_padded_sequence(X, LENGTHS, batch_first=True, enforce_sorted=False)
    order = packed.sorted_indices
    sorted_initial = tuple(each[:, order] for each in initial) if isinstance(initial, tuple) else initial[:, order]
    with torch.no_grad():
        expected = (
            module(X, initial),
            getattr(torch, module.mode.lower())(
                packed.data, packed.batch_sizes, sorted_initial, module._flat_weights, *options
            ),
        )
        for rules in ("backtrace", "attnlrp", "gradient"):
            scan = by(rules)
            assert (scan is unrolled) == (rules == "backtrace")
            output, *final = function(X, initial, module._flat_weights, *options, True, scan=scan)
            near(in_rows(output, tuple(final)), in_rows(*expected[0]), 1e-12)
            found = function(packed.data, packed.batch_sizes, sorted_initial, module._flat_weights, *options, scan=scan)
            for one, other in zip(found, expected[1], strict=True):
                near(one, other, 1e-12)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_as_exact_as_the_fused_operation(kind):
    module, x = fused(kind, **FORMS["both ways"]).float(), X.float()
    with torch.no_grad():
        expected = Said(module)(x)
    for rules in ("lrp-gamma", "attnlrp"):
        found = trace(Said(module), x, [Logit(place) for place in (0, 3, 17)], composite=rules, keep=()).seeded
        torch.testing.assert_close(found.float(), expected.sum(0)[[0, 3, 17]], rtol=2e-6, atol=1e-6)


# The same network written out


@pytest.mark.parametrize("rules", EVERY)
@pytest.mark.parametrize("kind", KINDS)
def test_relevance_is_that_of_the_network_written_out(kind, rules):
    module = fused(kind, **(DEEP if rules in AT_ONCE else FORMS["both ways"]))
    initial = begun(module)
    found = carried(Said(module, initial), X[:, :4], rules)
    expected = carried(
        Said(Plain(module), (initial,) if isinstance(initial, torch.Tensor) else initial), X[:, :4], rules
    )
    assert found.input.any()
    near(found.input, expected.input)
    near(found.seeded, expected.seeded)


@pytest.mark.parametrize("rules", ["attnlrp", "lrp-gamma", "backtrace-contrast", "input-x-gradient"])
@pytest.mark.parametrize("kind", KINDS)
def test_time_first_and_unbatched(kind, rules):
    module = fused(kind, bidirectional=True)
    expected = carried(Net(lambda x: module(x)[0]), X[:1], rules).input[0]
    near(carried(Net(lambda x: module(x[None])[0]), X[0], rules).input, expected)
    near(carried(Net(lambda x: module(x)[0][None]), X[0], rules).input, expected)
    first = copy.deepcopy(module)
    first.batch_first = False
    near(carried(Net(lambda x: first(x.unsqueeze(1))[0].transpose(0, 1)), X[0], rules).input, expected)


@pytest.mark.parametrize("rules", ["cp-lrp", "reslrp", "lrp-gamma", "backtrace-contrast", "gradient"])
@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_cell_is_a_network_of_one_layer(make, rules):
    whole = {nn.LSTMCell: "lstm", nn.GRUCell: "gru", nn.RNNCell: "rnn_tanh"}[make]
    module = fused(whole)
    cell = layer(lambda: make(4, 6))
    cell.load_state_dict({name.removesuffix("_l0"): each for name, each in module.state_dict().items()})

    def stepped(x):
        state, outputs = None, []
        for each in x.unbind(1):
            state = cell(each, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)

    near(carried(Net(stepped), X, rules).input, carried(Net(lambda x: module(x)[0]), X, rules).input)


def test_a_cell_without_biases():
    cell = layer(lambda: nn.LSTMCell(4, 6, bias=False))
    with torch.no_grad():
        expected = cell(X[:, 0])[1]
    found = trace(Net(lambda x: cell(x)[1]), X[:, 0], Logit(2), composite="attnlrp")
    near(torch.as_tensor(found.seeded), expected[:, 2].sum())
    near(torch.as_tensor(found.arrived), torch.as_tensor(found.seeded), 1e-4)


@pytest.mark.parametrize("rules", ["gradient", "input-x-gradient"])
@pytest.mark.parametrize("kind", KINDS)
def test_first_order_is_autograd(kind, rules):
    module = fused(kind, **DEEP)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Said(module)(x)[:, 3].sum(), x)
    expected = slope if rules == "gradient" else slope * X
    near(trace(Said(module), X, Logit(3), composite=rules).input, expected)


@pytest.mark.parametrize("rules", ["attnlrp", "backtrace", "input-x-gradient"])
def test_a_traced_initial_state_receives_its_part(rules):
    module = fused("lstm", **DEEP)
    plain, inputs = Plain(module), (X, *begun(module))
    one = trace(Net(lambda x, h, c: in_rows(*module(x, (h, c)))), inputs, Logit(3), composite=rules)
    other = trace(Net(lambda x, h, c: in_rows(*plain(x, (h, c)))), inputs, Logit(3), composite=rules)
    for found, expected in zip(one.input, other.input, strict=True):
        assert found.any()
        near(found, expected)


# A cell by hand


@pytest.mark.parametrize("rules", ["attnlrp", "lrp-epsilon", "backtrace"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_redistribution_by_hand(kind, rules):
    module = fused(kind)
    weights = [each.tolist() for each in module._flat_weights]
    hand = Hand(kind, *weights, "backtrace" if rules == "backtrace" else "epsilon")
    with torch.no_grad():
        said = module(X[:1])[0]
    start = randn(*said.shape, seed=9)
    found = trace(Net(lambda x: module(x)[0]), X[:1], composite=rules, start=start).input[0]
    expected = torch.tensor(hand.relevance(X[0].tolist(), start[0].tolist()), dtype=torch.float64)
    near(found, expected)


def test_saturation_looks_at_what_an_activation_is_applied_to():
    # There it is a sum, and neither of its two linear parts.
    module = fused("lstm")
    for parameter in module.parameters():
        parameter.data.mul_(8)
    off = composite("backtrace").with_rule(Kind.LINEAR, BacktraceLinear(saturation=False))
    near(carried(Said(module), X, "backtrace").input, carried(Said(module), X, off).input, 1e-12)


def test_gates_that_are_no_constants_are_followed():
    module = fused("lstm")
    rules = composite("attnlrp").with_rule(Kind.GATE, Ratio())
    assert scan_of(rules, Place("", module), lambda: None) is unrolled
    found = carried(Said(module), X, rules).input
    near(found, carried(Said(Plain(module)), X, rules).input)
    assert not torch.allclose(found, carried(Said(module), X, "attnlrp").input)


@pytest.mark.parametrize("rules", AT_ONCE)
def test_a_layer_at_once_is_a_layer_step_by_step(rules):
    # An account looks at every step.
    for kind in KINDS:
        network = Said(fused(kind))
        near(carried(network, X, rules).input, carried(network, X, rules, account=rules != "gradient").input, 1e-12)


# Conservation


@pytest.mark.parametrize("rules", ["attnlrp", "lrp-gamma", "backtrace", "backtrace-contrast"])
@pytest.mark.parametrize("kind", ["lstm", "rnn_tanh", "projected"])
def test_without_bias_everything_arrives(kind, rules):
    module = fused(kind, bias=False)
    found = carried(Said(module), X, rules, account=True)
    near(torch.as_tensor(found.arrived), torch.as_tensor(found.seeded), 1e-4)
    account = found.account()
    assert abs(account.leaked) <= 1e-6 * max(1.0, abs(account.seeded))


def test_biases_absorb_the_rest():
    for rules in ("attnlrp", "backtrace"):
        account = carried(Said(fused("gru", **DEEP)), X, rules).account()
        assert abs(account.leaked) <= 1e-6 * max(1.0, abs(account.seeded))
        assert abs(account.seeded - account.absorbed - account.arrived) <= 1e-4 * abs(account.seeded)


# Sequences of several lengths


class Packed(nn.Module):
    """Rows of several lengths, as a user packs them, to logits."""

    def __init__(self, rnn, sort=True):
        super().__init__()
        self.rnn, self.sort = rnn, sort
        self.head = layer(lambda: nn.Linear((rnn.proj_size or 6) * (1 + rnn.bidirectional), 3), 4)

    def forward(self, x, lengths=LENGTHS):
        first = self.rnn.batch_first
        x = x if first else x.transpose(0, 1)
        packed = rows.pack_padded_sequence(x, list(lengths), batch_first=first, enforce_sorted=self.sort)
        output, _ = rows.pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=6)
        return self.head(output.sum(1))


@pytest.mark.parametrize("rules", EVERY)
@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_row_is_the_row_alone_and_padding_gets_nothing(kind, rules):
    form = DEEP if rules in AT_ONCE else FORMS["both ways"]
    network = Packed(fused(kind, **form, batch_first=rules != "attnlrp"), sort=False)
    found = trace(network, X, Logit(1), composite=rules, keep=()).input
    for row, length in enumerate(LENGTHS):
        assert not found[row, length:].any()
    alone = trace(Net(lambda x: network(x, (3,))), X[2:, :3], Logit(1), composite=rules, keep=()).input
    near(found[2, :3], alone[0])


def test_sorted_rows_a_list_of_sequences_and_the_states_at_the_end():
    module = fused("lstm", **DEEP)
    lengths = sorted(LENGTHS, reverse=True)

    def listed(x):
        packed = rows.pack_sequence([each[:n] for each, n in zip(x, lengths, strict=True)])
        return torch.cat([each[-1] for each in module(packed)[1]], -1)

    def padded(x):
        packed = rows.pack_padded_sequence(x, lengths, batch_first=True)
        return torch.cat([each[-1] for each in module(packed)[1]], -1)

    for rules in ("attnlrp", "backtrace"):
        near(carried(Net(listed), X, rules).input, carried(Net(padded), X, rules).input)
        alone = carried(Net(lambda x: torch.cat([each[-1] for each in module(x)[1]], -1)), X[:1], rules).input
        found = trace(Net(padded), X, composite=rules, start=one_row(padded, X)).input
        near(found[:1], alone)
        assert not found[1:].any()


def one_row(f, x):
    with torch.no_grad():
        start = torch.zeros_like(f(x))
        start[:1] = randn(1, start.shape[1], seed=9)
    return start


# What a trace offers


def test_several_targets_modules_that_are_kept_and_an_untouched_network():
    network = Packed(fused("lstm", **DEEP), sort=False)
    before = {name: each.clone() for name, each in network.state_dict().items()}
    flat = list(network.rnn._flat_weights)
    for rules in ("attnlrp", "backtrace"):
        targets = [Logit(0), Margin(2), Logit(1)]
        found = trace(network, X, targets, composite=rules, keep="rnn")
        for place, target in enumerate(targets):
            alone = trace(network, X, target, composite=rules, keep="rnn")
            near(found.input[place], alone.input)
            # The packed rows, and the states, which nobody uses.
            near(found["rnn"][0][place], alone["rnn"][0])
    assert found["rnn"][0].shape == (3, sum(LENGTHS), 12)
    network.rnn.flatten_parameters()
    assert all(one is other for one, other in zip(flat, network.rnn._flat_weights, strict=True))
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    assert all(each.requires_grad and each.grad is None for each in network.parameters())


def test_what_is_kept_of_a_network_holds_the_relevance_that_came_to_it():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = fused("lstm"), layer(lambda: nn.Linear(6, 3, bias=False))

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    found = trace(Classifier(), X, Logit(1), composite="attnlrp", keep="lstm")
    said = found["lstm"][0]
    assert said.shape == (3, 5, 6)
    assert not said[:, :-1].any()
    near(said.sum(), torch.as_tensor(found.seeded), 1e-4)


def test_dropout_in_training_is_refused():
    module = fused("lstm", num_layers=2, dropout=0.5).train()
    for rules in ("attnlrp", "backtrace", "gradient"):
        with pytest.raises(InputError, match=r"dropout at 'rnn' is in training mode"):
            trace(Said(module), X, Logit(1), composite=rules)
    near(carried(Said(module.eval()), X, "attnlrp").input, carried(Said(Plain(module)), X, "attnlrp").input)
    # Of one layer, and without dropout, training changes nothing.
    calm = fused("lstm", num_layers=2).train()
    near(carried(Said(calm), X, "attnlrp").input, carried(Said(copy.deepcopy(calm).eval()), X, "attnlrp").input)


def test_long_sequences_cost_in_proportion(monkeypatch):
    # Whether a sum is a residual is asked at every step, and must not lead back through all the steps before.
    lines = []
    search = calls._descends

    def counted(edge, ancestor):
        lines.append(0)
        sys.settrace(watch)
        try:
            return search(edge, ancestor)
        finally:
            sys.settrace(None)

    def watch(frame, event, _):
        lines[-1] += event == "line"
        return watch if frame.f_code is search.__code__ else None

    monkeypatch.setattr(calls, "_descends", counted)
    # An account is kept step by step, and this composite asks.
    carried(Said(fused("lstm")), randn(1, 40, 4), "reslrp", account=True)
    assert lines
    assert max(lines) < 60
