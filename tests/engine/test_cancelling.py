"""Cancelling: what the provider did about it, on record, and never a second purchase."""

import pytest

from prefect_topaz import engine
from prefect_topaz.errors import JobCancelled
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.sandbox import Choices, Sandbox
from tests.engine.bench import Bench, Clock


@pytest.fixture
def bench(clip, tmp_path):
    """Jobs that run until they are asked about for the fiftieth time."""
    clock = Clock()
    with Sandbox(reads=50, clock=clock.unix) as sandbox:
        yield Bench(sandbox, clock, tmp_path, clip)


async def test_a_cancelled_job_is_read_back_and_written_down(bench: Bench):
    job = await bench.submit()
    outcome = await engine.cancel(bench.context(), job)
    assert (outcome.outcome, outcome.phase) == ("cancelled", "cancelled")
    assert outcome.job_id == job.job_ids[0]
    assert bench.sandbox.jobs[job.job_ids[0]].status == "cancelled"
    assert len(bench.asked("DELETE", "/api/ai/queue/")) == 1
    assert await bench.kinds() == ["intent", "submitted", "cancelled"]


async def test_a_repeat_after_a_cancel_says_so_and_buys_nothing(bench: Bench):
    job = await bench.submit()
    await engine.cancel(bench.context(), job)
    with pytest.raises(JobCancelled, match="cancelled on request") as caught:
        await bench.submit()
    assert caught.value.billed == "maybe"
    assert caught.value.job_id == job.job_ids[0]
    with pytest.raises(JobCancelled):
        await engine.wait(bench.context(), job)
    assert bench.posts == 1


async def test_whoever_waits_for_a_job_that_is_cancelled_learns_it(bench: Bench):
    job = await bench.submit()

    async def cancel() -> None:
        await engine.cancel(bench.context(), job)

    bench.clock.alarms = {3: cancel}
    with pytest.raises(JobCancelled):
        await engine.wait(bench.context(), job)
    assert await bench.kinds() == ["intent", "submitted", "cancelled"]


async def test_a_job_cancelled_by_somebody_else_is_written_down_by_the_wait(bench: Bench):
    job = await bench.submit()
    await bench.client().cancel(job.job_ids[0])
    with pytest.raises(JobCancelled) as caught:
        await engine.wait(bench.context(), job)
    assert caught.value.billed == "maybe"
    assert await bench.kinds() == ["intent", "submitted", "cancelled"]


async def test_a_job_that_succeeded_meanwhile_is_still_stored(clip, tmp_path):
    clock = Clock()
    with Sandbox(reads=1, clock=clock.unix) as sandbox:
        bench = Bench(sandbox, clock, tmp_path, clip)
        finished = await bench.finish()
        outcome = await engine.cancel(bench.context(), finished.job)
        assert (outcome.outcome, outcome.phase) == ("already_finished", "succeeded")
        (video,) = await bench.deliver()
        assert [video.job_id] == bench.bought
        assert bench.posts == 1


async def test_a_provider_that_refuses_to_cancel_a_finished_job_is_read_back(clip, tmp_path):
    clock = Clock()
    choices = Choices(cancel_terminal_status=400)
    with Sandbox(reads=1, clock=clock.unix, choices=choices) as sandbox:
        bench = Bench(sandbox, clock, tmp_path, clip)
        finished = await bench.finish()
        outcome = await engine.cancel(bench.context(), finished.job)
        assert outcome.outcome == "already_finished"
        assert outcome.reply.startswith("400")


async def test_evolink_cannot_cancel_and_says_so(bench: Bench):
    job = await bench.submit("evolink")
    asked = len(bench.sandbox.requests())
    outcome = await engine.cancel(bench.context("evolink"), job)
    assert outcome.outcome == "not_supported"
    assert "runs on and is charged" in outcome.reply
    assert len(bench.sandbox.requests()) == asked
    assert await bench.kinds("evolink") == ["intent", "submitted"]
    assert (await bench.submit("evolink")).reattached


@pytest.mark.parametrize("kind", ["5xx", "429", "cut"])
async def test_trouble_while_cancelling_is_an_answer_and_no_verdict(bench: Bench, kind):
    job = await bench.submit()
    bench.sandbox.fault("cancel", kind, times=4)
    bench.sandbox.fault("status", "5xx", times=40)
    outcome = await engine.cancel(bench.context(), job)
    assert outcome.outcome == "unknown"
    assert await bench.kinds() == ["intent", "submitted"]
    assert (await bench.submit()).reattached


async def test_a_cancel_that_takes_no_effect_is_no_cancel(bench: Bench):
    job = await bench.submit()
    bench.sandbox.fault("cancel", "5xx", times=4)
    outcome = await engine.cancel(bench.context(), job)
    assert (outcome.outcome, outcome.phase) == ("unknown", "processing")
    assert await bench.kinds() == ["intent", "submitted"]


async def test_all_generations_are_cancelled(bench: Bench):
    order = OxenOptions(resolution="1080p", num_generations=3).order()
    job = await bench.submit(order=order)
    outcome = await engine.cancel(bench.context(), job)
    assert outcome.outcome == "cancelled"
    assert outcome.job_id == ", ".join(job.job_ids)
    assert {bench.sandbox.jobs[job_id].status for job_id in job.job_ids} == {"cancelled"}
    assert await bench.kinds(order=order) == ["intent", "submitted", "cancelled"]


async def test_generations_that_could_not_all_be_cancelled_are_waited_for(bench: Bench):
    order = OxenOptions(resolution="1080p", num_generations=2).order()
    job = await bench.submit(order=order)
    bench.sandbox.fault("cancel", "5xx", times=4)
    outcome = await engine.cancel(bench.context(), job)
    assert outcome.outcome == "unknown"
    assert f"{job.job_ids[1]}: cancelled" in outcome.reply
    assert await bench.kinds(order=order) == ["intent", "submitted"]
    (video,) = await bench.deliver(order=order)
    assert video.job_id == job.job_ids[0]
    assert video.warnings == (f"generation {job.job_ids[1]} cancelled: cancelled",)


async def test_a_cancel_of_an_old_job_leaves_the_new_purchase_alone(bench: Bench):
    """The flow run's own job was replaced in the record; cancelling it is about the old one."""
    job = await bench.submit()
    old = job.model_copy(update={"job_ids": (await bench.submit(again=1)).job_ids})
    outcome = await engine.cancel(bench.context(), old)
    assert outcome.outcome == "cancelled"
    assert await bench.kinds() == ["intent", "submitted"]
