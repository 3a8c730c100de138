"""An owner whose time is up sends nothing, and writes nothing over what came after it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from prefect_topaz import client, engine, http
from prefect_topaz.engine import lease, sending
from prefect_topaz.errors import OutcomeUnknown, ProviderUnavailable
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.providers import Dialect, load
from tests.engine.bench import PROVIDERS, Bench, default_order


def hooked(
    bench: Bench,
    provider: str = "oxen",
    *,
    before: Callable[[], Any] = lambda: None,
    after: Callable[[], Any] = lambda: None,
) -> Dialect:
    """Make a dialect with something happening right before the POST, or once, after its answer."""
    once = iter([after])

    class Hooked(load(provider)):
        def submit(self, *order: Any) -> Any:
            before()
            return super().submit(*order)

        def read_submit(self, *answer: Any) -> Any:
            next(once, lambda: None)()
            return super().read_submit(*answer)

    return Hooked(bench.sandbox.url)


def frozen(bench: Bench, provider: str, before: Callable[[], Any]) -> engine.Context:
    return bench.context(provider, dialect=hooked(bench, provider, before=before))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_run_that_slept_past_its_time_sends_nothing_and_the_next_one_buys(
    bench: Bench, provider
):
    def sleep() -> None:
        bench.clock.passed += 121

    with pytest.raises(ProviderUnavailable, match=r"not sent: 121 s .* run again") as caught:
        await bench.submit(provider, frozen(bench, provider, sleep))
    assert caught.value.billed == "no"
    assert caught.value.work_key
    assert bench.posts == 0
    assert await bench.kinds(provider) == ["intent", "refused"]
    job = await bench.submit(provider)
    assert not job.reattached
    assert bench.posts == 1


async def test_a_run_that_is_just_in_time_buys(bench: Bench):
    def dawdle() -> None:
        bench.clock.passed += 120

    await bench.submit("oxen", frozen(bench, "oxen", dawdle))
    assert bench.posts == 1
    assert await bench.kinds() == ["intent", "submitted"]


@pytest.mark.parametrize("stands", ["monotonic", "wall"])
async def test_either_clock_is_enough_to_see_that_time_is_up(bench: Bench, stands):
    """A suspended machine's monotonic clock stands; a wall clock may be set back meanwhile."""
    passed = 0.0

    def sleep() -> None:
        nonlocal passed
        passed = 3600.0

    context = frozen(bench, "oxen", sleep)
    if stands == "monotonic":
        now = context.client.now
        context.client.now = lambda: now() + timedelta(seconds=passed)
    else:
        context = replace(context, monotonic=lambda: passed)
    with pytest.raises(ProviderUnavailable, match="not sent: 3600 s"):
        await bench.submit("oxen", context)
    assert bench.posts == 0


async def test_a_wall_clock_that_is_set_back_does_not_stop_a_purchase(bench: Bench):
    context = bench.context()
    times = iter(range(0, -(10**6), -1000))
    now = context.client.now
    context.client.now = lambda: now() + timedelta(seconds=next(times))
    await bench.submit("oxen", context)
    assert bench.posts == 1


async def test_a_repeat_of_a_refused_order_is_in_time_or_is_not_sent(bench: Bench):
    """Each attempt was refused for certain, so giving up costs nothing."""

    async def crawl() -> None:
        bench.clock.passed += 130

    bench.sandbox.fault("submit", "429", times=4)
    bench.clock.alarms = {1: crawl}
    with pytest.raises(ProviderUnavailable, match="not sent"):
        await bench.submit()
    assert bench.posts == 1
    assert bench.bought == []
    assert await bench.kinds() == ["intent", "refused"]


def test_a_second_sending_fits_the_longer_lease():
    """The first one's whole way, the pause, and then the second one's."""
    once = 2 * http._TIMEOUT.connect + http._TIMEOUT.write + http._TIMEOUT.read
    assert lease._SENDABLE + once + sending._PAUSE <= lease._SENDABLE + lease._SECOND
    journalling = 20
    order = default_order("evolink").model_copy(update={"resend_unknown": True})
    assert lease._SENDABLE + lease._SECOND + once + journalling <= lease.lease_of(order)


@pytest.mark.parametrize("whole", [lease.LEASE, lease.BLOCKING_LEASE])
def test_the_longest_way_through_a_purchase_fits_the_lease(whole):
    """Whoever changes a time-out must look at the lease."""
    connect = 2 * http._TIMEOUT.connect  # TCP, and then TLS
    answer = http._TIMEOUT.read if whole == lease.LEASE else 3600
    journalling = 20
    longest = lease._SENDABLE + connect + http._TIMEOUT.write + answer + journalling
    assert longest <= whole
    # A provider that says when to come again is waited for within the time to send.
    assert client.SUBMIT_PATIENCE * 1.25 < lease._SENDABLE


class Others:
    """What other runs and a person do while an owner is frozen: its work is released, and bought.

    Args:
        bench: The workbench.
        purchase: The work.
    """

    def __init__(self, bench: Bench, purchase: engine.Purchase) -> None:
        self.bench = bench
        self.context = bench.context()
        place = engine.journal_of(purchase.destination)
        self.journal: Journal = self.context.journal(place)
        self.key = bench.key(self.context, purchase)

    def overtake(self) -> None:
        """Count the owner as gone, rule that the work be bought again, and begin to."""
        self.bench.clock.passed += 400
        intent = self.journal._read(self.key).last
        self.append(self.context.event("unknown", billed="maybe"))
        self.append(self.context.event("failed", billed="no", ruling="buy_again"))
        begun = {"nonce": "another", "at": self.context.client.now(), "by": self.context.owner}
        self.append(intent.model_copy(update=begun))

    def append(self, event: Event) -> Record:
        written = self.journal._append(self.journal._read(self.key), event)
        assert written is not None
        return written


async def test_an_overtaken_owner_does_not_refuse_the_purchase_of_another(bench: Bench):
    """Its `refused` after the other's intent would let a third run buy beside that one."""
    others = Others(bench, await bench.purchase())
    with pytest.raises(ProviderUnavailable, match="not sent"):
        await bench.submit("oxen", frozen(bench, "oxen", others.overtake))
    assert bench.posts == 0
    assert await bench.kinds() == ["intent", "unknown", "failed", "intent"]


async def test_an_overtaken_owner_whose_answer_is_lost_waits_for_the_other(bench: Bench):
    others = Others(bench, await bench.purchase())
    bench.sandbox.fault("submit", "garbage")
    context = bench.context(dialect=hooked(bench, after=others.overtake))
    with pytest.raises(OutcomeUnknown, match="wrote an intent and nothing after it"):
        await bench.submit("oxen", context)
    assert bench.posts == 1
    assert await bench.kinds() == ["intent", "unknown", "failed", "intent", "unknown"]
