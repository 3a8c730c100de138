"""Who a source is, whether it is a video, and a URL by which the provider can read it."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit

import fsspec

from prefect_topaz.client import Client
from prefect_topaz.errors import UnusableSource
from prefect_topaz.http import PIECE, USER_AGENT, quiet
from prefect_topaz.media import NotAVideo, probe
from prefect_topaz.models import MediaFacts, Source
from prefect_topaz.places import in_thread
from prefect_topaz.providers import Dialect
from prefect_topaz.redaction import SignedUrl, redact_url

_DIGEST = "sha256:"
# Parameters that sign a URL: of S3, Google Cloud Storage, CloudFront and Azure.
_SIGNING = re.compile(
    r"x-(amz|goog)-.+|signature|expires|awsaccesskeyid|googleaccessid|key-pair-id|policy|token"
    r"|sig|se|st|sp|sv|sr|spr|sip|sks|skt|ske|skv|skoid|sktid",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class OpenSource:
    """A source that was found readable.

    Args:
        facts: What the journal keeps of it.
        path: The local file, if it is one.
        url: The URL, if it is one.
    """

    facts: Source
    path: Path | None = None
    url: SignedUrl | None = None

    async def sendable(self, client: Client) -> SignedUrl:
        """Give a URL that the provider can read, uploading a local file where that is possible."""
        if self.url is not None:
            return self.url
        assert self.path is not None
        return await client.upload(self.path)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open it for reading, for its frames."""
        if self.path is not None:
            yield self.path
            return
        assert self.url is not None
        with quiet(), _open_url(self.url) as (file, _):
            yield file


async def open_source(source: str, dialect: Dialect, version: str | None = None) -> OpenSource:
    """Find out who a source is and that it is a video, before any money is spent.

    Args:
        source: An http(s) URL or a local path.
        dialect: The provider that shall read it.
        version: The caller's word for the content, instead of what the store says. Starting with
            `sha256:` it names the content wherever it lies; else it is bound to the source's URL,
            whatever its signature.

    Raises:
        UnusableSource: If it is missing, unreadable, no video, or out of the provider's reach.
    """
    dialect.check_source(source)
    scheme, host = _address(source)
    if scheme in ("http", "https"):
        _check_reach(source, host, dialect)
        return await in_thread(_from_url, SignedUrl(source), version)
    # A drive letter is no scheme, nor is what a file's name has before a colon.
    if scheme != "file" and "://" in source:
        raise UnusableSource(
            f"the source {redact_url(source)!r} is not readable: give an http(s) URL or the path"
            " of a local file"
        )
    path = Path(unquote(urlsplit(source).path) if scheme == "file" else source)
    with suppress(RuntimeError):  # the home of nobody: it does not exist, which is said below
        path = path.expanduser()
    return await in_thread(_from_file, path, version)


def _address(source: str) -> tuple[str, str]:
    try:
        parts = urlsplit(source)
    except ValueError:  # "https://[bad" looks like a URL and is none
        return "", ""
    return parts.scheme, parts.hostname or ""


def _check_reach(url: str, host: str, dialect: Dialect) -> None:
    try:
        internal = not ipaddress.ip_address(host).is_global
    except ValueError:
        # A name without a dot is resolved in its own network only.
        name = host.rstrip(".")
        internal = "." not in name or name.endswith((".localhost", ".local", ".internal"))
    if internal and not dialect.is_loopback:
        raise UnusableSource(
            f"{dialect.name} cannot reach {redact_url(url)!r}: its host is internal; give a URL"
            " that is public, or signed for reading"
        )


def _from_file(path: Path, version: str | None) -> OpenSource:
    label = str(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UnusableSource(f"the source {label!r} {what}: give the path of a video file")
    try:
        media = _probe(path, label)
        with path.open("rb") as file:
            identity = _named(label, version) or _DIGEST + _sha256(file)
    except OSError as error:
        raise UnusableSource(f"the source {label!r} cannot be read: {error.strerror}") from None
    return OpenSource(Source(identity=identity, label=label, name=path.stem, media=media), path)


def _from_url(url: SignedUrl, version: str | None) -> OpenSource:
    label = str(url)
    try:
        with quiet(), _open_url(url) as (file, info):
            media = _probe(file, label)
            identity = _named(_unsigned(url), version) or _by_validators(_unsigned(url), info)
            if identity is None:
                file.seek(0)
                identity = _DIGEST + _sha256(file)
    except UnusableSource:
        raise
    except Exception as error:  # noqa: BLE001  # aiohttp's errors hold the signed URL: none may leave
        status = getattr(error.__cause__ or error, "status", None)
        reason = f"HTTP {status}" if status else type(error).__name__
        raise UnusableSource(
            f"the source {label!r} cannot be read ({reason}): check the URL, and its expiry if it"
            " is signed"
        ) from None
    name = Path(unquote(urlsplit(label).path)).stem or "video"
    return OpenSource(Source(identity=identity, label=label, name=name, media=media), url=url)


def _named(label: str, version: str | None) -> str | None:
    if version is None:
        return None
    return version if version.startswith(_DIGEST) else f"{label}#{version}"


def _unsigned(url: SignedUrl) -> str:
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


def _by_validators(place: str, info: dict[str, Any]) -> str | None:
    """Name the content by what the server says of it."""
    validator = info.get("ETag") or info.get("Last-Modified")
    if not validator or not info.get("size"):
        return None
    return f"{place}#{validator}#{info['size']}"


def _probe(file: Path | BinaryIO, label: str) -> MediaFacts:
    try:
        return probe(file)
    except NotAVideo as error:
        raise UnusableSource(f"the source {label!r} is not a video: {error}") from None


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _filesystem() -> Any:
    # `encoded` keeps a signed query as it is; the signature covers its very characters.
    headers = {"User-Agent": USER_AGENT}
    return fsspec.filesystem("http", encoded=True, client_kwargs={"headers": headers})


@contextmanager
def _open_url(url: SignedUrl) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a URL so that it can be read at any place; gives what the server says of it, too."""
    web, whole = _filesystem(), url.reveal()
    info = web.info(whole)
    if info["size"]:
        with web.open(whole, "rb", block_size=PIECE, size=info["size"]) as file:
            if _has_ranges(file):
                yield file, info
                return
    # A server without ranges can only be read from its start: a copy can be read anywhere.
    with tempfile.TemporaryFile() as copy:
        with web.open(whole, "rb", block_size=0) as stream:
            shutil.copyfileobj(stream, copy, PIECE)
        copy.seek(0)
        yield copy, info


def _has_ranges(file: Any) -> bool:
    try:
        file.seek(file.size - 1)
        file.read(1)
    except ValueError:  # fsspec's word for it; what a server announces proves nothing
        return False
    file.seek(0)
    return True
