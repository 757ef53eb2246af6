"""What decides the results of a run."""

from typing import Annotated, Literal

from pydantic import Field

from pellucid.records import Record
from pellucid.sae.interpretation.choosing import Choice

Scorer = Literal["detection", "fuzzing", "embedding"]


class Settings(Record):
    """What decides the results: a run goes on only with the same."""

    choice: Choice = Choice()
    """How examples are chosen."""
    scorers: tuple[Scorer, ...] = ("detection", "fuzzing")
    """What is judged."""
    baselines: Annotated[int, Field(ge=0)] = 20
    """Latents that are also scored with the explanation of another one."""
    random_directions: Annotated[int, Field(ge=0)] = 8
    """Random directions that are explained and scored as if they were latents."""
    explainer: str = ""
    """Name of what explains."""
    judges: dict[str, str] = Field(default={})
    """Name of what judges, for each score."""
    sources: dict[str, str] = Field(default={})
    """What tells the autoencoder, the events and the store apart from others, such as digests."""
    together: Annotated[int, Field(ge=1, le=1000)] = 8
    """Latents that are worked on at a time; an interruption loses at most these."""
    keep_prompts: bool = True
    """Whether all questions and answers are kept in readable form."""
