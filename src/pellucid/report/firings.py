"""Where latents fire: for each of the strongest a strip of the input, coloured by what comes from each place."""

from dataclasses import dataclass

import numpy as np

from pellucid.explanation import Explanation

MOST_BARS = 24
"""Latents that have a bar: of more the strongest."""
MOST_STRIPS = 12
"""Latents whose strip is drawn."""
AROUND = 24
"""Places before and after the strongest one that a strip shows; of a longer input the rest is left out, and said."""


@dataclass(frozen=True, slots=True)
class FiringsView:
    """Where each feature is active, sorted by feature."""

    pieces: tuple[str, ...]
    """The text at each place, or its number."""
    events: tuple[tuple[int, int], ...]
    """Feature and place."""
    activations: tuple[float, ...]
    """How active the feature is there."""
    values: tuple[float, ...]
    """What of its value comes from there, summed over targets; empty where the method tells no places apart."""
    active: int
    """Latents that are active on this input."""
    name: str
    """The autoencoder."""
    site: str
    """Where it reads."""
    error_share: float
    """What the latents leave unexplained there, as a share of the squared length."""

    @classmethod
    def of(cls, explanation: Explanation) -> "FiringsView | None":
        """The firings of an explanation; None where its features are no latents."""
        places, activations = explanation.event_places, explanation.activations
        if places is None or activations is None or explanation.dictionary is None:
            return None
        values, dictionary = explanation.event_values, explanation.dictionary
        return cls(
            pieces=explanation.pieces,
            events=tuple((int(feature), int(place)) for feature, place in places),
            activations=tuple(activations.tolist()),
            values=() if values is None else tuple(values.sum(0).tolist()),
            active=dictionary.active,
            name=dictionary.name,
            site=dictionary.site,
            error_share=dictionary.error_share,
        )

    @property
    def told(self) -> tuple[float, ...]:
        """What is drawn of each event: the part of the value, or the activation where the parts are not known."""
        return self.values or self.activations

    @property
    def peaks(self) -> dict[int, str]:
        """In words, where each feature is strongest; nothing of one whose value is 0 everywhere."""
        best: dict[int, tuple[float, int]] = {}
        for (feature, place), told in zip(self.events, self.told, strict=True):
            if abs(told) > best.get(feature, (0.0, 0))[0]:
                best[feature] = (abs(told), place)
        said = "mostly from" if self.values else "most active at"
        return {feature: f"{said} “{self.pieces[place].strip() or ' '}”" for feature, (_, place) in best.items()}


@dataclass(frozen=True, slots=True)
class Square:
    """One place of a strip."""

    piece: str
    """The text there."""
    activation: float
    """How active the latent is; 0 where it is not."""
    value: float
    """What the colour says."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One latent over the input."""

    feature: int
    """Its index among the features."""
    squares: tuple[Square, ...]
    """The places that are shown, in order."""
    limit: float
    """End of the colour scale: the largest of its values."""
    before: int
    """Places that are left out before those."""
    after: int
    """And after them."""


def strips(firings: FiringsView, values: tuple[tuple[float, ...], ...], latents: int) -> tuple[Strip, ...]:
    """The strips of the strongest of the first ``latents`` features, of which ``values`` [target][feature] are."""
    totals = np.abs(np.array(values).sum(0))[:latents]
    strongest = np.argsort(-totals, kind="stable")[:MOST_STRIPS].tolist()
    return tuple(_strip(firings, feature) for feature in strongest)


def _strip(firings: FiringsView, feature: int) -> Strip:
    own = [index for index, (owner, _) in enumerate(firings.events) if owner == feature]
    at = {firings.events[index][1]: (firings.activations[index], firings.told[index]) for index in own}
    middle = max(at, key=lambda place: abs(at[place][1]), default=0)
    first, last = max(0, middle - AROUND), min(len(firings.pieces), middle + AROUND + 1)
    squares = tuple(Square(firings.pieces[place], *at.get(place, (0.0, 0.0))) for place in range(first, last))
    limit = max((abs(value) for _, value in at.values()), default=0.0)
    return Strip(feature, squares, limit, first, len(firings.pieces) - last)
