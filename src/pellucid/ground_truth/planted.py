"""G7: a tiny transformer trained on sentences in which it is known which words can matter."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from pellucid.ground_truth.exact import exact_shapley
from pellucid.ground_truth.reasons import FIT, LEAVE_ONE_OUT, LOCAL, PATH, RANDOM_WORDS, SEMIVALUE
from pellucid.ground_truth.task import LABELS, LENGTH, Planted, draw, vocabulary
from pellucid.ground_truth.truth import BUDGETS, GroundTruth
from pellucid.models import Row, TextClassifier
from pellucid.targets import Margin

FOLDER = Path(__file__).parent / "planted"
SENTENCES = 4
SEED = 20260401
POINTS = 256
"""Of the path integral's rule."""
SINGLE = 1e-4
"""The network computes in single precision: a fraction of the largest score that its rounding may reach."""


def tokenizer(known: dict[str, int] | None = None) -> PreTrainedTokenizerFast:
    """One token a word, and [CLS] before them, where the classifier reads. ``known``: the number of each token."""
    known = known or vocabulary()
    plain = Tokenizer(WordLevel(known, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    plain.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", known["[CLS]"])])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", mask_token="[MASK]"
    )


def network(
    tokens: int = len(vocabulary()), labels: Sequence[str] = LABELS, layers: int = 2, dimensions: int = 48
) -> BertForSequenceClassification:
    """The network before training, with heads of 12 dimensions."""
    config = BertConfig(
        vocab_size=tokens,
        hidden_size=dimensions,
        num_hidden_layers=layers,
        num_attention_heads=dimensions // 12,
        intermediate_size=2 * dimensions,
        max_position_embeddings=LENGTH + 4,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    return BertForSequenceClassification(config)


@cache
def planted_model() -> TextClassifier:
    """The trained classifier that comes with the package."""
    # The network's first weights are drawn and thrown away: nobody else's random numbers may change by it.
    with torch.random.fork_rng(devices=[]):
        module: Any = network()
    module.load_state_dict(load_file(FOLDER / "model.safetensors"))
    module.requires_grad_(False)
    return TextClassifier(module.eval(), tokenizer(), name="planted")


def sentences() -> list[Planted]:
    """Fresh sentences that the network gets right: of a wrong answer nobody knows the reason."""
    generator, model = np.random.default_rng(SEED), planted_model()
    found: list[Planted] = []
    while len(found) < SENTENCES:
        each = draw(generator)
        if model.predicted(model.encode(" ".join(each.words))) == each.label:
            found.append(each)
    return found


def shapley(sentence: Planted) -> Float[np.ndarray, " word"]:
    """Exact Shapley value of each word for the margin of the right label; absent words are masked."""
    model = planted_model()
    inputs = model.encode(" ".join(sentence.words))
    target = model.bind(Margin(sentence.label), inputs)
    mask = model.tokenizer.mask_token_id

    def worth(coalitions: Bool[np.ndarray, "coalition player"]) -> Float[np.ndarray, " coalition"]:
        ids = np.where(coalitions, np.array(inputs.row.ids[1:]), mask)
        rows = [Row.of((inputs.row.ids[0], *each)) for each in ids.tolist()]
        return np.asarray(target.target.score(model.alternatives(rows, target))[:, 0].double().numpy())

    return exact_shapley(worth, LENGTH)


def path_integral(sentence: Planted) -> Float[np.ndarray, " word"]:
    """Integral of the gradient from the mask's embedding to each word's own, all together, by Gauss-Legendre."""
    model = planted_model()
    inputs = model.encode(" ".join(sentence.words))
    function = model.embedded(inputs, model.bind(Margin(sentence.label), inputs), 1)
    words = function.embeddings
    distance = words - model.baseline("mask", inputs).embedding
    places, weights = np.polynomial.legendre.leggauss(POINTS)
    shares = torch.tensor((1 - places) / 2, dtype=words.dtype)
    points = (words - shares[:, None, None] * distance).requires_grad_()
    with torch.enable_grad():
        (gradients,) = torch.autograd.grad(function(points).sum(), points)
    mean = np.einsum("p,pwd->wd", weights / 2, gradients.double().numpy())
    return np.asarray((mean * distance.double().numpy()).sum(1))


def planted_truths() -> list[GroundTruth]:
    """The words that can matter, and the exact Shapley values of the same sentences."""
    chosen = sentences()
    common: dict[str, Any] = {
        "rung": "G7",
        "model": planted_model(),
        "raws": tuple(" ".join(each.words) for each in chosen),
        "target": Margin(),
        "features": "word",
        "baseline": "mask",
        "tolerance": SINGLE,
        "settings": BUDGETS,
        "source": "Arras et al. 2022 for masks; the task is our own",
    }
    methods = dict.fromkeys(("input_x_gradient", "smoothgrad"), LOCAL)
    methods |= {"integrated_gradients": PATH, "path_integral": PATH, "expected_gradients": RANDOM_WORDS}
    methods |= dict.fromkeys(("lime", "sparse_linear"), FIT)
    return [
        GroundTruth(
            name="planted-rationale",
            says=f"transformer on sentences of {LENGTH} words; the mask of keywords and negators",
            rationale=np.stack([each.rationale for each in chosen]),
            axiom="by construction of the task: no other word moves the label",
            exposes="scores on words that cannot matter; not how faithful a score is: a mask has no size and no sign",
            **common,
        ),
        GroundTruth(
            name="planted-shapley",
            says="the same sentences; exact Shapley value of the margin",
            contributions=np.stack([shapley(each) for each in chosen]),
            path=np.stack([path_integral(each) for each in chosen]),
            axiom=f"Shapley 1953 over all {1 << LENGTH:,} coalitions of words",
            exposes="that finding the right words is not the same as saying what each contributes",
            fails=methods | {"occlusion": LEAVE_ONE_OUT, "banzhaf": SEMIVALUE},
            **common,
        ),
    ]
