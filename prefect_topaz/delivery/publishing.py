"""Put a verified file where it belongs, whole or not at all, with its receipt and preview."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefect_topaz.delivery.sweeping import sweep as sweep_folder
from prefect_topaz.delivery.writing import check_size, open_write, unfinished_name
from prefect_topaz.errors import DeliveryFailed, UnusableDestination
from prefect_topaz.http import PIECE
from prefect_topaz.models import Receipt, StoredVideo
from prefect_topaz.places import Folder, local_path, read, sync_folder, url_of
from prefect_topaz.transport import describe


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
    if receipt is None or not ours or size_of(folder, name) != receipt.bytes:
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
    return size_of(folder, name) == video.bytes


def size_of(folder: Folder, name: str) -> int | None:
    """Ask a store for a file's size in bytes; None if it is not there."""
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
    """Put a local file under its final name in one step.

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
        else:
            _upload(file, folder, name)
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        raise DeliveryFailed(
            f"{url_of(folder.fs, path)} cannot be written ({describe(error)}): mend the destination"
            " and run again, which buys nothing"
        ) from None
    return url_of(folder.fs, path)


def _upload(file: Path, folder: Folder, name: str) -> None:
    size = file.stat().st_size
    write = open_write(folder, name, size)
    if write is None:
        # No folder is made: it needs none, and s3fs would make a bucket that it cannot see.
        folder.fs.put_file(str(file), folder.file(name))
        check_size(folder.fs, folder.file(name), size)
        return
    try:
        with file.open("rb") as opened:
            while piece := opened.read(PIECE):
                write.write(piece)
        write.commit(size)
    except BaseException:
        with suppress(Exception):
            write.discard()
        raise


def _replace(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(unfinished_name())
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


def sweep(
    folder: Folder, now: float, *, names: Collection[str] = (), workspaces: bool = False
) -> None:
    """Remove what killed processes left in a folder; never raises.

    Args:
        folder: The folder.
        now: Unix seconds.
        names: Names of files that are this package's; so are those with a receipt.
        workspaces: Whether this is a record's folder in a journal: then all in it is ours.
    """

    def is_ours(name: str) -> bool:
        return workspaces or name in names or read_receipt(folder, name) is not None

    sweep_folder(folder, now, is_ours=is_ours, workspaces=workspaces)
