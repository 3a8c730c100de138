"""The flow that upscales many videos into a folder."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import unquote, urlsplit

import fsspec
from prefect import flow, get_run_logger
from prefect.filesystems import RemoteFileSystem
from pydantic import Field

from prefect_topaz import errors, reports
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.bridge import run_blocking
from prefect_topaz.cancellation import is_persons_cancel
from prefect_topaz.delivery import read_receipt
from prefect_topaz.engine.waiting import DEADLINE
from prefect_topaz.http import connections
from prefect_topaz.models import Verify
from prefect_topaz.naming import safe_name
from prefect_topaz.outcomes import BatchItem, BatchReport
from prefect_topaz.places import Folder, in_thread
from prefect_topaz.redaction import redact_url
from prefect_topaz.steps import HOOKS, Options, PlaceParameter, Positive, as_cancelled, upscale


def _expand(sources: str | Sequence[str]) -> list[str]:
    """List the sources of a batch, each once: globs of local paths are expanded."""
    given = [sources] if isinstance(sources, str) else sources
    return list(dict.fromkeys(one for source in given for one in _matches(source)))


def _matches(source: str) -> list[str]:
    if not any(char in source for char in "*[") or "://" in source:
        return [source]
    try:
        fs, path = fsspec.core.url_to_fs(source)
        found = [one for one in sorted(fs.glob(path)) if not _is_result(fs, one)]
    except Exception:  # noqa: BLE001  # every store raises kinds of its own; its item says what
        return [source]
    if not found and "*" not in source:
        return [source]  # brackets in a file's own name
    return found


def _is_result(fs: Any, path: str) -> bool:
    """Tell what an earlier run made: upscaling it again, every night, would be bought each time."""
    parent, _, name = path.rpartition("/")
    return read_receipt(Folder(fs, parent), name) is not None


def _same_names(sources: Sequence[str]) -> set[str]:
    """Find sources whose results would have one name."""
    names = Counter(_stem(source) for source in sources)
    return {source for source in sources if names[_stem(source)] > 1}


def _stem(source: str) -> str:
    """Give what a result's name would begin with."""
    # The label of what is no URL is none either: that item fails, and not the batch.
    path = unquote(urlsplit(_label(source)).path) if "://" in source else source
    return safe_name(Path(path).stem)


def _label(source: str) -> str:
    """Name a source for people: a path may hold what ends the path of a URL."""
    return redact_url(source) if "://" in source else source


async def _upscale_all(
    sources: str | Sequence[str],
    destination: str | RemoteFileSystem,
    upscaler: AnyUpscaler,
    max_in_flight: int,
    options: Options,
) -> BatchReport:
    listed = await in_thread(_expand, sources)
    clashes = _same_names(listed)
    slots = asyncio.Semaphore(max_in_flight)
    stopped: list[errors.TopazError] = []

    async def one(source: str) -> BatchItem:
        label = _label(source)
        if source in clashes:
            reason = "another source of this batch has the same file name: give each its own folder"
            return BatchItem(source=label, error=reason)
        async with slots:
            if stopped:
                return BatchItem(source=label, error="not ordered: the run was cancelled")
            try:
                video = await upscale(source, destination, upscaler, options)
            except errors.TopazError as error:
                if is_persons_cancel(error):
                    stopped.append(error)
                return BatchItem(source=label, error=str(error), billed=error.billed)
            except Exception as error:  # noqa: BLE001  # the others go on when one fails
                reason = f"{type(error).__name__}: run again to find out; the journal knows"
                return BatchItem(source=label, error=reason, billed="maybe")
        return BatchItem(source=label, video=video)

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
    max_in_flight: Annotated[int, Field(ge=1, le=1000)] = 8,
    journal: PlaceParameter | None = None,
    max_cost: Positive | None = None,
    deadline_seconds: Positive = DEADLINE,
    poll_seconds: Positive | None = None,
    cancel_on_timeout: bool = False,
    verify: Verify = "standard",
    overwrite: bool = False,
) -> BatchReport:
    """Upscale many videos into a folder; the others go on when one fails.

    Each new or changed video is bought once; run it on a schedule to keep a folder upscaled.

    Args:
        sources: A glob such as clips/*.mp4, or a list of URLs, paths and globs.
        destination: A folder, as an fsspec URL or path; or a RemoteFileSystem block.
        upscaler: What is ordered, and who pays.
        max_in_flight: How many videos are worked on at once.
        journal: Another place for the journal than .topaz at the destination.
        max_cost: US dollars that each video may cost at most.
        deadline_seconds: Seconds to wait for each video at most.
        poll_seconds: Seconds between looks to begin with; empty for what the provider advises.
        cancel_on_timeout: Whether a job is cancelled when that time has passed.
        verify: How strict the results are compared with the order.
        overwrite: Whether other files at the destination may be replaced.

    Returns:
        How each video ended; a table artifact shows the same.
    """
    options = Options(
        journal=journal,
        max_cost=max_cost,
        deadline_seconds=deadline_seconds,
        poll_seconds=poll_seconds,
        cancel_on_timeout=cancel_on_timeout,
        verify=verify,
        overwrite=overwrite,
    )
    return await _upscale_all(sources, destination, upscaler, max_in_flight, options)


@flow(name="upscale-videos", **HOOKS)
def upscale_videos(
    sources: str | list[str],
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    *,
    max_in_flight: Annotated[int, Field(ge=1, le=1000)] = 8,
    journal: PlaceParameter | None = None,
    max_cost: Positive | None = None,
    deadline_seconds: Positive = DEADLINE,
    poll_seconds: Positive | None = None,
    cancel_on_timeout: bool = False,
    verify: Verify = "standard",
    overwrite: bool = False,
) -> BatchReport:
    """Upscale many videos into a folder; the others go on when one fails.

    Each new or changed video is bought once; run it on a schedule to keep a folder upscaled.

    Args:
        sources: A glob such as clips/*.mp4, or a list of URLs, paths and globs.
        destination: A folder, as an fsspec URL or path; or a RemoteFileSystem block.
        upscaler: What is ordered, and who pays.
        max_in_flight: How many videos are worked on at once.
        journal: Another place for the journal than .topaz at the destination.
        max_cost: US dollars that each video may cost at most.
        deadline_seconds: Seconds to wait for each video at most.
        poll_seconds: Seconds between looks to begin with; empty for what the provider advises.
        cancel_on_timeout: Whether a job is cancelled when that time has passed.
        verify: How strict the results are compared with the order.
        overwrite: Whether other files at the destination may be replaced.

    Returns:
        How each video ended; a table artifact shows the same.
    """
    options = Options(
        journal=journal,
        max_cost=max_cost,
        deadline_seconds=deadline_seconds,
        poll_seconds=poll_seconds,
        cancel_on_timeout=cancel_on_timeout,
        verify=verify,
        overwrite=overwrite,
    )
    return run_blocking(_upscale_all(sources, destination, upscaler, max_in_flight, options))


def _tell(report: BatchReport) -> None:
    get_run_logger().info(
        "%d of %d videos are there, %d failed",
        len(report.stored),
        len(report.items),
        len(report.failed),
    )
