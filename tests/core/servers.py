"""Real HTTP servers on loopback whose every answer a test decides, down to the connection."""

import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self


@dataclass
class Visit:
    """One request, and what can be answered to it.

    Attributes:
        number: Counts the requests of the server, from 1.
        connection: Counts its connections, from 1.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    number: int
    connection: int
    handler: BaseHTTPRequestHandler = field(repr=False)

    def answer(
        self,
        status: int = 200,
        body: bytes = b"",
        *,
        announced: int | None = None,
        length: bool = True,
        **headers: str,
    ) -> None:
        """Answer; `announced` more bytes than there are cuts the answer."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        if length:
            self.handler.send_header("Content-Length", str(announced or len(body)))
        self.handler.end_headers()
        if self.method != "HEAD":
            self.handler.wfile.write(body)
        self.handler.close_connection = self.handler.close_connection or not length
        if announced not in {None, len(body)} and self.method != "HEAD":
            self.hang_up()

    def answer_json(self, value: Any, status: int = 200, **headers: str) -> None:
        """Answer with JSON."""
        body = json.dumps(value).encode()
        self.answer(status, body, content_type="application/json", **headers)

    def hang_up(self) -> None:
        """Close the connection after what was written."""
        self.handler.close_connection = True

    def reset(self) -> None:
        """Drop the connection at once, with all that is unread or unsent."""
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.hang_up()

    def wait(self) -> None:
        """Say nothing until the server stops."""
        self.handler.server.stopping.wait(30)
        self.hang_up()


Serve = Callable[[Visit], None]


class Server:
    """A server in threads of its own; use it as a context manager.

    Args:
        serve: Answers each request.
        mute: Whether connections are closed before anything is read from them.
        port: Where to listen, 0 for any free port.
    """

    def __init__(self, serve: Serve | None = None, *, mute: bool = False, port: int = 0) -> None:
        self.serve, self.mute, self.port = serve or (lambda visit: visit.answer()), mute, port
        self.visits: list[Visit] = []
        self.connections = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._http = _Http(("127.0.0.1", self.port), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The origin."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def other_url(self) -> str:
        """The same server by its other name: another origin to any client."""
        return self.url.replace("127.0.0.1", "localhost")

    def count(self, method: str) -> int:
        """Count the requests by method."""
        return sum(visit.method == method for visit in self.visits)

    def connected(self) -> int:
        """Count a new connection."""
        with self._lock:
            self.connections += 1
            return self.connections

    def visited(self, visit: Visit) -> None:
        """Note a request and let it be answered."""
        with self._lock:
            visit.number = len(self.visits) + 1
            self.visits.append(visit)
        self.serve(visit)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *options: Any) -> None:
        self.stopping = threading.Event()
        super().__init__(*options)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what these tests are about."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.number = server.connected()
            super().setup()

        def handle(self) -> None:
            if not server.mute:
                super().handle()

        def visit(self) -> None:
            names = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(names.get("content-length", 0)))
            server.visited(Visit(self.command, self.path, names, body, 0, self.number, self))

        do_GET = do_HEAD = do_POST = do_DELETE = visit  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            """Keep standard error clean."""

    return Handler


def ranged(data: bytes, visit: Visit, *, etag: str | None = '"1"', cut: int | None = None) -> None:
    """Serve bytes as a good file server does, and cut the answer after `cut` bytes of it."""
    tags = {} if etag is None else {"ETag": etag}
    asked = visit.headers.get("range")
    if asked and visit.headers.get("if-range", etag) == etag:
        first, last = asked.removeprefix("bytes=").split("-")
        start, end = int(first), int(last or len(data) - 1)
        if start >= len(data):
            visit.answer(416)
            return
        part = data[start : end + 1]
        told = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        status, extra = 206, {"Content_Range": told}
    else:
        part, status, extra = data, 200, {}
    sent = part if cut is None else part[:cut]
    visit.answer(status, sent, announced=len(part), content_type="video/mp4", **tags, **extra)
