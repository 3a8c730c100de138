"""Links to a source that live long enough, and that the provider can open."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
from fsspec.asyn import sync

from prefect_topaz.errors import UnusableSource
from prefect_topaz.http import opened, quiet
from prefect_topaz.models import MediaFacts
from prefect_topaz.places import in_thread
from prefect_topaz.providers import Dialect
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sources.address import is_internal
from prefect_topaz.sources.store import StoredFile
from prefect_topaz.transport import describe

_QUEUE: Final = 6 * 3600.0  # seconds that a job may take by default, see `engine.waiting.DEADLINE`
_WORK: Final = 60.0  # seconds of work for a second of video
LONGEST: Final = 7 * 86400.0  # seconds; the most that S3's and Google's signatures allow
_SHORTEST: Final = 600.0  # seconds that a link which somebody else signed must still live
_STAMP: Final = "%Y%m%dT%H%M%SZ"


class _TooShort(Exception):
    """What signs ends before the link shall. Private to this module."""


def lifetime(asked: float | None, media: MediaFacts | None) -> float:
    """Say how many seconds a link must live: what is asked, or what covers queue and fetch."""
    if asked is not None:
        return asked
    duration = media.duration if media and media.duration else 0.0
    return min(_QUEUE + _WORK * duration, LONGEST)


def expiry(url: str) -> datetime | None:
    """Read when a signed URL expires: as S3, Google, Azure and CloudFront write it; None if never.

    >>> str(expiry("https://b.example/k?X-Amz-Date=20260301T120000Z&X-Amz-Expires=3600"))
    '2026-03-01 13:00:00+00:00'
    """
    query = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
    try:
        for vendor in ("amz", "goog"):
            if f"x-{vendor}-expires" in query:
                signed = datetime.strptime(query[f"x-{vendor}-date"], _STAMP)  # noqa: DTZ007  # next
                seconds = int(query[f"x-{vendor}-expires"])
                return _unix(signed.replace(tzinfo=timezone.utc).timestamp() + seconds)
        if "sig" in query and "se" in query:
            read = datetime.fromisoformat(query["se"].replace("Z", "+00:00"))
            return read if read.tzinfo else read.replace(tzinfo=timezone.utc)
        return _unix(int(query["expires"]))
    except (KeyError, ValueError, OverflowError):
        return None


def _unix(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def check_given(url: SignedUrl, asked: float | None, now: datetime) -> None:
    """Refuse a link of the user's that ends before the provider has read it.

    Args:
        url: The link.
        asked: Seconds that it must live, None for a minimum.
        now: The time.

    Raises:
        UnusableSource: If it has ended, or ends too soon.
    """
    ends = expiry(url.reveal())
    if ends is None:
        return
    left = (ends - now).total_seconds()
    if left >= max(asked or 0.0, _SHORTEST):
        return
    what = "has expired" if left <= 0 else f"expires in {left / 60:.0f} min"
    needed = f"link_seconds asks for {asked:g} s" if asked else "the job may wait longer than that"
    raise UnusableSource(
        f"the link {str(url)!r} {what} ({ends:%Y-%m-%d %H:%M} UTC), and {needed}: sign it anew for"
        f" {lifetime(asked, None):.0f} s or more; nothing was ordered"
    )


async def sign(
    file: StoredFile,
    dialect: Dialect,
    seconds: float,
    now: datetime,
    log: Callable[[str], None],
    *,
    exists: bool = True,
) -> SignedUrl | None:
    """Let a store sign a link to one of its files, and try it as the provider will.

    Args:
        file: The file.
        dialect: The provider that shall read it.
        seconds: How long it must live.
        now: The time.
        log: Is told why there is none.
        exists: Whether the file is there, so that the link can be tried.

    Returns:
        The link, or None where the store cannot sign, or the provider could not read it.
    """
    try:
        link = SignedUrl(await in_thread(_signed, file, seconds))
        lack = _lack_of(link, dialect, seconds, now) or (await refusal(link) if exists else None)
    except _TooShort as error:
        lack = str(error)
    except NotImplementedError:
        lack = "its store signs no links"
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        lack = f"its store cannot sign a link ({type(error).__name__})"
    if lack is None:
        return link
    log(f"{dialect.name} cannot read {file.label} by a link: {lack}")
    return None


def _signed(file: StoredFile, seconds: float) -> str:
    fs = file.fs
    with quiet():
        if hasattr(fs, "config_kwargs") and "s3" in fs.protocol:
            fs = _current_s3(fs)
        link = str(fs.sign(file.path, expiration=math.ceil(seconds)))
        if "X-Amz-Security-Token=" in link:
            _check_session(fs, seconds)
    return link


def _current_s3(fs: Any) -> Any:
    """Give an S3 store that signs as all of S3 demands today; by default it signs the old way."""
    config = {"signature_version": "s3v4", **fs.config_kwargs}
    # That way names the bucket's region, which is looked up unless the settings name one.
    settings = {"cache_regions": True, **fs.storage_options, "config_kwargs": config}
    return type(fs)(*fs.storage_args, **settings)


def _check_session(fs: Any, seconds: float) -> None:
    """Refuse a link whose role's credentials end before it does: it ends with them.

    Raises:
        _TooShort: If they do.
    """

    async def ends() -> bool:
        credentials = await fs.session.get_credentials()
        ends_within = getattr(credentials, "refresh_needed", None)
        if ends_within is None:
            return False
        return bool(ends_within(refresh_in=seconds))

    # When those end that somebody put into the settings, nobody here knows.
    if not fs.key and sync(fs.loop, ends):
        raise _TooShort(
            f"its store's temporary credentials, and all links that they sign, end within"
            f" {seconds:.0f} s: use lasting ones, or ask for less with link_seconds"
        )


def _lack_of(link: SignedUrl, dialect: Dialect, seconds: float, now: datetime) -> str | None:
    whole = link.reveal()
    if urlsplit(whole).scheme not in ("http", "https"):
        return f"the store gives {str(link)!r}, which is no http(s) URL"
    if is_internal(whole) and not dialect.is_loopback:
        return f"{dialect.name} cannot reach the store at {str(link)!r}, whose host is internal"
    ends = expiry(whole)
    # Whole seconds are signed, and a moment has passed since.
    if ends is not None and (ends - now).total_seconds() < seconds - 60:
        return (
            f"the link lives until {ends:%Y-%m-%d %H:%M} UTC only, and {seconds:.0f} s are needed"
        )
    try:
        dialect.check_source(whole)
    except UnusableSource as error:
        return error.message
    return None


async def refusal(link: SignedUrl, *, hops: int = 0) -> str | None:
    """Read the first byte by a link, without any key; say what is wrong if that is refused.

    Args:
        link: The link.
        hops: How many redirects may be followed.
    """
    try:
        headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
        async with opened("GET", link.reveal(), headers=headers) as answer:
            status, target = answer.status_code, answer.headers.get("location")
    except httpx.HTTPError as error:
        return describe(error)
    if hops and target and httpx.codes.is_redirect(status):
        return await refusal(SignedUrl(urljoin(link.reveal(), target)), hops=hops - 1)
    return None if status in (200, 206) else f"reading its first byte gives HTTP {status}"
