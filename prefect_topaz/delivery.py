"""Put a verified file where it belongs, whole or not at all, with its receipt and preview."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefect_topaz.errors import DeliveryFailed, UnusableDestination
from prefect_topaz.models import Receipt, StoredVideo
from prefect_topaz.places import Folder, local_path, read, sync_folder, url_of
from prefect_topaz.transport import describe

# Object stores show an upload under its name only when it is complete; other stores as it grows.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2"}

# What a killed process leaves of a file on its way to a name.
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}(\.part)?")
_ABANDONED = 3600.0  # seconds without a change after which nobody works on an unfinished file


def check_free(folder: Folder, name: str, work_key: str) -> None:
    """Refuse a name that is taken by something else than this very work.

    Raises:
        UnusableDestination: If it is. Before the purchase nothing is billed by that.
    """
    folder.fs.invalidate_cache()
    if not folder.fs.exists(folder.file(name)):
        return
    receipt = read_receipt(folder, name)
    ours = receipt is not None and receipt.work_key == work_key
    # A file of another size beside our receipt is somebody's edit, and not ours to replace.
    if receipt is None or not ours or _size(folder, name) != receipt.bytes:
        raise UnusableDestination(
            f"{url_of(folder.fs, folder.file(name))} exists and is not, or no longer, the result of this"
            " order: choose another destination, or pass overwrite=True",
            work_key=work_key,
        )


def read_receipt(folder: Folder, name: str) -> Receipt | None:
    """Read the receipt beside a video; None if there is none that can be read."""
    data = read(folder.fs, folder.file(f"{name}.json"))
    try:
        return None if data is None else Receipt.model_validate_json(data)
    except ValueError:
        return None


def still_there(folder: Folder, name: str, video: StoredVideo) -> bool:
    """Tell whether a stored video is where it was put, with the recorded size."""
    if url_of(folder.fs, folder.file(name)) != video.url:
        return False
    return _size(folder, name) == video.bytes


def _size(folder: Folder, name: str) -> int | None:
    folder.fs.invalidate_cache()
    try:
        size: int | None = folder.fs.size(folder.file(name))
    except FileNotFoundError:
        return None
    return size


@contextmanager
def workspace(folder: Folder) -> Iterator[Path]:
    """Give a local folder to download into: beside the journal where that is local.

    There a rename publishes; elsewhere the file is uploaded from the system's temporary folder.
    """
    local = local_path(folder.fs, folder.path)
    if local is not None:
        local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="part-", dir=local) as name:
        yield Path(name)


def publish(file: Path, folder: Folder, name: str) -> str:
    """Move a local file to its final name in one step.

    Returns:
        The URL where it is now.

    Raises:
        DeliveryFailed: If it cannot be written. The job stays paid and can be stored again.
    """
    path = folder.file(name)
    try:
        local = local_path(folder.fs, path)
        if local is not None:
            _replace(file, local)
        elif _OBJECT_STORES.isdisjoint(_protocols(folder.fs)):
            _move(file, folder, name)
        else:
            # No folder is made: it needs none, and s3fs would make a bucket that it cannot see.
            _upload(file, folder.fs, path)
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        raise DeliveryFailed(
            f"{url_of(folder.fs, path)} cannot be written ({describe(error)}): mend the destination"
            " and run again, which buys nothing"
        ) from None
    return url_of(folder.fs, path)


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _upload(file: Path, fs: Any, path: str) -> None:
    fs.put_file(str(file), path)
    fs.invalidate_cache()
    if int(fs.size(path)) != file.stat().st_size:
        raise OSError("the store holds another number of bytes than was sent")


def _move(file: Path, folder: Folder, name: str) -> None:
    # Without the name: some stores would read its brackets as a pattern.
    part = folder.file(f".{uuid.uuid4().hex}.part")
    folder.fs.makedirs(folder.path, exist_ok=True)
    try:
        _upload(file, folder.fs, part)
        folder.fs.mv(part, folder.file(name))
        folder.fs.invalidate_cache()
    except BaseException:
        with suppress(Exception):
            folder.fs.rm_file(part)
        raise


def _replace(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        try:
            os.link(file, part)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(file, part)
        with part.open("rb+") as handle:
            os.fsync(handle.fileno())
        part.replace(target)
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def publish_bytes(data: bytes, folder: Folder, name: str) -> str:
    """Write a small file whole, replacing what is there."""
    with tempfile.TemporaryDirectory(prefix="topaz-") as temporary:
        file = Path(temporary) / "data"
        file.write_bytes(data)
        return publish(file, folder, name)


def retrieve(folder: Folder, name: str, file: Path) -> None:
    """Copy a file from a store to the local disk, in pieces."""
    folder.fs.get_file(folder.file(name), str(file))


def remove(folder: Folder, name: str) -> None:
    """Delete a file that is not needed any more; it may be gone already."""
    with suppress(FileNotFoundError):
        folder.fs.rm_file(folder.file(name))


def sweep(folder: Folder, now: float, *, workspaces: bool = False) -> None:
    """Remove what killed processes left in a local folder; other stores keep nothing unfinished.

    Args:
        folder: The folder.
        now: Unix seconds.
        workspaces: Whether folders to download into are beside the files: beside a journal only.
    """
    local = local_path(folder.fs, folder.path)
    with suppress(OSError):  # somebody else may be sweeping, and no tidying may cost a video
        for path in local.iterdir() if local else ():
            if _UNFINISHED.fullmatch(path.name) and now - _changed(path) > _ABANDONED:
                path.unlink()
        for space in local.glob("part-*") if local and workspaces else ():
            if now - max(map(_changed, (space, *space.iterdir()))) > _ABANDONED:
                shutil.rmtree(space)


def _changed(path: Path) -> float:
    found = path.stat()
    # A link keeps the time of the content, and a file may be read for long before it gets one.
    return max(found.st_mtime, found.st_ctime)
