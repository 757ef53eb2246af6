"""The composites that come with pellucid, and those of installed plug-ins."""

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from pellucid.errors import InputError, UnknownNameError
from pellucid.facts import Facts, Modality
from pellucid.relevance.backtrace import (
    BacktraceAttention,
    BacktraceAverage,
    BacktraceBilinear,
    BacktraceLinear,
    BacktraceProduct,
    BacktraceSum,
    ContrastAttention,
    ContrastAverage,
    ContrastBilinear,
    ContrastLinear,
    ContrastProduct,
    ContrastSum,
    Through,
    Winners,
)
from pellucid.relevance.coefficient import (
    ConstantAttention,
    ConstantGates,
    Epsilon,
    HalvedAttention,
    Halves,
    HeldScale,
    Ratio,
    SignAgreement,
)
from pellucid.relevance.composite import Composite, Key
from pellucid.relevance.lrp import (
    AlphaBeta,
    EpsilonRelevance,
    FirstOrder,
    Gamma,
    HalvedAttentionRelevance,
    HalvedProducts,
    HeldScaleRelevance,
)
from pellucid.relevance.operations import Kind
from pellucid.relevance.rule import AbstractTreatment, AsIs, Carrier, Constant

Rules = dict[Key, AbstractTreatment]

DEFAULT: dict[Modality, str] = {
    "text": "attnlrp",
    "image": "lrp-gamma",
    "tabular": "lrp-gamma",
    "vision-language": "attnlrp",
}
"""The composite that is used for each kind of input where none is named, chosen by measured faithfulness."""

_PATENTS = "The method is in published papers; check the patents that its authors may hold before commercial use."


def _facts(name: str, title: str, source: str, cost: str = "1 forward and 1 backward pass", **more: Any) -> Facts:
    return Facts(
        name=name,
        title=title,
        family="relevance",
        modalities=("text", "image", "tabular", "vision-language"),
        needs=("gradient",),
        cost=cost,
        source=source,
        **more,
    )


# Under the coefficient carrier autograd's own adjoint of all these is LRP-0.
_LINEAR: Rules = {
    kind: AsIs()
    for kind in (
        Kind.MOVEMENT,
        Kind.LINEAR,
        Kind.MIXING,
        Kind.SUM,
        Kind.RESIDUAL,
        Kind.SHIFT,
        Kind.SCALE,
        Kind.AVERAGE,
        Kind.MAXIMUM,
        Kind.RECTIFIER,
        Kind.LOG_SOFTMAX,
    )
}
_CONSTANT: Rules = {kind: Constant() for kind in (Kind.GATE, Kind.STEP, Kind.NORMALISER)}
_LRP: Rules = _LINEAR | _CONSTANT | {Kind.ACTIVATION: Ratio(), Kind.NORM: HeldScale(), Kind.PRODUCT: Halves()}
_HELD_ATTENTION: Rules = {
    Kind.SOFTMAX: Constant(),
    Kind.BILINEAR: Halves(),
    Kind.ATTENTION: ConstantAttention(),
}
_TRACED_ATTENTION: Rules = {
    Kind.SOFTMAX: AsIs(),
    Kind.BILINEAR: Halves(),
    Kind.ATTENTION: HalvedAttention(),
}
_HELD_GATES: Rules = {Kind.PRODUCT: ConstantGates()}
_EPSILON: Rules = {Kind.LINEAR: Epsilon()}


def composed_activations() -> tuple[type[nn.Module], ...]:
    """Activations that their authors wrote out in simpler operations, of which only the whole is one."""
    from transformers import activations

    return (activations.NewGELUActivation, activations.FastGELUActivation, activations.AccurateGELUActivation)


@cache
def all_composites() -> dict[str, Composite]:
    """Every composite by name. Raises InputError where a plug-in takes the name of another composite."""
    known = {
        each.name: each for each in (*_coefficient_composites(), *_relevance_composites(), *_backtrace_composites())
    }
    for entry in entry_points(group="pellucid.composites"):
        plugin: Composite = entry.load()
        if plugin.name in known:
            raise InputError(f"the plug-in {entry.value} and pellucid both define a composite {plugin.name!r}.")
        known[plugin.name] = plugin
    return known


def composites() -> dict[str, Facts]:
    """The name and the facts of every composite."""
    return {name: each.facts for name, each in all_composites().items()}


def composite(name: str) -> Composite:
    """The composite of a name. Raises UnknownNameError."""
    if name not in all_composites():
        raise UnknownNameError("composite", name, all_composites())
    return all_composites()[name]


def _coefficient_composites() -> list[Composite]:
    return [
        Composite(
            "gradient",
            "gradient",
            {},
            _facts("gradient", "Gradient", "Simonyan et al. 2014, section 3"),
            fallback=AsIs(),
            otherwise=AsIs(),
        ),
        Composite(
            "input-x-gradient",
            "coefficient",
            {},
            _facts("input-x-gradient", "Input x Gradient", "Shrikumar et al. 2017, section 2"),
            fallback=AsIs(),
            otherwise=AsIs(),
        ),
        _lrp("lrp-0", "LRP-0", "Bach et al. 2015, eq. 56", _HELD_ATTENTION),
        _lrp("lrp-epsilon", "LRP-epsilon", "Bach et al. 2015, eq. 58", _HELD_ATTENTION | _EPSILON),
        _lrp("cp-lrp", "CP-LRP", "Ali et al. 2022, section 4", _HELD_ATTENTION | _HELD_GATES | _EPSILON),
        _lrp("decompx", "DecompX without bias", "Modarressi et al. 2023", _HELD_ATTENTION | _HELD_GATES),
        _lrp("attnlrp", "AttnLRP", "Achtibat et al. 2024, section 3", _TRACED_ATTENTION | _EPSILON, notice=_PATENTS),
        _lrp(
            "reslrp",
            "ResLRP",
            "ResLRP 2026",
            _TRACED_ATTENTION | _EPSILON | {Kind.RESIDUAL: SignAgreement()},
            notice=_PATENTS,
        ),
    ]


def _relevance_composites() -> list[Composite]:
    traced: Rules = {
        Kind.SOFTMAX: FirstOrder(),
        Kind.BILINEAR: HalvedProducts(),
        Kind.PRODUCT: HalvedProducts(),
        Kind.ATTENTION: HalvedAttentionRelevance(),
    }
    held: Rules = {
        Kind.SOFTMAX: Constant(),
        Kind.BILINEAR: HalvedProducts(),
        Kind.PRODUCT: HalvedProducts(),
        Kind.ATTENTION: HalvedAttentionRelevance(constant=True),
    }
    return [
        _signed(
            "lrp-gamma",
            "LRP-gamma",
            "Montavon et al. 2019, table 10.1",
            traced | {Kind.LINEAR: Gamma()},
            # The other two give nothing, or too much, to a unit all of whose contributions have one sign.
            conserving=True,
        ),
        _signed("alpha-beta", "LRP-alpha-beta", "Bach et al. 2015, eq. 60", held | {Kind.LINEAR: AlphaBeta()}),
        _signed(
            "zplus",
            "LRP-z+",
            "Montavon et al. 2017, eq. 15",
            held | {Kind.LINEAR: AlphaBeta(1.0, 0.0)},
            # Measured on EfficientNet-Lite0: the maps of two classes have a cosine of 0.999.
            class_specific=False,
        ),
    ]


def _backtrace_composites() -> list[Composite]:
    return [
        _backtrace(
            "backtrace",
            "DLBacktrace, default mode",
            "relevance",
            {
                **dict.fromkeys(_SUMS, BacktraceSum()),
                Kind.LINEAR: BacktraceLinear(),
                Kind.MIXING: BacktraceLinear(),
                Kind.BILINEAR: BacktraceBilinear(),
                Kind.ATTENTION: BacktraceAttention(),
                Kind.PRODUCT: BacktraceProduct(),
                Kind.AVERAGE: BacktraceAverage(),
            },
            cost="1 forward and 1 backward pass, about 4 forward passes in all",
            class_specific=False,
        ),
        _backtrace(
            "backtrace-contrast",
            "DLBacktrace, contrast mode",
            "pair",
            {
                **dict.fromkeys(_SUMS, ContrastSum()),
                Kind.LINEAR: ContrastLinear(),
                Kind.MIXING: ContrastLinear(),
                Kind.BILINEAR: ContrastBilinear(),
                Kind.ATTENTION: ContrastAttention(),
                Kind.PRODUCT: ContrastProduct(),
                Kind.AVERAGE: ContrastAverage(),
            },
            cost="1 forward and 1 backward pass of two rows, about 7 forward passes in all",
        ),
    ]


_SUMS = (Kind.SUM, Kind.RESIDUAL, Kind.SHIFT)
_PASSED = (Kind.ACTIVATION, Kind.RECTIFIER, Kind.SCALE, Kind.LOG_SOFTMAX)
_BACKTRACE_PATENT = (
    "The authors of DLBacktrace call its algorithm patent-pending: ask them before commercial use. This is an "
    "implementation of the published formulas."
)


def _signed(name: str, title: str, source: str, rules: Rules, **facts: Any) -> Composite:
    """A composite of the LRP family that favours one sign, by the epsilon rule where that has no meaning."""
    common: Rules = {
        **dict.fromkeys((Kind.MOVEMENT, Kind.MAXIMUM), AsIs()),
        **_CONSTANT,
        **dict.fromkeys(_PASSED, Through()),
        **dict.fromkeys((*_SUMS, Kind.AVERAGE), FirstOrder()),
        Kind.NORM: HeldScaleRelevance(),
        Kind.MIXING: EpsilonRelevance(),
    }
    cost = "1 forward and 1 backward pass, about 5 forward passes in all"
    return Composite(
        name,
        "relevance",
        dict.fromkeys(composed_activations(), Through()) | common | rules,
        _facts(name, title, source, cost, **facts),
        fallback=FirstOrder(),
    )


def _backtrace(name: str, title: str, carrier: Carrier, rules: Rules, cost: str, **facts: Any) -> Composite:
    common: Rules = {
        Kind.MOVEMENT: AsIs(),
        Kind.MAXIMUM: Winners(),
        Kind.STEP: Constant(),
        Kind.NORMALISER: Constant(),
        **dict.fromkeys((*_PASSED, Kind.GATE, Kind.NORM, Kind.SOFTMAX), Through()),
    }
    source = "Sankarapu et al. 2024, section 3"
    return Composite(
        name,
        carrier,
        dict.fromkeys(composed_activations(), Through()) | common | rules,
        _facts(name, title, source, cost, conserving=True, notice=_BACKTRACE_PATENT, **facts),
        fallback=FirstOrder(),
    )


def _lrp(name: str, title: str, source: str, rules: Rules, **facts: Any) -> Composite:
    return Composite(
        name,
        "coefficient",
        dict.fromkeys(composed_activations(), Ratio()) | _LRP | rules,
        _facts(name, title, source, conserving=True, **facts),
        fallback=AsIs(),
    )
