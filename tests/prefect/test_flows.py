"""`upscale_video` in both colours: what callers get, and what Prefect records."""

from __future__ import annotations

import asyncio
import contextvars
import json
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from prefect import flow
from prefect.filesystems import RemoteFileSystem

from prefect_topaz import (
    EvoLinkUpscaler,
    OxenUpscaler,
    StoredVideo,
    aupscale_video,
    upscale_video,
)
from prefect_topaz.engine.destinations import JOURNAL
from prefect_topaz.errors import UnusableDestination
from prefect_topaz.sandbox import make_clip
from prefect_topaz.tasks import astore_upscale, asubmit_upscale, await_for_upscale
from tests.prefect.support import FAST


def source_for(upscaler: Any, sandbox: Any, clip: Path) -> str:
    """Oxen.ai reads URLs only; EvoLink takes uploads."""
    return sandbox.host(clip) if isinstance(upscaler, OxenUpscaler) else str(clip)


@pytest.fixture(params=["oxen", "evolink"])
def upscaler(request: pytest.FixtureRequest) -> OxenUpscaler | EvoLinkUpscaler:
    return request.getfixturevalue(request.param)


def assert_whole(video: StoredVideo, upscaler: Any) -> None:
    assert isinstance(video, StoredVideo)
    size = (1920, 1080) if isinstance(upscaler, OxenUpscaler) else (128, 72)
    assert (video.width, video.height) == size
    assert Path(video.url).stat().st_size == video.bytes
    receipt = json.loads(Path(video.receipt_url).read_text())
    assert (receipt["url"], receipt["sha256"]) == (video.url, video.sha256)
    assert Path(video.preview_url or "").read_bytes().startswith(b"\xff\xd8")
    assert (video.has_audio, video.warnings, video.others) == (True, (), ())


def test_a_second_sync_run_ends_as_cached_and_buys_nothing(
    upscaler, sandbox, clip, tmp_path, api
) -> None:
    source = source_for(upscaler, sandbox, clip)
    first = upscale_video(source, f"{tmp_path}/", upscaler, **FAST)
    assert_whole(first, upscaler)
    assert not first.cached
    state = upscale_video(source, f"{tmp_path}/", upscaler, **FAST, return_state=True)
    recorded = api.run(state.state_details.flow_run_id)
    assert (recorded["state_type"], recorded["state_name"]) == ("COMPLETED", "Cached")
    # A direct caller gets the video and not Prefect's state.
    second = upscale_video(source, f"{tmp_path}/", upscaler, **FAST)
    assert second == state.result() == first.model_copy(update={"cached": True})
    (purchase,) = sandbox.purchases()
    assert purchase.job_id == first.job_id


async def test_a_second_async_run_ends_as_cached_and_buys_nothing(
    upscaler, sandbox, clip, tmp_path, api
) -> None:
    source = source_for(upscaler, sandbox, clip)
    first = await aupscale_video(source, tmp_path, upscaler, **FAST)
    assert_whole(first, upscaler)
    state = await aupscale_video(source, tmp_path, upscaler, **FAST, return_state=True)
    assert api.run(state.state_details.flow_run_id)["state_name"] == "Cached"
    second = await aupscale_video(source, tmp_path, upscaler, **FAST)
    assert second == await state.aresult() == first.model_copy(update={"cached": True})
    assert len(sandbox.purchases()) == 1


def test_both_colours_share_the_journal(oxen, sandbox, clip, tmp_path) -> None:
    source = sandbox.host(clip)
    first = upscale_video(source, f"{tmp_path}/", oxen, **FAST)
    second = asyncio.run(aupscale_video(source, f"{tmp_path}/", oxen, **FAST))
    assert second.cached
    assert second.job_id == first.job_id
    assert len(sandbox.purchases()) == 1


def test_a_file_name_is_taken_as_one(evolink, clip, tmp_path) -> None:
    video = upscale_video(clip, tmp_path / "new" / "mine.mp4", evolink, **FAST)
    assert video.url == str(tmp_path / "new" / "mine.mp4")
    assert (tmp_path / "new" / JOURNAL).is_dir()


def test_a_relative_destination_means_this_folder(evolink, clip, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = upscale_video(str(clip), "out/", evolink, **FAST)
    assert video.url == str(tmp_path / "out" / "clip-2x.mp4")


def test_a_deleted_result_is_fetched_again_and_not_bought_again(
    oxen, sandbox, clip, tmp_path
) -> None:
    source = sandbox.host(clip)
    first = upscale_video(source, f"{tmp_path}/", oxen, **FAST)
    Path(first.url).unlink()
    state = upscale_video(source, f"{tmp_path}/", oxen, **FAST, return_state=True)
    again = state.result()
    assert (state.name, again.cached) == ("Completed", False)
    assert again.sha256 == first.sha256
    assert Path(again.url).is_file()
    assert len(sandbox.purchases()) == 1


def test_a_changed_source_is_bought_under_the_same_url(oxen, sandbox, clip, tmp_path) -> None:
    source = sandbox.host(clip, "same.mp4")
    upscale_video(source, f"{tmp_path}/", oxen, **FAST)
    other = make_clip(tmp_path / "other.mp4", seconds=0.5, size=(96, 54))
    assert sandbox.host(other, "same.mp4") == source
    with pytest.raises(UnusableDestination, match="overwrite"):
        upscale_video(source, f"{tmp_path}/", oxen, **FAST)
    assert len(sandbox.purchases()) == 1
    upscale_video(source, f"{tmp_path}/", oxen, **FAST, overwrite=True)
    assert len(sandbox.purchases()) == 2


def test_again_buys_the_same_work_once_more(oxen, sandbox, clip, tmp_path) -> None:
    source = sandbox.host(clip)
    for number, folder in enumerate("abba"):
        upscale_video(source, f"{tmp_path / folder}/", oxen, **FAST, again="ab".index(folder))
        assert len(sandbox.purchases()) == min(number + 1, 2)


def test_one_journal_serves_many_destinations(oxen, sandbox, clip, tmp_path) -> None:
    source, journal = sandbox.host(clip), tmp_path / "journal"
    first = upscale_video(source, f"{tmp_path}/a/", oxen, **FAST, journal=journal)
    second = upscale_video(source, f"{tmp_path}/b/", oxen, **FAST, journal=journal)
    assert (second.sha256, len(sandbox.purchases())) == (first.sha256, 1)
    assert Path(second.url).parent.name == "b"


def test_generations_beyond_the_first_are_in_others(oxen, sandbox, clip, tmp_path, api) -> None:
    twice = oxen.model_copy(update={"num_generations": 2})
    state = upscale_video(sandbox.host(clip), f"{tmp_path}/", twice, **FAST, return_state=True)
    video = state.result()
    assert [Path(one.url).name for one in (video, *video.others)] == [
        "clip-1080p.mp4",
        "clip-1080p-2.mp4",
    ]
    assert {one.job_id for one in sandbox.purchases()} == {video.job_id, video.others[0].job_id}
    assert len(api.artifacts(state.state_details.flow_run_id, "markdown")) == 4


def test_sync_flows_run_side_by_side_in_threads(oxen, sandbox, clip, tmp_path) -> None:
    """They share one loop and one client, and each buys its own work once."""
    sources = [
        sandbox.host(make_clip(tmp_path / f"{n}.mp4", seconds=0.5, size=(64 + 16 * n, 36 + 9 * n)))
        for n in (0, 2, 4)
    ]
    names = [sandbox.host(tmp_path / f"{n}.mp4", f"clip-{n}.mp4") for n in (0, 2, 4)]
    assert len(set(names)) == len(sources)

    def run(source: str) -> StoredVideo:
        return upscale_video(source, f"{tmp_path}/out/", oxen, **FAST)

    with ThreadPoolExecutor(6) as pool:
        # Each work twice at the same time: one of both buys, the other waits for it.
        futures = [
            pool.submit(contextvars.copy_context().run, run, name) for name in (*names, *names)
        ]
        videos = [future.result() for future in futures]
    assert len({video.sha256 for video in videos}) == 3
    assert len(sandbox.purchases()) == 3


def test_a_flow_of_the_users_own_calls_ours_as_a_child(oxen, sandbox, clip, tmp_path, api) -> None:
    @flow
    def pipeline() -> int:
        return upscale_video(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST).width

    state = pipeline(return_state=True)
    assert state.result() == 1920
    parent = str(state.state_details.flow_run_id)
    (child,) = api.post("task_runs/filter", flow_runs={"id": {"any_": [parent]}})
    assert child["state_name"] == "Completed"


def test_options_of_the_flow_can_be_changed(oxen, sandbox, clip, tmp_path, api) -> None:
    named = upscale_video.with_options(name="ours", retries=2, retry_delay_seconds=0)
    state = named(sandbox.host(clip), f"{tmp_path}/", oxen, **FAST, return_state=True)
    assert api.run(state.state_details.flow_run_id)["empirical_policy"]["retries"] == 2


@pytest.fixture
def at_once(monkeypatch) -> None:
    """Let the flow's own tasks be retried without Prefect's delays."""
    for one in (asubmit_upscale, await_for_upscale, astore_upscale):
        monkeypatch.setattr(one, "retry_delay_seconds", 0)
        monkeypatch.setattr(one, "retry_jitter_factor", None)


def test_a_store_that_is_tried_again_is_no_cached_run(  # noqa: PLR0917  # fixtures
    at_once, oxen, sandbox, clip, tmp_path, api
) -> None:
    """The first try stored one of two videos: finding it again does not make them free."""
    twice = oxen.model_copy(update={"num_generations": 2})
    sandbox.fault("result", "delay", seconds=0)
    sandbox.fault("result", "gone", times=3)
    state = upscale_video(sandbox.host(clip), f"{tmp_path}/", twice, **FAST, return_state=True)
    video = state.result()
    assert (state.name, video.cached, video.others[0].cached) == ("Completed", False, False)
    run_id = state.state_details.flow_run_id
    assert api.task_runs(run_id)["store_upscale"]["run_count"] == 2
    assert not [one for one in api.artifacts(run_id) if "nothing was bought" in str(one["data"])]
    assert (sandbox.ledger.submits, len(sandbox.purchases())) == (1, 2)


def test_a_renamed_source_gets_a_result_of_its_name_for_nothing(
    evolink, sandbox, clip, tmp_path
) -> None:
    first = upscale_video(clip, f"{tmp_path}/out/", evolink, **FAST)
    renamed = tmp_path / "my clip, \u00fcber #2.mp4"
    shutil.copy(clip, renamed)
    second = upscale_video(renamed, f"{tmp_path}/out/", evolink, **FAST)
    assert Path(second.url).name == "my clip, \u00fcber #2-2x.mp4"
    assert second.sha256 == first.sha256
    assert str(renamed) in Path(second.receipt_url).read_text()
    assert len(sandbox.purchases()) == 1


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
def test_the_blocking_endpoint_is_bought_once_and_shown_too(  # noqa: PLR0917  # fixtures
    response_format, oxen, sandbox, clip, tmp_path, api
) -> None:
    update = {"mode": "sync", "response_format": response_format}
    blocking = oxen.model_copy(update=update)
    source = sandbox.host(clip)
    state = upscale_video(source, f"{tmp_path}/", blocking, **FAST, return_state=True)
    assert_whole(state.result(), blocking)
    assert state.result().job_id is None
    texts = [str(one["data"]) for one in api.artifacts(state.state_details.flow_run_id)]
    assert any("without an id" in text for text in texts)
    assert upscale_video(source, f"{tmp_path}/", blocking, **FAST).cached
    assert len(sandbox.purchases()) == 1


def test_a_block_of_a_store_is_a_destination(oxen, sandbox, clip) -> None:
    place = RemoteFileSystem(basepath=f"memory://flows-{uuid.uuid4().hex}")
    first = upscale_video(sandbox.host(clip), place, oxen, **FAST)
    assert fsspec.core.url_to_fs(first.url)[0].size(first.url) == first.bytes
    assert first.url.endswith(f"{place.basepath.rpartition('/')[2]}/clip-1080p.mp4")
    assert upscale_video(sandbox.host(clip), place, oxen, **FAST).cached
    assert len(sandbox.purchases()) == 1
