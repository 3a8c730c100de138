"""Connections for bulk bytes: blocking, for threads, and measured to be the fastest at hand.

The standard library's client takes half the processor time of httpx for the same file, and sends
the characters of a signed URL as they are.
"""

from __future__ import annotations

import base64
import socket
import string
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from prefect_topaz.http import USER_AGENT, tls

_CONNECT: Final = 20.0  # seconds
_SILENCE: Final = 60.0  # seconds without a byte
_PIECE: Final = 2**17  # bytes read at a time; the memory of larger pieces is mapped anew each time

_Origin = tuple[str, str, int | None]


class Broken(Exception):
    """A connection failed, or what came over it is not HTTP."""


class Answer:
    """The answer to one request, read in pieces as they come.

    Args:
        response: The standard library's answer.
    """

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        length = self.header("content-length")
        self.length = int(length) if length.isdecimal() and not response.chunked else None
        self._left = self.length

    def header(self, name: str) -> str:
        """Give a header, or nothing."""
        return self._response.headers.get(name, "")

    @property
    def is_read(self) -> bool:
        """Whether nothing of it is left on the connection."""
        return self._left == 0 and not self._response.will_close

    def read(self) -> bytes:
        """Read what there is, and wait for it if there is nothing; empty at the end.

        Raises:
            Broken: If the connection fails. One that ends early looks like an end.
        """
        if self._left == 0:
            return b""
        try:
            piece = self._response.read1(min(_PIECE, self._left or _PIECE))
        except (HTTPException, OSError, ValueError) as error:
            raise Broken(_named(error)) from None
        if self._left is not None:
            self._left -= len(piece)
        return piece


class Connections:
    """The connections of one download; used by many threads, ended by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[_Origin, list[HTTPConnection]] = {}
        self._used: dict[HTTPConnection, socket.socket] = {}
        self._ended = False

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        """Ask for a URL; redirects are answers and are not followed.

        Raises:
            Broken: If there is no answer.
        """
        origin = _origin(url)
        try:
            connection, response = self._ask(origin, url, {"User-Agent": USER_AGENT, **headers})
        except (HTTPException, OSError, ValueError) as error:
            raise Broken(_named(error)) from None
        answer = Answer(response)
        try:
            yield answer
        finally:
            kept = answer.is_read
            response.close()
            self._release(origin, connection, kept=kept)

    def end(self) -> None:
        """Wake all who read, and let nobody ask any more."""
        with self._lock:
            self._ended = True
            for one in self._used.values():
                with suppress(OSError):  # it is closed already
                    one.shutdown(socket.SHUT_RDWR)
            for connection in (one for kept in self._idle.values() for one in kept):
                connection.close()
            self._idle.clear()

    def _ask(
        self, origin: _Origin, url: str, headers: Mapping[str, str]
    ) -> tuple[HTTPConnection, HTTPResponse]:
        while (connection := self._take(origin)) is not None:
            # A server may close a kept connection at any moment: that is no failure.
            with suppress(HTTPException, OSError):
                return connection, self._send(connection, url, headers)
        connection = _connect(origin)
        return connection, self._send(connection, url, headers)

    def _send(
        self, connection: HTTPConnection, url: str, headers: Mapping[str, str]
    ) -> HTTPResponse:
        with self._lock:
            if self._ended:
                connection.close()
                raise ConnectionAbortedError("the download was ended")
            assert connection.sock is not None
            # Kept apart, since the connection lets go of it when the answer is its last.
            self._used[connection] = connection.sock
        try:
            connection.request("GET", _target(url), headers=dict(headers))
            return connection.getresponse()
        except BaseException:
            self._release(None, connection, kept=False)
            raise

    def _take(self, origin: _Origin) -> HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def _release(self, origin: _Origin | None, connection: HTTPConnection, *, kept: bool) -> None:
        with self._lock:
            self._used.pop(connection, None)
            if kept and origin is not None and not self._ended:
                self._idle.setdefault(origin, []).append(connection)
                return
        connection.close()


def _named(error: BaseException) -> str:
    # A status line that is none may hold anything, and is not repeated.
    text = str(error) if isinstance(error, OSError) else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _origin(url: str) -> _Origin:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _target(url: str) -> str:
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    # Only what HTTP cannot carry is escaped: a signature covers the very characters of its URL.
    return quote(target, safe=string.punctuation)


def _connect(origin: _Origin) -> HTTPConnection:
    scheme, host, port = origin
    connection = (
        HTTPConnection(host, port, timeout=_CONNECT)
        if scheme == "http"  # on loopback only, which no proxy can see
        else _secure(host, port)
    )
    connection.connect()
    assert connection.sock is not None
    connection.sock.settimeout(_SILENCE)
    return connection


def _secure(host: str, port: int | None) -> HTTPSConnection:
    proxies = urllib.request.getproxies()
    named = proxies.get("https") or proxies.get("all")
    if not named or urllib.request.proxy_bypass(host):
        return HTTPSConnection(host, port, timeout=_CONNECT, context=tls())
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http":
        raise OSError(
            f"downloads know no {proxy.scheme} proxies: name an http:// one in HTTPS_PROXY, or"
            " except the host by NO_PROXY"
        )
    connection = HTTPSConnection(
        proxy.hostname or "", proxy.port or 80, timeout=_CONNECT, context=tls()
    )
    login = {}
    if proxy.username:
        words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        login = {"Proxy-Authorization": f"Basic {base64.b64encode(words).decode()}"}
    connection.set_tunnel(host, port or 443, headers=login)
    return connection
