"""From what stands on the command line of ``pellucid sae steer`` to what the library takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.cli import asking
from pellucid.cli.sae.steer_options import CONTROLS, SCALES
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.sae.interpretation.asking import LLM
    from pellucid.sae.steering import AbstractMatcher, Settings, Subject
    from pellucid.sae.steering.bench import Bench


def opened(
    sae: Path,
    model: str | None,
    prompts: Sequence[Any],
    site: str | None,
    settings: "Settings",
    others: Sequence[str] | None,
    events: Path | None,
    store: Path | None,
    judge: "LLM | None",
    device: str,
    dtype: str,
) -> "Bench":
    """Everything that steering is tried out on."""
    from pellucid.sae.steering.opening import bench_of

    wanted = [pattern(name, value) for name, value in asking.pairs("--other", others).items()]
    return bench_of(
        sae, model, prompts, site=site, settings=settings, others=wanted, events=events, store=store, judge=judge,
        device=device, dtype=dtype,
    )  # fmt: skip


def numbers_of(given: str) -> tuple[int, ...]:
    """``3+7`` as latents. Raises InputError on another form."""
    parts = given.split("+")
    if not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"--latent takes a number, or several as 3+7, and {given!r} is neither.")
    return tuple(int(part) for part in parts)


def of_each(option: str, given: Sequence[str] | None, names: Sequence[str]) -> dict[str, str]:
    """``N=VALUE`` for some latents, or one value for all. Raises InputError for a latent that is not steered."""
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if equals and all(part.isdecimal() for part in name.split("+")):
            if name not in names:
                raise InputError(f"{option} names latent {name}, and --latent names {', '.join(names)}.")
            if name in found:
                raise InputError(f"{option} names latent {name} twice; give it once.")
            found[name] = value
        elif len(given or ()) > 1:
            raise InputError(f"{option} is given once for all latents, or as LATENT=VALUE for each; got {each!r}.")
        else:
            found = dict.fromkeys(names, each)
    return found


def pattern(name: str, given: str) -> "AbstractMatcher":
    """A regular expression as what tells that a concept appears."""
    from pellucid.sae.steering import Pattern

    return Pattern(name, given)


def told_by(
    show: bool,
    out: Path | None,
    latents: Sequence[str],
    concepts: Sequence[str] | None,
    classifier: str | None,
    judge: str | None,
    labels: Sequence[str] | None,
    prefixes: Sequence[str] | None,
) -> "tuple[LLM | None, list[Subject]]":
    """The judge and what is steered; neither where answers are only shown. Raises InputError without a folder."""
    from pellucid.sae.steering.opening import judge_of

    if show:
        return None, []
    if out is None:
        raise InputError("the answers and what was measured go to a folder: give --out DIR, or --show to look only.")
    judging = None
    if judge is not None:
        name, _, model = judge.rpartition("=") if "://" in judge and "=" in judge else (judge, "", "")
        judging = judge_of(name, model or None, out)
    return judging, subjects_of(latents, concepts, classifier, judging, labels, prefixes)


def subjects_of(
    latents: Sequence[str],
    concepts: Sequence[str] | None,
    classifier: str | None,
    judge: "LLM | None",
    labels: Sequence[str] | None,
    prefixes: Sequence[str] | None,
) -> "list[Subject]":
    """What is steered and by what its concept is recognised. Raises InputError where nothing tells that."""
    from pellucid.sae.steering import Subject

    names = ["+".join(map(str, numbers_of(each))) for each in latents]
    wanted = of_each("--concept", concepts, names)
    worded, prefixed = of_each("--label", labels, names), of_each("--prefix", prefixes, names)
    if (classifier is not None) + bool(wanted) > 1 or not (classifier or wanted or judge):
        raise InputError(
            "one of --concept, --classifier and --judge tells whether the concept appears; give it, or --show."
        )
    if judge is not None:
        require_labels(names, worded)
    matchers: dict[str, AbstractMatcher] = {}
    if classifier is not None:
        matchers = dict.fromkeys(names, classified(classifier))
    elif judge is not None and not wanted:
        matchers = judged(judge, names, worded)
    elif set(wanted) != set(names):
        missing = next(name for name in names if name not in wanted)
        raise InputError(
            f"nothing tells whether the concept of latent {missing} appears; give --concept {missing}=REGEX."
        )
    else:
        same = {given: pattern(given, given) for given in wanted.values()}
        matchers = {name: same[given] for name, given in wanted.items()}
    return [Subject(numbers_of(name), matchers[name], worded.get(name, ""), prefixed.get(name, "")) for name in names]


def require_labels(names: Sequence[str], worded: dict[str, str]) -> None:
    """Raises InputError for a latent without a label, which a judge could be asked about."""
    for name in names:
        if not worded.get(name, "").strip():
            raise InputError(f"the judge is asked about a concept in words; give --label {name}=WORDS.")


def judged(judge: "LLM", names: Sequence[str], worded: dict[str, str]) -> "dict[str, AbstractMatcher]":
    """For each latent a judge that is asked about its label."""
    from pellucid.sae.steering import Judged

    same = {words: Judged(words, judge, words) for words in worded.values()}
    return {name: same[worded[name]] for name in names}


def classified(given: str) -> "AbstractMatcher":
    """``MODEL=LABEL`` as what tells that a concept appears."""
    from pellucid.models import TextClassifier, load
    from pellucid.sae.steering import Classified

    ((source, label),) = asking.pairs("--classifier", [given]).items()
    found = load(source)
    if not isinstance(found, TextClassifier):
        raise InputError(f"--classifier takes a text classifier, and {source} is a model of {found.modality}.")
    return Classified(label, found, label)


def prompts_of(given: Sequence[str] | None, file: Path | None, image: Path | None) -> list[Any]:
    """The prompts that were given, each with the picture. Raises InputError where there is none."""
    texts = list(given or ())
    if file is not None:
        texts += [line for line in asking.read_text(file, "prompts").split("\n") if line.strip()]
    if not texts:
        raise InputError("there is no prompt; give --prompt TEXT or --prompts FILE.")
    return texts if image is None else [{"image": image, "text": text} for text in texts]


def controls_of(given: str | None, *, prefix: bool, store: bool) -> list[str]:
    """The controls by name; where none are named, those for which everything is there."""
    if given is not None:
        return [] if given == "none" else asking.parts("--controls", given)
    can = {"prompted": prefix, "difference-of-means": store}
    return [name for name in CONTROLS if can.get(name, True)]


def settings_of(*, strengths: str | None, modes: Sequence[str] | None, scale: str, **rest: Any) -> "Settings":
    """The settings. Raises InputError on numbers that are none."""
    from pellucid.sae.steering import Settings

    number = scale if scale in SCALES else _number("--scale", scale)
    pushed = (
        () if strengths is None else [_number("--strengths", each) for each in asking.parts("--strengths", strengths)]
    )
    return Settings(strengths=tuple(pushed), modes=tuple(modes or ("add",)), scale=number, **rest)


def _number(option: str, given: str) -> float:
    try:
        return float(given)
    except ValueError:
        raise InputError(f"{option} takes numbers, and {given!r} is none.") from None
