"""Why a flow run is ended: the flow run's state at the API knows, and no exception does.

A person's cancel is written there before the signal is sent; a run set to Cancelled directly is
sent no signal, so a wait looks now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

import anyio
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler

from prefect_topaz import engine
from prefect_topaz.engine.waiting import OnLook
from prefect_topaz.models import JobStatus
from prefect_topaz.transport import describe

# Seconds to ask why, and to send the log.
_ASK: Final = 5.0
_SEND: Final = 3.0
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
        if run.state is not None and by_a_person(run.state):
            return Reason(cancelled=True, said=word)
        said = said or word
        if run.parent_task_run_id is None:
            return Reason(cancelled=False, said=said)
        above = (await client.read_task_run(run.parent_task_run_id)).flow_run_id
        if above is None:
            return Reason(cancelled=False, said=said)
        flow_run_id = above


def by_a_person(state: State) -> bool:
    """Tell a person's cancel from that of a runner which is stopped, for a redeploy say."""
    stopped = (state.message or "").startswith(_SHUTDOWN)
    return (state.is_cancelling() or state.is_cancelled()) and not stopped


class RunCancelled(Exception):
    """The own flow run was cancelled, and no signal came."""


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
        self._asked: Future[Reason] | None = None
        self._leaving = 0

    async def why(self) -> Reason:
        """Ask why the run is ended: one question for all the waits that are ended with it.

        A thousand questions at once are a thousand connections, and their answers come too late.
        """
        if self._cancelled is not None:
            return self._cancelled
        if self._asked is not None:
            # The waits may be on two loops, and none of them takes the answer from the others.
            with anyio.CancelScope(shield=True):
                return await asyncio.shield(asyncio.wrap_future(self._asked))
        asked = self._asked = Future()
        reason = Reason(cancelled=False, said="the question was interrupted")
        try:
            reason = await self._ask(self._flow_run_id)
        finally:
            self._asked = None
            asked.set_result(reason)
        self._cancelled = reason if reason.cancelled else None
        return reason

    @contextlib.asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        """Send what was logged once the last of the waits has left.

        Prefect sends the log every two seconds, and a process that ends by a signal does not wait.
        """
        self._leaving += 1
        try:
            yield
        finally:
            self._leaving -= 1
            if not self._leaving and self._flow_run_id is not None:
                # Whatever becomes of the log, the interrupt goes on.
                with contextlib.suppress(Exception), anyio.move_on_after(_SEND, shield=True):
                    await APILogHandler.aflush()

    async def check(self) -> None:
        """Ask if it is time to.

        Raises:
            RunCancelled: If the run was cancelled.
        """
        if self._flow_run_id is not None and self._monotonic() >= self._next:
            # The next time is set before the answer: all who wait in this run share one question.
            self._next = self._monotonic() + _EVERY
            await self.why()
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


def lookout_of(context: engine.Context) -> Lookout:
    """Give the lookout of a flow run: a thousand waits of one run share it."""
    run = context.flow_run_id or ""
    found = _lookouts.get(run)
    if found is None:
        found = _lookouts[run] = Lookout(context.flow_run_id, context.monotonic)
    return found
