"""What a model answers, steered or not: a batch of prompts at a time, greedy or sampled."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from pellucid.errors import ContextLengthError, InputError, NumericalError
from pellucid.models import CausalLM, VisionLanguage
from pellucid.models.tokens import Row
from pellucid.records import Record
from pellucid.sae.site import Site
from pellucid.sae.steering.positions import Sequences
from pellucid.sae.steering.steer import Steer, steered


class Sampling(Record):
    """How an answer is found."""

    max_new_tokens: int = Field(default=32, ge=1)
    """The longest answer."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the likeliest token each time; above 0 the answer is sampled."""
    seed: int = Field(default=0, ge=0)
    """Of the sampling. Steered and unsteered answers to the same prompts are drawn with the same random numbers."""
    samples: int = Field(default=1, ge=1)
    """Answers to each prompt; more than one only where they are sampled."""


class Asked(NamedTuple):
    """Some prompts as a model reads them, in one batch."""

    reader: CausalLM
    """The language model, with the pictures that stand before the texts where there are any."""
    rows: tuple[Row, ...]
    """The prompts' tokens."""

    @property
    def sequences(self) -> Sequences:
        """How they lie in the batch."""
        lengths = torch.tensor([len(row.ids) for row in self.rows])
        return Sequences(lengths.max() - lengths, lengths)


def asked(model: Any, raws: Sequence[Any]) -> Asked:
    """Prompts as a model reads them: texts, or pictures with texts.

    Raises InputError for no prompt, for a model that does not answer in text, and for a picture that it does not read.
    """
    if not raws:
        raise InputError("there is no prompt to steer; give at least one.")
    if isinstance(model, VisionLanguage):
        inputs = [model.encode(raw) for raw in raws]
        pixels = torch.stack([each.picture.row for each in inputs]).to(model.like)
        return Asked(model.texts.seeing(pixels), tuple(each.text.row for each in inputs))
    if not isinstance(model, CausalLM):
        name = getattr(model, "name", type(model).__name__)
        raise InputError(f"{name} does not answer in text, and steering is measured on answers; take a language model.")
    if any(isinstance(raw, Mapping) for raw in raws):
        raise InputError(f"{model.name} reads no pictures; leave --image out, and give the prompts as texts.")
    return Asked(model, tuple(model.encode(raw).row for raw in raws))


def answers(
    prompts: Asked, how: Sampling, *, sample: int = 0, steer: Steer | None = None, site: Site | None = None
) -> list[tuple[int, ...]]:
    """The tokens of an answer to each prompt, which may be none; what ends an answer is not part of it.

    Args:
        prompts: what is answered.
        how: the longest answer, and how it is found.
        sample: number of the answer, from 0, where several are sampled.
        steer: what is done with the model meanwhile; None: nothing.
        site: where it is done.

    Raises:
        ContextLengthError: prompt and answer are longer than the model reads.
        InputError: as ``steered`` does.
        NumericalError: the activations or the logits became NaN or infinite.
    """
    reader = prompts.reader
    ids, visible, _ = reader.batch(prompts.rows, "left")
    _check_length(reader, ids.shape[1] + how.max_new_tokens - 1)
    module: Any = reader.module
    sampled = how.temperature > 0
    devices = [ids.device] if ids.device.type == "cuda" else []
    acting = nullcontext() if steer is None or site is None else steered(module, site, steer, prompts.sequences)
    with torch.no_grad(), torch.random.fork_rng(devices=devices), reader.evaluating(), acting:
        torch.manual_seed(how.seed + sample)
        generate: Callable[..., Tensor] = module.generate
        out = generate(
            input_ids=ids,
            attention_mask=visible.long(),
            **reader.beside(len(ids)),
            max_new_tokens=how.max_new_tokens,
            do_sample=sampled,
            num_beams=1,
            temperature=how.temperature if sampled else None,
            top_k=0 if sampled else None,
            top_p=None,
            # What a recurrent layer keeps of the past does not say how long that was.
            use_cache=not getattr(module, "_is_stateful", False),
            pad_token_id=reader.tokenizer.pad_token_id or 0,
            logits_processor=[_checking(steer)],
            return_dict_in_generate=False,
        )
    ends = _ends(reader)
    return [_until(row, ends) for row in out[:, ids.shape[1] :].tolist()]


def _checking(steer: Steer | None) -> Callable[[Tensor, Tensor], Tensor]:
    """A processor of logits that changes none, and raises NumericalError where no token can be told from them."""

    def check(ids: Tensor, logits: Tensor) -> Tensor:
        if not bool((logits < torch.inf).all()):
            said = "the model" if steer is None else f"the model, pushed by {steer.described},"
            advice = "load it in a wider dtype" if steer is None else "take a smaller strength"
            raise NumericalError(f"{said} made logits that are NaN or infinite, so nothing is answered; {advice}.")
        return logits

    return check


def _check_length(reader: CausalLM, tokens: int) -> None:
    if tokens > reader.context:
        raise ContextLengthError(tokens, reader.context)


def _ends(reader: CausalLM) -> set[int]:
    """Tokens that end an answer."""
    config: Any = reader.module.generation_config
    named = config.eos_token_id
    listed = named if isinstance(named, list | tuple) else [named]
    return {int(token) for token in (*listed, reader.tokenizer.eos_token_id) if token is not None}


def _until(ids: list[int], ends: set[int]) -> tuple[int, ...]:
    return tuple(next((ids[:place] for place, token in enumerate(ids) if token in ends), ids))


def written(reader: CausalLM, ids: Sequence[int]) -> str:
    """The text of an answer."""
    return str(reader.tokenizer.decode(list(ids), skip_special_tokens=True))
