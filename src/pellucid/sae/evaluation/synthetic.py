"""Activations whose dictionary is known: sparse features in superposition."""

from typing import Annotated, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from pellucid.errors import InputError
from pellucid.records import Record


class Draw(NamedTuple):
    """Some activations and what they are made of."""

    x: Float[Tensor, "token dim"]
    """The activations."""
    truth: Float[Tensor, "token feature"]
    """How much of each feature is in each."""


class Superposition(Record):
    """x = sum_i c_i f_i + noise, with more sparse features c than dimensions [elhage2022, section 2].

    Unit directions f_i are drawn at random once. A feature is there with a probability that falls as rank^-skew, or,
    with a correlation, where a normal number exceeds what that probability needs, and these numbers go together within
    a group of features. In a hierarchy features come in trees of one parent and its children, and a child can be there
    only with its parent. Sizes of what is there are uniform on [0.5, 1.5].
    """

    features: Annotated[int, Field(ge=1)] = 64
    """How many."""
    d_in: Annotated[int, Field(ge=1)] = 32
    """Dimensions that they share."""
    active: Annotated[float, Field(gt=0)] = 3.0
    """Features that are there on average, before a hierarchy takes children without a parent away."""
    skew: Annotated[float, Field(ge=0)] = 0.0
    """How much rarer later features are; 0: all alike."""
    correlation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the normal numbers behind the features of a group."""
    group: Annotated[int, Field(ge=1)] = 4
    """Features of a group, of a correlation; or a parent and its children, of a hierarchy."""
    hierarchical: bool = False
    """Whether features come in trees."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of what is added to each dimension."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the directions and of every draw."""

    def __init__(self, **given: object) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise InputError.from_validation("the synthetic features", error) from None

    @model_validator(mode="after")
    def _possible(self) -> "Superposition":
        if float(self.probabilities.max()) >= 1:
            raise InputError(
                f"{self.active} active ones of {self.features} features with a skew of {self.skew} would need a "
                "probability of 1; give fewer active ones, or more features."
            )
        return self

    @property
    def probabilities(self) -> Float[Tensor, " feature"]:
        """Of each feature being there, a child's given its parent."""
        falling = torch.arange(1, self.features + 1, dtype=torch.float64) ** -self.skew
        found: Tensor = falling * (self.active / falling.sum())
        return found

    @property
    def directions(self) -> Float[Tensor, "feature dim"]:
        """The true dictionary, rows of length 1."""
        generator = self._generator(0)
        drawn = torch.randn(self.features, self.d_in, generator=generator)
        return torch.nn.functional.normalize(drawn)

    def draw(self, tokens: int, part: int = 0) -> Draw:
        """Some activations; another ``part`` gives others, the same one the same. Raises InputError on no tokens."""
        if tokens < 1:
            raise InputError(f"at least 1 token is drawn, not {tokens}.")
        generator = self._generator(part + 1)
        there = self._numbers(tokens, generator) > torch.special.ndtri(1 - self.probabilities).float()
        if self.hierarchical:
            parents = torch.arange(self.features) // self.group * self.group
            there &= there[:, parents]
        sizes = 0.5 + torch.rand(tokens, self.features, generator=generator)
        truth = sizes * there
        noise = self.noise * torch.randn(tokens, self.d_in, generator=generator)
        return Draw(truth @ self.directions + noise, truth)

    def _generator(self, stream: int) -> torch.Generator:
        # A plain manual_seed(seed) gives what an autoencoder of that seed begins with: it would know the truth.
        state = np.random.SeedSequence((self.seed, stream)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    def _numbers(self, tokens: int, generator: torch.Generator) -> Float[Tensor, "token feature"]:
        """Standard normal numbers, correlated within groups."""
        own = torch.randn(tokens, self.features, generator=generator)
        groups = torch.arange(self.features) // self.group
        shared = torch.randn(tokens, int(groups[-1]) + 1, generator=generator)[:, groups]
        found: Tensor = self.correlation**0.5 * shared + (1 - self.correlation) ** 0.5 * own
        return found
