"""Remove the files by which remote stores were tried out, and which outlived their writers."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timezone
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from prefect_topaz.places import Folder

# On SFTP a new file has the second name until it is whole.
_TRIAL: Final = re.compile(r"\.[0-9a-f]{32}(\.part)?")
_LARGEST: Final = 3  # bytes
_ABANDONED: Final = 3600.0  # seconds after which nobody tries any more


def sweep_trials(journal: Folder, now: float) -> None:
    """Remove the trial files of dead processes; `places.check_exclusive` makes them.

    Args:
        journal: The journal's folder.
        now: Unix seconds.
    """
    if isinstance(journal.fs, LocalFileSystem | MemoryFileSystem):
        return  # which are never tried
    with suppress(Exception):  # a few bytes may stay; no tidying may cost a video
        journal.fs.invalidate_cache()
        for entry in journal.fs.ls(journal.path, detail=True):
            name = entry["name"].rpartition("/")[2]
            small = _TRIAL.fullmatch(name) and entry["size"] <= _LARGEST
            if small and now - _changed(journal.fs, entry["name"]) > _ABANDONED:
                journal.fs.rm_file(entry["name"])


def _changed(fs: Any, path: str) -> float:
    """Read when a file was written, in Unix seconds."""
    told = fs.modified(path)
    moment: float = told.replace(tzinfo=told.tzinfo or timezone.utc).timestamp()
    return moment
