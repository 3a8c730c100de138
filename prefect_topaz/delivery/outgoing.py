"""A video that goes to its store while it still arrives, and is read there once it is whole."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect_topaz.delivery.publishing import publish, remove, size_of
from prefect_topaz.delivery.writing import Write, open_write
from prefect_topaz.errors import DeliveryFailed
from prefect_topaz.http import PIECE
from prefect_topaz.media import NotAVideo, probe
from prefect_topaz.models import MediaFacts
from prefect_topaz.places import Folder, local_path, url_of
from prefect_topaz.transport import describe


class Outgoing:
    """A video on its way to its name while it still arrives. Only `commit` raises.

    It is fed by one thread and ended by another. A store that takes whole files only, and one
    that failed on the way, gets the file when it is committed.

    Args:
        folder: Where it goes.
        name: Its name.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        self._write: Write | None = None
        self._is_over = False
        self._lock = threading.Lock()

    def begin(self, size: int | None) -> None:
        """Start from the first byte; what was fed before is void."""
        with self._lock:
            self._drop()
            if not self._is_over and local_path(self._folder.fs, self._folder.path) is None:
                with suppress(Exception):  # `commit` tries again, and tells
                    self._write = open_write(self._folder, self._name, size)

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes."""
        with self._lock:
            try:
                if self._write is not None:
                    self._write.write(piece)
            except Exception:  # noqa: BLE001  # as above
                self._drop()

    def commit(self, file: Path) -> str:
        """Show the file under its name.

        Args:
            file: The local copy, which was verified.

        Returns:
            The URL where it is now.

        Raises:
            DeliveryFailed: If it cannot be written. The job stays paid and can be stored again.
        """
        with self._lock:
            if self._write is not None:
                try:
                    self._write.commit(file.stat().st_size)
                except Exception:  # noqa: BLE001  # the file itself is here, and is sent once more
                    self._drop()
                else:
                    self._write = None
                    return url_of(self._folder.fs, self._folder.file(self._name))
        return publish(file, self._folder, self._name)

    def discard(self) -> None:
        """Leave nothing of what was not committed, and take nothing any more."""
        with self._lock:
            self._is_over = True
            self._drop()

    def _drop(self) -> None:
        write, self._write = self._write, None
        with suppress(Exception):
            if write is not None:
                write.discard()


def check_delivered(folder: Folder, name: str, sent: Path) -> None:
    """Read what was delivered: its size, and its headers as a player would.

    Args:
        folder: Where it is.
        name: Its name.
        sent: The local copy, which was verified; it is sent once more if the store holds another.

    Raises:
        DeliveryFailed: If it still is not what was sent, or cannot be read back. Its receipt is
            removed then, so that nothing takes it for whole.
    """
    url = url_of(folder.fs, folder.file(name))
    try:
        if _is_same(folder, name, sent):
            return
        publish(sent, folder, name)
        if _is_same(folder, name, sent):
            return
        reason = "it is not what was sent, twice"
    except DeliveryFailed:
        raise
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        reason = describe(error)
    with suppress(Exception):
        remove(folder, f"{name}.json")
    raise DeliveryFailed(
        f"{url} was written and cannot be read back ({reason}): look after the store and run again"
        " with overwrite=True, which buys nothing"
    )


def _is_same(folder: Folder, name: str, sent: Path) -> bool:
    if size_of(folder, name) != sent.stat().st_size:
        return False
    with folder.fs.open(folder.file(name), "rb", block_size=PIECE) as file:
        return _facts(file) == _facts(sent)


def _facts(file: Any) -> MediaFacts | None:
    try:
        return probe(file)
    except NotAVideo:  # which may have been taken all the same
        return None
