"""Look at a result before it gets a name: is it the video that was ordered?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect_topaz import errors
from prefect_topaz.delivery import publish, publish_bytes
from prefect_topaz.download import Fetched
from prefect_topaz.engine.context import Context
from prefect_topaz.journal import Journal, Record
from prefect_topaz.media import NotAVideo, check_complete, compare, preview, probe
from prefect_topaz.models import FinishedUpscale, JobStatus, MediaFacts, Verify
from prefect_topaz.places import Folder, in_thread
from prefect_topaz.sources import OpenSource
from prefect_topaz.transport import describe

_UNKNOWN = MediaFacts(
    width=0, height=0, fps=None, duration=None, has_audio=False, codec="", frames=None
)


@dataclass(frozen=True)
class Delivery:
    """One result on its way. Private to the engine.

    Args:
        context: Who stores.
        finished: The job.
        status: The generation whose result this is.
        journal: Where the record is.
        record: The record as it was read at first.
        folder: Where the result goes.
        name: The result's file name.
        verify: How strict to be.
        overwrite: Whether another file may be replaced.
        source: The source, for the preview.
    """

    context: Context
    finished: FinishedUpscale
    status: JobStatus
    journal: Journal
    record: Record
    folder: Folder
    name: str
    verify: Verify
    overwrite: bool
    source: OpenSource | None

    @property
    def key(self) -> str:
        """The work key."""
        return self.finished.job.work_key


async def verify(one: Delivery, fetched: Fetched) -> tuple[MediaFacts, tuple[str, ...]]:
    """Compare a file with the order.

    Returns:
        Its facts, and what differs without making it useless.

    Raises:
        ResultMismatch: If it is not what was ordered; it is kept beside the journal.
    """
    job = one.finished.job
    try:
        facts = await in_thread(probe, fetched.path)
        incomplete = await in_thread(check_complete, fetched.path)
        verdict = compare(facts, job.order.expected(job.source.media), verify=one.verify)
        mismatches = (*verdict.mismatches, *((incomplete,) if incomplete else ()))
        warnings = verdict.warnings
    except NotAVideo as error:
        facts, warnings = _UNKNOWN, ()
        mismatches = (f"it is not a video: {error}",)
    if mismatches and one.verify == "off":
        return facts, (f"not verified: {'; '.join(mismatches)}",)
    if mismatches:
        raise await _set_aside(one, fetched, mismatches)
    return facts, warnings


async def _set_aside(
    one: Delivery, fetched: Fetched, mismatches: tuple[str, ...]
) -> errors.ResultMismatch:
    """Keep a result that is not what was ordered: it is paid for, and it is evidence."""
    place = one.journal.place(one.key)
    name = f"rejected-{one.name}"
    where = await in_thread(publish, fetched.path, place, name)
    record = await one.journal.read(one.key)
    reason = "; ".join(mismatches)
    event = one.context.event(
        "mismatch",
        attempt=record.attempt,
        job_ids=(one.status.job_id,),
        reason=reason,
        held=(name,),
        billed="yes",
    )
    await one.context.insist(one.journal, record, event)
    return errors.ResultMismatch(
        f"the result of job {one.status.job_id or 'without an id'} is not what was ordered:"
        f" {reason}. It is kept at {where}, was not published, and is not bought again; look at it,"
        ' and take it with verify="off" or claim it from the provider',
        job_id=one.status.job_id,
        work_key=one.key,
    )


def make_preview(one: Delivery, file: Path) -> str | None:
    """Publish the picture; a video without one is still a result."""
    try:
        if one.source is None:
            picture = preview(None, file)
        else:
            with one.source.opened() as before:
                picture = preview(before, file)
        return publish_bytes(picture, one.folder, f"{one.name}.jpg")
    except Exception as error:  # noqa: BLE001  # no trouble with a picture may cost a video
        one.context.log(f"no preview: {describe(error)}")
        return None
