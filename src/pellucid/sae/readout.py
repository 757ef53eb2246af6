"""One latent in place of a network's output: what the methods explain when they are asked what drove a latent."""

from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from transformers.modeling_outputs import SequenceClassifierOutput

from pellucid.errors import InputError
from pellucid.sae.dictionary import Dictionary
from pellucid.sae.site import edited


class Scope(NamedTuple):
    """Where a latent is read, in a sequence of the whole input's length."""

    length: int
    """Places of the whole input."""
    first: int
    """The first one that counts when the largest activation is wanted."""
    last: int
    """How many at the end do not."""
    place: int
    """Where it is most active on the whole input, or the place that was asked for."""
    is_given: bool
    """Whether that place was asked for."""


class _SeenError(Exception):
    """Ends a forward pass of which no more is wanted."""


class Readout(nn.Module):
    """A network that gives, in place of its logits, the activation of one latent [batch, 1] or [batch, 1, 1].

    It is called as the network is, and runs it as far as the site. Read by rows, whose lengths may differ, that is the
    activation at the given place, or the largest one; as a function of embeddings it is the activation at one place
    before the decision whether it is active, which is linear in what passes at the site.
    """

    reads_the_end_alone = False
    """Keys and values of a prefix do not hold what it gave at the site."""

    def __init__(
        self, network: nn.Module, dictionary: Dictionary, latent: int, scope: Scope, *, linear: bool, by_token: bool
    ) -> None:
        super().__init__()
        self.network = network
        self._dictionary, self._latent, self.scope = dictionary, latent, scope
        self._linear, self._by_token = linear, by_token

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """The network's modules by the names that they have there."""
        yield prefix, self
        for name, part in self.network.named_modules(remove_duplicate=remove_duplicate):
            yield name or "network", part

    def by_rows(self) -> "Readout":
        """The same, read by rows."""
        other = copy(self)
        other._linear = False
        return other

    def forward(self, *args: Any, **kwargs: Any) -> SequenceClassifierOutput:
        hidden = self._hidden(args, kwargs)
        if self._linear:
            found = self._before_decision(hidden[:, self.scope.place])
        else:
            with torch.no_grad():
                found = self._largest(hidden, kwargs)[:, None]
        return SequenceClassifierOutput(logits=found[:, :, None] if self._by_token else found)

    def _hidden(self, args: Any, kwargs: Any) -> Float[Tensor, "batch seq dim"]:
        """What passes at the site. Under a trace, whose hooks must all be left again, the network runs to its end."""
        seen: list[Tensor] = []
        graded, traced = torch.is_grad_enabled(), bool(_get_current_function_mode_stack())

        def take(hidden: Tensor) -> Tensor:
            seen.append(hidden)
            if not traced:
                raise _SeenError
            torch.set_grad_enabled(False)
            return hidden

        try:
            with edited(self.network, self._dictionary.site, take):
                self.network(*args, **kwargs)
        except _SeenError:
            pass
        finally:
            torch.set_grad_enabled(graded)
        return seen[0]

    def _before_decision(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch 1"]:
        sae, own = self._dictionary.sae, slice(self._latent, self._latent + 1)
        x, _ = sae.normalised(x)
        if sae.config.subtract_decoder_bias:
            x = x - sae.b_dec
        return nn.functional.linear(x, sae.W_enc[own], sae.b_enc[own])

    def _largest(self, hidden: Float[Tensor, "batch seq dim"], kwargs: Any) -> Float[Tensor, " batch"]:
        sae, (batch, length) = self._dictionary.sae, hidden.shape[:2]
        codes = sae.codes(hidden.flatten(0, 1))
        own = codes.latents == self._latent
        found = codes.values.new_zeros(batch * length)
        found[codes.tokens[own]] = codes.values[own]
        found = found.view(batch, length)
        if self.scope.is_given:
            self._require_whole(length, kwargs)
            return found[:, self.scope.place]
        return torch.where(self._counted(hidden, kwargs.get("attention_mask")), found, 0).amax(1)

    def _counted(self, hidden: Tensor, visible: Tensor | None) -> Bool[Tensor, "batch seq"]:
        """Which places count: those that are seen, without what stands around the input in each row."""
        batch, length = hidden.shape[:2]
        place = torch.arange(length, device=hidden.device).expand(batch, -1)
        if visible is None or visible.shape != (batch, length):
            return (place >= self.scope.first) & (place < length - self.scope.last)
        seen = visible.bool()
        start, end = seen.int().argmax(1), length - seen.flip(1).int().argmax(1)
        within = (place >= start[:, None] + self.scope.first) & (place < end[:, None] - self.scope.last)
        return seen & within

    def _require_whole(self, length: int, kwargs: Any) -> None:
        """Raises InputError where a row has lost places, so that a place no longer names the same."""
        positions, visible = kwargs.get("position_ids"), kwargs.get("attention_mask")
        whole = length == self.scope.length
        if whole and positions is not None:
            whole = bool((positions[:, -1] == length - 1).all())
        elif whole and visible is not None:
            whole = bool(visible[:, -1].all())
        if not whole:
            raise InputError(
                f"position {self.scope.place} names a place of the whole input, which this baseline shortens; use "
                "baseline='pad' or 'mask', of a picture with a text 'mean+pad', or leave the position out."
            )
