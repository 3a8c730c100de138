"""Get the file of a result: from where it lies already, or from the provider."""

from __future__ import annotations

import hashlib
from pathlib import Path

from prefect_topaz import errors
from prefect_topaz.delivery import Outgoing, retrieve
from prefect_topaz.download import Fetched, fetch
from prefect_topaz.engine.checking import Delivery, rejection
from prefect_topaz.http import PIECE
from prefect_topaz.models import Cost, JobStatus, StoredVideo
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


async def obtain(one: Delivery, file: Path, outgoing: Outgoing) -> Fetched:
    """Get the file: from beside the journal if it is held there, else from the provider.

    Args:
        one: The delivery.
        file: The local file to write.
        outgoing: Is given what arrives from the provider, at once.

    Raises:
        ResultUnavailable: If there is none any more. It says what the job cost.
    """
    try:
        return await _obtain(one, file, outgoing)
    except errors.ResultUnavailable as error:
        raise errors.ResultUnavailable(
            f"{error.message}. {_price(await cost_of(one))}",
            job_id=one.status.job_id or None,
            work_key=one.key,
        ) from None


async def _obtain(one: Delivery, file: Path, outgoing: Outgoing) -> Fetched:
    submitted = one.record.latest("submitted")
    if submitted and submitted.held:
        # Gone only if it was published before, and the published file was deleted since.
        return await _take(one, submitted.held[0], file)
    client = one.context.client

    async def refresh() -> SignedUrl:
        return await _link(one)

    try:
        return await fetch(
            await _link(one),
            file,
            refresh=refresh,
            headers_for=client.result_headers,
            sleep=client.sleep,
            follower=outgoing,
        )
    except errors.ResultUnavailable:
        if rejected := rejection(one):
            return await _take(one, rejected.held[0], file)
        raise


async def cost_of(one: Delivery) -> Cost:
    """Ask what was charged, where the provider tells; not knowing is no failure."""
    cost = one.finished.job.cost
    found = one.status.cost
    try:
        # Once: no result waits for the answer to this.
        if one.status.job_id and (
            details := await one.context.client.details(one.status.job_id, attempts=1)
        ):
            found = details.cost or found
    except errors.TopazError:
        pass
    if found is None:
        return cost
    known = {"charged": found.charged, "reserved": found.reserved}
    return cost.model_copy(
        update={"unit": found.unit}
        | {name: value for name, value in known.items() if value is not None}
    )


def _price(cost: Cost) -> str:
    """Say what a job cost, for the one who claims it from the provider."""
    if (cost.charged, cost.reserved, cost.estimate) == (None, None, None):
        return "What it cost is not known"
    estimated = cost.charged is None and cost.reserved is None
    return f"It cost {cost}" + (f", {cost.basis}" if estimated and cost.basis else "")


async def _take(one: Delivery, name: str, file: Path) -> Fetched:
    try:
        await in_thread(retrieve, one.journal.place(one.key), name, file)
    except FileNotFoundError:
        raise errors.ResultUnavailable(
            f"the result was published once and deleted since, and {one.finished.job.provider} gave"
            " no job id to fetch it again by; to buy this work again on purpose, run with a higher"
            " `again`"
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
