"""No interleaving buys twice or loses a job: deaths, cancels, lost answers, delays, skewed clocks.

Every example is a small world on a virtual clock: two to four runs of the same work, each a process
of its own, over one journal in memory and one provider that keeps a ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import fsspec
import httpx
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_topaz import engine, http
from prefect_topaz.client import Client
from prefect_topaz.errors import JobFailed, OutcomeUnknown, TopazError
from prefect_topaz.journal import Journal, Record
from prefect_topaz.models import FinishedUpscale, Place, Source, work_key
from prefect_topaz.places import Folder, open_folder
from prefect_topaz.providers import load
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sources import OpenSource
from tests.engine.bench import PROVIDERS, START, default_order
from tests.engine.shop import HARMLESS, TAKEN, URL, Shop
from tests.engine.virtual import Process, VirtualLoop

ORDERS = 3  # a flow's own attempts at work that failed without a charge
OPEN_SOURCE = OpenSource(
    Source(identity="clip", label="https://media.example/clip.mp4", name="clip"),
    url=SignedUrl("https://media.example/clip.mp4?sig=1"),
)


@dataclass(frozen=True)
class Run:
    """One run of the work: when it starts, by which clock, and how it ends too early."""

    start: float = 0.0
    skew: float = 0.0
    again: int = 0
    life: int | None = None
    cancel_at: int | None = None
    nap: tuple[int, float] | None = None


@dataclass(frozen=True)
class Story:
    """One example."""

    provider: str
    seed: int
    runs: tuple[Run, ...]
    posts: tuple[Any, ...] = ()
    looks: tuple[Any, ...] = ()
    fails: tuple[bool, ...] = ()
    outage: tuple[float, float] = (0.0, 0.0)
    resend: bool = False


steps = st.one_of(st.none(), st.none(), st.integers(1, 60))
# Two clocks of one journal may differ by a minute.
run_stories = st.builds(
    Run,
    start=st.sampled_from([0.0, 0.0, 0.0, 1.0, 5.0, 40.0, 310.0, 400.0]),
    skew=st.floats(-30, 30),
    again=st.sampled_from([0, 0, 0, 1]),
    life=steps,
    cancel_at=steps,
    # Frozen for longer than a lease, too: as a laptop that sleeps, or a machine under pressure.
    nap=st.none() | st.tuples(st.integers(1, 60), st.sampled_from([20.0, 130.0, 400.0])),
)
fates = st.sampled_from([*TAKEN, *TAKEN, *HARMLESS, "502 not taken", "cut not taken"])
delays = st.sampled_from([0.0, 0.01, 1.0, 8.0, 25.0])
stories = st.builds(
    Story,
    provider=st.sampled_from(PROVIDERS),
    seed=st.integers(0, 2**16),
    runs=st.lists(run_stories, min_size=2, max_size=4).map(tuple),
    posts=st.lists(st.tuples(fates, delays, delays), max_size=5).map(tuple),
    looks=st.lists(st.sampled_from(["answered", "answered", "502", "cut"]), max_size=12).map(tuple),
    fails=st.lists(st.booleans(), max_size=3).map(tuple),
    outage=st.just((0.0, 0.0))
    | st.tuples(st.sampled_from([0.5, 2.0, 5.0, 20.0]), st.sampled_from([1.0, 20.0, 90.0])),
    resend=st.booleans(),
)


class Shaky(MemoryFileSystem):
    """The memory store, which takes nothing while it is down."""

    cachable = False
    down: Callable[[], bool]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if self.down():
            raise OSError("the store is down")
        super().pipe_file(path, value, mode=mode, **options)


@dataclass(frozen=True)
class ShakyContext(engine.Context):
    """A context whose journal is on a shaky store."""

    store: Shaky = field(default_factory=Shaky)

    def journal(self, place: Place) -> Journal:
        return Journal(Folder(self.store, open_folder(place).path))


@dataclass
class World:
    """What an example consists of."""

    story: Story
    loop: VirtualLoop
    shop: Shop = field(init=False)
    ends: list[str] = field(default_factory=list)
    crew: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = self.story
        self.store = Shaky()
        self.store.down = lambda: 0 <= self.loop.time() - told.outage[0] < told.outage[1]
        ways = iter(told.posts), iter(told.looks), iter(told.fails)
        resends = told.resend and told.provider == "evolink"
        self.shop = Shop(told.provider, lambda: self.now().timestamp(), *ways, resends=resends)

    def now(self, skew: float = 0.0) -> datetime:
        return START + timedelta(seconds=self.loop.time() + skew)

    def context(self, run: Run) -> engine.Context:
        client = Client(
            load(self.story.provider)(URL),
            SecretStr("key"),
            now=lambda: self.now(run.skew),
            jitter=lambda: 1.0,
        )
        clock = self.loop.time
        return ShakyContext(client, log=lambda _: None, monotonic=clock, store=self.store)

    def purchase(self, again: int) -> engine.Purchase:
        place = Place(url="memory://interleaved/")
        order = default_order(self.story.provider)
        order = order.model_copy(update={"resend_unknown": self.story.resend})
        return engine.Purchase(OPEN_SOURCE, order, place, again=again)

    async def work(self, run: Run) -> FinishedUpscale:
        """Buy and wait, as a flow does."""
        context, purchase, orders = self.context(run), self.purchase(run.again), 0
        while True:
            orders += 1
            try:
                return await engine.wait(context, await engine.submit(context, purchase))
            except JobFailed as error:
                if error.billed != "no" or orders == ORDERS:
                    raise

    async def play(self, run: Run) -> Any:
        """Run one process to its end, or to its death."""
        await asyncio.sleep(run.start)
        process = Process(run.life, run.cancel_at, run.nap)
        self.crew.append(process)
        self.shop.works[process] = run.again
        process.start(self.work(run))
        await process.over
        return None if process.dead else await _end(process)

    async def read(self, again: int) -> Record:
        """Read what the journal says in the end."""
        purchase, context = self.purchase(again), self.context(Run())
        return await context.journal(engine.journal_of(purchase.destination)).read(self.key(again))

    def key(self, again: int) -> str:
        order = default_order(self.story.provider)
        return work_key("clip", order, realm="loopback", again=again)


async def _end(process: Process) -> Any:
    assert process.main is not None
    try:
        return await process.main
    except asyncio.CancelledError as error:
        return error
    except TopazError as error:
        return error


async def _play(world: World) -> None:
    """Play the runs, then one more for each work when all is quiet, and look at the ledger."""
    clients = [httpx.AsyncClient(transport=httpx.MockTransport(world.shop.answer)) for _ in "12"]
    http._clients[world.loop] = http._Clients(*clients, users=1)
    runs = world.story.runs
    ends = await asyncio.gather(*(world.play(run) for run in runs))
    await asyncio.sleep(1000.0)
    world.shop.looks = iter(())
    world.shop.fates = iter(())
    for run, end in zip(runs, ends, strict=True):
        _check_end(world, run, end)
    for again in sorted({run.again for run in runs}):
        last = await world.play(Run(again=again))
        await _check_work(world, again, last)
    assert world.shop.wrongs == []
    await _check_claims(world)
    for process in world.crew:
        await process.bury()
    await asyncio.gather(*(client.aclose() for client in clients))


def _check_end(world: World, run: Run, end: Any) -> None:
    """A run returns a job that was bought, or says what happened; only a cancelled one is cut."""
    world.ends.append(type(end).__name__)
    if isinstance(end, asyncio.CancelledError):
        assert run.cancel_at is not None
    elif isinstance(end, FinishedUpscale):
        assert set(end.job.job_ids) <= set(world.shop.jobs)
    else:
        assert end is None or isinstance(end, TopazError)


async def _check_work(world: World, again: int, last: Any) -> None:
    """One purchase and one more for each free failure; none that nobody knows of."""
    jobs = [job for job in world.shop.jobs.values() if job.work == again]
    assert len(jobs) <= 1 + sum(job.unbilled for job in jobs)
    record = await world.read(again)
    known = {job_id for one in record.events for job_id in one.job_ids}
    for job in jobs:
        if job.job_id in known:
            continue
        assert record.state == "unknown"
        assert isinstance(last, OutcomeUnknown)
        assert last.work_key == record.key
        assert job.job_id in str(last)
    alone = len({run.again for run in world.story.runs}) == 1
    if world.shop.oxen and alone and jobs and not jobs[0].fails:
        assert isinstance(last, FinishedUpscale), last
        assert last.job.job_ids == (jobs[0].job_id,)


async def _check_claims(world: World) -> None:
    """No job belongs to two works: the second of them would never be made."""
    claims: list[str] = []
    for again in sorted({run.again for run in world.story.runs}):
        record = await world.read(again)
        claims += {job_id for one in record.events for job_id in one.job_ids}
    assert len(claims) == len(set(claims))


def tell(story: Story) -> World:
    """Play a story in a world of its own."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    loop = VirtualLoop(story.seed)
    try:
        world = World(story, loop)
        loop.run_until_complete(_play(world))
    finally:
        loop.close()
    return world


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(stories)
def test_no_interleaving_buys_twice_or_loses_a_job(story):
    for end in tell(story).ends:
        event(end)


@pytest.mark.parametrize("late", [0, 1])
def test_an_equal_order_in_flight_is_not_robbed_of_its_job(late):
    """The one was never taken and is looked up while the other's answer is on its way."""
    runs = (Run(again=1 - late), Run(start=5.0, again=late))
    posts = (("cut not taken", 1.0, 1.0), ("answered", 0.0, 25.0))
    world = tell(Story("oxen", 0, runs, posts))
    assert [job.work for job in world.shop.jobs.values()] == [late]
