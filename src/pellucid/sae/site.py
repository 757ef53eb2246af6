"""A place in a network: reading what passes there, and writing something else in its stead. Plain forward hooks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from pellucid.errors import InputError, ModelError, UnknownNameError

INPUT = ":input"


class Site(NamedTuple):
    """What goes into a module, or comes out of it."""

    module: str
    """Name of the module, as ``named_modules`` of the network gives it."""
    side: Literal["output", "input"] = "output"
    """Which side of it."""

    @classmethod
    def of(cls, text: str) -> "Site":
        """``model.layers.15``, or ``model.layers.15:input``. Raises InputError on anything else."""
        name, colon, side = text.partition(":")
        if not name or (colon and side not in ("input", "output")):
            raise InputError(f"a site is the name of a module, or that name with {INPUT}; got {text!r}.")
        return cls(name, "input" if side == "input" else "output")

    def __str__(self) -> str:
        return self.module + (INPUT if self.side == "input" else "")

    def find(self, root: nn.Module) -> nn.Module:
        """The module in a network. Raises UnknownNameError, which offers the nearest names."""
        modules: dict[str, nn.Module] = dict(root.named_modules())
        modules.pop("")
        if self.module not in modules:
            raise UnknownNameError("module of the network", self.module, modules)
        return modules[self.module]


def hidden(value: Any, site: Site) -> Tensor:
    """The activations in what a module gave or got: the first tensor. Raises ModelError where there is none."""
    first = value
    while not isinstance(first, Tensor):
        if isinstance(first, dict):
            first = tuple(first.values())
        if not isinstance(first, tuple | list) or not first:
            raise ModelError(f"no tensor passes at {str(site)!r}; take another site.")
        first = first[0]
    return first


class _EverySiteSeenError(Exception):
    """Ends a forward pass of which no more is wanted."""


def capture(root: nn.Module, sites: Sequence[Site], call: Callable[[], Any]) -> dict[Site, Tensor]:
    """What passes at several sites of a network during one call, which ends at the last of them.

    Of a module that runs more than once, the first run is taken. Raises UnknownNameError on a site that does not exist,
    and ModelError on one that the call does not reach.
    """
    seen: dict[Site, Tensor] = {}

    def see(site: Site, value: Any) -> None:
        last = len(seen) + 1 == len(set(sites))
        if site not in seen:
            # A later module may work in place on what passed here.
            seen[site] = hidden(value, site) if last else hidden(value, site).clone()
        if len(seen) == len(set(sites)):
            raise _EverySiteSeenError

    with _hooked(root, sites, see):
        try:
            call()
        except _EverySiteSeenError:
            return seen
    missed = next(site for site in sites if site not in seen)
    raise ModelError(f"the model ran without {str(missed)!r}; take a site that it passes through.")


@contextmanager
def edited(root: nn.Module, site: Site, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, the network goes on with ``edit(h)`` in place of the activations h [batch, seq, d_in] at a site."""

    def exchange(site: Site, value: Any) -> Any:
        return _exchanged(value, edit(hidden(value, site)))

    with _hooked(root, [site], exchange):
        yield


def _exchanged(value: Any, new: Tensor) -> Any:
    """What a module gives or gets, with another first tensor."""
    if isinstance(value, Tensor):
        return new
    if isinstance(value, dict):
        # A model's output is a dictionary of a class of its own.
        name = next(iter(value))
        return type(value)(**{**value, name: _exchanged(value[name], new)})
    if hasattr(value, "_fields"):
        return type(value)(_exchanged(value[0], new), *value[1:])
    return type(value)((_exchanged(value[0], new), *value[1:]))


@contextmanager
def _hooked(root: nn.Module, sites: Sequence[Site], act: Callable[[Site, Any], Any]) -> Iterator[None]:
    """Inside, ``act`` gets what passes at each site, and what it returns, if anything, passes in its stead."""

    def before(site: Site) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            if args:
                changed = act(site, args)
                return None if changed is None else (changed, kwargs)
            changed = act(site, kwargs)
            return None if changed is None else (args, changed)

        return hook

    def after(site: Site) -> Callable[..., Any]:
        return lambda module, args, value: act(site, value)

    handles = []
    try:
        for site in sites:
            module = site.find(root)
            if site.side == "input":
                handles.append(module.register_forward_pre_hook(before(site), with_kwargs=True))
            else:
                handles.append(module.register_forward_hook(after(site)))
        yield
    finally:
        for handle in handles:
            handle.remove()
