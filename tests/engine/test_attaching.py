"""A run that goes on with another run's job is found by its own flow run's id as well."""

import asyncio
from dataclasses import replace

import pytest

from prefect_topaz import engine
from prefect_topaz.engine import Context
from prefect_topaz.errors import JobFailed
from prefect_topaz.journal import Record
from prefect_topaz.models import Place
from tests.engine.bench import PROVIDERS, Bench
from tests.engine.watched import Watched


def run(bench: Bench, name: str | None, provider: str = "oxen") -> Context:
    return replace(bench.context(provider), flow_run_id=name)


async def of_run(bench: Bench, name: str) -> list[str]:
    """List the jobs that are found by a flow run's id."""
    journal = bench.context().journal(engine.journal_of(bench.place()))
    found: tuple[Record, ...] = await journal.of_run(name)
    return [job_id for one in found for job_id in one.latest("submitted").job_ids]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_job_is_found_by_every_run_that_waits_for_it(bench: Bench, provider):
    for name in ("first", "second", "third"):
        await bench.submit(provider, run(bench, name, provider))
    for name in ("first", "second", "third"):
        assert await of_run(bench, name) == bench.bought
    assert await of_run(bench, "fourth") == []
    assert await bench.kinds(provider) == ["intent", "submitted", "attached", "attached"]
    assert bench.posts == 1


async def test_a_run_is_noted_once_however_often_it_comes(bench: Bench):
    for name in ("first", "first", "second", "second", "first"):
        await bench.submit(context=run(bench, name))
    assert await bench.kinds() == ["intent", "submitted", "attached"]


async def test_whoever_has_no_flow_run_leaves_no_note(bench: Bench):
    for _ in range(2):
        await bench.submit(context=run(bench, None))
    assert await bench.kinds() == ["intent", "submitted"]


async def test_a_run_that_finds_a_stored_result_leaves_no_note(bench: Bench):
    await bench.deliver(context=run(bench, "first"))
    (video,) = await bench.deliver(context=run(bench, "second"))
    assert video.cached
    assert "attached" not in await bench.kinds()
    assert await of_run(bench, "second") == []


async def test_a_run_that_finds_a_failed_job_leaves_no_note(bench: Bench):
    bench.sandbox.fault("job", "fail")
    with pytest.raises(JobFailed):
        await bench.deliver(context=run(bench, "first"))
    with pytest.raises(JobFailed):
        await bench.deliver(context=run(bench, "second"))
    assert "attached" not in await bench.kinds()


async def test_a_result_that_waits_to_be_stored_is_found_by_the_run_that_will(bench: Bench):
    await bench.finish(context=run(bench, "first"))
    await bench.submit(context=run(bench, "second"))
    assert await of_run(bench, "second") == bench.bought
    (video,) = await bench.deliver(context=run(bench, "third"))
    assert [video.job_id] == bench.bought


async def test_a_note_that_cannot_be_written_costs_the_run_nothing(bench: Bench, watched: Place):
    first = await bench.submit(context=run(bench, "first"), journal=watched)
    Watched.full = "0003.json"
    second = await bench.submit(context=run(bench, "second"), journal=watched)
    assert second.reattached
    assert second.job_ids == first.job_ids
    assert any("could not be noted" in line for line in bench.lines)


async def test_a_note_waits_for_its_turn_where_another_run_writes_as_well(
    bench: Bench, watched: Place
):
    await bench.submit(context=run(bench, "first"), journal=watched)
    runs = [bench.submit(context=run(bench, str(n)), journal=watched) for n in range(8)]
    await asyncio.gather(*runs)
    kinds = await bench.kinds(journal=watched)
    assert kinds == ["intent", "submitted", *["attached"] * 8]
