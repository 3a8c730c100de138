"""Measure how much memory storing a large result takes above the idle process.

Each way runs in a process of its own. The source is a sparse file and the S3 server keeps nothing,
so that neither takes memory or place. The figure is the peak of the resident memory, reset once all
is imported. `--full` stores 4 GiB; without it a smaller file must keep to the same limit.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import fsspec
from common import MEBIBYTE, parse_size, running, show_size, show_table
from pydantic import SecretStr

from prefect_topaz.client import Client
from prefect_topaz.delivery import Outgoing
from prefect_topaz.download import fetch
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.holding import hold
from prefect_topaz.http import exchange
from prefect_topaz.journal import Journal, Record
from prefect_topaz.places import Folder
from prefect_topaz.providers.oxen import Provider
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.wire import Call

LIMIT = 150 * MEBIBYTE
_STATUS = Path("/proc/self/status")

Way = Callable[[str, Path, str], Coroutine[Any, Any, None]]


async def by_url(origin: str, work: Path, _: str) -> None:
    """Store a result that comes by a link on the local disk."""
    await _store(origin, work, Folder(fsspec.filesystem("file"), str(work / "out")))


async def to_s3(origin: str, work: Path, endpoint: str) -> None:
    """Store a result that comes by a link on S3."""
    options = {"key": "key", "secret": "secret", "client_kwargs": {"endpoint_url": endpoint}}
    await _store(origin, work, Folder(fsspec.filesystem("s3", **options), "bucket/out"))


async def _store(origin: str, work: Path, folder: Folder) -> None:
    async def no_refresh() -> SignedUrl:
        raise RuntimeError("the local server's links do not expire")

    outgoing = Outgoing(folder, "clip.mp4")
    fetched = await fetch(
        SignedUrl(f"{origin}/clip.mp4"),
        work / "result.mp4",
        refresh=no_refresh,
        headers_for=lambda _: {},
        sleep=asyncio.sleep,
        follower=outgoing,
    )
    await asyncio.to_thread(outgoing.commit, fetched.path)


async def by_answer(origin: str, work: Path, _: str) -> None:
    """Keep a result that comes inside the answer, as base64."""
    reply = await exchange(Call("GET", f"{origin}/b64", spool=True), {})
    context = Context(Client(Provider("http://127.0.0.1:9"), SecretStr("key")))
    journal = Journal(Folder(fsspec.filesystem("file"), str(work / "out")))
    try:
        await hold(context, journal, Record(key="key"), reply)
    finally:
        assert reply.spooled is not None
        reply.spooled.unlink()


WAYS: dict[str, Way] = {"url": by_url, "b64_json": by_answer, "url to S3": to_s3}


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


def measure_here(way: str, origin: str, endpoint: str) -> int:
    """Run one way in this process; give the bytes it took at most."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    idle = _memory("VmRSS")
    with tempfile.TemporaryDirectory(prefix="topaz-bench-") as name:
        asyncio.run(WAYS[way](origin, Path(name), endpoint))
    return _memory("VmHWM") - idle


def measure(way: str, size: int) -> int:
    """Run one way in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="topaz-bench-") as name:
        source = Path(name) / "source"
        with source.open("wb") as file:
            file.truncate(size)
        with running("server.py", source) as origin, running("sink.py") as endpoint:
            command = [sys.executable, __file__, "--child", way, origin, endpoint]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(answer.stdout)


def main() -> int:
    """Print the table; return 1 if a way takes more than the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("256M"), help="such as 256M")
    parser.add_argument("--full", action="store_true", help="4 GiB")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(measure_here(*options.child))
        return 0
    if not _STATUS.exists():
        print("only Linux tells a process's peak of memory: nothing measured")
        return 0
    size = parse_size("4G") if options.full else options.size
    peaks = {way: measure(way, size) for way in WAYS}
    rows = [
        [way, f"{peak / MEBIBYTE:.0f} MiB", f"≤ {LIMIT // MEBIBYTE} MiB", _verdict(peak)]
        for way, peak in peaks.items()
    ]
    print(f"{show_size(size)}, each way in a process of its own\n")
    show_table(("result by", "peak above idle", "goal", ""), rows)
    return int(any(peak > LIMIT for peak in peaks.values()))


def _verdict(peak: int) -> str:
    return "met" if peak <= LIMIT else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
