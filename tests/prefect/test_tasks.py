"""The steps one by one: in flows and outside, in both colours, retried, and in another process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from prefect import Task, flow
from prefect.filesystems import RemoteFileSystem

from prefect_topaz import (
    OutcomeUnknown,
    OxenCredentials,
    OxenUpscaler,
    StillRunning,
    UpscaleJob,
    acancel_upscale,
    astore_upscale,
    asubmit_upscale,
    await_for_upscale,
    cancel_upscale,
    store_upscale,
    submit_upscale,
    upscale_video,
    wait_for_upscale,
)
from prefect_topaz.errors import DeliveryFailed, JobCancelled, ResultUnavailable, Unauthorized
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.tasks import retry_unless_final
from tests.prefect.support import FAST

AT_ONCE = {"retry_delay_seconds": 0, "retry_jitter_factor": None}
LINKS = 3  # that one try of a download asks for
BOTH_COLOURS = [
    (asubmit_upscale, submit_upscale),
    (await_for_upscale, wait_for_upscale),
    (astore_upscale, store_upscale),
    (acancel_upscale, cancel_upscale),
]


@pytest.mark.parametrize("pair", BOTH_COLOURS)
def test_both_colours_are_tasks_with_one_name_and_one_signature(pair) -> None:
    import inspect

    assert all(isinstance(one, Task) for one in pair)
    dark, light = pair
    assert dark.name == light.name
    assert inspect.signature(dark.fn) == inspect.signature(light.fn)
    assert dark.retries == light.retries == 3


def test_the_steps_one_by_one_in_a_sync_flow(oxen, sandbox, clip, tmp_path, api) -> None:
    @flow
    def steps() -> Any:
        job = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
        finished = wait_for_upscale(job, oxen, **FAST)
        return store_upscale(finished, oxen)

    state = steps(return_state=True)
    (video,) = state.result()
    assert Path(video.url).name == "clip-1080p.mp4"
    names = set(api.task_runs(state.state_details.flow_run_id))
    assert names == {"submit_upscale", "wait_for_upscale", "store_upscale"}


async def test_the_steps_one_by_one_in_an_async_flow(evolink, clip, tmp_path, api) -> None:
    @flow
    async def steps() -> Any:
        job = await asubmit_upscale(clip, evolink, tmp_path)
        finished = await await_for_upscale(job, evolink, **FAST)
        return await astore_upscale(finished, evolink, tmp_path / "elsewhere.mp4", source=clip)

    state = await steps(return_state=True)
    (video,) = await state.aresult()
    assert video.url == str(tmp_path / "elsewhere.mp4")
    names = set(api.task_runs(state.state_details.flow_run_id))
    assert names == {"submit_upscale", "wait_for_upscale", "store_upscale"}


@pytest.mark.parametrize("steps", list(zip(*BOTH_COLOURS, strict=True)))
def test_the_steps_are_submitted_from_a_sync_flow(steps, oxen, sandbox, clip, tmp_path) -> None:
    """Both colours: each runs in a thread of Prefect's."""
    submit, wait, store, _ = steps

    @flow
    def chained() -> Any:
        job = submit.submit(sandbox.host(clip), oxen, f"{tmp_path}/")
        finished = wait.submit(job, oxen, **FAST)
        return store.submit(finished, oxen).result()

    (video,) = chained()
    assert video.bytes == Path(video.url).stat().st_size
    assert len(sandbox.purchases()) == 1


def test_the_steps_run_without_a_flow(oxen, sandbox, clip, tmp_path) -> None:
    job = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
    assert not job.reattached
    again = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
    assert again == job.model_copy(update={"reattached": True})
    (video,) = store_upscale.fn(wait_for_upscale.fn(job, oxen, **FAST), oxen)
    assert video.job_id == job.job_ids[0] == sandbox.purchases()[0].job_id


def test_cancel_stops_the_job_and_a_wait_says_so(oxen, sandbox, clip, tmp_path) -> None:
    sandbox.fault("job", "delay", seconds=60)
    job = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
    outcome = cancel_upscale(job, oxen)
    assert (outcome.outcome, outcome.job_id) == ("cancelled", job.job_ids[0])
    with pytest.raises(JobCancelled, match="again"):
        wait_for_upscale(job, oxen, **FAST)
    with pytest.raises(JobCancelled):
        upscale_video(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST)
    assert len(sandbox.purchases()) == 1


async def test_cancel_tells_that_evolink_cannot(evolink, clip, tmp_path) -> None:
    job = await asubmit_upscale(str(clip), evolink, f"{tmp_path}/")
    outcome = await acancel_upscale(job, evolink)
    assert outcome.outcome == "not_supported"
    # It is paid, so it is still stored.
    finished = await await_for_upscale(job, evolink, **FAST)
    assert await astore_upscale(finished, evolink)


def test_a_passed_deadline_keeps_the_job_for_the_next_run(clip, tmp_path) -> None:
    with Sandbox(reads=8) as slow:
        credentials = OxenCredentials(api_key=slow.api_key, base_url=slow.url)
        oxen = OxenUpscaler(credentials=credentials, resolution="1080p")
        options = {"source": slow.host(clip), "destination": tmp_path, "upscaler": oxen, **FAST}
        state = upscale_video(**options, deadline_seconds=0.1, return_state=True)
        with pytest.raises(StillRunning) as caught:
            state.result()
        assert caught.value.billed == "yes"
        assert caught.value.job_id == slow.purchases()[0].job_id
        assert not upscale_video(**options).cached
        assert len(slow.purchases()) == 1


def test_a_retried_store_reattaches_and_buys_nothing(oxen, sandbox, clip, tmp_path, api) -> None:
    blocked = tmp_path / "clip-1080p.mp4"

    async def mend(task: Any, run: Any, state: Any) -> bool:
        blocked.rmdir()
        return await retry_unless_final(task, run, state)

    store = store_upscale.with_options(**AT_ONCE, retry_condition_fn=mend)

    @flow
    def steps() -> Any:
        job = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
        finished = wait_for_upscale(job, oxen, **FAST)
        blocked.mkdir()
        with pytest.raises(DeliveryFailed):
            store_upscale.with_options(retries=0)(finished, oxen)
        return store(finished, oxen)

    state = steps(return_state=True)
    (video,) = state.result()
    assert video.url == str(blocked)
    assert blocked.is_file()
    counts = [one["run_count"] for one in runs_named(api, state, "store_upscale")]
    assert sorted(counts) == [1, 2]
    assert len(sandbox.purchases()) == 1


def runs_named(api: Any, state: Any, name: str) -> list[dict[str, Any]]:
    run_id = state.state_details.flow_run_id
    api.task_runs(run_id)  # waits for all of them
    every = api.post("task_runs/filter", flow_runs={"id": {"any_": [str(run_id)]}})
    return [one for one in every if one["name"].startswith(name)]


def test_a_result_that_is_out_of_reach_is_tried_again(oxen, sandbox, clip, tmp_path, api) -> None:
    @flow
    def steps() -> Any:
        job = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
        finished = wait_for_upscale(job, oxen, **FAST)
        sandbox.fault("result", "gone", times=2 * LINKS)
        return store_upscale.with_options(**AT_ONCE)(finished, oxen)

    state = steps(return_state=True)
    assert len(state.result()) == 1
    (run,) = runs_named(api, state, "store_upscale")
    assert run["run_count"] == 3
    assert len(sandbox.purchases()) == 1


def test_retries_end_and_the_job_stays_bought(oxen, sandbox, clip, tmp_path) -> None:
    job = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
    finished = wait_for_upscale(job, oxen, **FAST)
    sandbox.fault("result", "gone", times=4 * LINKS)
    with pytest.raises(ResultUnavailable) as caught:
        store_upscale.with_options(**AT_ONCE)(finished, oxen)
    assert caught.value.billed == "yes"
    assert store_upscale(finished, oxen)
    assert len(sandbox.purchases()) == 1


def test_a_refused_key_is_not_tried_again(oxen, sandbox, clip, tmp_path, api) -> None:
    wrong = OxenUpscaler(credentials=OxenCredentials(api_key="wrong", base_url=sandbox.url))
    state = upscale_video(sandbox.host(clip), f"{tmp_path}/", wrong, **FAST, return_state=True)
    with pytest.raises(Unauthorized):
        state.result()
    (run,) = runs_named(api, state, "submit_upscale")
    assert (run["run_count"], run["state_type"]) == (1, "FAILED")
    assert "billed: no" in run["state"]["message"]
    # A refusal is no purchase: the right key buys.
    assert upscale_video(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST)
    assert len(sandbox.purchases()) == 1


def test_an_unknown_outcome_is_neither_tried_again_nor_bought_again(
    evolink, sandbox, clip, tmp_path, api
) -> None:
    for times in (1, 2):
        sandbox.fault("list", "refused", status=403)
        if times == 1:
            sandbox.fault("submit", "cut")
        state = upscale_video(clip, f"{tmp_path}/", evolink, **FAST, return_state=True)
        with pytest.raises(OutcomeUnknown) as caught:
            state.result()
        assert caught.value.billed == "maybe"
        assert caught.value.work_key in str(caught.value)
        (run,) = runs_named(api, state, "submit_upscale")
        assert run["run_count"] == 1
        assert sandbox.ledger.submits == 1


def test_a_lost_answer_of_oxen_is_found_again(oxen, sandbox, clip, tmp_path) -> None:
    sandbox.fault("submit", "cut")
    video = upscale_video(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST)
    assert [one.job_id for one in sandbox.purchases()] == [video.job_id]


def test_a_submit_that_never_left_is_sent_again(oxen, sandbox, clip, tmp_path) -> None:
    submit = submit_upscale.with_options(**AT_ONCE)
    sandbox.fault("submit", "429", retry_after=0, times=2)
    assert submit(sandbox.host(clip), oxen, f"{tmp_path}/").job_ids
    assert sandbox.ledger.submits == 1


def test_a_persisted_job_goes_on_in_another_process_with_the_blocks_settings(
    oxen, sandbox, clip, s3
) -> None:
    """The job holds no secret of the store: the other process loads the saved block."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    place = RemoteFileSystem(basepath=f"{s3.url}/out", settings=s3.options)
    place.save(name)
    oxen.save(name)
    job = submit_upscale(sandbox.host(clip), oxen, RemoteFileSystem.load(name))
    text = job.model_dump_json()
    assert s3.options["client_kwargs"]["endpoint_url"] not in text
    assert UpscaleJob.model_validate_json(text).destination.block == f"remote-file-system/{name}"
    code = f"""
import sys
from prefect_topaz import OxenUpscaler, UpscaleJob, store_upscale, wait_for_upscale
upscaler = OxenUpscaler.load({name!r})
job = UpscaleJob.model_validate_json(sys.stdin.read())
(video,) = store_upscale(wait_for_upscale(job, upscaler, poll_seconds=0.05), upscaler)
print(video.url)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{s3.url}/out/clip-1080p.mp4" in done.stdout
    assert s3.fs.size(f"{s3.url}/out/clip-1080p.mp4") > 0
    assert s3.fs.exists(f"{s3.url}/out/.topaz/{job.work_key}/0001.json")
    assert len(sandbox.purchases()) == 1


def test_steps_of_many_jobs_run_side_by_side_in_an_async_flow(evolink, clip, tmp_path, sandbox):
    @flow
    async def many() -> Any:
        jobs = await asyncio.gather(
            *(asubmit_upscale(clip, evolink, tmp_path, again=n) for n in range(4))
        )
        return await asyncio.gather(*(await_for_upscale(job, evolink, **FAST) for job in jobs))

    assert len(asyncio.run(many())) == len(sandbox.purchases()) == 4
