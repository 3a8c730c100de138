"""FTP: a connection for each thread, renewed when dropped. It has no exclusive create."""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ftplib import Error, error_perm
from pathlib import Path
from typing import Any, ClassVar, Final

from fsspec.implementations.ftp import FTPFile, FTPFileSystem

from prefect_topaz.stores.server import ServerStore

_BLOCK: Final = 8 * 1024 * 1024  # bytes of one transfer: an open file begins a new one for each
_PIECE: Final = 1024 * 1024


class FTPStore(ServerStore, FTPFileSystem):  # type: ignore[misc]  # fsspec publishes no types
    """fsspec's FTP store, for many threads: on a connection FTP does one thing at a time."""

    protocol: ClassVar[tuple[str, ...]] = ("ftp",)

    def __init__(self, host: str, **options: Any) -> None:
        self._mine = threading.local()
        super().__init__(host, **{"block_size": _BLOCK, **options})

    def __del__(self) -> None:
        """Leave the connections to their threads."""

    def _connect(self) -> None:
        """Connect anew when it is needed, which is not yet."""
        self._mine.session = None

    @property
    def ftp(self) -> Any:
        """This thread's connection."""
        session = self._mine.__dict__.get("session")
        if session is None or not _is_alive(session):
            try:
                super()._connect()
                if self.tls is True:
                    self._mine.session.prot_p()
            except BaseException:
                self._connect()
                raise
            session = self._mine.session
            weakref.finalize(session, _close, session.file, session.sock)
        return session

    @ftp.setter
    def ftp(self, session: Any) -> None:
        self._mine.session = session

    @contextmanager
    def _transfer(self) -> Iterator[Any]:
        try:
            yield self.ftp
        except BaseException:
            # Its answer may still come, and would be taken for that to the next question.
            self._connect()
            raise

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder, by whole paths as other stores do."""
        found = super().ls(path, detail=True)
        return found if detail else sorted(one["name"] for one in found)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Read a file, or a part of it."""
        path = self._strip_protocol(path)
        if (start or 0) < 0 or (end or 0) < 0:
            start, end = slice(start, end).indices(self.size(path))[:2]
        try:
            with self._transfer() as session:
                return _received(session, path, start or 0, end)
        except error_perm as error:
            raise self._explained(path, error) from None

    def _explained(self, path: str, error: Exception) -> OSError:
        """Tell a file that is missing from one that is refused: FTP has one answer for both."""
        self.invalidate_cache()
        return PermissionError(f"{path}: {error}") if self.exists(path) else FileNotFoundError(path)

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        """Send a local file in one transfer."""
        path = self._strip_protocol(rpath)
        self.makedirs(self._parent(path), exist_ok=True)
        with Path(lpath).open("rb") as file:
            self.send(path, file)

    def send(self, path: str, file: Any, offset: int = 0) -> None:
        """Send what is in an open file, to an offset in bytes of the one at a path."""
        with self._transfer() as session:
            session.storbinary(f"STOR {path}", file, _PIECE, rest=offset or None)
        self.invalidate_cache()

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **named: Any
    ) -> Any:
        size = block_size or self.blocksize
        return _File(self, self._strip_protocol(path), mode=mode, block_size=size, **named)

    def _rm(self, path: str) -> None:
        try:
            super()._rm(path)
        except error_perm as error:
            raise self._explained(path, error) from None

    def _make_folder(self, path: str) -> None:
        self.ftp.mkd(path)
        self.invalidate_cache()


class _File(FTPFile):  # type: ignore[misc]  # as above
    def _fetch_range(self, start: int, end: int) -> bytes:
        found: bytes = self.fs.cat_file(self.path, start, end)
        return found

    def _upload_chunk(self, final: bool = False) -> bool:  # noqa: ARG002  # fsspec's signature
        self.buffer.seek(0)
        self.fs.send(self.path, self.buffer, self.offset)
        return True


def _received(session: Any, path: str, start: int, end: int | None) -> bytes:
    wanted = None if end is None else max(end - start, 0)
    found = bytearray()
    session.voidcmd("TYPE I")
    with session.transfercmd(f"RETR {path}", rest=start or None) as data:
        while wanted is None or len(found) < wanted:
            piece = data.recv(_PIECE if wanted is None else min(_PIECE, wanted - len(found)))
            if not piece:
                break
            found += piece
    if wanted is None:
        session.voidresp()  # a transfer that broke off looks like the end of the file until here
    else:
        with suppress(Error):  # nobody wanted the rest
            session.voidresp()
    return bytes(found)


def _close(*ends: Any) -> None:
    for end in ends:
        end.close()


def _is_alive(session: Any) -> bool:
    """Tell whether a connection is open, and whether nothing unasked has come on it."""
    sock = session.sock
    if sock is None:  # it is just being made
        return True
    patience = sock.gettimeout()
    sock.settimeout(0)
    try:
        # Below TLS there are messages of its own, which say nothing.
        waiting = socket.socket.recv(sock, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        sock.settimeout(patience)
    return bool(waiting) and waiting in b"\x14\x15\x16\x17"
