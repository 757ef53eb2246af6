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
# What says how the network is called, which is not the caller's to say here.
_OURS = ("labels", "logits_to_keep", "return_dict", "use_cache", "past_key_values", "decoder_input_ids")


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
    _check(module, named, how)
    if how.token_ids:
        answer = how.token_ids
    else:
        with evaluating(module):
            answer = generated_ids(module, named, how)
    config: Any = module.config
    fed = torch.tensor(answer[:-1], dtype=ids.dtype, device=ids.device)[None]
    if getattr(config, "is_encoder_decoder", False):
        first = ids.new_tensor([[config.decoder_start_token_id]])
        return Answered({**named, "decoder_input_ids": torch.cat([first, fed], 1)}, answer)
    longer = _longer(module, named, fed)
    return Answered(longer["input_ids"] if set(longer) == {"input_ids"} and isinstance(x, Tensor) else longer, answer)


def _longer(module: nn.Module, named: Mapping[str, Any], fed: Tensor) -> dict[str, Any]:
    """The arguments with the answer behind the prompt, at the positions that it was generated at."""
    longer = {**named, "input_ids": torch.cat([named["input_ids"], fed], 1)}
    for name, value in _FOR_EACH_POSITION.items():
        if isinstance(named.get(name), Tensor):
            longer[name] = torch.cat([named[name], torch.full_like(fed, value).to(named[name])], 1)
    mask = longer.get("attention_mask")
    takes = "position_ids" in inspect.signature(module.forward).parameters
    if takes and isinstance(mask, Tensor) and mask.ndim == 2 and not bool(mask.bool().all()):
        # Generating counts what is no padding; a plain call counts everything.
        longer["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)
    return longer


def _check(module: nn.Module, named: Mapping[str, Any], how: Generated) -> None:
    """Raises InputError on a prompt, or an answer, that a network of transformers cannot be asked about."""
    ids = named["input_ids"]
    if len(ids) != 1 or not ids.shape[1]:
        raise InputError(
            f"generated= explains the answer to one prompt, and input_ids has shape {list(ids.shape)}; trace "
            "each row [1, seq] of one token or more."
        )
    if not hasattr(module, "generate") or not hasattr(module, "generation_config"):
        raise InputError(f"{type(module).__name__} generates nothing; generated= needs a transformers language model.")
    taken = inspect.signature(module.forward).parameters
    known = "kwargs" in taken or all(name in taken for name in named)
    wrong = [name for name in named if name in (*_OURS, "position_ids") or (not known and name not in taken)]
    # Many tokenizers give token types to networks that have none.
    wrong += [name for name in named if name == "token_type_ids" and name not in taken]
    if wrong:
        raise InputError(
            f"generated= calls the network itself; leave {', '.join(dict.fromkeys(wrong))} out of the arguments."
        )
    size = getattr(getattr(module.config, "get_text_config", lambda: module.config)(), "vocab_size", None)
    if size is not None and not all(0 <= token < size for token in how.token_ids):
        raise InputError(f"token_ids {list(how.token_ids)} are not all tokens of this network: 0 to {size - 1}.")
