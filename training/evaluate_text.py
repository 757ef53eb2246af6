"""Measure a text classifier of the zoo on its test split, as it is shipped; prints one JSON object.

    python training/evaluate_text.py sst2 src/pellucid/models/zoo/minilm-sst2 --data DATA
    python training/evaluate_text.py sst2 src/pellucid/models/zoo/tiny-sst2 --data DATA
    python training/evaluate_text.py hatexplain src/pellucid/models/zoo/minilm-hatexplain --data DATA
    python training/evaluate_text.py acceptability src/pellucid/models/zoo/minilm-acceptability --data DATA

Accuracies come with n and Wilson's 95 % interval. ``all_masked``: the mean probability of class 1 over the test
sentences with every token but [CLS] and [SEP] replaced by [MASK], beside the share of class 1 in the training split.
CoLA's own test labels are secret: its public out-of-domain development set is the test split here. A BLiMP pair is
right where the acceptable sentence gets the larger margin of the logits.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from intervals import described
from text_tasks import TASKS, Example, blimp_pairs, cola, encode, logits, matthews, right
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pellucid.models.adapter import is_adapter, read_adapter


def loaded(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a folder, be it an adapter or whole, in float32."""
    if is_adapter(folder):
        return read_adapter(folder, torch.float32)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)


def all_masked(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: list[Example]) -> float:
    """The mean probability of class 1 where nothing but the length is left of a sentence."""
    hidden = [Example([e.ids[0], *[tokenizer.mask_token_id] * (len(e.ids) - 2), e.ids[-1]], e.label) for e in examples]
    return logits(model, hidden, tokenizer.pad_token_id).softmax(1)[:, 1].mean().item()


def acceptability(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Path) -> dict[str, Any]:
    """Accuracy and Matthews' correlation on CoLA, and the share of BLiMP pairs in the right order."""
    result: dict[str, Any] = {}
    for name, split in (("cola_in_domain", "dev"), ("cola_out_of_domain", "test")):
        examples = encode(*cola(data, split), tokenizer)
        scores = logits(model, examples, tokenizer.pad_token_id)
        labels = torch.tensor([example.label for example in examples])
        ones = labels.double().mean().item()
        result[name] = {
            "accuracy": described(right(scores, examples), len(examples)),
            "matthews": round(matthews(scores.argmax(1), labels), 4),
            "commoner_class": round(max(ones, 1 - ones), 4),
        }
    pairs = blimp_pairs(data, "test")
    margins = []
    for texts in zip(*pairs, strict=True):
        scores = logits(model, encode(texts, [0] * len(texts), tokenizer), tokenizer.pad_token_id)
        margins.append(scores[:, 1] - scores[:, 0])
    result["blimp_pairs"] = described(int((margins[0] > margins[1]).sum()), len(pairs))
    return result


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    task = TASKS[asked.task]
    model, tokenizer = loaded(asked.folder)
    train, test = (task.read(asked.data, split, tokenizer) for split in ("train", "test"))
    result: dict[str, Any] = {}
    if asked.task == "acceptability":
        result = acceptability(model, tokenizer, asked.data)
    else:
        result["accuracy"] = described(right(logits(model, test, tokenizer.pad_token_id), test), len(test))
    result["all_masked"] = round(all_masked(model, tokenizer, test), 4)
    result["class_1_in_training"] = round(sum(example.label for example in train) / len(train), 4)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
