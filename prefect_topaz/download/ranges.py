"""Whether an answer brings what was asked for: a pure reading of its status and headers."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

Header = Callable[[str], str]

_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_OK: Final = 200
_PARTIAL: Final = 206
_UNSATISFIABLE: Final = 416
_EXPIRED: Final = (401, 403, 404, 410)
# By then a file that is still being written has got another date: RFC 7232, 2.2.2.
_SETTLED: Final = timedelta(seconds=60)


class Again(Exception):
    """This try brought nothing whole; another goes on where it ended."""


class Expired(Exception):
    """The link does not open any more; a fresh one may."""


class Anew(Exception):
    """What has arrived cannot be joined with what would come: begin with the first byte.

    Args:
        reason: Why.
        plain: Whether the server is no good for ranges of this file.
    """

    def __init__(self, reason: str, *, plain: bool = False) -> None:
        super().__init__(reason)
        self.plain = plain


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Args:
        offset: The first byte.
        stop: The byte after the last; None for the end of the file.
        ranged: Whether it is asked for as a range; else as the whole file.
        size: Bytes of the whole file, where an earlier answer told.
        version: What an earlier answer told the file by.
    """

    offset: int
    stop: int | None
    ranged: bool
    size: int | None = None
    version: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What to ask with; a proxy or server must not compress what is joined by bytes."""
        asked = {"Accept-Encoding": "identity"}
        if self.ranged:
            last = "" if self.stop is None else self.stop - 1
            asked["Range"] = f"bytes={self.offset}-{last}"
        if self.ranged and self.version is not None:
            asked["If-Range"] = self.version
        return asked


@dataclass(frozen=True)
class Told:
    """What an answer brings.

    Args:
        ranged: Whether it is a part of the file, as asked.
        count: Bytes; None if nobody knows before the end.
        size: Bytes of the whole file; None if it is not told.
        version: What the file can be told by when it is asked for again.
    """

    ranged: bool
    count: int | None
    size: int | None
    version: str | None


def read_answer(status: int, header: Header, length: int | None, wanted: Wanted) -> Told:
    """Refuse an answer that does not bring what was asked for.

    Args:
        status: The HTTP status.
        header: Gives a header by its name, or an empty text.
        length: Bytes of the answer, where it tells.
        wanted: What was asked for.

    Raises:
        Expired: If the link does not open.
        Anew: If the file is not the one of which there are parts.
        Again: If it is no file at all.
    """
    if status in _EXPIRED:
        raise Expired(f"HTTP {status}")
    if status == _UNSATISFIABLE and wanted.ranged:
        raise Anew(f"HTTP {status}", plain=wanted.version is None)
    if status not in (_OK, _PARTIAL):
        raise Again(f"HTTP {status}")
    if header("content-type").startswith("text/"):
        raise Again("a web page instead of a video")
    if status == _PARTIAL:
        return _read_part(header, length, wanted)
    if wanted.offset or wanted.version is not None:
        raise Anew("the file changed on the way")
    return Told(ranged=False, count=length, size=length, version=version_of(header))


def _read_part(header: Header, length: int | None, wanted: Wanted) -> Told:
    found = _RANGE.fullmatch(header("content-range"))
    if found is None or int(found[1]) != wanted.offset:
        raise Anew("another part of the file than was asked for")
    size = None if found[3] == "*" else int(found[3])
    count = int(found[2]) + 1 - wanted.offset
    version = version_of(header)
    if wanted.version is not None and (_differs(header, wanted.version) or size != wanted.size):
        raise Anew("the file changed on the way")
    too_much = wanted.stop is not None and wanted.offset + count > wanted.stop
    if count <= 0 or (wanted.ranged and too_much):
        raise Anew("another part of the file than was asked for", plain=True)
    if length not in (None, count):
        raise Again(f"{length} bytes for a range of {count}")
    return Told(ranged=True, count=count, size=size, version=version)


def version_of(header: Header) -> str | None:
    """Give what a file can be joined by: a strong tag, or a date that cannot come twice."""
    if (tag := header("etag")).startswith('"'):
        return tag
    changed, now = _date(header("last-modified")), _date(header("date"))
    if tag or changed is None or now is None or now - changed < _SETTLED:
        return None
    return header("last-modified")


def _differs(header: Header, version: str) -> bool:
    # An answer that names no version is the part that was asked for under a condition.
    told = header("etag" if version.startswith('"') else "last-modified")
    return bool(told) and told != version


def _date(text: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    # A date without a zone is GMT in HTTP.
    return found.replace(tzinfo=found.tzinfo or timezone.utc)
