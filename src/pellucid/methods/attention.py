"""What the methods of the attention family share: one watched call of the network, and sums over a feature's tokens."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pellucid.attention import Reading, read, single
from pellucid.attention.zeroing import is_whole
from pellucid.errors import InputError, ModelError, NumericalError
from pellucid.games import Question, summed
from pellucid.methods.attention_pixels import at_pixels, cutting
from pellucid.methods.base import AbstractMethod, Attribution
from pellucid.models.pictures import ImageInputs
from pellucid.records import Check

Pieces = Literal["sum", "max"]


_NOTHING = Check(
    name="nothing",
    value=0.0,
    threshold=0.0,
    passed=False,
    decisive=False,
    detail="every score is 0: the method keeps nothing of this input, which does not mean that nothing mattered.",
)


class Positions(NamedTuple):
    """What a method says of every position."""

    scores: Float[Tensor, "1 target"]
    """What the network gave."""
    values: Float[Tensor, "target seq"]
    """A score for each position that it read."""


class AbstractAttention(AbstractMethod):
    """A method that reads attention from one call of the network, however that was loaded.

    It says where information went inside this network, not what the output would be without it: nothing is taken away,
    no baseline stands for anything absent, and ``base_values`` are the ``full_values``. Special tokens, the chat
    template and an answer that is forced take their share, which no feature gets. A picture's pixels share the score of
    the patch that they are in equally. Raises ModelError for a network whose attention cannot be watched, and for a
    target that takes several calls.
    """

    pieces: Pieces = "sum"
    """How a feature of several tokens is scored: their sum, or the one of the largest size. Pixels are summed."""

    def rows(self, players: int) -> int:
        return 1

    @abstractmethod
    def positions(self, watched: "Watched") -> Positions:
        """Score every position that the network reads."""

    @final
    def attribute(self, question: Question) -> Attribution:
        # What is saved for a backward pass must not have been made in inference mode.
        with torch.inference_mode(mode=False):
            found = self._of_picture(question) if question.model.modality == "image" else self._of_text(question)
        scores, values = found.scores.detach().double()[0].cpu().numpy(), found.values
        owner = question.model.owners(question.inputs, question.features).to(values.device)
        merged = {"sum": summed, "max": largest}[self.pieces](values, owner, len(question.features))
        return Attribution(
            merged,
            scores,
            scores,
            baseline="none: attention is not held against one",
            checks=() if merged.any() else (_NOTHING,),
        )

    def _of_text(self, question: Question) -> Positions:
        """Scores of the input's tokens; a forced answer stands behind them."""
        found = self.positions(Watched(question))
        return found._replace(values=found.values.detach()[:, : question.inputs.positions])

    def _of_picture(self, question: Question) -> Positions:
        """Scores of the pixels."""
        assert isinstance(question.inputs, ImageInputs)
        if self.pieces != "sum":
            raise InputError(
                f"pieces={self.pieces!r} is for the tokens of a text; the pixels of a picture share their patch's "
                "score and are summed, so leave pieces out."
            )
        picture = question.inputs.row
        with cutting(question.model.module, picture) as patches:
            found = self.positions(Watched(question))
        return found._replace(values=at_pixels(found.values.detach(), patches, picture))


class Watched:
    """One call of a question's network, to be watched."""

    def __init__(self, question: Question) -> None:
        model = question.model
        self.module, self._meter, self._name = model.module, model.meter, model.name
        # From the first position on, whatever precedes the first feature.
        self._function = model.embedded(question.inputs, question.target, 0)
        # A leaf, since the parameters of a network may be frozen.
        self.leaf = self._function.embeddings[None].detach().clone().requires_grad_()
        self._tokens = 0
        """What the meter counts for one call."""

    def call(self) -> Float[Tensor, "1 target"]:
        """Ask the network once."""
        before = self._meter.tokens
        scores = self._function(self.leaf)
        self._tokens = self._meter.tokens - before
        return scores

    def reading(self, *, gradients: bool = False) -> Reading:
        """What the call showed. Raises ModelError for a network without attention, or as ``checked``."""
        return self.checked(read(self.module, self.call, gradients=gradients))

    def checked(self, reading: Reading) -> Reading:
        """The same. Raises ModelError unless every block has one self-attention, of all of its positions."""
        if len(reading.layers) != len(reading.states) - 1:
            raise ModelError(
                f"{self._name} has {len(reading.layers)} self-attentions that can be watched in "
                f"{len(reading.states) - 1} blocks, and one in each is needed; use a method of another family, such as "
                "attnlrp."
            )
        for layer, state in zip(reading.layers, reading.states[1:], strict=True):
            if not is_whole(layer, state):
                raise ModelError(
                    f"the attention {layer.name!r} of {self._name} does not see all positions of its block at once: "
                    f"its weights are {list(layer.weights.shape)}, and the block gives {list(state.shape)}; use a "
                    "method of another family, such as attnlrp."
                )
        return reading

    def slopes(self, reading: Reading, of: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Gradients of each target in turn, by one backward pass each. Raises NumericalError where one overflows."""
        for target in range(reading.scores.shape[1]):
            found = [single(each) for each in reading.gradients(target, of)]
            self.spent(backwards=1)
            if not all(bool(torch.isfinite(each).all()) for each in found):
                raise NumericalError(
                    f"gradients of {self._name} became NaN or infinite; load it in a dtype of a wider range, such as "
                    "float32."
                )
            yield found

    def spent(self, *, backwards: int = 0, runs: int = 0) -> None:
        """Count what a formula spends by itself: backward passes, and runs of all blocks on the whole input."""
        self._meter.backwards += backwards
        self._meter.tokens += runs * self._tokens


def weights_of(reading: Reading) -> list[Float[Tensor, "1 head query key"]]:
    """Attention weights of every layer."""
    return [single(each.weights) for each in reading.layers]


def readout_of(reading: Reading, like: Tensor) -> Float[Tensor, "target query"]:
    """Where each target is read, in the dtype of what it is multiplied with."""
    return single(reading.readout)[0].to(like)


def largest(
    scores: Float[Tensor, "target seq"], owner: Int[Tensor, " seq"], players: int
) -> Float[np.ndarray, "target player"]:
    """Of the scores of each player's positions the one of the largest size; 0 for a player without any."""
    values, owners = scores.double().cpu().numpy(), owner.cpu().numpy()
    found = np.zeros((len(values), players))
    for player in np.unique(owners[owners >= 0]):
        own = values[:, owners == player]
        found[:, player] = own[np.arange(len(own)), np.abs(own).argmax(1)]
    return found
