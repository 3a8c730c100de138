"""`upscale_videos`: many sources, one purchase each, and the others go on when one fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

from prefect_topaz import (
    BatchReport,
    EvoLinkCredentials,
    EvoLinkUpscaler,
    aupscale_videos,
    upscale_videos,
)
from prefect_topaz.sandbox import Sandbox, make_clip
from tests.prefect.support import FAST


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with three different clips."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        make_clip(folder / f"{number}.mp4", seconds=0.5, size=(64 + 16 * number, 36))
    return folder


def outcomes(report: BatchReport) -> dict[str, str]:
    """Say by file name how each video ended."""
    return {
        Path(item.source).name: "failed" if item.video is None
        else "found" if item.video.cached else "bought"
        for item in report.items
    }  # fmt: skip


def test_a_glob_is_upscaled_into_a_folder_and_shown_as_a_table(
    evolink, sandbox, clips, tmp_path, api
) -> None:
    state = upscale_videos(f"{clips}/*.mp4", f"{tmp_path}/out/", evolink, **FAST, return_state=True)
    report = state.result()
    assert outcomes(report) == {"0.mp4": "bought", "1.mp4": "bought", "2.mp4": "bought"}
    made = sorted(one.name for one in (tmp_path / "out").glob("*.mp4"))
    assert made == ["0-2x.mp4", "1-2x.mp4", "2-2x.mp4"]
    (table,) = api.artifacts(state.state_details.flow_run_id, "table")
    rows = json.loads(table["data"])
    assert [row["outcome"] for row in rows] == ["bought"] * 3
    assert [row["source"] for row in rows] == [f"{clips}/{n}.mp4" for n in range(3)]
    assert all("credits (charged)" in row["cost"] for row in rows)
    assert len(sandbox.purchases()) == 3


def test_only_what_is_new_or_changed_is_bought_by_the_next_run(
    evolink, sandbox, clips, tmp_path
) -> None:
    given = {"sources": f"{clips}/*.mp4", "destination": f"{tmp_path}/out/", "upscaler": evolink}
    upscale_videos(**given, **FAST)
    assert set(outcomes(upscale_videos(**given, **FAST)).values()) == {"found"}
    assert len(sandbox.purchases()) == 3
    make_clip(clips / "1.mp4", seconds=0.5, size=(128, 36))
    make_clip(clips / "3.mp4", seconds=0.5, size=(160, 36))
    changed = upscale_videos(**given, **FAST, overwrite=True)
    assert outcomes(changed) == {
        "0.mp4": "found",
        "1.mp4": "bought",
        "2.mp4": "found",
        "3.mp4": "bought",
    }
    assert len(sandbox.purchases()) == 5


def test_a_changed_video_never_replaces_the_old_result_unasked(
    evolink, sandbox, clips, tmp_path
) -> None:
    given = {"sources": f"{clips}/*.mp4", "destination": f"{tmp_path}/out/", "upscaler": evolink}
    upscale_videos(**given, **FAST)
    make_clip(clips / "1.mp4", seconds=0.5, size=(128, 36))
    report = upscale_videos(**given, **FAST)
    (failed,) = report.failed
    assert "overwrite" in (failed.error or "")
    assert failed.billed == "no"
    assert len(sandbox.purchases()) == 3


async def test_the_others_go_on_when_one_fails(evolink, sandbox, clips, tmp_path, api) -> None:
    (clips / "1.mp4").write_bytes(b"no video at all")
    sources = [f"{clips}/*.mp4", "https://[bad/clip.mp4", "nonsense://*/x.mp4", f"{clips}/none.mp4"]
    state = await aupscale_videos(sources, tmp_path / "out", evolink, **FAST, return_state=True)
    report = await state.aresult()
    assert [item.video is not None for item in report.items] == [True, False, True] + [False] * 3
    assert [item.billed for item in report.failed] == ["no"] * 4
    assert all("billed" in (item.error or "") for item in report.failed)
    assert len(report.stored) == len(sandbox.purchases()) == 2
    (table,) = api.artifacts(state.state_details.flow_run_id, "table")
    assert [row["outcome"] for row in json.loads(table["data"])].count("failed") == 4


def test_a_job_that_fails_is_reported_with_what_it_means_for_the_money(
    evolink, sandbox, clips, tmp_path
) -> None:
    sandbox.fault("job", "fail", message="no GPU")
    report = upscale_videos(f"{clips}/*.mp4", tmp_path / "out", evolink, **FAST)
    (failed,) = report.failed
    assert "no GPU" in (failed.error or "")
    assert failed.billed == "no"
    assert len(report.stored) == 2
    # An unbilled failure may be bought anew.
    assert not upscale_videos(f"{clips}/*.mp4", tmp_path / "out", evolink, **FAST).failed


def test_sources_with_one_name_are_refused_and_the_others_go_on(
    evolink, sandbox, clips, tmp_path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(clips / "0.mp4", other / "1.mp4")
    report = upscale_videos([f"{clips}/*.mp4", f"{other}/1.mp4"], tmp_path / "out", evolink, **FAST)
    assert [item.error is None for item in report.items] == [True, False, True, False]
    assert "same file name" in (report.failed[0].error or "")
    assert len(sandbox.purchases()) == 2


def test_a_source_that_is_listed_twice_is_one(evolink, sandbox, clips, tmp_path) -> None:
    """Two globs may overlap."""
    report = upscale_videos(
        [f"{clips}/0.mp4", f"{clips}/*.mp4", f"{clips}/0.mp4"], tmp_path / "out", evolink, **FAST
    )
    assert outcomes(report) == {"0.mp4": "bought", "1.mp4": "bought", "2.mp4": "bought"}


def test_the_same_content_under_two_names_is_bought_once(evolink, sandbox, tmp_path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    make_clip(clips / "a.mp4", seconds=0.5, size=(64, 36))
    shutil.copy(clips / "a.mp4", clips / "b.mp4")
    report = upscale_videos(f"{clips}/*.mp4", tmp_path / "out", evolink, **FAST)
    assert {Path(video.url).name for video in report.stored} == {"a-2x.mp4", "b-2x.mp4"}
    assert len({video.sha256 for video in report.stored}) == len(sandbox.purchases()) == 1


def test_results_beside_their_sources_are_never_upscaled_again(evolink, sandbox, clips) -> None:
    """A glob finds them too, and each night would buy its own results."""
    for _ in range(3):
        report = upscale_videos(f"{clips}/*.mp4", f"{clips}/", evolink, **FAST)
        assert set(outcomes(report)) == {"0.mp4", "1.mp4", "2.mp4"}
    assert len(sandbox.purchases()) == 3


def test_brackets_in_a_files_own_name_are_no_glob(evolink, clips, tmp_path) -> None:
    odd = (clips / "0.mp4").rename(clips / "take[1].mp4")
    report = upscale_videos([str(odd), f"{clips}/no[1].mp4"], tmp_path / "out", evolink, **FAST)
    assert outcomes(report) == {"take[1].mp4": "bought", "no[1].mp4": "failed"}


def test_a_glob_without_a_match_is_an_empty_batch(evolink, sandbox, tmp_path) -> None:
    report = upscale_videos(f"{tmp_path}/*.mp4", tmp_path / "out", evolink, **FAST)
    assert report == BatchReport(items=())
    assert not sandbox.requests()


def test_urls_are_taken_as_they_are(oxen, sandbox, clips, tmp_path) -> None:
    sources = [sandbox.host(clips / f"{n}.mp4", f"{n}.mp4") + "?a=*" for n in (0, 1)]
    report = upscale_videos(sources, tmp_path / "out", oxen, **FAST)
    assert outcomes(report) == {"0.mp4": "bought", "1.mp4": "bought"}
    sent = {one.request["input_video"] for one in sandbox.purchases()}
    assert sent == set(sources)


@pytest.mark.parametrize("bound", [1, 2])
def test_no_more_jobs_are_in_flight_than_allowed(bound, clips, tmp_path) -> None:
    with Sandbox(reads=6) as sandbox:
        credentials = EvoLinkCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
        evolink = EvoLinkUpscaler(credentials=credentials)
        upscale_videos(f"{clips}/*.mp4", tmp_path, evolink, max_in_flight=bound, **FAST)
        jobs = sandbox.jobs.values()
    assert len(jobs) == 3
    # It grows at purchases only; an end at the very moment of one has freed its place.
    beside = [sum(job.created <= at.created < job.completed for job in jobs) for at in jobs]
    assert max(beside) == bound


@pytest.mark.parametrize("bound", [0, 1001])
def test_a_bound_out_of_bounds_is_refused(bound: int, evolink, sandbox, tmp_path: Any) -> None:
    with pytest.raises(ParameterTypeError, match="max_in_flight"):
        upscale_videos("*.mp4", tmp_path, evolink, max_in_flight=bound)
    assert not sandbox.requests()


def test_max_cost_holds_for_each_video(oxen, sandbox, clips, tmp_path) -> None:
    long = make_clip(clips / "long.mp4", seconds=2, size=(64, 36))
    sources = [sandbox.host(clips / "0.mp4", "0.mp4"), sandbox.host(long, "long.mp4")]
    report = upscale_videos(sources, tmp_path / "out", oxen, **FAST, max_cost=0.03)
    assert outcomes(report) == {"0.mp4": "bought", "long.mp4": "failed"}
    assert "max_cost" in (report.failed[0].error or "")
    assert len(sandbox.purchases()) == 1
