"""Make a copy of a source that a provider can read: where it goes, its bytes, and its link."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import anyio

from prefect_topaz.engine.context import Context
from prefect_topaz.errors import (
    ProviderUnavailable,
    TopazError,
    UnusableDestination,
    UnusableSource,
)
from prefect_topaz.http import PIECE
from prefect_topaz.models import Place, StagedCopy
from prefect_topaz.naming import safe_name
from prefect_topaz.places import in_thread, open_folder
from prefect_topaz.redaction import SignedUrl, redact_url
from prefect_topaz.sources import OpenSource, lifetime
from prefect_topaz.sources.signing import expiry, refusal, sign
from prefect_topaz.sources.store import StoredFile
from prefect_topaz.transport import describe
from prefect_topaz.wire import Upload

_GRACE: Final = 20.0  # seconds that a cancelled writer gets to stop
_HOPS: Final = 5
_LINES: Final = 10  # lines of progress at most,
_PAUSE: Final = 10.0  # and so many seconds apart at least
# A store that refuses will do so again; whatever else goes wrong may go right next time.
_FINAL: Final = (PermissionError, FileNotFoundError, NotImplementedError)


@dataclass(frozen=True)
class Copying:
    """A copy to be made. Private to the engine.

    Args:
        copy: What is known of it before.
        upload: The content.
        seconds: How long a signed link must live.
        file: The file at the staging folder; None in the provider's own store.
    """

    copy: StagedCopy
    upload: Upload
    seconds: float
    file: StoredFile | None

    @property
    def where(self) -> str:
        """Say where it goes, for people."""
        return self.file.label if self.file else f"{self.copy.provider}'s own store"


async def plan(
    context: Context, source: OpenSource, staging: Place | None, seconds: float | None, key: str
) -> Copying:
    """Choose where the copy goes, and find out whether that can work.

    Args:
        context: Who copies.
        source: The source.
        staging: The folder for copies; None for the provider's own store.
        seconds: How long a signed link must live; None for what covers queue and fetch.
        key: The work key, of which the copy's name begins.

    Raises:
        UnusableSource: If nobody takes it. Nothing is bought.
        UnusableDestination: If the staging folder cannot be used. Nothing is bought.
    """
    name, file_name = f"{key[:16]}-{uuid.uuid4().hex[:16]}", _file_name(source)
    progress = _progress(context, source.size or 0)
    upload = Upload(
        source.stream, "file", file_name, source.size or 0, folder=name, progress=progress
    )
    needed = lifetime(seconds, source.facts.media)
    if staging is None:
        return Copying(_in_their_store(context, source, upload), upload, needed, None)
    place = staging.model_copy(update={"url": f"{staging.url.rstrip('/')}/{name}/{file_name}"})
    file = await _signing_store(context, place, needed)
    return Copying(StagedCopy(name=name, place=place), upload, needed, file)


def _open(place: Place) -> StoredFile:
    store = open_folder(place)
    return StoredFile(store.fs, store.path, redact_url(place.url), place.options)


def _file_name(source: OpenSource) -> str:
    return f"{safe_name(source.facts.name)}{source.suffix}"


def _in_their_store(context: Context, source: OpenSource, upload: Upload) -> StagedCopy:
    dialect = context.client.dialect
    if dialect.upload(upload) is None:
        setting = f"; or set {dialect.upload_setting}" if dialect.upload_setting else ""
        raise UnusableSource(
            f"{dialect.name} reads URLs only, and there is none that leads it to"
            f" {source.facts.label!r}: put the file where an http(s) URL leads to it; or pass"
            " staging= with a folder on a store that signs links, such as s3://bucket/staging/"
            f"{setting}"
        )
    if source.size is None:
        raise UnusableSource(
            f"nobody says how large {source.facts.label!r} is, so that it cannot be uploaded to"
            f" {dialect.name}: put it on a store, or on the local disk"
        )
    reference = dialect.reference(upload)
    return StagedCopy(name=upload.folder, provider=dialect.name, reference=reference)


async def _signing_store(context: Context, place: Place, seconds: float) -> StoredFile:
    """Open the staging folder's store, if it can sign links that the provider can reach."""
    client, lacks = context.client, list[str]()
    file = await in_thread(_open, place)
    if await sign(file, client.dialect, seconds, client.now(), lacks.append, exists=False):
        return file
    raise UnusableDestination(
        f"the staging folder cannot be used: {lacks[-1]}; give a folder on S3, Google Cloud Storage"
        " or Azure, with settings that may write and sign"
    )


async def make(context: Context, copying: Copying) -> tuple[SignedUrl, StagedCopy]:
    """Make the copy, and find the link to it.

    Raises:
        UnusableSource: If the source cannot be read, or nobody could read the copy.
        UnusableDestination: If the staging folder refuses.
        ProviderUnavailable: If it did not work this time; it may be tried again.
    """
    final = UnusableSource if copying.file is None else UnusableDestination
    kind: type[TopazError] = final
    try:
        if copying.file is None:
            return await _uploaded(context, copying)
        await _written(copying.upload, copying.file)
        return await _linked(context, copying, copying.file)
    except TopazError:
        raise
    except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
        kind = final if isinstance(error, _FINAL) else ProviderUnavailable
        reason = describe(error)
    raise kind(
        f"the source could not be copied to {copying.where} ({reason}): nothing was ordered; mend"
        " that and run again"
    ) from None  # Python 3.10 still knows the store's own error here


async def _uploaded(context: Context, copying: Copying) -> tuple[SignedUrl, StagedCopy]:
    client = context.client
    found = await client.upload(copying.upload)
    known = {"reference": found.reference, "expires_at": found.expires_at}
    copy = copying.copy.model_copy(update=known)
    if not client.dialect.uploads_are_public and (lack := await _closed(found.url)):
        raise UnusableSource(
            f"{copying.where} took the source, and nobody can read it there without a key ({lack}):"
            " make the repository public, or pass staging= with a folder on a store that signs"
            " links"
        )
    return found.url, copy


async def _closed(url: SignedUrl) -> str | None:
    # The vendor's host may send readers on to its store, as it does for results.
    return await refusal(url, hops=_HOPS)


async def _linked(
    context: Context, copying: Copying, file: StoredFile
) -> tuple[SignedUrl, StagedCopy]:
    lacks: list[str] = []
    client = context.client
    link = await sign(file, client.dialect, copying.seconds, client.now(), lacks.append)
    if link is None:
        raise UnusableDestination(f"the copy in the staging folder is of no use: {lacks[-1]}")
    ends = expiry(link.reveal())
    return link, copying.copy.model_copy(update={"expires_at": ends})


async def _written(upload: Upload, file: StoredFile) -> None:
    """Write the copy in a thread, which stops soon if the caller is cancelled."""
    left = False

    def progress(count: int) -> None:
        upload.progress(count)
        if left:
            raise InterruptedError

    writing = asyncio.ensure_future(in_thread(_write, replace(upload, progress=progress), file))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        left = True
        with anyio.CancelScope(shield=True):
            # Else the copy would come up after it was taken away.
            await asyncio.wait({writing}, timeout=_GRACE)
        raise


def _write(upload: Upload, file: StoredFile) -> None:
    count = 0
    with upload.opened() as source, file.fs.open(file.path, "wb") as target:
        while piece := source.read(8 * PIECE):
            target.write(piece)
            count += len(piece)
            upload.progress(count)


def _progress(context: Context, size: int) -> Callable[[int], None]:
    """Tell of a large copying in few lines."""
    told, at = 0, context.monotonic()

    def progress(count: int) -> None:
        nonlocal told, at
        now = context.monotonic()
        # A repeat starts from the beginning.
        told = min(told, count)
        if (count - told) * _LINES >= size > 0 and now - at >= _PAUSE:
            context.log(f"copied {count / 2**20:.0f} of {size / 2**20:.0f} MiB")
            told, at = count, now

    return progress
