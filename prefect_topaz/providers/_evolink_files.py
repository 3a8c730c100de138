"""EvoLink's files API: what goes up, what comes back, and what is said when it is full [E3][E4]."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from prefect_topaz.errors import UnusableSource
from prefect_topaz.providers._reading import links, number
from prefect_topaz.redaction import redact
from prefect_topaz.wire import Call, Reply, Upload, Uploaded, read_moment

UPLOAD_LIMIT = 95 * 2**20  # bytes; EvoLink's own client stops there [E8]
_FILES = "/api/v1/files"


def stream(base: str, upload: Upload) -> Call:
    """Upload a file as a stream.

    Raises:
        UnusableSource: If it is larger than the API takes.
    """
    if upload.size > UPLOAD_LIMIT:
        raise UnusableSource(
            f"{upload.name} is larger than EvoLink's files API takes ({UPLOAD_LIMIT // 2**20} MiB):"
            " give a URL that EvoLink can read, or a folder on a store that signs links as staging="
        )
    return Call("POST", f"{base}{_FILES}/upload/stream", upload=upload, read_seconds=600.0)


def read_stream(reply: Reply) -> Uploaded | None:
    """Read the public link; None if the file was refused, which may come with HTTP 200 [E8]."""
    data = _data(reply)
    found, file_id = links((data.get("file_url"),)), data.get("file_id")
    if not reply.ok or reply.object().get("success") is False or not found:
        return None
    reference = file_id if isinstance(file_id, str) and file_id else None
    return Uploaded(found[0], reference, read_moment(data.get("expires_at")))


def delete(base: str, reference: str) -> Call:
    """Delete a file as older pages have it [E9]."""
    return Call("DELETE", f"{base}{_FILES}/{quote(reference, safe='')}", read_seconds=20.0)


def quota(base: str) -> Call:
    """Ask how many files the account may still hold."""
    return Call("GET", f"{base}{_FILES}/quota", read_seconds=20.0)


def read_quota(reply: Reply) -> str | None:
    """Say that no file is left to hold; None if there is, or if the answer tells nothing."""
    data = _data(reply)
    left = number(data.get("remain_files"))
    if not reply.ok or left is None or left > 0:
        return None
    most, reason = data.get("max_files") or "all", data.get("quota_reason")
    return redact(f"{most} files are in use" + (f" ({reason})" if reason else ""))


def _data(reply: Reply) -> dict[str, Any]:
    data = reply.object().get("data")
    return data if isinstance(data, dict) else {}
