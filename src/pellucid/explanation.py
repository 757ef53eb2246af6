"""The one result type: attributions together with everything that is needed to read, check and repeat them."""

import json
import math
import zlib
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zipfile import BadZipFile, ZipFile

import numpy as np
from jaxtyping import Float, Int32, UInt8
from pydantic import Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from pellucid.account import Entry
from pellucid.errors import InputError, MissingPackageError, RecordError, UnknownNameError
from pellucid.files import write_atomically
from pellucid.records import Checks, Cost, Dictionary, Feature, Fingerprint, Record, Selection, owner
from pellucid.targets import Target

if TYPE_CHECKING:
    import pandas
    import shap

SCHEMA_VERSION = 1
DOCUMENT = "explanation.json"
TENSORS = "tensors.safetensors"
TENSOR_NAMES = ("values", "base_values", "full_values", "standard_error", "layer_values", "expert_values")
EVENT_NAMES = ("event_places", "activations", "event_values")
LayerValues = Float[np.ndarray, "target layer feature"]
ExpertValues = Float[np.ndarray, "target layer feature expert"]


class Explanation(Record):
    """Attributions of one input, with features, target, method, baseline, evidence, cost and fingerprint.

    ``values`` has shape [target, feature], in the unit of the target. The names ``values``, ``base_values``, ``data``,
    ``feature_names`` and ``output_names`` are SHAP's.
    """

    type: Literal["explanation"] = "explanation"
    """The kind of document, in files."""
    schema_version: Literal[1] = 1
    """Version of the document's layout."""
    values: Annotated[SkipJsonSchema[Float[np.ndarray, "target feature"]], Field(exclude=True)]
    """Signed attributions, float32, in the unit of the target."""
    base_values: Annotated[SkipJsonSchema[Float[np.ndarray, " target"]], Field(exclude=True)]
    """The target on the baseline: all features absent."""
    full_values: Annotated[SkipJsonSchema[Float[np.ndarray, " target"]], Field(exclude=True)]
    """The target on the input itself."""
    standard_error: Annotated[SkipJsonSchema[Float[np.ndarray, "target feature"] | None], Field(exclude=True)] = None
    """Standard error of each value; None where the method does not sample."""
    picture: Annotated[SkipJsonSchema[UInt8[np.ndarray, "height width channel"] | None], Field(exclude=True)] = None
    """The picture that was explained, as the network saw it; None for other inputs."""
    regions: Annotated[SkipJsonSchema[Int32[np.ndarray, "height width"] | None], Field(exclude=True)] = None
    """Index of the feature that each pixel of the picture belongs to."""
    layer_values: Annotated[SkipJsonSchema[LayerValues | None], Field(exclude=True)] = None
    """Relevance of each feature at each layer, float32; None where the method does not pass through layers."""
    layer_names: tuple[str, ...] = ()
    """A name for each layer, from the input up."""
    expert_values: Annotated[SkipJsonSchema[ExpertValues | None], Field(exclude=True)] = None
    """Relevance of what each expert gave at each feature, float32; None without a mixture of experts."""
    expert_layer_names: tuple[str, ...] = ()
    """A name for each layer of experts, from the input up."""
    event_places: Annotated[SkipJsonSchema[Int32[np.ndarray, "event 2"] | None], Field(exclude=True)] = None
    """Of latents: feature and place of each activation, as indices into ``features`` and ``pieces``."""
    activations: Annotated[SkipJsonSchema[Float[np.ndarray, " event"] | None], Field(exclude=True)] = None
    """How active the feature is there, float32; of what no latent explains the length of its vector."""
    event_values: Annotated[SkipJsonSchema[Float[np.ndarray, "target event"] | None], Field(exclude=True)] = None
    """What of the feature's value comes from there, float32; None where the method tells no places apart."""
    pieces: tuple[str, ...] = ()
    """Of latents: the text at each place of the site, or its number; answers that are explained stand behind."""
    dictionary: Dictionary | None = None
    """The autoencoder whose latents are the features; None for other features."""
    features: tuple[Feature, ...]
    """The features, in the order of ``values``."""
    ladder: dict[str, tuple[Feature, ...]] = Field({})
    """Coarser features of the same input, by kind, that these sum up to."""
    output_names: tuple[str, ...]
    """A name for each target."""
    target: Target
    """What was explained."""
    unit: str
    """The unit of the target."""
    method: str
    """The method's name."""
    selection: Selection | None = None
    """Why this method; None where the caller named it."""
    settings: dict[str, Any]
    """Every setting of the method, defaults included."""
    baseline: str
    """What stood in for an absent feature."""
    seed: int
    """The seed."""
    checks: Checks
    """The evidence."""
    cost: Cost
    """What it cost."""
    fingerprint: Fingerprint
    """What was asked."""
    account: tuple[Entry, ...] = ()
    """Where relevance went, operation by operation, the largest leak first; empty where no account was kept."""
    notice: str = ""
    """Patents and licences that whoever uses this method commercially must know of."""

    @model_validator(mode="after")
    def _shapes_agree(self) -> "Explanation":
        targets, features, layers = len(self.output_names), len(self.features), len(self.layer_names)
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(("base_values", "full_values"), (targets,))
        expected["layer_values"] = (targets, layers, features)
        experts = () if self.expert_values is None else self.expert_values.shape[3:]
        expected["expert_values"] = (targets, len(self.expert_layer_names), features, *experts)
        for name, tensor in self._tensors().items():
            if tensor.shape != expected.get(name, (targets, features)):
                layers = len(self.expert_layer_names) if tensor.ndim > 3 else layers
                there = f"{targets} targets and {features} features"
                there = f"{targets} targets, {layers} layers and {features} features" if tensor.ndim >= 3 else there
                raise ValueError(f"{name} has shape {tensor.shape} for {there}")
        if self.layer_values is None and layers:
            raise ValueError(f"layer_names names {layers} layers, and there are no layer_values")
        if self.expert_values is None and self.expert_layer_names:
            named = len(self.expert_layer_names)
            raise ValueError(f"expert_layer_names names {named} layers, and there are no expert_values")
        if self.picture is not None or self.regions is not None:
            if self.picture is None or self.regions is None or self.picture.shape[:2] != self.regions.shape:
                raise ValueError("a picture comes with the regions of its features, of the same height and width")
            if not 0 <= self.regions.min() <= self.regions.max() < features:
                raise ValueError(f"the picture's regions name features outside the {features} that there are")
        self._check_events()
        return self

    def _check_events(self) -> None:
        places, activations, values = self.event_places, self.activations, self.event_values
        if places is None or activations is None:
            if not places is activations is values is None:
                raise ValueError("events of latents come with both their places and their activations")
            return
        if len(places) != len(activations) or (values is not None and values.shape[1] != len(places)):
            raise ValueError(f"{len(places)} places of events do not go with {len(activations)} activations")
        if len(places) and not (places.min() >= 0 and (places.max(0) < (len(self.features), len(self.pieces))).all()):
            raise ValueError("an event names a feature, or a place, that there is not")

    @property
    def feature_names(self) -> list[str]:
        """The features' labels."""
        return [feature.label for feature in self.features]

    @property
    def data(self) -> list[str]:
        """What stands at each feature."""
        return [feature.value for feature in self.features]

    @property
    def reliable(self) -> bool | None:
        """True, False, or None where nothing was run that could tell. See ``checks``."""
        return self.checks.reliable

    def sum_to(self, kind: str) -> "Explanation":
        """The same explanation over coarser features, each the exact sum of the finer ones that lie in it.

        What lies in none of them is kept as one feature of kind ``rest``, so that every row's total stays the same.
        Standard errors add as if independent. Raises UnknownNameError where the ladder has no such rung.
        """
        if kind not in self.ladder:
            raise UnknownNameError("coarser feature kind", kind, self.ladder)
        rungs = [*self.ladder]
        coarse = self.ladder[kind]
        owners = np.array([owner(feature, coarse) for feature in self.features])
        outside = Feature(label="(elsewhere)", kind="rest")
        features = (*coarse, outside) if (owners == len(coarse)).any() else coarse
        sums = (owners[:, None] == np.arange(len(features))).astype(np.float64)
        error, layers, experts = self.standard_error, self.layer_values, self.expert_values
        return self.model_copy(
            update={
                "values": (self.values @ sums).astype(np.float32),
                "standard_error": None if error is None else np.sqrt(error**2 @ sums).astype(np.float32),
                "layer_values": None if layers is None else (layers @ sums).astype(np.float32),
                "expert_values": None if experts is None else _summed_over(experts, sums),
                "features": features,
                # A sentence is not part of a field, so from there the ladder leads nowhere.
                "ladder": {rung: self.ladder[rung] for rung in rungs[rungs.index(kind) + 1 :] if kind != "sentence"},
            }
        )

    def without_template(self) -> "Explanation":
        """The same explanation without the tokens that the chat template added."""
        return self.keeping([i for i, feature in enumerate(self.features) if feature.role == "input"])

    def keeping(self, kept: Sequence[int]) -> "Explanation":
        """The same explanation of only the features at these places, in this order.

        Without its picture, unless all parts of that stay where they were: a picture of some of its features would look
        like one whose other features score 0.
        """
        places = list(kept)
        parts = 0 if self.regions is None else int(self.regions.max()) + 1
        whole = places[:parts] == list(range(parts))
        error, layers, experts = self.standard_error, self.layer_values, self.expert_values
        return self.model_copy(
            update={
                "values": self.values[:, places],
                "standard_error": None if error is None else error[:, places],
                "layer_values": None if layers is None else layers[:, :, places],
                "expert_values": None if experts is None else experts[:, :, places],
                "features": tuple(self.features[i] for i in places),
                "picture": self.picture if whole else None,
                "regions": self.regions if whole else None,
            }
            | self._events_of(places)
        )

    def _events_of(self, kept: Sequence[int]) -> dict[str, np.ndarray | None]:
        """The events of some features, which have new indices."""
        if self.event_places is None or self.activations is None:
            return {}
        index = np.full(len(self.features), -1, np.int32)
        index[list(kept)] = np.arange(len(kept), dtype=np.int32)
        own = index[self.event_places[:, 0]] >= 0
        places = np.stack([index[self.event_places[own, 0]], self.event_places[own, 1]], 1)
        values = None if self.event_values is None else self.event_values[:, own]
        return {"event_places": places, "activations": self.activations[own], "event_values": values}

    # Other libraries' forms

    def to_shap(self) -> "shap.Explanation":
        """The explanation as ``shap.Explanation`` [feature] or [feature, target]."""
        try:
            import shap
        except ImportError:
            raise MissingPackageError("shap", "pip install 'pellucid[shap]'") from None
        single = len(self.output_names) == 1
        return shap.Explanation(
            values=self.values[0] if single else self.values.T,
            base_values=self.base_values[0] if single else self.base_values,
            data=np.array(self.data, dtype=object),
            feature_names=self.feature_names,
            # SHAP names outputs only where there are several.
            output_names=None if single else list(self.output_names),
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row for every target and feature."""
        return [
            {
                "target": name,
                "feature": feature.label,
                "kind": feature.kind,
                "role": feature.role,
                "data": feature.value,
                "value": float(self.values[row, column]),
                "standard_error": None if self.standard_error is None else float(self.standard_error[row, column]),
            }
            for row, name in enumerate(self.output_names)
            for column, feature in enumerate(self.features)
        ]

    def to_frame(self) -> "pandas.DataFrame":
        """The rows of ``to_rows`` as a pandas data frame."""
        try:
            import pandas
        except ImportError:
            raise MissingPackageError("pandas", "pip install pandas") from None
        return pandas.DataFrame(self.to_rows())

    def to_json(self) -> dict[str, Any]:
        """The whole explanation, numbers included, as plain JSON values; NaN becomes None."""
        document = self.model_dump(mode="json")
        for name, tensor in (self._tensors() | self._events()).items():
            document[name] = _finite(tensor.tolist())
        return document | {"feature_names": self.feature_names, "reliable": self.reliable}

    # Files

    def save(self, path: str | Path) -> Path:
        """Write ``explanation.json`` and ``tensors.safetensors`` into the folder ``path``, or into one ``.zip``."""
        path = Path(path)
        document = json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1, allow_nan=False).encode()
        tensors = save_tensors(self._tensors() | self._drawing() | self._events())
        if path.suffix == ".zip":
            buffer = BytesIO()
            with ZipFile(buffer, "w") as archive:
                archive.writestr(DOCUMENT, document)
                archive.writestr(TENSORS, tensors)
            write_atomically(path, buffer.getvalue())
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / TENSORS, tensors)
            write_atomically(path / DOCUMENT, document)
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Explanation":
        """Read what ``save`` wrote. Raises RecordError where the files are not a whole, known explanation."""
        path = Path(path)
        try:
            if path.suffix == ".zip":
                with ZipFile(path) as archive:
                    document, tensors = archive.read(DOCUMENT), archive.read(TENSORS)
            else:
                document, tensors = (path / DOCUMENT).read_bytes(), (path / TENSORS).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise InputError(f"no explanation is saved at {str(path)!r}.") from None
        except (BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
            raise RecordError(f"{str(path)!r} is not an explanation archive: {error}.") from None
        try:
            return cls(**json.loads(document), **load_tensors(tensors))
        except (ValidationError, ValueError, TypeError, SafetensorError) as error:
            first = str(error).splitlines()[0]
            raise RecordError(
                f"{str(path)!r} does not hold an explanation of schema {SCHEMA_VERSION}: {first}."
            ) from None

    def _tensors(self) -> dict[str, np.ndarray]:
        tensors = {name: getattr(self, name) for name in TENSOR_NAMES}
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items() if tensor is not None}

    def _drawing(self) -> dict[str, np.ndarray]:
        drawing = {"picture": self.picture, "regions": self.regions}
        return {name: np.ascontiguousarray(array) for name, array in drawing.items() if array is not None}

    def _events(self) -> dict[str, np.ndarray]:
        events = {name: getattr(self, name) for name in EVENT_NAMES}
        return {name: np.ascontiguousarray(array) for name, array in events.items() if array is not None}

    # Views

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Script-free HTML and plain text, for notebooks."""
        # Looking at a result is the one place where the vocabulary reaches up to the room that draws it.
        from pellucid.report import explanation_fragment, explanation_text

        return {"text/html": explanation_fragment(self), "text/plain": explanation_text(self)}

    def __repr__(self) -> str:
        state = {True: "reliable", False: "NOT RELIABLE", None: "not checked"}[self.reliable]
        counted = Counter(feature.kind for feature in self.features)
        kinds = [f"{count} {kind}{'es' if kind == 'patch' else 's'}" for kind, count in counted.items()]
        return (
            f"Explanation({self.method}, {len(self.output_names)} x {' and '.join(kinds) or '0 features'}, "
            f"{self.unit} of {self.output_names[0]!r}, {state})"
        )

    __str__ = __repr__


def _summed_over(
    experts: ExpertValues, sums: Float[np.ndarray, "feature coarse"]
) -> Float[np.ndarray, "target layer coarse expert"]:
    """Values of experts with the features added up into coarser ones."""
    summed: np.ndarray = np.einsum("tlfe,fc->tlce", experts.astype(np.float64), sums).astype(np.float32)
    return summed


def _finite(value: Any) -> Any:
    """Nested lists of floats with NaN and infinity replaced by None, which JSON can hold."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if math.isfinite(value) else None
