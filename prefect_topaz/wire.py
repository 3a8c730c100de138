"""What a dialect says and hears, without I/O: calls, replies, and the verdict on a submit."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect_topaz.errors import TopazError
from prefect_topaz.models import Cost
from prefect_topaz.redaction import SignedUrl


def _tell_nobody(count: int) -> None:
    del count


@dataclass(frozen=True)
class Upload:
    """A file that goes out as one part of a multipart form.

    Args:
        opened: Opens its content for reading from the start, each time that it is sent.
        part: Name of the form's file part.
        name: File name told to the server.
        size: Bytes.
        folder: A name that no other copy of it has, where the server lets one be chosen.
        fields: The form's other fields.
        progress: Told how many bytes have left so far.
    """

    opened: Callable[[], AbstractContextManager[Any]] = field(repr=False)
    part: str
    name: str
    size: int
    folder: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    progress: Callable[[int], None] = field(default=_tell_nobody, repr=False)


@dataclass(frozen=True)
class Uploaded:
    """A file that the provider's own store took in.

    Args:
        url: Where the provider reads it.
        reference: What the store deletes it by; None if it told nothing.
        expires_at: When the store removes it by itself, if it said so.
    """

    url: SignedUrl
    reference: str | None = None
    expires_at: datetime | None = None


def read_moment(value: Any) -> datetime | None:
    """Read a moment as ISO 8601 has it; None for anything else, and where no zone is told.

    >>> str(read_moment("2026-03-01T12:00:00Z")), read_moment("soon")
    ('2026-03-01 12:00:00+00:00', None)
    """
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


@dataclass(frozen=True)
class Call:
    """One HTTP request, as a value.

    Args:
        method: The HTTP method.
        url: The whole URL; shown without its query only.
        repeatable: Whether sending it twice is harmless. Declared by the dialect, never inferred
            from the method: a paid POST says False, and that is the promise of this package.
        json: The body.
        headers: Headers beyond the key, which the transport adds for the provider's own origin.
        upload: A file to send instead of a body.
        form: Fields of a multipart form to send instead of a body.
        read_seconds: How long the answer may take; None for the transport's default.
        spool: Whether the answer may be too large for memory and goes to a file.
    """

    method: str
    url: str = field(repr=False)
    repeatable: bool = True
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    upload: Upload | None = None
    form: Mapping[str, str] | None = None
    read_seconds: float | None = None
    spool: bool = False


@dataclass(frozen=True)
class Reply:
    """One HTTP answer.

    Args:
        status: The HTTP status.
        headers: Header names in lower case.
        body: The body; empty when it was spooled.
        spooled: The file that holds the body instead.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    spooled: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether the server says that it did what was asked (2xx)."""
        return 200 <= self.status < 300  # noqa: PLR2004  # the HTTP class itself

    def json(self) -> Any:
        """Read the body as JSON, or give None: an unreadable answer is no answer."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):  # the latter for a text nested too deeply
            return None

    def object(self) -> dict[str, Any]:
        """Read the body as a JSON object, or give an empty one."""
        value = self.json()
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Accepted:
    """The provider took the order.

    Args:
        job_ids: One a generation; empty for a blocking call, whose result is in the answer.
        cost: What the answer says of money, if anything.
        expected_seconds: How long the provider says it takes, if it says.
        replayed: Whether the provider says that it answers for an earlier, equal request.
    """

    job_ids: tuple[str, ...]
    cost: Cost | None = None
    expected_seconds: float | None = None
    replayed: bool = False


@dataclass(frozen=True)
class Refused:
    """The provider certainly did not take the order, nor charge for it."""

    error: TopazError


@dataclass(frozen=True)
class Unclear:
    """Nobody can tell from the answer whether the order was taken."""

    reason: str


SubmitVerdict = Accepted | Refused | Unclear


class Truncated(ValueError):
    """A base64 field ended before its closing quote, or is not base64."""


_UNPADDED = re.compile(rb"[A-Za-z0-9+/]*")
_PADDED = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
# JSON may escape any character, as `\/` or `\u002B`; a piece may end in the middle of that.
_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")


def decode_base64_field(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    r"""Decode one base64 string field out of a JSON text, in bounded memory.

    Args:
        chunks: The JSON text in pieces of any size.
        name: Name of the field; its first occurrence is taken.

    Yields:
        Decoded bytes, in pieces.

    Raises:
        Truncated: If the field is missing, not base64, or the text ends inside it.

    >>> text = [b'{"videos": [{"b64_', b'json": "aGVs', b'bG8="}]}']
    >>> b"".join(decode_base64_field(text, "b64_json"))
    b'hello'
    """
    pieces = iter(chunks)
    opening = re.compile(rb'"' + re.escape(name.encode()) + rb'"\s*:\s*"')
    buffer = b""
    for piece in pieces:
        buffer += piece
        if found := opening.search(buffer):
            buffer = buffer[found.end() :]
            break
        # Only what could be the start of the opening is kept: a long text before it is dropped.
        buffer = buffer[-(len(name) + 64) :]
    else:
        raise Truncated(f"the answer has no field {name!r}")
    yield from _decode_until_quote(buffer, pieces, name)


def _decode_until_quote(buffer: bytes, pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    clean = b""
    while True:
        end = buffer.find(b'"')
        text, cut = (buffer, _ESCAPE.search(buffer)) if end < 0 else (buffer[:end], None)
        if cut:
            text = buffer[: cut.start()]
        clean += _unescape(text, name)
        if end >= 0:
            yield _decode(clean, name)
            return
        # Four characters make three bytes. One is held back, so that padding is always the end.
        whole = max(len(clean) - 1, 0) // 4 * 4
        yield _decode(clean[:whole], name, more=True)
        clean = clean[whole:]
        piece = next(pieces, None)
        if piece is None:
            raise Truncated(f"the answer ended inside {name!r}")
        buffer = buffer[len(text) :] + piece


def _decode(text: bytes, name: str, *, more: bool = False) -> bytes:
    # Strict by hand: the standard library is so only from Python 3.11 on.
    if len(text) % 4 or not (_UNPADDED if more else _PADDED).fullmatch(text):
        raise Truncated(f"the field {name!r} is not base64")
    return binascii.a2b_base64(text)


def _unescape(text: bytes, name: str) -> bytes:
    """Read the inside of a JSON string that ends in no half escape; line breaks are dropped."""
    try:
        return str(json.loads(b'"%s"' % text)).encode("ascii").translate(None, b"\r\n")
    except ValueError:
        raise Truncated(f"the field {name!r} is not base64") from None
