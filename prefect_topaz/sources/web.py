"""Sources on http(s): read over ranges where the server has them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import fsspec

from prefect_topaz.http import PIECE, USER_AGENT, quiet
from prefect_topaz.models import MediaFacts
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sources.address import attempt
from prefect_topaz.sources.identity import by_answer, by_content, facts_of, given, place_of_url


def explore(url: SignedUrl, version: str | None) -> tuple[str, MediaFacts, int | None]:
    """Find out who a URL's content is, what video it is, and its size in bytes.

    Raises:
        UnusableSource: If it cannot be read, or is no video.
    """
    label = str(url)

    def look() -> tuple[str, MediaFacts, int | None]:
        with open_url(url) as (file, info):
            media, place = facts_of(file, label), place_of_url(url)
            identity = given(place, version) or by_answer(place, info)
            if identity is None:
                file.seek(0)
                identity = by_content(file)
            return identity, media, info["size"]

    def explain(error: Exception) -> str:
        # Of aiohttp's errors only the status: their text holds the signed URL.
        status = getattr(error.__cause__ or error, "status", None)
        reason = f"HTTP {status}" if status else type(error).__name__
        return (
            f"the source {label!r} cannot be read ({reason}): check the URL, and its expiry if it"
            " is signed"
        )

    return attempt(look, explain)


def path_of(url: SignedUrl) -> str:
    """Give the path of a URL."""
    return urlsplit(url.reveal()).path


@contextmanager
def open_url(url: SignedUrl) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a URL so that it can be read at any place; gives what the server says of it, too."""
    # `encoded` keeps a signed query as it is; the signature covers its very characters.
    headers = {"User-Agent": USER_AGENT}
    web = fsspec.filesystem("http", encoded=True, client_kwargs={"headers": headers})
    whole = url.reveal()
    with quiet():
        info = web.info(whole)
        if info["size"]:
            with web.open(whole, "rb", block_size=PIECE, size=info["size"]) as file:
                if _has_ranges(file):
                    yield file, info
                    return
        # A server without ranges can only be read from its start: a copy can be read anywhere.
        with tempfile.TemporaryFile() as copy:
            with web.open(whole, "rb", block_size=0) as stream:
                shutil.copyfileobj(stream, copy, PIECE)
            copy.seek(0)
            yield copy, info


def _has_ranges(file: Any) -> bool:
    try:
        file.seek(file.size - 1)
        file.read(1)
    except ValueError:  # fsspec's word for it; what a server announces proves nothing
        return False
    file.seek(0)
    return True
