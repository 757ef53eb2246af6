"""Which tokens of what a model reads are kept."""

from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field, ValidationError, model_validator

from pellucid.errors import InputError, UnknownNameError
from pellucid.records import Record
from pellucid.sae.store.encoded import Encoded

Images = Literal["none", "all", "last", "random"]
PARTS: dict[str, dict[str, Any]] = {
    "all": {"images": "all", "boilerplate": True, "special": True, "first": True},
    "text": {},
    "assistant": {"roles": ("assistant",)},
    "user": {"roles": ("user",)},
    "image": {"images": "all"},
    "last-image": {"images": "last"},
    "maira-2": {"images": "last"},
    "patches": {"images": "random"},
    "balanced": {},
    "boilerplate": {"boilerplate": True},
    "special": {"special": True},
    "first": {"first": True},
    "from": {},
}
"""What each word of a selector's short form stands for."""
NUMBERED = {"patches": "patches", "balanced": "image_share", "from": "start"}
"""Words with a number after them, and the setting that it is."""
WORDLESS = ("image", "last-image", "patches")
"""Words that, where no other says so, leave the text out."""
SWITCHES = ("boilerplate", "special", "first", "from")
PICTURES = ("all", "image", "last-image", "maira-2", "patches")
"""Words that say which positions of a picture are taken; ``balanced`` takes all where there is none of them."""
FORM = "such as text, text+from:4, assistant, last-image, patches:16, text+last-image, balanced:0.5, maira-2 or all"


class TokenSelector(Record):
    """A choice among the positions of what the network reads, in which a picture is as many positions as it takes.

    What a prompt always says is left out unless it is asked for: the chat template and the system message, special
    tokens, and the first position, which takes up attention that goes nowhere and has a norm like no other [xiao2024].
    """

    text: bool = True
    """Whether tokens of text are taken."""
    roles: tuple[str, ...] = ()
    """Of text, only the turns of these: document, system, user, assistant, tool. Empty: of all."""
    images: Images = "none"
    """Positions of a picture that are taken: none, all, the last, or some at random."""
    patches: Annotated[int, Field(ge=1)] | None = None
    """How many at random of each picture, drawn anew for each sample."""
    spans: tuple[int, ...] = ()
    """Of several pictures of a sample, only these, from 0. Empty: all."""
    image_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of positions of pictures in what is taken of a sample; whatever is too many is left out at random."""
    boilerplate: bool = False
    """Whether the chat template and the system message are taken."""
    special: bool = False
    """Whether special tokens are taken, such as the beginning of a text."""
    first: bool = False
    """Whether the first position is taken."""
    start: Annotated[int, Field(ge=0)] = 0
    """The first position that is taken."""
    stop: Annotated[int, Field(ge=1)] | None = None
    """The first one that is not any more; None: all to the end."""
    without: tuple[str, ...] = ()
    """Wordings that are left out wherever they stand, such as the instruction of every prompt."""

    @classmethod
    def of(cls, given: "str | dict[str, Any] | TokenSelector") -> "TokenSelector":
        """A selector from its short form, words with ``+`` between them, or from its settings. Raises InputError."""
        if isinstance(given, TokenSelector):
            return given
        try:
            return cls(**(_settings(given) if isinstance(given, str) else given))
        except ValidationError as error:
            raise InputError.from_validation(f"the selector {given!r}", error) from None

    @model_validator(mode="after")
    def _fits(self) -> "TokenSelector":
        if (self.patches is None) == (self.images == "random"):
            raise ValueError("patches, a number, goes with images='random' and with nothing else")
        if self.image_share is not None and (not self.text or self.images == "none"):
            raise ValueError("image_share needs both text and pictures")
        if not self.text and self.images == "none":
            raise ValueError("neither text nor pictures are taken")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop is {self.stop} and start is {self.start}, so no position is taken")
        return self

    def positions(self, sample: Encoded, seed: tuple[int, int]) -> Int[np.ndarray, " selected"]:
        """The positions that are taken, rising. ``seed`` decides what is random: the job's, and the sample's number."""
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        text = np.flatnonzero(self._of_text(sample))
        pictures = self._of_pictures(sample, generator)
        if self.image_share is not None:
            share = self.image_share
            most = round(len(text) * share / (1 - share)), round(len(pictures) * (1 - share) / share)
            text, pictures = _drawn(text, most[1], generator), _drawn(pictures, most[0], generator)
        return np.sort(np.concatenate([text, pictures])).astype(np.int64)

    def _of_text(self, sample: Encoded) -> Bool[np.ndarray, " seq"]:
        if not self.text:
            return np.zeros(len(sample.ids), bool)
        kept: np.ndarray = (sample.spans < 0) & self._within(sample)
        if not self.boilerplate:
            kept &= ~(sample.has_role("system") | (sample.has_role("template") & ~sample.special))
        if not self.special:
            kept &= ~sample.special
        if self.roles:
            kept &= np.logical_or.reduce([sample.has_role(role) for role in self.roles])
        for wording in self.without:
            kept &= ~sample.covers(wording)
        return kept

    def _of_pictures(self, sample: Encoded, generator: np.random.Generator) -> Int[np.ndarray, " selected"]:
        if self.images == "none":
            return np.empty(0, np.int64)
        within, found = self._within(sample), []
        for span in np.unique(sample.spans[sample.spans >= 0]):
            if not self.spans or int(span) in self.spans:
                places = np.flatnonzero((sample.spans == span) & within)
                if self.images == "last":
                    places = places[-1:]
                found.append(places if self.patches is None else _drawn(places, self.patches, generator))
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _within(self, sample: Encoded) -> Bool[np.ndarray, " seq"]:
        where = np.arange(len(sample.ids))
        start, stop = max(self.start, 0 if self.first else 1), self.stop or len(where)
        kept: np.ndarray = (where >= start) & (where < stop)
        return kept


def _drawn(
    places: Int[np.ndarray, " place"], count: int, generator: np.random.Generator
) -> Int[np.ndarray, " selected"]:
    """At most so many of some positions, each as likely as the others."""
    return places if len(places) <= count else np.sort(generator.choice(places, count, replace=False))


def _settings(given: str) -> dict[str, Any]:
    """The settings that a short form stands for. Raises UnknownNameError, InputError."""
    found: dict[str, Any] = {}
    words = [word.strip() for word in given.split("+")]
    names = [word.partition(":")[0] for word in words]
    for word, name in zip(words, names, strict=True):
        if name not in PARTS:
            raise UnknownNameError("selector of tokens", name, PARTS, f"Join them with +, {FORM}.")
        number = word.partition(":")[2]
        if bool(number) != (name in NUMBERED):
            raise InputError(f"the selector {word!r} {'takes no' if number else 'needs a'} number after it, {FORM}.")
        if number and found.get(NUMBERED[name], number) != number:
            raise InputError(
                f"the selector {given!r} has {name!r} with {found[NUMBERED[name]]} and with {number}; keep one of them."
            )
        # Turns of several roles add up.
        roles = (*found.get("roles", ()), *PARTS[name].get("roles", ()))
        found |= PARTS[name] | ({"roles": roles} if roles else {})
        if number:
            found[NUMBERED[name]] = number
    _check_pictures(given, names)
    if "balanced" in names:
        found.setdefault("images", "all")
    texts = [name for name in names if name not in (*WORDLESS, *SWITCHES)]
    if any("roles" not in PARTS[name] for name in texts if name != "balanced"):
        found.pop("roles", None)
    found["text"] = bool(texts) or not any(name in WORDLESS for name in names)
    return found


def _check_pictures(given: str, names: list[str]) -> None:
    """Raises InputError where two words take different positions of a picture."""
    words = [name for name in dict.fromkeys(names) if name in PICTURES]
    if len({PARTS[name]["images"] for name in words}) > 1:
        raise InputError(
            f"the selector {given!r} takes different positions of each picture by {' and by '.join(words)}; keep one "
            "of these words."
        )
