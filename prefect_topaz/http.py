"""Connections: one pair of HTTP clients an event loop, and no log line with a signature."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mimetypes
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from pathlib import Path
from ssl import SSLContext, SSLError
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import httpx

from prefect_topaz.redaction import redact
from prefect_topaz.wire import Call, Reply, Upload

# EvoLink's media host refuses clients that do not name themselves [E8].
USER_AGENT = f"prefect-topaz/{version('prefect-topaz')}"
MAX_BODY = 4 * 2**20  # bytes of an answer that is held in memory
PIECE = 2**20  # bytes read at a time
# Waiting for a free connection is no failure: a thousand jobs share these clients.
_TIMEOUT = httpx.Timeout(60.0, connect=20.0, pool=None)
# A proxy that the environment names cannot see this machine's loopback, where a sandbox listens.
_LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")


@dataclass
class _Clients:
    """The clients of one loop, alive while somebody uses them. Private to this module.

    A paid request takes a fresh connection: on a kept one, a server that closes it at that very
    moment would leave an outcome that nobody knows.
    """

    kept: httpx.AsyncClient
    fresh: httpx.AsyncClient
    users: int = 0


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()


@lru_cache(maxsize=1)
def tls() -> SSLContext:
    """Give the context of all secure connections, with the certificates that httpx trusts."""
    # Reading the certificates takes tens of milliseconds: once a process is enough.
    return httpx.create_ssl_context()


def _client(limits: httpx.Limits) -> httpx.AsyncClient:
    # Two accounts may share a client: no server's cookie may tie one to the other.
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    direct: dict[str, None] = dict.fromkeys(_LOOPBACK)
    return httpx.AsyncClient(
        timeout=_TIMEOUT, limits=limits, verify=tls(), cookies=no_cookies, mounts=direct
    )


@contextlib.asynccontextmanager
async def connections() -> AsyncIterator[None]:
    """Keep this loop's connections open: nested uses share them, the last one closes them."""
    loop = asyncio.get_running_loop()
    clients = _clients.get(loop)
    if clients is None:
        keep = httpx.Limits(max_connections=64, max_keepalive_connections=32)
        drop = httpx.Limits(max_connections=16, max_keepalive_connections=0)
        clients = _clients[loop] = _Clients(_client(keep), _client(drop))
    clients.users += 1
    try:
        yield
    finally:
        clients.users -= 1
        if not clients.users:
            del _clients[loop]
            # A passed time-out cancels every await anew: without the shield nothing would be closed.
            with anyio.CancelScope(shield=True):
                await asyncio.gather(clients.kept.aclose(), clients.fresh.aclose())


async def exchange(call: Call, headers: dict[str, str]) -> Reply:
    """Send a call once and read its answer.

    Raises:
        httpx.RequestError: If there is no whole answer.
    """
    timeout = _TIMEOUT
    if call.read_seconds is not None:
        timeout = httpx.Timeout(call.read_seconds, connect=20.0, pool=None)
    body: dict[str, Any] = {"json": call.json}
    if call.form is not None:
        body = {"files": {name: (None, text) for name, text in call.form.items()}}
    async with contextlib.AsyncExitStack() as stack:
        if call.upload is not None:
            body, length = await _form(call.upload, stack)
            headers = {**headers, **length}
        options = {"headers": headers, "timeout": timeout, **body}
        async with opened(call.method, call.url, fresh=not call.repeatable, **options) as answer:
            return await _read(answer, spool=call.spool)


@contextlib.asynccontextmanager
async def opened(
    method: str, url: str, *, fresh: bool = False, **options: Any
) -> AsyncIterator[httpx.Response]:
    """Open one request as a stream; redirects are answers and are not followed.

    Args:
        method: The HTTP method.
        url: The whole URL.
        fresh: Whether to use a connection that nothing else has used.
        options: As `httpx.AsyncClient.build_request` takes them.
    """
    async with connections():
        clients = _clients[asyncio.get_running_loop()]
        client = clients.fresh if fresh else clients.kept
        with quiet():
            request = client.build_request(method, url, **options)
            request.headers["User-Agent"] = USER_AGENT
            try:
                response = await client.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
            except (httpx.InvalidURL, SSLError) as error:
                # httpx hands on as they are: a `Location` that is none, a broken TLS record.
                raise httpx.ReadError(f"unreadable answer: {error}", request=request) from None


async def _form(
    upload: Upload, stack: contextlib.AsyncExitStack
) -> tuple[dict[str, Any], dict[str, str]]:
    """Make a form whose file is read as it leaves; httpx reads what cannot seek whole.

    Returns:
        The request's options, and its headers.
    """
    kind = mimetypes.guess_type(upload.name)[0] or "application/octet-stream"
    empty = {upload.part: (upload.name, b"", kind)}
    shell = httpx.Request("POST", "http://form", data=dict(upload.fields), files=empty)
    around = shell.read()
    # The file is the last part; what follows its content is the line end before the last boundary.
    cut = around.rindex(b"\r\n--")
    file = await asyncio.to_thread(stack.enter_context, upload.opened())
    pieces = _pieces(upload, file, around[:cut], around[cut:])
    await stack.enter_async_context(contextlib.aclosing(pieces))
    length = str(len(around) + upload.size)
    headers = {"Content-Type": shell.headers["Content-Type"], "Content-Length": length}
    return {"content": pieces}, headers


async def _pieces(
    upload: Upload, file: Any, head: bytes, tail: bytes
) -> AsyncGenerator[bytes, None]:
    yield head
    sent = 0
    while piece := await asyncio.to_thread(file.read, PIECE):
        yield piece
        sent += len(piece)
        upload.progress(sent)
    yield tail


async def _read(response: httpx.Response, *, spool: bool) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if spool:
        body, path = await _spool(response)
        return Reply(response.status_code, headers, body, path)
    held = bytearray()
    async for piece in response.aiter_bytes(PIECE):
        held += piece
        if len(held) > MAX_BODY:
            raise httpx.DecodingError("the answer is too large", request=response.request)
    return Reply(response.status_code, headers, bytes(held))


async def _spool(response: httpx.Response) -> tuple[bytes, Path | None]:
    """Read an answer of any size: into memory where it is small, else into a file."""
    handle, name = tempfile.mkstemp(prefix="topaz-", suffix=".json")
    path = Path(name)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123  # takes over mkstemp's descriptor
            async for piece in response.aiter_bytes(PIECE):
                file.write(piece)
    except BaseException:
        path.unlink()
        raise
    if path.stat().st_size > MAX_BODY:
        return b"", path
    body = path.read_bytes()
    path.unlink()
    return body, None


_ours: ContextVar[bool] = ContextVar("prefect_topaz_request", default=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep signatures out of the HTTP libraries' own log lines while our requests run."""
    before = _ours.get()
    _ours.set(True)
    try:
        yield
    finally:
        # Not by the token: a file may be opened in a thread and closed by the loop.
        _ours.set(before)


def _redact_record(record: logging.LogRecord) -> bool:
    """Redact what these libraries log of our requests and links, and of nobody else's."""
    if _ours.get():
        if record.name == _SIGNER:
            return False
        # What httpcore returns are headers: a `Location` without a host, a cookie.
        text = record.getMessage().partition(" return_value=")[0]
        if record.exc_info:
            text = f"{text} {record.exc_info[1]!r}"
        record.msg, record.args, record.exc_info = redact(text), (), None
    return True


_SIGNER = "botocore.auth"  # tells how it makes a signature, and which
_TALKATIVE = (
    _SIGNER,
    *("httpx", "httpcore.http11", "httpcore.http2", "httpcore.connection"),
    *("fsspec", "fsspec.http"),
)
for _name in _TALKATIVE:
    logging.getLogger(_name).addFilter(_redact_record)
