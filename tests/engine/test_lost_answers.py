"""The paid request left and its answer did not arrive: looked up, adopted or asked, never resent."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from prefect_topaz.errors import JobFailed, OutcomeUnknown
from prefect_topaz.models import JobStatus, Order
from prefect_topaz.providers import Candidate
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.providers.oxen import Provider as Oxen
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.wire import Call, Reply, SubmitVerdict
from tests.engine.bench import Bench, until

LOST = {
    "cut": ("cut", {}),
    "bad gateway": ("5xx", {"status": 502, "accepted": True}),
    "server error": ("5xx", {"status": 500, "accepted": True}),
    "time-out at a proxy": ("5xx", {"status": 504, "accepted": True}),
    "garbage": ("garbage", {}),
}
lost = pytest.mark.parametrize("how", LOST)


def lose(sandbox: Sandbox, how: str, operation: str = "submit") -> None:
    kind, details = LOST[how]
    sandbox.fault(operation, kind, **details)


@lost
async def test_oxen_finds_its_job_by_the_echo_of_the_request(bench: Bench, how):
    lose(bench.sandbox, how)
    (video,) = await bench.deliver()
    assert [video.job_id] == bench.bought
    assert bench.posts == 1
    assert await bench.kinds() == ["intent", "unknown", "submitted", "finished", "stored"]
    assert any("the job was found" in line for line in bench.lines)


@lost
async def test_evolink_asks_and_never_sends_again(bench: Bench, how):
    lose(bench.sandbox, how)
    for _ in range(3):
        with pytest.raises(OutcomeUnknown) as caught:
            await bench.deliver("evolink")
        assert caught.value.billed == "maybe"
        assert bench.bought[0] in str(caught.value)  # a candidate, though no proof
        assert caught.value.work_key in str(caught.value)
    assert (len(bench.bought), bench.posts) == (1, 1)
    assert await bench.kinds("evolink") == ["intent", "unknown"]


@dataclass(frozen=True)
class Hurried(Oxen):
    """Oxen.ai for somebody who does not wait long for an answer."""

    patience: float = 0.5

    def submit(self, order: Order, source: SignedUrl, key: str) -> Call:
        return replace(super().submit(order, source, key), read_seconds=self.patience)


async def test_an_answer_that_comes_too_late_is_looked_up(bench: Bench):
    bench.sandbox.fault("submit", "delay", seconds=0.8)
    job = await bench.submit(context=bench.context(dialect=Hurried(bench.sandbox.url)))
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1
    assert "ReadTimeout" in (await bench.record()).latest("unknown").reason


async def test_an_order_that_was_never_taken_stays_unknown(bench: Bench):
    """The connection closed before anything was read; nobody here can know that."""
    bench.sandbox.fault("submit", "refuse")
    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match="no job of that time is listed") as caught:
            await bench.deliver()
        assert caught.value.billed == "maybe"
    assert (bench.bought, bench.posts) == ([], 1)


async def test_an_empty_list_of_generations_is_no_refusal(bench: Bench):
    bench.sandbox.fault("submit", "empty", message="No capacity")
    with pytest.raises(OutcomeUnknown, match="without generation ids: No capacity"):
        await bench.deliver()
    assert bench.posts == 1


async def test_a_listing_that_is_down_leaves_it_for_the_next_run(bench: Bench):
    bench.sandbox.fault("submit", "cut")
    bench.sandbox.fault("list", "5xx", times=4)
    with pytest.raises(OutcomeUnknown, match="the provider's listing gave no answer"):
        await bench.deliver()
    (video,) = await bench.deliver()
    assert [video.job_id] == bench.bought
    assert bench.posts == 1


async def test_three_lost_generations_are_found_all_or_not_at_all(bench: Bench):
    bench.sandbox.fault("submit", "cut")
    job = await bench.submit(order=OxenOptions(resolution="1080p", num_generations=3).order())
    assert sorted(job.job_ids) == sorted(bench.bought)
    assert len(bench.bought) == 3
    assert bench.posts == 1


async def test_two_jobs_that_could_be_it_are_named_and_none_is_taken(bench: Bench):
    (stranger,) = (await bench.submit(destination=bench.place("of somebody else"))).job_ids
    bench.sandbox.fault("submit", "cut")
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.submit()
    assert all(job_id in str(caught.value) for job_id in bench.bought)
    assert stranger in bench.bought
    assert bench.posts == 2
    assert (await bench.record()).state == "unknown"


async def test_a_job_that_belongs_to_other_work_is_never_adopted(bench: Bench):
    await bench.submit()
    bench.sandbox.fault("submit", "5xx", status=502)
    with pytest.raises(OutcomeUnknown, match="no job of that time"):
        await bench.submit(again=1)
    assert (len(bench.bought), bench.posts) == (1, 2)


async def test_an_old_job_of_the_same_kind_is_never_adopted(bench: Bench):
    await bench.submit(destination=bench.place("of last week"))
    bench.clock.passed += 3600
    bench.sandbox.fault("submit", "5xx", status=502)
    with pytest.raises(OutcomeUnknown, match="no job of that time"):
        await bench.submit()


class Timeless(Oxen):
    """A provider whose listing does not say when a job was taken."""

    def read_lookup(
        self, order: Order, source_digest: str, replies: Sequence[Reply]
    ) -> tuple[Candidate, ...]:
        found = super().read_lookup(order, source_digest, replies)
        return tuple(replace(one, created_at=None) for one in found)


async def test_a_job_of_unknown_age_is_not_ruled_out(bench: Bench):
    bench.sandbox.fault("submit", "cut")
    job = await bench.submit(context=bench.context(dialect=Timeless(bench.sandbox.url)))
    assert list(job.job_ids) == bench.bought


class Gracious(Oxen):
    """A provider that proves its jobs by an echo, and charges nothing for those that fail."""

    def read_status(self, job_id: str, reply: Reply) -> JobStatus:
        status = super().read_status(job_id, reply)
        billed = "no" if status.phase == "failed" else status.billed
        return status.model_copy(update={"billed": billed})


async def test_the_failed_job_before_is_not_taken_for_the_lost_one(bench: Bench):
    """Else its failure would be read once more, and the lost one be bought a second time."""
    bench.sandbox.fault("job", "fail")
    context = bench.context(dialect=Gracious(bench.sandbox.url))
    with pytest.raises(JobFailed):
        await bench.deliver(context=context)
    bench.sandbox.fault("submit", "cut")
    (video,) = await bench.deliver(context=context)
    assert video.job_id == bench.bought[1]
    assert bench.posts == 2


class Stumbling(Oxen):
    """A dialect with a bug in the one place where it costs money."""

    def read_submit(self, order: Order, reply: Reply) -> SubmitVerdict:
        raise KeyError("generations")


async def test_a_dialect_that_stumbles_over_the_answer_loses_no_job(bench: Bench):
    job = await bench.submit(context=bench.context(dialect=Stumbling(bench.sandbox.url)))
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1


async def test_a_full_disk_under_the_answer_loses_no_job(bench: Bench, monkeypatch):
    """The answer of the blocking endpoint is spooled, and there is no room for it."""
    monkeypatch.setattr(tempfile, "tempdir", str(bench.folder / "not there"))
    order = OxenOptions(resolution="1080p", mode="sync").order()
    job = await bench.submit(order=order)
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1


@lost
async def test_a_lost_blocking_answer_is_found_in_the_history_and_stored(bench: Bench, how):
    lose(bench.sandbox, how, "generate")
    order = OxenOptions(resolution="1080p", mode="sync").order()
    (video,) = await bench.deliver(order=order)
    assert [video.job_id] == bench.bought
    assert bench.posts == 1


async def test_a_slow_owner_does_not_undo_what_others_found(bench: Bench):
    """The owner was frozen beyond its lease, another run found the job, and no answer comes."""
    bench.sandbox.fault("submit", "delay", seconds=0.8)
    slow = bench.context(dialect=Hurried(bench.sandbox.url))
    owner = asyncio.create_task(bench.submit(context=slow))
    await until(lambda: bench.bought)
    bench.clock.passed += 400
    found = await bench.submit()
    assert (await owner).job_ids == found.job_ids == tuple(bench.bought)
    assert bench.posts == 1
    kinds = await bench.kinds()
    assert "unknown" not in kinds[kinds.index("submitted") :]


async def test_a_429_behind_which_a_task_may_exist_is_not_sent_again(bench: Bench):
    code = {"status": 429, "code": "paid_outcome_unknown", "message": "in progress"}
    bench.sandbox.fault("submit", "refused", times=4, **code)
    with pytest.raises(OutcomeUnknown):
        await bench.submit("evolink")
    assert bench.posts == 1


async def test_a_job_that_was_ordered_long_after_is_not_taken_for_the_lost_one(bench: Bench):
    bench.sandbox.fault("submit", "refuse")
    with pytest.raises(OutcomeUnknown):
        await bench.submit()
    next((bench.folder / "out/.topaz").glob("*/0002.json")).unlink()  # its writer died before
    bench.clock.passed += 7 * 24 * 3600
    source = bench.sandbox.host(bench.clip)
    await bench.client().submit(OxenOptions(resolution="1080p").order(), SignedUrl(source), "other")
    with pytest.raises(OutcomeUnknown):
        await bench.submit()
