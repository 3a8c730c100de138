"""Measure how fast a result is stored, against what everybody has: curl, httpx and fs.put.

All figures are ratios of runs taken in turns, in one process and on one machine. `--full` stores
1 GiB and takes some minutes; without it a smaller file shows that everything still works.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import httpx
from common import MEBIBYTE, parse_size, row, running, show_size, show_table, take_turns

from prefect_topaz.delivery import Outgoing
from prefect_topaz.download import fetch
from prefect_topaz.places import Folder
from prefect_topaz.redaction import SignedUrl

_RATE = "20M"
_SETTINGS = {"key": "key", "secret": "secret", "skip_instance_cache": True}


def store(url: str, work: Path, folder: Folder | None = None) -> None:
    """Store a file as the engine does; without a folder it is only fetched and hashed."""
    asyncio.run(_store(url, work, folder))


async def _store(url: str, work: Path, folder: Folder | None) -> None:
    async def no_refresh() -> SignedUrl:
        raise RuntimeError("the local server's links do not expire")

    outgoing = None if folder is None else Outgoing(folder, "ours.mp4")
    fetched = await fetch(
        SignedUrl(url),
        work / "result.mp4",
        refresh=no_refresh,
        headers_for=lambda _: {},
        sleep=asyncio.sleep,
        follower=outgoing,
    )
    if outgoing is not None:
        outgoing.commit(fetched.path)


def curl(url: str, file: Path, *, synced: bool = False) -> None:
    """Download with curl; `synced` makes it survive a power cut, as ours does."""
    subprocess.run(["curl", "-sf", "-o", str(file), url], check=True)  # noqa: S607  # as found
    if synced:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def download_then_put(url: str, file: Path, folder: Folder) -> None:
    """Store as a plain script does: stream to a file with its hash, then put the file."""
    digest = hashlib.sha256()
    with httpx.stream("GET", url, timeout=60) as answer, file.open("wb") as opened:
        for piece in answer.iter_bytes(MEBIBYTE):
            opened.write(piece)
            digest.update(piece)
    folder.fs.put_file(str(file), folder.file("theirs.mp4"))


def _clean(work: Path) -> None:
    for path in work.rglob("*.mp4"):
        path.unlink()


def measure_local(source: Path, work: Path, runs: int, *, limited: bool) -> list[list[str]]:
    """Compare with curl, to the local disk."""
    local = Folder(fsspec.filesystem("file"), str(work / "out"))
    with running("server.py", source, *(("--rate", _RATE) if limited else ())) as origin:
        url, file = f"{origin}/clip.mp4", work / "curl.mp4"
        clean = partial(_clean, work)
        if limited:
            turns = take_turns(
                runs, lambda: store(url, work, local), lambda: curl(url, file), clean
            )
            return [row(f"to the disk, each connection {_RATE}B/s | curl", turns, 0.25)]
        plain = take_turns(runs, lambda: store(url, work), lambda: curl(url, file), clean)
        synced = take_turns(
            runs, lambda: store(url, work, local), lambda: curl(url, file, synced=True), clean
        )
    return [
        row("fetched and hashed | curl", plain, 1.1),
        row("to the disk, synced | curl, synced", synced, 1.1),
    ]


def measure_s3(source: Path, work: Path, runs: int, server: str, rate: str = "") -> list[str]:
    """Compare with a download followed by `fs.put`, to an S3 server."""
    limit = ("--rate", rate) if rate else ()
    with running("server.py", source, *limit) as origin, running(server) as endpoint:
        fs: Any = fsspec.filesystem("s3", **_SETTINGS, client_kwargs={"endpoint_url": endpoint})
        if server != "sink.py":
            fs.mkdir("bucket")
        folder, url = Folder(fs, "bucket/out"), f"{origin}/clip.mp4"
        turns = take_turns(
            runs,
            lambda: store(url, work, folder),
            lambda: download_then_put(url, work / "theirs.mp4", folder),
            partial(_clean, work),
        )
    name = "S3 that keeps nothing" if server == "sink.py" else "S3 (moto)"
    served = f", each connection {rate}B/s" if rate else ""
    return row(f"to {name}{served} | httpx, then fs.put", turns, 0.7)


def main() -> int:
    """Print the table; a goal that is missed is said, and is no failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("64M"), help="such as 64M")
    parser.add_argument("--runs", type=int, default=3, help="of each (default 3)")
    parser.add_argument("--full", action="store_true", help="1 GiB, seven runs")
    options = parser.parse_args()
    size, runs = (parse_size("1G"), 7) if options.full else (options.size, options.runs)
    if shutil.which("curl") is None:
        print("curl is missing: nothing to compare with")
        return 0
    print(f"{show_size(size)}, {runs} runs in turns, {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory(prefix="topaz-bench-") as name:
        work = Path(name)
        source = work / "source"
        with source.open("wb") as file:
            for _ in range(size // MEBIBYTE):
                file.write(os.urandom(MEBIBYTE))
        few = max(runs // 3, 1)
        rows = measure_local(source, work, runs, limited=False)
        rows += measure_local(source, work, few, limited=True)
        rows.append(measure_s3(source, work, runs, "sink.py"))
        rows.append(measure_s3(source, work, few, "sink.py", "100M"))
        rows.append(measure_s3(source, work, few, "../tests/s3_server.py"))
        header = (
            "stored",
            "against",
            "ours",
            "theirs",
            "ratio, median (spread)",
            "of the least",
            "goal",
            "",
        )
        show_table(header, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
