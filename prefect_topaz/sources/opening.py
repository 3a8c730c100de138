"""Find a source, wherever it is, before any money is spent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec.implementations.local import LocalFileSystem

from prefect_topaz.models import Place, Source
from prefect_topaz.places import in_thread
from prefect_topaz.providers import Dialect
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sources import local, store, web
from prefect_topaz.sources.address import check_reach, inside, is_store, scheme_and_host
from prefect_topaz.sources.identity import unversioned
from prefect_topaz.sources.signing import check_given, lifetime, sign

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenSource:
    """A source that was found readable: a local file, a URL, or a file on a store.

    Args:
        facts: What the journal keeps of it.
        path: The local file, if it is one.
        url: The http(s) URL, if it is one.
        stored: The file on a store, if it is one.
        size: Bytes; None if a web server does not say.
        suffix: The ending of its name, in lower case with the dot: `.mp4`.
    """

    facts: Source
    path: Path | None = None
    url: SignedUrl | None = None
    stored: store.StoredFile | None = None
    size: int | None = None
    suffix: str = ""

    async def link(
        self,
        dialect: Dialect,
        seconds: float | None,
        now: datetime,
        log: Callable[[str], None] = _logger.info,
    ) -> SignedUrl | None:
        """Give an http(s) URL by which the provider can read it, signed by its store if need be.

        Args:
            dialect: The provider.
            seconds: How long the link must live; None for what covers queue and fetch.
            now: The time, by the clock that signs.
            log: Is told why there is none.

        Returns:
            The link; None if there is none, and a copy must be made that the provider can read.

        Raises:
            UnusableSource: If it is the user's link, and has expired or will too soon.
        """
        if self.url is not None:
            check_given(self.url, seconds, now)
            return self.url
        if self.stored is None:
            return None
        return await sign(self.stored, dialect, lifetime(seconds, self.facts.media), now, log)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open it for its frames: a local path, or a file that can be read at any place."""
        if self.path is not None:
            yield self.path
        elif self.url is not None:
            with web.open_url(self.url) as (file, _):
                yield file
        else:
            assert self.stored is not None
            with self.stored.opened() as file:
                yield file

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """Open it to be copied: a binary file, read once from its start to its end.

        Its errors are the store's own, and may show a signed URL: `describe` them.
        """
        if self.stored is not None:
            with self.stored.stream() as file:
                yield file
        elif self.path is not None:
            with self.path.open("rb") as file:
                yield file
        else:
            assert self.url is not None
            with web.open_url(self.url) as (file, _):
                yield file


async def open_source(
    source: str, dialect: Dialect, version: str | None = None, *, storage: Place | None = None
) -> OpenSource:
    """Find out who a source is and that it is a video, before any money is spent.

    Args:
        source: An http(s) URL, a local path, or the fsspec URL of a file on a store.
        dialect: The provider that shall read it.
        version: The caller's word for the content, instead of what the store says. Starting with
            `sha256:` it names the content wherever it lies; else it is bound to the source's URL,
            whatever its signature.
        storage: A folder with its store's settings, in which `source` is a path.

    Raises:
        UnusableSource: If it is missing, unreadable, no video, or out of the provider's reach.
    """
    options = {} if storage is None else storage.options
    whole = source if storage is None else inside(storage.url, source)
    scheme, _ = scheme_and_host(whole)
    if scheme in ("http", "https") and not options:
        dialect.check_source(whole)
        check_reach(whole, dialect)
        return await in_thread(_from_url, SignedUrl(whole), version)
    # A server that wants settings, such as a header, shows the provider nothing without them.
    if options or is_store(whole):
        return await in_thread(_from_store, whole, options, dialect, version)
    dialect.check_source(whole)
    path = Path(unquote(urlsplit(whole).path) if scheme == "file" else whole)
    with suppress(RuntimeError):  # the home of nobody: it does not exist, which is said there
        path = path.expanduser()
    return await in_thread(_from_file, path, version)


def _from_file(path: Path, version: str | None) -> OpenSource:
    identity, media, size = local.explore(path, version)
    facts = Source(identity=identity, label=str(path), name=path.stem, media=media)
    return OpenSource(facts, path=path, size=size, suffix=path.suffix.lower())


def _from_url(url: SignedUrl, version: str | None) -> OpenSource:
    identity, media, size = web.explore(url, version)
    name = PurePosixPath(unquote(urlsplit(str(url)).path))
    facts = Source(identity=identity, label=str(url), name=name.stem or "video", media=media)
    return OpenSource(facts, url=url, size=size, suffix=name.suffix.lower())


def _from_store(
    url: str, options: dict[str, Any], dialect: Dialect, version: str | None
) -> OpenSource:
    file = store.find(url, options)
    name = PurePosixPath(unversioned(file.path))
    dialect.check_source(name.name)
    if isinstance(file.fs, LocalFileSystem):
        return _from_file(Path(file.path), version)
    identity, media, size = store.explore(file, version)
    facts = Source(identity=identity, label=file.label, name=name.stem, media=media)
    return OpenSource(facts, stored=file, size=size, suffix=name.suffix.lower())
