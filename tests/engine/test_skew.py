"""A slow owner is told from a dead one, although no two machines' clocks agree."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_topaz import engine
from prefect_topaz.client import Client
from prefect_topaz.engine.lease import LEASE, outlived
from prefect_topaz.errors import OutcomeUnknown
from prefect_topaz.journal import Event, Record
from prefect_topaz.providers.oxen import Provider as Oxen
from tests.engine.bench import START, Bench
from tests.engine.test_intents import Owner

SKEW = 60.0  # seconds by which a clock may differ, either way
skews = pytest.mark.parametrize("skew", [-SKEW, 0.0, SKEW])


async def settled(bench: Bench) -> str:
    place = bench.place()
    report = await engine.settle(bench.context(), place, engine.journal_of(place))
    (item,) = report.items
    return item.state


@skews
async def test_a_slow_owner_is_waited_for_until_the_end_of_its_lease(bench: Bench, skew):
    owner = Owner(bench)
    await owner.intend(ahead=timedelta(seconds=skew))
    looks = int((LEASE - 4) / 2)
    bench.clock.alarms = {looks: owner.post, looks + 1: owner.tell}
    assert (await bench.submit()).reattached
    assert bench.posts == 1
    assert await bench.kinds() == ["intent", "submitted"]


@skews
async def test_a_dead_owner_is_given_up_within_a_lease_and_the_skew(bench: Bench, skew):
    await Owner(bench).intend(ahead=timedelta(seconds=skew))
    bench.clock.passed += 250  # the run comes late, and has not watched for a whole lease
    with pytest.raises(OutcomeUnknown, match="nothing after it"):
        await bench.submit()
    given_up = (await bench.record()).last.at - START
    assert LEASE <= given_up.total_seconds() <= LEASE + 2 * SKEW + 5
    assert bench.posts == 0


@skews
async def test_settling_leaves_a_slow_owner_its_whole_lease(bench: Bench, skew):
    await Owner(bench).intend(ahead=timedelta(seconds=skew))
    bench.clock.passed += LEASE
    assert await settled(bench) == "running"
    assert await bench.kinds() == ["intent"]


@skews
async def test_settling_gives_a_dead_owner_up_two_skews_later(bench: Bench, skew):
    await Owner(bench).intend(ahead=timedelta(seconds=skew))
    bench.clock.passed += LEASE + 2 * SKEW + 1
    assert await settled(bench) == "undecided"
    assert await bench.kinds() == ["intent", "unknown"]


@given(
    lease=st.none() | st.floats(1, 10_000),
    skew=st.floats(-SKEW, SKEW),
    silent=st.floats(0, 40_000),
)
def test_no_skew_within_the_bounds_robs_an_owner_or_keeps_a_dead_one(lease, skew, silent):
    """Two clocks that differ by a minute at most: whoever is in its lease is never overtaken."""
    context = engine.Context(_at(silent))
    intent = Event(kind="intent", at=START + timedelta(seconds=skew), by="owner", lease=lease)
    gone = outlived(context, Record(key="key", events=(intent,)))
    if silent < (lease or LEASE) - 0.001:  # microseconds are rounded
        assert not gone
    if silent > (lease or LEASE) + 2 * SKEW + 0.001:
        assert gone


def _at(seconds: float) -> Client:
    now = START + timedelta(seconds=seconds)
    return Client(Oxen("http://127.0.0.1:9"), SecretStr("key"), now=lambda: now)
