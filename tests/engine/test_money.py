"""Money is asked before it is spent: caps, unknown prices, estimates on record."""

from decimal import Decimal

import pytest

from prefect_topaz.errors import CostRefused, JobFailed
from prefect_topaz.models import JobStatus
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.providers.oxen import Provider as Oxen
from prefect_topaz.wire import Reply
from tests.engine.bench import Bench

# Half a second at 1080p.
PRICE = Decimal("0.0187")


async def test_an_estimate_above_the_cap_is_refused_before_any_request(bench: Bench):
    purchase = await bench.purchase(max_cost=PRICE - Decimal("0.0001"))
    asked = len(bench.sandbox.requests())
    with pytest.raises(CostRefused, match=r"0\.0187 USD .* above max_cost of 0\.0186") as caught:
        await bench.submit(source=purchase.source, max_cost=purchase.max_cost)
    assert caught.value.billed == "no"
    assert bench.posts == 0
    paths = {one.path for one in bench.sandbox.requests()[asked:]}
    assert paths <= {"/media/clip.mp4"}
    assert await bench.kinds() == []


async def test_an_estimate_at_the_cap_is_bought(bench: Bench):
    job = await bench.submit(max_cost=PRICE)
    assert job.cost.estimate == PRICE
    assert bench.posts == 1


async def test_every_generation_counts(bench: Bench):
    order = OxenOptions(resolution="1080p", num_generations=3).order()
    with pytest.raises(CostRefused, match=r"0\.0561"):
        await bench.submit(order=order, max_cost=2 * PRICE)
    await bench.submit(order=order, max_cost=3 * PRICE)
    assert len(bench.bought) == 3


@pytest.mark.parametrize(
    "options",
    [
        OxenOptions(resolution="1080p", interpolate_frames=True),
        OxenOptions(model="topazlabs-proteus-video"),
    ],
)
async def test_an_unknown_price_is_refused_under_a_cap_only(bench: Bench, options):
    order = options.order()
    with pytest.raises(CostRefused, match="price is not known"):
        await bench.submit(order=order, max_cost=Decimal(1000))
    assert bench.posts == 0
    job = await bench.submit(order=order)
    assert job.cost.estimate is None


async def test_evolink_publishes_no_price(bench: Bench):
    with pytest.raises(CostRefused, match="EvoLink publishes no price"):
        await bench.submit("evolink", max_cost=Decimal(1000))
    assert bench.posts == 0
    job = await bench.submit("evolink")
    assert job.cost.unit == "credits"
    assert job.cost.reserved > 0


async def test_a_cap_does_not_stand_between_a_run_and_what_is_paid(bench: Bench):
    await bench.deliver()
    (video,) = await bench.deliver(max_cost=Decimal(0))
    assert video.cached
    assert bench.posts == 1


class Gracious(Oxen):
    """A provider with a price that charges nothing for a job that fails."""

    def read_status(self, job_id: str, reply: Reply) -> JobStatus:
        status = super().read_status(job_id, reply)
        billed = "no" if status.phase == "failed" else status.billed
        return status.model_copy(update={"billed": billed})


async def test_a_cap_is_for_each_purchase_and_a_failure_that_cost_nothing_uses_none_of_it(
    bench: Bench,
):
    context = bench.context(dialect=Gracious(bench.sandbox.url))
    bench.sandbox.fault("job", "fail", times=2)
    for _ in range(2):
        with pytest.raises(JobFailed) as caught:
            await bench.deliver(context=context, max_cost=PRICE)
        assert caught.value.billed == "no"
    await bench.deliver(context=context, max_cost=PRICE)
    assert len(bench.bought) == 3
    assert bench.charged == PRICE


async def test_the_estimate_is_on_record_with_the_intent(bench: Bench):
    bench.sandbox.fault("submit", "refused", status=402)
    with pytest.raises(Exception, match="402"):
        await bench.submit()
    assert (await bench.record()).latest("intent").cost.estimate == PRICE
