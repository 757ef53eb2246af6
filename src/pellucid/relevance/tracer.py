"""One pass of a network under a composite: hooks that say where it is, the engine that carries, what was kept."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._pytree import tree_leaves, tree_map_only

from pellucid.errors import MOST_NAMES, InputError, ModelError, NumericalError
from pellucid.relevance.book import Book
from pellucid.relevance.calls import body
from pellucid.relevance.capture import Slot, pulled
from pellucid.relevance.composite import Composite
from pellucid.relevance.engine import Engine
from pellucid.relevance.experts import Routed, Router, Said, check_router, expert_count, is_sum_of
from pellucid.relevance.operations import Kind, Operation
from pellucid.relevance.rule import AbstractTreatment, AsIs, Call, Place, traced


class Output(NamedTuple):
    """A tensor that the network gave."""

    real: Tensor
    """The end of the graph that carries relevance."""
    cut: Tensor
    """The same numbers, on which a target is computed with ordinary gradients."""


Slots = dict[tuple[str, int], list[Slot]]
"""Slots of the traced tensors of a module, by its name and the number of its call."""


class _Whole(NamedTuple):
    """A module that counts as one operation, while it runs."""

    treatment: AbstractTreatment
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Tracer(AbstractContextManager["Tracer"]):
    """Inside, a call of the network is traced; afterwards the network is as it was, errors or not.

    Args:
        module: the network.
        composite: the rules.
        keep: patterns of module names whose outputs are kept.
        strict: refuse what has no rule, rather than take it to first order.
        account: keep the account of every operation.
        folded: keep of modules only what each position carries, summed over the last dimension, which for many targets
            is all that fits in memory.
        router: what the routing weights of a mixture of experts are. A composite without rules traces them.
        experts: keep the relevance of each expert of every mixture, whatever else is kept.

    Raises InputError on another router, and on one to be traced where there is none.
    """

    def __init__(
        self,
        module: nn.Module,
        composite: Composite,
        *,
        keep: Sequence[str] = (),
        strict: bool = True,
        account: bool = False,
        folded: bool = False,
        router: Router = "constant",
        experts: bool = False,
    ) -> None:
        check_router(router)
        self.module, self.composite, self._router = module, composite, router
        self.engine = Engine(composite, module, strict=strict, book=Book(composite.carrier) if account else None)
        # As torch declares it, without types.
        self._mode: Any = self.engine
        self.outputs: list[Output] = []
        """What the network gave that depends on the input."""
        self.slots: Slots = {}
        """What is kept of the outputs of modules."""
        self.entered: Slots = {}
        """The same of what came into them."""
        self.said: dict[tuple[str, int], Said] = {}
        """What is kept of each call of a mixture of experts."""
        self._keep, self._folded, self._keep_experts = keep, folded, experts
        self._thread = get_ident()
        self._known: dict[int, tuple[Tensor, Slot]] = {}
        self._calls: dict[str, int] = {}
        self._whole: list[_Whole | None] = []
        self._routed: list[Routed | None] = []
        # The mixture that runs as it is, and whether gradients were on before.
        self._asked: nn.Module | None = None
        self._mixed: Routed | None = None
        """The last mixture that ran, whose arguments torch hands on as those of the sample."""
        self._graded = True
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._running = False
        self.engine.returning = False

    def __enter__(self) -> "Tracer":
        names = [name for name, _ in self.module.named_modules()]
        for key in self.composite:
            if isinstance(key, str) and not isinstance(key, Kind) and not any(fnmatchcase(n, key) for n in names):
                raise InputError(
                    f"composite {self.composite.name!r} has a rule for {key!r}, and no module of this network has such "
                    f"a name; they are called {', '.join(map(repr, names[1:MOST_NAMES]))}."
                )
        self._hook()
        return self

    def _hook(self) -> None:
        for name, part in self.module.named_modules():
            place = Place(name, part)
            kept = any(fnmatchcase(name, pattern) for pattern in self._keep)
            enter = partial(self._enter, place, self.composite.of_module(place))
            leave = partial(self._leave, place, kept)
            self._hooks += [
                part.register_forward_pre_hook(enter, with_kwargs=True, prepend=True),
                part.register_forward_hook(leave, with_kwargs=True),
            ]
            if expert_count(part) is not None:
                # Next to the module itself: what others have hooked to it sees one call, as ever.
                self._hooks += [
                    part.register_forward_pre_hook(self._ask, with_kwargs=True),
                    part.register_forward_hook(partial(self._hear, place, kept), with_kwargs=True, prepend=True),
                ]

    def _unhook(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unhook()
        if self._running:
            self._stop()

    def _enter(
        self, place: Place, whole: AbstractTreatment | None, part: nn.Module, args: Any, kwargs: Any = None
    ) -> tuple[Any, Any] | None:
        # Torch keeps a hook before it keeps that it wants kwargs: another thread may call it without.
        if kwargs is None or not self._is_ours(part):
            return None
        if part is self.module and not self._running:
            self._mode.__enter__()
            self._running = True
            self.engine.unseen.settle()
        self.engine.places.append(place)
        taken = whole is not None and not self.engine.resting and any(True for _ in traced((args, kwargs)))
        self._whole.append(_Whole(whole, args, kwargs) if taken and whole is not None else None)
        if not taken:
            return None
        self.engine.resting = True
        if isinstance(whole, AsIs):
            return None
        with torch._C.DisableTorchFunction():
            # Copies: the module may write into them, and its rule needs what came in.
            return _mapped(_copied, args), _mapped(_copied, kwargs)

    def _ask(self, part: nn.Module, args: Any, kwargs: Any = None) -> tuple[Any, Any] | None:
        """Before what may be a mixture of experts: it runs as it is, without gradients or rules, in part if known."""
        if kwargs is None or not self._is_ours(part):
            return None
        with torch._C.DisableTorchFunction():
            self.engine.unseen.notice()
            routed = None if self.engine.resting else Routed.read(part, args, kwargs, self.engine.current)
            self.engine.unseen.settle()
        self._routed.append(routed)
        if routed is None:
            return None
        self._asked, self._graded, self.engine.resting = part, torch.is_grad_enabled(), True
        torch.set_grad_enabled(False)
        return routed.sampled() if routed.is_known else (routed.args, routed.kwargs)

    def _resume(self) -> None:
        torch.set_grad_enabled(self._graded)
        self._asked, self.engine.resting = None, False
        self.engine.unseen.settle()

    def _hear(self, place: Place, kept: bool, part: nn.Module, args: Any, *rest: Any) -> Any:
        """After it: the sum of what each expert gave, as one operation; of another module, what any module gives."""
        if len(rest) < 2 or not self._is_ours(part):
            return None
        routed, (_, output) = self._routed.pop(), rest
        if routed is None:
            return None
        try:
            sums = routed.gives_the_sum(output)
        finally:
            self._resume()
        if routed.is_written:
            raise ModelError(
                f"the mixture of experts at {place.name or 'the network itself'!r} writes into its arguments; let it "
                "work on copies of them."
            )
        self._mixed = routed
        summed = self._summed(self._holding(routed, place), place, kept, output) if sums else None
        return part.forward(*routed.args, **routed.kwargs) if summed is None else summed

    def _holding(self, routed: Routed, place: Place) -> Routed:
        """A call of a mixture with the routing weights that were asked for."""
        if self._router == "traced" or self.composite.otherwise is not None:
            return routed
        if routed.weights.requires_grad:
            self.engine.cut["router", place.name] = None
        with torch._C.DisableTorchFunction():
            return routed.holding_weights()

    def _summed(self, routed: Routed, place: Place, kept: bool, output: Tensor) -> Tensor | None:
        """The sum of what each expert gave; None where a known module gives no sum.

        Raises ModelError where another one gives it for some tokens alone.
        """
        apart = routed.apart()
        with torch._C.DisableTorchFunction():
            told = None if apart is None else apart.detach()[[*routed.sample]] if routed.is_known else apart.detach()
            if apart is None or told is None or not is_sum_of(output.flatten(0, -2), told):
                if routed.is_known:
                    return None
                raise ModelError(
                    f"the mixture of experts at {place.name or 'the network itself'!r} gives some tokens another value "
                    "than the sum of what its experts give them one by one (a capacity limit does that); switch off "
                    "what drops tokens."
                )
        if not self.engine.returning:
            call = len([name for name, _ in self.said if name == place.name])
            kept = (kept or self._keep_experts) and apart.requires_grad
            with torch._C.DisableTorchFunction():
                slot = Slot(apart, self.composite.carrier, folded=True) if kept else None
            self.said[place.name, call] = Said(routed.chosen, routed.weights.detach(), routed.experts, slot)
        summed = apart.sum(1)
        return summed if len(routed.form) == 1 else summed.view(*routed.form, -1)

    def _leave(self, place: Place, kept: bool, part: nn.Module, args: Any, *rest: Any) -> Any:
        if len(rest) < 2 or not self._is_ours(part):
            return None
        kwargs, output = rest
        if self._mixed is not None and self._mixed.part is part:
            args, kwargs, self._mixed = self._mixed.args, self._mixed.kwargs, None
        with torch._C.DisableTorchFunction():
            whole = self._whole.pop()
            if whole is not None:
                self.engine.resting = False
                output = self._as_one(whole, place, part, output)
                self.engine.unseen.settle()
            self.engine.unseen.notice()
            output = _mapped(self._checked, output)
            self.engine.places.pop()
            if kept and not self.engine.returning:
                self._take(place.name, output, () if whole is not None else (args, kwargs))
        if part is self.module and len(self.engine.places) == 1 and not self.engine.returning:
            self._stop()
            if self._router == "traced" and not self.said:
                raise InputError(
                    "router='traced' goes through the router of a mixture of experts, and no module of this network "
                    "has num_experts, is given tokens, experts and weights, and gives a sum; leave router='constant'."
                )
            return _mapped(self._cut, output)
        return output

    def _is_ours(self, part: nn.Module) -> bool:
        """Whether a module is called by this trace: another thread may call the same network meanwhile."""
        if self._asked is not None and part is not self._asked:
            return False
        if part is self.module and not self._running:
            return get_ident() == self._thread
        return self.engine in _get_current_function_mode_stack()

    def _checked(self, tensor: Tensor) -> Tensor:
        tensor = self.engine.current(tensor)
        self.engine.check_origin(tensor)
        return tensor

    def _stop(self) -> None:
        if self._asked is not None:
            self._resume()
        self._running = False
        self._mode.__exit__(None, None, None)

    def _as_one(self, whole: _Whole, place: Place, part: nn.Module, output: Any) -> Any:
        if isinstance(whole.treatment, AsIs):
            return output
        name = type(part).__name__
        operation = Operation(name, Kind.ACTIVATION, part.forward)
        # It depends on the module's parameters, which are constants to what comes after.
        value = _mapped(Tensor.detach, output)
        ran = Call(operation, Kind.ACTIVATION, place, _Remembered(part, value), whole.args, whole.kwargs)
        return self.engine.applied(ran, whole.treatment)

    def _take(self, name: str, output: Any, entered: Any) -> None:
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        self.slots[name, call] = self._kept(output)
        self.entered[name, call] = self._kept(entered)

    def _kept(self, value: Any) -> list[Slot]:
        found = [each for each in tree_leaves(value) if isinstance(each, Tensor) and each.requires_grad]
        for each in found:
            # Modules that hand the same tensor on share what is kept of it.
            if id(each) not in self._known:
                self._known[id(each)] = (each, Slot(each, self.composite.carrier, folded=self._folded))
        return [self._known[id(each)][1] for each in found]

    def _cut(self, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        cut = tensor.detach().requires_grad_()
        self.outputs.append(Output(tensor, cut))
        return cut

    def pull(self, seeds: Sequence[Tensor], inputs: Sequence[Tensor], *, again: bool = False) -> tuple[Tensor, ...]:
        """Carry seeds [target, *shape], one for each output, back to the inputs. Returns [target, *shape of input].

        Unless it is to be called ``again``, what the network saved is freed on the way.
        Fills the slots. Raises NumericalError where what arrives is not finite.
        """
        # Names in place, and tensors by identity, are a matter of the forward pass alone.
        self._known.clear()
        self.engine.returning = True
        self.engine.places = self.engine.places[:1]
        # A checkpoint that recomputes calls modules, at their places.
        hooked = bool(self._hooks)
        if not hooked:
            self._hook()
        try:
            with self.engine:
                self.engine.unseen.settle()
                found = pulled(
                    [each.real for each in self.outputs], inputs, seeds, body(torch.autograd.grad), again=again
                )
        finally:
            self.engine.returning = False
            if not hooked:
                self._unhook()
        if not all(bool(torch.isfinite(each).all()) for each in found):
            raise NumericalError(
                f"relevance became NaN or infinite on its way back under composite {self.composite.name!r}: a layer "
                "divides by a number that is 0 or overflows the network's dtype."
            )
        return found


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().clone() if tensor.requires_grad else tensor


def _mapped(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Any nesting of tensors, that of a library's own output classes too, with each tensor changed."""
    return change(value) if isinstance(value, Tensor) else tree_map_only(Tensor, change, value)


class _Remembered:
    """A module that already ran on its arguments: its first call gives what came out, later ones run it."""

    def __init__(self, module: nn.Module, value: Any) -> None:
        self.module = module
        self.value = [value]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.value.pop() if self.value else self.module.forward(*args, **kwargs)


def first_not_finite(module: nn.Module, run: Callable[[], Any]) -> str | None:
    """The name of the first module that gives NaN or infinity when ``run`` calls the network."""
    found: list[str] = []

    def look(name: str, part: nn.Module, args: Any, output: Any) -> None:
        tensors = [each for each in tree_leaves(output) if isinstance(each, Tensor)]
        if not found and not all(bool(torch.isfinite(each).all()) for each in tensors):
            found.append(name or type(part).__name__)

    hooks = [part.register_forward_hook(partial(look, name)) for name, part in module.named_modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
