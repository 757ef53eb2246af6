"""The checksums of a folder: ``SHA256SUMS``, as ``sha256sum`` writes and reads them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pellucid.errors import RecordError

SUMS = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """Digest of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of(folder: Path, names: Iterable[str]) -> str:
    """The lines of ``SHA256SUMS`` for some files of a folder."""
    return "".join(f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names))


def listed(folder: Path) -> dict[str, str]:
    """Digest by file name, as a folder's checksums say; empty where it has none. Raises RecordError."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    found = {}
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise RecordError(f"line {number} of {str(path)!r} is no checksum with a file name; get the file anew.")
        found[name] = digest
    return found


def check_sums(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Compare files with a folder's checksums, and give the names that were compared.

    Args:
        folder: where they are.
        names: only these, where they are listed; None: all that are listed.

    Raises:
        RecordError: a file is missing or has changed, or the checksums cannot be read.
    """
    sums = listed(folder)
    compared = [name for name in sums if names is None or name in set(names)]
    for name in compared:
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            raise RecordError(f"{name} of {str(folder)!r} cannot be read ({error.strerror}).") from None
        if found != sums[name]:
            raise RecordError(f"{name} of {str(folder)!r} is not the file that {SUMS} names; get it anew.")
    return compared
