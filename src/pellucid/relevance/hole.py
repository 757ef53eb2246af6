"""A call of torch as a function of its traced operands alone, so that nothing else keeps these alive."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class _Hole(NamedTuple):
    """Where a traced operand stood in a call."""

    place: int


def of_operands(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], operands: tuple[Tensor, ...]
) -> Callable[..., Any]:
    """The call as a function of as many tensors as it has traced operands, in their order."""
    places = iter(range(len(operands)))

    def emptied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return _Hole(next(places)) if value.requires_grad else value
        if isinstance(value, dict):
            return {name: emptied(each) for name, each in value.items()}
        return type(value)(emptied(each) for each in value) if type(value) in (list, tuple) else value

    def filled(value: Any, given: tuple[Tensor, ...]) -> Any:
        if isinstance(value, _Hole):
            return given[value.place]
        if isinstance(value, dict):
            return {name: filled(each, given) for name, each in value.items()}
        return type(value)(filled(each, given) for each in value) if type(value) in (list, tuple) else value

    held = emptied(args), emptied(kwargs)

    def function(*given: Tensor) -> Any:
        return func(*filled(held[0], given), **filled(held[1], given))

    return function
