"""`resend_unknown`: one more sending with the same key, where it was asked for and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_topaz import engine
from prefect_topaz.engine import lease
from prefect_topaz.errors import InsufficientCredits, JobFailed, OutcomeUnknown
from prefect_topaz.models import Order, StoredVideo, work_key
from prefect_topaz.providers.evolink import EvoLinkOptions
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.sandbox.choices import Choices
from prefect_topaz.sandbox.ledger import RecordedRequest
from tests.engine.bench import Bench, Clock, default_order

PATH = "/v1/videos/generations"
TWICE = EvoLinkOptions(upscale_factor="2", resend_unknown=True).order()
LOST = {
    "cut": ("cut", {}),
    "bad gateway": ("5xx", {"status": 502, "accepted": True}),
    "server error": ("5xx", {"status": 500, "accepted": True}),
    "garbage": ("garbage", {}),
}
NEVER_TAKEN = {
    "cut": ("refuse", {}),
    "bad gateway": ("5xx", {"status": 502, "accepted": False}),
}


def orders(bench: Bench) -> list[RecordedRequest]:
    return bench.asked("POST", PATH)


async def deliver(bench: Bench, order: Order = TWICE) -> StoredVideo:
    (video,) = await bench.deliver("evolink", order=order)
    return video


@pytest.mark.parametrize("how", LOST)
async def test_a_lost_answer_is_had_by_one_more_sending_with_the_same_key(bench: Bench, how):
    kind, details = LOST[how]
    bench.sandbox.fault("submit", kind, **details)
    video = await deliver(bench)
    assert [video.job_id] == bench.bought
    assert video.warnings == ()
    first, second = orders(bench)
    for name in ("idempotency-key", "content-length", "content-type"):
        assert first.headers[name] == second.headers[name]
    assert await bench.kinds("evolink") == ["intent", "submitted", "finished", "stored"]
    reason = (await bench.record("evolink")).latest("submitted").reason
    assert "the provider answered for the first sending" in reason
    assert any("sent once more with the same key" in line for line in bench.lines)


@pytest.mark.parametrize("how", LOST)
async def test_without_the_setting_nothing_is_sent_again(bench: Bench, how):
    kind, details = LOST[how]
    bench.sandbox.fault("submit", kind, **details)
    with pytest.raises(OutcomeUnknown):
        await deliver(bench, default_order("evolink"))
    assert len(orders(bench)) == 1


async def test_the_second_sending_leaves_a_moment_after_the_first(bench: Bench):
    bench.sandbox.fault("submit", "cut")
    await bench.submit("evolink", order=TWICE)
    assert bench.clock.naps == [5.0]


async def test_an_order_that_is_answered_is_sent_once(bench: Bench):
    await deliver(bench)
    assert len(orders(bench)) == 1
    assert (await bench.record("evolink")).latest("submitted").reason is None


async def test_an_order_that_is_refused_is_sent_once(bench: Bench):
    bench.sandbox.fault("submit", "refused", status=402, code="insufficient_quota")
    with pytest.raises(InsufficientCredits):
        await bench.submit("evolink", order=TWICE)
    assert len(orders(bench)) == 1


@pytest.fixture
def deaf(clock: Clock, clip: Path, tmp_path: Path) -> Iterator[Bench]:
    """A workbench whose EvoLink does not heed keys: nobody promises that it does."""
    with Sandbox(reads=2, clock=clock.unix, choices=Choices(idempotency=False)) as sandbox:
        yield Bench(sandbox, clock, tmp_path, clip)


async def test_a_second_job_that_may_be_another_one_is_told_and_kept_in_the_receipt(deaf: Bench):
    """The price of the setting: it must not be hidden."""
    deaf.sandbox.fault("submit", "cut")
    video = await deliver(deaf)
    first, second = deaf.bought
    assert video.job_id == second
    (warning,) = video.warnings
    assert "2026-03-01 12:00:00 UTC was sent twice with one key" in warning
    assert f"did not say whether {second} is the job of both" in warning
    assert warning in deaf.lines
    assert json.loads(Path(video.receipt_url).read_text())["warnings"] == [warning]
    submitted = (await deaf.record("evolink")).latest("submitted")
    assert (submitted.job_ids, submitted.warnings) == ((second,), (warning,))
    assert first not in submitted.job_ids


async def test_the_warning_is_there_whoever_stores_the_result(deaf: Bench):
    deaf.sandbox.fault("submit", "cut")
    await deaf.submit("evolink", order=TWICE)
    purchase = await deaf.purchase("evolink", order=TWICE)
    place = engine.journal_of(purchase.destination)
    for _ in range(2):
        settled = await engine.settle(deaf.context("evolink"), purchase.destination, place)
        for video in settled.stored:
            assert "look at your account for a second one" in video.warnings[0]
    assert len(deaf.bought) == 2
    again = await deliver(deaf)
    assert again.cached
    assert "sent twice with one key" in again.warnings[0]


async def test_work_whose_first_sending_is_in_doubt_is_not_bought_anew(deaf: Bench):
    """The second job failed for nothing; what the first sending made, nobody knows."""
    deaf.sandbox.fault("submit", "5xx", status=502, accepted=False)
    deaf.sandbox.fault("job", "fail")
    for _ in range(3):
        with pytest.raises(JobFailed, match="sent twice with one key") as caught:
            await deliver(deaf)
        assert caught.value.billed == "maybe"
    assert len(orders(deaf)) == 2


async def test_a_job_that_is_certainly_the_only_one_is_bought_anew_when_it_fails(bench: Bench):
    bench.sandbox.fault("submit", "cut")
    bench.sandbox.fault("job", "fail")
    with pytest.raises(JobFailed) as caught:
        await deliver(bench)
    assert caught.value.billed == "no"
    video = await deliver(bench)
    assert video.job_id == bench.bought[1]
    assert len(orders(bench)) == 3


@pytest.mark.parametrize("how", NEVER_TAKEN)
async def test_an_order_that_was_never_taken_is_taken_the_second_time(bench: Bench, how):
    """Nobody here can know that it is the only job: the warning stays."""
    kind, details = NEVER_TAKEN[how]
    bench.sandbox.fault("submit", kind, **details)
    video = await deliver(bench)
    assert [video.job_id] == bench.bought
    assert len(orders(bench)) == 2
    assert "sent twice with one key" in video.warnings[0]


SECOND_ANSWERS = {
    "another request": {"status": 409, "code": "idempotency_conflict"},
    "in progress": {"status": 409, "code": "paid_outcome_unknown"},
    "in progress, and busy": {"status": 429, "code": "paid_outcome_unknown"},
    "busy": {"status": 429, "code": "rate_limit_exceeded"},
    "no credits left": {"status": 402, "code": "insufficient_quota"},
    "a key that was withdrawn": {"status": 401, "code": "unauthorized"},
    "no video": {"status": 400, "code": "video_probe_failed"},
    "away": {"status": 503},
}


@pytest.mark.parametrize("answer", SECOND_ANSWERS)
async def test_no_refusal_of_the_second_sending_tells_of_the_first(bench: Bench, answer):
    """The first one's job may be what holds the credits that the second lacks."""
    bench.sandbox.fault("submit", "cut")
    bench.sandbox.fault("submit", "refused", **SECOND_ANSWERS[answer])
    for _ in range(3):
        with pytest.raises(OutcomeUnknown, match="sent once more with the same key") as caught:
            await deliver(bench)
        assert caught.value.billed == "maybe"
        assert bench.bought[0] in str(caught.value)
    assert await bench.kinds("evolink") == ["intent", "unknown"]
    assert (len(bench.bought), len(orders(bench))) == (1, 2)


@pytest.mark.parametrize("second", ["cut", "refuse", "garbage"])
async def test_two_lost_answers_are_the_end_of_it(bench: Bench, second):
    bench.sandbox.fault("submit", "cut")
    bench.sandbox.fault("submit", second)
    for _ in range(3):
        with pytest.raises(OutcomeUnknown, match="sent once more with the same key"):
            await deliver(bench)
    assert (len(bench.bought), len(orders(bench))) == (1, 2)


async def test_a_provider_that_is_gone_by_the_second_sending_leaves_it_unknown(bench: Bench):
    async def stop() -> None:
        await asyncio.to_thread(bench.sandbox.stop)

    purchase = await bench.purchase("evolink", order=TWICE)
    bench.sandbox.fault("submit", "refuse")
    bench.clock.alarms = {1: stop}
    context = bench.context("evolink")
    with pytest.raises(OutcomeUnknown, match="failed 1 times: ConnectError") as caught:
        await engine.submit(context, purchase)
    assert caught.value.billed == "maybe"
    assert "billed: no" not in str(caught.value)


async def test_what_another_run_left_unknown_is_not_sent_again(bench: Bench):
    """Recovery reads: only the run that lost the answer may send once more."""
    bench.sandbox.fault("submit", "cut")
    with pytest.raises(OutcomeUnknown):
        await deliver(bench, default_order("evolink"))
    with pytest.raises(OutcomeUnknown):
        await deliver(bench)
    assert len(orders(bench)) == 1


async def test_a_provider_without_replays_is_never_sent_an_order_twice(bench: Bench):
    """Whatever an order says: Oxen.ai has no key, and a second request is a second purchase."""
    order = default_order("oxen").model_copy(update={"resend_unknown": True})
    bench.sandbox.fault("submit", "cut")
    job = await bench.submit("oxen", order=order)
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1


@pytest.mark.parametrize("frozen", [295.0, 296.0])
async def test_the_second_sending_leaves_in_its_time_or_not_at_all(bench: Bench, frozen):
    """A machine that slept in between: others may count it as gone by then."""

    async def sleep() -> None:
        bench.clock.passed += frozen

    bench.sandbox.fault("submit", "cut")
    bench.clock.alarms = {1: sleep}
    if frozen == 295.0:
        await bench.submit("evolink", order=TWICE)
    else:
        with pytest.raises(OutcomeUnknown, match="the order was not sent: 301 s passed"):
            await bench.submit("evolink", order=TWICE)
    assert len(orders(bench)) == (2 if frozen == 295.0 else 1)


async def test_nobody_counts_an_owner_as_gone_that_may_send_once_more(bench: Bench):
    bench.sandbox.fault("submit", "cut")
    await bench.submit("evolink", order=TWICE)
    record = await bench.record("evolink")
    begun = record.model_copy(update={"events": record.events[:1]})
    assert begun.last.lease == 480.0
    bench.clock.passed = 480.0 + 60.0
    assert not lease.outlived(bench.context("evolink"), begun)
    bench.clock.passed += 1.0
    assert lease.outlived(bench.context("evolink"), begun)


async def test_a_caller_who_leaves_between_both_sendings_loses_no_job(bench: Bench):
    async def leave() -> None:
        caller.cancel()
        bench.sandbox.fault("submit", "delay", seconds=0.2)

    bench.sandbox.fault("submit", "cut")
    bench.clock.alarms = {1: leave}
    caller = asyncio.create_task(bench.submit("evolink", order=TWICE))
    with pytest.raises(asyncio.CancelledError):
        await caller
    job = await bench.submit("evolink", order=TWICE)
    assert job.reattached
    assert list(job.job_ids) == bench.bought
    assert len(orders(bench)) == 2


def test_the_setting_makes_no_other_work_of_an_order():
    """Who sets it finds what was bought without it."""
    assert TWICE.resend_unknown
    plain = default_order("evolink")
    assert plain == TWICE.model_copy(update={"resend_unknown": False})
    assert work_key("clip", TWICE) == work_key("clip", plain)


async def test_the_key_is_the_same_with_and_without_the_setting(bench: Bench):
    bench.sandbox.fault("submit", "refused", status=402, code="insufficient_quota")
    with pytest.raises(InsufficientCredits):
        await bench.submit("evolink", order=TWICE)
    await bench.submit("evolink")
    assert len({one.headers["idempotency-key"] for one in orders(bench)}) == 1
