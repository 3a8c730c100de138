"""Files that the sandbox holds: hosted sources, uploads and results, and fetching of inputs."""

import hashlib
import shutil
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

CHUNK = 1 << 18
# How the sandbox's own fetches of inputs are told from a client's requests.
WORKER_AGENT = "topaz-sandbox-worker"
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class NotFetched(Exception):
    """An input could not be read from its URL."""


@dataclass(frozen=True)
class StoredFile:
    """A file that can be served.

    Attributes:
        path: Where it is.
        sha256: Its content hash, which makes its strong ETag.
        size: Its length in bytes.
        modified: When it came here, in Unix seconds.
        media_type: Its MIME type.
    """

    path: Path
    sha256: str
    size: int
    modified: float
    media_type: str = "video/mp4"


def write_chunks(chunks: Iterable[bytes], target: Path) -> tuple[str, int]:
    """Write chunks to a file, and return its SHA-256 and its size in bytes.

    Args:
        chunks: The content.
        target: The file to write.
    """
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return digest.hexdigest(), size


def read_chunks(path: Path, start: int = 0, length: int | None = None) -> Iterable[bytes]:
    """Read a part of a file in chunks.

    Args:
        path: The file.
        start: First byte.
        length: How many bytes, None for all that follow.
    """
    with path.open("rb") as file:
        file.seek(start)
        left = path.stat().st_size - start if length is None else length
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links.

    Args:
        source: The file.
        target: The new name, which must not exist.
    """
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


class Fetcher:
    """Reads inputs over HTTP into files; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[bool, httpx.Client] = {}

    def fetch(self, url: str, target: Path, stopped: Callable[[], bool] = lambda: False) -> str:
        """Read a URL into a file, and return the SHA-256 of what came.

        Args:
            url: An http or https URL.
            target: The file to write.
            stopped: Asked before each chunk whether to give up.

        Raises:
            NotFetched: If it cannot be read to its end.
        """
        try:
            with self._client(url).stream("GET", url) as reply:
                reply.raise_for_status()
                return write_chunks(_until(reply.iter_bytes(CHUNK), stopped), target)[0]
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NotFetched(f"could not read the input: {error}") from error

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, url: str) -> httpx.Client:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise NotFetched("the input is no http or https URL")
        # A proxy from the environment cannot see this machine's loopback, and plain HTTP needs no
        # certificates, which take 20 ms to load: most of what a small job costs.
        near = parts.scheme == "http" and parts.hostname in _LOOPBACK
        with self._lock:
            if near not in self._clients:
                self._clients[near] = httpx.Client(
                    trust_env=not near,
                    verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if near else True,
                    follow_redirects=True,
                    timeout=30,
                    headers={"User-Agent": WORKER_AGENT},
                )
            return self._clients[near]


def _until(chunks: Iterable[bytes], stopped: Callable[[], bool]) -> Iterable[bytes]:
    for chunk in chunks:
        if stopped():
            raise NotFetched("the work was stopped")
        yield chunk
