"""Relevance of every token of an answer that a language model gives, against each of them traced alone."""

import copy

import pytest
import torch
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration

import pellucid
import tiny
from pellucid.errors import InputError
from pellucid.relevance import answer, trace
from pellucid.targets import Generated, Logit, Token

TEXT = "the scan was clear"
HOW = {"greedy": {}, "sampled": {"temperature": 1.5, "seed": 3}, "searched": {"beams": 3}}


@pytest.fixture(scope="module")
def decoder():
    module, tokenizer = tiny.decoder("llama")
    module = copy.deepcopy(module).eval()
    module.generation_config.eos_token_id = None
    return module, tokenizer


@pytest.fixture(scope="module")
def both():
    """An encoder and a decoder."""
    config = BartConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32, pad_token_id=1,
        eos_token_id=2, forced_eos_token_id=None,
    )  # fmt: skip
    module = tiny.randomised(lambda: BartForConditionalGeneration(config))
    module.generation_config.eos_token_id = None
    return module.eval()


@pytest.mark.parametrize("composite", ["attnlrp", "input-x-gradient", "lrp-gamma", "backtrace-contrast"])
@pytest.mark.parametrize("how", HOW)
def test_every_token_of_an_answer_as_if_traced_alone(decoder, composite, how):
    module, tokenizer = decoder
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    found = trace(
        module, ids, composite=composite, generated=Generated(max_new_tokens=4, **HOW[how]), keep="model.layers.0"
    )
    assert len(found.answer) == 4
    assert found.input.shape == (4, 1, ids.shape[1] + 3)
    for place, token in enumerate(found.answer):
        forced = torch.cat([ids, torch.tensor([found.answer[:place]], dtype=torch.long)], 1)
        alone = trace(module, forced, Token(token), composite=composite, keep="model.layers.0")
        torch.testing.assert_close(found.input[place, :, : forced.shape[1]], alone.input, rtol=1e-3, atol=1e-5)
        assert not found.input[place, :, forced.shape[1] :].any()
        torch.testing.assert_close(
            found["model.layers.0"][place, :, : forced.shape[1]], alone["model.layers.0"], rtol=1e-3, atol=1e-5
        )
        torch.testing.assert_close(found.seeded[place], alone.seeded, rtol=1e-3, atol=1e-5)


def test_the_answer_is_that_of_generate_and_of_the_model(decoder):
    module, tokenizer = decoder
    ids = tokenizer(TEXT, return_tensors="pt")
    expected = module.generate(**ids, max_new_tokens=5, do_sample=False, pad_token_id=0)[0, ids["input_ids"].shape[1] :]
    found = trace(module, dict(ids), generated=Generated(max_new_tokens=5))
    assert found.answer == tuple(expected.tolist())
    assert found.input["attention_mask"].shape == (5, 1, ids["input_ids"].shape[1] + 4)
    assert trace(module, ids["input_ids"], generated=True).answer[:5] == found.answer


def test_the_same_as_the_explanation_of_the_model(decoder):
    module, tokenizer = decoder
    model = pellucid.load((module, tokenizer), chat=False)
    explained = pellucid.explain(model, TEXT, method="attnlrp", target=Generated(max_new_tokens=4), features="token")
    ids = torch.tensor([model.encode(TEXT).row.ids])
    found = trace(module, ids, composite="attnlrp", generated=Generated(max_new_tokens=4)).input[:, 0, : ids.shape[1]]
    places = [feature.index for feature in explained.features]
    torch.testing.assert_close(torch.tensor(explained.values), found[:, places], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("composite", ["attnlrp", "backtrace-contrast"])
def test_in_parts_as_at_once(decoder, composite, monkeypatch):
    module, tokenizer = decoder
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    how = Generated(max_new_tokens=5)
    whole = trace(module, ids, composite=composite, generated=how, keep="*")
    monkeypatch.setattr(answer, "NUMBERS_AT_ONCE", 1)
    parts = trace(module, ids, composite=composite, generated=how, keep="*")
    torch.testing.assert_close(parts.input, whole.input)
    torch.testing.assert_close(parts["model.layers.1"], whole["model.layers.1"])
    torch.testing.assert_close(parts.seeded, whole.seeded)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_a_method_goes_back_for_as_many_targets_at_once_as_it_is_told(decoder, at_once):
    module, tokenizer = decoder
    model = pellucid.load((module, tokenizer), chat=False)
    how = Generated(max_new_tokens=5)
    explained = [
        pellucid.explain(model, TEXT, method="attnlrp", target=how, **more) for more in ({}, {"at_once": at_once})
    ]
    assert explained[0].cost.backwards == explained[1].cost.backwards == 5
    torch.testing.assert_close(*(torch.tensor(each.values) for each in explained))
    torch.testing.assert_close(*(torch.tensor(each.layer_values) for each in explained))


def test_an_encoder_and_a_decoder(both):
    ids = torch.randint(3, 60, (1, 7), generator=torch.Generator().manual_seed(0))
    found = trace(both, {"input_ids": ids}, composite="attnlrp", generated=Generated(max_new_tokens=3))
    assert found.input["input_ids"].shape == (3, 1, 7)
    assert found.input["decoder_input_ids"].shape == (3, 1, 3)
    start = torch.tensor([[both.config.decoder_start_token_id, *found.answer[:2]]])
    alone = trace(both, {"input_ids": ids, "decoder_input_ids": start}, Token(found.answer[2]), composite="attnlrp")
    for name, relevance in alone.input.items():
        torch.testing.assert_close(found.input[name][2], relevance, rtol=1e-3, atol=1e-5)


def test_the_account_of_an_answer_is_that_of_all_its_tokens(decoder):
    module, tokenizer = decoder
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    found = trace(module, ids, composite="attnlrp", generated=Generated(max_new_tokens=3))
    account = found.account()
    assert account.seeded == pytest.approx(float(found.seeded.sum()), rel=1e-5)
    assert account.arrived + account.absorbed == pytest.approx(account.seeded, abs=1e-4)


def test_what_cannot_be_answered_is_refused(decoder):
    module, tokenizer = decoder
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    refused = [
        (module, ids, {"generated": True, "target": Logit(1)}, "leave target and start out"),
        (module, ids, {"generated": True, "start": "one"}, "leave target and start out"),
        (module, ids.expand(2, -1), {"generated": True}, r"input_ids has shape \[2, .*trace each row"),
        (module, ids.float(), {"generated": True}, "give token ids"),
        (module, {"inputs_embeds": torch.randn(1, 3, 16)}, {"generated": True}, "give token ids"),
        (nn.Linear(3, 2), ids, {"generated": True}, "Linear generates nothing"),
        (module, ids[:, :0], {"generated": True}, r"input_ids has shape \[1, 0\]"),
        (module, ids, {"generated": Generated(token_ids=(3, 10**6))}, "are not all tokens of this network"),
        (module, {"input_ids": ids, "labels": ids}, {"generated": True}, "leave labels out"),
        (module, {"input_ids": ids, "token_type_ids": ids}, {"generated": True}, "leave token_type_ids out"),
        (module, {"input_ids": ids, "position_ids": ids}, {"generated": True}, "leave position_ids out"),
    ]
    for network, x, more, says in refused:
        with pytest.raises(InputError, match=says):
            trace(network, x, **more)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_padded_prompt_is_explained_at_the_positions_it_was_answered_at(family):
    module, tokenizer = tiny.decoder(family)
    module = copy.deepcopy(module).eval()
    module.generation_config.eos_token_id = None
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    padded = torch.cat([ids.new_zeros(1, 3), ids], 1)
    mask = torch.cat([ids.new_zeros(1, 3), torch.ones_like(ids)], 1)
    how = Generated(max_new_tokens=4)
    plain = trace(module, ids, composite="attnlrp", generated=how)
    found = trace(module, {"input_ids": padded, "attention_mask": mask}, composite="attnlrp", generated=how)
    assert found.answer == plain.answer
    torch.testing.assert_close(found.input["input_ids"][:, :, 3:], plain.input, rtol=1e-3, atol=1e-5)
    assert not found.input["input_ids"][:, :, :3].any()


def test_what_a_network_is_set_to_return_does_not_matter(decoder):
    module, tokenizer = decoder
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    expected = trace(module, ids, generated=Generated(max_new_tokens=3))
    asked = copy.deepcopy(module)
    asked.generation_config.return_dict_in_generate = True
    found = trace(asked, ids, generated=Generated(max_new_tokens=3))
    assert found.answer == expected.answer
    torch.testing.assert_close(found.input, expected.input)
