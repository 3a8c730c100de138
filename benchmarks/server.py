"""A local file server for the benchmarks: ranges, sendfile, and a limit on each connection.

Prints its port, and ends when its input is closed. Run it in a process of its own:

    python benchmarks/server.py FILE [--rate 20M]
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from common import parse_size

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE = 2**20
_TICKS = 20  # times a second that a limited connection sends


class Handler(BaseHTTPRequestHandler):
    """Serves one file: at `/b64` inside a JSON answer, anywhere else as it is."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    file: Path
    rate: int | None = None  # bytes a second and connection

    def do_GET(self) -> None:  # http.server's name
        """Answer a request."""
        with self.file.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if self.path.startswith("/b64"):
                self._send_base64(file.fileno(), size)
                return
            start, stop = self._asked(size)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", f'"{size:x}"')
            self.end_headers()
            self.wfile.flush()
            try:
                self._send(file.fileno(), start, stop)
            except OSError:  # the client has what it wants
                self.close_connection = True

    def _asked(self, size: int) -> tuple[int, int]:
        found = _RANGE.fullmatch(self.headers.get("range", ""))
        if found is None:
            self.send_response(200)
            return 0, size
        start = int(found[1])
        stop = min(int(found[2] or size - 1) + 1, size)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        return start, stop

    def _send(self, file: int, start: int, stop: int) -> None:
        step = _PIECE if self.rate is None else max(self.rate // _TICKS, 1)
        due = time.monotonic()
        while start < stop:
            start += os.sendfile(self.connection.fileno(), file, start, min(step, stop - start))
            if self.rate is not None:
                due += step / self.rate
                time.sleep(max(due - time.monotonic(), 0.0))

    def _send_base64(self, file: int, size: int) -> None:
        before, after = b'{"videos": [{"b64_json": "', b'"}]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        length = (size + 2) // 3 * 4
        self.send_header("Content-Length", str(len(before) + length + len(after)))
        self.end_headers()
        self.wfile.write(before)
        step = _PIECE * 3
        for start in range(0, size, step):
            self.wfile.write(base64.b64encode(os.pread(file, min(step, size - start), start)))
        self.wfile.write(after)

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""


class Server(ThreadingHTTPServer):
    """Serves each connection in a thread."""

    daemon_threads = True
    request_queue_size = 64

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection whose buffer is no faster than its limit."""
        connection, address = super().get_request()
        if Handler.rate is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**18)
        return connection, address


def main() -> None:
    """Serve until the input is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rate", type=parse_size, help="bytes a second and connection")
    options = parser.parse_args()
    Handler.file, Handler.rate = options.file, options.rate
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
