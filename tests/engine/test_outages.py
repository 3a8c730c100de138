"""The journal's store fails after the money is spent: insisted on, and then told in full."""

from contextlib import contextmanager

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from prefect_topaz import engine
from prefect_topaz.errors import JournalUnavailable, OutcomeUnknown
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Place
from prefect_topaz.places import open_folder
from prefect_topaz.providers.oxen import OxenOptions
from tests.engine.bench import PROVIDERS, Bench

providers = pytest.mark.parametrize("provider", PROVIDERS)


class Flaky(MemoryFileSystem):
    """A store of its own that refuses its next writes on request."""

    protocol = "flaky"
    store: dict = {}  # noqa: RUF012  # as MemoryFileSystem has it
    pseudo_dirs = [""]  # noqa: RUF012  # as above
    failures = 0
    allowed = 0

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if Flaky.allowed:
            Flaky.allowed -= 1
        elif Flaky.failures:
            Flaky.failures -= 1
            raise OSError("the store is away")
        super().pipe_file(path, value, mode=mode, **kwargs)


fsspec.register_implementation("flaky", Flaky, clobber=True)


@contextmanager
def outage(*, after: int, writes: int):
    """Let some writes through and then fail some."""
    Flaky.allowed, Flaky.failures = after, writes
    try:
        yield
    finally:
        Flaky.allowed = Flaky.failures = 0


@pytest.fixture
def journal(tmp_path):
    return Place(url=f"flaky://{tmp_path.name}/journal/")


async def test_nothing_is_bought_when_the_intent_cannot_be_written(bench: Bench, journal):
    with outage(after=0, writes=1), pytest.raises(JournalUnavailable) as caught:
        await bench.submit(journal=journal)
    assert caught.value.billed == "no"
    assert bench.posts == 0


@providers
async def test_a_short_outage_after_the_answer_is_bridged(bench: Bench, journal, provider):
    with outage(after=1, writes=4):
        job = await bench.submit(provider, journal=journal)
    assert list(job.job_ids) == bench.bought
    assert await bench.kinds(provider, journal=journal) == ["intent", "submitted"]
    assert bench.clock.naps == [1.0, 2.0, 4.0, 8.0]


@providers
async def test_a_long_outage_names_the_job_that_must_not_be_lost(bench: Bench, journal, provider):
    with outage(after=1, writes=50), pytest.raises(JournalUnavailable) as caught:
        await bench.submit(provider, journal=journal)
    error = caught.value
    assert error.billed == "yes"
    assert [error.job_id] == bench.bought
    assert bench.bought[0] in str(error)
    assert any(bench.bought[0] in line for line in bench.lines)
    assert bench.posts == 1


async def test_oxen_is_looked_up_after_the_outage(bench: Bench, journal):
    with outage(after=1, writes=50), pytest.raises(JournalUnavailable):
        await bench.submit(journal=journal)
    job = await bench.submit(journal=journal)
    assert list(job.job_ids) == bench.bought
    assert bench.posts == 1


async def test_an_outage_after_a_refusal_is_no_bill(bench: Bench, journal):
    bench.sandbox.fault("submit", "refused", status=402)
    with outage(after=1, writes=50), pytest.raises(JournalUnavailable) as caught:
        await bench.submit(journal=journal)
    assert caught.value.billed == "no"
    assert bench.posts == 1


@providers
async def test_an_outage_at_the_end_of_the_wait_is_paid_and_repeatable(
    bench: Bench, journal, provider
):
    job = await bench.submit(provider, journal=journal)
    with outage(after=0, writes=50), pytest.raises(JournalUnavailable) as caught:
        await engine.wait(bench.context(provider), job)
    assert caught.value.billed == "yes"
    assert [caught.value.job_id] == bench.bought
    (video,) = await bench.deliver(provider, journal=journal)
    assert [video.job_id] == bench.bought
    assert bench.posts == 1


@providers
async def test_an_outage_after_the_store_is_healed_by_the_receipt(bench: Bench, journal, provider):
    finished = await bench.finish(provider, journal=journal)
    with outage(after=0, writes=50), pytest.raises(JournalUnavailable) as caught:
        await engine.store(bench.context(provider), finished)
    assert caught.value.billed == "yes"
    (video,) = await bench.deliver(provider, journal=journal)
    assert video.cached
    assert bench.posts == 1


async def test_a_blocking_answer_in_an_outage_is_paid_for(bench: Bench, journal):
    order = OxenOptions(resolution="1080p", mode="sync").order()
    with outage(after=1, writes=50), pytest.raises(JournalUnavailable) as caught:
        await bench.submit(order=order, journal=journal)
    assert caught.value.billed == "yes"
    assert bench.posts == 1


class Away(Journal):
    """A journal that answers no write, or only the last of several."""

    answers_after = 100

    async def append(self, record: Record, event: Event) -> Record | None:
        self.answers_after -= 1
        if self.answers_after < 0:
            return await super().append(record, event)
        raise JournalUnavailable("away")


@pytest.mark.parametrize(
    ("kind", "billed"),
    [
        *[("submitted", "yes"), ("finished", "yes"), ("stored", "yes")],
        *[("unknown", "maybe"), ("refused", "no")],
    ],
)
async def test_what_cannot_be_written_says_what_it_means_for_the_money(bench, kind, billed):
    context, event = bench.context(), None
    cost = {"stored": "yes", "unknown": "maybe"}.get(kind, "no")
    event = context.event(kind, job_ids=("job-1",), billed=cost)
    with pytest.raises(JournalUnavailable, match=f"{kind}, job ids job-1") as caught:
        await context.insist(Away(open_folder(bench.place())), Record(key="k"), event)
    assert (caught.value.billed, caught.value.job_id, caught.value.work_key) == (
        *(billed, "job-1"),
        "k",
    )


async def test_insisting_ends_when_the_journal_answers(bench: Bench):
    context, journal = bench.context(), Away(open_folder(bench.place()))
    journal.answers_after = 3
    record = await context.insist(journal, Record(key="k"), context.event("unknown"))
    assert record.state == "unknown"
    assert bench.clock.naps == [1.0, 2.0, 4.0]


async def test_what_no_longer_belongs_is_not_written(bench: Bench):
    context, journal = bench.context(), Journal(open_folder(bench.place()))
    first = await journal.append(Record(key="k"), context.event("intent"))
    await journal.append(first, context.event("submitted", job_ids=("job-1",)))
    late = context.event("unknown")
    record = await context.insist(journal, first, late, still=lambda one: one.state == "intended")
    assert [event.kind for event in record.events] == ["intent", "submitted"]


async def test_a_journal_that_cannot_be_read_stops_the_purchase(bench: Bench):
    key = (await bench.record()).key
    folder = bench.folder / "out/.topaz" / key
    folder.mkdir(parents=True)
    (folder / "0001.json").write_bytes(b"not an event")
    with pytest.raises(JournalUnavailable, match="nothing is bought") as caught:
        await bench.submit()
    assert caught.value.billed == "no"
    assert bench.posts == 0


def spoil(bench: Bench, key: str) -> None:
    folder = bench.folder / "out/.topaz" / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0001.json").write_bytes(b"{")


@providers
async def test_a_bought_job_whose_record_cannot_be_read_is_paid_for(bench: Bench, provider):
    finished = await bench.finish(provider)
    spoil(bench, finished.job.work_key)
    context = bench.context(provider)
    for step in (engine.wait(context, finished.job), engine.store(context, finished)):
        with pytest.raises(JournalUnavailable) as caught:
            await step
        assert caught.value.billed == "yes"
        assert [caught.value.job_id] == bench.bought


async def test_a_lost_order_beside_an_unreadable_record_may_have_been_taken(bench: Bench):
    """Whose the listed jobs are cannot be told then; that nothing was bought would be a lie."""
    spoil(bench, "0" * 64)
    bench.sandbox.fault("submit", "cut")
    with pytest.raises(OutcomeUnknown, match="cannot be read") as caught:
        await bench.submit()
    assert caught.value.billed == "maybe"
    (bench.folder / "out/.topaz" / ("0" * 64) / "0001.json").unlink()
    assert list((await bench.submit()).job_ids) == bench.bought
    assert bench.posts == 1
