"""Ten runs of the same work at the same moment buy it once, on every store and from everywhere."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import fsspec
import pytest
from pydantic import SecretStr

from prefect_topaz import engine
from prefect_topaz.client import Client
from prefect_topaz.errors import UnusableDestination
from prefect_topaz.http import connections
from prefect_topaz.models import Place
from prefect_topaz.providers import load
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.sources import open_source
from tests.core.stores import RemoteStore
from tests.engine.bench import PAYING, Bench, default_order

RUNS = 10
# Seconds that the provider takes for its answer: by then the other nine have come.
SLOW = 1.0


class Work(NamedTuple):
    """One piece of work, in words that go to another process."""

    provider: str
    address: str
    api_key: str
    source: str
    destination: str
    options: dict[str, Any]


class Told(NamedTuple):
    """What one run came back with, and what it told its user meanwhile."""

    job_ids: tuple[str, ...]
    sha256: str
    url: str
    lines: list[str]


async def hurried(seconds: float) -> None:
    """Wait for less than is asked for: the sandbox is done sooner than a provider."""
    await asyncio.sleep(min(seconds, 0.05))


async def deliver(work: Work) -> Told:
    """Buy, wait and store, with nothing in common with any other run."""
    lines: list[str] = []
    client = Client(load(work.provider)(work.address), SecretStr(work.api_key), sleep=hurried)
    context = engine.Context(client, log=lines.append)
    async with connections():
        source = await open_source(work.source, client.dialect)
        destination = Place(url=work.destination, options=work.options)
        purchase = engine.Purchase(source, default_order(work.provider), destination)
        job = await engine.submit(context, purchase)
        finished = await engine.wait(context, job)
        (video,) = await engine.store(context, finished, source=source)
    return Told(job.job_ids, video.sha256, video.url, lines)


def in_thread(work: Work, gate: Any) -> Told:
    """Be a run with an event loop of its own."""
    gate.wait(60)
    return asyncio.run(deliver(work))


def in_process(work: Work, gate: Any, told: Any) -> None:
    """Be a run in a process of its own."""
    told.put(in_thread(work, gate))


def by_threads(work: Work) -> list[Told]:
    gate = threading.Barrier(RUNS)
    with ThreadPoolExecutor(RUNS) as pool:
        return list(pool.map(lambda _: in_thread(work, gate), range(RUNS)))


def by_processes(work: Work) -> list[Told]:
    """Run in processes that share what is imported, and nothing else."""
    kind = multiprocessing.get_context("forkserver")
    kind.set_forkserver_preload([__name__, "s3fs"])
    gate, told = kind.Barrier(RUNS), kind.Queue()
    runs = [kind.Process(target=in_process, args=(work, gate, told)) for _ in range(RUNS)]
    for run in runs:
        run.start()
    try:
        return [told.get(timeout=60) for _ in runs]
    finally:
        for run in runs:
            run.join(10)
            run.kill()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox by the real clock, as the runs are."""
    with Sandbox(reads=2) as running:
        yield running


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty folder of this process."""
    fs = fsspec.filesystem("memory")
    yield "memory://single/"
    fs.rm("/single", recursive=True)


@pytest.mark.parametrize(
    ("runs", "store", "provider"),
    [
        (by_threads, "local", "oxen"),
        (by_threads, "local", "evolink"),
        (by_threads, "memory", "oxen"),
        (by_threads, "s3", "oxen"),
        (by_processes, "local", "oxen"),
        (by_processes, "s3", "evolink"),
    ],
)
def test_ten_runs_at_once_buy_once_and_all_get_the_result(  # noqa: PLR0917  # fixtures
    runs, store, provider, sandbox: Sandbox, clip: Path, tmp_path: Path, request
):
    destination, options = f"{tmp_path}/out/", {}
    if store == "memory":
        destination = request.getfixturevalue("memory")
    if store == "s3":
        bucket = request.getfixturevalue("s3")
        destination, options = f"{bucket.url}/out/", bucket.options
    sandbox.fault("submit", "delay", seconds=SLOW)
    source = sandbox.host(clip)
    work = Work(provider, sandbox.url, sandbox.api_key, source, destination, options)

    told = runs(work)

    (purchase,) = sandbox.purchases()
    assert len([one for one in sandbox.requests() if one.path in PAYING]) == 1
    assert [one.job_ids for one in told] == [(purchase.job_id,)] * RUNS
    assert len({(one.sha256, one.url) for one in told}) == 1
    said = ["\n".join(one.lines) for one in told]
    assert len([one for one in said if "bought: " in one]) == 1
    assert len([one for one in said if "nothing is bought" in one]) == RUNS - 1
    assert any("being bought by another run" in one for one in said)
    fs, folder = fsspec.core.url_to_fs(destination, **options)
    fs.invalidate_cache()
    names = sorted(path.rpartition("/")[2] for path in fs.ls(folder.rstrip("/"), detail=False))
    video = told[0].url.rpartition("/")[2]
    assert names == [".topaz", video, f"{video}.jpg", f"{video}.json"]
    journal = fs.ls(f"{folder.rstrip('/')}/.topaz", detail=False)
    assert len(journal) == 1, "a probe was left behind"


class Overwrites(RemoteStore):
    """A store that writes whatever is there; all its objects show the same files."""

    protocol = "overwrites"
    held: ClassVar[dict[str, bytes]] = {}

    def __init__(self, *options: Any, **named: Any) -> None:
        super().__init__(*options, **named)
        self.files = self.held

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value)


@pytest.fixture
def overwrites() -> Iterator[Place]:
    """A folder on a store that has no exclusive create."""
    fsspec.register_implementation("overwrites", Overwrites, clobber=True)
    yield Place(url="overwrites://out/")
    Overwrites.held.clear()


async def test_a_store_where_two_could_buy_is_refused_before_any_request(
    bench: Bench, overwrites: Place, clip: Path
):
    purchase = await bench.purchase("evolink", url=str(clip), destination=overwrites)
    with pytest.raises(UnusableDestination, match="two runs at once could both buy") as caught:
        await engine.submit(bench.context("evolink"), purchase)
    assert "Pass journal=" in str(caught.value)
    assert caught.value.billed == "no"
    assert bench.sandbox.requests() == []
    assert Overwrites.held == {}


async def test_with_its_journal_elsewhere_such_a_store_takes_the_video(
    bench: Bench, overwrites: Place, clip: Path
):
    where = {"destination": overwrites, "journal": bench.place("journal")}
    (video,) = await bench.deliver("evolink", url=str(clip), **where)
    assert video.url == "overwrites://out/clip-2x.mp4"
    assert len(Overwrites.held["out/clip-2x.mp4"]) == video.bytes
    assert len(bench.bought) == 1
