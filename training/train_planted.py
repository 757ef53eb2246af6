"""Train the tiny classifier of the planted task, and write src/pellucid/ground_truth/planted/. About a minute.

    python training/train_planted.py

A BERT of 2 layers x 4 heads x 48 dimensions reads sentences of 12 words whose label is the sign of the sum of planted
keywords (see pellucid.ground_truth.task). In half of the batches every word is masked with a probability drawn for its
sentence from U(0, 1), so that a sentence with words absent is nothing that the network has never seen. Every batch is
fresh. One thread, fixed seeds.
"""

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional
from transformers import BertForSequenceClassification

from pellucid.ground_truth.planted import FOLDER, network, tokenizer
from pellucid.ground_truth.task import LABELS, Planted, draw, vocabulary

SEED = 20260318
STEPS, BATCH, RATE = 1800, 96, 2e-3
TEST_SENTENCES = 2000


def encoded(sentences: list[Planted]) -> tuple[Tensor, Tensor]:
    """Token ids [sentence, position] with [CLS] first, and labels [sentence]."""
    known = vocabulary()
    ids = [[known["[CLS]"], *(known[word] for word in each.words)] for each in sentences]
    return torch.tensor(ids), torch.tensor([LABELS.index(each.label) for each in sentences])


def masked(ids: Tensor, generator: torch.Generator) -> Tensor:
    """The same with words masked, at a rate from U(0, 1) for each sentence; [CLS] stays."""
    gone = torch.rand(ids.shape, generator=generator) < torch.rand((len(ids), 1), generator=generator)
    gone[:, 0] = False
    return ids.masked_fill(gone, vocabulary()["[MASK]"])


def train() -> BertForSequenceClassification:
    """The trained network, in evaluation mode."""
    torch.manual_seed(SEED)
    sentences, generator = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
    module = network()
    optimiser = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
    for step in range(STEPS):
        ids, labels = encoded([draw(sentences) for _ in range(BATCH)])
        loss = functional.cross_entropy(module(masked(ids, generator) if step % 2 else ids).logits, labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return module.eval()


@torch.no_grad()
def report(module: BertForSequenceClassification) -> None:
    """Print what the card says."""
    generator = np.random.default_rng(SEED + 1)
    ids, labels = encoded([draw(generator) for _ in range(TEST_SENTENCES)])
    print(
        f"accuracy on {TEST_SENTENCES} fresh sentences: {(module(ids).logits.argmax(1) == labels).float().mean():.4f}"
    )
    empty = ids[:1].clone()
    empty[:, 1:] = vocabulary()["[MASK]"]
    print(f"p({LABELS[1]} | all words masked): {module(empty).logits.softmax(1)[0, 1]:.3f}")
    print(f"parameters: {sum(each.numel() for each in module.parameters())}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained = train()
    report(trained)
    FOLDER.mkdir(parents=True, exist_ok=True)
    trained.config.save_pretrained(FOLDER)
    tokenizer().save_pretrained(FOLDER)
    (FOLDER / "model.safetensors").write_bytes(save(trained.state_dict(), metadata={"format": "pt"}))
