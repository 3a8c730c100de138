"""A slot of Prefect's concurrency limits that is lost ends the run, and leaves the paid job."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, flow, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import FlowRun, State, StateDetails
from prefect.concurrency import _leases
from prefect.concurrency.asyncio import concurrency as aconcurrency
from prefect.concurrency.context import ConcurrencyContext
from prefect.concurrency.sync import concurrency
from prefect.flow_engine import run_flow
from prefect.states import Pending

from prefect_topaz import (
    OxenUpscaler,
    asubmit_upscale,
    aupscale_video,
    await_for_upscale,
    submit_upscale,
    upscale_video,
    wait_for_upscale,
)
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import deletes, reattaches
from tests.prefect.support import FAST, Api, until

FLOWS = {"sync": upscale_video, "async": aupscale_video}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox whose jobs take their time."""
    with Sandbox() as running:
        running.fault("job", "delay", seconds=60)
        yield running


@pytest.fixture
def limit(settings: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A limit whose slots are renewed every second and a half, and not every four minutes."""
    monkeypatch.setattr(_leases, "_RENEWAL_FRACTION", 0.005)
    name = f"topaz-{uuid.uuid4().hex}"
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return name


@dataclass(frozen=True)
class Work:
    """One work whose job takes its time, and who has seen what became of it."""

    api: Api
    sandbox: Sandbox
    upscaler: OxenUpscaler
    url: str
    place: Path

    def is_left(self, run: FlowRun) -> bool:
        """Tell whether a run crashed and left its job, and the next run goes on with that."""
        lines = self.api.logs(run.id, "the wait was interrupted")
        (bought,) = self.sandbox.purchases()
        assert any(bought.job_id in one["message"] for one in lines)
        assert not deletes(self.sandbox)
        assert self.api.ended(run.id)["state_name"] == "Crashed"
        return reattaches(self.url, self.place, self.upscaler, self.sandbox)


@pytest.fixture
def work(oxen: OxenUpscaler, sandbox: Sandbox, clip: Path, tmp_path: Path, api: Api) -> Work:
    return Work(api, sandbox, oxen, sandbox.host(clip), tmp_path)


def lose_once_bought(sandbox: Sandbox) -> None:
    """Give the slots that this run holds back behind its back, once the job is bought."""
    context = ConcurrencyContext.get()
    assert context is not None
    (lease,) = context.cleanup_lease_ids

    def lose() -> None:
        until(sandbox.purchases, "the purchase")
        with get_client(sync_client=True) as client:
            client.release_concurrency_slots_with_lease(lease)

    # Prefect's settings are variables of the context.
    threading.Thread(target=contextvars.copy_context().run, args=(lose,)).start()


def created(of: Flow[..., Any], details: Mapping[str, Any] | None = None) -> FlowRun:
    """Create a run that is about to start, as a worker finds it."""
    state: State[Any] = Pending(state_details=StateDetails(**details or {}))
    with get_client(sync_client=True) as client:
        return client.create_flow_run(of, parameters={}, state=state)


def test_a_lost_slot_leaves_the_job_to_the_next_run(work: Work, limit: str) -> None:
    @flow
    def limited() -> None:
        with concurrency(limit, strict=True):
            lose_once_bought(work.sandbox)
            job = submit_upscale(work.url, work.upscaler, work.place)
            wait_for_upscale(job, work.upscaler, **FAST)

    run = created(limited)
    with pytest.raises(asyncio.CancelledError):
        run_flow(limited, flow_run=run)
    assert work.is_left(run)


def test_a_lost_slot_leaves_the_job_to_the_next_run_in_async_code(work: Work, limit: str) -> None:
    @flow
    async def limited() -> None:
        async with aconcurrency(limit, strict=True):
            lose_once_bought(work.sandbox)
            job = await asubmit_upscale(work.url, work.upscaler, work.place)
            await await_for_upscale(job, work.upscaler, **FAST)

    run = created(limited)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run_flow(limited, flow_run=run))
    assert work.is_left(run)


@pytest.mark.parametrize("colour", FLOWS)
def test_a_deployments_slot_that_is_lost_leaves_the_job(work: Work, colour: str) -> None:
    """The server gives a run of a deployment with `concurrency_limit` its lease in its state."""
    given = {"source": work.url, "destination": work.place, "upscaler": work.upscaler, **FAST}
    run = created(FLOWS[colour], {"deployment_concurrency_lease_id": uuid.uuid4()})
    crash = pytest.raises(asyncio.CancelledError)
    if colour == "sync":
        with crash:
            run_flow(upscale_video, flow_run=run, parameters=given)
    else:
        with crash:
            asyncio.run(run_flow(aupscale_video, flow_run=run, parameters=given))
    assert work.is_left(run)
