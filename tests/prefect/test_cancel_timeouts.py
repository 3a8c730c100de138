"""Time that runs out: Prefect's own time-outs leave the job, and so does a deadline, unless asked."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from prefect_topaz import (
    OxenCredentials,
    OxenUpscaler,
    StillRunning,
    asubmit_upscale,
    await_for_upscale,
    submit_upscale,
    upscale_video,
    wait_for_upscale,
)
from prefect_topaz.errors import JobCancelled
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import deletes, reattaches
from tests.prefect.support import FAST


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


def test_a_task_timeout_leaves_the_job_to_the_next_run(oxen, sandbox, clip, tmp_path, api) -> None:
    url = sandbox.host(clip)
    hasty = wait_for_upscale.with_options(timeout_seconds=2, retries=0)

    @flow
    def impatient() -> None:
        hasty(submit_upscale(url, oxen, f"{tmp_path}/"), oxen, **FAST)

    state = impatient(return_state=True)
    assert state.is_failed()
    lines = api.logs(state.state_details.flow_run_id, "the wait was interrupted")
    assert any(sandbox.purchases()[0].job_id in one["message"] for one in lines)
    assert not deletes(sandbox)
    assert reattaches(url, tmp_path, oxen, sandbox)


async def test_a_task_timeout_in_async_code_leaves_the_job(
    oxen, sandbox, clip, tmp_path, api
) -> None:
    """Prefect cancels every await again and again then; the question gets through all the same."""
    url = sandbox.host(clip)
    hasty = await_for_upscale.with_options(timeout_seconds=2, retries=0)

    @flow
    async def impatient() -> None:
        await hasty(await asubmit_upscale(url, oxen, f"{tmp_path}/"), oxen, **FAST)

    state = await impatient(return_state=True)
    assert state.is_failed()
    lines = await asyncio.to_thread(
        api.logs, state.state_details.flow_run_id, "the wait was interrupted"
    )
    assert any("Running" in one["message"] for one in lines)
    assert not deletes(sandbox)
    assert await asyncio.to_thread(reattaches, url, tmp_path, oxen, sandbox)


def test_a_flow_timeout_leaves_the_job_to_the_next_run(oxen, sandbox, clip, tmp_path, api) -> None:
    state, line = _out_of_time(oxen, sandbox, clip, tmp_path, api, cancel_on_timeout=False)
    assert state == "TimedOut"
    assert "is left to run" in line
    assert not deletes(sandbox)
    assert reattaches(sandbox.host(clip), tmp_path, oxen, sandbox)


def test_a_flow_timeout_cancels_the_job_if_that_is_asked_for(
    oxen, sandbox, clip, tmp_path, api
) -> None:
    state, line = _out_of_time(oxen, sandbox, clip, tmp_path, api, cancel_on_timeout=True)
    assert state == "TimedOut"
    assert "the flow run has not ended within 3 s" in line
    assert "was cancelled" in line
    (job,) = sandbox.jobs.values()
    assert job.status == "cancelled"


def _out_of_time(
    oxen: Any, sandbox: Sandbox, clip: Path, place: Path, api: Any, *, cancel_on_timeout: bool
) -> tuple[str, str]:
    """Let a flow run out of its time; give its state's name and its last words on the job."""
    hasty = upscale_video.with_options(timeout_seconds=3)
    options = {"cancel_on_timeout": cancel_on_timeout, "return_state": True, **FAST}
    state = hasty(sandbox.host(clip), place, oxen, **options)
    start = "the flow run" if cancel_on_timeout else "the wait"
    lines = api.logs(state.state_details.flow_run_id, start)
    return state.name, next(one["message"] for one in lines if one["message"].startswith(start))


async def test_a_task_timeout_in_async_code_cancels_the_job_if_that_is_asked_for(
    oxen, sandbox, clip, tmp_path
) -> None:
    hasty = await_for_upscale.with_options(timeout_seconds=2, retries=0)

    @flow
    async def impatient() -> None:
        job = await asubmit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
        await hasty(job, oxen, cancel_on_timeout=True, **FAST)

    assert (await impatient(return_state=True)).is_failed()
    (job,) = sandbox.jobs.values()
    assert job.status == "cancelled"


def test_a_passed_deadline_cancels_the_job_if_that_is_asked_for(
    oxen, sandbox, clip, tmp_path
) -> None:
    options = {"deadline_seconds": 0.3, "cancel_on_timeout": True, **FAST}
    with pytest.raises(JobCancelled, match=r"has not ended within 0\.3 s.*was cancelled"):
        upscale_video(sandbox.host(clip), tmp_path, oxen, **options)
    (job,) = sandbox.jobs.values()
    assert job.status == "cancelled"


async def test_a_passed_deadline_says_that_evolink_cannot_cancel(
    evolink, sandbox, clip, tmp_path
) -> None:
    job = await asubmit_upscale(clip, evolink, tmp_path)
    with pytest.raises(StillRunning, match=r"cannot be cancelled.*settle_upscales") as caught:
        await await_for_upscale(job, evolink, deadline_seconds=0.3, cancel_on_timeout=True, **FAST)
    assert caught.value.billed == "yes"
    assert caught.value.job_id == job.job_ids[0]


def test_a_job_that_ends_at_the_deadline_is_delivered(clip, tmp_path) -> None:
    """It is paid: the wish to cancel came too late."""
    with Sandbox(reads=2) as sandbox:
        credentials = OxenCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
        oxen = OxenUpscaler(credentials=credentials, resolution="1080p")
        sandbox.fault("cancel", "5xx", times=4)
        options = {"deadline_seconds": 0.01, "cancel_on_timeout": True, "poll_seconds": 5}
        video = upscale_video(sandbox.host(clip), tmp_path, oxen, **options)
        assert Path(video.url).is_file()
        assert len(sandbox.purchases()) == 1
