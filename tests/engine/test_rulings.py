"""Rulings: checked before anything is done, and written down with who gave them."""

from typing import Any

import pytest

from prefect_topaz import engine
from prefect_topaz.engine import Rulings
from prefect_topaz.errors import InvalidRequest, OutcomeUnknown
from prefect_topaz.models import Order
from prefect_topaz.outcomes import SettleReport
from prefect_topaz.providers.oxen import OxenOptions
from tests.engine.bench import Bench

THREE = OxenOptions(resolution="1080p", num_generations=3).order()


async def settle(bench: Bench, provider: str, **rulings: Any) -> SettleReport:
    place = bench.place()
    return await engine.settle(
        bench.context(provider), place, engine.journal_of(place), Rulings(**rulings)
    )


async def lost(bench: Bench, provider: str = "evolink", **changes: Any) -> str:
    """Lose the answer to an order that the listing cannot tell of, and give its work key."""
    bench.sandbox.fault("submit", "cut")
    bench.sandbox.fault("list", "5xx", times=4)
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.submit(provider, **changes)
    return caught.value.work_key


async def stranger(bench: Bench, provider: str = "evolink", order: Order | None = None) -> str:
    """Buy a job that this journal knows nothing of."""
    changes = {"order": order} if order else {}
    job = await bench.submit(provider, destination=bench.place("else"), again=9, **changes)
    return job.job_ids[0]


async def refused(bench: Bench, provider: str, match: str, **rulings: Any) -> None:
    with pytest.raises(InvalidRequest, match=match) as caught:
        await settle(bench, provider, **rulings)
    assert caught.value.billed == "no"
    assert "submitted" not in await bench.kinds(provider)


async def test_each_generation_of_an_order_may_be_named(bench: Bench):
    key = await lost(bench, "oxen", order=THREE)
    report = await settle(bench, "oxen", adopt={key: bench.bought})
    assert report.items[0].job_ids == tuple(bench.bought)
    videos = await bench.deliver(order=THREE)
    assert sorted(video.job_id for video in videos) == sorted(bench.bought)
    assert bench.posts == 1


async def test_fewer_jobs_than_were_ordered_may_be_there(bench: Bench):
    key = await lost(bench, "oxen", order=THREE)
    await settle(bench, "oxen", adopt={key: bench.bought[:2]})
    videos = await bench.deliver(order=THREE)
    assert [video.job_id for video in videos] == bench.bought[:2]
    assert any("1 generations fewer" in warning for warning in videos[0].warnings)


@pytest.mark.parametrize("ids", [[], "", " ", ["a", "b"], ["a", ""]])
async def test_as_many_ids_as_jobs_were_ordered_are_taken(bench: Bench, ids):
    key = await lost(bench)
    await refused(
        bench, "evolink", f"adopted for work {key}, which ordered 1: give one", adopt={key: ids}
    )


async def test_an_id_may_be_pasted_with_spaces(bench: Bench):
    key = await lost(bench)
    report = await settle(bench, "evolink", adopt={key: f" {bench.bought[0]}\n"})
    assert report.items[0].job_ids == tuple(bench.bought)


async def test_the_job_of_another_work_is_refused_by_that_works_name(bench: Bench):
    other = await bench.submit("evolink", again=1)
    key = await lost(bench)
    await refused(bench, "evolink", f"work {other.work_key}", adopt={key: other.job_ids[0]})


async def test_the_failed_job_before_is_refused_too(bench: Bench):
    bench.sandbox.fault("job", "fail")
    failed = (await bench.submit("evolink")).job_ids[0]
    for _ in range(2):
        await settle(bench, "evolink")
    key = await lost(bench)
    with pytest.raises(InvalidRequest, match="in the journal already"):
        await settle(bench, "evolink", adopt={key: failed})


async def test_one_job_is_not_adopted_for_two_works(bench: Bench):
    keys = [await lost(bench), await lost(bench, again=1)]
    job_id = await stranger(bench)
    await refused(
        bench, "evolink", f"job {job_id} is adopted twice", adopt=dict.fromkeys(keys, job_id)
    )


@pytest.mark.parametrize("provider", ["oxen", "evolink"])
async def test_a_job_that_the_provider_does_not_know_is_refused(bench: Bench, provider):
    key = await lost(bench, provider)
    await refused(bench, provider, f"{provider} knows no job mistyped", adopt={key: "mistyped"})


async def test_what_the_queue_forgot_may_be_adopted_by_the_history(bench: Bench):
    key = await lost(bench, "oxen")
    bench.sandbox.fault("status", "forget", history=True)
    await settle(bench, "oxen", adopt={key: bench.bought[0]})
    record = await bench.record()
    assert record.latest("submitted").job_ids == tuple(bench.bought)
    assert record.latest("submitted").reason is None


async def test_a_provider_that_is_away_does_not_stop_a_ruling_and_the_journal_says_so(bench: Bench):
    key = await lost(bench)
    bench.sandbox.fault("status", "5xx", times=8)
    await settle(bench, "evolink", adopt={key: bench.bought[0]})
    event = (await bench.record("evolink")).latest("submitted")
    assert event.job_ids == tuple(bench.bought)
    assert "could not be asked" in event.reason


async def test_two_rulings_on_one_work_are_refused(bench: Bench):
    key = await lost(bench)
    await refused(bench, "evolink", "two rulings", buy_again=(key,), give_up=(key,))


@pytest.mark.parametrize("ruling", ["adopt", "buy_again", "give_up"])
async def test_who_ruled_is_written_down_with_the_time(bench: Bench, ruling):
    key = await lost(bench)
    value: Any = {key: bench.bought[0]} if ruling == "adopt" else (key,)
    await settle(bench, "evolink", **{ruling: value}, by="ada@example.com")
    (event,) = (one for one in (await bench.record("evolink")).events if one.ruling)
    assert (event.ruling, event.ruled_by) == (ruling, "ada@example.com")
    assert event.at <= bench.clock.now()
    assert event.by


async def test_the_next_step_is_a_call_that_can_be_copied(bench: Bench):
    key = await lost(bench)
    (item,) = (await settle(bench, "evolink")).undecided
    place, calls = bench.place().url, []

    def settle_upscales(*given: Any, **rulings: Any) -> None:
        calls.append((given, rulings))

    for ruling in ("adopt=", "buy_again=", "give_up="):
        start = item.detail.index(f"settle_upscales({place!r}, upscaler, {ruling}")
        text = item.detail[start : item.detail.index(")", start) + 1]
        eval(text, {"settle_upscales": settle_upscales, "upscaler": "block"})
    assert [one for one, _ in calls] == [(place, "block")] * 3
    assert [one for _, one in calls] == [
        {"adopt": {key: "<job id>"}},
        {"buy_again": [key]},
        {"give_up": [key]},
    ]


async def test_the_next_step_names_a_journal_that_is_elsewhere_and_each_generation(bench: Bench):
    journal = bench.place("journal")
    await lost(bench, "oxen", order=THREE, journal=journal)
    bench.sandbox.fault("list", "5xx", times=4)
    (item,) = (await engine.settle(bench.context(), bench.place(), journal)).undecided
    assert f"upscaler, journal={journal.url.rstrip('/')!r}, adopt=" in item.detail
    assert "['<job id>', '<job id>']" in item.detail
