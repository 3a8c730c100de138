"""A destination that is full or read-only: said before money where it can be, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from prefect_topaz import engine
from prefect_topaz.delivery import publish
from prefect_topaz.errors import DeliveryFailed, JournalUnavailable, UnusableDestination
from prefect_topaz.models import Place
from tests.engine.bench import Bench
from tests.stores.servers import Server, missing
from tests.stores.stored import Stored

NAME = "clip-1080p.mp4"
# Nobody listens there, and nobody waits long for it.
AWAY = {
    "key": "k",
    "secret": "s",
    "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"},
    "config_kwargs": {"retries": {"max_attempts": 1}},
}
SIZE = 512 * 1024  # bytes; a result and its journal have a tenth of it


@pytest.fixture(params=["local", "sftp", "ftp"])
def small(request, tmp_path: Path, serve: Callable[[str], Server]) -> Iterator[Stored]:
    """Give a folder on a small disk, as itself and behind servers."""
    kind = request.param
    server = None if kind == "local" else serve(kind)
    disk = (server.root if server else tmp_path) / f"disk-{time.monotonic_ns()}"
    with mounted(disk, f"size={SIZE}"):
        if server is None:
            yield Stored(kind, f"{disk}/out", root=disk / "out")
            return
        path = disk if kind == "sftp" else f"/{disk.name}"
        url = f"{kind}://127.0.0.1:{server.port}{path}/out"
        # On a full disk this FTP server now and then forgets to answer.
        options = server.options | ({"timeout": 3} if kind == "ftp" else {})
        yield Stored(kind, url, options, disk / "out")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a disk in memory."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        missing("a disk in memory can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(place: Stored) -> Path:
    """Leave no byte free where a place is."""
    place.root.mkdir(parents=True, exist_ok=True)
    filler = place.root.with_name("filler")
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


def test_a_full_disk_keeps_no_part_and_what_was_there(small: Stored, tmp_path):
    file = tmp_path / "result.mp4"
    file.write_bytes(b"x" * (SIZE // 2))
    publish(file, small.folder, NAME)
    file.write_bytes(b"y" * (SIZE // 2 + 1))
    with pytest.raises(DeliveryFailed, match="run again, which buys nothing") as caught:
        publish(file, small.folder, NAME)
    assert caught.value.billed == "yes"
    assert small.names() == [NAME]
    assert small.read(NAME) == b"x" * (SIZE // 2)


async def test_a_disk_that_is_full_before_the_order_costs_nothing(small: Stored, bench: Bench):
    fill(small)
    with pytest.raises((JournalUnavailable, UnusableDestination)):
        await bench.deliver(destination=small.place())
    assert bench.posts == 0


async def test_a_disk_that_got_full_costs_no_second_purchase(small: Stored, bench: Bench):
    journal = bench.place("journal") if small.kind == "ftp" else None
    finished = await bench.finish(destination=small.place(), journal=journal)
    filler = fill(small)
    with pytest.raises(DeliveryFailed) as caught:
        await engine.store(bench.context(), finished)
    assert caught.value.billed == "yes"
    assert [name for name in small.names() if name.endswith((".mp4", ".part"))] == []
    filler.unlink()
    (video,) = await bench.deliver(destination=small.place(), journal=journal)
    assert len(small.read(NAME) or b"") == video.bytes
    assert bench.posts == 1


@pytest.fixture(params=["local", "sftp", "ftp", "s3", "azure"])
def closed(request, serve, stored, tmp_path) -> Iterator[Place]:
    """Give a folder where nothing can be written."""
    if request.param == "local":
        with mounted(tmp_path / "closed", "ro"):
            yield Place(url=f"{tmp_path}/closed/out/")
        return
    yield _closed(request.param, serve, stored)


def _closed(kind: str, serve: Callable[[str], Server], stored: Callable[..., Stored]) -> Place:
    if kind == "sftp":
        server = serve("read-only sftp")
        url = f"sftp://127.0.0.1:{server.port}{server.root}/out/"
        return Place(url=url, options=server.options)
    place = stored(kind)
    if kind == "ftp":
        options = {**place.options, "username": "reader"}
        return Place(url=f"{place.url}/", options=options)
    # Nobody has made this bucket, and none is made by mistake.
    scheme = place.url.partition("://")[0]
    return Place(url=f"{scheme}://nobody-made-this/out/", options=place.options)


async def test_a_closed_destination_costs_nothing(closed: Place, bench: Bench):
    with pytest.raises((JournalUnavailable, UnusableDestination)) as caught:
        await bench.deliver(destination=closed)
    assert caught.value.billed == "no"
    assert bench.posts == 0


async def test_a_closed_destination_with_its_journal_elsewhere_costs_nothing_either(
    closed: Place, bench: Bench
):
    journal = bench.place("journal")
    with pytest.raises(UnusableDestination, match=r"cannot be (written|looked at)"):
        await bench.deliver(destination=closed, journal=journal)
    assert bench.posts == 0


async def test_a_destination_that_was_closed_while_the_job_ran_loses_nothing(
    closed: Place, bench: Bench
):
    journal = bench.place("journal")
    finished = await bench.finish(journal=journal)
    with pytest.raises(DeliveryFailed) as caught:
        await engine.store(bench.context(), finished, closed)
    assert caught.value.billed == "yes"
    (video,) = await bench.deliver(journal=journal)
    assert Path(video.url).stat().st_size == video.bytes
    assert bench.posts == 1


@pytest.mark.parametrize("kind", ["s3", "sftp", "ftp"])
async def test_a_store_that_went_away_while_the_job_ran_loses_nothing(kind, bench: Bench):
    url = "s3://bucket" if kind == "s3" else f"{kind}://127.0.0.1:9"
    place = Place(url=f"{url}/out/", options=AWAY if kind == "s3" else {})
    journal = bench.place("journal")
    finished = await bench.finish(journal=journal)
    with pytest.raises(DeliveryFailed) as caught:
        await engine.store(bench.context(), finished, place)
    assert caught.value.billed == "yes"
    (video,) = await bench.deliver(journal=journal)
    assert Path(video.url).stat().st_size == video.bytes
    assert bench.posts == 1
