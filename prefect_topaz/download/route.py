"""The way to a result: its link, where redirects lead, and a fresh link when it has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urljoin, urlsplit

from prefect_topaz.download.bulk import Answer, Connections
from prefect_topaz.download.ranges import Again, Expired, Wanted
from prefect_topaz.errors import ResultUnavailable
from prefect_topaz.providers import is_loopback_host
from prefect_topaz.redaction import SignedUrl, redact

_REDIRECTS: Final = 5
_REFRESHES: Final = 2  # in a row without a new byte
_REDIRECT_CODES: Final = (301, 302, 303, 307, 308)

Refresh = Callable[[], Awaitable[SignedUrl]]
HeadersFor = Callable[[str], Mapping[str, str]]


def unavailable(link: SignedUrl, reason: Exception) -> ResultUnavailable:
    """Say that a result cannot be had now, and why."""
    return ResultUnavailable(
        f"the result at {link} cannot be downloaded ({redact(str(reason))}): run again to try"
        " again, which buys nothing"
    )


class Route:
    """The way to the file, shared by all parts of it.

    Args:
        link: The result's link.
        refresh: Gives a fresh link when this one has expired.
        headers_for: Gives the key's header for the provider's own origin, and nothing for others.

    Attributes:
        turn: Counts the ways, so that of many who find one closed, one finds another.
    """

    def __init__(self, link: SignedUrl, refresh: Refresh, headers_for: HeadersFor) -> None:
        self.link = link
        self._refresh, self._headers_for = refresh, headers_for
        self.turn = 0
        self._end: str | None = None  # where redirects led
        self._refreshes = self._brought = 0
        self._lock = asyncio.Lock()

    @property
    def _start(self) -> str:
        return self._end or self.link.reveal()

    def _led_to(self, url: str, turn: int) -> None:
        """Remember where a link leads: the provider need not be asked again for each part."""
        if turn == self.turn and url != self._start:
            self._end = url

    async def renew(self, turn: int, reason: Expired, received: int) -> None:
        """Find another way: by the link again, or by a fresh one; once for all who need it.

        Args:
            turn: The way that is closed.
            reason: How it is closed.
            received: Bytes that have arrived; without a new one, few links are asked for.

        Raises:
            ResultUnavailable: If fresh links do not open either.
        """
        async with self._lock:
            if turn != self.turn:
                return
            if self._end is None:
                if received != self._brought:
                    self._refreshes, self._brought = 0, received
                if self._refreshes == _REFRESHES:
                    raise unavailable(self.link, reason)
                self._refreshes += 1
                self.link = await self._refresh()
            self._end = None
            self.turn += 1

    @contextmanager
    def opened(self, connections: Connections, wanted: Wanted, turn: int) -> Iterator[Answer]:
        """Ask, and follow redirects by hand: the key goes to its own origin only.

        Raises:
            Expired: If the way leads to where nothing may be fetched from.
            Again: If it leads nowhere.
            Broken: If there is no answer.
        """
        url = _usable(self._start)
        for _ in range(_REDIRECTS + 1):
            headers = {**wanted.headers, **self._headers_for(url)}
            with connections.get(url, headers) as answer:
                location = answer.header("location")
                if not (answer.status in _REDIRECT_CODES and location):
                    if answer.status < _REDIRECT_CODES[0]:
                        self._led_to(url, turn)
                    yield answer
                    return
            url = _usable(url, location)
        raise Again("too many redirects")


def _usable(url: str, location: str = "") -> str:
    """Give a link that may be followed: https, or http on loopback."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        host, _ = parts.hostname, parts.port  # broken ones raise
    except ValueError:
        raise Expired("the link is not a URL") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(host or ""))
    if not host or not secure:
        raise Expired(f"it leads to {SignedUrl(target)}, which is not https")
    return target
