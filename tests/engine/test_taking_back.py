"""A caller who leaves while its intent is being written takes it back: nothing was sent."""

import asyncio

import pytest

from prefect_topaz.models import Place
from tests.engine.bench import PROVIDERS, Bench, until
from tests.engine.watched import Watched

providers = pytest.mark.parametrize("provider", PROVIDERS)


async def leave(bench: Bench, provider: str, journal: Place, times: int = 1) -> None:
    """Cancel a purchase in the moment in which its intent is being written."""
    with Watched.shut():
        caller = asyncio.create_task(bench.submit(provider, journal=journal))
        await until(Watched.waiting.is_set)
        for _ in range(times):
            caller.cancel()
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await caller


@providers
async def test_an_intent_that_was_not_followed_by_an_order_is_taken_back(
    bench: Bench, watched: Place, provider
):
    await leave(bench, provider, watched)
    record = await bench.record(provider, journal=watched)
    assert [event.kind for event in record.events] == ["intent", "refused"]
    assert record.last.reason == "cancelled before it was sent"
    assert bench.posts == 0


@providers
async def test_the_next_run_buys_at_once(bench: Bench, watched: Place, provider):
    await leave(bench, provider, watched)
    job = await bench.submit(provider, journal=watched)
    assert not job.reattached
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1
    assert sum(bench.clock.naps) == 0


async def test_a_caller_who_is_cancelled_again_and_again_takes_it_back_too(
    bench: Bench, watched: Place
):
    await leave(bench, "oxen", watched, times=3)
    await until(lambda: len(Watched.store) == 2)
    assert await bench.kinds(journal=watched) == ["intent", "refused"]


async def test_an_intent_that_could_not_be_written_needs_no_taking_back(
    bench: Bench, watched: Place
):
    Watched.full = "0001.json"
    await leave(bench, "oxen", watched)
    assert await bench.kinds(journal=watched) == []
    assert bench.posts == 0


async def test_a_taking_back_that_cannot_be_written_is_told_and_buys_nothing(
    bench: Bench, watched: Place
):
    Watched.full = "0002.json"
    await leave(bench, "oxen", watched)
    await until(lambda: any("could not be taken back" in line for line in bench.lines))
    assert await bench.kinds(journal=watched) == ["intent"]
    assert bench.posts == 0
