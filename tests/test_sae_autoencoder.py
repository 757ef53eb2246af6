"""The autoencoder itself against its formulas; sites of a network: read, edited, stopped at, named wrongly."""

import pytest
import torch
from tests import tiny

from pellucid import sae
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.sae import Site, capture, edited


def made(architecture="matryoshka", normalisation="none", d_in=8, width=32, **changes):
    generator = torch.Generator().manual_seed(3)
    config = sae.Config(d_in=d_in, width=width, k=4, architecture=architecture, normalisation=normalisation, **changes)
    weights = {
        "W_enc": torch.randn(width, d_in, generator=generator), "b_enc": torch.randn(width, generator=generator),
        "W_dec": torch.randn(width, d_in, generator=generator), "b_dec": torch.randn(d_in, generator=generator),
        "threshold": torch.rand(width, generator=generator) if architecture == "jumprelu" else torch.tensor(0.7),
    }  # fmt: skip
    return sae.SAE(config, weights)


def x_of(*size):
    return torch.randn(*size, generator=torch.Generator().manual_seed(5)) * 2


@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "matryoshka", "jumprelu"])
def test_encoding_is_the_formula(architecture, subtract):
    model, x = made(architecture, subtract_decoder_bias=subtract), x_of(7, 8)
    a = (x - model.b_dec * subtract) @ model.W_enc.T + model.b_enc
    z = model.encode(x)
    for row, found in zip(a, z, strict=True):
        if architecture == "topk":
            kept = {int(i) for i in row.sort(descending=True).indices[:4] if row[i] > 0}
        else:
            limits = model.threshold.expand(32)
            kept = {i for i in range(32) if row[i] > limits[i]}
        assert {int(i) for i in found.nonzero()} == kept
        for i in kept:
            assert float(found[i]) == pytest.approx(float(row[i]))
    torch.testing.assert_close(model.decode(z), z @ model.W_dec + model.b_dec)


@pytest.mark.parametrize("architecture", ["topk", "matryoshka", "jumprelu"])
def test_codes_are_the_dense_latents(architecture, monkeypatch):
    monkeypatch.setattr("pellucid.sae.autoencoder.CHUNK_NUMBERS", 3 * 32)
    model, x = made(architecture), x_of(11, 8)
    codes = model.codes(x)
    torch.testing.assert_close(codes.dense(), model.encode(x))
    assert torch.equal(codes.tokens, codes.tokens.sort().values)
    torch.testing.assert_close(model.decode_codes(codes), model.decode(model.encode(x)))
    torch.testing.assert_close(model(x.view(1, 11, 8)), model.decode(model.encode(x)).view(1, 11, 8))
    assert model.codes(x[:0]).token_count == 0
    assert model(x[:0]).shape == (0, 8)


def test_a_token_without_an_active_latent_is_the_bias():
    model = made()
    model.threshold.fill_(1e9)
    torch.testing.assert_close(model(x_of(3, 8)), model.b_dec.expand(3, 8))


def test_normalisation_of_each_token_is_undone():
    for mode in ("layer-norm", "token-norm"):
        model, x = made("topk", mode, width=4096), x_of(5, 8)
        assert model.config.normalisation == mode
        z = model.encode(x)
        # What is encoded does not depend on a token's scale, and what is decoded has it.
        torch.testing.assert_close(model.encode(100 * x), z, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(model(100 * x), 100 * model(x), rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(model(x), model.decode(z, like=x))
        with pytest.raises(InputError, match=r"decode\(z, like=x\)"):
            model.decode(z)


def test_another_width_is_named():
    with pytest.raises(InputError, match="have 9 dimensions and this autoencoder was made for 8"):
        made().encode(x_of(2, 9))
    with pytest.raises(InputError, match="W_enc of the autoencoder has NaN"):
        sae.SAE(made().config, dict(made().named_buffers()) | {"W_enc": torch.full((32, 8), torch.nan)})
    with pytest.raises(InputError, match=r"the threshold is one number or 32, not of shape \[3\]"):
        sae.SAE(made().config, dict(made().named_buffers()) | {"threshold": torch.zeros(3)})


def test_sites_are_read_in_one_pass_that_ends_at_the_last():
    module, _ = tiny.decoder("llama")
    ids, ran = torch.arange(6)[None] + 10, []
    module.model.layers[1].register_forward_hook(lambda *_: ran.append(1))
    before = [dict(part._forward_hooks | part._forward_pre_hooks) for part in module.modules()]
    sites = [Site.of("model.layers.0"), Site.of("model.layers.0:input"), Site.of("model.embed_tokens")]
    with torch.no_grad():
        found = capture(module, sites, lambda: module(ids))
        assert [dict(part._forward_hooks | part._forward_pre_hooks) for part in module.modules()] == before
        states = module(ids, output_hidden_states=True).hidden_states
    assert len(ran) == 1
    torch.testing.assert_close(found[sites[0]], states[1])
    torch.testing.assert_close(found[sites[1]], states[0])
    torch.testing.assert_close(found[sites[2]], states[0])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_edited_site_is_what_the_rest_reads(family):
    module, _ = tiny.decoder(family)
    block = "transformer.h.0" if family == "gpt2" else "model.layers.0"
    ids = torch.arange(6)[None] + 10
    with torch.no_grad():
        plain = module(ids).logits
        for site in (Site.of(block), Site.of(f"{block}:input"), Site.of(f"{block}.mlp")):
            with edited(module, site, lambda h: h):
                assert torch.equal(module(ids).logits, plain)
            with edited(module, site, torch.zeros_like):
                assert not torch.allclose(module(ids).logits, plain)
        with edited(module, Site.of(block), torch.zeros_like):
            # Nothing of the input is left.
            assert torch.allclose(module(ids).logits, module(ids.flip(1)).logits) or family == "gpt2"
        assert torch.equal(module(ids).logits, plain)


def test_hooks_are_removed_after_an_error():
    module, _ = tiny.decoder("llama")

    def fail(h):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), edited(module, Site.of("model.layers.0"), fail):
        module(torch.arange(6)[None])
    assert not module.model.layers[0]._forward_hooks


def test_a_site_that_is_not_there_is_named():
    module, _ = tiny.decoder("llama")
    with pytest.raises(
        UnknownNameError, match=r"no module of the network is called 'model.layer.1'; did you mean 'mod"
    ):
        capture(module, [Site.of("model.layer.1")], lambda: None)
    with pytest.raises(ModelError, match=r"the model ran without 'model.layers.1'"):
        capture(module, [Site.of("model.layers.1")], lambda: module.model.layers[0])
    for text in ("", "model.norm:inside"):
        with pytest.raises(InputError, match="a site is the name of a module"):
            Site.of(text)
    assert str(Site.of("model.norm:input")) == "model.norm:input"
    assert str(Site.of("model.norm:output")) == "model.norm"


def test_a_site_is_what_passed_there_though_a_later_module_works_in_place():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 4))
    x = x_of(3, 4)
    with torch.no_grad():
        found = capture(net, [Site.of("0"), Site.of("2")], lambda: net(x))
        torch.testing.assert_close(found[Site.of("0")], net[0](x))
