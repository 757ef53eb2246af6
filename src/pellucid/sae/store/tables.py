"""Where each row of a store is from, and the samples themselves, as Parquet."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from pellucid.errors import RecordError
from pellucid.sae.store.encoded import MODALITIES, ROLES, Encoded

_FAR = 8
"""Characters within which a token is sought behind parts of a character."""


class Chosen(NamedTuple):
    """A sample, and which of its positions are kept."""

    number: int
    """Of the sample in the store, from 0."""
    sample: Encoded
    """What the network reads."""
    positions: Int[np.ndarray, " selected"]
    """Rising."""


class Sample(NamedTuple):
    """One row of a batch, as the network read it."""

    ids: tuple[int, ...]
    """Token ids; a placeholder for each position of a picture."""
    pieces: tuple[str, ...]
    """The text of each token, with the space before it."""
    text: str
    """What was read, without what the tokenizer or a template of pictures put in."""
    roles: tuple[str, ...]
    """Who says each token: template, document, system, user, assistant, tool."""
    image: Path | None
    """The picture."""
    grid: tuple[int, int] | None
    """Rows and columns of the picture's positions."""
    document: str
    """The document it is from."""
    rows: tuple[int, int]
    """The first row of the store that is one of its tokens, and the first that is not any more."""


def places_table(shard: Sequence[Chosen]) -> Any:
    """A row for each token that is kept: sample, position, token, role, modality, patch_y and patch_x (-1 for text)."""
    import pyarrow as pa

    def column(values: Callable[[Chosen], np.ndarray], kind: Any) -> Any:
        return pa.array(np.concatenate([values(each) for each in shard]), kind)

    def names(values: Callable[[Chosen], np.ndarray], words: Sequence[str]) -> Any:
        return pa.DictionaryArray.from_arrays(column(values, pa.int8()), pa.array(words))

    columns = {
        "sample": column(lambda each: np.full(len(each.positions), each.number), pa.int32()),
        "position": column(lambda each: each.positions, pa.int32()),
        "token": column(lambda each: each.sample.ids[each.positions], pa.int32()),
        "role": names(lambda each: each.sample.roles[each.positions].astype(np.int8), ROLES),
        "modality": names(lambda each: modality(each).astype(np.int8), MODALITIES),
        "patch_y": column(lambda each: each.sample.patches[each.positions, 0], pa.int16()),
        "patch_x": column(lambda each: each.sample.patches[each.positions, 1], pa.int16()),
    }
    return pa.table(columns)


def modality(chosen: Chosen) -> Int[np.ndarray, " selected"]:
    """For each position that is kept its index into ``MODALITIES``."""
    shown: np.ndarray = chosen.sample.spans[chosen.positions] >= 0
    return shown.astype(np.int64)


def texts_table(shard: Sequence[Chosen], piece: Callable[[int], str]) -> Any:
    """A row for each sample."""
    import pyarrow as pa

    known: dict[int, str] = {}

    def pieces(ids: np.ndarray) -> list[str]:
        for token in set(ids.tolist()) - known.keys():
            known[token] = piece(token)
        return [known[token] for token in ids.tolist()]

    samples = [each.sample for each in shard]
    return pa.table(
        {
            "document": pa.array([each.document for each in samples], pa.string()),
            "text": pa.array([each.text for each in samples], pa.string()),
            "ids": pa.array([each.ids for each in samples], pa.list_(pa.int32())),
            "pieces": pa.array([pieces(each.ids) for each in samples], pa.list_(pa.string())),
            "roles": pa.array([each.roles for each in samples], pa.list_(pa.int8())),
            "image": pa.array([each.image and str(each.image.resolve()) for each in samples], pa.string()),
            "grid": pa.array([each.grid for each in samples], pa.list_(pa.int16())),
            "tokens": pa.array([len(each.positions) for each in shard], pa.int32()),
        }
    )


def parquet(table: Any) -> bytes:
    """A table as the bytes of a file."""
    import pyarrow.parquet as pq

    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def read_table(path: Path, columns: list[str] | None = None) -> Any:
    """A table of a store, or some of its columns. Raises RecordError where it is missing, broken, or was changed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordError(f"{str(path)!r} cannot be read ({reason}); harvest into a new folder.") from None


def spaced(pieces: Sequence[str], text: str) -> list[str]:
    """The tokens with the spaces that stand before them in the text; decoded one by one, many tokenizers drop these.

    >>> spaced(["<s>", "what", "is", " it", "?"], "what is it?")
    ['<s>', 'what', ' is', ' it', '?']
    """
    found, place, lost = [], 0, False
    for piece in pieces:
        bare = piece.strip()
        if piece and text.startswith(piece, place):
            at, gap = place, ""
            bare = piece
        else:
            at = text.find(bare, place) if bare else -1
            gap = text[place:at] if at >= 0 else ""
        # Behind parts of a character, which read as nothing by themselves, the next token is sought a little further.
        if at < 0 or (gap.strip() and not (lost and len(gap) <= _FAR)):
            found.append(piece)
            lost = lost or "\ufffd" in piece
            continue
        found.append(f"{gap[len(gap.rstrip()) :]}{bare}")
        place, lost = at + len(bare), False
    return found


def sample_of(row: dict[str, Any], first: int) -> Sample:
    """A row of the samples' table; ``first`` is the store's row of its first token."""
    return Sample(
        ids=tuple(row["ids"]),
        pieces=tuple(spaced(row["pieces"], row["text"])),
        text=row["text"],
        roles=tuple(ROLES[role] for role in row["roles"]),
        image=None if row["image"] is None else Path(row["image"]),
        grid=None if row["grid"] is None else (row["grid"][0], row["grid"][1]),
        document=row["document"],
        rows=(first, first + row["tokens"]),
    )
