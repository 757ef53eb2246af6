"""Every gradient of a training step against autograd over dense matrices; selection, thresholds, the dead, state."""

import itertools

import pytest
import torch
from tests.oracles.sae_training import dense_loss, jump_loss

from pellucid import sae
from pellucid.errors import InputError, ModelError, NumericalError
from pellucid.sae import trainer as training
from pellucid.sae.step import selection, sparse
from pellucid.sae.step.selection import Encoder

D_IN, WIDTH, TOKENS = 24, 96, 200
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")


def config_of(**changes):
    """A small configuration whose first step is easy to compare."""
    return sae.Config(
        **dict(d_in=D_IN, width=WIDTH, k=5, normalisation="none", clip=None, lr=1e-3, dead_after=1000) | changes
    )


def weights_of(unit=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = {
        "W_enc": torch.randn(WIDTH, D_IN, generator=generator),
        "b_enc": torch.randn(WIDTH, generator=generator) * 0.3,
        "W_dec": torch.randn(WIDTH, D_IN, generator=generator),
        "b_dec": torch.randn(D_IN, generator=generator),
    }
    if unit:
        found["W_dec"] /= found["W_dec"].norm(dim=1, keepdim=True)
    return found


def batch(seed=1, tokens=TOKENS):
    return torch.randn(tokens, D_IN, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def learned(trainer, x):
    """A step and the gradients that Adam was given."""
    kept = {}
    move = trainer._adam.step

    def keep():
        kept["all"] = [each.grad.clone() for group in trainer._adam.param_groups for each in group["params"]]
        return move()

    trainer._adam.step = keep
    record = trainer.step(x)
    trainer._adam.step = move
    return record, kept["all"]


@pytest.mark.parametrize(
    ("architecture", "decoder", "subtract", "reduction", "aux"),
    list(
        itertools.product(
            ("topk", "batchtopk", "matryoshka"),
            ("unit", "free"),
            (True, False),
            ("sum", "mean"),
            ("residual-variance", "dead-share"),
        )
    ),
)
def test_gradients_are_those_of_autograd(architecture, decoder, subtract, reduction, aux):
    config = config_of(
        architecture=architecture,
        decoder=decoder,
        subtract_decoder_bias=subtract,
        reduction=reduction,
        aux_scale=aux,
        aux_relu=aux == "residual-variance",
        aux_weight=0.1,
        aux_k=8,
        bias_weight=0.3,
    )
    weights, x = weights_of(decoder == "unit"), batch()
    trainer = sae.Trainer(config, weights)
    trainer.silent[::5] = 10_000
    record, found = learned(trainer, x)
    assert 0 < record.dead < WIDTH / 4
    own = [weights[name].clone().requires_grad_() for name in NAMES]
    loss, z = dense_loss(config, own, x, trainer.dead)
    loss.backward()
    expected = [each.grad for each in own]
    if decoder == "unit":
        along = (expected[2] * weights["W_dec"]).sum(1, keepdim=True)
        expected[2] = expected[2] - along * weights["W_dec"]
    assert record.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert record.l0 == pytest.approx(float((z > 0).sum() / TOKENS))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("sparsity", ["target", "count"])
def test_jumprelu_gradients_are_the_straight_through_ones(sparsity):
    config = config_of(architecture="jumprelu", bandwidth=0.5, threshold_init=0.8, sparsity=sparsity, l0_weight=0.2)
    weights, x = weights_of(), batch()
    trainer = sae.Trainer(config, weights)
    record, found = learned(trainer, x)
    own = [weights[name].clone().requires_grad_() for name in NAMES]
    thresholds = torch.full((WIDTH,), 0.8).log().requires_grad_()
    loss = jump_loss(config, own, thresholds, x)
    loss.backward()
    expected = [each.grad for each in (*own, thresholds)]
    expected[2] = expected[2] - (expected[2] * weights["W_dec"]).sum(1, keepdim=True) * weights["W_dec"]
    assert record.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
    assert float(expected[4].abs().max()) > 0


def test_adam_clipping_and_unit_rows_are_those_of_torch():
    config = config_of(architecture="batchtopk", clip=0.5, warmup=3, steps=10, dead_after=10**7)
    weights = weights_of()
    trainer = sae.Trainer(config, weights)
    own = [torch.nn.Parameter(weights[name].clone()) for name in NAMES]
    adam = torch.optim.Adam(own, lr=config.lr)
    for step in range(6):
        x = batch(step)
        record = trainer.step(x)
        loss, _ = dense_loss(config, own, x, [])
        assert record.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            own[2].grad -= (own[2].grad * own[2]).sum(1, keepdim=True) * own[2]
        norm = torch.nn.utils.clip_grad_norm_(own, 0.5)
        assert record.gradient == pytest.approx(float(norm), rel=1e-4)
        adam.param_groups[0]["lr"] = record.lr
        adam.step()
        with torch.no_grad():
            own[2] /= own[2].norm(dim=1, keepdim=True)
    for mine, theirs in zip(trainer.weights, own, strict=True):
        torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-4, atol=2e-6)


def test_learning_rate_rises_stays_and_falls():
    config = config_of(warmup=4, steps=20, decay=0.25)
    rates = [training.rate(config, step) for step in range(20)]
    assert rates[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert rates[15] == 1
    assert rates[16:] == pytest.approx([0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("width", [96, 90])
def test_batch_selection_is_exact(width):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(700, 16, generator=generator), torch.randn(width, 16, generator=generator)
    bias = torch.randn(width, generator=generator)
    # The first chunk, from which the cutoff comes, is far larger than the rest: the cutoff is too high.
    x[:512] *= 10
    codes = selection.largest_of_all(Encoder(x, weight, bias, False), 20_000)
    a = (x @ weight.T + bias).relu()
    top = a.flatten().topk(20_000)
    expected = torch.zeros_like(a.flatten()).scatter(0, top.indices, top.values).view_as(a)
    torch.testing.assert_close(codes.dense(), expected, rtol=1e-5, atol=1e-5)
    assert len(codes.values) == 20_000


@pytest.mark.parametrize("coarse", [False, True])
def test_selection_by_token_is_exact(coarse):
    generator = torch.Generator().manual_seed(0)
    # Wide enough to look at blocks first; some rows have fewer than k positive values, and some values are equal.
    x, weight = torch.randn(600, 16, generator=generator), torch.randn(1024, 16, generator=generator)
    weight[500:520] = weight[480:500]
    bias = torch.zeros(1024)
    x[7] = 0
    codes = selection.largest_of_each(Encoder(x, weight, bias, coarse), 5)
    a = (x @ weight.T).relu()
    top = a.topk(5)
    found = codes.dense()
    torch.testing.assert_close(found.topk(5).values, top.values, rtol=1e-5, atol=1e-5)
    assert torch.equal((found > 0).sum(1), (top.values > 0).sum(1))
    assert torch.allclose(found[found > 0], a[found > 0])


def test_no_more_is_selected_than_is_positive():
    x, weight = torch.ones(4, 8), -torch.ones(64, 8)
    for codes in (
        selection.largest_of_all(Encoder(x, weight, torch.zeros(64), False), 32),
        selection.largest_of_each(Encoder(x, weight, torch.zeros(64), False), 8),
    ):
        assert len(codes.values) == 0
        assert codes.dense().shape == (4, 64)


def able_to_select_in_bfloat16():
    try:
        training.check_selection("bfloat16", torch.device("cpu"))
    except ModelError:
        return False
    return True


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "matryoshka"])
def test_bfloat16_selection_gives_the_loss_of_float32(architecture, monkeypatch):
    if not able_to_select_in_bfloat16():
        # What it computes does not depend on the hardware, only its speed does.
        monkeypatch.setattr(training, "check_selection", lambda *_: None)
    losses = []
    for kind in ("float32", "bfloat16"):
        trainer = sae.Trainer(config_of(architecture=architecture, selection=kind), weights_of())
        losses.append([trainer.step(batch(step)).loss for step in range(5)])
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)


def test_products_without_a_kernel_are_the_same(monkeypatch):
    left, right = torch.randn(9, 8), torch.randn(30, 8)
    begin, latents = torch.tensor([0, 2, 2, 5, 6, 7, 8, 8, 9]), torch.randint(30, (11,))
    whole = sparse.products(left, right, begin, latents)
    ends = torch.cat([begin, torch.tensor([11])])
    rows = torch.repeat_interleave(torch.arange(9), ends.diff())
    torch.testing.assert_close(whole, (left[rows] * right[latents]).sum(1))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    monkeypatch.setattr(sparse, "_GATHERED_NUMBERS", 24)
    torch.testing.assert_close(sparse.products(left, right, begin, latents), whole)


def test_threshold_is_a_running_mean_of_the_smallest_kept():
    config = config_of(architecture="batchtopk", threshold_decay=0.9, threshold_start=1)
    trainer = sae.Trainer(config, weights_of())
    expected = None
    for step in range(4):
        own = [each.detach().clone() for each in trainer.weights]
        _, z = dense_loss(config, own, batch(step), [])
        smallest = float(z[z > 0].min())
        trainer.step(batch(step))
        if step >= 1:
            expected = smallest if expected is None else 0.9 * expected + 0.1 * smallest
            assert trainer.threshold == pytest.approx(expected, rel=1e-5)
        else:
            assert trainer.threshold == -1


def test_a_latent_dies_after_its_silence_and_is_brought_back():
    weights = weights_of()
    # Only the positive threshold of these latents keeps them silent.
    weights["b_enc"][:40] = -1000
    for weight, alive in ((0.0, False), (10.0, True)):
        config = config_of(architecture="topk", dead_after=3 * TOKENS, aux_weight=weight, lr=0.05, aux_relu=False)
        trainer = sae.Trainer(config, weights)
        dead = [trainer.step(batch(step)).dead for step in range(4)]
        assert dead[:2] == [0, 0]
        assert dead[2] >= 40
        before = trainer.weights.encoder[:40].clone()
        trainer.step(batch(9))
        moved = float((trainer.weights.encoder[:40] - before).abs().max()) > 0
        assert moved is alive


def test_scale_and_lengths_are_folded():
    weights = weights_of(unit=False)
    for architecture in ("topk", "batchtopk", "jumprelu"):
        config = config_of(
            architecture=architecture,
            decoder="free",
            normalisation="mean-square",
            threshold_init=0.2,
        )
        x = batch() * 50
        scale = training.scale_of(config, float(x.pow(2).sum(1).mean()), float(x.norm(dim=1).mean()))
        trainer = sae.Trainer(config, weights, scale=scale)
        for step in range(3):
            trainer.step(batch(step) * 50)
        model = trainer.export()
        torch.testing.assert_close(model.W_dec.norm(dim=1), torch.ones(WIDTH))
        # The same autoencoder by hand, in the units it was trained in.
        own = [each.detach() for each in trainer.weights]
        length = own[2].norm(dim=1)
        a = (x * scale - own[3]) @ own[0].T + own[1]
        if architecture != "jumprelu":
            a = a * length
        if architecture == "topk":
            z = torch.zeros_like(a).scatter(1, a.relu().topk(5).indices, a.relu().topk(5).values)
        else:
            z = a * (a > (trainer.log_threshold.exp() if architecture == "jumprelu" else trainer.threshold))
        rows = own[2] if architecture == "jumprelu" else own[2] / length[:, None]
        expected = (z @ rows + own[3]) / scale
        torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-2)
        assert model.config.normalisation == "none"


@pytest.mark.parametrize("architecture", ["topk", "matryoshka", "jumprelu"])
def test_training_goes_on_from_its_state_to_the_bit(architecture):
    config = config_of(architecture=architecture, dead_after=300, steps=12)
    whole = sae.Trainer(config)
    for step in range(8):
        last = whole.step(batch(step))
    half = sae.Trainer(config)
    for step in range(4):
        half.step(batch(step))
    again = sae.Trainer(config.model_copy(), {name: torch.zeros_like(v) for name, v in weights_of().items()})
    again.load_state_dict(half.state_dict())
    for step in range(4, 8):
        other = again.step(batch(step))
    assert other == last
    for name, value in whole.state_dict().items():
        mine = again.state_dict()[name]
        assert torch.equal(mine, value) if isinstance(value, torch.Tensor) else mine == value


def test_what_is_wrong_is_named():
    trainer = sae.Trainer(config_of(), weights_of())
    with pytest.raises(InputError, match=r"\[token, 24\] for this autoencoder, not \[4, 23\]"):
        trainer.step(torch.zeros(4, 23))
    x = batch()
    x[3, 2] = torch.nan
    before = [each.clone() for each in trainer.weights]
    with pytest.raises(NumericalError, match="step 1: 1 of the batch's 200 tokens"):
        trainer.step(x)
    assert all(torch.equal(one, two) for one, two in zip(before, trainer.weights, strict=True))
    with pytest.raises(InputError, match=r"W_dec has the shape \[24, 96\] and should have \[96, 24\]"):
        sae.Trainer(config_of(), weights_of() | {"W_dec": torch.zeros(24, 96)})
    with pytest.raises(InputError, match="the training state lacks log_threshold"):
        trainer.load_state_dict(weights_of())


def test_bfloat16_without_hardware_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with pytest.raises(ModelError, match="no bfloat16 products in hardware; use selection='float32'"):
        sae.Trainer(config_of(selection="bfloat16"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 97}, "k is 97 and the dictionary has only 96 latents"),
        ({"prefixes": (24, 48)}, "prefixes must rise and end at the width 96"),
        ({"prefixes": (48, 24, 96)}, "prefixes must rise"),
        ({"prefix_weights": (1.0,)}, "5 prefixes need as many weights, not 1"),
        ({"architecture": "topk", "prefixes": (48, 96)}, "topk has no prefixes"),
        ({"architecture": "gated"}, "no architecture of an autoencoder is called 'gated'"),
        ({"widht": 3}, "widht: there is no such setting"),
        ({"lr": -1.0}, "lr: Input should be greater than 0"),
    ],
)
def test_a_bad_configuration_is_one_sentence(changes, words):
    with pytest.raises(InputError, match=words):
        config_of(**changes)


def test_jumprelu_begins_at_its_sparsity_and_stays_there():
    truth = torch.randn(64, 32, generator=torch.Generator().manual_seed(99))
    truth /= truth.norm(dim=1, keepdim=True)

    def drawn(seed):
        generator = torch.Generator().manual_seed(1000 + seed)
        active = torch.rand(256, 64, generator=generator) < 3 / 64
        return (active * (1 + torch.rand(256, 64, generator=generator))) @ truth

    config = sae.Config(d_in=32, width=64, k=3, architecture="jumprelu", lr=3e-3, steps=300)
    trainer = sae.Trainer(config)
    found = [trainer.step(drawn(seed)) for seed in range(300)]
    assert found[0].l0 == pytest.approx(3, abs=0.01)
    assert 1.5 < found[-1].l0 < 5
    assert found[-1].fvu < 0.5 * found[0].fvu
    model = trainer.export()
    assert len(model.codes(drawn(500)).values) / 256 == pytest.approx(found[-1].l0, rel=0.2)


def test_a_threshold_is_there_before_its_mean_begins():
    trainer = sae.Trainer(config_of(architecture="batchtopk", threshold_start=1000), weights_of())
    assert trainer.export().threshold == 0
    record = trainer.step(batch())
    active = trainer.export().encode(batch(2)) > 0
    assert trainer.threshold == -1
    assert active.sum(1).double().mean() == pytest.approx(record.l0, rel=0.5)


def test_rows_that_are_not_of_length_one_are_projected_rightly():
    weights = weights_of()
    weights["W_dec"] *= 2
    trainer = sae.Trainer(config_of(architecture="topk"), weights)
    _, found = learned(trainer, batch())
    along = (found[2] * weights["W_dec"]).sum(1)
    assert float(along.abs().max()) < 1e-4 * float(found[2].norm(dim=1).max())
    torch.testing.assert_close(trainer.weights.decoder.norm(dim=1), torch.ones(WIDTH))


@pytest.mark.parametrize("given", [16.0, "16"])
def test_numbers_are_taken_in_any_form(given):
    config = sae.Config(d_in=given, width=given, k=2)
    assert config == sae.Config(d_in=16, width=16, k=2)
    assert config.aux_k == 8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prefixes": 4}, "prefixes: Input should be a valid tuple"),
        ({"betas": (2, 0.5)}, "betas.0: Input should be less than 1"),
        ({"prefix_weights": (float("nan"),) * 5}, "prefix_weights.0: Input should be a finite number"),
        ({"lr": float("inf")}, "lr: Input should be a finite number"),
        ({"seed": 2**70}, "seed: Input should be less than"),
    ],
)
def test_no_number_is_taken_that_cannot_be_meant(changes, words):
    with pytest.raises(InputError, match=words):
        config_of(**changes)


def test_a_state_from_the_beginning_forgets_what_came_after():
    fresh = sae.Trainer(config_of(), weights_of())
    state = fresh.state_dict()
    used = sae.Trainer(config_of(), weights_of())
    for step in range(3):
        used.step(batch(step))
    used.load_state_dict(state)
    assert [used.step(batch(step)) for step in range(3)] == [fresh.step(batch(step)) for step in range(3)]
    with pytest.raises(InputError, match="the training state lacks scale"):
        used.load_state_dict({name: value for name, value in state.items() if name != "scale"})
    with pytest.raises(InputError, match="not \\[0, 24\\]"):
        used.step(torch.zeros(0, D_IN))
