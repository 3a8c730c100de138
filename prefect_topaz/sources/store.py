"""Sources on any fsspec store: found, explained where they are not, and read in few requests."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from prefect_topaz.errors import UnusableSource
from prefect_topaz.http import PIECE, quiet
from prefect_topaz.models import MediaFacts
from prefect_topaz.redaction import redact
from prefect_topaz.sources.address import UNREADABLE, attempt, label_of
from prefect_topaz.sources.identity import by_content, by_store, facts_of, given, place_on_store
from prefect_topaz.stores import open_store

_SHORTEST_SECRET: Final = 4  # characters; shorter settings are words, such as a region's


@dataclass(frozen=True)
class StoredFile:
    """A file on a store.

    Args:
        fs: The store.
        path: The file's path as the store knows it.
        label: Its URL for people.
        options: The store's settings, which no message may show.
    """

    fs: Any
    path: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open it so that it can be read at any place, a few pieces of it at a time."""
        if isinstance(self.fs, MemoryFileSystem):
            # All who open a file there share one position.
            yield io.BytesIO(self.fs.cat_file(self.path))
            return
        with quiet(), self.fs.open(self.path, "rb", block_size=PIECE, **_CACHE) as file:
            if file.seekable():
                yield file
                return
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(file, copy, PIECE)
                copy.seek(0)
                yield copy

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """Open it to be read once, from its start to its end."""
        if isinstance(self.fs, MemoryFileSystem):
            yield io.BytesIO(self.fs.cat_file(self.path))
            return
        with quiet(), self.fs.open(self.path, "rb", block_size=8 * PIECE) as file:
            yield file

    def explain(self, error: Exception) -> str:
        """Say what a store's error means, without its settings."""
        return explain(self.label, error, self.options)


# Headers, index and first frame lie apart: what was read once is kept, and not read again.
_CACHE: Final = {"cache_type": "blockcache", "cache_options": {"maxblocks": 16}}


def find(url: str, options: Mapping[str, Any]) -> StoredFile:
    """Open the store of a URL.

    Raises:
        UnusableSource: If fsspec does not know it, needs another package, or cannot reach it.
    """
    label = label_of(url)
    if not _is_known(label):
        raise UnusableSource(
            f"the source {label!r} is on no store that fsspec knows: give an http(s) URL, the path"
            " of a local file, or a URL such as s3://bucket/clip.mp4"
        )

    def connect() -> StoredFile:
        fs, path = open_store(url, options)
        return StoredFile(fs, path, label, options)

    return attempt(connect, lambda error: _explain_store(label, error, options))


def explore(file: StoredFile, version: str | None) -> tuple[str, MediaFacts, int | None]:
    """Find out who a file's content is, what video it is, and its size in bytes.

    Raises:
        UnusableSource: If it cannot be read, or is no video.
    """

    def look() -> tuple[str, MediaFacts, int | None]:
        file.fs.invalidate_cache()
        info = file.fs.info(file.path)
        if info.get("type") == "directory":
            raise UnusableSource(f"the source {file.label!r} is a folder: give a video file in it")
        place = place_on_store(file.fs, file.path)
        with file.opened() as opened:
            media = facts_of(opened, file.label)
            identity = given(place, version) or by_store(place, info)
            if identity is None:
                opened.seek(0)
                identity = by_content(opened)
        return identity, media, info.get("size")

    return attempt(look, file.explain)


def _explain_store(label: str, error: Exception, options: Mapping[str, Any]) -> str:
    if isinstance(error, ImportError):
        return (
            f"the source {label!r} needs a package that is not installed"
            f" ({_scrubbed(error, options)}): install it, such as with pip"
        )
    return explain(label, error, options)


def _is_known(label: str) -> bool:
    links = (link.partition("://") for link in label.split("::"))
    schemes = [scheme for scheme, mark, _ in links if mark]  # a path has none
    known = {*fsspec.available_protocols(), *fsspec.registry}
    return label != UNREADABLE and known.issuperset(schemes)


def explain(label: str, error: Exception, options: Mapping[str, Any]) -> str:
    """Say what a store's error means for a source, without the store's settings."""
    if isinstance(error, FileNotFoundError):
        return f"the source {label!r} does not exist: check its address"
    if isinstance(error, PermissionError):
        return (
            f"the source {label!r} may not be read ({_scrubbed(error, options)}): check the store's"
            " settings, and that its key may read this file"
        )
    return (
        f"the source {label!r} cannot be read ({type(error).__name__}: {_scrubbed(error, options)}):"
        " check its address and the store's settings"
    )


def _scrubbed(error: Exception, options: Mapping[str, Any]) -> str:
    text = redact(str(error))
    for secret in _texts(options):
        text = text.replace(secret, "...")
    return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
        yield value
