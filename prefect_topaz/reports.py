"""What the Prefect UI shows of an upscale: progress that moves, a summary, a link, a table."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_logger

from prefect_topaz.models import JobStatus, Place, Receipt, StoredVideo, UpscaleJob
from prefect_topaz.outcomes import BatchReport, SettleReport
from prefect_topaz.places import in_thread, open_file
from prefect_topaz.transport import describe

OnLook = Callable[[JobStatus], Awaitable[None]]

# Providers without a percentage: what the phases stand for.
_BY_PHASE: Final = {"queued": 5.0, "processing": 50.0, "succeeded": 100.0}
_EVERY: Final = 5.0  # seconds between updates, so that a thousand jobs do not flood the server


def _in_run() -> bool:
    return bool(FlowRunContext.get() or TaskRunContext.get())


async def _quietly(report: Awaitable[Any]) -> Any:
    """Report, but never fail a paid job over it."""
    try:
        return await report
    except Exception as error:  # noqa: BLE001  # no report is worth a paid result
        get_logger("prefect_topaz").warning("a report failed: %s", describe(error))
        return None


@asynccontextmanager
async def progress(job: UpscaleJob) -> AsyncIterator[OnLook]:
    """Show a job's progress while it is awaited, as an artifact that moves."""
    artifact: UUID | None = None
    shown: dict[str, float] = {}
    next_update = 0.0
    if _in_run():
        ids = ", ".join(job.job_ids) or "without an id"
        artifact = await _quietly(
            acreate_progress_artifact(
                progress=0.0,
                key=f"topaz-progress-{job.work_key[:12]}",
                description=f"{job.source.label}: {job.order.label} at {job.provider}, job {ids}",
            )
        )

    async def on_look(status: JobStatus) -> None:
        nonlocal next_update
        value = status.progress
        if value is None:  # a word that nobody documents moves nothing
            value = _BY_PHASE.get(status.phase, shown.get(status.job_id, 0.0))
        shown[status.job_id] = 100.0 if status.is_final else min(max(value, 0.0), 100.0)
        if artifact is None or (time.monotonic() < next_update and not status.is_final):
            return
        next_update = time.monotonic() + _EVERY
        mean = sum(shown.values()) / max(len(job.job_ids), 1)
        await _quietly(aupdate_progress_artifact(artifact_id=artifact, progress=round(mean, 1)))

    yield on_look
    if artifact is not None and not shown:
        # Nothing was left to look at: the job had ended before.
        await _quietly(aupdate_progress_artifact(artifact_id=artifact, progress=100.0))


async def report_video(video: StoredVideo, place: Place) -> None:
    """Show a stored video: a summary with its picture, and a link.

    Args:
        video: What was stored.
        place: Where, with the store's settings.
    """
    key = video.work_key[:12]
    for number, one in enumerate((video, *video.others), start=1):
        suffix = f"-{number}" if number > 1 else ""
        receipt, picture = await in_thread(_read_back, one, place)
        await _quietly(
            acreate_markdown_artifact(
                markdown=summary(one, receipt, picture),
                key=f"topaz-{key}{suffix}",
                description=f"Upscaled video {one.url}",
            )
        )
        await _quietly(
            acreate_link_artifact(
                link=one.url if "://" in one.url else f"file://{one.url}",
                link_text=one.url,
                key=f"topaz-video-{key}{suffix}",
                description="The upscaled video",
            )
        )


def _read_back(video: StoredVideo, place: Place) -> tuple[Receipt | None, bytes | None]:
    """Read receipt and picture; without them the summary is shorter."""
    try:
        receipt = Receipt.model_validate_json(open_file(place, video.receipt_url))
    except Exception:  # noqa: BLE001  # as `_quietly`
        receipt = None
    try:
        picture = open_file(place, video.preview_url) if video.preview_url else None
    except Exception:  # noqa: BLE001  # as `_quietly`
        picture = None
    return receipt, picture


def summary(video: StoredVideo, receipt: Receipt | None, picture: bytes | None) -> str:
    """Write the summary of a stored video as markdown."""
    rows = {"Result": f"`{video.url}`"}
    if receipt is not None:
        media = receipt.source.media
        before = f" ({media.width}x{media.height})" if media else ""
        rows["Source"] = f"`{receipt.source.label}`{before}"
        options = ", ".join(f"{name}={value}" for name, value in receipt.order.options.items())
        rows["Order"] = f"{receipt.order.model}: {options}"
    rate = "unknown" if video.fps is None else f"{video.fps:g}"
    length = "unknown" if video.duration is None else f"{video.duration:.2f} s"
    rows |= {
        "Frame size": f"{video.width}x{video.height}, {rate} fps, {length}",
        "Sound": "yes" if video.has_audio else "no",
        "Provider": video.provider,
        "Job": f"`{video.job_id}`" if video.job_id else "without an id",
        "Cost": str(video.cost) + (" - found, nothing was bought now" if video.cached else ""),
        "File": f"{video.bytes:,} bytes, sha256 `{video.sha256}`",
        "Receipt": f"`{video.receipt_url}`",
    }
    lines = [
        f"# {video.url.rpartition('/')[2]}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in rows.items()),
        *(f"\n> **Warning:** {warning}" for warning in video.warnings),
    ]
    if picture is not None:
        # Inside the artifact the picture never expires and needs no public address.
        data = base64.b64encode(picture).decode()
        lines += ["", f"![before | after | difference](data:image/jpeg;base64,{data})"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


async def report_batch(report: BatchReport, key: str) -> None:
    """Show how a batch ended, as a table."""
    table = [
        {
            "source": item.source,
            "outcome": "failed" if item.error else "found" if _cached(item.video) else "bought",
            "result": item.video.url if item.video else "",
            "cost": str(item.video.cost) if item.video else f"billed: {item.billed}",
            "error": item.error or "",
        }
        for item in report.items
    ]
    await _quietly(acreate_table_artifact(table=table, key=key, description="Upscaled videos"))


def _cached(video: StoredVideo | None) -> bool:
    return video is not None and video.cached


async def report_settlement(report: SettleReport, key: str) -> None:
    """Show what a journal held, as a table: undecided work with its exact next step."""
    table = [
        {
            "source": item.source,
            "state": item.state,
            "billed": item.billed,
            "cost": str(item.cost or "unknown"),
            "jobs": ", ".join(item.job_ids),
            "detail": item.detail,
            "work key": item.work_key,
        }
        for item in report.items
    ]
    if report.abandoned:
        # One row more in the shape of the others, because a table has no foot.
        total = {
            "source": f"{len(report.abandoned)} abandoned",
            "state": "sum",
            "billed": "maybe",
            "cost": report.abandoned_cost,
        }
        table.append(dict.fromkeys(table[0], "") | total)
    await _quietly(acreate_table_artifact(table=table, key=key, description="Settled upscales"))
