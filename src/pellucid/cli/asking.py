"""From what stands on a command line to what the library takes."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.models import LoadedModel, Preprocessing, Prompt
    from pellucid.targets import AbstractTarget, Latent, Pixel, Region

STANDARD_INPUT = "-"


def pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """Repeated ``name=value`` as a mapping. Raises InputError for another form or a repeated name."""
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"{option} takes NAME=VALUE, and {each!r} is not of that form.")
        if name in found:
            raise InputError(f"{option} names {name!r} twice; give it once.")
        found[name] = value
    return found


def parts(option: str, given: str, count: int | None = None) -> list[str]:
    """``"low, high"`` as its parts. Raises InputError where an exact ``count`` is asked for and not there."""
    found = [part.strip() for part in given.split(",") if part.strip()]
    if count is not None and len(found) != count:
        raise InputError(f"{option} takes {count} answers, separated by a comma, and {given!r} has {len(found)}.")
    return found


def model(
    source: str,
    labels: str | None,
    scaled: str | None,
    device: str,
    dtype: str,
    system: str | None,
    no_chat: bool,
) -> "LoadedModel":
    """The model that was named. Raises as ``pellucid.load`` does."""
    from pellucid.models import load

    return load(
        source,
        labels=None if labels is None else parts("--labels", labels),
        preprocessing=preprocessing(scaled),
        device=device,
        dtype=dtype,
        chat=False if no_chat else None,
        system=system,
    )


def preprocessing(given: str | None) -> "Preprocessing | None":
    """``150x150,0.5,0.5`` as what encodes a picture. Raises InputError on another form."""
    from pellucid.models import Preprocessing

    if given is None:
        return None
    try:
        size, mean, std = given.split(",")
        height, width, *channels = (int(each) for each in size.split("x"))
        count = channels[0] if channels else 3
        if len(channels) > 1 or count not in (1, 3) or min(height, width) < 1 or not float(std) > 0:
            raise ValueError(given)
        return Preprocessing((height, width), (float(mean),) * count, (float(std),) * count)
    except ValueError:
        raise InputError(
            f"--preprocessing takes HEIGHTxWIDTH,MEAN,STD, such as 150x150,0.5,0.5, and {given!r} is not of that form."
        ) from None


def settings(given: Sequence[str] | None) -> dict[str, Any]:
    """Settings of a method: each value as JSON where it is JSON, else as the text it is."""
    return {name: _as_json(value) for name, value in pairs("--set", given).items()}


def _as_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def prompt(
    text: str | None,
    prompt_file: Path | None,
    template: Path | None,
    fields: Sequence[str] | None,
    absent: Sequence[str] | None,
) -> "Prompt":
    """The one input that was given. Raises InputError where it is none, or two, or cannot be read."""
    from pellucid.models import Prompt, Template

    sources = {"--text": text, "--prompt-file": prompt_file, "--template": template}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        came = f"{' and '.join(given)} were given" if given else "none was given"
        raise InputError(f"exactly one of {', '.join(sources)} says what is explained, and {came}.")
    if template is not None:
        values = {name: value or None for name, value in pairs("--field", fields).items()}
        wordings = pairs("--absent", absent)
        return Template(read_text(template, "template"), absent=wordings)(**values)
    if fields or absent:
        raise InputError("--field and --absent fill a template; give it with --template FILE.")
    if prompt_file is not None:
        return Prompt.ensure(read_text(prompt_file, "prompt"))
    return Prompt.ensure(read_text(Path(STANDARD_INPUT), "prompt") if text == STANDARD_INPUT else str(text))


def raw(
    model: "LoadedModel",
    text: str | None,
    prompt_file: Path | None,
    template: Path | None,
    fields: Sequence[str] | None,
    absent: Sequence[str] | None,
    image: Path | None,
    row: Path | None,
    columns: Sequence[str] | None,
) -> Any:
    """The one input that was given, as the model reads it. Raises InputError where it is none, two, or another kind."""
    ways: dict[str, dict[str, object]] = {
        "text": {"--text": text, "--prompt-file": prompt_file, "--template": template},
        "image": {"--image": image},
        "tabular": {"--row": row, "--column": columns or None},
    }
    given = [name for way in ways.values() for name, value in way.items() if value is not None]
    ways["vision-language"] = ways["image"] | ways["text"]
    wanted = list(ways[model.modality])
    wrong = [name for name in given if name not in wanted]
    if wrong:
        raise InputError(f"{model.name} reads {model.modality}: give {' or '.join(wanted)}, not {' and '.join(wrong)}.")
    if model.modality == "text":
        return prompt(text, prompt_file, template, fields, absent)
    if model.modality == "vision-language":
        if image is None:
            beside = " or ".join(wanted[1:])
            raise InputError(f"{model.name} reads a picture with a text: give --image beside {beside}.")
        return {"image": image, "text": prompt(text, prompt_file, template, fields, absent)}
    if not given:
        raise InputError(f"{model.name} reads {model.modality}: give {' or '.join(wanted)}.")
    return image if model.modality == "image" else table_row(row, columns)


def table_row(row: Path | None, columns: Sequence[str] | None) -> dict[str, Any]:
    """The values of a JSON object in a file, with those of ``--column`` put over them."""
    values: dict[str, Any] = {}
    if row is not None:
        try:
            found = json.loads(read_text(row, "row"))
        except ValueError as error:
            raise InputError(f"the row {str(row)!r} is not JSON: {error}.") from None
        if not isinstance(found, dict):
            raise InputError(f"the row {str(row)!r} is not one JSON object from column to value.")
        values = found
    return values | pairs("--column", columns)


def read_text(path: Path, what: str) -> str:
    """UTF-8 text of a file, or of standard input for ``-``, without the line break at its end."""
    place = "from standard input" if str(path) == STANDARD_INPUT else repr(str(path))
    try:
        content = sys.stdin.buffer.read() if str(path) == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise InputError(f"the {what} {place} cannot be read: {error.strerror}.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the {what} {place} is not UTF-8: see byte {error.start}; convert it with iconv.") from None
    return text.replace("\r\n", "\n").rstrip("\n")


def target(
    answer: str | None,
    tokens: str | None,
    choices: str | None,
    contrast: str | None,
    label: str | None,
    region: str | None = None,
    pixel: str | None = None,
    latent: str | None = None,
) -> "AbstractTarget | None":
    """The one target that was named; None stands for the model's default. Raises InputError where several were."""
    from pellucid.targets import Answer, Choice, Contrast, Margin, Tokens

    options = {"--target": answer, "--tokens": tokens, "--choices": choices, "--contrast": contrast, "--label": label}
    options |= {"--region": region, "--pixel": pixel, "--latent": latent}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"one target is explained at a time, and {' and '.join(given)} were given.")
    if answer is not None:
        return Answer(answer)
    if tokens is not None:
        return Tokens(tokens)
    if choices is not None:
        return Choice(tuple(parts("--choices", choices)))
    if contrast is not None:
        return Contrast(*parts("--contrast", contrast, 2))
    if region is not None:
        return region_of(region)
    if pixel is not None:
        return pixel_of(pixel)
    if latent is not None:
        return latent_of(latent)
    return None if label is None else Margin(label=label)


def region_of(given: str) -> "Region":
    """``CLASS`` or ``CLASS:MASK.png`` as a target. Raises InputError where the mask cannot be read as one."""
    from pellucid.models.pictures import opened
    from pellucid.targets import Region

    name, colon, file = given.partition(":")
    if not name.strip() or (colon and not file):
        raise InputError(f"--region takes CLASS or CLASS:MASK.png, and {given!r} is not of that form.")
    return Region(_class(name), opened(file).convert("L") if colon else None)


def pixel_of(given: str) -> "Pixel":
    """``CLASS,Y,X`` as a target. Raises InputError on another form."""
    from pellucid.targets import Pixel

    name, *place = (part.strip() for part in given.rsplit(",", 2))
    if len(place) != 2 or not name or not all(part.isdecimal() for part in place):
        raise InputError(f"--pixel takes CLASS,Y,X with whole numbers from 0 on, and {given!r} is not of that form.")
    return Pixel(_class(name), *map(int, place))


def latent_of(given: str) -> "Latent":
    """``INDEX`` or ``INDEX@PLACE`` as a target. Raises InputError on another form."""
    from pellucid.targets import Latent

    index, at, place = (part.strip() for part in given.partition("@"))
    if not index.isdecimal() or (at and not place.isdecimal()):
        raise InputError(f"--latent takes INDEX or INDEX@PLACE, whole numbers from 0 on, and {given!r} is neither.")
    return Latent(int(index), int(place) if at else None)


def _class(name: str) -> int | str:
    """A class by its index where it is a number, else by its label."""
    name = name.strip()
    return int(name) if name.isdecimal() else name
