"""Relevance of every token of an answer that a language model itself gives."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.models.base import evaluating
from pellucid.models.generating import generated_ids
from pellucid.relevance.leaves import Inputs
from pellucid.relevance.rule import Carrier
from pellucid.relevance.start import carried
from pellucid.targets import Generated

NUMBERS_AT_ONCE = 1 << 23
"""Numbers of the output, over all tokens of the answer whose relevance goes back through the network at once."""
# What a network takes for each position, and what stands there for a token of the answer.
_FOR_EACH_POSITION = {"attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0}


class Answered(NamedTuple):
    """A prompt, and the answer to it, forced on the network so that one call scores every token of it."""

    x: Inputs
    """What the network is called with: the prompt and all of the answer but its last token."""
    ids: tuple[int, ...]
    """The answer."""

    def call(self, module: nn.Module) -> Callable[..., Any]:
        """The network, with logits at the places that predict the answer where it can leave out the others."""
        can = "logits_to_keep" in inspect.signature(module.forward).parameters
        return (lambda *args, **named: module(*args, **named, logits_to_keep=len(self.ids))) if can else module

    def logits(self, output: Float[Tensor, "1 seq vocab"]) -> Float[Tensor, "token vocab"]:
        """The part of the output that predicts the answer. Raises InputError on an output of another form."""
        if output.ndim != 3 or len(output) != 1 or output.shape[1] < len(self.ids):
            raise InputError(
                f"the network gives {tuple(output.shape)}, and a generated answer needs logits [1, seq, vocabulary]."
            )
        return output[0, -len(self.ids) :]

    def seeds(self, output: Tensor, carrier: Carrier) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Where relevance of each token's log-probability begins, as many tokens at a time as memory allows.

        Yields what is carried [row, *output], the relevance that it stands for [row], and whether these are the last.
        """
        z = output.detach()
        logits = self.logits(z)
        size = max(1, NUMBERS_AT_ONCE // z.numel())
        for start in range(0, len(self.ids), size):
            chunk = self.ids[start : start + size]
            slopes = z.new_zeros(len(chunk), *z.shape)
            for row, token in enumerate(chunk):
                # d log p / dz = [token] - p
                slope = self.logits(slopes[row])[start + row]
                slope -= logits[start + row].softmax(0)
                slope[token] += 1
            begun = carried(slopes, z, carrier)
            relevance = begun if carrier in ("relevance", "pair") else begun * z
            yield begun, relevance.double().flatten(1).sum(1), start + size >= len(self.ids)


def answered(module: nn.Module, x: Inputs, how: Generated) -> Answered:
    """The network's own answer to a prompt of token ids, and what it is called with to score that answer.

    Args:
        module: a language model of transformers; of decoder alone, or of encoder and decoder.
        x: ids [1, seq], or a dict with ``input_ids`` and what else it takes.
        how: how the answer is found, or the answer itself as ``token_ids``.

    Raises:
        InputError: a network that generates nothing, several rows at once, or no token ids.
    """
    named = {"input_ids": x} if isinstance(x, Tensor) else x
    ids = named.get("input_ids") if isinstance(named, Mapping) else None
    if not isinstance(named, Mapping) or not isinstance(ids, Tensor) or ids.is_floating_point() or ids.ndim != 2:
        raise InputError(
            "generated= explains a language model's answer: give token ids [1, seq], or a dict of input_ids."
        )
    if len(ids) != 1:
        raise InputError(f"generated= explains the answer to one prompt, and {len(ids)} were given; trace each.")
    if not hasattr(module, "generate") or not hasattr(module, "generation_config"):
        raise InputError(f"{type(module).__name__} generates nothing; generated= needs a transformers language model.")
    if how.token_ids:
        answer = how.token_ids
    else:
        with evaluating(module):
            answer = generated_ids(module, named, how)
    fed = torch.tensor(answer[:-1], dtype=ids.dtype, device=ids.device)[None]
    config: Any = module.config
    if getattr(config, "is_encoder_decoder", False):
        first = ids.new_tensor([[config.decoder_start_token_id]])
        return Answered({**named, "decoder_input_ids": torch.cat([first, fed], 1)}, answer)
    longer = {**named, "input_ids": torch.cat([ids, fed], 1)}
    for name, value in _FOR_EACH_POSITION.items():
        if isinstance(named.get(name), Tensor):
            longer[name] = torch.cat([named[name], torch.full_like(fed, value).to(named[name])], 1)
    return Answered(longer["input_ids"] if isinstance(x, Tensor) else longer, answer)
