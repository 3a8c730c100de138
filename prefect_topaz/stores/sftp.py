"""SFTP: sessions for many threads, renewed when dropped, and an exclusive create."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Final, TypeVar

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem
from fsspec.spec import AbstractBufferedFile

from prefect_topaz.stores.server import ServerStore

T = TypeVar("T")
_LIMITS: Final = dict.fromkeys(  # seconds
    ("timeout", "banner_timeout", "auth_timeout", "channel_timeout"), 30.0
)
_SILENCE: Final = 60.0  # seconds without a byte after which a server counts as gone
_KEEPALIVE: Final = 30  # seconds between signs of life, which firewalls want to see
_SESSIONS: Final = 8  # on one connection; OpenSSH allows ten unless told otherwise
_PIECE: Final = 256 * 1024  # bytes; paramiko puts longer ones together slowly


class SFTPStore(ServerStore, SFTPFileSystem):  # type: ignore[misc]  # fsspec publishes no types
    """fsspec's SFTP store, for many threads.

    paramiko's sessions lose answers when two threads use one, so each thread and each open file
    has a session of its own, on as few connections as the server allows.
    """

    protocol: ClassVar[tuple[str, ...]] = ("sftp", "ssh")

    def __init__(self, host: str, **options: Any) -> None:
        self._connections: list[_Connection] = []
        self._connecting = threading.Lock()
        self._mine = threading.local()
        super().__init__(host, **options)

    def _connect(self) -> None:
        """Connect when it is needed, which is not yet."""

    @property
    def ftp(self) -> Any:
        """This thread's session."""
        session = getattr(self._mine, "session", None)
        if session is None or not _is_alive(session):
            session = self._mine.session = self._new_session()
        return session

    def _new_session(self) -> Any:
        with self._connecting:
            self._connections = [one for one in self._connections if one.is_active()]
            for connection in self._connections:
                if (session := connection.session()) is not None:
                    return session
            connection = _Connection(self._login())
            self._connections.append(connection)
            return connection.session(is_first=True)

    def _login(self) -> Any:
        client = paramiko.SSHClient()
        client.load_system_host_keys()  # a known server that shows another key is refused
        policy = getattr(self, "host_key_policy", None) or paramiko.AutoAddPolicy()
        client.set_missing_host_key_policy(policy)
        try:
            client.connect(self.host, **{**_LIMITS, **self.ssh_kwargs})
        except paramiko.SSHException as error:
            client.close()
            raise _lost(error) from None
        except BaseException:
            client.close()
            raise
        client.get_transport().set_keepalive(_KEEPALIVE)
        return client

    def _asked(self, question: Callable[[Any], T]) -> T:
        """Ask the server, and again if the connection was gone.

        Raises:
            OSError: If it says no, or does not answer.
        """
        # A server that was started anew has dropped them all, and each may be met once.
        for _ in range(len(self._connections) + 1):
            session = self.ftp
            try:
                return question(session)
            except (OSError, EOFError, paramiko.SSHException) as error:
                if _is_answer(session, error):
                    raise
                session.get_channel().get_transport().close()
                lost = _lost(error)
        raise lost

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Say what is at a path."""
        path = self._strip_protocol(path)
        found = self._decode_stat(self._asked(lambda session: session.stat(path)))
        return {**found, "name": path}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder."""
        path = self._strip_protocol(path)
        listed = self._asked(lambda session: session.listdir_attr(path))
        found = [self._decode_stat(one, path or "/") for one in listed]
        return found if detail else sorted(one["name"] for one in found)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Read a file, or a part of it, in one go."""
        path = self._strip_protocol(path)

        def read(session: Any) -> bytes:
            with session.open(path, "rb") as file:
                first, last = slice(start, end).indices(file.stat().st_size)[:2]
                pieces = [(at, min(_PIECE, last - at)) for at in range(first, last, _PIECE)]
                # Asks for all pieces at once, where a plain read waits for each.
                return b"".join(file.readv(pieces))

        return self._asked(read)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write a small file whole, over another or, with `create`, only where there is none.

        Raises:
            FileExistsError: If it is to be created, and is there.
        """
        path = self._strip_protocol(path)
        parent = path.rpartition("/")[0]
        self.makedirs(parent or "/", exist_ok=True)
        self._asked(lambda session: self._place(session, parent, path, value, mode == "create"))

    def _place(self, session: Any, parent: str, path: str, value: bytes, exclusive: bool) -> None:
        temporary = f"{parent}/.{uuid.uuid4().hex}.part"
        try:
            with session.open(temporary, "wx") as file:
                file.write(value)
            if not exclusive:
                session.posix_rename(temporary, path)
                return
            try:
                # SFTP's own rename replaces nothing: OpenSSH makes a link and drops the old name.
                session.rename(temporary, path)
            except OSError:
                if self.exists(path):
                    raise FileExistsError(path) from None
                raise
        except BaseException:
            with suppress(Exception):
                session.remove(temporary)
            raise

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **named: Any
    ) -> Any:
        path = self._strip_protocol(path)
        if mode == "rb":
            return _Reader(self, path, mode, block_size or "default", **named)
        # Its own session: another thread may go on with it while this one asks something else.
        # The file holds the session, which ends with it.
        file = self._new_session().open(path, mode, block_size or -1)
        file.set_pipelined(True)
        return file

    def _make_folder(self, path: str) -> None:
        self.ftp.mkdir(path)


class _Reader(AbstractBufferedFile):  # type: ignore[misc]  # as above
    def _fetch_range(self, start: int, end: int) -> bytes:
        found: bytes = self.fs.cat_file(self.path, start, end)
        return found


class _Connection:
    """A connection and the sessions on it, which end when nobody holds them any more."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sessions: weakref.WeakSet[Any] = weakref.WeakSet()

    def is_active(self) -> bool:
        return bool(self._client.get_transport().is_active())

    def session(self, *, is_first: bool = False) -> Any:
        """Open a session; None if the server allows no more, or the connection breaks."""
        if len(self._sessions) >= _SESSIONS:
            return None
        try:
            session = self._client.open_sftp()
        except (EOFError, paramiko.SSHException) as error:
            if is_first:
                raise _lost(error) from None
            return None
        session.get_channel().settimeout(_SILENCE)
        self._sessions.add(session)
        return session


def _is_answer(session: Any, error: Exception) -> bool:
    """Tell what the server said from what became of the connection."""
    return isinstance(error, OSError) and not isinstance(error, TimeoutError) and _is_alive(session)


def _lost(error: BaseException) -> ConnectionError:
    return ConnectionError(f"{type(error).__name__}: {error}")


def _is_alive(session: Any) -> bool:
    channel = session.get_channel()
    return not channel.closed and channel.get_transport().is_active()
