"""Remove what killed processes left of files on their way to a name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from prefect_topaz.delivery.writing import abort_upload, is_s3
from prefect_topaz.places import Folder, is_object_store, local_path

_UNFINISHED: Final = re.compile(r"\.(.+\.)?[0-9a-f]{32}(\.part)?")
_PART: Final = re.compile(r"\.[0-9a-f]{32}\.part")
_ABANDONED: Final = 3600.0  # seconds without a change after which nobody works on a file


def sweep(
    folder: Folder, now: float, *, is_ours: Callable[[str], bool], workspaces: bool = False
) -> None:
    """Remove what killed processes left in a folder; never raises.

    Azure and Google Cloud forget unfinished uploads by themselves, after a week.

    Args:
        folder: The folder.
        now: Unix seconds.
        is_ours: Tells whether a file of a name is, or will be, this package's: S3 lists other
            programs' uploads too.
        workspaces: Whether folders to download into are beside the files: beside a journal only.
    """
    with suppress(Exception):  # somebody else may be sweeping, and no tidying may cost a video
        local = local_path(folder.fs, folder.path)
        if local is not None:
            _sweep_local(local, now, workspaces=workspaces)
        elif is_s3(folder.fs):
            _sweep_uploads(folder, now, is_ours)
        elif not is_object_store(folder.fs):
            _sweep_parts(folder, now)


def _sweep_local(local: Path, now: float, *, workspaces: bool) -> None:
    for path in local.iterdir():
        if _UNFINISHED.fullmatch(path.name) and now - _changed(path) > _ABANDONED:
            path.unlink()
    for space in local.glob("part-*") if workspaces else ():
        if now - max(map(_changed, (space, *space.iterdir()))) > _ABANDONED:
            shutil.rmtree(space)


def _changed(path: Path) -> float:
    found = path.stat()
    # A link keeps the time of the content, and a file may be read for long before it gets one.
    return max(found.st_mtime, found.st_ctime)


def _sweep_parts(folder: Folder, now: float) -> None:
    folder.fs.invalidate_cache()
    for entry in folder.fs.ls(folder.path, detail=True):
        name = entry["name"].rpartition("/")[2]
        if _PART.fullmatch(name) and now - _modified(folder.fs, entry) > _ABANDONED:
            folder.fs.rm_file(folder.file(name))


def _modified(fs: Any, entry: dict[str, Any]) -> float:
    if "modify" in entry:  # FTP, in UTC: RFC 3659, 2.3
        told = datetime.strptime(entry["modify"][:14], "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    else:
        told = fs.modified(entry["name"])
    return told.replace(tzinfo=told.tzinfo or timezone.utc).timestamp()


def _sweep_uploads(folder: Folder, now: float, is_ours: Callable[[str], bool]) -> None:
    bucket, prefix, _ = folder.fs.split_path(f"{folder.path}/")
    found = folder.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, Delimiter="/")
    for upload in found.get("Uploads", ()):
        name = upload["Key"].removeprefix(prefix)
        if "/" in name or now - upload["Initiated"].timestamp() < _ABANDONED or not is_ours(name):
            continue
        target = {"Bucket": bucket, "Key": upload["Key"]}
        parts = _parts(folder.fs, {**target, "UploadId": upload["UploadId"]})
        # A slow upload is older than that, and its last part is not.
        last = max((part["LastModified"].timestamp() for part in parts), default=0.0)
        if now - last > _ABANDONED:
            abort_upload(folder.fs, target, upload["UploadId"])


def _parts(fs: Any, upload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    marker = 0
    while True:
        found = fs.call_s3("list_parts", **upload, PartNumberMarker=marker)
        yield from found.get("Parts", ())
        if not found.get("IsTruncated"):
            return
        marker = found["NextPartNumberMarker"]
