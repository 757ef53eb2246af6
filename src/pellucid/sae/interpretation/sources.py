"""What interpretation reads of an event store, of an activation store, and of an autoencoder's decoder."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class LatentEvents(Protocol):
    """Where one latent is active, an entry an event."""

    @property
    def samples(self) -> Any:
        """Sample of each event [event], int."""

    @property
    def positions(self) -> Any:
        """Position in that sample [event], int."""

    @property
    def values(self) -> Any:
        """Activation, above 0 [event], float."""


@runtime_checkable
class Events(Protocol):
    """All events of an autoencoder over a corpus, sorted by latent."""

    @property
    def width(self) -> int:
        """Number of latents."""

    @property
    def tokens(self) -> int:
        """Number of tokens that were encoded."""

    @property
    def counts(self) -> Any:
        """Number of events of each latent [latent], int."""

    @property
    def maxima(self) -> Any:
        """Largest activation of each latent [latent], float."""

    def of(self, latent: int) -> LatentEvents:
        """The events of one latent, in the order of the tokens."""


@runtime_checkable
class Sample(Protocol):
    """One text of the corpus, as the model read it."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids."""

    @property
    def pieces(self) -> Sequence[str]:
        """Text of each token."""

    @property
    def roles(self) -> Sequence[str]:
        """Role of each token."""

    @property
    def image(self) -> Path | None:
        """The picture that goes with the text."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the picture's patches, each of which is one token."""

    @property
    def document(self) -> Any:
        """What the sample is a part of."""


@runtime_checkable
class Store(Protocol):
    """The corpus behind the events."""

    @property
    def samples(self) -> int:
        """Number of samples."""

    def __len__(self) -> int:
        """Number of tokens."""

    def sample(self, number: int) -> Sample:
        """One sample."""

    def places(self, start: int = 0, stop: int | None = None) -> Any:
        """A table of the tokens from ``start`` to ``stop`` with columns sample, position, token and modality."""

    def batches(self, site: Any, size: int, *, shuffle: bool = True) -> Iterable[Any]:
        """Activations ``x`` [token, d_in] with their ``rows``, batch by batch."""
