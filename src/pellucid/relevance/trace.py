"""Relevance from an output of any network back to its input, and to everything between."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pellucid.account import Account
from pellucid.errors import InputError, ModelError, UnknownNameError
from pellucid.relevance.experts import Said
from pellucid.relevance.leaves import Leaves
from pellucid.relevance.tracer import Slots, Tracer


class Found(NamedTuple):
    """Relevance in the two parts that a pair has; the negative one is None where there is no pair."""

    positive: Any
    negative: Any

    @property
    def value(self) -> Any:
        """Positive minus negative."""
        return self.positive if self.negative is None else _difference(self.positive, self.negative)


class Kept(NamedTuple):
    """What a pass kept of modules."""

    outputs: Slots
    inputs: Slots
    said: dict[tuple[str, int], Said]


class Trace:
    """Where relevance went: at the input, and at the output of every module that was kept.

    Every tensor of relevance has the shape of what it belongs to; several targets stand in a dimension before that.
    """

    def __init__(
        self,
        tracer: Tracer,
        leaves: Leaves,
        carriers: Sequence[Tensor],
        seeded: Tensor,
        *,
        single: bool,
        kept: bool,
        again: Callable[..., "Trace"],
        answer: tuple[int, ...] = (),
    ) -> None:
        self.composite = tracer.composite
        """The rules."""
        self.answer = answer
        """The tokens of a generated answer, each a target; empty where another target is explained."""
        self._single, self._book, self._again = single, tracer.engine.book, again
        self._held = Kept(tracer.slots, tracer.entered, tracer.said) if kept else None
        at_leaves = [
            _wide(carrier) if self.composite.carrier != "coefficient" else _wide(carrier) * _wide(leaf.detach())
            for carrier, leaf in zip(carriers, leaves.tensors, strict=True)
        ]
        self._rows = len(carriers[0]) if carriers else 0
        self._input = self._split(lambda one: leaves.restored([one(each) for each in at_leaves]))
        self._beside = self._split(lambda one: leaves.beside([one(each) for each in at_leaves]))
        self.seeded = self._totals(seeded)
        """Relevance at the output where the trace began, one number for each target."""
        arrived = torch.stack([each.double().flatten(1).sum(1) for each in at_leaves]).sum(0)
        self.arrived = self._totals(arrived)
        """Relevance that arrived at the input and beside it; the rest was absorbed on the way."""
        self._in_all = float(seeded.sum()), float(arrived.sum())
        self.approximated = tuple(tracer.engine.approximated)
        """(operation, module) of everything that has no rule and was taken to first order."""
        self.constants = tuple(tracer.engine.cut)
        """(operation, module) of everything whose result was taken as a constant."""
        self.routing = {_key(call): said.routing() for call, said in tracer.said.items()}
        """Routing weights [token, expert] of every mixture of experts by its module's name, 0 where none was asked."""

    @property
    def experts(self) -> dict[str | tuple[str, int], Tensor]:
        """Relevance [token, expert] of what each expert gave to each token, by the name of the module that holds them.

        Tokens are those of the batch, row after row; 0 stands where an expert was not asked. Over the experts it sums
        to the relevance of the module's output. A later call has the key (name, call). Empty without such a module; of
        several those that ``keep`` names, as for ``trace[name]``.
        Raises InputError for a composite that carries gradients, which are no relevance.
        """
        if not self.routing:
            return {}
        if self.composite.carrier == "gradient":
            raise InputError(
                f"composite {self.composite.name!r} carries gradients, and only relevance is divided among experts; "
                "use 'input-x-gradient'."
            )
        return {
            _key(call): self._split(partial(_applied, said.relevance(self._rows))).value
            for call, said in self._kept.said.items()
            if said.slot is not None
        }

    @property
    def input(self) -> Any:
        """Relevance of the input, shaped like it (a tuple or dict where it was one).

        Of token ids, that of their embeddings summed over the dimension. What carries none, such as a mask, has zeros.
        """
        return self._input.value

    @property
    def positive(self) -> Any:
        """The relevance for the target, of a composite that carries a pair. Raises InputError for another."""
        return self._of_pair().positive

    @property
    def negative(self) -> Any:
        """The relevance for the other outputs, of a composite that carries a pair. Raises InputError for another."""
        return self._of_pair().negative

    @property
    def beside(self) -> dict[str, Tensor]:
        """Relevance of what was looked up beside the input, by module: positions, token types."""
        result: dict[str, Tensor] = self._beside.value
        return result

    def __getitem__(self, key: str | tuple[str, int]) -> Any:
        """Relevance at a module's output; of a later call of it with ``trace[name, call]``.

        A tensor shaped like the output; of an output of several tensors the traced ones, in order, as a tuple. Where
        nothing was kept the first look makes one more pass that keeps everything. Raises UnknownNameError.
        """
        return self._looked_up(key, self._kept.outputs)

    def entering(self, key: str | tuple[str, int]) -> Any:
        """Relevance of what came into a module, as ``trace[key]`` gives that of what came out."""
        return self._looked_up(key, self._kept.inputs)

    def heads(self, key: str | tuple[str, int], count: int) -> Tensor:
        """Relevance of each attention head [..., head]: of what comes into the projection that joins them, summed.

        ``key``: that module, such as ``"model.layers.0.self_attn.o_proj"``. Raises InputError where its input cannot be
        ``count`` heads.
        """
        joined = self.entering(key)
        if not isinstance(joined, Tensor) or joined.shape[-1] % count:
            raise InputError(f"what comes into {key!r} is not {count} heads side by side.")
        return joined.reshape(*joined.shape[:-1], count, -1).sum(-1)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._kept.outputs))

    def __contains__(self, name: object) -> bool:
        return (name, 0) in self._kept.outputs

    def calls(self, name: str) -> int:
        """How often a module was called."""
        return len([each for each, _ in self._kept.outputs if each == name])

    def _looked_up(self, key: str | tuple[str, int], slots: Slots) -> Any:
        name, call = key if isinstance(key, tuple) else (key, 0)
        if not slots.get((name, call)):
            calls = self.calls(name)
            hint = f"It was called {calls} times." if calls else "Only what keep= names, and depends on the input, is."
            raise UnknownNameError("traced module", name if call == 0 else f"{name}, {call}", self, hint)
        found = self._split(lambda one: tuple(one(each.relevance(self._rows)) for each in slots[name, call])).value
        return found[0] if len(found) == 1 else found

    def account(self) -> Account:
        """The conservation account: in, out, absorbed and leaked of every operation, the largest leak first.

        Sums over the batch, over all targets, and over both relevances of a pair. Costs one more pass, of about twice
        the price. Raises InputError for a composite that carries gradients, which are no relevance.
        """
        if self.composite.carrier == "gradient":
            raise InputError(
                f"composite {self.composite.name!r} carries gradients, and only relevance can be accounted for; use "
                "'input-x-gradient'."
            )
        if self._book is None:
            return self._same(self._again(account=True, keep=())).account()
        return self._book.account(*self._in_all)

    @property
    def _kept(self) -> "Kept":
        """What was kept, or, where nothing was asked for yet, what one more pass keeps."""
        if self._held is None:
            self._held = self._same(self._again(keep=("*",)))._kept
        return self._held

    def _same(self, other: "Trace") -> "Trace":
        """Raises ModelError where the network has changed since this trace."""
        if not torch.allclose(torch.as_tensor(self.arrived), torch.as_tensor(other.arrived), rtol=1e-3, atol=1e-5):
            raise ModelError(
                "the network, or the input, has changed since it was traced, so that what was not kept then cannot be "
                "looked up now; trace again, with keep='*' for everything at once."
            )
        return other

    def __repr__(self) -> str:
        return f"Trace(composite={self.composite.name!r}, seeded={self.seeded}, arrived={self.arrived})"

    def _of_pair(self) -> Found:
        if self._input.negative is None:
            raise InputError(
                f"composite {self.composite.name!r} carries one relevance; 'backtrace-contrast' carries a positive and "
                "a negative one."
            )
        return self._input

    def _split(self, make: Callable[[Callable[[Tensor], Tensor]], Any]) -> Found:
        """Build something of rows [target or pair, ...] without that dimension where there is one target."""

        def picked(part: int) -> Callable[[Tensor], Tensor]:
            def pick(rows: Tensor) -> Tensor:
                chosen = rows[part::2] if self.composite.carrier == "pair" else rows
                return chosen[0] if self._single else chosen

            return pick

        return Found(make(picked(0)), make(picked(1)) if self.composite.carrier == "pair" else None)

    def _totals(self, rows: Tensor) -> Any:
        return self._split(lambda one: one(rows)).value


def _applied(rows: Tensor, one: Callable[[Tensor], Tensor]) -> Tensor:
    return one(rows)


def _key(call: tuple[str, int]) -> str | tuple[str, int]:
    return call[0] if call[1] == 0 else call


def _wide(tensor: Tensor) -> Tensor:
    """The same numbers in float32, or in what is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _difference(positive: Any, negative: Any) -> Any:
    """The difference of two equally nested collections of tensors."""
    result: Any = torch.utils._pytree.tree_map(lambda p, n: p - n, positive, negative)
    return result
