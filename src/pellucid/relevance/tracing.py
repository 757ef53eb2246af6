"""One trace of a network: what is asked of it, checked, and one pass forward and back."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pellucid.errors import InputError, ModelError, NumericalError, UnknownNameError
from pellucid.progress import progress
from pellucid.relevance.answer import Answered, answered
from pellucid.relevance.catalogue import DEFAULT
from pellucid.relevance.catalogue import composite as composite_of
from pellucid.relevance.composite import Composite
from pellucid.relevance.experts import Router
from pellucid.relevance.leaves import Inputs, Leaves
from pellucid.relevance.precision import Precision, in_float32, widened
from pellucid.relevance.refusals import check_traceable
from pellucid.relevance.start import Start, explained, output_of, seeds
from pellucid.relevance.trace import Trace
from pellucid.relevance.tracer import Tracer, first_not_finite
from pellucid.targets import AbstractTarget, Generated


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
    router: Router = "constant",
    precision: Precision = "float32",
    generated: bool | Generated = False,
) -> Trace:
    """Trace relevance from an output of a network back to its input and to every module's output.

    Args:
        module: any ``torch.nn.Module``, as its author wrote it.
        x: what it is called with: a tensor, a tuple, or a dict of arguments. Row b of a batch is traced as if alone.
        target: ``Logit(1)``, ``Margin(1)``, ``Token(1)`` by the index of an output (None inside: the row's largest);
            ``Region(1, mask)``, ``Pixel(1, y, x)`` of a map [batch, class, height, width]; ``Box(1, query)``,
            ``Step(1, step)`` of a sequence; or several, which share one backward pass and come in a dimension before
            all others.
        composite: a name that ``composites()`` lists, or a composite made by hand.
        start: ``"value"``: relevance starts as what the target is; ``"one"``: as 1; a tensor shaped like the output: as
            that (``target`` is then without effect). A composite that carries a pair also takes both, [2, *output].
        keep: patterns of the names of modules whose output's relevance is kept, ``"*"`` for all; ``()`` none. None:
            what is looked up later, by one more pass.
        strict: False takes an operation without a rule to first order and lists it in ``Trace.approximated``.
        account: keep the account of the pass at once, rather than in one more pass when it is asked for.
        router: ``"constant"``: the routing weights of a mixture of experts are constants, and the experts receive
            everything; ``"traced"``: they are an operand of a product, under its rule. A gradient always traces them.
            A mixture is a module with ``num_experts`` that is given tokens, experts and weights, and gives a sum over
            them; hold the router of another form by name: ``composite.with_rule("*.router", Constant())``.
        precision: ``"float32"``: a network of half precision is traced with its weights in float32, which takes memory
            for a copy of them; ``"network"``: what travels back has the network's own dtype.
        generated: explain every token of the answer that a language model itself gives to one prompt, ``Generated``
            saying how it is found; True is ``Generated()``. The targets are the log-probabilities of these tokens.

    Returns:
        The trace. Relevance is float32 or wider. Cost: 1 forward and 1 backward pass, a row of it for each target.

    Raises:
        NoRuleError: an operation without a rule.
        InputError: a target outside the output, a start that does not fit, a part in training mode, no router to trace.
        ModelError: a scripted, compiled or quantised module; an output that does not depend on the input.
        NumericalError: NaN or infinity in a layer, which is named.
    """
    patterns = _patterns(module, keep)
    chosen = composite if isinstance(composite, Composite) else composite_of(composite)
    given = _Given(x, target, start, _answer(module, x, target, start, generated))
    network = _network(module, precision)
    leaves = Leaves(given.read(network is not module))
    tracer = Tracer(network, chosen, keep=patterns, strict=strict, account=account, router=router)
    carriers, seeded = _pass(given, leaves, tracer)
    again = partial(
        trace, module, x, target, composite=chosen, start=start, strict=strict, router=router, precision=precision,
        generated=False if given.answer is None else Generated(token_ids=given.answer.ids),
    )  # fmt: skip
    return Trace(tracer, leaves, carriers, seeded, kept=keep is not None, again=again, **given.form)


class _Given(NamedTuple):
    """What is asked of one pass."""

    x: Inputs
    target: AbstractTarget | Sequence[AbstractTarget] | None
    start: Start
    answer: Answered | None
    """A generated answer, whose tokens are the targets."""

    @property
    def form(self) -> dict[str, Any]:
        """Whether there is one target, without a dimension of its own, and the tokens of a generated answer."""
        alone = not isinstance(self.target, Sequence) or isinstance(self.start, Tensor)
        return {"single": alone, "answer": ()} if self.answer is None else {"single": False, "answer": self.answer.ids}

    def read(self, wide: bool) -> Inputs:
        """What the network is called with; numbers of half precision in float32 where it is ``wide``."""
        x = self.x if self.answer is None else self.answer.x
        return in_float32(x) if wide else x

    def called(self, network: nn.Module) -> Callable[..., Any]:
        """What is called: the network, with logits where they are wanted alone."""
        return network if self.answer is None else self.answer.call(network)

    def explained(self, output: Tensor, leaves: Leaves) -> Tensor:
        """The part of the output where the trace begins."""
        if self.answer is not None:
            return self.answer.logits(output)
        return explained(output, self.start, self._targets, unbatched=leaves.unbatched)

    def pulled(self, tracer: Tracer, output: Tensor, leaves: Leaves) -> tuple[Sequence[Tensor], Tensor]:
        """What arrives at the leaves [row, *shape], and the relevance that it began as [row]."""
        carrier = tracer.composite.carrier
        if self.answer is None:
            begun, seeded = seeds(output, self._targets, self.start, carrier, unbatched=leaves.unbatched)
            return tracer.pull([begun], leaves.tensors), seeded
        parts, totals = [], []
        with progress("Tracing the answer", len(self.answer.ids)) as advance:
            for begun, seeded, is_last in self.answer.seeds(output, carrier):
                parts.append(tracer.pull([begun], leaves.tensors, again=not is_last))
                totals.append(seeded)
                advance(len(begun))
        return [torch.cat(rows) for rows in zip(*parts, strict=True)], torch.cat(totals)

    @property
    def _targets(self) -> list[AbstractTarget | None]:
        return [*self.target] if isinstance(self.target, Sequence) else [self.target]


def _pass(given: _Given, leaves: Leaves, tracer: Tracer) -> tuple[Sequence[Tensor], Tensor]:
    """One pass forward and back: what arrives at the leaves [row, *shape], and the relevance that began [row]."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        with tracer:
            output = output_of(leaves.call(given.called(tracer.module)))
        leaves.add(tracer.engine.embedded)
        tracer.outputs = [each for each in tracer.outputs if each.cut is output]
        _check_output(tracer.module, leaves, tracer, given.explained(output, leaves))
        return given.pulled(tracer, output, leaves)


def _answer(module: nn.Module, x: Inputs, target: object, start: Start, generated: bool | Generated) -> Answered | None:
    """Raises InputError where another target is given, and as ``answered``."""
    if generated is False:
        return None
    how = Generated() if generated is True else generated
    if not isinstance(how, Generated):
        raise InputError(f"generated is True, or Generated(...), which says how an answer is found, not {generated!r}.")
    if target is not None or start != "value":
        raise InputError("generated= explains the tokens of the answer; leave target and start out.")
    return answered(module, x, how)


def _network(module: nn.Module, precision: Precision) -> nn.Module:
    if precision not in ("float32", "network"):
        raise UnknownNameError("precision", str(precision), ("float32", "network"))
    return widened(module) if precision == "float32" else module


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
