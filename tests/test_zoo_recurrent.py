"""The word LSTM that comes with pellucid: the network against its equations, its mask, its words, the methods on it."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
import yaml
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch.nn.functional import linear

import pellucid
import tiny
from pellucid import Logit
from pellucid.errors import InputError
from pellucid.models.text_classifier import TextClassifier
from pellucid.models.word_lstm import WordLSTMConfig, WordLSTMForSequenceClassification, in_front
from test_text_zoo import SENTIMENT

FOLDER = Path(pellucid.__file__).parent / "models" / "zoo" / "lstm-sst2"
TEXTS = [text for texts in SENTIMENT.values() for text in texts]
TEXT = "A tedious film, badly written and far too long."
PADDING, UNKNOWN, MASK = 0, 1, 2


@cache
def lstm():
    return pellucid.load("lstm-sst2", dtype="float64")


def random_network(labels=3):
    config = WordLSTMConfig(vocab_size=11, embedding_size=5, hidden_size=4, num_labels=labels)
    return tiny.randomised(lambda: WordLSTMForSequenceClassification(config), std=0.7).double()


def final_state(x, lstm, suffix):
    """The last hidden state of one direction over x [time, feature], by the equations of [hochreiter1997]."""
    kernel, recurrent, bias, own = (
        getattr(lstm, f"{name}{suffix}") for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    h = c = torch.zeros(lstm.hidden_size, dtype=x.dtype)
    for step in x:
        i, f, g, o = (linear(step, kernel, bias + own) + linear(h, recurrent)).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    return h


def written_out(module, ids):
    """The logits of one text, a word at a time."""
    x = module.embeddings.weight[torch.tensor(ids)]
    both = [final_state(x, module.lstm, ""), final_state(x.flip(0), module.lstm, "_reverse")]
    return module.classifier.weight @ torch.cat(both) + module.classifier.bias


def logits(module, ids, mask=None):
    mask = None if mask is None else torch.tensor(mask)
    with torch.no_grad():
        return module(input_ids=torch.tensor(ids), attention_mask=mask).logits


# The network


def test_the_logits_are_those_of_the_equations():
    module = random_network()
    for ids in ([3], [4, 9, 4, 1], [5, 6, 7, 8, 9, 10, 2]):
        assert torch.allclose(logits(module, [ids])[0], written_out(module, ids), atol=1e-12)


def test_a_row_of_a_batch_is_the_single_text():
    module = random_network()
    rows = [[3, 4, 5, 6], [7, 8, 0, 0], [9, 0, 0, 0], [5, 4, 3, 0]]
    lengths = [4, 2, 1, 3]
    mask = [[place < length for place in range(4)] for length in lengths]
    for row, ids, length in zip(logits(module, rows, mask), rows, lengths, strict=True):
        assert torch.allclose(row, written_out(module, ids[:length]), atol=1e-12)


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        ([3, 4, 5, 9, 9, 9], [1, 1, 1, 0, 0, 0]),
        ([9, 9, 9, 3, 4, 5], [0, 0, 0, 1, 1, 1]),
        ([3, 9, 4, 9, 9, 5], [1, 0, 1, 0, 0, 1]),
        ([9, 3, 9, 4, 5, 9], [False, True, False, True, True, False]),
    ],
)
def test_a_hidden_word_might_as_well_not_be_there(ids, mask):
    module = random_network()
    assert torch.allclose(logits(module, [ids], [mask])[0], written_out(module, [3, 4, 5]), atol=1e-12)


def test_a_text_of_nothing_visible_is_one_zero_vector():
    module = random_network()
    assert not module.embeddings.weight[PADDING].any() or module.embeddings.padding_idx == PADDING
    with torch.no_grad():
        expected = module(inputs_embeds=torch.zeros(1, 1, 5, dtype=torch.float64)).logits
        for length in (1, 6):
            hidden = module(
                inputs_embeds=torch.randn(1, length, 5, dtype=torch.float64), attention_mask=torch.zeros(1, length)
            )
            assert torch.equal(hidden.logits, expected)


def test_visible_vectors_come_to_the_front_in_their_order():
    vectors = torch.arange(1.0, 13.0).reshape(2, 3, 2)
    visible = torch.tensor([[False, True, True], [True, False, True]])
    expected = [[[3.0, 4.0], [5.0, 6.0], [0.0, 0.0]], [[7.0, 8.0], [11.0, 12.0], [0.0, 0.0]]]
    assert in_front(vectors, visible).tolist() == expected


def test_word_vectors_stand_for_their_words_and_take_gradients():
    module, ids = random_network(), torch.tensor([[3, 4, 0], [5, 6, 7]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    vectors = module.get_input_embeddings()(ids).detach().requires_grad_()
    out = module(inputs_embeds=vectors, attention_mask=mask).logits
    assert torch.equal(out, module(input_ids=ids, attention_mask=mask).logits)
    (gradient,) = torch.autograd.grad(out[:, 0].sum(), vectors)
    assert gradient[mask.bool()].abs().min() > 0
    assert not gradient[~mask.bool()].any()


@pytest.mark.parametrize(("given", "said"), [({}, "neither"), ({"input_ids": 0, "inputs_embeds": 0}, "both")])
def test_words_or_vectors_must_be_given(given, said):
    tensors = {"input_ids": torch.tensor([[3]]), "inputs_embeds": torch.zeros(1, 1, 5, dtype=torch.float64)}
    with pytest.raises(InputError, match=f"{said} of input_ids and inputs_embeds came; give exactly one"):
        random_network()(**{name: tensors[name] for name in given})


def test_a_folder_of_it_is_written_and_read_by_transformers(tmp_path):
    module = random_network()
    module.save_pretrained(tmp_path)
    back = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float64)
    assert isinstance(back, WordLSTMForSequenceClassification)
    assert torch.equal(logits(back, [[3, 4, 5]]), logits(module, [[3, 4, 5]]))


def test_a_table_that_was_replaced_is_the_one_that_is_used():
    module = random_network()
    table = torch.nn.Embedding(11, 5).double()
    module.set_input_embeddings(table)
    assert module.get_input_embeddings() is table


# The trained one


def test_it_loads_by_name():
    model = pellucid.load("lstm-sst2")
    assert isinstance(model, TextClassifier)
    assert isinstance(model.module, WordLSTMForSequenceClassification)
    assert (model.labels, model.context, model.preferred_baseline()) == (["negative", "positive"], 512, "mask")
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}


def test_a_folder_takes_at_most_a_megabyte_and_a_half():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 1_500_000
    tensors = load_file(FOLDER / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_the_card_tells_what_a_user_must_know():
    _, header, text = (FOLDER / "README.md").read_text("utf-8").split("---\n", 2)
    assert {"license", "language", "pipeline_tag", "tags", "datasets", "metrics"} <= yaml.safe_load(header).keys()
    for fact in ("95 % interval", "n = 1762", "must not be used", "seed 2026", "--data DATA", "licence", "lstm-sst2"):
        assert fact in text
    numbers = sum(parameter.numel() for parameter in lstm().module.parameters())
    assert f"{numbers:,} parameters" in " ".join(text.split())
    assert f"{len(lstm().tokenizer) - 3:,} words" in text


def test_tokens_stand_where_the_words_do():
    text = "It's NOT bad -- 10 out of 10, zzyzx!"
    inputs = lstm().encode(text)
    cut = [text[start:end] for start, end in inputs.spans]
    assert cut == ["It", "'", "s", "NOT", "bad", "--", "10", "out", "of", "10", ",", "zzyzx", "!"]
    assert inputs.pieces[3] == "not"
    assert inputs.row.ids[cut.index("zzyzx")] == UNKNOWN
    assert [lstm().tokenizer.convert_ids_to_tokens(number) for number in range(3)] == ["<pad>", "<unk>", "<mask>"]


def test_it_knows_praise_from_blame():
    model = lstm()
    margin = model.logits([model.encode(text).row for text in TEXTS]) @ torch.tensor([-1.0, 1.0], dtype=torch.float64)
    right = (margin > 0) == torch.tensor([text in SENTIMENT["positive"] for text in TEXTS])
    assert right.double().mean() >= 0.75


def test_nothing_but_masks_says_little():
    module = lstm().module
    for length in (1, 5, 12, 25):
        assert logits(module, [[MASK] * length]).softmax(1).max() < 0.75


def test_texts_of_several_lengths_are_read_as_one_by_one():
    model = lstm()
    rows = [model.encode(text).row for text in TEXTS]
    single = torch.cat([model.logits([row]) for row in rows])
    assert torch.allclose(model.logits(rows), single, atol=1e-12)


# The methods


def explained(method, text=TEXT, **options):
    return pellucid.explain(lstm(), text, method=method, target=Logit("negative"), features="token", **options)


@pytest.mark.parametrize("method", ["occlusion", "integrated_gradients", "kernel_shap"])
def test_a_method_finds_what_is_said_against_the_film(method):
    found = explained(method)
    strongest = {found.features[place].label for place in np.argsort(found.values[0])[-3:]}
    assert strongest == {"tedious", "badly", "too"}


def test_the_gradient_is_that_of_autograd():
    model = lstm()
    x = model.embed(torch.tensor([model.encode(TEXT).row.ids])).requires_grad_()
    (gradient,) = torch.autograd.grad(model.module(inputs_embeds=x).logits[0, 0], x)
    assert np.allclose(explained("gradient").values[0], gradient[0].norm(dim=1), atol=1e-6)


@pytest.mark.parametrize("method", ["integrated_gradients", "kernel_shap"])
def test_contributions_add_up_to_the_logit(method):
    found = explained(method)
    whole = lstm().logits([lstm().encode(TEXT).row])[0, 0]
    assert found.values.sum() + found.base_values[0] == pytest.approx(float(whole), abs=2e-3)


def test_occlusion_is_the_change_of_the_logit_behind_the_mask():
    found = explained("occlusion", baseline="mask")
    ids = list(lstm().encode(TEXT).row.ids)
    rows = [[*ids[:place], MASK, *ids[place + 1 :]] for place in range(len(ids))]
    expected = logits(lstm().module, [ids])[0, 0] - logits(lstm().module, rows)[:, 0]
    assert np.allclose(found.values[0], expected, atol=1e-10)


def test_hiding_a_token_from_the_mask_is_cutting_it_out():
    hidden, cut = (explained("occlusion", baseline=baseline).values for baseline in ("pad", "delete"))
    assert np.allclose(hidden, cut, atol=1e-10)
    assert np.ptp(hidden) > 0.1


class WrittenOut(torch.nn.Module):
    """The network on the vectors of one text [time, dim], a word at a time and without packing."""

    def __init__(self, module):
        super().__init__()
        self.network = module

    def forward(self, x):
        lstm = self.network.lstm
        both = torch.cat([final_state(x, lstm, ""), final_state(x.flip(0), lstm, "_reverse")])
        return self.network.classifier(both[None])


@pytest.mark.parametrize("composite", ["attnlrp", "lrp-0", "cp-lrp"])
def test_relevance_is_that_of_the_network_written_out(composite):
    module = lstm().module
    inputs = lstm().encode(TEXT)
    x = lstm().embed(torch.tensor([inputs.row.ids]))
    padded = torch.cat([x, torch.ones(1, 4, x.shape[2], dtype=x.dtype)], 1)
    mask = torch.tensor([[True] * x.shape[1] + [False] * 4])
    found = pellucid.trace(module, {"inputs_embeds": padded, "attention_mask": mask}, Logit(0), composite=composite)
    truth = pellucid.trace(WrittenOut(module), x[0], Logit(0), composite=composite).input
    relevance = found.input["inputs_embeds"][0]
    assert torch.allclose(relevance[: x.shape[1]], truth, rtol=1e-6, atol=1e-9)
    assert not relevance[x.shape[1] :].any()
    assert truth.abs().max() > 0.01


def agreement(method):
    """The mean rank correlation of a method's values with occlusion's."""
    pairs = ((explained(method, text).values[0], explained("occlusion", text).values[0]) for text in TEXTS)
    return np.mean([spearmanr(*pair).statistic for pair in pairs])


@pytest.mark.parametrize("method", ["attnlrp", "lrp-epsilon", "cp-lrp"])
def test_relevance_ranks_tokens_as_occlusion_does(method):
    # 20 sentences of 5 to 12 tokens in random order: mean 0, standard deviation below 0.1.
    assert agreement(method) > 0.4
