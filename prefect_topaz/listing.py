"""Which sources a batch has: globs are expanded wherever they lead, and results are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec.implementations.local import LocalFileSystem

from prefect_topaz.delivery import read_receipt
from prefect_topaz.models import Place
from prefect_topaz.naming import safe_name
from prefect_topaz.places import Folder
from prefect_topaz.redaction import redact_url
from prefect_topaz.sources import inside, is_store, is_web, label_of
from prefect_topaz.stores import open_store


def expand(sources: str | Sequence[str], storage: Place | None = None) -> list[str]:
    """List the sources of a batch, each once: globs of paths and of fsspec URLs are expanded.

    Args:
        sources: URLs, paths and globs.
        storage: The folder in which they are paths, with its store's settings.
    """
    given = [sources] if isinstance(sources, str) else sources
    return list(dict.fromkeys(one for source in given for one in _matches(source, storage)))


def _matches(source: str, storage: Place | None) -> list[str]:
    if is_web(source) or "::" in source or not any(char in source for char in "*["):
        return [source]
    try:
        found = _found(source, storage)
    except Exception:  # noqa: BLE001  # every store raises kinds of its own; its item says what
        return [source]
    if not found and "*" not in source:
        return [source]  # brackets in a file's own name
    return found


def _found(source: str, storage: Place | None) -> list[str]:
    whole = source if storage is None else inside(storage.url, source)
    fs, path = open_store(whole, {} if storage is None else storage.options)
    fs.invalidate_cache()
    found = [one for one in sorted(fs.glob(path)) if not _is_result(fs, one)]
    if isinstance(fs, LocalFileSystem):
        return found
    # What stands before a match in its URL, such as a host, a store does not always repeat.
    tail = whole.partition("://")[2].partition("/")[2]
    before = len(path) - len(tail)
    return [whole[: len(whole) - len(tail)] + one[before:] for one in found]


def _is_result(fs: Any, path: str) -> bool:
    """Tell what an earlier run made: upscaling it again, every night, would be bought each time."""
    parent, _, name = path.rpartition("/")
    return read_receipt(Folder(fs, parent), name) is not None


def same_names(sources: Sequence[str]) -> set[str]:
    """Find sources whose results would have one name."""
    names = Counter(_stem(source) for source in sources)
    return {source for source in sources if names[_stem(source)] > 1}


def _stem(source: str) -> str:
    """Give what a result's name would begin with."""
    # The label of what is no URL is none either: that item fails, and not the batch.
    path = unquote(urlsplit(label(source)).path) if is_web(source) else label(source)
    return safe_name(PurePath(path).stem)


def label(source: str) -> str:
    """Name a source for people: a path may hold what ends the path of a URL."""
    if is_store(source):
        return label_of(source)
    return redact_url(source) if "://" in source else source
