"""Going through a journal: paid results are claimed, lost answers ruled on, nothing is bought."""

from datetime import datetime

import pytest

from prefect_topaz import engine
from prefect_topaz.engine import Rulings
from prefect_topaz.errors import InvalidRequest, JobFailed, OutcomeUnknown, StillRunning
from prefect_topaz.outcomes import SettleReport
from prefect_topaz.providers.oxen import OxenOptions
from tests.engine.bench import PROVIDERS, Bench

providers = pytest.mark.parametrize("provider", PROVIDERS)


async def settle(
    bench: Bench, provider: str = "oxen", rulings: Rulings | None = None
) -> SettleReport:
    place = bench.place()
    return await engine.settle(bench.context(provider), place, engine.journal_of(place), rulings)


def states(report: SettleReport) -> list[str]:
    return [item.state for item in report.items]


async def lost(bench: Bench, provider: str = "evolink") -> str:
    """Lose the answer to an order, and give its work key."""
    bench.sandbox.fault("submit", "cut")
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.submit(provider)
    return caught.value.work_key


@providers
async def test_a_paid_result_that_nobody_waits_for_is_stored(bench: Bench, provider):
    await bench.submit(provider)
    assert states(await settle(bench, provider)) == ["running"]
    report = await settle(bench, provider)
    assert states(report) == ["stored"]
    assert [video.job_id for video in report.stored] == bench.bought
    (video,) = await bench.deliver(provider)
    assert video.cached
    assert bench.posts == 1


async def test_what_is_stored_is_left_alone(bench: Bench):
    await bench.deliver()
    asked = len(bench.sandbox.requests())
    assert states(await settle(bench)) == []
    assert len(bench.sandbox.requests()) == asked


async def test_a_blocking_result_that_nobody_stored_is_stored(bench: Bench):
    """It has no id to ask for: whoever takes that for an end throws a paid video away."""
    order = OxenOptions(resolution="1080p", mode="sync").order()
    await bench.submit(order=order)
    report = await settle(bench)
    assert states(report) == ["stored"]
    assert await bench.kinds(order=order) == ["intent", "submitted", "finished", "stored"]
    (video,) = await bench.deliver(order=order)
    assert video.cached
    assert bench.posts == 1


async def test_a_job_that_was_waited_for_in_vain_is_stored(bench: Bench):
    job = await bench.submit()
    with pytest.raises(StillRunning):
        await engine.wait(bench.context(), job, deadline=0)
    await settle(bench)
    assert states(await settle(bench)) == ["stored"]


async def test_the_other_providers_work_is_left_alone(bench: Bench):
    await bench.submit("evolink")
    assert states(await settle(bench, "oxen")) == []


async def test_a_lost_answer_is_looked_up(bench: Bench):
    bench.sandbox.fault("list", "5xx", times=4)
    await lost(bench, "oxen")
    assert states(await settle(bench)) == ["running"]
    report = await settle(bench)
    assert [video.job_id for video in report.stored] == bench.bought
    assert bench.posts == 1


async def test_what_nobody_can_look_up_waits_for_a_ruling(bench: Bench):
    key = await lost(bench)
    for _ in range(2):
        report = await settle(bench, "evolink")
        (item,) = report.undecided
        assert (item.work_key, item.billed) == (key, "maybe")
        assert key in item.detail
    assert bench.posts == 1


async def test_a_person_may_name_the_job(bench: Bench):
    key = await lost(bench)
    ruled = Rulings(adopt={key: bench.bought[0]})
    assert states(await settle(bench, "evolink", ruled)) == ["running"]
    (video,) = await bench.deliver("evolink")
    assert [video.job_id] == bench.bought
    assert bench.posts == 1


async def test_a_person_may_have_it_bought_again(bench: Bench):
    key = await lost(bench)
    report = await settle(bench, "evolink", Rulings(buy_again=(key,)))
    assert states(report) == ["released"]
    assert bench.posts == 1
    (video,) = await bench.deliver("evolink")
    assert video.job_id == bench.bought[1]
    assert len({one.idempotency_key for one in bench.sandbox.purchases()}) == 2


async def test_a_person_may_give_it_up(bench: Bench):
    key = await lost(bench)
    assert states(await settle(bench, "evolink", Rulings(give_up=(key,)))) == ["given_up"]
    assert states(await settle(bench, "evolink")) == ["given_up"]
    with pytest.raises(JobFailed):
        await bench.submit("evolink")
    assert bench.posts == 1


@pytest.mark.parametrize("ruling", ["adopt", "buy_again", "give_up"])
async def test_a_ruling_about_settled_work_is_refused_and_nothing_is_done(bench: Bench, ruling):
    job = await bench.submit()
    value = {job.work_key: "x"} if ruling == "adopt" else (job.work_key,)
    with pytest.raises(InvalidRequest, match="no undecided work"):
        await settle(bench, rulings=Rulings(**{ruling: value}))
    assert await bench.kinds() == ["intent", "submitted"]


@pytest.mark.parametrize("ruling", ["adopt", "buy_again", "give_up"])
async def test_a_ruling_never_undoes_what_a_run_found_meanwhile(bench: Bench, ruling):
    """Between the reading of the journal and the ruling, the slow owner heard its answer."""
    key = await lost(bench)
    context = bench.context("evolink")
    journal = context.journal(engine.journal_of(bench.place()))
    record = await journal.read(key)
    heard = context.event("submitted", job_ids=tuple(bench.bought))
    now = bench.clock.now

    def late() -> datetime:
        # The ruling asks for the time, and only then writes.
        bench.clock.now = now
        assert journal._append(record, heard) is not None
        return now()

    bench.clock.now = late
    value = {key: "x"} if ruling == "adopt" else (key,)
    await settle(bench, "evolink", Rulings(**{ruling: value}))
    assert (await journal.read(key)).latest("submitted") == heard
    assert (await journal.read(key)).state == "submitted"


async def test_a_purchase_in_progress_is_left_to_its_owner(bench: Bench):
    await bench.submit()
    record = await bench.record()
    folder = bench.folder / "out/.topaz" / record.key
    (folder / "0002.json").unlink()
    assert states(await settle(bench)) == ["running"]
    bench.clock.passed += 400
    assert states(await settle(bench)) == ["running"]
    assert await bench.kinds() == ["intent", "unknown", "submitted"]
    assert bench.posts == 1


@providers
async def test_refused_orders_are_released(bench: Bench, provider):
    bench.sandbox.fault("submit", "refused", status=402)
    with pytest.raises(Exception, match="402"):
        await bench.submit(provider)
    (item,) = (await settle(bench, provider)).items
    assert (item.state, item.billed) == ("released", "no")


@pytest.mark.parametrize(
    ("provider", "state", "billed"), [("oxen", "failed", "maybe"), ("evolink", "failed", "no")]
)
async def test_a_job_that_failed_is_told(bench: Bench, provider, state, billed):
    bench.sandbox.fault("job", "fail", message="GPU on fire")
    await bench.submit(provider)
    await settle(bench, provider)
    (item,) = (await settle(bench, provider)).items
    assert (item.state, item.billed) == (state, billed)
    assert "GPU on fire" in item.detail


async def test_a_wrong_result_is_trouble_and_stays_paid(bench: Bench):
    bench.sandbox.fault("job", "wrong_video", what="size")
    await bench.submit()
    await settle(bench)
    (item,) = (await settle(bench)).items
    assert (item.state, item.billed) == ("trouble", "yes")
    assert "ordered 1920x1080" in item.detail


async def test_trouble_with_one_piece_of_work_does_not_hold_the_others_back(bench: Bench):
    bench.sandbox.fault("job", "wrong_video", what="size")
    await bench.submit()
    await bench.submit(again=1)
    await settle(bench)
    assert sorted(states(await settle(bench))) == ["stored", "trouble"]


async def test_foreign_folders_in_the_journal_are_no_work(bench: Bench):
    await bench.submit()
    (bench.folder / "out/.topaz/lost+found").mkdir()
    assert states(await settle(bench)) == ["running"]
