"""What a report shows of one explanation, as frozen records. Whoever fills them has computed everything.

A text that was not stored is None here, and is then absent from the page: the redaction happens before the drawing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int32, UInt8

from pellucid.account import Entry
from pellucid.explanation import Explanation
from pellucid.records import Checks, Cost, Feature, FeatureKind, Fingerprint, Selection
from pellucid.report.firings import FiringsView
from pellucid.targets import Pixel, Region, RunLengths

Mark = Literal["", "expected", "decoy"]

# The label of such a feature is a name that the template gave it; the label of any other is the person's own text.
_NAMED_KINDS = frozenset({"field", "column", "latent", "rest"})
_PICTORIAL_KINDS = frozenset({"pixel", "patch", "superpixel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureView:
    """One feature of one attribution."""

    label: str | None
    """Its name, or its text; None where that text was not stored."""
    kind: FeatureKind
    """The rung of the ladder it stands on."""
    text: str | None = None
    """What stood there; None where it was not stored."""
    role: Literal["input", "template"] = "input"
    """Whether the person wrote it or the chat template added it."""
    mark: Mark = ""
    """Whether the audit expected it to matter, or planted it as a decoy."""

    @classmethod
    def of(cls, feature: Feature, stored: bool, mark: Mark = "", peak: str | None = None) -> "FeatureView":
        """The view of a feature, without the person's text unless that is ``stored``; of a latent with its ``peak``."""
        meaning = f"{feature.value} · " if feature.value else ""
        text = feature.value if peak is None else f"{meaning}{peak}"
        named = feature.kind in _NAMED_KINDS or feature.role == "template"
        return cls(
            label=feature.label if stored or named else None,
            kind=feature.kind,
            text=text if stored or feature.role == "template" else None,
            role=feature.role,
            mark=mark,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """The picture that was explained, and which feature each of its pixels belongs to."""

    height: int
    """Rows of pixels."""
    width: int
    """Pixels in a row."""
    pixels: bytes
    """Shades of red, green and blue, or of grey alone, row by row."""
    owners: bytes
    """Index of each pixel's feature, 32 bits in the machine's order."""
    place: RunLengths | None = None
    """Where the target lies, in the size of the network's output; None for a target of the whole picture."""
    is_point: bool = False
    """Whether that is one pixel."""

    @classmethod
    def of(cls, explanation: Explanation) -> "PictureView | None":
        """The picture of an explanation; None where its input is none."""
        picture, regions = explanation.picture, explanation.regions
        if picture is None or regions is None:
            return None
        return cls(
            height=len(picture),
            width=picture.shape[1],
            pixels=picture.tobytes(),
            owners=regions.tobytes(),
            place=_place(explanation.target),
            is_point=isinstance(explanation.target, Pixel),
        )

    @property
    def shades(self) -> UInt8[np.ndarray, "height width channel"]:
        """The picture as an array."""
        return np.frombuffer(self.pixels, np.uint8).reshape(self.height, self.width, -1)

    @property
    def regions(self) -> Int32[np.ndarray, "height width"]:
        """The features' indices as an array."""
        return np.frombuffer(self.owners, np.int32).reshape(self.height, self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertView:
    """Relevance of what experts gave, which in a large network are millions of numbers."""

    names: tuple[str, ...]
    """A name for each layer that has experts, from the input up."""
    shape: tuple[int, int, int, int]
    """Targets, layers, features, experts."""
    numbers: bytes
    """32 bits each, the last of the dimensions running fastest."""

    @classmethod
    def of(cls, explanation: Explanation) -> "ExpertView | None":
        """The experts of an explanation; None where there are none."""
        values = explanation.expert_values
        if values is None:
            return None
        targets, layers, features, experts = values.shape
        held = np.ascontiguousarray(values, np.float32).tobytes()
        return cls(names=explanation.expert_layer_names, shape=(targets, layers, features, experts), numbers=held)

    @property
    def values(self) -> Float[np.ndarray, "target layer feature expert"]:
        """The numbers as an array."""
        return np.frombuffer(self.numbers, np.float32).reshape(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionView:
    """One explanation as a page shows it: matrices are [target][feature]."""

    features: tuple[FeatureView, ...]
    """The features, in the order of ``values``."""
    output_names: tuple[str, ...]
    """A name for each target."""
    values: tuple[tuple[float, ...], ...]
    """Signed attributions in the unit of the target."""
    standard_error: tuple[tuple[float, ...], ...] | None
    """Standard errors; None where the method does not sample."""
    base_values: tuple[float, ...]
    """The target with all features absent."""
    full_values: tuple[float, ...]
    """The target on the input itself."""
    target: str
    """What was explained, in words."""
    unit: str
    """The unit of every value."""
    method: str
    """The method's name."""
    settings: Mapping[str, Any]
    """Every setting of the method."""
    baseline: str
    """What stood in for an absent feature."""
    seed: int
    """The seed."""
    checks: Checks
    """The evidence, shown before any value."""
    cost: Cost
    """What it cost."""
    fingerprint: Fingerprint | None = None
    """What was asked; None where the report states it once for all cases."""
    title: str = ""
    """Heading inside a case, such as ``Fields``; empty for one made from the kind of the features."""
    picture: PictureView | None = None
    """The picture that was explained; None for other inputs, and where it was not stored."""
    layer_values: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """Relevance as [target][layer][feature]; empty where the method does not pass through layers."""
    layer_names: tuple[str, ...] = ()
    """A name for each layer, from the input up."""
    experts: ExpertView | None = None
    """Relevance by expert; None without a mixture of experts."""
    firings: FiringsView | None = None
    """Where latents fire; None for other features, and where the input was not stored."""
    account: tuple[Entry, ...] = ()
    """Where relevance went; empty where no account was kept."""
    notice: str = ""
    """Patents and licences that a commercial user must know of."""
    selection: Selection | None = None
    """Why this method; None where the caller named it."""
    target_unit: str = ""
    """The unit of the target, where scores have one of their own; empty: the same."""
    shared_limit: float = 0.0
    """End of the colour scale that it has in common with another half of its input; 0: it has one of its own."""

    @classmethod
    def of(
        cls, explanation: Explanation, *, stored: bool = True, marks: Mapping[str, Mark] | None = None, title: str = ""
    ) -> "AttributionView":
        """The view of an explanation. With ``stored=False`` no text of the person is in it; ``marks`` go by label."""
        marks = marks or {}
        error, layers = explanation.standard_error, explanation.layer_values
        firings = FiringsView.of(explanation) if stored else None
        peaks = firings.peaks if firings is not None else {}
        return cls(
            features=tuple(
                FeatureView.of(f, stored, marks.get(f.label, ""), peaks.get(n) if f.kind == "latent" else None)
                for n, f in enumerate(explanation.features)
            ),
            firings=firings,
            output_names=explanation.output_names,
            values=_rows(explanation.values.tolist()),
            standard_error=None if error is None else _rows(error.tolist()),
            base_values=tuple(explanation.base_values.tolist()),
            full_values=tuple(explanation.full_values.tolist()),
            target=type(explanation.target).__name__,
            unit=explanation.unit,
            target_unit=explanation.target.unit,
            method=explanation.method,
            settings=explanation.settings,
            baseline=explanation.baseline,
            seed=explanation.seed,
            checks=explanation.checks,
            cost=explanation.cost,
            fingerprint=explanation.fingerprint,
            title=title,
            picture=PictureView.of(explanation) if stored else None,
            layer_values=() if layers is None else tuple(_rows(matrix) for matrix in layers.tolist()),
            layer_names=explanation.layer_names,
            experts=ExpertView.of(explanation),
            account=explanation.account,
            notice=explanation.notice,
            selection=explanation.selection,
        )

    @property
    def kind(self) -> str:
        """The kind of the first feature, which is that of the heat map."""
        if self.firings is not None:
            return "latent"
        return self.features[0].kind if self.features else "feature"

    @property
    def is_of_target(self) -> bool:
        """Whether scores are in the unit of the target, so that they can be held against it."""
        return self.target_unit in ("", self.unit)

    @property
    def heading(self) -> str:
        """What it is called among the explanations of its case."""
        return self.title or " and ".join(plural(each.kind) for each in self.halves)

    @property
    def is_named(self) -> bool:
        """Whether the features have names of their own, rather than being pieces of the text."""
        return self.kind in _NAMED_KINDS

    @property
    def is_pictorial(self) -> bool:
        """Whether the features are parts of a picture."""
        return self.kind in _PICTORIAL_KINDS

    @property
    def halves(self) -> "tuple[AttributionView, ...]":
        """The parts of a picture and those of the text about it, on one scale; otherwise the whole by itself."""
        seen = sum(feature.kind in _PICTORIAL_KINDS for feature in self.features)
        if not 0 < seen < len(self.features):
            return (self,)
        written = [place for place, feature in enumerate(self.features) if feature.role == "input"]
        numbers = (abs(row[place]) for row in self.values for place in written)
        limit = max(filter(isfinite, numbers), default=0.0)
        picture, text = self._part(slice(seen), limit), self._part(slice(seen, None), limit)
        return picture, replace(text, picture=None)

    def _part(self, features: slice, limit: float) -> "AttributionView":
        error = self.standard_error
        return replace(
            self,
            features=self.features[features],
            values=tuple(row[features] for row in self.values),
            standard_error=None if error is None else tuple(row[features] for row in error),
            layer_values=tuple(tuple(row[features] for row in layers) for layers in self.layer_values),
            # They are by expert over the whole input.
            experts=None,
            shared_limit=limit,
        )

    @property
    def is_withheld(self) -> bool:
        """Whether the features are pieces of an input that was not stored, so that nothing can be shown of them."""
        return any(feature.label is None for feature in self.features)


def _place(target: object) -> RunLengths | None:
    """Where a target lies in a picture."""
    if isinstance(target, Region) and target.runs is not None and len(target.runs.size) == 2:
        return target.runs
    if not isinstance(target, Pixel) or target.size is None:
        return None
    mask = np.zeros(target.size, bool)
    mask[target.y, target.x] = True
    return RunLengths.of(mask)


def plural(kind: str) -> str:
    """Several features of a kind."""
    return f"{kind}es" if kind.endswith("ch") else f"{kind}s"


def _rows(matrix: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix)
