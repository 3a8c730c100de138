"""Fetch a result into a file: streamed, resumed by ranges, with the key for nobody else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx

from prefect_topaz.errors import ResultUnavailable
from prefect_topaz.http import opened
from prefect_topaz.providers import is_loopback_host
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.transport import Sleep, describe

_TRIES: Final = 6  # in a row without a new byte
_REDIRECTS: Final = 5
_REFRESHES: Final = 2
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

Refresh = Callable[[], Awaitable[SignedUrl]]
HeadersFor = Callable[[str], Mapping[str, str]]


class _Again(Exception):
    """This try brought no whole file; the next one goes on where it ended. Private."""


class _Expired(Exception):
    """The link does not open any more; a fresh one may. Private."""


@dataclass
class _Part:
    """What has arrived so far. Private to this module."""

    path: Path
    size: int = 0
    etag: str | None = None
    digest: Any = field(default_factory=hashlib.sha256)

    def restart(self) -> None:
        self.size, self.etag, self.digest = 0, None, hashlib.sha256()


@dataclass(frozen=True)
class Fetched:
    """A file that arrived whole.

    Args:
        path: Where it is.
        size: Bytes.
        sha256: Hex digest.
    """

    path: Path
    size: int
    sha256: str


async def fetch(
    link: SignedUrl,
    path: Path,
    *,
    refresh: Refresh,
    headers_for: HeadersFor,
    sleep: Sleep,
) -> Fetched:
    """Download a result, whatever happens on the way.

    Args:
        link: The result's link.
        path: The file to write; memory stays bounded.
        refresh: Gives a fresh link when this one has expired.
        headers_for: Gives the key's header for the provider's own origin, and nothing for others.
        sleep: Waits between tries.

    Raises:
        ResultUnavailable: If it cannot be had, by this link or a fresh one. It is paid for: run
            again while the provider keeps it.
        OSError: If the file cannot be written.
    """
    part = _Part(path)
    refreshes = tries = most = 0
    while tries < _TRIES:
        most = max(most, part.size)
        try:
            await _attempt(link, part, headers_for)
        except _Expired as error:
            reason = str(error)
            if refreshes == _REFRESHES:
                break
            refreshes += 1
            link = await refresh()
        except _Again as error:
            reason = str(error)
            # New is what no try has brought before: a server that starts anew each time, and always
            # cuts, must come to an end too.
            tries = 1 if part.size > most else tries + 1
            if tries < _TRIES:
                await sleep(min(2.0**tries, 30.0))
        else:
            return Fetched(path, part.size, part.digest.hexdigest())
    raise ResultUnavailable(
        f"the result at {link} cannot be downloaded ({reason}): run again to try again,"
        " which buys nothing"
    )


async def _attempt(link: SignedUrl, part: _Part, headers_for: HeadersFor) -> None:
    try:
        await _continue(link, part, headers_for)
    except httpx.RequestError as error:
        raise _Again(describe(error)) from None


async def _continue(link: SignedUrl, part: _Part, headers_for: HeadersFor) -> None:
    """Read from where the part ends to the end of the file."""
    url = _usable(link.reveal())
    for _ in range(_REDIRECTS + 1):
        headers = {"Accept-Encoding": "identity", **headers_for(url)}
        if part.size and part.etag:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": part.etag}
        async with opened("GET", url, headers=headers) as answer:
            location = answer.headers.get("location")
            if not (answer.is_redirect and location):
                await _receive(answer, part)
                return
        url = _usable(url, location)
    raise _Again("too many redirects")


def _usable(url: str, location: str = "") -> str:
    """Give a link that may be followed: https, or http on loopback."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        host, _ = parts.hostname, parts.port  # broken ones raise
        httpx.URL(target)  # which wants yet more of a URL
    except (ValueError, httpx.InvalidURL):
        raise _Expired("the link is not a URL") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(host or ""))
    if not host or not secure:
        raise _Expired(f"it leads to {SignedUrl(target)}, which is not https")
    return target


def _check(answer: httpx.Response, part: _Part) -> int | None:
    """Refuse what does not go on where the part ends; give the whole file's size if it is told."""
    if answer.status_code in (401, 403, 404, 410):
        raise _Expired(f"HTTP {answer.status_code}")
    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.restart()
    if answer.status_code not in (200, 206):
        raise _Again(f"HTTP {answer.status_code}")
    if answer.headers.get("content-type", "").startswith("text/"):
        raise _Again("a web page instead of a video")
    if answer.status_code == httpx.codes.OK:
        part.restart()
        return None
    told = _RANGE.fullmatch(answer.headers.get("content-range", ""))
    changed = part.size and answer.headers.get("etag", part.etag) != part.etag
    if told is None or int(told[1]) != part.size or changed:
        part.restart()
        raise _Again("another part of the file than was asked for")
    return None if told[2] == "*" else int(told[2])


async def _receive(answer: httpx.Response, part: _Part) -> None:
    whole = _check(answer, part)
    etag = answer.headers.get("etag", part.etag or "")
    # Only a strong tag proves that the rest belongs to what is there.
    part.etag = etag if etag.startswith('"') else None
    with part.path.open("r+b" if part.size else "wb") as file:
        file.seek(part.size)
        # In pieces as they come: what is collected for larger ones is lost when the answer is cut.
        async for piece in answer.aiter_raw():
            file.write(piece)
            part.digest.update(piece)
            part.size += len(piece)
        file.truncate()
    if whole is not None and part.size != whole:
        raise _Again(f"{part.size} of {whole} bytes")
