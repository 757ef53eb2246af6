"""Vision-language networks of the LLaVA architecture: the one trained here, and a tiny random one."""

from functools import cache
from pathlib import Path

import torch
import transformers as hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import pellucid
from families.example import Example
from pellucid.targets import Logit
from tiny import randomised

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<image>"]
WORDS = [
    "what", "color", "is", "the", "shape", "?", "a", "circle", "triangle", "there", "not", "red", "blue", "green",
    "yes", "no", "in", "image",
]  # fmt: skip
TRAINED = Path(pellucid.__file__).parent / "models" / "zoo" / "llava-easy-vqa"
CHAT = (
    "{% for m in messages %}{{ m['role'] }} {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}a {% endif %}"
)


def tokenizer():
    """One token a word; a text begins with ``<s>``."""
    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<image>"], padding_side="left", model_max_length=256,
    )  # fmt: skip


def processor(template=None, side=32, patch=8):
    """Pictures of any size to ``side`` squared; one ``<image>`` becomes a token for each patch."""
    pictures = hf.CLIPImageProcessor(
        size={"height": side, "width": side}, do_center_crop=False,
        image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.4, 0.6],
    )  # fmt: skip
    return hf.LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer(), patch_size=patch, chat_template=template,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>",
    )  # fmt: skip


def configuration(side=32, patch=8, hidden=24, layers=2, heads=4):
    """Of a network of 16 picture tokens."""
    return hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            hidden_size=32, intermediate_size=40, num_hidden_layers=layers, num_attention_heads=heads, image_size=side,
            patch_size=patch,
        ),
        text_config=hf.LlamaConfig(
            vocab_size=len(SPECIAL + WORDS), hidden_size=hidden, intermediate_size=40, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads // 2, max_position_embeddings=256, pad_token_id=0,
            bos_token_id=2, eos_token_id=3,
        ),
        image_token_index=SPECIAL.index("<image>"), vision_feature_layer=-2, vision_feature_select_strategy="default",
        image_seq_length=(side // patch) ** 2,
    )  # fmt: skip


@cache
def random_llava(seed=0, std=0.15):
    """A network whose answers depend on both halves of its input."""
    module = randomised(lambda: hf.LlavaForConditionalGeneration(configuration()), seed, std)
    with torch.no_grad():
        # So that it never answers with what stands for a picture.
        module.lm_head.weight[: len(SPECIAL)] = 0
    return module


def _encoded(reader, module, picture, question):
    given = dict(reader(images=picture, text=f"<image> {question}", return_tensors="pt"))
    return given | {"pixel_values": given["pixel_values"].to(module.dtype)}


def _noise(side):
    return torch.randint(256, (side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()


def tiny():
    """Random weights, 32 pixels to the side."""
    module = random_llava()
    inputs = _encoded(processor(), module, _noise(32), "what color is the shape?")
    return Example(
        family="vision-language", model="LLaVA (CLIP + Llama)", weights="random", module=module, inputs=inputs,
        target=Logit(SPECIAL.index("<image>") + 3),
    )  # fmt: skip


def trained():
    """The one of the zoo, asked about the first of its examples."""
    from PIL import Image

    reader = hf.AutoProcessor.from_pretrained(TRAINED)
    module = hf.AutoModelForImageTextToText.from_pretrained(TRAINED, dtype=torch.float32).eval()
    picture = Image.open(TRAINED / "examples" / "0.png").convert("RGB")
    inputs = _encoded(reader, module, picture, "what is the color of the shape?")
    token = reader.tokenizer.convert_tokens_to_ids("red")
    return Example(
        family="vision-language", model="LLaVA on easy-VQA", weights="trained here", module=module, inputs=inputs,
        target=Logit(token), note="patches and words, one trace",
    )  # fmt: skip


EXAMPLES = (tiny, trained)
