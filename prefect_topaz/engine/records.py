"""What a record says, as the steps hand it on."""

from __future__ import annotations

from prefect_topaz import errors
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Cost, Place, UpscaleJob


async def read_bought(journal: Journal, job: UpscaleJob) -> Record:
    """Read the record of a job that is bought.

    Raises:
        JournalUnavailable: If it cannot be read; unlike before a purchase, the job is paid for.
    """
    try:
        return await journal.read(job.work_key)
    except errors.JournalUnavailable as error:
        error.job_id, error.billed = ", ".join(job.job_ids) or None, "yes"
        raise


def ids_of(record: Record) -> str:
    """Name the jobs of a record, for people."""
    submitted = record.latest("submitted")
    return ", ".join(submitted.job_ids) if submitted and submitted.job_ids else "without an id"


def job_of(
    record: Record, journal: Place, destination: Place | None = None, *, reattached: bool = True
) -> UpscaleJob:
    """Make the job of a record that has one.

    Args:
        record: The record, in any state after `submitted`.
        journal: Where the record is.
        destination: Where the result goes; None for where it was ordered to.
        reattached: Whether the job was found rather than bought.
    """
    intent, submitted = record.latest("intent"), record.latest("submitted")
    assert intent is not None
    assert intent.order is not None
    assert intent.source is not None
    assert intent.destination is not None
    assert submitted is not None
    return UpscaleJob(
        provider=intent.order.provider,
        work_key=record.key,
        job_ids=submitted.job_ids,
        order=intent.order,
        source=intent.source,
        journal=journal,
        destination=destination or intent.destination,
        submitted_at=submitted.at,
        reattached=reattached,
        cost=submitted.cost or Cost(),
        expected_seconds=submitted.expected_seconds,
        warnings=submitted.warnings,
    )


def failure(record: Record, event: Event | None = None) -> errors.TopazError:
    """Make the error of a job that ended without a result.

    Args:
        record: The record of the job.
        event: How it ended; None for the record's last event.
    """
    event = event or record.last
    kind = errors.JobCancelled if event.kind == "cancelled" else errors.JobFailed
    step = "to buy this work again on purpose, run with a higher `again`"
    if event.billed == "no":
        step = "nothing was charged: run again to order it anew"
    ids = ", ".join(one.job_id for one in event.results) or ids_of(record)
    return kind(
        f"job {ids} {event.kind}: {event.reason}; {step}",
        job_id=ids,
        work_key=record.key,
        billed=event.billed,
    )
