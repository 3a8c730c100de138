"""Get the file of a result: from where it lies already, or from the provider."""

from __future__ import annotations

import hashlib
from pathlib import Path

from prefect_topaz import errors
from prefect_topaz.delivery import retrieve
from prefect_topaz.download import Fetched, fetch
from prefect_topaz.engine.checking import Delivery
from prefect_topaz.http import PIECE
from prefect_topaz.models import JobStatus, StoredVideo
from prefect_topaz.places import copy_file, in_thread, url_of
from prefect_topaz.redaction import SignedUrl


def copied(one: Delivery, known: StoredVideo, file: Path) -> bool:
    """Copy a result that lies at another place; False if it cannot be."""
    place = one.finished.job.destination
    same_store = url_of(one.folder.fs, "/x").partition("://")[0] == known.url.partition("://")[0]
    elsewhere = place if same_store else place.model_copy(update={"options": {}})
    try:
        copy_file(elsewhere, known.url, file)
    except Exception:  # noqa: BLE001  # whatever is wrong there, the provider is asked instead
        return False
    return digest(file).sha256 == known.sha256


def digest(file: Path) -> Fetched:
    """Measure a local file."""
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            found.update(piece)
    return Fetched(file, file.stat().st_size, found.hexdigest())


async def obtain(one: Delivery, file: Path) -> Fetched:
    """Get the file: from beside the journal if it is held there, else from the provider.

    Raises:
        ResultUnavailable: If there is none any more.
    """
    submitted = one.record.latest("submitted")
    if submitted and submitted.held:
        # Gone only if it was published before, and the published file was deleted since.
        return await _take(one, submitted.held[0], file)
    client = one.context.client

    async def refresh() -> SignedUrl:
        return await _link(one)

    try:
        link = await _link(one)
        keys, sleep = client.result_headers, client.sleep
        return await fetch(link, file, refresh=refresh, headers_for=keys, sleep=sleep)
    except errors.ResultUnavailable as error:
        if rejected := _rejected(one):
            return await _take(one, rejected, file)
        error.job_id, error.work_key = one.status.job_id, one.key
        raise


def _rejected(one: Delivery) -> str | None:
    """Find the copy that was put aside as not what was ordered, wherever it was meant to go."""
    for event in reversed(one.record.events):
        if event.kind == "mismatch" and one.status.job_id in event.job_ids:
            return event.held[0]
    return None


async def _take(one: Delivery, name: str, file: Path) -> Fetched:
    try:
        await in_thread(retrieve, one.journal.place(one.key), name, file)
    except FileNotFoundError:
        raise errors.ResultUnavailable(
            f"the result was published once and deleted since, and {one.finished.job.provider} gave"
            " no job id to fetch it again by; to buy this work again on purpose, run with a higher"
            " `again`",
            work_key=one.key,
        ) from None
    return await in_thread(digest, file)


async def _link(one: Delivery) -> SignedUrl:
    """Read the status for a link: signed links are kept nowhere."""
    try:
        status = await _status(one)
    except errors.TopazError as error:
        raise errors.ResultUnavailable(
            f"the link to the result of job {one.status.job_id} cannot be read ({error.message}):"
            " run again while the provider keeps it, which buys nothing"
        ) from None
    if not status.results:
        raise errors.ResultUnavailable(
            f"job {one.status.job_id} has no result any more (status {status.word!r})"
        )
    return status.results[0]


async def _status(one: Delivery) -> JobStatus:
    client, job_id = one.context.client, one.status.job_id
    try:
        return await client.status(job_id)
    except errors.NotFound:
        # The history keeps what the queue forgets, and what was never in it: blocking calls.
        if (found := await client.details(job_id)) is None:
            raise
        return found
