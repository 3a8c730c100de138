"""Files over HTTP: signed links that expire, strong ETags, ranges, HEAD."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from prefect_topaz.sandbox.disk import StoredFile, read_chunks


class LinkSigner:
    """Makes links that work for a while, and checks them.

    Args:
        base_url: What every link starts with, without a slash at its end.
        seconds: How long a link works.
        clock: Gives Unix seconds.
    """

    def __init__(self, base_url: str, seconds: float, clock: Callable[[], float]) -> None:
        self._base_url, self._seconds, self._clock = base_url, seconds, clock
        self._secret = secrets.token_bytes(32)

    def sign(self, path: str) -> str:
        """Give a full URL for a path, good from now on.

        Args:
            path: The path on this server, starting with a slash.
        """
        expires = int(self._clock() + self._seconds)
        path = quote(path)
        return f"{self._base_url}{path}?signature={self._mark(path, expires)}&expires={expires}"

    def is_valid(self, request: Request) -> bool:
        """Say whether a request carries a link's signature that has not run out.

        Args:
            request: A request for a signed path.
        """
        given, expires = (request.query_params.get(name, "") for name in ("signature", "expires"))
        if not expires.isdecimal() or int(expires) <= self._clock():
            return False
        return hmac.compare_digest(given, self._mark(quote(request.url.path), int(expires)))

    def _mark(self, path: str, expires: int) -> str:
        return hmac.new(self._secret, f"{path}:{expires}".encode(), hashlib.sha256).hexdigest()


def serve(request: Request, file: StoredFile) -> Response:
    """Answer a GET or HEAD for a file, whole or the one range that was asked.

    Args:
        request: The request, with its Range and If-Range.
        file: What to serve.
    """
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.sha256}"',
        "Last-Modified": formatdate(file.modified, usegmt=True),
        "Content-Type": file.media_type,
    }
    try:
        span = _range(request, file)
    except _OutOfRange:
        headers["Content-Range"] = f"bytes */{file.size}"
        return Response(status_code=416, headers=headers)
    start, end = (0, file.size - 1) if span is None else span
    headers["Content-Length"] = str(end - start + 1)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end}/{file.size}"
    body: Iterable[bytes] = ()
    if request.method != "HEAD":
        body = read_chunks(file.path, start, end - start + 1)
    return StreamingResponse(body, 200 if span is None else 206, headers)


def denied(reason: str) -> Response:
    """Answer 403, as storage hosts do for a link that ran out.

    Args:
        reason: One line for people.
    """
    return PlainTextResponse(reason, 403)


class _OutOfRange(Exception):
    """The range that was asked lies outside the file."""


def _range(request: Request, file: StoredFile) -> tuple[int, int] | None:
    wanted = request.headers.get("range", "")
    unit, _, spec = wanted.partition("=")
    # Several ranges in one request may be ignored (RFC 9110, 14.2), as most hosts do.
    if unit.strip().lower() != "bytes" or "," in spec or not _is_current(request, file):
        return None
    first, dash, last = (part.strip() for part in spec.partition("-"))
    if not dash or not (first + last).isdecimal():
        return None
    if not first:  # the last so many bytes
        start, end = max(file.size - int(last), 0), file.size - 1
    else:
        start, end = int(first), min(int(last or file.size), file.size - 1)
        if last and int(last) < start:
            return None
    if start > end:
        raise _OutOfRange
    return start, end


def _is_current(request: Request, file: StoredFile) -> bool:
    condition = request.headers.get("if-range")
    if condition is None:
        return True
    if condition.startswith(('"', "W/")):
        return condition == f'"{file.sha256}"'
    try:
        return parsedate_to_datetime(condition).timestamp() == int(file.modified)
    except (TypeError, ValueError):
        return False
