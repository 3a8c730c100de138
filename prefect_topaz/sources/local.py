"""Sources on the local disk, whose digest is remembered as long as they do not change."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prefect_topaz.errors import UnusableSource
from prefect_topaz.models import MediaFacts
from prefect_topaz.sources.address import attempt
from prefect_topaz.sources.identity import by_content, facts_of, given

# Seconds: a file system may give two changes within them one and the same time.
_SETTLED: Final = 2.0


def explore(path: Path, version: str | None) -> tuple[str, MediaFacts, int | None]:
    """Find out who a file's content is, what video it is, and its size in bytes.

    Raises:
        UnusableSource: If it cannot be read, or is no video.
    """
    label = str(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UnusableSource(f"the source {label!r} {what}: give the path of a video file")

    def look() -> tuple[str, MediaFacts, int | None]:
        media = facts_of(path, label)
        return given(label, version) or digest(path), media, path.stat().st_size

    def explain(error: Exception) -> str:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return f"the source {label!r} cannot be read: {reason}"

    return attempt(look, explain)


def digest(path: Path, now: Callable[[], float] = time.time) -> str:
    """Name a file by its content, reading it only if it has changed since the last time.

    Args:
        path: The file.
        now: The clock that dates files, in Unix seconds.

    Raises:
        OSError: If it cannot be read.
    """
    before = _state(path)
    memory = _memory(path)
    # What is remembered may be missing, broken, or of another version: then the file is read.
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memory.read_bytes())
        if known["state"] == before:
            return str(known["identity"])
    with path.open("rb") as file:
        identity = by_content(file)
    # The date of the content can be set back, as copying tools do; that of the entry cannot.
    changed_at = max(before[2:4]) / 1e9
    if _state(path) == before and now() - changed_at > _SETTLED:
        _remember(memory, {"state": before, "identity": identity})
    return identity


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev]


def _memory(path: Path) -> Path:
    """Give the small file that remembers a file's digest, in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return Path(home) / "prefect-topaz" / "digests" / f"{name[:32]}.json"


def _remember(memory: Path, known: dict[str, object]) -> None:
    # A full or closed disk costs time at the next run, and nothing else.
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary = memory.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps(known))
        temporary.replace(memory)
