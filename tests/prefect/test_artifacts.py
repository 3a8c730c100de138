"""What the Prefect UI is given to show: progress that moves, a summary, a link."""

from __future__ import annotations

import base64
import contextvars
import threading
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import State

from prefect_topaz import reports, upscale_video
from prefect_topaz.models import JobStatus
from tests.prefect.support import FAST, until


def test_progress_moves_while_the_job_runs_and_ends_at_100(
    oxen, sandbox, clip, tmp_path, api
) -> None:
    source = sandbox.host(clip, "moving.mp4")
    # The first look answers, the second one waits: long enough to ask the API in between.
    sandbox.fault("status", "delay", seconds=0)
    sandbox.fault("status", "delay", seconds=3)
    ended: list[State[Any]] = []

    def run() -> None:
        options = {"poll_seconds": 0.05, "return_state": True}
        ended.append(upscale_video(source, f"{tmp_path}/", oxen, **options))

    def between() -> bool:
        found = api.post("artifacts/filter", artifacts={"type": {"any_": ["progress"]}})
        mine = [one["data"] for one in found if source in one["description"]]
        return bool(mine) and 0 < float(mine[0]) < 100

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    try:
        until(between, "a progress between 0 and 100")
    finally:
        thread.join()
    run_id = ended[0].state_details.flow_run_id
    (artifact,) = api.artifacts(run_id, "progress")
    assert float(artifact["data"]) == 100
    (job,) = sandbox.jobs
    assert all(part in artifact["description"] for part in (source, "1080p", "oxen", job))


@pytest.mark.parametrize("name", ["oxen", "evolink"])
def test_the_summary_says_what_was_bought_and_shows_it(  # noqa: PLR0917  # fixtures
    name, sandbox, clip, tmp_path, api, request
) -> None:
    upscaler = request.getfixturevalue(name)
    source = sandbox.host(clip, "shown.mp4")
    state = upscale_video(source, f"{tmp_path}/", upscaler, **FAST, return_state=True)
    video = state.result()
    link, summary = sorted(
        api.artifacts(state.state_details.flow_run_id, "markdown"),
        key=lambda one: len(one["data"]),
    )
    text = summary["data"]
    size = "1920x1080" if name == "oxen" else "128x72"
    order = "resolution=1080p" if name == "oxen" else "upscale_factor=2"
    cost = "$0.0187 (charged)" if name == "oxen" else "1.87 credits (charged)"
    for part in (source, "(64x36)", size, order, name, video.job_id, cost, video.sha256):
        assert part in text
    assert video.receipt_url in text
    data = text.partition("data:image/jpeg;base64,")[2].rstrip(")")
    assert base64.b64decode(data).startswith(b"\xff\xd8")
    # It travels with every list of artifacts.
    assert len(text) < 100_000
    assert link["data"] == f"[{video.url}](file://{video.url})"


def test_a_cached_run_shows_its_result_too_and_that_nothing_was_bought(
    evolink, clip, tmp_path, api
) -> None:
    upscale_video(clip, tmp_path, evolink, **FAST)
    state = upscale_video(clip, tmp_path, evolink, **FAST, return_state=True)
    artifacts = api.artifacts(state.state_details.flow_run_id)
    assert sorted(one["type"] for one in artifacts) == ["markdown", "markdown", "progress"]
    (progress,) = (one for one in artifacts if one["type"] == "progress")
    assert float(progress["data"]) == 100
    assert any("nothing was bought now" in str(one["data"]) for one in artifacts)


def test_a_warning_is_in_the_summary(evolink, sandbox, clip, tmp_path, api) -> None:
    sandbox.fault("job", "wrong_video", what="silent")
    state = upscale_video(clip, tmp_path, evolink, **FAST, return_state=True)
    (warning,) = state.result().warnings
    texts = [one["data"] for one in api.artifacts(state.state_details.flow_run_id, "markdown")]
    assert any(f"**Warning:** {warning}" in text for text in texts)


def test_a_result_on_s3_is_linked_and_shown(oxen, sandbox, clip, s3, api) -> None:
    from prefect.filesystems import RemoteFileSystem

    place = RemoteFileSystem(basepath=f"{s3.url}/out", settings=s3.options)
    state = upscale_video(sandbox.host(clip), place, oxen, **FAST, return_state=True)
    video = state.result()
    texts = [one["data"] for one in api.artifacts(state.state_details.flow_run_id, "markdown")]
    assert f"[{video.url}]({video.url})" in texts
    assert video.url == f"{s3.url}/out/clip-1080p.mp4"
    assert any("data:image/jpeg;base64," in text for text in texts)


STEPS = [
    # phase, what the provider says, what is shown
    ("queued", None, 5),
    ("processing", None, 50),
    ("unknown", None, 50),
    ("processing", 0.0, 0),
    ("processing", 42.4, 42.4),
    ("processing", 250.0, 100),
    ("processing", -3.0, 0),
]


@pytest.mark.parametrize(("phase", "said", "shown"), STEPS)
async def test_progress_is_what_the_provider_says_or_what_the_phase_stands_for(  # noqa: PLR0917  # fixtures
    phase, said, shown, oxen, sandbox, clip, tmp_path, api
) -> None:
    job = (await oxen.atrigger(sandbox.host(clip), tmp_path)).job
    first = JobStatus(job_id=job.job_ids[0], phase="processing", word="processing")

    @flow
    async def looking() -> None:
        reports._EVERY, kept = 0.0, reports._EVERY
        try:
            async with reports.progress(job) as on_look:
                await on_look(first)
                await on_look(first.model_copy(update={"phase": phase, "progress": said}))
        finally:
            reports._EVERY = kept

    state = await looking(return_state=True)
    (artifact,) = api.artifacts(state.state_details.flow_run_id, "progress")
    assert float(artifact["data"]) == shown


def test_a_report_that_fails_never_fails_a_paid_job(
    evolink, clip, tmp_path, api, monkeypatch
) -> None:
    """The artifacts' API is out of order: the video is stored all the same."""
    from prefect.client.orchestration import PrefectClient

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("artifacts are out of order")

    for name in ("create_artifact", "update_artifact"):
        monkeypatch.setattr(PrefectClient, name, refuse)
    state = upscale_video(clip, tmp_path, evolink, **FAST, return_state=True)
    assert state.result().bytes
    assert not api.artifacts(state.state_details.flow_run_id)
