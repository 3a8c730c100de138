"""Why a wait is ended, and what becomes of the job that it waits for.

An interrupt does not say why it comes, but the flow run's state at the API does: a person's cancel
is written there before the signal is sent. Only a person's cancel ends the paid job. A restart, an
eviction or a time-out leaves it, because the next run goes on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

import anyio
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, TerminationSignal

from prefect_topaz import engine
from prefect_topaz.engine.waiting import OnLook, look
from prefect_topaz.errors import JobCancelled, StillRunning, TopazError
from prefect_topaz.http import connections
from prefect_topaz.models import FinishedUpscale, JobStatus, UpscaleJob
from prefect_topaz.outcomes import CancelOutcome
from prefect_topaz.transport import describe

# What ends a process or a task from outside, in async code and in sync code.
_INTERRUPTS: Final = (asyncio.CancelledError, KeyboardInterrupt, TerminationSignal)
# Seconds to ask why and to cancel: both within the 30 that Prefect gives before it kills.
_ASK: Final = 5.0
_ACT: Final = 15.0
_EVERY = 30.0  # seconds between looks at the own flow run
_SHUTDOWN: Final = "Runner is shutting down"  # how a stopped runner, and no person, cancels


@dataclass(frozen=True)
class Reason:
    """What the API says about a flow run.

    Args:
        cancelled: Whether a person cancelled it, or a flow run that it is a part of.
        said: Its state, or why that is not known.
    """

    cancelled: bool
    said: str


async def ask(flow_run_id: str | None) -> Reason:
    """Ask the API whether a person cancelled a flow run; it takes five seconds at most."""
    if flow_run_id is None:
        return Reason(cancelled=False, said="there is no flow run")
    said = f"the Prefect API did not answer within {_ASK:g} s"
    # Prefect's time-outs cancel every await again and again: only a shield lets one through.
    with anyio.move_on_after(_ASK, shield=True):
        try:
            async with get_client() as client:
                return await _read(client, UUID(flow_run_id))
        except Exception as error:  # noqa: BLE001  # whatever it is, the paid job is kept
            said = f"the Prefect API gave no answer ({describe(error)})"
    return Reason(cancelled=False, said=said)


async def _read(client: PrefectClient, flow_run_id: UUID) -> Reason:
    """Read the state of a flow run and, as long as nobody cancelled, of those above it."""
    said = ""
    while True:
        run = await client.read_flow_run(flow_run_id)
        word = f"flow run {run.name} is {run.state.name if run.state else 'without a state'}"
        if run.state is not None and _by_a_person(run.state):
            return Reason(cancelled=True, said=word)
        said = said or word
        if run.parent_task_run_id is None:
            return Reason(cancelled=False, said=said)
        above = (await client.read_task_run(run.parent_task_run_id)).flow_run_id
        if above is None:
            return Reason(cancelled=False, said=said)
        flow_run_id = above


def _by_a_person(state: State) -> bool:
    stopped = (state.message or "").startswith(_SHUTDOWN)
    return state.is_cancelling() or (state.is_cancelled() and not stopped)


class RunCancelled(Exception):
    """The own flow run was cancelled, and no signal came. Private to this module."""


class Lookout:
    """Look at the own flow run now and then: a run set to Cancelled directly is sent no signal.

    Args:
        flow_run_id: The flow run.
        monotonic: The clock, in seconds.
        ask: Asks why; see `ask`.
    """

    def __init__(
        self,
        flow_run_id: str | None,
        monotonic: Callable[[], float],
        ask: Callable[[str | None], Awaitable[Reason]] = ask,
    ) -> None:
        self._flow_run_id, self._monotonic, self._ask = flow_run_id, monotonic, ask
        self._next = monotonic() + _EVERY
        self._cancelled: Reason | None = None

    async def check(self) -> None:
        """Ask if it is time to.

        Raises:
            RunCancelled: If the run was cancelled.
        """
        if self._flow_run_id is not None and self._monotonic() >= self._next:
            # The next time is set before the answer: all who wait in this run share one question.
            self._next = self._monotonic() + _EVERY
            reason = await self._ask(self._flow_run_id)
            self._cancelled = reason if reason.cancelled else None
        if self._cancelled is not None:
            raise RunCancelled(self._cancelled.said)

    def over(self, on_look: OnLook | None) -> OnLook:
        """Check at every look at a job that runs on, and tell `on_look` of it."""

        async def both(status: JobStatus) -> None:
            if on_look is not None:
                await on_look(status)
            if not status.is_final:  # a job that has ended is paid: it is delivered
                await self.check()

        return both


_lookouts: WeakValueDictionary[str, Lookout] = WeakValueDictionary()


def _lookout(context: engine.Context) -> Lookout:
    """Give the lookout of a flow run: a thousand waits of one run share it."""
    run = context.flow_run_id or ""
    found = _lookouts.get(run)
    if found is None:
        found = _lookouts[run] = Lookout(context.flow_run_id, context.monotonic)
    return found


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
    lookout = _lookout(context)
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
        await _interrupted(context, job)
        raise


async def _interrupted(context: engine.Context, job: UpscaleJob) -> None:
    reason = await ask(context.flow_run_id)
    if reason.cancelled:
        outcome = await cancel_job(context, job)
        context.log(f"{reason.said}: {aftermath(job, outcome)}")
        return
    context.log(
        f"the wait was interrupted and nobody cancelled it ({reason.said}): {name(job)} is left"
        " to run; the next run goes on with it, which buys nothing"
    )


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
