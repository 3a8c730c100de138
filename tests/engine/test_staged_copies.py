"""Copies of sources when runs meet, die or leave: nothing is bought twice, and nothing stays."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from prefect_topaz import engine
from prefect_topaz.engine import staging
from prefect_topaz.engine.context import Context
from prefect_topaz.errors import OutcomeUnknown, ProviderRefused
from prefect_topaz.models import UpscaleJob
from prefect_topaz.sandbox import Sandbox
from tests.engine.bench import Bench, Clock, until
from tests.engine.shelf import Maker, Shelf, shelf_of

# Runs at the same time.


@pytest.fixture
def still(clip, tmp_path):
    """A bench whose clock stands, so that nobody is given up for gone."""
    clock = Clock(pause=0.002)
    clock.stands = True
    with Sandbox(reads=1, clock=clock.unix) as sandbox:
        yield Bench(sandbox, clock, tmp_path, clip)


async def test_runs_at_the_same_time_copy_once_and_buy_once(still: Bench):
    shelf = shelf_of("files", still, None)
    jobs = await asyncio.gather(*(shelf.submit() for _ in range(4)))
    assert {job.job_ids for job in jobs} == {tuple(still.bought)}
    assert (still.posts, len(still.sandbox.uploads())) == (1, 1)


async def test_a_run_waits_a_while_for_one_that_copies(shelf: Shelf):
    maker = Maker(shelf)
    await maker.note()
    shelf.bench.clock.alarms = {2: maker.copy, 3: maker.intend}
    with pytest.raises(OutcomeUnknown):  # it never sends its order
        await shelf.submit()
    assert len(shelf.left()) == 1
    assert shelf.bench.posts == 0
    assert [line for line in shelf.bench.lines if "waiting for it" in line] != []


async def test_the_loser_of_two_that_copied_removes_its_copy(shelf: Shelf):
    slow = Maker(shelf)
    await slow.note()
    await slow.copy()
    job = await shelf.submit()
    assert len(shelf.left()) == 2
    assert await slow.intend() is None
    assert len(shelf.left()) == 1
    await shelf.deliver()
    assert (shelf.left(), shelf.bench.bought) == ([], list(job.job_ids))
    assert shelf.bench.posts == 1


async def test_a_note_of_another_stands_in_nobodys_way(shelf: Shelf):
    """Both may copy; the first intent decides, though notes were taken in between."""
    first, second = Maker(shelf), Maker(shelf)
    for step in (first.note, second.note, second.copy, first.copy):
        await step()
    assert await first.intend() is not None
    assert await second.intend() is None
    assert len(shelf.left()) == 1


# Deaths.


@pytest.mark.parametrize("died", ["before the upload", "after the upload"])
async def test_what_a_dead_maker_left_is_removed_by_settle(shelf: Shelf, died):
    maker = Maker(shelf)
    await maker.note()
    if died == "after the upload":
        await maker.copy()
    reload = shelf.reload
    before = shelf.left()
    await shelf.settle(reload=reload)
    assert shelf.left() == before, "it may only be slow"
    await shelf.bench.clock.sleep(1000)
    await shelf.settle(reload=reload)
    if shelf.name != "files":
        assert shelf.left() == []
    assert await shelf.kinds() == ["staging", "staging", "unstaged"]
    await shelf.settle(reload=reload)
    assert len(await shelf.kinds()) == 3
    await shelf.deliver()
    assert shelf.bench.posts == 1


async def test_a_file_whose_id_nobody_knows_expires_by_itself(files: Shelf):
    maker = Maker(files)
    await maker.note()
    await maker.copy()
    url = maker.readable.url.reveal()
    await files.bench.clock.sleep(1000)
    await files.settle()
    assert status_of(url) == 200
    await files.bench.clock.sleep(72 * 3600)
    assert status_of(url) == 404


def status_of(url: str) -> int:
    return httpx.get(url).status_code


async def test_a_maker_that_was_given_up_for_gone_orders_nothing(shelf: Shelf):
    maker = Maker(shelf)
    await maker.note()
    await maker.copy()
    await shelf.bench.clock.sleep(1000)
    await shelf.settle(reload=shelf.reload)
    assert await maker.intend() is None
    assert shelf.left() == []
    await shelf.deliver()
    assert (shelf.left(), shelf.bench.posts) == ([], 1)


async def test_a_death_in_the_middle_of_writing_leaves_nothing_for_good(bucket: Shelf):
    """What a store has of an unfinished file is no file yet, or a short one."""
    maker = Maker(bucket)
    await maker.note()
    file = maker.copying.file
    file.fs.pipe_file(file.path, b"half")
    await bucket.bench.clock.sleep(1000)
    await bucket.settle(reload=bucket.reload)
    assert bucket.left() == []


async def test_a_death_between_the_end_and_the_removal_is_healed(shelf: Shelf):
    context = shelf.context()
    job = await shelf.submit(context=context)
    journal = context.journal(job.journal)
    status = await settled_status(shelf, context, job)
    record = await journal.read(job.work_key)
    await journal.append(record, context.event("finished", results=(status,)))
    assert len(shelf.left()) == 1
    await shelf.settle(reload=shelf.reload)
    assert shelf.left() == []
    assert shelf.bench.posts == 1


async def settled_status(shelf: Shelf, context: Context, job: UpscaleJob) -> Any:
    found: list[Any] = []

    async def look() -> bool:
        found.append(await context.client.status(job.job_ids[0]))
        return found[-1].is_final

    for _ in range(2000):
        if await look():
            return found[-1]
        await asyncio.sleep(0.005)
    raise TimeoutError


async def test_the_next_run_heals_it_too(repository: Shelf):
    context = repository.context()
    job = await repository.submit(context=context)
    journal = context.journal(job.journal)
    status = await settled_status(repository, context, job)
    record = await journal.read(job.work_key)
    await journal.append(record, context.event("finished", results=(status,)))
    await repository.deliver()
    assert repository.left() == []


async def test_the_copy_of_a_running_job_is_never_removed(shelf: Shelf):
    shelf.bench.sandbox.fault("job", "delay", seconds=60)
    await shelf.submit()
    await shelf.bench.clock.sleep(3600)
    await shelf.settle(reload=shelf.reload)
    assert len(shelf.left()) == 1


async def test_the_copy_of_an_order_with_an_unknown_outcome_is_never_removed(shelf: Shelf):
    shelf.bench.sandbox.fault("list", "5xx", times=40)
    shelf.bench.sandbox.fault("submit", "cut")
    with pytest.raises(OutcomeUnknown):
        await shelf.submit()
    await shelf.bench.clock.sleep(3600)
    await shelf.settle(reload=shelf.reload)
    assert len(shelf.left()) == 1


async def test_a_copy_that_has_expired_is_noted_as_gone_whatever_became_of_its_order(files: Shelf):
    files.bench.sandbox.fault("submit", "cut")
    with pytest.raises(OutcomeUnknown):
        await files.submit()
    await files.bench.clock.sleep(74 * 3600)
    await files.settle()
    assert (await files.kinds())[-1] == "unstaged"
    assert (await files.record()).state == "unknown"


async def test_a_providers_store_is_tidied_by_its_own_client_only(repository: Shelf):
    maker = Maker(repository)
    await maker.note()
    await maker.copy()
    await repository.bench.clock.sleep(1000)
    place = repository.bench.place()
    await engine.settle(repository.bench.context("evolink"), place, engine.journal_of(place))
    assert (len(repository.left()), await repository.kinds()) == (1, ["staging"])


async def test_a_journal_that_fails_while_a_copy_is_removed_ends_no_job(repository: Shelf):
    repository.bench.sandbox.fault("delete", "5xx")
    await repository.deliver()
    context, record = repository.context(), await repository.record()
    journal = context.journal(engine.journal_of(repository.bench.place()))
    broken = Path(journal.place(record.key).file(f"{len(record.events) + 1:04d}.json"))
    broken.write_text("{")
    assert await staging.remove(context, journal, record) == record
    assert (repository.left(), "left for settle" in repository.bench.lines[-1]) == ([], True)


async def test_a_journal_that_fails_after_a_failed_copying_hides_no_reason(files: Shelf):
    maker = Maker(files)
    await maker.note()
    place = engine.journal_of(files.bench.place())
    broken = Path(maker.context.journal(place).place(maker.record.key).file("0003.json"))
    await files.bench.clock.sleep(100)
    files.bench.sandbox.fault("upload", "refused", status=400, message="no videos", times=4)
    broken.write_text("{")
    with pytest.raises(ProviderRefused, match="no videos"):
        await files.submit()
    assert "cannot be noted" in files.bench.lines[-1]


async def test_after_a_ruling_the_copy_is_removed(shelf: Shelf):
    shelf.bench.sandbox.fault("submit", "5xx", accepted=False)
    with pytest.raises(OutcomeUnknown) as caught:
        await shelf.submit()
    place = shelf.bench.place()
    context = shelf.context(reload=shelf.reload)
    rulings = engine.Rulings(give_up=(caught.value.work_key,))
    await engine.settle(context, place, engine.journal_of(place), rulings)
    assert shelf.left() == []


# A caller that leaves.


@pytest.mark.parametrize("name", ["files", "repository"])
async def test_a_run_that_is_cancelled_while_it_copies_leaves_nothing(bench: Bench, name):
    shelf = shelf_of(name, bench, None)
    bench.sandbox.fault("upload", "delay", seconds=30, accepted=False)
    run = asyncio.ensure_future(shelf.submit())
    await until(lambda: bench.asked("POST", "/api/v1/files/upload") + bench.asked("PUT", "/api"))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (bench.posts, shelf.left()) == (0, [])
    assert await shelf.kinds() == ["staging", "unstaged"]


async def test_a_writer_that_is_cancelled_stops_before_its_copy_is_removed(bucket: Shelf):
    """Else the copy would come up again after that."""
    begun, may_go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    purchase = await bucket.purchase()

    class Slow:
        """A source that says when it is read, and waits."""

        def read(self, count: int) -> bytes:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(may_go.wait(), loop).result(20)
            return b"x" * 1000

    slow = SlowSource(purchase.source, Slow())
    closed = slow.closed
    context = bucket.context()
    run = asyncio.ensure_future(engine.submit(context, replace(purchase, source=slow)))
    await asyncio.wait_for(begun.wait(), 20)
    run.cancel()
    loop.call_later(0.1, may_go.set)
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await asyncio.to_thread(closed.wait, 20)
    assert (bucket.bench.posts, bucket.left()) == (0, [])
    assert await bucket.kinds() == ["staging", "unstaged"]


class SlowSource:
    """A source whose content comes from somewhere else."""

    def __init__(self, source: Any, content: Any) -> None:
        self._source, self._content = source, content
        self.closed = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    @contextlib.contextmanager
    def stream(self) -> Any:
        try:
            yield self._content
        finally:
            self.closed.set()
