"""What ends a wait inside one process, and what becomes of the job: each layer by itself."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, get_client
from prefect.states import Cancelled, Cancelling

from prefect_topaz import (
    OxenCredentials,
    OxenUpscaler,
    asubmit_upscale,
    aupscale_video,
    aupscale_videos,
    await_for_upscale,
    lookout,
    settle_upscales,
)
from prefect_topaz.lookout import Lookout, Reason, RunCancelled
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import deletes, reattaches
from tests.prefect.support import FAST, until

ASK = f"print(asyncio.run(ask('{uuid4()}')))"


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Collect what an interrupted test left here: a connection left open is that test's fault."""
    gc.collect()
    yield
    gc.collect()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox whose jobs take their time, and tell the truth about it."""
    with Sandbox() as running:
        running.fault("job", "delay", seconds=60)
        yield running


def test_without_a_flow_run_an_interrupt_leaves_the_job(oxen, sandbox, clip, tmp_path) -> None:
    url = sandbox.host(clip)
    run = oxen.trigger(url, f"{tmp_path}/")

    async def interrupted() -> None:
        await asyncio.wait_for(run.await_for_completion(poll_seconds=0.05), 1)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(interrupted())
    assert not deletes(sandbox)
    assert reattaches(url, tmp_path, oxen, sandbox)


@pytest.mark.parametrize("word", [Cancelling, Cancelled])
async def test_an_interrupt_in_a_run_that_a_person_cancelled_cancels_the_job(
    word, oxen, sandbox, clip, tmp_path
) -> None:
    """In a child flow too: a person cancels the run that is shown on top."""
    assert await _interrupted(word(), oxen, sandbox, clip, tmp_path) == "cancelled"
    assert len(deletes(sandbox)) == 1


async def test_a_runner_that_shuts_down_is_no_person(oxen, sandbox, clip, tmp_path) -> None:
    state = Cancelled(message="Runner is shutting down.")
    assert await _interrupted(state, oxen, sandbox, clip, tmp_path) in ("queued", "processing")
    assert not deletes(sandbox)


async def _awaited(sandbox: Sandbox) -> None:
    """Return once a job is bought and looked at."""

    def looked() -> bool:
        return any(job_id in one.path for job_id in sandbox.jobs for one in sandbox.requests())

    await asyncio.to_thread(until, looked, "a look at the job")


async def _interrupted(state: Any, oxen: Any, sandbox: Sandbox, clip: Path, place: Path) -> str:
    """Interrupt a wait in a child flow whose parent is in a state, and give the job's status."""

    @flow
    async def child() -> None:
        job = await asubmit_upscale(sandbox.host(clip), oxen, f"{place}/")
        await await_for_upscale(job, oxen, **FAST)

    @flow
    async def parent() -> None:
        from prefect import runtime

        below = asyncio.ensure_future(child())
        await _awaited(sandbox)
        async with get_client() as client:
            await client.set_flow_run_state(runtime.flow_run.id, state, force=True)
        below.cancel()
        await asyncio.wait({below})

    await parent(return_state=True)
    (job,) = sandbox.jobs.values()
    return job.status


def test_an_api_that_cannot_be_reached_never_costs_a_job() -> None:
    """In a process of its own: Prefect's workers behind the scenes keep to one server."""
    script = f"import asyncio; from prefect_topaz.lookout import ask; {ASK}"
    env = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Reason(cancelled=False, said='the Prefect API ")


async def test_a_run_that_the_api_does_not_know_never_costs_a_job() -> None:
    reason = await lookout.ask(str(uuid4()))
    assert not reason.cancelled
    assert "gave no answer" in reason.said


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_own_run_is_asked_about_every_thirty_seconds_and_not_more_often() -> None:
    clock, asked = Clock(), []

    async def ask(run: str | None) -> Reason:
        asked.append(clock.now)
        return Reason(cancelled=clock.now > 90, said="flow run x is Cancelled")

    watch = Lookout("x", clock, ask)
    for second in range(95):
        clock.now = float(second)
        await watch.check()
    assert asked == [30.0, 60.0, 90.0]
    clock.now = 120.0
    for _ in range(2):  # every other wait of the run learns it without a question
        with pytest.raises(RunCancelled, match="x is Cancelled"):
            await watch.check()
    assert asked == [30.0, 60.0, 90.0, 120.0]


async def test_a_thousand_waits_that_end_together_ask_once() -> None:
    """Each by itself opened a connection: the answers came too late, and the jobs ran on."""
    asked, answer = [], asyncio.Event()

    async def ask(run: str | None) -> Reason:
        asked.append(run)
        await answer.wait()
        return Reason(cancelled=len(asked) > 1, said="flow run x is Cancelling")

    watch = Lookout("x", Clock(), ask)
    waits = [asyncio.ensure_future(watch.why()) for _ in range(1000)]
    await asyncio.sleep(0)
    waits.pop().cancel()  # one that is interrupted again takes the answer from nobody
    await asyncio.sleep(0)
    answer.set()
    assert {one.cancelled for one in await asyncio.gather(*waits)} == {False}
    # A no is true for that moment only, and a yes for ever.
    assert [(await watch.why()).cancelled for _ in range(3)] == [True] * 3
    assert len(asked) == 2


async def test_outside_a_flow_run_nobody_is_asked() -> None:
    clock = Clock()
    watch = Lookout(None, clock, lookout.ask)
    clock.now = 1000.0
    await watch.check()


@pytest.fixture
def often(monkeypatch) -> None:
    """Look at the own flow run at every look at the job."""
    monkeypatch.setattr(lookout, "_EVERY", 0.0)


async def _ended_by_hand(api: Any, started: asyncio.Task[Any], sandbox: Sandbox) -> Any:
    """Set the run that ordered to Cancelled, as the UI does, and give its last state."""
    await _awaited(sandbox)
    run_id = max(api.post("flow_runs/filter"), key=lambda one: one["created"])["id"]
    body = {"state": {"type": "CANCELLED"}, "force": True}
    await asyncio.to_thread(api.post, f"flow_runs/{run_id}/set_state", **body)
    await started
    return api.run(run_id)


async def test_a_run_set_to_cancelled_ends_its_wait_and_its_job(  # noqa: PLR0917  # fixtures
    often, oxen, sandbox, clip, tmp_path, api
) -> None:
    run = aupscale_video(sandbox.host(clip), tmp_path, oxen, return_state=True, **FAST)
    ended = await _ended_by_hand(api, asyncio.ensure_future(run), sandbox)
    job_id = sandbox.purchases()[0].job_id
    assert ended["state_type"] == "CANCELLED"
    assert f"job {job_id} at oxen was cancelled" in ended["state"]["message"]
    assert sandbox.jobs[job_id].status == "cancelled"


async def test_an_evolink_job_is_named_in_the_state_of_a_run_set_to_cancelled(  # noqa: PLR0917  # fixtures
    often, evolink, sandbox, clip, tmp_path, api
) -> None:
    run = aupscale_video(clip, tmp_path, evolink, return_state=True, **FAST)
    ended = await _ended_by_hand(api, asyncio.ensure_future(run), sandbox)
    assert ended["state_type"] == "CANCELLED"
    assert sandbox.purchases()[0].job_id in ended["state"]["message"]
    assert "settle_upscales" in ended["state"]["message"]


async def test_a_batch_that_is_set_to_cancelled_orders_nothing_more(  # noqa: PLR0917  # fixtures
    often, oxen, sandbox, clip, tmp_path, api
) -> None:
    """A free place in the batch must not be filled with the next purchase."""
    sandbox.fault("job", "delay", seconds=60, times=2)
    sources = [sandbox.host(clip, f"{number}.mp4") for number in range(3)]
    options = {"max_in_flight": 1, "return_state": True, **FAST}
    run = aupscale_videos(sources, f"{tmp_path}/", oxen, **options)
    ended = await _ended_by_hand(api, asyncio.ensure_future(run), sandbox)
    assert ended["state_type"] == "CANCELLED"
    assert len(sandbox.purchases()) == 1
    assert len(api.artifacts(ended["id"], "table")) == 1


async def test_a_job_that_succeeded_in_spite_of_the_cancel_is_paid_and_settled(
    clip, tmp_path, api
) -> None:
    with Sandbox() as sandbox:
        credentials = OxenCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
        oxen = OxenUpscaler(credentials=credentials, resolution="1080p")
        # It ends while the request to cancel is repeated, which takes longer than that.
        sandbox.fault("job", "delay", seconds=5)
        sandbox.fault("cancel", "5xx", times=4)

        @flow
        async def cancelled() -> None:
            from prefect import runtime

            job = await asubmit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
            async with get_client() as client:
                await client.set_flow_run_state(runtime.flow_run.id, Cancelling(), force=True)
            waiting = asyncio.ensure_future(await_for_upscale(job, oxen, poll_seconds=0.2))
            await _awaited(sandbox)
            waiting.cancel()
            await asyncio.wait({waiting})

        state = await cancelled(return_state=True)
        lines = await asyncio.to_thread(api.logs, state.state_details.flow_run_id, "flow run")
        assert any(
            "succeeded in spite of the cancel and is paid" in one["message"] for one in lines
        )
        report = await asyncio.to_thread(settle_upscales, tmp_path, oxen)
        assert [one.job_id for one in report.stored] == [sandbox.purchases()[0].job_id]
