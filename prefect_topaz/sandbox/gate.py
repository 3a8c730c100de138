"""Stands before every endpoint: notes the request, and lets the faults that wait for it happen."""

import asyncio
import contextlib
import re

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from prefect_topaz.sandbox.backend import Backend
from prefect_topaz.sandbox.disk import WORKER_AGENT
from prefect_topaz.sandbox.effects import EFFECTS, Exchange
from prefect_topaz.sandbox.faults import Fault
from prefect_topaz.sandbox.ledger import RecordedRequest
from prefect_topaz.sandbox.refusals import provider_of

# Open connections by the client's address and port; the protocol in `server` keeps it.
Connections = dict[tuple[str, int], asyncio.Transport]

_OPERATIONS: tuple[tuple[str, str, str], ...] = (
    ("POST", r"/api/ai/queue|/v1/videos/generations", "submit"),
    ("POST", r"/api/ai/videos/generate", "generate"),
    ("POST", r"/v1/tasks/batch", "batch"),
    ("POST", r"/api/v1/files/upload/\w+", "upload"),
    ("PUT", r"/api/repos/[^/]+/[^/]+/file/.+", "upload"),
    ("DELETE", r"/api/repos/[^/]+/[^/]+/file/.+|/api/v1/files/[^/]+", "delete"),
    ("GET", r"/api/v1/files/quota", "quota"),
    ("GET", r"/api/ai/queue/[^/]+|/v1/tasks/[^/]+", "status"),
    ("GET", r"/api/ai/queue|/api/ai/generations(/[^/]+)?|/v1/tasks", "list"),
    ("GET", r"/api/ai/models(/.+)?|/v1/models|/v1/catalog/pricing-rules", "models"),
    ("GET", r"/v1/credits", "credits"),
    ("GET", r"/results/.+|/api/repos/[^/]+/[^/]+/files/.+", "result"),
    ("GET", r"/media/.+|/files/.+|/api/repos/[^/]+/[^/]+/file/.+", "media"),
    ("DELETE", r"/api/ai/queue/[^/]+", "cancel"),
)


class Gate:
    """An ASGI application around another one.

    Args:
        app: The endpoints.
        backend: Whose ledger and faults it serves.
        connections: Open connections, so that one can be cut.
    """

    def __init__(self, app: ASGIApp, backend: Backend, connections: Connections) -> None:
        self._app, self._backend, self._connections = app, backend, connections
        self._stopping: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, spoiled if that was asked for."""
        if scope["type"] != "http" or scope["path"].startswith("/_sandbox/"):
            await self._app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        self._record(scope, headers)
        fault = self._fault(scope, headers.get("host", ""))
        # A client that leaves while its body is still coming has asked for nothing.
        with contextlib.suppress(ClientDisconnect):
            if fault is None:
                await self._app(scope, receive, send)
                return
            transport = self._connections.get(scope["client"])
            exchange = Exchange(
                fault, scope, receive, send, self._app, self._backend, self._pause, transport
            )
            await EFFECTS[fault.kind](exchange)

    def wake(self) -> None:
        """End every delay; called on the server's loop when it stops."""
        self._event().set()

    def _record(self, scope: Scope, headers: dict[str, str]) -> None:
        if headers.get("user-agent") == WORKER_AGENT:
            return
        shown = {name: value for name, value in headers.items() if name != "authorization"}
        has_key = "authorization" in headers
        host = headers.get("host", "")
        request = RecordedRequest(scope["method"], scope["path"], shown, has_key, host)
        self._backend.ledger.record(request)

    def _fault(self, scope: Scope, host: str) -> Fault | None:
        path, method = scope["path"], scope["method"]
        operation = operation_of(method, path)
        if operation is None:
            return None
        return self._backend.faults.take(operation, provider_of(path), method, host)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event().wait(), seconds)

    def _event(self) -> asyncio.Event:
        self._stopping = self._stopping or asyncio.Event()
        return self._stopping


def operation_of(method: str, path: str) -> str | None:
    """Name what a request does, or None for what no fault can hit.

    Args:
        method: Its HTTP method; a HEAD counts as a GET.
        path: Its path.
    """
    method = "GET" if method == "HEAD" else method
    for wanted, pattern, operation in _OPERATIONS:
        if method == wanted and re.fullmatch(pattern, path):
            return operation
    return None
