"""Look at a result before it gets a name: is it the video that was ordered?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefect_topaz import errors
from prefect_topaz.delivery import publish, publish_bytes
from prefect_topaz.download import Fetched
from prefect_topaz.engine.context import Context
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.media import (
    Comparison,
    NotAVideo,
    Picture,
    Verdict,
    check_complete,
    compare,
    compare_frames,
    join,
    preview,
    probe,
)
from prefect_topaz.models import FinishedUpscale, JobStatus, MediaFacts, Source, Verify
from prefect_topaz.places import Folder, in_thread, url_of
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
        source: The source, for the comparison and the preview; None if nobody has it any more.
        look_again: Whether a result that was rejected is fetched and looked at once more.
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
    look_again: bool

    @property
    def key(self) -> str:
        """The work key."""
        return self.finished.job.work_key


@dataclass(frozen=True)
class Checked:
    """What is known of a result that may be published.

    Args:
        facts: Its facts.
        warnings: What differs without making it useless.
        rows: The compared frames, for the preview.
    """

    facts: MediaFacts
    warnings: tuple[str, ...] = ()
    rows: tuple[tuple[Picture, Picture], ...] = ()


async def verify(one: Delivery, fetched: Fetched) -> Checked:
    """Compare a file with the order, and its frames with the source's.

    Raises:
        ResultMismatch: If it is not what was ordered; it is kept beside the journal.
    """
    try:
        checked, mismatches = await in_thread(_examine, one, fetched.path)
    except NotAVideo as error:
        checked, mismatches = Checked(_UNKNOWN), (f"it is not a video: {error}",)
    if mismatches and one.verify == "off":
        return Checked(checked.facts, (f"not verified: {'; '.join(mismatches)}",))
    if mismatches:
        raise await _set_aside(one, fetched, checked, mismatches)
    return checked


def _examine(one: Delivery, file: Path) -> tuple[Checked, tuple[str, ...]]:
    job = one.finished.job
    facts = probe(file)
    incomplete = check_complete(file)
    ordered = compare(facts, job.order.expected(job.source.media), verify=one.verify)
    mismatches = (*ordered.mismatches, *((incomplete,) if incomplete else ()))
    if one.verify == "off":
        return Checked(facts, ordered.warnings), mismatches
    frames = _compare_frames(one, file, facts)
    warnings = (*ordered.warnings, *frames.verdict.warnings)
    return Checked(facts, warnings, frames.rows), (*mismatches, *frames.verdict.mismatches)


def _compare_frames(one: Delivery, file: Path, facts: MediaFacts) -> Comparison:
    """Compare the frames; a source that cannot be read any more is no fault of the result."""
    bought = one.finished.job.source
    if one.source is None:
        reason = "it is not at hand"
    elif _is_changed(bought, one.source.facts):
        reason = "it was changed since the job was submitted"
    else:
        try:
            with one.source.opened() as before:
                return compare_frames(before, file, facts, bought.media, verify=one.verify)
        except Exception as error:  # noqa: BLE001  # stores raise what they like
            reason = describe(error)
    warning = f"the pictures were not compared with the source: {reason}"
    return Comparison(Verdict(warnings=(warning,)))


def _is_changed(bought: Source, now: Source) -> bool:
    # Opened again by its known identity, it may have that one behind the name of its place.
    renamed = not now.identity.endswith(bought.identity)
    return renamed or (bought.media is not None and now.media != bought.media)


async def _set_aside(
    one: Delivery, fetched: Fetched, checked: Checked, mismatches: tuple[str, ...]
) -> errors.ResultMismatch:
    """Keep a result that is not what was ordered: it is paid for, and it is evidence."""
    place = one.journal.place(one.key)
    name = f"rejected-{one.name}"
    await in_thread(publish, fetched.path, place, name)
    record = await one.journal.read(one.key)
    event = one.context.event(
        "mismatch",
        attempt=record.attempt,
        job_ids=(one.status.job_id,),
        reason="; ".join(mismatches),
        held=(name,),
        billed="yes",
    )
    await one.context.insist(one.journal, record, event)
    if checked.rows:
        await in_thread(_show, one, place, name, lambda: join(checked.rows))
    return mismatch(one, event)


def rejection(one: Delivery) -> Event | None:
    """Find how a result was put aside before, wherever it was meant to go."""
    for event in reversed(one.record.events):
        ours = event.attempt == one.record.attempt and one.status.job_id in event.job_ids
        if event.kind == "mismatch" and ours:
            return event
    return None


def mismatch(one: Delivery, event: Event) -> errors.ResultMismatch:
    """Say what is wrong with a result that was put aside, and what to do."""
    place = one.journal.place(one.key)
    where = url_of(place.fs, place.file(event.held[0]))
    return errors.ResultMismatch(
        f"the result of job {one.status.job_id or 'without an id'} is not what was ordered:"
        f" {event.reason}. It is kept at {where}, was not published, and is not bought again; look"
        ' at it, and take it with verify="off" or claim it from the provider',
        job_id=one.status.job_id,
        work_key=one.key,
    )


def make_preview(one: Delivery, file: Path, checked: Checked) -> str | None:
    """Publish the picture; a video without one is still a result."""

    def draw() -> bytes:
        return join(checked.rows) if checked.rows else _look_again(one, file)

    return _show(one, one.folder, one.name, draw)


def _show(one: Delivery, folder: Folder, name: str, draw: Callable[[], bytes]) -> str | None:
    try:
        return publish_bytes(draw(), folder, f"{name}.jpg")
    except Exception as error:  # noqa: BLE001  # no trouble with a picture may cost a video
        one.context.log(f"no preview: {describe(error)}")
        return None


def _look_again(one: Delivery, file: Path) -> bytes:
    """Make the picture of a result that was not compared."""
    if one.source is None or one.verify != "off":
        return preview(None, file)
    with one.source.opened() as before:
        return preview(before, file)
