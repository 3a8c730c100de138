"""URLs that do not print their query, because signatures live there."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

# Quotes, angle brackets and white space end a URL in running text. Other brackets do not: a name
# may hold them, and what follows may be a signature. JSON may escape the slashes.
_URL_IN_TEXT = re.compile(r"(?<![a-zA-Z0-9+.-])[a-zA-Z0-9+.-]+:\\?/\\?/[^\s\"<>]+")
_AFTER_URL = ".,;:!'`)]}"
# A URL that is quoted decoded may hold spaces, behind which its signature would stay.
_SIGNATURE = re.compile(
    r"(?i)\b(x-(?:amz|goog)-[a-z-]+|signature|sig|key-pair-id|policy|token|api_?key)=[^\s&\"'<>]+"
)


def redact_url(url: str) -> str:
    """Drop a URL's query, fragment and user info.

    >>> redact_url("https://me:pw@host/clip.mp4?X-Amz-Signature=abc#t=1")
    'https://host/clip.mp4'
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # "https://[bad" looks like a URL and is none
        return "<unreadable URL>"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def redact(text: str) -> str:
    """Drop the query of every URL in a text, and what looks like a signature anywhere.

    >>> redact("cannot fetch https://host/a.mp4?sig=abc: 403")
    'cannot fetch https://host/a.mp4: 403'
    """
    return _SIGNATURE.sub(r"\1=...", _URL_IN_TEXT.sub(_redact_match, text))


def _redact_match(match: re.Match[str]) -> str:
    found = match.group().replace("\\/", "/")
    kept = found.rstrip(_AFTER_URL)
    scheme, _, rest = kept.partition("://")
    return f"{scheme}:{redact_url(f'//{rest}')}{found[len(kept) :]}"


class SignedUrl:
    """A URL that shows itself without its query: in `repr`, `str`, JSON and pickles.

    Args:
        url: The whole URL; only `reveal()` gives it back.
    """

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        self._url = url

    def reveal(self) -> str:
        """Give the whole URL: for the one who sends it, never for a message or a file."""
        return self._url

    @property
    def digest(self) -> str:
        """The sha256 of the whole URL: recognises it again without keeping it."""
        return hashlib.sha256(self._url.encode()).hexdigest()

    def __str__(self) -> str:
        """Show the URL without its query."""
        return redact_url(self._url)

    def __repr__(self) -> str:
        """Show the URL without its query."""
        return f"SignedUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Compare whole URLs."""
        return isinstance(other, SignedUrl) and self._url == other._url

    def __hash__(self) -> int:
        """Hash the whole URL."""
        return hash(self._url)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without the query: a persisted result must not hold a signature."""
        return SignedUrl, (str(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Validate from a string and serialise redacted."""
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(str(value)),
            serialization=core_schema.to_string_ser_schema(),
        )
