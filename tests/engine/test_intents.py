"""One buys, everybody else waits for its outcome: concurrent runs, dead owners, skewed clocks."""

import asyncio
from datetime import timedelta

import anyio
import pytest

from prefect_topaz import engine
from prefect_topaz.engine import purchase as purchasing
from prefect_topaz.engine.lease import LEASE
from prefect_topaz.engine.purchase import idempotency_key
from prefect_topaz.errors import JobFailed, OutcomeUnknown
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Place
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.wire import Accepted
from tests.engine.bench import PROVIDERS, Bench, Clock, until
from tests.engine.watched import Watched

SKEW = timedelta(seconds=50)


class Owner:
    """Another process, step by step."""

    def __init__(self, bench: Bench, provider: str = "oxen") -> None:
        self.bench, self.provider = bench, provider
        self.context = bench.context(provider)

    async def intend(self, ahead: timedelta = timedelta(0)) -> None:
        """Write the intent, by a clock that is ahead of ours."""
        self.purchase = await self.bench.purchase(self.provider)
        order, source = self.purchase.order, self.purchase.source
        key = self.bench.key(self.context, self.purchase)
        client = self.context.client
        self.url = await source.link(client.dialect, None, client.now())
        assert self.url is not None
        intent = self.context.event(
            "intent",
            order=order,
            source=source.facts,
            destination=self.purchase.destination,
            source_digest=self.url.digest,
            lease=LEASE,
        )
        self.ahead = ahead
        self.record = await self.append(Record(key=key), intent)

    async def post(self) -> None:
        """Send the order, and keep the answer for oneself."""
        key = idempotency_key(self.record.key, self.record.last)
        reply = await self.context.client.submit(self.purchase.order, self.url, key)
        self.verdict = self.context.client.dialect.read_submit(self.purchase.order, reply)
        assert isinstance(self.verdict, Accepted)

    async def tell(self) -> None:
        """Write down what the answer said."""
        event = self.context.event("submitted", job_ids=self.verdict.job_ids)
        await self.append(self.record, event)

    async def append(self, record: Record, event: Event) -> Record:
        journal: Journal = self.context.journal(
            engine.journal_of(self.purchase.destination, self.purchase.journal)
        )
        event = event.model_copy(update={"at": event.at + self.ahead})
        written = await journal.append(record, event)
        assert written is not None
        return written


@pytest.fixture
def still(clip, tmp_path):
    """A bench whose clock stands: its lease never runs out, however long a test takes."""
    clock = Clock(pause=0.002)
    clock.stands = True
    with Sandbox(reads=1, clock=clock.unix) as sandbox:
        yield Bench(sandbox, clock, tmp_path, clip)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("runs", [2, 10])
async def test_runs_at_the_same_time_buy_once_and_share_the_job(still: Bench, provider, runs):
    jobs = await asyncio.gather(*(still.submit(provider) for _ in range(runs)))
    assert [job.job_ids for job in jobs] == [tuple(still.bought)] * runs
    assert sorted(job.reattached for job in jobs) == [False] + [True] * (runs - 1)
    assert still.posts == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_of_two_that_have_read_an_empty_journal_one_orders(
    still: Bench, watched: Place, tmp_path, provider
):
    """Both look for the video at the destination, after the journal and before their intents."""
    Watched.gather(2)
    options = {
        "destination": Place(url="watched://videos/"),
        "journal": Place(url=str(tmp_path / "journal")),
    }
    runs = (still.submit(provider, **options) for _ in range(2))
    jobs = await asyncio.gather(*runs)
    assert sorted(job.reattached for job in jobs) == [False, True]
    assert still.posts == 1


async def test_runs_at_the_same_time_end_with_one_file(still: Bench):
    results = await asyncio.gather(*(still.deliver("evolink") for _ in range(4)))
    assert len({video.sha256 for (video,) in results}) == 1
    assert len({video.url for (video,) in results}) == 1
    assert (len(still.bought), still.posts) == (1, 1)


async def test_different_works_at_the_same_time_do_not_wait_for_each_other(still: Bench):
    jobs = await asyncio.gather(*(still.submit(again=number) for number in range(5)))
    assert sorted(job_id for job in jobs for job_id in job.job_ids) == sorted(still.bought)
    assert still.posts == 5
    assert still.clock.naps == []


async def test_a_run_waits_for_the_one_that_buys(bench: Bench):
    owner = Owner(bench)
    await owner.intend()
    bench.clock.alarms = {2: owner.post, 4: owner.tell}
    job = await bench.submit()
    assert job.reattached
    assert list(job.job_ids) == bench.bought
    assert bench.clock.naps == [2.0] * 4
    assert bench.posts == 1
    assert [line for line in bench.lines if "another run" in line] == bench.lines[:1]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_owner_that_died_before_it_sent_is_never_replaced(bench: Bench, provider):
    """Whether it sent is not known; only a person can rule that."""
    await Owner(bench, provider).intend()
    with pytest.raises(OutcomeUnknown, match="wrote an intent and nothing after it"):
        await bench.submit(provider)
    assert bench.clock.passed >= LEASE
    assert bench.posts == 0
    assert await bench.kinds(provider) == ["intent", "unknown"]


async def test_an_owner_that_died_after_it_sent_leaves_a_job_to_adopt(bench: Bench):
    owner = Owner(bench)
    await owner.intend()
    await owner.post()
    job = await bench.submit()
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1
    assert await bench.kinds() == ["intent", "unknown", "submitted"]


async def test_an_owner_that_wakes_after_it_was_given_up_is_heard(bench: Bench):
    owner = Owner(bench, "evolink")
    await owner.intend()
    await owner.post()
    with pytest.raises(OutcomeUnknown):
        await bench.submit("evolink")
    owner.record = await bench.record("evolink")
    await owner.tell()
    job = await bench.submit("evolink")
    assert job.reattached
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1


async def test_a_clock_that_is_ahead_delays_the_takeover_by_one_lease_only(bench: Bench):
    await Owner(bench).intend(ahead=timedelta(hours=1))
    with pytest.raises(OutcomeUnknown):
        await bench.submit()
    assert LEASE <= bench.clock.passed < 2 * LEASE
    assert bench.posts == 0


async def test_a_clock_that_is_behind_makes_nobody_hasty(bench: Bench):
    owner = Owner(bench)
    await owner.intend(ahead=-SKEW)
    looks = int((LEASE - 10) / 2)
    bench.clock.alarms = {looks: owner.post, looks + 1: owner.tell}
    assert (await bench.submit()).reattached
    assert bench.posts == 1


async def test_an_old_intent_is_ruled_on_without_waiting_another_lease(bench: Bench):
    await Owner(bench).intend()
    bench.clock.passed += 10 * LEASE
    with pytest.raises(OutcomeUnknown):
        await bench.submit()
    assert sum(bench.clock.naps) < 60


async def test_an_owner_that_is_refused_lets_the_next_one_buy(bench: Bench):
    owner = Owner(bench)
    await owner.intend()

    async def refused() -> None:
        await owner.append(owner.record, owner.context.event("refused", reason="no credits"))

    bench.clock.alarms = {3: refused}
    job = await bench.submit()
    assert not job.reattached
    assert bench.posts == 1
    assert await bench.kinds() == ["intent", "refused", "intent", "submitted"]


async def test_an_owner_whose_job_fails_for_money_stops_those_who_wait(bench: Bench):
    owner = Owner(bench)
    await owner.intend()

    async def failed() -> None:
        await owner.post()
        event = owner.context.event("submitted", job_ids=owner.verdict.job_ids)
        owner.record = await owner.append(owner.record, event)
        await owner.append(owner.record, owner.context.event("failed", billed="maybe"))

    bench.clock.alarms = {1: failed}
    with pytest.raises(JobFailed):
        await bench.submit()
    assert bench.posts == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_caller_who_leaves_in_mid_purchase_finds_the_job_later(bench: Bench, provider):
    bench.sandbox.fault("submit", "delay", seconds=0.5)
    caller = asyncio.create_task(bench.submit(provider))
    await until(lambda: bench.bought)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await bench.kinds(provider) == ["intent", "submitted"]
    job = await bench.submit(provider)
    assert job.reattached
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1


async def test_a_purchase_that_outlasts_the_grace_is_written_down_as_unknown(
    bench: Bench, monkeypatch
):
    monkeypatch.setattr(purchasing, "_GRACE", 0.05)
    bench.sandbox.fault("submit", "delay", seconds=0.5)
    caller = asyncio.create_task(bench.submit())
    await until(lambda: bench.bought)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert "interrupted by CancelledError" in (await bench.record()).last.reason
    assert list((await bench.submit()).job_ids) == bench.bought
    assert bench.posts == 1


async def test_a_caller_who_leaves_while_another_buys_changes_nothing(still: Bench):
    owner = Owner(still)
    await owner.intend()
    waiting = asyncio.create_task(still.submit())
    await until(lambda: still.clock.naps)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await still.kinds() == ["intent"]
    assert still.posts == 0


async def test_a_refusal_after_the_lease_does_not_undo_what_others_found(bench: Bench):
    """The frozen owner is refused, but somebody found a job that echoes the very same request."""
    owner = Owner(bench)
    await owner.intend()
    await owner.post()
    bench.clock.passed += 400
    found = await bench.submit()
    bench.sandbox.fault("submit", "refused", status=402)
    slow = bench.context()
    refusal = slow.client.dialect.read_submit(
        owner.purchase.order, await slow.client.submit(owner.purchase.order, owner.url, "again")
    )
    journal = slow.journal(found.journal)
    with pytest.raises(type(refusal.error)):
        await purchasing._refused(slow, journal, owner.record, refusal.error)
    assert (await bench.record()).state == "submitted"


async def test_a_time_out_that_cancels_again_and_again_loses_no_purchase(bench: Bench):
    bench.sandbox.fault("submit", "delay", seconds=0.5)
    with anyio.CancelScope() as scope:
        ordered = asyncio.ensure_future(until(lambda: bench.posts == 1))
        ordered.add_done_callback(lambda _: scope.cancel())
        await bench.submit()
    assert scope.cancelled_caught
    assert await bench.kinds() == ["intent", "submitted"]
    assert (len(bench.bought), bench.posts) == (1, 1)
