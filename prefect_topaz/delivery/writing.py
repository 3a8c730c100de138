"""Files on remote stores that are written piece by piece and shown only when they are whole."""

from __future__ import annotations

import mimetypes
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import BoundedSemaphore
from typing import Any, Final, Protocol

from prefect_topaz.places import Folder, is_object_store

Bytes = bytes | bytearray | memoryview

_PART: Final = 8 * 2**20  # bytes of an upload's part; S3 takes no less than 5 MiB
_LARGE_PART: Final = 32 * 2**20  # where nobody knows how many there will be
_MOST_PARTS: Final = 9_000  # S3 takes 10 000
_AT_ONCE: Final = 4  # parts on their way at the same time
_BLOCK: Final = 2**20  # bytes; of larger ones aiohttp warns that they may lock its loop
_MOST_BLOCKS: Final = 45_000  # Azure takes 50 000
_STAGED: Final = frozenset({"gs", "gcs", "az", "abfs", "abfss"})


class Write(Protocol):
    """A file that is being written; nobody sees it before it is committed."""

    def write(self, piece: Bytes) -> None:
        """Take the next bytes."""

    def commit(self, size: int) -> None:
        """Show it under its name, replacing what is there.

        Args:
            size: Bytes that the store must hold.

        Raises:
            OSError: If the store holds another number.
        """

    def discard(self) -> None:
        """Leave nothing of it."""


def open_write(folder: Folder, name: str, size: int | None) -> Write | None:
    """Begin to write a file.

    Args:
        folder: Where.
        name: Its name.
        size: Bytes, if they are known.

    Returns:
        The open write; None where the store takes whole files only.
    """
    fs, path = folder.fs, folder.file(name)
    if not is_object_store(fs):
        return _Renamed(folder, name)
    if is_s3(fs):
        return _Parts(fs, path, size)
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return None if _STAGED.isdisjoint(protocols) else _Staged(fs, path, size)


def is_s3(fs: Any) -> bool:
    """Whether a store speaks S3's own calls."""
    return hasattr(fs, "call_s3")


def check_size(fs: Any, path: str, size: int) -> None:
    """Compare what a store says of a file with what was sent.

    Raises:
        OSError: If it holds another number of bytes.
    """
    fs.invalidate_cache()
    if int(fs.size(path)) != size:
        raise OSError("the store holds another number of bytes than was sent")


class _Parts:
    """An S3 upload in parts, several at once; s3fs's own file sends one after the other."""

    def __init__(self, fs: Any, path: str, size: int | None) -> None:
        self._fs, self._path = fs, path
        bucket, key, _ = fs.split_path(path)
        self._target: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._length = _LARGE_PART if size is None else max(_PART, -(-size // _MOST_PARTS))
        self._held = bytearray()
        self._upload: str | None = None
        self._parts: list[Future[Mapping[str, Any]]] = []
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="upload")
        self._room = BoundedSemaphore(_AT_ONCE)

    def write(self, piece: Bytes) -> None:
        self._held += piece
        while len(self._held) >= self._length:
            self._send(self._length)

    def commit(self, size: int) -> None:
        if self._upload is None:
            kind = self._kind()
            self._fs.call_s3("put_object", **self._target, **kind, Body=bytes(self._held))
        else:
            if self._held:
                self._send(len(self._held))
            parts = [
                {"PartNumber": number, "ETag": part.result()["ETag"]}
                for number, part in enumerate(self._parts, 1)
            ]
            self._fs.call_s3(
                "complete_multipart_upload",
                **self._target,
                UploadId=self._upload,
                MultipartUpload={"Parts": parts},
            )
            self._upload = None
        self._threads.shutdown()
        check_size(self._fs, self._path, size)

    def discard(self) -> None:
        # A part that arrives after the end would be kept, and paid for.
        self._threads.shutdown(cancel_futures=True)
        self._held.clear()
        if self._upload is not None:
            abort_upload(self._fs, self._target, self._upload)
            self._upload = None

    def _kind(self) -> dict[str, str]:
        kind, _ = mimetypes.guess_type(self._path)
        return {"ContentType": kind} if kind else {}

    def _send(self, count: int) -> None:
        if self._upload is None:
            answer = self._fs.call_s3("create_multipart_upload", **self._target, **self._kind())
            self._upload = answer["UploadId"]
        self._room.acquire()
        for sent in self._parts[-2 * _AT_ONCE :]:
            if sent.done():
                sent.result()  # one that failed has ended the upload
        part = bytes(memoryview(self._held)[:count])
        del self._held[:count]
        self._parts.append(self._threads.submit(self._put, len(self._parts) + 1, part))

    def _put(self, number: int, part: bytes) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = self._fs.call_s3(
                "upload_part",
                **self._target,
                UploadId=self._upload,
                PartNumber=number,
                Body=part,
            )
            return {"ETag": answer["ETag"]}
        finally:
            self._room.release()


def abort_upload(fs: Any, target: Mapping[str, Any], upload: str) -> None:
    """Remove the parts of an upload that was not completed."""
    fs.call_s3("abort_multipart_upload", **target, UploadId=upload)


class _Staged:
    """Blocks that a store keeps out of sight until they are committed: Azure, Google Cloud."""

    def __init__(self, fs: Any, path: str, size: int | None) -> None:
        self._fs, self._path = fs, path
        block = max(_BLOCK, -(-(size or 0) // _MOST_BLOCKS))
        self._file = fs.open(path, "wb", autocommit=False, block_size=block)
        self._held = bytearray()

    def write(self, piece: Bytes) -> None:
        # Much at a time: adlfs sends the blocks of one write side by side.
        self._held += piece
        if len(self._held) >= _PART:
            self._flush()

    def commit(self, size: int) -> None:
        self._flush()
        self._file.close()  # by which Azure commits
        self._file.commit()  # and Google Cloud
        check_size(self._fs, self._path, size)

    def discard(self) -> None:
        try:
            self._file.discard()
        finally:
            # Else adlfs would commit what there is when the object goes away.
            self._file.closed = True

    def _flush(self) -> None:
        self._file.write(bytes(self._held))
        self._held.clear()


class _Renamed:
    """A file under a name of its own that is renamed at the end."""

    def __init__(self, folder: Folder, name: str) -> None:
        # Without the name: some stores would read its brackets as a pattern.
        self._fs, self._part = folder.fs, folder.file(unfinished_name())
        self._path = folder.file(name)
        self._fs.makedirs(folder.path, exist_ok=True)
        self._file = self._fs.open(self._part, "wb")
        if hasattr(self._file, "set_pipelined"):
            self._file.set_pipelined(True)  # SFTP: not to wait for the answer to each 32 KiB

    def write(self, piece: Bytes) -> None:
        self._file.write(bytes(piece))

    def commit(self, size: int) -> None:
        self._file.close()
        check_size(self._fs, self._part, size)
        self._fs.mv(self._part, self._path)
        self._fs.invalidate_cache()

    def discard(self) -> None:
        with suppress(Exception):  # it may be what failed
            self._file.close()
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._part)


def unfinished_name() -> str:
    """Make a name for a file on its way to another; no longer than any name may be."""
    return f".{uuid.uuid4().hex}.part"
