"""The three text tasks: their sentences, batches with random masks, and accuracies. Used by the scripts beside it.

The folder that ``--data`` names must hold ``rationales/`` (SST-2 sentences with labels from the Stanford Sentiment
Treebank, HateXplain in WordPiece ids, BLiMP minimal pairs, all as JSON lines) and ``cola_public/`` (CoLA 1.1).
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_ROWS = 32
LONGEST = 128


class Example(NamedTuple):
    """One encoded sentence."""

    ids: list[int]
    """With [CLS] in front and [SEP] at the end."""
    label: int


class Task(NamedTuple):
    """What a classifier is trained for."""

    labels: tuple[str, str]
    """The names of class 0 and class 1."""
    read: Callable[[Path, str, PreTrainedTokenizerBase], list[Example]]
    """(data folder, split, tokenizer) -> the split's examples; split is train, dev or test."""


def _lines(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def encode(texts: Sequence[str], labels: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Every text as ids with the special tokens; a text longer than ``LONGEST`` is refused, none is cut."""
    rows = tokenizer(list(texts))["input_ids"]
    if max(map(len, rows)) > LONGEST:
        raise ValueError(f"a sentence has {max(map(len, rows))} tokens; at most {LONGEST} are expected.")
    return [Example(ids, label) for ids, label in zip(rows, labels, strict=True)]


def as_written(tokens: Sequence[str]) -> str:
    """Treebank tokens as a person writes them where the tokenizer sees the difference: ``did n't`` -> ``didn't``."""
    return " ".join(tokens).replace(" n't", "n't").replace("``", '"').replace("''", '"')


def read_sst2(data: Path, split: str, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Sentences as the treebank tokenised them, joined by spaces; in training also as people write them."""
    rows = _lines(data / "rationales" / f"sst2_tree_rationales_{split}.jsonl")
    texts = [" ".join(row["tokens"]) for row in rows]
    labels = [row["label"] for row in rows]
    if split == "train":
        written = [as_written(row["tokens"]) for row in rows]
        extra = [(other, label) for other, text, label in zip(written, texts, labels, strict=True) if other != text]
        texts += [text for text, _ in extra]
        labels += [label for _, label in extra]
    return encode(texts, labels, tokenizer)


def read_hatexplain(data: Path, split: str, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The ids come with the data (bert-base-uncased's vocabulary, which is the encoder's)."""
    rows = _lines(data / "rationales" / f"hatexplain_binary_wordpiece_{split}.jsonl")
    return [Example(row["input_ids"], row["label"]) for row in rows]


def cola(data: Path, split: str) -> tuple[list[str], list[int]]:
    """CoLA's texts and labels. Its test labels are secret, so ``test`` is the public out-of-domain development set."""
    name = {"train": "in_domain_train", "dev": "in_domain_dev", "test": "out_of_domain_dev"}[split]
    rows = [line.split("\t") for line in (data / "cola_public" / "raw" / f"{name}.tsv").read_text("utf-8").splitlines()]
    return [row[3] for row in rows], [int(row[1]) for row in rows]


def blimp_pairs(data: Path, split: str) -> list[tuple[str, str]]:
    """(acceptable, unacceptable) sentences that differ in a word or two."""
    rows = _lines(data / "rationales" / f"blimp_evidence_{split}.jsonl")
    return [(" ".join(row["good"]), " ".join(row["bad"])) for row in rows]


def read_acceptability(data: Path, split: str, tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """CoLA's sentences (in training twice, as BLiMP's are many more) and both sentences of every BLiMP pair."""
    texts, labels = cola(data, split)
    if split == "train":
        texts, labels = texts * 2, labels * 2
    for good, bad in blimp_pairs(data, split):
        texts += [good, bad]
        labels += [1, 0]
    return encode(texts, labels, tokenizer)


TASKS = {
    "sst2": Task(("negative", "positive"), read_sst2),
    "hatexplain": Task(("normal", "toxic"), read_hatexplain),
    "acceptability": Task(("unacceptable", "acceptable"), read_acceptability),
}


def padded(examples: Sequence[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids (rows, longest), mask (rows, longest), labels (rows,)."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.tensor([example.ids + [pad] * (longest - len(example.ids)) for example in examples])
    lengths = torch.tensor([len(example.ids) for example in examples])
    return ids, (torch.arange(longest) < lengths[:, None]).long(), torch.tensor([e.label for e in examples])


def batches(examples: Sequence[Example], rng: random.Random) -> Iterator[list[Example]]:
    """All examples once, in random order, neighbours of about the same length in one batch."""
    order = list(examples)
    rng.shuffle(order)
    window = BATCH_ROWS * 32
    found = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda example: len(example.ids))
        found += [near[row : row + BATCH_ROWS] for row in range(0, len(near), BATCH_ROWS)]
    rng.shuffle(found)
    yield from found


def masked(ids: torch.Tensor, tokenizer: PreTrainedTokenizerBase, generator: torch.Generator) -> torch.Tensor:
    """Ids with [MASK] for tokens, each row at a rate of its own from U(0, 1); never for [CLS], [SEP] or padding."""
    frame = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    special = torch.isin(ids, torch.tensor(frame))
    rate = torch.rand(len(ids), 1, generator=generator)
    hidden = torch.rand(ids.shape, generator=generator) < rate
    return torch.where(hidden & ~special, tokenizer.mask_token_id, ids)


@torch.inference_mode()
def logits(model: PreTrainedModel, examples: Sequence[Example], pad: int) -> torch.Tensor:
    """(examples, 2), in the order of ``examples``; float32, no dropout."""
    model.eval()
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].ids))
    result = torch.empty(len(examples), 2)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        ids, mask, _ = padded([examples[row] for row in rows], pad)
        result[rows] = model(input_ids=ids, attention_mask=mask).logits.float()
    return result


def right(scores: torch.Tensor, examples: Sequence[Example]) -> int:
    """The number of examples whose larger logit is the label's."""
    return int((scores.argmax(1) == torch.tensor([example.label for example in examples])).sum())


def matthews(predicted: torch.Tensor, labels: torch.Tensor) -> float:
    """Matthews' correlation of two binary vectors: their Pearson correlation."""
    return torch.corrcoef(torch.stack([predicted.double(), labels.double()]))[0, 1].item()
