"""The hooks by themselves: all they have is a flow run with raw parameters, and the journal."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.filesystems import RemoteFileSystem
from prefect.states import Cancelling, Crashed

from prefect_topaz import (
    OxenUpscaler,
    aupscale_video,
    aupscale_videos,
    cancel_upscales_on_cancellation,
    note_upscales_on_crash,
    submit_upscale,
    upscale_video,
    upscale_videos,
)
from prefect_topaz.journal import Journal
from prefect_topaz.models import Place
from prefect_topaz.places import open_folder
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import Scene, deletes, scene


@pytest.fixture
def it(api, clip, tmp_path) -> Iterator[Scene]:
    with Sandbox() as sandbox:
        sandbox.fault("job", "delay", seconds=60, times=3)
        yield scene(api, sandbox, "oxen", clip, tmp_path)


@flow(name="orders")
def orders(source: str, destination: Any, upscaler: OxenUpscaler, journal: Any = None) -> None:
    submit_upscale(source, upscaler, destination, journal=journal)


@flow(name="calls")
def calls(source: str, destination: Any, upscaler: OxenUpscaler) -> None:
    orders(source, destination, upscaler)


def ordered(it: Scene, by: Any = orders, **changes: Any) -> Any:
    """Order in a flow run that ends, and give it with its parameters as the API gives them."""
    given = {**it.parameters, **changes}
    state = by(**given, return_state=True)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(state.state_details.flow_run_id)
    return run.model_copy(update={"parameters": given})


def cancelled(it: Scene, run: Any, start: str) -> str:
    cancel_upscales_on_cancellation(orders, run, Cancelling())
    return it.said(str(run.id), start)


def test_every_flow_of_the_package_has_the_hooks() -> None:
    for one in (upscale_video, aupscale_video, upscale_videos, aupscale_videos):
        assert one.on_cancellation_hooks == [cancel_upscales_on_cancellation]
        assert one.on_crashed_hooks == [note_upscales_on_crash]


def test_a_cancelled_runs_job_is_found_in_the_journal_and_cancelled_once(it) -> None:
    run = ordered(it)
    assert f"job {it.job_id} at oxen was cancelled" in cancelled(it, run, "job ")
    assert "no upscale" in cancelled(it, run, "no upscale of this run is running")
    assert len(deletes(it.sandbox)) == 1


def test_the_hook_works_inside_a_running_loop(it) -> None:
    """A child flow's hooks are called by the engine, on its own loop."""
    run = ordered(it)

    async def called() -> None:
        await asyncio.sleep(0)
        cancel_upscales_on_cancellation(orders, run, Cancelling())

    asyncio.run(called())
    assert it.status == "cancelled"


def test_a_runner_that_is_stopped_cancels_no_job(it) -> None:
    """It cancels its runs, for a redeploy say, and their hooks with them; no person means it."""
    run = ordered(it)
    cancel_upscales_on_cancellation(orders, run, Cancelling(message="Runner is shutting down."))
    assert "the next run goes on with it, which buys nothing" in it.said(str(run.id), "job ")
    it.assert_kept()


def test_a_job_that_a_called_flow_ordered_belongs_to_the_run_too(it) -> None:
    cancelled(it, ordered(it, by=calls), "job ")
    assert it.status == "cancelled"


def test_another_runs_job_is_left_alone(it) -> None:
    run = ordered(it)
    stranger = run.model_copy(update={"id": uuid.uuid4()})
    cancel_upscales_on_cancellation(orders, stranger, Cancelling())
    assert not deletes(it.sandbox)


def test_the_journal_is_found_behind_saved_blocks(it) -> None:
    name = uuid.uuid4().hex[:8]
    place = RemoteFileSystem(basepath=f"memory://{name}/videos")
    reference = {"$ref": {"block_document_id": str(place.save(f"place-{name}"))}}
    run = ordered(it, destination=reference, journal=f"{it.place}/own-journal")
    cancelled(it, run, "job ")
    assert it.status == "cancelled"


def test_a_job_whose_answer_was_lost_is_found_at_the_provider_and_cancelled(it) -> None:
    it.sandbox.fault("submit", "cut")
    it.sandbox.fault("list", "refused", status=403)  # at the flow's own look-up
    run = ordered(it)
    cancelled(it, run, "job ")
    assert it.status == "cancelled"


def test_a_crash_is_noted_and_cancels_nothing(it) -> None:
    run = ordered(it)
    note_upscales_on_crash(orders, run, Crashed())
    line = it.said(str(run.id), "job ")
    assert f"job {it.job_id} at oxen" in line
    assert "the next run goes on with it, which buys nothing" in line
    it.assert_kept()


@pytest.mark.parametrize("upscaler", [None, {"credentials": {"api_key": "********"}}])
def test_without_a_saved_block_the_log_names_what_runs_on(upscaler, it) -> None:
    """A block made in code is recorded with its key masked: there is nothing to cancel with."""
    run = ordered(it)
    parameters = {**run.parameters, "upscaler": upscaler}
    masked = run.model_copy(update={"parameters": parameters})
    line = cancelled(it, masked, "the upscales of this run")
    assert it.job_id in line
    assert "settle_upscales" in line
    assert not deletes(it.sandbox)


def test_a_block_of_another_provider_cancels_nothing(it, api, clip, tmp_path) -> None:
    run = ordered(it)
    other = scene(api, it.sandbox, "evolink", clip, tmp_path)
    parameters = {**run.parameters, "upscaler": {"$ref": other.reference}}
    line = cancelled(it, run.model_copy(update={"parameters": parameters}), "job ")
    assert "is not cancelled: the run's upscaler is one of evolink" in line
    assert not deletes(it.sandbox)


def test_a_broken_record_does_not_hide_the_others(it) -> None:
    run = ordered(it)
    broken = it.place / ".topaz" / ("0" * 64)
    broken.mkdir(parents=True)
    (broken / "0001.json").write_text("{")
    journal = Journal(open_folder(Place(url=f"{it.place}/.topaz")))
    (found,) = asyncio.run(journal.of_run(str(run.id)))
    assert found.latest("submitted").job_ids == (it.job_id,)
    assert asyncio.run(journal.of_run("another")) == ()
