"""Wait for a bought job with few, patient looks; and cancel it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from prefect_topaz import errors
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.records import failure, read_bought
from prefect_topaz.engine.staging import remove
from prefect_topaz.journal import Journal, Record
from prefect_topaz.models import FinishedUpscale, JobStatus, Place, UpscaleJob
from prefect_topaz.outcomes import CancelOutcome
from prefect_topaz.pace import looks
from prefect_topaz.transport import read_retry_after

DEADLINE: Final = 6 * 3600.0  # seconds
_GRACE: Final = 120.0  # seconds after the submit in which a job may not be listed yet
_MISSES: Final = 4  # looks in a row by which a job is not known
# How the one generation of the blocking endpoint ended, which has no id to ask for.
_ANSWERED: Final = JobStatus(job_id="", phase="succeeded", word="answered at once", billed="yes")

OnLook = Callable[[JobStatus], Awaitable[None]]


@dataclass
class _Watch:
    """What was seen so far. Private to this module."""

    seen: dict[str, JobStatus] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    not_before: float = 0.0


async def wait(
    context: Context,
    job: UpscaleJob,
    *,
    deadline: float = DEADLINE,
    pace: float | None = None,
    on_look: OnLook | None = None,
) -> FinishedUpscale:
    """Wait until a job has ended. No failure to look ends the wait, except a refused key.

    Args:
        context: Who waits.
        job: The job.
        deadline: Seconds to wait at most, from now.
        pace: Seconds between looks to begin with; None for what the provider advises, after a
            first look at a fraction of the time that it said the job takes.
        on_look: Told of every status that was read.

    Raises:
        StillRunning: If the deadline passed. The job runs on; run again to go on waiting.
        AccessLost: If the provider refuses the key. The job is kept.
        JobFailed: If no generation succeeded.
        JobCancelled: If it was cancelled.
        JobLost: If the provider no longer knows it.
    """
    journal = context.journal(job.journal)
    record = await read_bought(journal, job)
    record = await remove(context, journal, record, *_places(job))
    if record.state == "failed":
        raise failure(record)
    if (finished := record.latest("finished")) is not None:
        return FinishedUpscale(job=job, results=finished.results, finished_at=finished.at)
    if not job.job_ids:
        return await _finish(context, journal, job, (_ANSWERED,))
    start, watch = context.monotonic(), _Watch()
    waited = (context.client.now() - job.submitted_at).total_seconds()
    advised = context.client.dialect.poll_seconds
    expected = job.expected_seconds if pace is None else None
    for delay in looks(pace or advised, expected=expected, waited=max(waited, 0.0)):
        left = start + deadline - context.monotonic()
        if left <= 0:
            raise _still_running(job, watch, deadline)
        asked = max(watch.not_before - context.monotonic(), 0.0)
        await context.client.sleep(min(max(delay * context.client.jitter(), asked), left))
        await _look_at_all(context, job, watch, on_look)
        if all(job_id in watch.seen and watch.seen[job_id].is_final for job_id in job.job_ids):
            break
    return await _finish(context, journal, job, tuple(watch.seen[i] for i in job.job_ids))


async def look(context: Context, job: UpscaleJob) -> FinishedUpscale | None:
    """Look at a job once, and write down its end if it has come.

    Returns:
        The finished job, or None if it runs on.

    Raises:
        TopazError: As `wait` does.
    """
    watch, journal = _Watch(), context.journal(job.journal)
    if not job.job_ids:
        return await _finish(context, journal, job, (_ANSWERED,))
    await _look_at_all(context, job, watch, None)
    if not all(job_id in watch.seen and watch.seen[job_id].is_final for job_id in job.job_ids):
        return None
    results = tuple(watch.seen[job_id] for job_id in job.job_ids)
    return await _finish(context, journal, job, results)


async def _look_at_all(
    context: Context, job: UpscaleJob, watch: _Watch, on_look: OnLook | None
) -> None:
    for job_id in job.job_ids:
        if job_id in watch.seen and watch.seen[job_id].is_final:
            continue
        try:
            status = await context.client.status(job_id, attempts=1)
        except (errors.Unauthorized, errors.AccessDenied) as error:
            raise errors.AccessLost(
                f"{error.message}; job {job_id} is kept: mend the key and run again, which buys"
                " nothing",
                job_id=job_id,
                work_key=job.work_key,
            ) from None
        except errors.NotFound:
            found = await _missing(context, job, job_id, watch)
            if found is None:
                continue
            status = found
        except errors.TopazError as error:
            _note_trouble(context, watch, error)
            continue
        watch.misses.pop(job_id, None)
        _note_word(context, watch, status)
        watch.seen[job_id] = status
        if on_look is not None:
            await on_look(status)


async def _missing(
    context: Context, job: UpscaleJob, job_id: str, watch: _Watch
) -> JobStatus | None:
    """Bear with a job that is not listed (yet), ask the history, and only then call it lost."""
    watch.misses[job_id] = watch.misses.get(job_id, 0) + 1
    age = (context.client.now() - job.submitted_at).total_seconds()
    if age < _GRACE or watch.misses[job_id] < _MISSES:
        return None
    try:
        found = await context.client.details(job_id)
    except errors.TopazError as error:
        _note_trouble(context, watch, error)
        return None
    if found is not None:
        return found
    raise errors.JobLost(
        f"{job.provider} no longer knows job {job_id}, which it accepted: ask its support what"
        " became of it; to buy this work again on purpose, run with a higher `again`",
        job_id=job_id,
        work_key=job.work_key,
    )


def _note_trouble(context: Context, watch: _Watch, error: errors.TopazError) -> None:
    """Say each kind of trouble once, and look no earlier than the server asks."""
    kind = type(error).__name__
    if kind not in watch.told:
        watch.told.add(kind)
        context.log(f"a look failed and will be repeated, the job is safe: {error.message}")
    asked = read_retry_after(error.retry_after, context.client.now())
    if asked is not None:
        watch.not_before = context.monotonic() + asked


def _note_word(context: Context, watch: _Watch, status: JobStatus) -> None:
    if status.phase == "unknown" and status.word not in watch.told:
        watch.told.add(status.word)
        context.log(f"job {status.job_id}: unknown status {status.word!r}, waiting on")


def _still_running(job: UpscaleJob, watch: _Watch, deadline: float) -> errors.StillRunning:
    ids = ", ".join(job.job_ids)
    words = ", ".join(sorted({status.word for status in watch.seen.values()})) or "not seen"
    return errors.StillRunning(
        f"job {ids} at {job.provider} has not ended within {deadline:g} s (status: {words}). It was"
        " not cancelled: run again to go on waiting, which buys nothing",
        job_id=ids,
        work_key=job.work_key,
    )


async def _finish(
    context: Context, journal: Journal, job: UpscaleJob, results: tuple[JobStatus, ...]
) -> FinishedUpscale:
    """Write down how the job ended."""
    record = await read_bought(journal, job)
    if any(one.phase == "succeeded" for one in results):
        event = context.event("finished", attempt=record.attempt, results=results)
        ended = await context.insist(journal, record, event, still=_awaits(job))
        await remove(context, journal, ended, *_places(job))
        return FinishedUpscale(job=job, results=results, finished_at=event.at)
    cancelled = all(one.phase == "cancelled" for one in results)
    reasons = {f"{one.error or one.word} {f'({one.code})' if one.code else ''}" for one in results}
    event = context.event(
        "cancelled" if cancelled else "failed",
        attempt=record.attempt,
        results=results,
        reason="; ".join((*sorted(reasons), *job.warnings)).strip(),
        billed=_billed(job, results),
    )
    ended = await context.insist(journal, record, event, still=_awaits(job))
    await remove(context, journal, ended, *_places(job))
    raise failure(ended, event)


def _places(job: UpscaleJob) -> tuple[Place, ...]:
    """List the places of a job, whose settings may open the store of a staged copy."""
    return tuple(one for one in (job.staging, job.destination, job.journal) if one is not None)


def _awaits(job: UpscaleJob) -> Callable[[Record], bool]:
    """Tell whether a record still waits for this very job.

    Many runs may wait for one job. After a failure that cost nothing the first of them may have
    bought anew, and the others must not write that new purchase off as failed.
    """

    def awaits(record: Record) -> bool:
        submitted = record.latest("submitted")
        return (
            record.state in ("submitted", "unknown")
            and submitted is not None
            and submitted.attempt == record.attempt
            and set(submitted.job_ids) == set(job.job_ids)
        )

    return awaits


def _billed(job: UpscaleJob, results: tuple[JobStatus, ...]) -> errors.Billed:
    kinds = {one.billed for one in results}
    if "yes" in kinds:
        return "yes"
    # An order that was sent twice may have made another job, which has not failed.
    return "no" if kinds == {"no"} and not job.warnings else "maybe"


async def cancel(context: Context, job: UpscaleJob) -> CancelOutcome:
    """Cancel a job at the provider, and write down what became of it.

    Returns:
        The outcome. A job that succeeded meanwhile is paid: it can still be waited for and stored.
    """
    outcomes = [await context.client.cancel(job_id) for job_id in job.job_ids]
    if not outcomes:
        reply = "the blocking endpoint has answered already"
        return CancelOutcome(outcome="already_finished", job_id="", reply=reply)
    journal = context.journal(job.journal)
    record = await read_bought(journal, job)
    if all(one.outcome == "cancelled" for one in outcomes):
        event = context.event(
            "cancelled", attempt=record.attempt, billed="maybe", reason="cancelled on request"
        )
        ended = await context.insist(journal, record, event, still=_awaits(job))
        await remove(context, journal, ended, *_places(job))
    if len(outcomes) == 1:
        return outcomes[0]
    kinds = {one.outcome for one in outcomes}
    return CancelOutcome(
        outcome=kinds.pop() if len(kinds) == 1 else "unknown",
        job_id=", ".join(job.job_ids),
        reply="; ".join(f"{one.job_id}: {one.outcome} ({one.reply})" for one in outcomes),
    )
