"""What the text of a source says: its kind, its name for people, and whom it can reach."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from prefect_topaz.errors import UnusableSource
from prefect_topaz.providers import Dialect
from prefect_topaz.redaction import redact_url

T = TypeVar("T")
_IN_URLS = "!#$%&'()*+,/:;=?@[]~"
UNREADABLE = redact_url("//[")  # what the label of a broken URL is


def scheme_and_host(source: str) -> tuple[str, str]:
    """Read the scheme and the host of a source; both are empty if it is no URL."""
    try:
        parts = urlsplit(source)
    except ValueError:  # "https://[bad" looks like a URL and is none
        return "", ""
    return parts.scheme, parts.hostname or ""


def is_web(source: str) -> bool:
    """Tell whether a source is an http(s) URL."""
    return scheme_and_host(source)[0] in ("http", "https")


def is_store(source: str) -> bool:
    """Tell whether a source is for fsspec to open: a URL of another kind than http and file."""
    # A drive letter is no scheme, nor is what a file's name has before a colon.
    scheme, _ = scheme_and_host(source)
    return ("://" in source or "::" in source) and scheme not in ("http", "https", "file")


def label_of(url: str) -> str:
    """Name the URL of a file on a store for people, without secrets; `#` may be in its name.

    >>> label_of("sftp://me:pw@host/take #1.mp4"), label_of("s3://bucket/a.mp4?versionId=7")
    ('sftp://host/take #1.mp4', 's3://bucket/a.mp4')
    """
    if "::" in url:
        return "::".join(label_of(link) for link in url.split("::"))
    head, hash_mark, tail = url.partition("#")
    if "?" in head:
        return redact_url(head)
    return redact_url(head) + hash_mark + tail.partition("?")[0]


def is_internal(url: str) -> bool:
    """Tell whether the host of a URL is known inside one network only."""
    _, host = scheme_and_host(url)
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # A name without a dot is resolved in its own network only.
        name = host.rstrip(".")
        return "." not in name or name.endswith((".localhost", ".local", ".internal"))


def check_reach(url: str, dialect: Dialect) -> None:
    """Refuse a URL that leads to where the provider cannot go.

    Raises:
        UnusableSource: If it does.
    """
    if is_internal(url) and not dialect.is_loopback:
        raise UnusableSource(
            f"{dialect.name} cannot reach {redact_url(url)!r}: its host is internal; give a URL"
            " that is public, or signed for reading"
        )


def attempt(work: Callable[[], T], explain: Callable[[Exception], str]) -> T:
    """Do what may fail in the words of a store, and let nothing of those words leave.

    Args:
        work: What to do.
        explain: Says what a failure means, without secrets.

    Raises:
        UnusableSource: If it fails.
    """
    try:
        return work()
    except UnusableSource as error:
        message = error.message
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        message = explain(error)
    # Raised out here, the error has no context: stores' errors may hold a signed URL, or a key.
    raise UnusableSource(message)


def inside(folder: str, path: str) -> str:
    """Give the URL of a path inside a folder.

    Args:
        folder: The folder's URL.
        path: A path in it, or the whole URL of something in it.

    Raises:
        UnusableSource: If it leads out of the folder.
    """
    base = folder if folder.endswith("/") else f"{folder}/"
    relative = path.removeprefix(base).replace("\\", "/")
    if "://" in relative or "::" in relative or ".." in unquote(relative).split("/"):
        raise UnusableSource(
            f"the source {label_of(path)!r} is not inside source_storage ({label_of(base)}): give a"
            " path below it, without .."
        )
    below = relative.lstrip("/")
    # A path is as people write it, a URL has no spaces.
    return base + (quote(below, safe=_IN_URLS) if is_web(base) else below)
