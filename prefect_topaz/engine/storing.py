"""Store what a job made: fetch, verify, publish, record; nothing partial has a final name."""

from __future__ import annotations

from prefect_topaz import errors
from prefect_topaz.delivery import (
    Outgoing,
    check_delivered,
    check_free,
    publish_bytes,
    read_receipt,
    remove,
    still_there,
    sweep,
    workspace,
)
from prefect_topaz.download import Fetched
from prefect_topaz.engine.checking import Delivery, make_preview, mismatch, rejection
from prefect_topaz.engine.checking import verify as verify_result
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.fetching import copied, cost_of, digest, obtain
from prefect_topaz.engine.records import read_bought
from prefect_topaz.journal import Journal, Record
from prefect_topaz.models import (
    FinishedUpscale,
    Place,
    Receipt,
    StoredVideo,
    Verify,
)
from prefect_topaz.naming import target_names, values_of_job
from prefect_topaz.places import in_thread, url_of
from prefect_topaz.sources import OpenSource
from prefect_topaz.transport import describe


async def store(
    context: Context,
    finished: FinishedUpscale,
    destination: Place | None = None,
    *,
    verify: Verify = "standard",
    overwrite: bool = False,
    source: OpenSource | None = None,
    look_again: bool = True,
) -> list[StoredVideo]:
    """Verify the results of a job and publish them.

    Args:
        context: Who stores.
        finished: The job.
        destination: A folder or the name of the first result; None for where it was ordered to.
        verify: `standard`, `strict` (missing sound, another frame rate and less likeness to the
            source are mismatches too), or `off`.
        overwrite: Whether another file at the destination may be replaced.
        source: The source, to compare the pictures with; None makes that a warning.
        look_again: Whether a result that was rejected before is fetched and looked at once more.

    Raises:
        ResultMismatch: If a result is not what was ordered. It is kept beside the journal.
        ResultUnavailable: If a result cannot be downloaded.
        DeliveryFailed: If the destination cannot be written, or is taken.
    """
    job = finished.job
    journal = await in_thread(context.journal, job.journal)
    record = await read_bought(journal, job)
    succeeded = [one for one in finished.results if one.phase == "succeeded"]
    place = destination or job.destination
    count = max(job.order.generations, len(succeeded))
    try:
        folder, names = await in_thread(target_names, place, values_of_job(job), count)
    except errors.UnusableDestination as error:
        raise errors.DeliveryFailed(error.message, work_key=job.work_key) from None
    videos: list[StoredVideo] = []
    problems: list[errors.Bought] = []
    for status, name in zip(succeeded, names, strict=False):
        delivery = Delivery(
            context,
            finished,
            status,
            journal,
            record,
            folder,
            name,
            verify,
            overwrite,
            source,
            look_again,
        )
        try:
            videos.append(await _deliver(delivery))
        except errors.Bought as error:
            # The other generations are paid for as well, and their links expire.
            problems.append(error)
        except errors.TopazError:
            raise
        except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
            problems.append(_undelivered(delivery, error))
    if problems:
        raise problems[0]
    await _write_down(context, journal, record, videos)
    now = context.client.now().timestamp()
    await in_thread(sweep, folder, now, names=names)
    await in_thread(sweep, journal.place(record.key), now, workspaces=True)
    return videos


def _undelivered(one: Delivery, error: Exception) -> errors.DeliveryFailed:
    return errors.DeliveryFailed(
        f"the result of job {one.status.job_id} cannot be written ({describe(error)}): mend the"
        " store, or make room on it or here, and run again, which buys nothing",
        job_id=one.status.job_id,
        work_key=one.key,
    )


async def _write_down(
    context: Context, journal: Journal, record: Record, videos: list[StoredVideo]
) -> None:
    event = record.latest("stored")
    known = {video.url for video in event.stored} if event else set()
    if not all(video.url in known and video.cached for video in videos):
        stored = tuple(video.model_copy(update={"cached": False}) for video in videos)
        fresh = context.event("stored", attempt=record.attempt, stored=stored, billed="yes")
        await context.insist(journal, record, fresh)
    submitted = record.latest("submitted")
    for name in submitted.held if submitted else ():
        # Published and written down: the copy beside the journal has done its duty.
        await in_thread(remove, journal.place(record.key), name)


async def _deliver(one: Delivery) -> StoredVideo:
    """Find one result where it was put, or copy it from there, or fetch it."""
    known = _known(one.record, one.status.job_id)
    there = await in_thread(_there, one, known)
    if there is not None:
        return there.model_copy(update={"cached": True})
    if not one.look_again and (event := rejection(one)) is not None:
        raise mismatch(one, event)
    await _check_name(one)
    outgoing = Outgoing(one.folder, one.name)
    with workspace(one.journal.place(one.key)) as space:
        file = space / "result.mp4"
        try:
            if known is not None and await in_thread(copied, one, known, file):
                return await _publish(one, await in_thread(digest, file), outgoing, cached=True)
            return await _publish(one, await obtain(one, file, outgoing), outgoing)
        finally:
            await in_thread(outgoing.discard)


async def _check_name(one: Delivery) -> None:
    """Leave what is not ours where it is."""
    if one.overwrite:
        return
    try:
        await in_thread(check_free, one.folder, one.name, one.key)
    except errors.UnusableDestination as error:
        raise errors.DeliveryFailed(error.message, work_key=one.key) from None


def _known(record: Record, job_id: str) -> StoredVideo | None:
    event = record.latest("stored")
    videos = event.stored if event else ()
    return next((video for video in videos if (video.job_id or "") == job_id), None)


def _there(one: Delivery, known: StoredVideo | None) -> StoredVideo | None:
    """Find a result at its place: by the journal, or by its receipt if the writer died in between.

    The receipt goes first and the video last, so a video of that size with that receipt is whole.
    """
    if known is not None and still_there(one.folder, one.name, known):
        return known
    receipt = read_receipt(one.folder, one.name)
    ours = receipt and (receipt.work_key, receipt.job_id or "") == (one.key, one.status.job_id)
    if receipt is None or not ours:
        return None
    # Somebody may have moved the folder: what lies beside the video counts, not what it once said.
    here = receipt.model_copy(update=_addresses(one, with_preview=receipt.preview_url is not None))
    there = still_there(one.folder, one.name, here)
    return StoredVideo.model_validate(here.model_dump()) if there else None


def _addresses(one: Delivery, *, with_preview: bool) -> dict[str, str | None]:
    url = url_of(one.folder.fs, one.folder.file(one.name))
    preview = f"{url}.jpg" if with_preview else None
    return {"url": url, "receipt_url": f"{url}.json", "preview_url": preview}


async def _publish(
    one: Delivery, fetched: Fetched, outgoing: Outgoing, *, cached: bool = False
) -> StoredVideo:
    """Verify the file and give it its name: preview, receipt, and the video last."""
    checked = await verify_result(one, fetched)
    job, facts = one.finished.job, checked.facts
    picture = await in_thread(make_preview, one, fetched.path, checked)
    receipt = Receipt(
        url=url_of(one.folder.fs, one.folder.file(one.name)),
        receipt_url=url_of(one.folder.fs, one.folder.file(f"{one.name}.json")),
        preview_url=picture,
        bytes=fetched.size,
        sha256=fetched.sha256,
        width=facts.width,
        height=facts.height,
        fps=facts.fps,
        duration=facts.duration,
        has_audio=facts.has_audio,
        provider=job.provider,
        job_id=one.status.job_id or None,
        work_key=one.key,
        cost=await cost_of(one),
        warnings=(*job.warnings, *checked.warnings, *_lost_generations(one.finished)),
        source=job.source,
        order=job.order,
        submitted_at=job.submitted_at,
        stored_at=one.context.client.now(),
        flow_run_id=one.context.flow_run_id,
    )
    text = receipt.model_dump_json(indent=2).encode()
    await _check_name(one)  # again: another order may have taken it while this one was fetched
    await in_thread(publish_bytes, text, one.folder, f"{one.name}.json")
    await in_thread(outgoing.commit, fetched.path)
    await in_thread(check_delivered, one.folder, one.name, fetched.path)
    one.context.log(
        f"stored {receipt.url}: {receipt.width}x{receipt.height}, {receipt.bytes} bytes"
    )
    video = StoredVideo.model_validate(receipt.model_dump())
    return video.model_copy(update={"cached": cached})


def _lost_generations(finished: FinishedUpscale) -> tuple[str, ...]:
    missing = finished.job.order.generations - len(finished.results)
    fewer = (f"the provider made {missing} generations fewer than ordered",) if missing > 0 else ()
    return fewer + tuple(
        f"generation {one.job_id} {one.phase}: {one.error or one.word}"
        for one in finished.results
        if one.phase != "succeeded"
    )
