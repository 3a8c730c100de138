"""Jobs that fail and orders that are refused: what may be bought anew, and what may not."""

import pytest

from prefect_topaz import engine, errors
from prefect_topaz.models import JobStatus
from prefect_topaz.providers.evolink import Provider as EvoLink
from prefect_topaz.wire import Reply
from tests.engine.bench import PROVIDERS, Bench


async def test_a_failure_that_was_not_charged_may_be_bought_anew(bench: Bench):
    bench.sandbox.fault("job", "fail", message="try later", code="service_error")
    with pytest.raises(errors.JobFailed, match=r"try later \(service_error\)") as caught:
        await bench.deliver("evolink")
    assert caught.value.billed == "no"
    assert "run again to order it anew" in str(caught.value)
    (video,) = await bench.deliver("evolink")
    first, second = bench.sandbox.purchases()
    assert video.job_id == second.job_id
    assert (first.charged, second.charged) == (False, True)


async def test_buying_anew_takes_a_key_of_its_own(bench: Bench):
    """With the old key EvoLink would hand out the failed task again."""
    bench.sandbox.fault("job", "fail", times=2)
    for _ in range(2):
        with pytest.raises(errors.JobFailed):
            await bench.deliver("evolink")
    await bench.deliver("evolink")
    keys = [one.idempotency_key for one in bench.sandbox.purchases()]
    assert len(set(keys)) == 3
    assert all(16 <= len(key) <= 96 for key in keys)
    assert await bench.kinds("evolink") == [
        *("intent", "submitted", "failed"),
        *("intent", "submitted", "failed"),
        *("intent", "submitted", "finished", "stored"),
    ]


async def test_a_failure_that_may_have_been_charged_is_told_and_not_bought(bench: Bench):
    bench.sandbox.fault("job", "fail", message="Insufficient credits")
    for _ in range(3):
        with pytest.raises(errors.JobFailed, match="Insufficient credits") as caught:
            await bench.deliver("oxen")
        assert caught.value.billed == "maybe"
        assert "higher `again`" in str(caught.value)
        assert [caught.value.job_id] == bench.bought
    assert bench.posts == 1


class Charging(EvoLink):
    """EvoLink on a day when it charges for a failure."""

    def read_status(self, job_id: str, reply: Reply) -> JobStatus:
        status = super().read_status(job_id, reply)
        return status.model_copy(update={"billed": "yes"})


async def test_a_failure_that_was_charged_is_never_bought_anew(bench: Bench):
    bench.sandbox.fault("job", "fail")
    context = bench.context(dialect=Charging(bench.sandbox.url))
    for _ in range(2):
        with pytest.raises(errors.JobFailed) as caught:
            await bench.deliver("evolink", context)
        assert caught.value.billed == "yes"
    assert bench.posts == 1


async def test_a_failed_job_is_written_down_once_and_not_asked_again(bench: Bench):
    bench.sandbox.fault("job", "fail")
    job = await bench.submit("evolink")
    for _ in range(3):
        with pytest.raises(errors.JobFailed):
            await engine.wait(bench.context("evolink"), job)
    assert await bench.kinds("evolink") == ["intent", "submitted", "failed"]
    assert len(bench.asked("GET", "/v1/tasks/")) == 2


@pytest.mark.parametrize("moment", ["submitted", "intended", "unknown"])
async def test_a_late_waiter_never_writes_a_new_purchase_off(bench: Bench, moment):
    """Two runs wait for one job. It fails uncharged, and the first run buys anew at once.

    When the second run sees the old job's end, it must not take the new one for failed: that would
    let a third purchase through while the second is paid for.
    """
    bench.sandbox.fault("job", "fail")
    old = await bench.submit("evolink")
    context = bench.context("evolink")
    journal = context.journal(old.journal)

    async def meanwhile() -> None:
        with pytest.raises(errors.JobFailed):
            await engine.wait(bench.context("evolink"), old)
        if moment == "submitted":
            await bench.submit("evolink")
            return
        record = await journal.read(old.work_key)
        intent = record.latest("intent").model_copy(update={"attempt": 2, "nonce": "another"})
        record = await journal.append(record, intent)
        if moment == "unknown":
            await journal.append(record, context.event("unknown", attempt=2))

    bench.clock.alarms[1] = meanwhile
    with pytest.raises(errors.JobFailed):
        await engine.wait(context, old)
    record = await journal.read(old.work_key)
    assert record.state == moment
    assert not record.may_buy


REFUSALS = [
    ("oxen", 400, None, errors.RejectedParameters),
    ("oxen", 401, None, errors.Unauthorized),
    ("oxen", 402, None, errors.InsufficientCredits),
    ("oxen", 403, None, errors.AccessDenied),
    ("oxen", 404, None, errors.NotFound),
    ("oxen", 422, None, errors.RejectedParameters),
    ("evolink", 400, "invalid_parameter", errors.RejectedParameters),
    ("evolink", 400, "video_probe_failed", errors.RejectedParameters),
    ("evolink", 401, "unauthorized", errors.Unauthorized),
    ("evolink", 402, "insufficient_quota", errors.InsufficientCredits),
    ("evolink", 403, "model_access_denied", errors.AccessDenied),
    ("evolink", 500, "insufficient_user_quota", errors.InsufficientCredits),
]


@pytest.mark.parametrize(("provider", "status", "code", "kind"), REFUSALS)
async def test_a_refused_order_costs_nothing_and_is_bought_when_mended(
    bench: Bench, provider, status, code, kind
):
    bench.sandbox.fault("submit", "refused", status=status, code=code)
    with pytest.raises(kind) as caught:
        await bench.deliver(provider)
    assert caught.value.billed == "no"
    assert caught.value.work_key == (await bench.record(provider)).key
    assert await bench.kinds(provider) == ["intent", "refused"]
    assert bench.bought == []
    await bench.deliver(provider)
    assert len(bench.bought) == 1
    assert bench.posts == 2


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_key_that_is_wrong_buys_nothing(bench: Bench, provider):
    context = bench.context(provider, key="wrong")
    with pytest.raises(errors.Unauthorized):
        await bench.submit(provider, context)
    assert bench.bought == []
    await bench.submit(provider)
    assert len(bench.bought) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_busy_provider_is_asked_again(bench: Bench, provider):
    bench.sandbox.fault("submit", "429", times=2, retry_after=7)
    await bench.submit(provider)
    assert bench.clock.naps == [7, 7]
    assert (len(bench.bought), bench.posts) == (1, 3)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_stays_busy_has_sold_nothing(bench: Bench, provider):
    bench.sandbox.fault("submit", "429", times=4)
    with pytest.raises(errors.RateLimited) as caught:
        await bench.submit(provider)
    assert caught.value.billed == "no"
    assert (bench.bought, bench.posts) == ([], 4)
    assert await bench.kinds(provider) == ["intent", "refused"]


async def test_a_provider_that_asks_for_more_patience_than_a_lease_has_is_left(bench: Bench):
    bench.sandbox.fault("submit", "429", retry_after=200)
    with pytest.raises(errors.RateLimited):
        await bench.submit()
    assert bench.clock.naps == []
    assert bench.posts == 1


async def test_a_provider_that_is_not_there_has_sold_nothing(bench: Bench):
    purchase = await bench.purchase()
    bench.sandbox.stop()
    with pytest.raises(errors.ProviderUnavailable) as caught:
        await engine.submit(bench.context(), purchase)
    assert caught.value.billed == "no"
    record = (
        await bench.context().journal(engine.journal_of(bench.place())).read(caught.value.work_key)
    )
    assert [event.kind for event in record.events] == ["intent", "refused"]
    assert record.may_buy
