"""Going through a journal: paid results are claimed, lost answers ruled on, nothing is bought."""

import json
from datetime import datetime
from decimal import Decimal

import pytest

from prefect_topaz import engine
from prefect_topaz.engine import Rulings
from prefect_topaz.errors import (
    InvalidRequest,
    JobFailed,
    OutcomeUnknown,
    ResultMismatch,
    StillRunning,
)
from prefect_topaz.models import Cost, JobStatus, Place
from prefect_topaz.outcomes import SettleReport
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.providers.oxen import Provider as Oxen
from prefect_topaz.wire import Reply
from tests.engine.bench import PROVIDERS, Bench
from tests.engine.watched import Watched

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
    assert states(await settle(bench, "evolink", ruled)) == ["stored"]
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
    other = (await bench.submit("evolink", destination=bench.place("else"), again=1)).job_ids[0]
    key = await lost(bench)
    context = bench.context("evolink")
    journal = context.journal(engine.journal_of(bench.place()))
    record = await journal.read(key)
    heard = context.event("submitted", job_ids=(bench.bought[1],))
    now = bench.clock.now

    def late() -> datetime:
        # The ruling asks for the time, and only then writes.
        bench.clock.now = now
        assert journal._append(record, heard) is not None
        return now()

    bench.clock.now = late
    value = {key: other} if ruling == "adopt" else (key,)
    await settle(bench, "evolink", Rulings(**{ruling: value}))
    assert (await journal.read(key)).latest("submitted") == heard
    assert "failed" not in [event.kind for event in (await journal.read(key)).events]


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


async def test_a_rejected_result_is_not_fetched_at_every_settle(bench: Bench):
    """On a schedule that would be for ever; a person takes it, or a run looks at it once more."""
    bench.sandbox.fault("job", "wrong_video", what="size")
    with pytest.raises(ResultMismatch) as caught:
        await bench.deliver()
    asked = len(bench.sandbox.requests())
    (item,) = (await settle(bench)).items
    assert (item.state, item.billed) == ("trouble", "yes")
    assert item.detail == caught.value.message
    assert len(bench.sandbox.requests()) == asked
    context, place = bench.context(), bench.place()
    report = await engine.settle(context, place, engine.journal_of(place), verify="off")
    assert states(report) == ["stored"]
    assert states(await settle(bench)) == []
    assert bench.posts == 1


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


async def test_items_come_in_the_order_of_their_keys_however_long_each_takes(bench: Bench):
    keys = []
    for number in range(12):
        url = bench.sandbox.host(bench.clip, f"{number}.mp4")
        keys.append((await bench.submit(again=number, url=url)).work_key)
    bench.sandbox.fault("status", "delay", seconds=0.2)
    for _ in range(2):
        report = await settle(bench)
        assert [item.work_key for item in report.items] == sorted(keys)
    assert [video.work_key for video in report.stored] == sorted(keys)
    assert bench.posts == 12


async def test_a_record_that_makes_no_sense_holds_no_other_back(bench: Bench):
    """It lacks what every writer writes: somebody edited it."""
    broken, whole = await bench.submit(), await bench.submit(again=1)
    file = bench.folder / "out/.topaz" / broken.work_key / "0001.json"
    intent = json.loads(file.read_text())
    file.write_text(json.dumps({name: intent[name] for name in intent if name != "destination"}))
    await settle(bench)
    found = {item.work_key: item for item in (await settle(bench)).items}
    assert found[whole.work_key].state == "stored"
    assert (found[broken.work_key].state, found[broken.work_key].billed) == ("trouble", "yes")
    assert found[broken.work_key].job_ids == broken.job_ids


async def test_the_cost_of_what_nothing_will_come_of_is_summed(bench: Bench):
    """Failed at Oxen.ai: whether it is charged is not documented, so it may be."""
    bench.sandbox.fault("job", "fail", times=2)
    for again in range(3):
        await bench.submit(again=again)
    for _ in range(2):
        report = await settle(bench)
    assert sorted(states(report)) == ["failed", "failed", "stored"]
    (one, other) = report.abandoned
    assert one.cost.estimate == other.cost.estimate
    assert report.abandoned_cost == f"${one.cost.estimate * 2}"


async def test_what_was_charged_for_a_failure_counts_more_than_its_estimate(bench: Bench):
    class Charging(Oxen):
        """A provider that says what a failed job cost."""

        def read_status(self, job_id: str, reply: Reply) -> JobStatus:
            status = super().read_status(job_id, reply)
            return status.model_copy(update={"cost": Cost(charged=Decimal("0.01"))})

    bench.sandbox.fault("job", "fail")
    await bench.submit()
    context = bench.context(dialect=Charging(bench.sandbox.url))
    place = bench.place()
    for _ in range(3):  # as it runs, as it is seen to fail, and ever after
        report = await engine.settle(context, place, engine.journal_of(place))
        told = (states(report), report.abandoned_cost)
        assert told in [(["running"], "nothing"), (["failed"], "$0.01")]
    assert told[0] == ["failed"]


async def test_work_that_was_given_up_or_released_may_still_cost(bench: Bench):
    keys = []
    for again in (0, 1):
        bench.sandbox.fault("submit", "refuse")
        with pytest.raises(OutcomeUnknown) as caught:
            await bench.submit(again=again)
        keys.append(caught.value.work_key)
    report = await settle(bench, rulings=Rulings(buy_again=(keys[0],), give_up=(keys[1],)))
    assert {(item.state, item.billed) for item in report.items} == {
        ("released", "maybe"),
        ("given_up", "maybe"),
    }
    assert report.abandoned_cost.startswith("$")


async def test_the_jobs_of_an_earlier_purchase_are_not_told_as_those_of_a_lost_one(bench: Bench):
    bench.sandbox.fault("job", "fail")
    await bench.submit("evolink")
    for _ in range(2):
        await settle(bench, "evolink")
    await lost(bench)
    (item,) = (await settle(bench, "evolink")).undecided
    assert item.job_ids == ()


async def test_a_failure_that_cost_nothing_is_released(bench: Bench):
    bench.sandbox.fault("job", "fail")
    await bench.submit("evolink")
    for _ in range(3):
        report = await settle(bench, "evolink")
    (item,) = report.items
    assert (item.state, item.billed) == ("released", "no")
    assert report.abandoned == ()


async def test_a_ruling_that_cannot_be_written_is_trouble_and_rules_nothing(
    bench: Bench, watched: Place
):
    bench.sandbox.fault("submit", "cut")
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.submit("evolink", journal=watched)
    Watched.full = "0003.json"
    key = caught.value.work_key
    report = await engine.settle(
        bench.context("evolink"), bench.place(), watched, Rulings(buy_again=(key,))
    )
    (item,) = report.items
    assert (item.state, item.work_key) == ("trouble", key)
    assert "cannot be written" in item.detail
    assert await bench.kinds("evolink", journal=watched) == ["intent", "unknown"]
