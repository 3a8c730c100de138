"""`upscaler.trigger(...)` and what it returns: Prefect's vocabulary for jobs, in both colours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prefect import flow
from prefect.blocks.abstract import JobBlock, JobRun
from pydantic import SecretStr

from prefect_topaz import EvoLinkUpscaler, OxenUpscaler, UpscaleRun
from prefect_topaz.errors import InvalidRequest, ResultMismatch
from tests.prefect.support import HOME


def test_a_sync_caller_triggers_waits_and_fetches(oxen, sandbox, clip, tmp_path) -> None:
    run = oxen.trigger(sandbox.host(clip), f"{tmp_path}/")
    assert isinstance(oxen, JobBlock)
    assert isinstance(run, JobRun)
    assert isinstance(run, UpscaleRun)
    finished = run.wait_for_completion(poll_seconds=0.05)
    assert [one.job_id for one in finished.results] == list(run.job.job_ids)
    video = run.fetch_result()
    assert Path(video.url).parent == tmp_path
    assert video.preview_url
    assert run.fetch_result().cached
    assert len(sandbox.purchases()) == 1


async def test_an_async_caller_triggers_waits_and_fetches(evolink, sandbox, clip, tmp_path) -> None:
    run = await evolink.atrigger(clip, tmp_path)
    await run.await_for_completion(poll_seconds=0.05)
    video = await run.afetch_result()
    assert (video.width, video.height) == (128, 72)
    assert (await run.afetch_result()).cached
    assert len(sandbox.purchases()) == 1


def test_a_sync_caller_cancels(oxen, sandbox, clip, tmp_path) -> None:
    sandbox.fault("job", "delay", seconds=60)
    run = oxen.trigger(sandbox.host(clip), f"{tmp_path}/")
    assert run.cancel().outcome == "cancelled"
    (job,) = sandbox.jobs.values()
    assert job.status == "cancelled"


async def test_an_async_caller_is_told_that_evolink_cannot_cancel(evolink, clip, tmp_path) -> None:
    run = await evolink.atrigger(clip, tmp_path)
    assert (await run.acancel()).outcome == "not_supported"


async def test_a_sync_name_works_in_async_code_too(oxen, sandbox, clip, tmp_path) -> None:
    """It blocks the caller's loop, and never waits for itself."""
    run = oxen.trigger(sandbox.host(clip), f"{tmp_path}/")
    run.wait_for_completion(poll_seconds=0.05)
    assert run.fetch_result().bytes


def test_without_a_destination_the_setting_holds(
    evolink, sandbox, clip, tmp_path, monkeypatch
) -> None:
    assert evolink.trigger(clip).job.destination.url == f"{HOME / 'topaz'}/"
    monkeypatch.setenv("PREFECT_INTEGRATIONS_TOPAZ_DESTINATION", f"{tmp_path}/set/")
    assert evolink.trigger(clip).job.destination.url == f"{tmp_path}/set/"


def test_options_of_submit_are_taken(oxen, sandbox, clip, tmp_path) -> None:
    first = oxen.trigger(sandbox.host(clip), f"{tmp_path}/")
    again = oxen.trigger(sandbox.host(clip), f"{tmp_path}/", again=1)
    assert again.job.work_key != first.job.work_key
    with pytest.raises(TypeError, match="agian"):
        oxen.trigger(sandbox.host(clip), f"{tmp_path}/", agian=1)


def test_a_run_inside_a_flow_reports_to_it(oxen, sandbox, clip, tmp_path, api) -> None:
    @flow
    def triggering() -> str:
        run = oxen.trigger(sandbox.host(clip), f"{tmp_path}/")
        run.wait_for_completion(poll_seconds=0.05)
        return run.fetch_result().url

    state = triggering(return_state=True)
    assert Path(state.result()).is_file()
    said = [
        one["message"] for one in api.logs(state.state_details.flow_run_id, f"stored {tmp_path}")
    ]
    assert any("bought: oxen job" in line for line in said)


def test_a_run_never_shows_the_key(oxen, evolink, sandbox, clip, tmp_path) -> None:
    source = f"{sandbox.host(clip)}?X-Amz-Signature=canary"
    shown = repr(oxen.trigger(source, f"{tmp_path}/"))
    assert sandbox.api_key not in shown
    assert "canary" not in shown


@pytest.mark.parametrize("kind", [OxenUpscaler, EvoLinkUpscaler])
def test_many_sources_are_refused_with_the_way_to_do_it(kind, oxen, evolink, tmp_path) -> None:
    upscaler = oxen if kind is OxenUpscaler else evolink
    with pytest.raises(InvalidRequest, match="upscale_videos"):
        upscaler.trigger(["a.mp4", "b.mp4"], f"{tmp_path}/")


def test_a_password_in_a_destination_is_refused_without_being_shown(oxen):
    with pytest.raises(InvalidRequest) as caught:
        oxen.trigger("https://example.com/clip.mp4", "sftp://me:canary@host/up/")
    assert "canary" not in str(caught.value)


def test_a_run_can_take_what_its_errors_advise(evolink, sandbox, clip, tmp_path):
    target = tmp_path / "taken.mp4"
    target.write_bytes(b"somebody else's")
    run = evolink.trigger(str(clip), target, overwrite=True)
    assert run.fetch_result().bytes == target.stat().st_size
    sandbox.fault("job", "wrong_video", what="size")
    other = evolink.trigger(str(clip), tmp_path / "other.mp4", again=1)
    with pytest.raises(ResultMismatch):
        other.fetch_result()
    assert other.fetch_result(verify="off").url == str(tmp_path / "other.mp4")
    assert len(sandbox.purchases()) == 2


def test_a_token_in_a_callback_is_kept_secret(evolink):
    secret = evolink.model_copy(
        update={"callback_url": SecretStr("https://example.com/x?t=CANARY")}
    )
    assert "CANARY" not in repr(secret) + secret.model_dump_json()
    assert secret.order().callback_url.reveal().endswith("CANARY")


async def test_a_source_that_was_overwritten_meanwhile_withholds_no_result(
    evolink, sandbox, clip, tmp_path
) -> None:
    """Its headers say the same as before, and its pictures are others."""
    source = shutil.copy(clip, tmp_path / "source.mp4")
    run = await evolink.atrigger(source, f"{tmp_path}/out/")
    await run.await_for_completion(poll_seconds=0.05)
    Path(source).write_bytes(clip.read_bytes() + b"\0" * 16)
    (warning,) = (await run.afetch_result()).warnings
    assert warning.endswith("it was changed since the job was submitted")
