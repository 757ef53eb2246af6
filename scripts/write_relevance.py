"""Write the tables of docs/relevance.md, between their markers, from the composites and the table of operations."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

TORCH = "2.13"
"""The version whose spellings the page holds."""
PAGE = Path(__file__).parent.parent / "docs" / "relevance.md"
PLACES = {
    "torch": torch,
    "Tensor": Tensor,
    "F": functional,
    "torch.special": torch.special,
    "torch.linalg": torch.linalg,
}
"""Where functions of torch stand, by the name that they are written with."""
OPERATORS = {
    "__add__": "+", "__sub__": "-", "__mul__": "*", "__truediv__": "/", "__matmul__": "@", "__pow__": "**",
    "__neg__": "-x", "__pos__": "+x", "__abs__": "abs(x)", "__iadd__": "+=", "__isub__": "-=", "__imul__": "*=",
    "__itruediv__": "/=", "__ipow__": "**=", "__imatmul__": "@=", "__getitem__": "x[i]", "__setitem__": "x[i] = y",
    "__floordiv__": "//", "__mod__": "%", "__rpow__": "2**x", "__rtruediv__": "1 / x",
    "__rmatmul__": "a @ x", "__rsub__": "a - x",
}  # fmt: skip
CARRIERS = ("coefficient", "relevance", "pair")
"""What composites with rules carry."""


def text() -> str:
    """The page as it stands in its file, its tables made anew."""
    page = PAGE.read_text("utf-8")
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise SystemExit(f"docs/relevance.md needs the lines {begin.strip()} and {end.strip()} once.")
        page = page[: page.index(begin) + len(begin)] + make() + page[page.index(end) :]
    return page


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Rows as Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def defaults() -> str:
    """The composite of each kind of input."""
    from pellucid.relevance.catalogue import DEFAULT

    return ", ".join(f"{modality} `{name}`" for modality, name in DEFAULT.items()) + "."


def composites() -> str:
    """Every composite with what it is chosen by."""
    from pellucid.relevance import all_composites

    rows = [
        (
            f"`{name}`",
            each.facts.title,
            f"the {each.carrier}",
            "yes" if each.facts.class_specific else "no",
            "yes" if each.facts.conserving else "no",
            each.facts.cost,
            each.facts.source,
        )
        for name, each in all_composites().items()
    ]
    return table(
        ("composite", "what the literature calls it", "carries", "class-specific", "conserving", "cost", "source"), rows
    )


def kinds() -> str:
    """What each composite does with each kind of operation."""
    from pellucid.relevance import Kind

    rows = [(f"`{kind}`", meaning(kind), *(treatments(kind, carrier) for carrier in CARRIERS)) for kind in Kind]
    return table(("kind", "what it is", *(f"the {carrier}" for carrier in CARRIERS)), rows)


def movement() -> str:
    """The operations that only move numbers, in all their spellings."""
    from pellucid.relevance import Kind

    return ", ".join(written for name, kind, written in known() if kind is Kind.MOVEMENT) + "."


def operations() -> str:
    """All other operations with their spellings, and what becomes of each under each carrier."""
    from pellucid.relevance import Kind

    rows = [
        (
            f"`{name}`",
            written,
            ", ".join(kinds_of(name, kind)),
            *(becomes(kinds_of(name, kind), each) for each in CARRIERS),
        )
        for name, kind, written in known()
        if kind is not Kind.MOVEMENT
    ]
    return table(("operation", "spellings", "kind", *(f"the {carrier}" for carrier in CARRIERS)), rows)


def known() -> Iterator[tuple[str, Any, str]]:
    """Every operation that has a public name: what it is called here, its kind, and its spellings."""
    from pellucid.relevance.operations import operations

    spelled = spellings()
    for kind, name in dict.fromkeys((each.kind, each.name) for each in operations().values()):
        if name in spelled:
            yield name, kind, " ".join(f"`{each}`" for each in spelled[name])


def taken_apart() -> str:
    """The functions that are replaced by simpler ones."""
    from pellucid.relevance.decompositions import decompositions

    return ", ".join(f"`{name}`" for name in sorted(decompositions())) + "."


def meaning(kind: Any) -> str:
    """What the source says of a kind: the docstring under the member."""
    import inspect

    from pellucid.relevance.operations import Kind

    found = re.search(rf'    {kind.name} = "[^"]+"\n    """(.+?)"""', inspect.getsource(Kind), re.DOTALL)
    if found is None:
        raise SystemExit(f"Kind.{kind.name} has no docstring.")
    return found[1]


def treatments(kind: Any, carrier: str) -> str:
    """The rules of a kind under a carrier; with the composites' names where these differ."""
    from pellucid.relevance import all_composites

    found: dict[str, list[str]] = {}
    for name, each in all_composites().items():
        if each.carrier == carrier and each.otherwise is None:
            found.setdefault(repr(each.get(kind)) if kind in each else "-", []).append(f"`{name}`")
    if len(found) == 1:
        return named(next(iter(found)))
    return "; ".join(f"{named(rule)}: {', '.join(names)}" for rule, names in found.items())


def named(rule: str) -> str:
    """A rule as the page names it: without the stabiliser that all have, and what is on anyway."""
    return rule if rule == "-" else f"`{re.sub(r'(, )?(epsilon=1e-06|saturation=True)', '', rule).removesuffix('()')}`"


def becomes(kinds: Iterable[str], carrier: str) -> str:
    """In one word each: rule, adjoint, constant, refused or start."""
    return " or ".join(dict.fromkeys(word for kind in kinds for word in words(kind, carrier)))


def words(kind: str, carrier: str) -> Iterator[str]:
    """What the composites of a carrier do with a kind."""
    from pellucid.relevance import AsIs, Constant, all_composites

    for each in all_composites().values():
        if each.carrier != carrier or each.otherwise is not None:
            continue
        rule = each.get(kind)
        if kind == "embedding":
            yield "start"
        elif rule is None:
            yield "refused"
        elif isinstance(rule, Constant):
            yield "constant"
        elif isinstance(rule, AsIs):
            yield "adjoint"
        else:
            yield "rule"


def kinds_of(name: str, kind: Any) -> list[str]:
    """The kinds that an operation can be of, depending on which of its operands are traced."""
    several = {
        "sum": ["residual", "sum", "shift"],
        "product": ["product", "scale"],
        "bilinear": ["bilinear", "linear", "mixing"],
    }
    if name in ("div", "rdiv"):
        return ["scale", "normaliser"]
    if name == "pow":
        return ["activation", "normaliser"]
    if name in ("max", "min"):
        return ["maximum", "movement"]
    if name == "einsum":
        return [*several["bilinear"], "average"]
    return several.get(str(kind), [str(kind)])


def spellings() -> dict[str, list[str]]:
    """Every public way to write an operation, by its name; in place too."""
    from pellucid.relevance.operations import operation_of

    found: dict[str, dict[str, None]] = {}
    for place, home in PLACES.items():
        for name in sorted(dir(home)):
            operation = operation_of(function) if callable(function := getattr(home, name, None)) else None
            if operation is not None and (not name.startswith("_") or name in OPERATORS):
                found.setdefault(operation.name, {})[OPERATORS.get(name, f"{place}.{name}")] = None
    properties = {name: getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH", "real")}
    for name, function in properties.items():
        operation = operation_of(function)
        if operation is not None:
            found.setdefault(operation.name, {})[f"x.{name}"] = None
    return {name: shortened(each) for name, each in found.items()}


def shortened(written: Iterable[str]) -> list[str]:
    """``torch.add``, ``Tensor.add`` as ``torch.add``, ``x.add``."""
    return [each.replace("Tensor.", "x.") for each in written]


TABLES: dict[str, Callable[[], str]] = {
    "defaults": defaults,
    "composites": composites,
    "kinds": kinds,
    "movement": movement,
    "operations": operations,
    "taken-apart": taken_apart,
}

if __name__ == "__main__":
    PAGE.write_text(text(), "utf-8")
