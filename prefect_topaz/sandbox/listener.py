"""The HTTP server itself: uvicorn in a thread of its own, on loopback."""

import asyncio
import contextlib
import itertools
import socket
import threading

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from prefect_topaz.sandbox.app import make_app
from prefect_topaz.sandbox.backend import Backend
from prefect_topaz.sandbox.gate import Connections, Gate

HOST = "127.0.0.1"
_PATIENCE = 1.0  # seconds that requests get to end when the sandbox stops


class Listener(uvicorn.Server):
    """Uvicorn in a thread, with connections that can be cut.

    Args:
        backend: What it serves.
        plug: A socket that listens.
    """

    def __init__(self, backend: Backend, plug: socket.socket) -> None:
        self._plug, self._connections = plug, Connections()
        self._gate = Gate(make_app(backend), backend, self._connections)
        config = uvicorn.Config(
            self._gate,
            http=_protocol(self._connections),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
        )
        super().__init__(config)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="topaz-sandbox", daemon=True)

    def start(self) -> None:
        """Serve in the thread; returns when it listens."""
        self._thread.start()
        self._ready.wait()

    def wake(self) -> None:
        """End every delay."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._gate.wake)

    def stop(self) -> None:
        """End every request and the thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        """Tick as uvicorn does, but end at once: tests start and stop many sandboxes."""
        for tick in itertools.count():
            await self.on_tick(tick)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 0.1)
                return

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests end for a few seconds, then cut what is left."""
        for server in self.servers:
            server.close()
        for plug in sockets or []:
            plug.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        patience = asyncio.get_running_loop().time() + _PATIENCE
        while self.server_state.connections or self.server_state.tasks:
            await asyncio.sleep(0.005)
            if asyncio.get_running_loop().time() > patience:
                for transport in list(self._connections.values()):
                    transport.abort()

    def _run(self) -> None:
        asyncio.run(self.serve(sockets=[self._plug]))


def listen(port: int) -> socket.socket:
    """Open a socket that listens on loopback.

    Args:
        port: The port, 0 for any free one.

    Raises:
        OSError: If the port is taken.
    """
    # Asyncio turns Nagle's delay (40 ms an answer) off only for sockets that name their protocol.
    plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plug.bind((HOST, port))
        plug.listen(128)
    except OSError:
        plug.close()
        raise
    return plug


def _protocol(connections: Connections) -> type[H11Protocol]:
    class Cuttable(H11Protocol):
        """HTTP/1.1 whose connections can be found by their client's address."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
            super().connection_made(transport)
            if self.client is not None:
                connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                connections.pop(self.client, None)
            super().connection_lost(exc)

    return Cuttable
