"""Autoencoders as folders, in our own layout and in those of SAELens, dictionary_learning and sparsify."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pellucid.errors import InputError, RecordError, UnknownNameError
from pellucid.sae.autoencoder import SAE
from pellucid.sae.formats import dictionary_learning, native, sae_lens, sparsify
from pellucid.sae.formats.folders import Layout, put
from pellucid.sae.formats.sums import check_sums

__all__ = ["LAYOUTS", "layout_of", "read", "write"]

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {each.name: each for each in (native.LAYOUT, sae_lens.LAYOUT, dictionary_learning.LAYOUT, sparsify.LAYOUT)}
)
"""The layouts by name."""


def layout_of(folder: Path) -> Layout | None:
    """The layout that the files of a folder are in; None where there is no autoencoder."""
    return next((each for each in LAYOUTS.values() if each.holds(folder)), None)


def read(path: str | Path) -> SAE:
    """The autoencoder in a folder, or beside one of its files. Weights are read as float32.

    Checksums that lie beside it, as in a release, are compared first.

    Raises:
        InputError: there is none, or it is of a kind that is not known.
        RecordError: a file is damaged, or is not the one of the checksums.
    """
    folder = Path(path)
    folder = folder.parent if folder.is_file() else folder
    layout = layout_of(folder)
    if layout is None:
        raise InputError(_nothing(folder))
    check_sums(folder, layout.files)
    try:
        return layout.read(folder)
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise RecordError(
            f"{str(folder / layout.config)!r} has an entry of a form that cannot be read ({said}); get the file anew."
        ) from None


def write(sae: SAE, path: str | Path, format: str = "pellucid") -> None:
    """Write an autoencoder into a folder, which is there whole or not at all.

    One of the same layout that lies there already is replaced, file by file.

    Raises:
        UnknownNameError: there is no such layout.
        InputError: the layout cannot hold this autoencoder, or an autoencoder in another one lies there.
        RecordError: the folder cannot be written.
    """
    if format not in LAYOUTS:
        raise UnknownNameError("layout of an autoencoder", format, LAYOUTS)
    layout, folder = LAYOUTS[format], Path(path)
    there = layout_of(folder)
    if there is not None and there.name != format:
        raise InputError(
            f"{str(folder)!r} already holds an autoencoder in the layout {there.name!r}, and one in {format!r} would "
            "be mistaken for it; give another folder."
        )
    put(folder, layout.contents(sae))


def _nothing(folder: Path) -> str:
    """Why nothing could be read from a folder, and where something may be."""
    if not folder.is_dir():
        return f"no autoencoder is saved at {str(folder)!r}: there is no such folder."
    known = "; ".join(f"{each.name}: {' and '.join(each.files)}" for each in LAYOUTS.values())
    inside = sorted(each.name for each in folder.iterdir() if each.is_dir() and layout_of(each) is not None)
    if inside:
        listed = ", ".join(inside[:8]) + (" ..." if len(inside) > 8 else "")
        return f"{str(folder)!r} holds {len(inside)} autoencoders in folders of their own; name one of them: {listed}."
    return f"no autoencoder is saved at {str(folder)!r}; a folder holds one of these pairs of files: {known}."
