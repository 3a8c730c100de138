"""The process that dies: does a piece of work for real, each time in a process of its own.

It reads orders, one JSON line each, and forks for every one: what is loaded is shared, and nothing
else. A forked process is killed, and ends, as any other; only the start of Python is spared.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import traceback
import warnings
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import fsspec
import fsspec.implementations.http  # loaded before the forks, as the next is
import s3fs
from pydantic import SecretStr

from prefect_topaz import engine
from prefect_topaz.client import Client
from prefect_topaz.errors import TopazError
from prefect_topaz.http import connections
from prefect_topaz.models import Order, Place
from prefect_topaz.outcomes import SettleReport
from prefect_topaz.providers import Dialect, load
from prefect_topaz.providers.evolink import EvoLinkOptions
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sources import open_source
from prefect_topaz.wire import Call
from tests.crash.effects import Effects, dying_store
from tests.crash.telling import tell

_LONGEST = 1500  # characters of a message; a line must go through the pipe in one piece


class Clock:
    """Time that passes as fast as sleeps ask for.

    Args:
        offset: Seconds by which it is ahead of the machine's clock.
    """

    def __init__(self, offset: float) -> None:
        self._start = datetime.now(timezone.utc) + timedelta(seconds=offset)
        self._passed = 0.0

    def monotonic(self) -> float:
        """Read the clock for deadlines, in seconds."""
        return self._passed

    def now(self) -> datetime:
        """Read the wall clock."""
        return self._start + timedelta(seconds=self._passed)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += seconds
        await asyncio.sleep(0)


def _dialect(job: dict[str, Any]) -> Dialect:
    kind: Any = load(job["provider"])
    dialect: Dialect = kind(job["url"])
    if job.get("read_seconds") is None:
        return dialect

    class Hurried(kind):  # type: ignore[misc]  # which dialect it is shows at run time
        """The same provider for somebody who does not wait long for an answer."""

        def submit(self, order: Order, source: SignedUrl, key: str) -> Call:
            call: Call = super().submit(order, source, key)
            return replace(call, read_seconds=job["read_seconds"])

    hurried: Dialect = Hurried(job["url"])
    return hurried


def _order(job: dict[str, Any]) -> Order:
    if job["provider"] == "oxen":
        return OxenOptions(**({"resolution": "1080p"} | job["options"])).order()
    return EvoLinkOptions(**({"upscale_factor": "2"} | job["options"])).order()


def _context(job: dict[str, Any]) -> engine.Context:
    clock = Clock(job["offset"])
    key = SecretStr(job["key"])
    client = Client(_dialect(job), key, sleep=clock.sleep, now=clock.now, jitter=lambda: 1.0)
    return engine.Context(client, log=lambda _: None, monotonic=clock.monotonic)


async def _deliver(job: dict[str, Any], context: engine.Context, place: Place) -> dict[str, Any]:
    source = await open_source(job["source"], context.client.dialect)
    bought = await engine.submit(context, engine.Purchase(source, _order(job), place))
    finished = await engine.wait(context, bought)
    videos = await engine.store(context, finished, source=source)
    return {"outcome": "stored", "videos": len(videos), "cached": all(v.cached for v in videos)}


async def _settle(job: dict[str, Any], context: engine.Context, place: Place) -> dict[str, Any]:
    rulings = engine.Rulings(adopt=job["adopt"], buy_again=tuple(job["buy_again"]))
    report: SettleReport = await engine.settle(context, place, engine.journal_of(place), rulings)
    return {"outcome": "settled", "states": [item.state for item in report.items]}


async def _work(job: dict[str, Any]) -> dict[str, Any]:
    context = _context(job)
    place = Place(url=job["destination"], options=job["storage"])
    steps = {"deliver": _deliver, "settle": _settle}
    try:
        async with connections():
            return await steps[job["action"]](job, context, place)
    except TopazError as error:
        return {
            "outcome": type(error).__name__,
            "billed": error.billed,
            "work_key": error.work_key,
            "message": error.message[:_LONGEST],
        }


def _run(job: dict[str, Any]) -> None:
    """Be a process on a machine: with its own home, temporary folder and effects."""
    os.environ |= {"HOME": job["home"], "TMPDIR": job["temporary"]}
    tempfile.tempdir = None
    effects = Effects(lambda label: tell("effect", label), job["fatal"], torn=job["torn"])
    if job["destination"].startswith("s3:"):
        fsspec.register_implementation("s3", dying_store(effects), clobber=True)
    else:
        sys.addaudithook(effects.audit([job["destination"].rstrip("/"), job["temporary"]]))
    result = asyncio.run(_work(job))
    effects.step("the end of the process")
    tell("result", result)


def _forked(job: dict[str, Any]) -> None:
    try:
        _run(job)
    except BaseException:  # noqa: BLE001  # told to the parent, which fails the row
        tell("result", {"outcome": "broken", "message": traceback.format_exc()[-_LONGEST:]})
    os._exit(0)


def main() -> None:
    """Serve orders until there are no more."""
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _forked(job)
        tell("pid", pid)
        _, status = os.waitpid(pid, 0)
        tell("exit", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    assert s3fs  # loaded for the forks
    main()
