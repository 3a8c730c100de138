"""A folder on a store, as the tests see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect_topaz.models import Place
from prefect_topaz.places import Folder, open_folder


@dataclass(frozen=True)
class Stored:
    """A folder that does not exist yet.

    Attributes:
        kind: What store it is on.
        url: Its URL, without a slash at the end.
        options: The store's settings.
        root: Where it is on this machine's disk, if it is.
    """

    kind: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)
    root: Path | None = None

    def place(self, name: str = "") -> Place:
        """Give it, or something in it, as a destination."""
        return Place(url=f"{self.url}/{name}", options=self.options)

    @property
    def folder(self) -> Folder:
        """Open it as another process would."""
        return open_folder(self.place())

    def names(self, folder: str = "") -> list[str]:
        """List what is in it."""
        found = open_folder(self.place(folder))
        found.fs.invalidate_cache()
        try:
            paths = found.fs.ls(found.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def read(self, name: str) -> bytes | None:
        """Read a file in it; None if there is none."""
        folder = self.folder
        folder.fs.invalidate_cache()
        try:
            data: bytes = folder.fs.cat_file(folder.file(name))
        except FileNotFoundError:
            return None
        return data
