"""Names for a source's content: equal for equal content, and never made of a signature."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import parse_qsl, urlsplit

from prefect_topaz.errors import UnusableSource
from prefect_topaz.http import PIECE
from prefect_topaz.media import NotAVideo, probe
from prefect_topaz.models import MediaFacts
from prefect_topaz.redaction import SignedUrl

_DIGEST: Final = "sha256:"
# Parameters that sign a URL: of S3, Google Cloud Storage, CloudFront and Azure.
_SIGNING: Final = re.compile(
    r"x-(amz|goog)-.+|signature|expires|awsaccesskeyid|googleaccessid|key-pair-id|policy|token"
    r"|sig|se|st|sp|sv|sr|spr|sip|sks|skt|ske|skv|skoid|sktid",
    re.IGNORECASE,
)
# What stores call the tag that changes with the content: S3 and http, Azure, Google, in this order.
_TAGS: Final = ("ETag", "generation", "etag")
_MODIFIED: Final = ("mtime", "modify", "last_write_time")
_VERSION: Final = re.compile(r"\?versionid=[^?/]*$", re.IGNORECASE)
_STAMP: Final = re.compile(r"\d{14}(\.\d+)?")  # of FTP's MLSD; that of a mere LIST changes with age


def given(place: str, version: str | None) -> str | None:
    """Name the content by the caller's word for it, if there is one."""
    if version is None:
        return None
    return version if version.startswith(_DIGEST) else f"{place}#{version}"


def by_content(file: BinaryIO) -> str:
    """Name the content by reading it all, in pieces."""
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return _DIGEST + digest.hexdigest()


def place_of_url(url: SignedUrl) -> str:
    """Name the object of a URL: host, path, and a hash of what in its query is no signature.

    Two signed URLs of one object are the same work, and `?id=1` and `?id=2` are two.
    """
    parts = urlsplit(url.reveal())
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = sorted(pair for pair in query if not _SIGNING.fullmatch(pair[0]))
    place = f"{parts.netloc.rpartition('@')[2].lower()}{parts.path}"
    if not kept:
        return place
    return f"{place}?{hashlib.sha256(repr(kept).encode()).hexdigest()[:16]}"


def by_answer(place: str, info: Mapping[str, Any]) -> str | None:
    """Name the content by what a web server says of it; None if that is too little."""
    validator = info.get("ETag") or info.get("Last-Modified")
    if not validator or not info.get("size"):
        return None
    return f"{place}#{validator}#{info['size']}"


def place_on_store(fs: Any, path: str) -> str:
    """Name a path on a store, from every machine alike."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    # A bucket's tag names the content; a date, on a host of one's own, does not without the host.
    host, port = getattr(fs, "host", None) or "", getattr(fs, "port", None)
    address = f"{host}:{port}/" if port else f"{host}/" if host else ""
    return f"{protocol}://{address}{unversioned(path).lstrip('/')}"


def unversioned(path: str) -> str:
    """Give a path without the version that S3 and Azure take at its end."""
    return _VERSION.sub("", path)


def by_store(place: str, info: Mapping[str, Any]) -> str | None:
    """Name the content by what a store says of it: tag or date, and size; None if it says neither.

    A version's id is left out: the same bytes, put there once more, are the same work.
    """
    size = info.get("size")
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), None) or _date(info)
    return f"{place}#{tag}#{size}" if tag and size else None


def _date(info: Mapping[str, Any]) -> str | None:
    for name in _MODIFIED:
        value = info.get(name)
        if isinstance(value, datetime):
            return str(value.timestamp())
        if isinstance(value, int | float) or (isinstance(value, str) and _STAMP.fullmatch(value)):
            return str(value)
    return None


def facts_of(file: Path | BinaryIO, label: str) -> MediaFacts:
    """Read what is known of the video, from its headers.

    Raises:
        UnusableSource: If it is none.
    """
    try:
        return probe(file)
    except NotAVideo as error:
        reason = str(error)
    raise UnusableSource(f"the source {label!r} is not a video: {reason}")
