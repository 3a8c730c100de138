"""`attempts`: what failed for nothing is bought anew within the run, and nothing else is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client, runtime
from prefect.states import Cancelling

from prefect_topaz import aupscale_video, steps, upscale_video, upscale_videos
from prefect_topaz.errors import JobFailed, OutcomeUnknown, ResultMismatch
from prefect_topaz.sandbox import make_clip
from prefect_topaz.steps import asubmit_upscale, await_for_upscale
from tests.prefect.support import FAST


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buy anew without the pause that a real provider needs."""
    monkeypatch.setattr(steps, "_PAUSE", 0.0)


def attempts_of(folder: Path) -> list[tuple[str, int]]:
    """List what the journal of a folder says, with the purchase that it is about; no notes."""
    events = [json.loads(file.read_text()) for file in sorted(folder.glob(".topaz/*/0*.json"))]
    told = [(event["kind"], event.get("attempt", 1)) for event in events]
    return [one for one in told if one[0] not in ("staging", "unstaged", "attached")]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_job_that_failed_for_nothing_is_bought_anew_in_the_same_run(  # noqa: PLR0917  # fixtures
    colour, evolink, sandbox, clip, tmp_path, api
) -> None:
    sandbox.fault("job", "fail", message="no GPU", times=2)
    options: dict[str, Any] = {**FAST, "attempts": 3, "return_state": True}
    if colour == "sync":
        state = upscale_video(str(clip), f"{tmp_path}/", evolink, **options)
    else:
        state = asyncio.run(aupscale_video(str(clip), f"{tmp_path}/", evolink, **options))
    video = state.result()
    assert (state.name, video.cached, video.warnings) == ("Completed", False, ())
    assert [one.charged for one in sandbox.purchases()] == [False, False, True]
    assert video.job_id == sandbox.purchases()[-1].job_id
    assert attempts_of(tmp_path) == [
        *(("intent", 1), ("submitted", 1), ("failed", 1)),
        *(("intent", 2), ("submitted", 2), ("failed", 2)),
        *(("intent", 3), ("submitted", 3), ("finished", 3), ("stored", 3)),
    ]
    run_id = state.state_details.flow_run_id
    runs = api.post("task_runs/filter", flow_runs={"id": {"any_": [str(run_id)]}})
    later = sorted(one["name"] for one in runs if "attempt" in one["name"])
    assert later == [
        "submit_upscale, attempt 2 of 3",
        "submit_upscale, attempt 3 of 3",
        "wait_for_upscale, attempt 2 of 3",
        "wait_for_upscale, attempt 3 of 3",
    ]
    assert len(runs) == 7
    told = [one["message"] for one in api.logs(run_id, "attempt 3 of 3")]
    assert any(one.startswith("attempt 2 of 3 in 0 s: job task-") for one in told)


@pytest.mark.parametrize(("attempts", "bought"), [(None, 1), (1, 1), (2, 2)])
def test_no_more_is_bought_than_was_allowed(  # noqa: PLR0917  # fixtures
    attempts, bought, evolink, sandbox, clip, tmp_path
) -> None:
    sandbox.fault("job", "fail", times=5)
    options = {} if attempts is None else {"attempts": attempts}
    with pytest.raises(JobFailed) as caught:
        upscale_video(str(clip), f"{tmp_path}/", evolink, **FAST, **options)
    assert caught.value.billed == "no"
    assert len(sandbox.purchases()) == bought


def test_a_failure_that_may_have_been_charged_is_raised_at_once(
    oxen, sandbox, clip, tmp_path
) -> None:
    sandbox.fault("job", "fail")
    with pytest.raises(JobFailed) as caught:
        upscale_video(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST, attempts=3)
    assert caught.value.billed == "maybe"
    # Nor is it bought by another run: the journal knows.
    with pytest.raises(JobFailed):
        upscale_video(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST, attempts=3)
    assert len(sandbox.purchases()) == 1


@pytest.mark.parametrize(
    ("operation", "kind", "error"),
    [("submit", "cut", OutcomeUnknown), ("job", "wrong_video", ResultMismatch)],
)
def test_every_other_failure_is_raised_at_once(  # noqa: PLR0917  # fixtures
    operation, kind, error, evolink, sandbox, clip, tmp_path
) -> None:
    sandbox.fault(operation, kind)
    with pytest.raises(error):
        upscale_video(str(clip), f"{tmp_path}/", evolink, **FAST, attempts=3)
    assert len(sandbox.purchases()) == 1


def test_nothing_is_bought_anew_for_a_run_that_a_person_cancelled(
    evolink, sandbox, clip, tmp_path
) -> None:
    """The job failed before the wait had heard of the cancel."""
    sandbox.fault("job", "fail")

    @flow
    async def cancelled() -> Any:
        async with get_client() as client:
            await client.set_flow_run_state(runtime.flow_run.id, Cancelling(), force=True)
        options: dict[str, Any] = {**FAST, "attempts": 3, "return_state": True}
        child = await aupscale_video(str(clip), f"{tmp_path}/", evolink, **options)
        return child.name, child.message

    name, message = asyncio.run(cancelled())
    assert name == "Cancelled"
    assert "Internal Server Error" in message
    assert len(sandbox.purchases()) == 1


def test_the_videos_of_a_batch_have_their_attempts_each(evolink, sandbox, clip, tmp_path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(2):
        make_clip(clips / f"{number}.mp4", seconds=0.5, size=(64 + 16 * number, 36))
    sandbox.fault("job", "fail", times=2)
    report = upscale_videos(f"{clips}/*.mp4", tmp_path / "out", evolink, **FAST, attempts=3)
    assert len(report.stored) == 2
    assert sum(one.charged for one in sandbox.purchases()) == 2
    assert len(sandbox.purchases()) == 4


def test_a_further_attempt_keeps_what_the_step_is_made_of() -> None:
    for task in (asubmit_upscale, await_for_upscale):
        named = steps._named(task, 2, steps.Options(attempts=3))
        for field in ("retries", "retry_delay_seconds", "retry_condition_fn", "cache_policy"):
            assert getattr(named, field) == getattr(task, field)
        assert (named.name, named.fn) == (task.name, task.fn)
