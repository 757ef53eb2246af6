"""Files that come inside a Python package, so that they need no hub."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from pellucid.errors import MissingPackageError


class Packaged(NamedTuple):
    """A file or folder inside a Python package."""

    package: str
    """The module that holds the files; it is found, never imported."""
    file: str
    """The file or folder in it."""
    install: str
    """The line that installs it. Its own dependencies are not needed."""
    holds: str = "the embedded model"
    """What is found in it."""

    @property
    def path(self) -> Path:
        """Where it lies. Raises MissingPackageError."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        if not folders:
            raise MissingPackageError(f"the package {self.package} with {self.holds}", self.install)
        return Path(folders[0]) / self.file
