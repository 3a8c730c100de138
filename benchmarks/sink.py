"""A local S3 server that counts the bytes it is sent and keeps none of them.

moto keeps every object, so that its own work and memory would be measured too. Prints its port, and
ends when its input is closed.
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

_PIECE = 2**20


class Handler(BaseHTTPRequestHandler):
    """Speaks as much of S3 as an upload takes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    sizes: ClassVar[dict[str, int]] = {}  # bytes of each object that is, or is being, written
    lock = threading.Lock()

    def do_PUT(self) -> None:
        """Take an object, or a part of one."""
        path = urlsplit(self.path)
        sent = self._drain()
        part = "partNumber" in parse_qs(path.query)
        with self.lock:
            self.sizes[path.path] = sent + (self.sizes.get(path.path, 0) if part else 0)
        self._answer(ETag='"1"')

    def do_POST(self) -> None:
        """Begin an upload in parts, or end it."""
        path = urlsplit(self.path)
        self._drain()
        if path.query.startswith("uploads"):
            self.sizes[path.path] = 0
            self._answer(_xml("InitiateMultipartUploadResult", UploadId="1"))
        else:
            self._answer(_xml("CompleteMultipartUploadResult", ETag="1"))

    def do_DELETE(self) -> None:
        """Forget an object."""
        self.sizes.pop(urlsplit(self.path).path, None)
        self._answer(status=204)

    def do_GET(self) -> None:
        """Show an empty folder."""
        self._answer(_xml("ListBucketResult", KeyCount="0", IsTruncated="false"))

    def do_HEAD(self) -> None:
        """Tell an object's size."""
        size = self.sizes.get(urlsplit(self.path).path)
        when = "Thu, 01 Jan 2026 00:00:00 GMT"
        if size is None:
            self._answer(status=404)
        else:
            self._answer(length=size, ETag='"1"', Last_Modified=when)

    def _drain(self) -> int:
        left = int(self.headers.get("content-length", 0))
        memory, size = memoryview(bytearray(_PIECE)), left
        while left:
            left -= self.rfile.readinto(memory[: min(left, _PIECE)])
        # A body with a checksum behind it tells its own length.
        return int(self.headers.get("x-amz-decoded-content-length", size))

    def _answer(
        self, body: bytes = b"", status: int = 200, length: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""


def _xml(name: str, **fields: str) -> bytes:
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
    return f"<{name}>{inside}</{name}>".encode()


def main() -> None:
    """Serve until the input is closed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
