"""What users of other tools paid for, as scenarios that end well; the ledger is the witness.

Those that need Prefect are in `tests/prefect/test_complaints.py`.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from prefect_topaz import engine
from prefect_topaz.engine import Context, Rulings
from prefect_topaz.errors import CostRefused, OutcomeUnknown, StillRunning
from prefect_topaz.models import Order
from prefect_topaz.providers import load
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox import make_clip
from prefect_topaz.wire import Call
from tests.engine.bench import PROVIDERS, Bench

providers = pytest.mark.parametrize("provider", PROVIDERS)


@providers
async def test_a_wait_that_failed_is_repeated_and_the_purchase_is_not(bench: Bench, provider):
    """One step both bought and waited: when the wait failed, its retry started the job anew."""
    for _ in range(3):
        job = await bench.submit(provider)
        with pytest.raises(StillRunning) as caught:
            await engine.wait(bench.context(provider), job, deadline=0)
        assert caught.value.billed == "yes"
        assert [caught.value.job_id] == bench.bought
    (video,) = await bench.deliver(provider)
    assert [video.job_id] == bench.bought
    assert bench.posts == 1


TROUBLE: dict[str, tuple[str, dict[str, Any]]] = {
    "500": ("5xx", {"status": 500}),
    "502": ("5xx", {"status": 502}),
    "503": ("5xx", {"status": 503}),
    "429": ("429", {"retry_after": 7}),
    "a cut": ("cut", {}),
    "garbage": ("garbage", {}),
}


@providers
async def test_no_trouble_while_polling_ends_a_job_that_is_paid(bench: Bench, provider):
    """One 503 to a status poll failed the flow, and the job ran on for nobody."""
    for kind, details in TROUBLE.values():
        bench.sandbox.fault("status", kind, times=3, **details)
    (video,) = await bench.deliver(provider)
    assert [video.job_id] == bench.bought
    assert bench.posts == 1
    assert any("a look failed and will be repeated" in line for line in bench.lines)


async def test_a_runaway_bill_is_refused_before_a_cent_is_spent(bench: Bench):
    """An upscale of 80 seconds was billed 40,500 dollars, and nothing had asked for a limit."""
    clip = make_clip(bench.folder / "long.mp4", seconds=80, size=(64, 36), fps=1)
    url = bench.sandbox.host(clip, "long.mp4")
    for _ in range(3):
        with pytest.raises(CostRefused, match=r"the estimate is 2\.992\d* USD") as caught:
            await bench.submit(url=url, max_cost=Decimal("2.50"))
        assert caught.value.billed == "no"
    assert (bench.bought, bench.posts) == ([], 0)


async def test_a_bill_stays_below_the_cap_however_often_it_is_run(bench: Bench):
    """The retries of a run multiplied what it cost; only the first estimate had been looked at."""
    cap = Decimal("0.02")
    bench.sandbox.fault("submit", "429", retry_after=1)
    bench.sandbox.fault("result", "truncate")
    for _ in range(3):
        await bench.deliver(max_cost=cap)
    assert len(bench.bought) == 1
    assert bench.posts == 2  # the first was refused, and so may be sent again
    assert Decimal(0) < bench.charged <= cap


def hurried(bench: Bench, provider: str) -> Context:
    """Be somebody who does not wait long for the answer to an order."""
    kind: Any = load(provider)

    class Hurried(kind):
        def submit(self, order: Order, source: SignedUrl, key: str) -> Call:
            return replace(super().submit(order, source, key), read_seconds=0.3)

    return bench.context(provider, dialect=Hurried(bench.sandbox.url))


async def test_a_submit_that_times_out_is_bought_once(bench: Bench):
    """The order was taken, its answer came too late, and the client sent it again."""
    bench.sandbox.fault("submit", "delay", seconds=0.6)
    (video,) = await bench.deliver(context=hurried(bench, "oxen"))
    assert [video.job_id] == bench.bought
    assert bench.posts == 1
    assert "ReadTimeout" in (await bench.record()).latest("unknown").reason


async def test_a_submit_that_times_out_unprovably_is_settled_by_a_person(bench: Bench):
    """The same at a provider whose listing proves nothing: nobody guesses, and nothing is lost."""
    bench.sandbox.fault("submit", "delay", seconds=0.6)
    for _ in range(3):
        with pytest.raises(OutcomeUnknown) as caught:
            await bench.deliver("evolink", context=hurried(bench, "evolink"))
        assert caught.value.billed == "maybe"
        assert bench.bought[0] in str(caught.value)
    place, context = bench.place(), bench.context("evolink")
    ruled = Rulings(adopt={caught.value.work_key: bench.bought[0]})
    await engine.settle(context, place, engine.journal_of(place), ruled)
    (video,) = await bench.deliver("evolink")
    assert [video.job_id] == bench.bought
    assert bench.posts == 1


@pytest.mark.parametrize("how", ["cut", "garbage"])
async def test_a_lost_answer_is_found_and_the_run_goes_on(bench: Bench, how):
    """The answer to the POST was lost: the run failed, or took a stranger's job for its own."""
    other = make_clip(bench.folder / "other.mp4", seconds=0.4, size=(64, 36), fps=10)
    url = bench.sandbox.host(other, "other.mp4")
    (stranger,) = (await bench.submit(url=url, destination=bench.place("stranger"))).job_ids
    bench.sandbox.fault("submit", how)
    (video,) = await bench.deliver()
    assert bench.bought == [stranger, video.job_id]
    assert bench.posts == 2
    assert await bench.kinds() == ["intent", "unknown", "submitted", "finished", "stored"]
