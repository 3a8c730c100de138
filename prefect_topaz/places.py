"""Folders and files on any fsspec store, and the one exclusive create that each offers."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import tokenize

from prefect_topaz.errors import UnusableDestination
from prefect_topaz.models import Place
from prefect_topaz.redaction import redact, redact_url
from prefect_topaz.stores import open_store

P = ParamSpec("P")
T = TypeVar("T")
# They show an upload under its name only when it is complete; other stores as it grows.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2"}
_TRIAL = 4096  # bytes: of a full disk an empty file would tell nothing
_memory_lock = threading.Lock()
_exclusive: set[str] = set()  # the folders that passed `check_exclusive`, in this process


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work beside the loop, with the caller's context."""
    return await asyncio.to_thread(work, *args, **kwargs)


@dataclass(frozen=True)
class Folder:
    """A folder on a store.

    Args:
        fs: The store.
        path: The folder's path as the store knows it.
    """

    fs: Any
    path: str

    @property
    def url(self) -> str:
        """The folder's URL; a plain path on the local disk."""
        return url_of(self.fs, self.path)

    def file(self, *names: str) -> str:
        """Give the path of something inside."""
        return "/".join([self.path.rstrip("/"), *names])

    def folder(self, *names: str) -> Folder:
        """Give a folder inside."""
        return Folder(self.fs, self.file(*names))


def open_folder(place: Place) -> Folder:
    """Open a place as a folder; it need not exist yet."""
    fs, path = open_place(place)
    return Folder(fs, path.rstrip("/") or path)


def url_of(fs: Any, path: str) -> str:
    """Give the URL of a path: plain on the local disk, since that is what people type."""
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


def local_path(fs: Any, path: str) -> Path | None:
    """Give the path on the local disk, or None if the store is another."""
    return Path(path) if isinstance(fs, LocalFileSystem) else None


def is_object_store(fs: Any) -> bool:
    """Whether a store has keys rather than folders, and shows only complete files."""
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return not protocols.isdisjoint(_OBJECT_STORES)


def open_place(place: Place) -> tuple[Any, str]:
    """Open the store of a place.

    Returns:
        The store, and the path as the store knows it.

    Raises:
        UnusableDestination: If fsspec does not know the store, or it cannot be opened.
    """
    try:
        return open_store(place.url, place.options)
    except (ValueError, ImportError) as error:
        raise UnusableDestination(
            f"{redact_url(place.url)!r} is not a place that fsspec knows: {redact(str(error))}"
        ) from None
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        reason = f"{type(error).__name__}: {redact(str(error))}"
        raise UnusableDestination(
            f"the store of {redact_url(place.url)!r} cannot be opened ({reason}): check the"
            " address and the store's settings"
        ) from None


def create(fs: Any, path: str, data: bytes) -> None:
    """Create a small file whole and only if it is not there: of many callers one succeeds.

    Raises:
        FileExistsError: If the file is there already.
    """
    if isinstance(fs, LocalFileSystem):
        _create_local(Path(path), data)
    elif isinstance(fs, MemoryFileSystem):
        # The memory store checks and then writes; it lives in this process, so a lock is enough.
        with _memory_lock:
            if fs.exists(path):
                raise FileExistsError(path)
            fs.pipe_file(path, data)
    else:
        _create_remote(fs, path, data)


def _create_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A link is exclusive like "xb", and besides never shows a half-written file.
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            _create_in_place(path, data)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _create_in_place(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError:  # a half-written file would stand in everybody's way
            path.unlink()
            raise


def sync_folder(folder: Path) -> None:
    """Make a folder's entries survive a power cut, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _create_remote(fs: Any, path: str, data: bytes) -> None:
    try:
        fs.pipe_file(path, data, mode="create")
    except FileExistsError:
        raise
    except Exception as error:
        # Stores say it in their own words: S3 answers 412 or 409 to a conditional write.
        if any(word in str(error) for word in ("PreconditionFailed", "ConditionalRequestConflict")):
            raise FileExistsError(path) from None
        raise


def check_exclusive(folder: Folder) -> None:
    """Find out, once a folder and process, whether `create` is exclusive there.

    Raises:
        UnusableDestination: If it is not, so that two runs at once could both buy.
    """
    fs = folder.fs
    # Not by the store itself: fsspec makes another one for each thread.
    asked = tokenize(type(fs), fs.storage_args, fs.storage_options, folder.path)
    if isinstance(fs, LocalFileSystem | MemoryFileSystem) or asked in _exclusive:
        return
    if lack := _lack_of(fs, folder):
        raise UnusableDestination(
            f"{redact_url(folder.url)} cannot hold the journal, since its store {lack}: two runs"
            " at once could both buy. Pass journal= with a folder on the local disk, S3, Google"
            " Cloud Storage, Azure or SFTP; the videos may go here all the same"
        )
    _exclusive.add(asked)


def _lack_of(fs: Any, folder: Folder) -> str | None:
    """Say why a store's create is not exclusive; None if it is."""
    while isinstance(fs, DirFileSystem):
        fs = fs.fs
    # What a store inherits from fsspec: a look and then a write, as FTP and SMB have it.
    if getattr(fs.pipe_file, "__func__", None) is AbstractFileSystem.pipe_file:
        return "only looks whether a file is there, and then writes"
    try:
        return "let two writers create one file" if _winners(folder) > 1 else None
    except (NotImplementedError, TypeError):
        return "cannot create a file exclusively"
    except OSError as error:
        if error.errno == errno.ENOSYS:  # an S3 server that does not know the condition
            return "cannot create a file exclusively"
        raise


def _winners(folder: Folder) -> int:
    """Let two writers create one file at once, and count those who are told that they did."""
    path = folder.file(f".{uuid.uuid4().hex}")

    def wins(data: bytes) -> bool:
        try:
            create(folder.fs, path, data)
        except FileExistsError:
            return False
        return True

    try:
        with ThreadPoolExecutor(2) as writers:
            return sum(writers.map(wins, (b"one", b"two")))
    finally:
        with suppress(Exception):
            folder.fs.rm_file(path)


def check_writable(folder: Folder) -> None:
    """Find out whether a file can be written in a folder, by writing one and removing it.

    Raises:
        UnusableDestination: If it cannot.
    """
    path = folder.file(f".{uuid.uuid4().hex}.part")
    try:
        if not is_object_store(folder.fs):
            folder.fs.makedirs(folder.path, exist_ok=True)
        folder.fs.pipe_file(path, bytes(_TRIAL))
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        reason = f"{type(error).__name__}: {redact(str(error))}"
        raise UnusableDestination(
            f"the destination {redact_url(folder.url)} cannot be written ({reason}): mend it, or"
            " choose another"
        ) from None
    finally:
        with suppress(Exception):  # it may not be there, and some stores let nothing be removed
            folder.fs.rm_file(path)


def read(fs: Any, path: str) -> bytes | None:
    """Read a small file; None if it is not there."""
    try:
        fs.invalidate_cache()
        data: bytes = fs.cat_file(path)
    except FileNotFoundError:
        return None
    return data


def open_file(place: Place, url: str) -> bytes:
    """Read a small file by its URL, with the settings of a place on the same store."""
    fs, path = open_place(place.model_copy(update={"url": url}))
    data: bytes = fs.cat_file(path)
    return data


def copy_file(place: Place, url: str, file: Path) -> None:
    """Copy a file by its URL to the local disk, with the settings of a place on the same store."""
    fs, path = open_place(place.model_copy(update={"url": url}))
    fs.get_file(path, str(file))
