"""Relevance from an output of any network back to its input, and to everything between."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pellucid.account import Account
from pellucid.errors import InputError, ModelError, NumericalError, UnknownNameError
from pellucid.relevance.catalogue import DEFAULT
from pellucid.relevance.catalogue import composite as composite_of
from pellucid.relevance.composite import Composite
from pellucid.relevance.leaves import Inputs, Leaves
from pellucid.relevance.refusals import check_traceable
from pellucid.relevance.start import Start, explained, output_of, seeds
from pellucid.relevance.tracer import Slots, Tracer, first_not_finite
from pellucid.targets import AbstractTarget


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
    ) -> None:
        self.composite = tracer.composite
        """The rules."""
        self._single, self._book, self._again = single, tracer.engine.book, again
        self._held = Kept(tracer.slots, tracer.entered) if kept else None
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


def trace(
    module: nn.Module,
    x: Inputs,
    target: AbstractTarget | Sequence[AbstractTarget] | None = None,
    *,
    composite: str | Composite = DEFAULT["text"],
    start: Start = "value",
    keep: str | Sequence[str] | None = None,
    strict: bool = True,
    account: bool = False,
) -> Trace:
    """Trace relevance from an output of a network back to its input and to every module's output.

    Args:
        module: any ``torch.nn.Module``, as its author wrote it.
        x: what it is called with: a tensor, a tuple, or a dict of arguments. Row b of a batch is traced as if alone.
        target: ``Logit(1)``, ``Margin(1)``, ``Token(1)`` by the index of an output (None inside: the row's largest), or
            several, which share one backward pass and come in a dimension before all others.
        composite: a name that ``composites()`` lists, or a composite made by hand.
        start: ``"value"``: relevance starts as what the target is; ``"one"``: as 1; a tensor shaped like the output: as
            that (``target`` is then without effect). A composite that carries a pair also takes both, [2, *output].
        keep: patterns of the names of modules whose output's relevance is kept, ``"*"`` for all. None keeps none until
            one is looked up, which then makes one more pass; ``()`` keeps none at all.
        strict: False takes an operation without a rule to first order and lists it in ``Trace.approximated``.
        account: keep the account of the pass at once, rather than in one more pass when it is asked for.

    Returns:
        The trace. Relevance is float32 or wider. Cost: 1 forward and 1 backward pass, a row of it for each target.

    Raises:
        NoRuleError: an operation without a rule.
        InputError: a target outside the output, a start that does not fit, a part in training mode.
        ModelError: a scripted, compiled or quantised module; an output that does not depend on the input.
        NumericalError: NaN or infinity in a layer, which is named.
    """
    patterns = _patterns(module, keep)
    chosen = composite if isinstance(composite, Composite) else composite_of(composite)
    targets = [*target] if isinstance(target, Sequence) else [target]
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaves = Leaves(x)
        with Tracer(module, chosen, keep=patterns, strict=strict, account=account) as tracer:
            output = output_of(leaves.call(module))
        leaves.add(tracer.engine.embedded)
        tracer.outputs = [each for each in tracer.outputs if each.cut is output]
        _check_output(module, leaves, tracer, explained(output, start, unbatched=leaves.unbatched))
        begun, seeded = seeds(output, targets, start, chosen.carrier, unbatched=leaves.unbatched)
        carriers = tracer.pull([begun], leaves.tensors)
    again = partial(trace, module, x, target, composite=chosen, start=start, strict=strict)
    single = not isinstance(target, Sequence) or isinstance(start, Tensor)
    return Trace(tracer, leaves, carriers, seeded, single=single, kept=keep is not None, again=again)


def _patterns(module: nn.Module, keep: str | Sequence[str] | None) -> Sequence[str]:
    """What is to be kept of a module. Raises InputError on what is neither, ModelError as ``check_traceable``."""
    if not isinstance(module, nn.Module):
        raise InputError(f"trace needs a torch.nn.Module, not {type(module).__name__}; it is model.module of a model.")
    if not isinstance(keep, Sequence | None):
        raise InputError(f"keep is a pattern of module names, or several, not {keep!r}; '*' keeps all.")
    check_traceable(module)
    return (keep,) if isinstance(keep, str) else keep or ()


def _check_output(module: nn.Module, leaves: Leaves, tracer: Tracer, output: Tensor) -> None:
    if not bool(torch.isfinite(output).all()):
        if leaves.holds_nan:
            raise InputError("the input holds NaN, and so does the output; nothing can be traced from there.")
        name = first_not_finite(module, lambda: leaves.call(module))
        raise NumericalError(f"{name or 'the network'!r} gives NaN or infinity; nothing can be traced from there.")
    if not tracer.outputs:
        constants = ", ".join(f"{operation} at {place!r}" for operation, place in tracer.engine.cut)
        why = f"what was taken as a constant: {constants}" if constants else "a part that runs without gradients"
        if not leaves.tensors:
            why = "the input holds integers alone, and no F.embedding looks vectors up for them"
        raise ModelError(
            f"the output does not depend on the input under composite {tracer.composite.name!r} ({why}); trace an "
            "earlier output, use another composite, give what was cut a rule of its own, or remove no_grad and detach."
        )


def _wide(tensor: Tensor) -> Tensor:
    """The same numbers in float32, or in what is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _difference(positive: Any, negative: Any) -> Any:
    """The difference of two equally nested collections of tensors."""
    result: Any = torch.utils._pytree.tree_map(lambda p, n: p - n, positive, negative)
    return result
