"""What each kind of fault does to one request."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prefect_topaz.sandbox.backend import Backend
from prefect_topaz.sandbox.faults import Fault
from prefect_topaz.sandbox.refusals import refusal, server_error


@dataclass(frozen=True)
class Exchange:
    """One request, the fault it shall meet, and what can be done to it."""

    fault: Fault
    scope: Scope
    receive: Receive
    send: Send
    app: ASGIApp
    backend: Backend
    pause: Callable[[float], Awaitable[None]]
    transport: asyncio.Transport | None

    @property
    def path(self) -> str:
        """The path of the request."""
        return str(self.scope["path"])

    def detail(self, name: str) -> Any:
        """Give a detail of the fault."""
        return self.fault.details[name]

    async def proceed(self) -> None:
        """Let the endpoint answer."""
        await self.app(self.scope, self.receive, self.send)

    async def answer(self, response: Response) -> None:
        """Answer in the endpoint's place."""
        await response(self.scope, self.receive, self.send)

    async def swallow(self) -> tuple[int, bytes]:
        """Let the endpoint act, and keep its answer (status, body) from the client."""
        status, body = 500, b""

        async def keep(message: Message) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")

        await self.app(self.scope, self.receive, keep)
        return status, body

    async def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection under the request; `reset` drops what is unread or unsent."""
        if self.transport is None:
            return
        if reset:
            plug = self.transport.get_extra_info("socket")
            # Lingering for 0 seconds turns the close into a reset (RST).
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
        # The server logs an error for a request that ends before its connection is gone.
        while (await self.receive())["type"] != "http.disconnect":
            pass


Effect = Callable[[Exchange], Awaitable[None]]


async def _refuse(exchange: Exchange) -> None:
    await exchange.hang_up(reset=True)


async def _delay(exchange: Exchange) -> None:
    if not exchange.detail("accepted"):
        await exchange.pause(exchange.detail("seconds"))
        await exchange.proceed()
        return

    async def late(message: Message) -> None:
        if message["type"] == "http.response.start":
            await exchange.pause(exchange.detail("seconds"))
        await exchange.send(message)

    await replace(exchange, send=late).proceed()


async def _too_many(exchange: Exchange) -> None:
    response = refusal(exchange.path, 429)
    wait = exchange.detail("retry_after")
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    await exchange.answer(response)


async def _server_error(exchange: Exchange) -> None:
    if exchange.detail("accepted"):
        await exchange.swallow()
    await exchange.answer(server_error(exchange.path, exchange.detail("status")))


async def _cut(exchange: Exchange) -> None:
    await exchange.swallow()
    await exchange.hang_up()


async def _garbage(exchange: Exchange) -> None:
    await exchange.swallow()
    await exchange.answer(PlainTextResponse("upstream says: <ok>"))


async def _empty(exchange: Exchange) -> None:
    error = {"message": exchange.detail("message")}
    await exchange.answer(JSONResponse({"generations": [], "error": error}))  # [OX1]


async def _refused(exchange: Exchange) -> None:
    details = (exchange.detail(name) for name in ("status", "code", "message"))
    await exchange.answer(refusal(exchange.path, *details))


async def _forget(exchange: Exchange) -> None:
    job_id = exchange.path.rpartition("/")[2]
    exchange.backend.jobs.forget(job_id, history=exchange.detail("history"))
    await exchange.proceed()


async def _unknown_status(exchange: Exchange) -> None:
    status, body = await exchange.swallow()
    answer = json.loads(body)
    # A word that nobody knows comes without a result.
    strange = {"status": exchange.detail("word")}
    for row in answer.get("data", [answer]):
        row.update(strange, **({"result_url": None} if "result_url" in row else {}))
        row.pop("results", None)
    await exchange.answer(JSONResponse(answer, status))


async def _truncate(exchange: Exchange) -> None:
    body = _Part(exchange, announce_all=True)
    await replace(exchange, send=body.send).proceed()
    if body.is_cut:
        await exchange.hang_up()


async def _short(exchange: Exchange) -> None:
    body = _Part(exchange, announce_all=False)
    await replace(exchange, scope=_without_range(exchange.scope), send=body.send).proceed()


async def _html(exchange: Exchange) -> None:
    await exchange.answer(HTMLResponse("<!doctype html><title>Just a moment...</title>"))


async def _expire(exchange: Exchange) -> None:
    await exchange.answer(PlainTextResponse("The link has expired", 403))


async def _gone(exchange: Exchange) -> None:
    await exchange.answer(PlainTextResponse("Gone", 410))


async def _redirect(exchange: Exchange) -> None:
    # Another host to any client, and the same server: its loopback under its other name.
    base = exchange.backend.base_url.replace("127.0.0.1", "localhost")
    raw_path = exchange.scope["raw_path"].decode()
    query = exchange.scope["query_string"].decode()
    target = f"{base}{raw_path}?{query}" if query else f"{base}{raw_path}"
    await exchange.answer(Response(status_code=302, headers={"Location": target}))


async def _no_range(exchange: Exchange) -> None:
    async def silent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if pair[0] != b"accept-ranges"]
            message = {**message, "headers": kept}
        await exchange.send(message)

    await replace(exchange, scope=_without_range(exchange.scope), send=silent).proceed()


EFFECTS: Mapping[str, Effect] = {
    "refuse": _refuse,
    "delay": _delay,
    "429": _too_many,
    "5xx": _server_error,
    "cut": _cut,
    "garbage": _garbage,
    "empty": _empty,
    "refused": _refused,
    "forget": _forget,
    "unknown_status": _unknown_status,
    "truncate": _truncate,
    "short": _short,
    "html": _html,
    "expire": _expire,
    "gone": _gone,
    "redirect": _redirect,
    "no_range": _no_range,
}


class _Part:
    """Passes on the first part of a body, announced at its full or at its real length."""

    def __init__(self, exchange: Exchange, *, announce_all: bool) -> None:
        self._exchange, self._announce_all = exchange, announce_all
        self._left = 0
        self.is_cut = False

    async def send(self, message: Message) -> None:
        """Take the endpoint's next message."""
        if message["type"] == "http.response.start":
            await self._exchange.send(self._start(message))
            return
        if self.is_cut:
            return
        chunk = message.get("body", b"")[: self._left]
        self._left -= len(chunk)
        self.is_cut = self._left == 0
        is_last = self.is_cut and not self._announce_all
        await self._exchange.send(
            {"type": "http.response.body", "body": chunk, "more_body": not is_last}
        )

    def _start(self, message: Message) -> Message:
        headers = dict(message["headers"])
        whole = int(headers.get(b"content-length", b"0"))
        self._left = int(whole * self._exchange.detail("fraction"))
        if not self._announce_all:
            headers[b"content-length"] = str(self._left).encode()
        return {**message, "headers": list(headers.items())}


def _without_range(scope: Scope) -> Scope:
    kept = [pair for pair in scope["headers"] if pair[0] not in {b"range", b"if-range"}]
    return {**scope, "headers": kept}
