"""What becomes of a job when the wait for it is ended.

Only a person's cancel ends the paid job. A restart or an eviction leaves it, because the next run
goes on with it; so does a time-out, unless the caller asked for the other thing.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

import anyio
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import CancelledRun, TerminationSignal

from prefect_topaz import engine
from prefect_topaz.engine.waiting import OnLook, look
from prefect_topaz.errors import JobCancelled, StillRunning, TopazError
from prefect_topaz.http import connections
from prefect_topaz.lookout import Lookout, Reason, RunCancelled, lookout_of
from prefect_topaz.models import FinishedUpscale, UpscaleJob
from prefect_topaz.outcomes import CancelOutcome
from prefect_topaz.transport import describe

# What ends a process or a task from outside, in async code and in sync code.
_INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt, TerminationSignal)
# Seconds to cancel: with the question before it within the 30 that Prefect gives before it kills.
_ACT: Final = 15.0


async def wait(
    context: engine.Context,
    job: UpscaleJob,
    *,
    deadline: float,
    pace: float | None,
    on_look: OnLook | None,
    cancel_on_timeout: bool,
) -> FinishedUpscale:
    """Wait as `engine.wait` does, and see to the job if the wait is ended from outside.

    Raises:
        JobCancelled: Also if the flow run was set to Cancelled, or the deadline passed and
            `cancel_on_timeout` is set, and the job was cancelled therefore.
        StillRunning: The same, where the job could not be cancelled.
    """
    lookout = lookout_of(context)
    try:
        try:
            return await engine.wait(
                context, job, deadline=deadline, pace=pace, on_look=lookout.over(on_look)
            )
        except StillRunning:
            if not cancel_on_timeout:
                raise
        except RunCancelled as reason:
            error = _ended(job, await cancel_job(context, job), str(reason))
            context.log(error.message)
            # The cause tells a person's cancel apart; see `is_persons_cancel`.
            raise error from CancelledRun(str(reason))
        return await _timed_out(context, job, deadline)
    except _INTERRUPTS:
        async with lookout.leaving():
            await _interrupted(context, job, await _why(context, lookout, cancel_on_timeout))
        raise


async def _why(context: engine.Context, lookout: Lookout, cancel_on_timeout: bool) -> Reason:
    """Ask why the wait was interrupted; a time-out counts as a wish to cancel if that was asked."""
    passed = _passed(context.client.now()) if cancel_on_timeout else None
    return Reason(cancelled=True, said=passed) if passed else await lookout.why()


async def _interrupted(context: engine.Context, job: UpscaleJob, reason: Reason) -> None:
    if reason.cancelled:
        outcome = await cancel_job(context, job)
        context.log(f"{reason.said}: {aftermath(job, outcome)}")
        return
    context.log(
        f"the wait was interrupted and nobody cancelled it ({reason.said}): {name(job)} is left"
        " to run; the next run goes on with it, which buys nothing"
    )


def _passed(now: datetime) -> str | None:
    """Name Prefect's time-out that has passed, the task run's own or its flow run's."""
    task, flow = TaskRunContext.get(), FlowRunContext.get()
    limits = (
        ("task run", task.task.timeout_seconds if task else None, task),
        ("flow run", flow.flow.timeout_seconds if flow and flow.flow else None, flow),
    )
    for what, limit, run in limits:
        if limit and run and (now - run.start_time).total_seconds() >= limit:
            return f"the {what} has not ended within {limit:g} s"
    return None


async def _timed_out(context: engine.Context, job: UpscaleJob, deadline: float) -> FinishedUpscale:
    outcome = await cancel_job(context, job)
    if outcome.outcome == "already_finished" and (done := await look(context, job)) is not None:
        return done
    raise _ended(job, outcome, f"the job has not ended within {deadline:g} s")


def _ended(job: UpscaleJob, outcome: CancelOutcome, why: str) -> TopazError:
    """Make the error of a wait that was ended on purpose."""
    unpaid = outcome.outcome == "already_finished" and outcome.phase in ("failed", "cancelled")
    kind = JobCancelled if unpaid or outcome.outcome == "cancelled" else StillRunning
    return kind(
        f"{why}: {aftermath(job, outcome)}", job_id=", ".join(job.job_ids), work_key=job.work_key
    )


def is_persons_cancel(error: BaseException) -> bool:
    """Tell whether an error ended a wait because a person cancelled its flow run."""
    return isinstance(error.__cause__, CancelledRun)


async def cancel_job(
    context: engine.Context, job: UpscaleJob, seconds: float = _ACT
) -> CancelOutcome:
    """Cancel a job within so many seconds, and never fail over it."""
    reply = f"no answer within {seconds:g} s"
    with anyio.move_on_after(seconds, shield=True):
        try:
            async with connections():
                return await engine.cancel(context, job)
        except Exception as error:  # noqa: BLE001  # the interrupt goes on whatever became of it
            reply = describe(error)
    return CancelOutcome(outcome="unknown", job_id=", ".join(job.job_ids), reply=reply)


def name(job: UpscaleJob) -> str:
    """Name a job for people."""
    return f"job {', '.join(job.job_ids) or 'without an id'} at {job.provider}"


def aftermath(job: UpscaleJob, outcome: CancelOutcome) -> str:
    """Say what became of a wish to cancel a job, and the next step."""
    claim = "settle_upscales or the next run stores its result"
    if outcome.outcome == "cancelled":
        return f"{name(job)} was cancelled; whether it is charged is not documented"
    if outcome.outcome == "not_supported":
        return f"{name(job)} cannot be cancelled, it runs on and is charged; {claim}"
    if outcome.outcome == "unknown":
        return (
            f"{name(job)} was asked to stop, and what became of it is not known ({outcome.reply});"
            f" if it runs on, {claim}"
        )
    if outcome.phase in ("failed", "cancelled"):
        return f"{name(job)} had ended without a result ({outcome.phase})"
    return f"{name(job)} succeeded in spite of the cancel and is paid; {claim}"
