"""A network's own answer: greedy, sampled, or searched for with beams."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.targets import Generated


def generated_ids(
    module: nn.Module,
    given: Mapping[str, Any],
    how: Generated,
    *,
    pad: int | None = None,
    ends: Sequence[int] = (),
) -> tuple[int, ...]:
    """The tokens that a network of transformers answers to one prompt; what ends the answer is not part of it.

    Args:
        module: the network, with a method ``generate``.
        given: its arguments by name; ``input_ids`` [1, seq] is the prompt, or what an encoder reads.
        how: the longest answer, and how it is found.
        pad: what stands behind an answer that ended; None: token 0.
        ends: tokens that end the answer, beside those that the network's configuration names.

    Raises:
        InputError: the network ends its answer at once.
    """
    ids: Int[Tensor, "1 seq"] = given["input_ids"]
    sampled = how.temperature > 0
    devices = [ids.device] if ids.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(how.seed)
        generate: Callable[..., Tensor] = module.generate  # type: ignore[assignment]
        out = generate(
            **given,
            max_new_tokens=how.max_new_tokens,
            do_sample=sampled,
            num_beams=how.beams,
            temperature=how.temperature if sampled else None,
            top_k=0 if sampled else None,
            top_p=None,
            pad_token_id=pad or 0,
            return_dict_in_generate=False,
        )
    config: Any = module.generation_config
    # A decoder that reads an encoder begins its answer with a token of its own; any other one repeats the prompt.
    begun = 1 if getattr(module.config, "is_encoder_decoder", False) else ids.shape[1]
    new = out[0, begun:].tolist()
    stops = {*ends, *_listed(config.eos_token_id)}
    kept = next((new[:place] for place, token in enumerate(new) if token in stops), new)
    if not kept:
        raise InputError(
            "the model ends its answer at once, so there is no generated token to explain; name an Answer."
        )
    return tuple(kept)


def _listed(value: int | Sequence[int] | None) -> list[int]:
    return [] if value is None else [value] if isinstance(value, int) else list(value)
