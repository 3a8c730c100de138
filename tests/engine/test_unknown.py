"""Many lost answers at once: the provider's listings and the journal are read for all together."""

from dataclasses import replace
from typing import Any

import fsspec
import pytest

from prefect_topaz import engine
from prefect_topaz.engine import Context
from prefect_topaz.errors import OutcomeUnknown
from prefect_topaz.models import Place
from prefect_topaz.outcomes import SettleReport
from prefect_topaz.providers import Candidate
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.providers.oxen import Provider as Oxen
from tests.engine.bench import Bench
from tests.engine.watched import Watched

LISTINGS = ("/api/ai/queue", "/api/ai/generations", "/v1/tasks")


async def lose(bench: Bench, provider: str, count: int, journal: Place) -> list[str]:
    """Lose the answers to orders of one video at many addresses, and give their work keys."""
    keys = []
    for number in range(count):
        bench.sandbox.fault("submit", "cut")
        bench.sandbox.fault("list", "5xx", times=4)
        url = bench.sandbox.host(bench.clip, f"{number}.mp4")
        with pytest.raises(OutcomeUnknown) as caught:
            await bench.submit(provider, url=url, again=number, journal=journal)
        keys.append(caught.value.work_key)
    return keys


async def settle(
    bench: Bench, provider: str, journal: Place, context: Context | None = None
) -> SettleReport:
    return await engine.settle(context or bench.context(provider), bench.place(), journal)


def listings(bench: Bench) -> int:
    return len([one for one in bench.asked("GET", *LISTINGS) if one.path in LISTINGS])


@pytest.mark.parametrize(("provider", "pages"), [("oxen", 2), ("evolink", 1)])
async def test_many_lost_orders_cost_one_look_at_the_listings(
    bench: Bench, watched: Place, provider, pages
):
    keys = await lose(bench, provider, 12, watched)
    bench.clock.passed += 3600
    before, naps = listings(bench), len(bench.clock.naps)
    report = await settle(bench, provider, watched)
    assert [item.work_key for item in report.items] == sorted(keys)
    assert {item.state for item in report.items} == {
        "running" if provider == "oxen" else "undecided"
    }
    assert listings(bench) - before == pages
    assert sum(bench.clock.naps[naps:]) == 0


@pytest.mark.parametrize("count", [4, 16])
async def test_the_journal_is_read_a_few_times_however_many_are_lost(
    bench: Bench, watched: Place, count
):
    await lose(bench, "oxen", count, watched)
    bench.clock.passed += 3600
    Watched.reads = 0
    report = await settle(bench, "oxen", watched)
    assert [item.state for item in report.items] == ["running"] * count
    # Twice each record of two events and the end; a look at each job reads nothing.
    assert Watched.reads == 6 * count


async def test_young_orders_are_looked_for_again_all_in_the_same_pauses(
    bench: Bench, watched: Place
):
    await lose(bench, "evolink", 3, watched)
    before, naps = listings(bench), len(bench.clock.naps)
    await settle(bench, "evolink", watched)
    assert listings(bench) - before == 3
    assert bench.clock.naps[naps:] == [0.0, 5.0, 15.0]


async def test_a_listing_that_lags_is_waited_for_while_an_order_is_young(bench: Bench):
    late = iter([(), ()])

    class Lagging(Oxen):
        """A listing that shows a job only at the third look."""

        def read_lookup(self, *given: Any) -> tuple[Candidate, ...]:
            return next(late, super().read_lookup(*given))

    bench.sandbox.fault("submit", "cut")
    job = await bench.submit(context=bench.context(dialect=Lagging(bench.sandbox.url)))
    assert list(job.job_ids) == bench.bought
    assert bench.clock.naps == [0.0, 5.0, 15.0]


async def test_two_models_are_two_listings_and_each_finds_its_own(bench: Bench, watched: Place):
    await lose(bench, "oxen", 1, watched)
    bench.sandbox.fault("submit", "cut")
    bench.sandbox.fault("list", "5xx", times=4)
    other = OxenOptions(model="topazlabs-video-upscale").order()
    with pytest.raises(OutcomeUnknown):
        await bench.submit(order=other, journal=watched)
    bench.clock.passed += 3600
    before = listings(bench)
    report = await settle(bench, "oxen", watched)
    assert [item.state for item in report.items] == ["running"] * 2
    assert listings(bench) - before == 4


async def test_listings_that_are_down_are_asked_once_and_each_order_says_so(
    bench: Bench, watched: Place
):
    await lose(bench, "oxen", 5, watched)
    bench.sandbox.fault("list", "5xx", times=4)  # one call, with its repeats
    report = await settle(bench, "oxen", watched)
    assert {item.state for item in report.items} == {"undecided"}
    assert all("gave no answer" in item.detail for item in report.items)
    assert {item.state for item in (await settle(bench, "oxen", watched)).items} == {"running"}


async def test_equal_orders_that_are_open_are_each_others_rivals(bench: Bench, watched: Place):
    """Whose of the two the one job is, nobody can tell: neither takes it."""
    for again in (0, 1):
        bench.sandbox.fault("submit", "cut" if again else "refuse")
        bench.sandbox.fault("list", "5xx", times=4)
        with pytest.raises(OutcomeUnknown):
            await bench.submit(journal=watched, again=again)
    bench.clock.passed += 3600
    report = await settle(bench, "oxen", watched)
    assert [item.state for item in report.items] == ["undecided"] * 2
    assert all("equal order" in item.detail for item in report.items)


async def test_a_record_that_cannot_be_read_may_own_any_job(bench: Bench, watched: Place):
    await lose(bench, "oxen", 2, watched)
    fs, path = fsspec.core.url_to_fs(watched.url)
    fs.pipe_file(f"{path}/{'0' * 64}/0001.json", b"{")
    bench.clock.passed += 3600
    report = await settle(bench, "oxen", watched)
    assert [item.state for item in report.items] == ["trouble", "undecided", "undecided"]
    assert all("cannot be read" in item.detail for item in report.items)
    assert report.items[0].work_key == "0" * 64


async def test_one_that_cannot_be_written_down_holds_no_other_back(bench: Bench, watched: Place):
    keys = await lose(bench, "oxen", 3, watched)
    bench.clock.passed += 3600

    Watched.full = keys[1]
    report = await settle(bench, "oxen", watched)
    found = {item.work_key: item for item in report.items}
    assert {found[key].state for key in (keys[0], keys[2])} == {"running"}
    assert found[keys[1]].state == "trouble"
    assert bench.bought[1] in found[keys[1]].detail
    assert found[keys[1]].billed == "yes"


async def test_who_finds_it_may_be_another_run_of_the_same_flow(bench: Bench, watched: Place):
    await lose(bench, "oxen", 1, watched)
    context = replace(bench.context(), flow_run_id="settling")
    await settle(bench, "oxen", watched, context)
    (record,) = await context.journal(watched).of_run("settling")
    assert record.state == "submitted"


async def test_one_job_is_never_found_for_two_orders_in_one_look(bench: Bench, watched: Place):
    class Vague(Oxen):
        """A provider whose echo leaves the options out."""

        def read_lookup(self, order: Any, *given: Any) -> tuple[Candidate, ...]:
            return super().read_lookup(order.model_copy(update={"options": {}}), *given)

    for resolution, fate in (("1080p", "cut"), ("4k", "refuse")):
        bench.sandbox.fault("submit", fate)
        bench.sandbox.fault("list", "5xx", times=4)
        with pytest.raises(OutcomeUnknown):
            await bench.submit(order=OxenOptions(resolution=resolution).order(), journal=watched)
    bench.clock.passed += 3600
    context = bench.context(dialect=Vague(bench.sandbox.url))
    report = await settle(bench, "oxen", watched, context)
    assert sorted(item.state for item in report.items) == ["running", "undecided"]
