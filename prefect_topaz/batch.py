"""The flow that upscales many videos into a folder."""

# Annotations stay objects: `upscale_video.serve()` pickles a flow without its module's names.

import asyncio
from collections.abc import Sequence
from typing import Annotated, cast

from prefect import flow, get_run_logger
from pydantic import Field

from prefect_topaz import errors, reports
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.bridge import run_blocking
from prefect_topaz.cancellation import is_persons_cancel
from prefect_topaz.engine.waiting import DEADLINE
from prefect_topaz.http import connections
from prefect_topaz.listing import expand, label, same_names
from prefect_topaz.locations import place_of, with_settings
from prefect_topaz.models import Verify
from prefect_topaz.naming import tells_apart
from prefect_topaz.outcomes import BatchItem, BatchReport
from prefect_topaz.places import in_thread
from prefect_topaz.steps import (
    HOOKS,
    Attempts,
    Options,
    PlaceParameter,
    Positive,
    as_cancelled,
    upscale,
)

InFlight = Annotated[int, Field(ge=1, le=1000)]


def _clashes(sources: Sequence[str], destination: PlaceParameter) -> set[str]:
    """Find sources whose results would have one name at the destination."""
    try:
        apart = tells_apart(place_of(destination))
    except errors.InvalidRequest:  # which every item says, and better
        apart = frozenset({"stem"})
    if "work_key" in apart:
        return set()
    return same_names(sources) if "stem" in apart else set(sources[1:] and sources)


async def _upscale_all(
    sources: str | Sequence[str],
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    max_in_flight: int,
    options: Options,
) -> BatchReport:
    given = options.source_storage
    storage = None if given is None else await with_settings(place_of(given))
    listed = await in_thread(expand, sources, storage)
    clashes = _clashes(listed, destination)
    slots = asyncio.Semaphore(max_in_flight)
    stopped: list[errors.TopazError] = []

    async def one(source: str) -> BatchItem:
        name = label(source)
        if source in clashes:
            reason = (
                "another source of this batch would have the same file name at the destination:"
                " put {stem} or {work_key} into it, or give each source a folder of its own"
            )
            return BatchItem(source=name, error=reason)
        async with slots:
            if stopped:
                return BatchItem(source=name, error="not ordered: the run was cancelled")
            try:
                video = await upscale(source, destination, upscaler, options)
            except errors.TopazError as error:
                if is_persons_cancel(error):
                    stopped.append(error)
                return BatchItem(source=name, error=str(error), billed=error.billed)
            except Exception as error:  # noqa: BLE001  # the others go on when one fails
                reason = f"{type(error).__name__}: run again to find out; the journal knows"
                return BatchItem(source=name, error=reason, billed="maybe")
        return BatchItem(source=name, video=video)

    async with connections():
        report = BatchReport(items=tuple(await asyncio.gather(*(one(each) for each in listed))))
    await reports.report_batch(report, "topaz-batch")
    _tell(report)
    # What was bought before somebody cancelled is in the table; the state names one job.
    return cast("BatchReport", as_cancelled(stopped[0])) if stopped else report


@flow(name="upscale-videos", **HOOKS)
async def aupscale_videos(
    sources: str | list[str],
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    *,
    max_in_flight: InFlight = 8,
    attempts: Attempts = 1,
    journal: PlaceParameter | None = None,
    max_cost: Positive | None = None,
    deadline_seconds: Positive = DEADLINE,
    poll_seconds: Positive | None = None,
    cancel_on_timeout: bool = False,
    verify: Verify = "standard",
    overwrite: bool = False,
    source_storage: PlaceParameter | None = None,
    link_seconds: Positive | None = None,
    staging: PlaceParameter | None = None,
) -> BatchReport:
    """Upscale many videos into a folder; the others go on when one fails.

    Each new or changed video is bought once; run it on a schedule to keep a folder upscaled.

    Args:
        sources: A glob such as clips/*.mp4 or s3://bucket/clips/*.mp4, or a list of URLs, paths and
            globs.
        destination: A folder, as an fsspec URL or path; or a StorageLocation or RemoteFileSystem
            block.
        upscaler: What is ordered, and who pays.
        max_in_flight: How many videos are worked on at once.
        attempts: How often each video may be ordered in all, if its job fails and the provider
            charges nothing for that; any other failure ends it at once.
        journal: Another place for the journal than .topaz at the destination.
        max_cost: US dollars that each video may cost at most.
        deadline_seconds: Seconds to wait for each video at most.
        poll_seconds: Seconds between looks to begin with; empty for what the provider advises.
        cancel_on_timeout: Whether a job is cancelled when that time, or Prefect's own time-out, has passed.
        verify: How strict the results are compared with the order.
        overwrite: Whether other files at the destination may be replaced.
        source_storage: Where the sources are, if they are given as paths there: a folder as an
            fsspec URL or path, or a StorageLocation or RemoteFileSystem block.
        link_seconds: Seconds that a link signed for the provider must live; empty for 6 hours and
            a minute for each second of video, 7 days at most.
        staging: A folder on a store that signs links, such as s3://bucket/staging/: a source that
            has no link is copied there and removed when its job has ended; empty for the provider's
            own store.

    Returns:
        How each video ended; a table artifact shows the same.
    """
    options = Options(
        attempts=attempts,
        journal=journal,
        max_cost=max_cost,
        deadline_seconds=deadline_seconds,
        poll_seconds=poll_seconds,
        cancel_on_timeout=cancel_on_timeout,
        verify=verify,
        overwrite=overwrite,
        source_storage=source_storage,
        link_seconds=link_seconds,
        staging=staging,
    )
    return await _upscale_all(sources, destination, upscaler, max_in_flight, options)


@flow(name="upscale-videos", **HOOKS)
def upscale_videos(
    sources: str | list[str],
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    *,
    max_in_flight: InFlight = 8,
    attempts: Attempts = 1,
    journal: PlaceParameter | None = None,
    max_cost: Positive | None = None,
    deadline_seconds: Positive = DEADLINE,
    poll_seconds: Positive | None = None,
    cancel_on_timeout: bool = False,
    verify: Verify = "standard",
    overwrite: bool = False,
    source_storage: PlaceParameter | None = None,
    link_seconds: Positive | None = None,
    staging: PlaceParameter | None = None,
) -> BatchReport:
    """Upscale many videos into a folder; the others go on when one fails.

    Each new or changed video is bought once; run it on a schedule to keep a folder upscaled.

    Args:
        sources: A glob such as clips/*.mp4 or s3://bucket/clips/*.mp4, or a list of URLs, paths and
            globs.
        destination: A folder, as an fsspec URL or path; or a StorageLocation or RemoteFileSystem
            block.
        upscaler: What is ordered, and who pays.
        max_in_flight: How many videos are worked on at once.
        attempts: How often each video may be ordered in all, if its job fails and the provider
            charges nothing for that; any other failure ends it at once.
        journal: Another place for the journal than .topaz at the destination.
        max_cost: US dollars that each video may cost at most.
        deadline_seconds: Seconds to wait for each video at most.
        poll_seconds: Seconds between looks to begin with; empty for what the provider advises.
        cancel_on_timeout: Whether a job is cancelled when that time, or Prefect's own time-out, has passed.
        verify: How strict the results are compared with the order.
        overwrite: Whether other files at the destination may be replaced.
        source_storage: Where the sources are, if they are given as paths there: a folder as an
            fsspec URL or path, or a StorageLocation or RemoteFileSystem block.
        link_seconds: Seconds that a link signed for the provider must live; empty for 6 hours and
            a minute for each second of video, 7 days at most.
        staging: A folder on a store that signs links, such as s3://bucket/staging/: a source that
            has no link is copied there and removed when its job has ended; empty for the provider's
            own store.

    Returns:
        How each video ended; a table artifact shows the same.
    """
    options = Options(
        attempts=attempts,
        journal=journal,
        max_cost=max_cost,
        deadline_seconds=deadline_seconds,
        poll_seconds=poll_seconds,
        cancel_on_timeout=cancel_on_timeout,
        verify=verify,
        overwrite=overwrite,
        source_storage=source_storage,
        link_seconds=link_seconds,
        staging=staging,
    )
    return run_blocking(_upscale_all(sources, destination, upscaler, max_in_flight, options))


def _tell(report: BatchReport) -> None:
    get_run_logger().info(
        "%d of %d videos are there, %d failed",
        len(report.stored),
        len(report.items),
        len(report.failed),
    )
