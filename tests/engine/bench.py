"""A workbench for engine tests: a real sandbox, real files, and a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from prefect_topaz import engine
from prefect_topaz.client import Client
from prefect_topaz.journal import Record
from prefect_topaz.models import FinishedUpscale, Order, Place, StoredVideo, UpscaleJob, work_key
from prefect_topaz.providers import Dialect, load
from prefect_topaz.providers.evolink import EvoLinkOptions
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.sandbox.ledger import RecordedRequest
from prefect_topaz.sources import open_source

START = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
PAYING = ("/api/ai/queue", "/api/ai/videos/generate", "/v1/videos/generations")
PROVIDERS = ("oxen", "evolink")


class Clock:
    """Time that passes only while somebody sleeps; the sandbox reads it too.

    Args:
        pause: Real seconds of each sleep; 0 just gives way to others.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self.passed = 0.0
        self.pause = pause
        self.stands = False
        self.naps: list[float] = []
        self.alarms: dict[int, Callable[[], Any]] = {}

    def monotonic(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def unix(self) -> float:
        return self.now().timestamp()

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        if not self.stands:
            self.passed += seconds
        if alarm := self.alarms.pop(len(self.naps), None):
            await alarm()
        await asyncio.sleep(self.pause)


async def until(condition: Callable[[], Any]) -> None:
    """Give way until the other side of a real connection has got somewhere."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


def default_order(provider: str) -> Order:
    """Give the smallest order of a provider."""
    if provider == "oxen":
        return OxenOptions(resolution="1080p").order()
    return EvoLinkOptions(upscale_factor="2").order()


@dataclass
class Bench:
    """What a test needs to buy, wait and store; nothing in it is a stand-in but the provider."""

    sandbox: Sandbox
    clock: Clock
    folder: Path
    clip: Path
    lines: list[str] = field(default_factory=list)

    def client(
        self, provider: str = "oxen", *, key: str | None = None, dialect: Dialect | None = None
    ) -> Client:
        """Make a client as a process of its own would."""
        return Client(
            dialect or load(provider)(self.sandbox.url),
            SecretStr(self.sandbox.api_key if key is None else key),
            sleep=self.clock.sleep,
            now=self.clock.now,
            jitter=lambda: 1.0,
        )

    def context(self, provider: str = "oxen", **options: Any) -> engine.Context:
        """Make a context as a process of its own would."""
        return engine.Context(
            self.client(provider, **options),
            log=self.lines.append,
            monotonic=self.clock.monotonic,
        )

    def place(self, name: str = "out") -> Place:
        """Give a folder as a destination."""
        return Place(url=f"{self.folder / name}/")

    async def purchase(self, provider: str = "oxen", **changes: Any) -> engine.Purchase:
        """Make a purchase of the hosted clip; changes are fields of `Purchase`, or `url`."""
        url = changes.pop("url", None) or self.sandbox.host(self.clip)
        source = await open_source(url, load(provider)(self.sandbox.url))
        plain = engine.Purchase(source, default_order(provider), self.place())
        return replace(plain, **changes)

    async def submit(
        self, provider: str = "oxen", context: engine.Context | None = None, **changes: Any
    ) -> UpscaleJob:
        """Buy, or find bought."""
        purchase = await self.purchase(provider, **changes)
        return await engine.submit(context or self.context(provider), purchase)

    async def finish(
        self, provider: str = "oxen", context: engine.Context | None = None, **changes: Any
    ) -> FinishedUpscale:
        """Buy and wait."""
        context = context or self.context(provider)
        return await engine.wait(context, await self.submit(provider, context, **changes))

    async def deliver(
        self,
        provider: str = "oxen",
        context: engine.Context | None = None,
        *,
        store: dict[str, Any] | None = None,
        **changes: Any,
    ) -> list[StoredVideo]:
        """Buy, wait and store, as a flow does; `store` are options of the last step."""
        purchase = await self.purchase(provider, **changes)
        context = context or self.context(provider)
        job = await engine.submit(context, purchase)
        finished = await engine.wait(context, job)
        return await engine.store(context, finished, source=purchase.source, **store or {})

    async def record(self, provider: str = "oxen", **changes: Any) -> Record:
        """Read the journal's record of a purchase."""
        purchase = await self.purchase(provider, **changes)
        context = self.context(provider)
        place = engine.journal_of(purchase.destination, purchase.journal)
        return await context.journal(place).read(self.key(context, purchase))

    async def kinds(self, provider: str = "oxen", **changes: Any) -> list[str]:
        """List what the journal says has happened."""
        record = await self.record(provider, **changes)
        return [event.kind for event in record.events]

    @staticmethod
    def key(context: engine.Context, purchase: engine.Purchase) -> str:
        """Give the work key of a purchase."""
        identity, realm = purchase.source.facts.identity, context.client.dialect.realm
        return work_key(identity, purchase.order, realm=realm, again=purchase.again)

    def asked(self, method: str, *paths: str) -> list[RecordedRequest]:
        """List the requests that arrived with a method at paths that start so."""
        every = self.sandbox.ledger.requests
        return [one for one in every if one.method == method and one.path.startswith(paths)]

    @property
    def posts(self) -> int:
        """How many requests that could cost money arrived, taken or not."""
        return len([one for one in self.asked("POST", *PAYING) if one.path in PAYING])

    @property
    def bought(self) -> list[str]:
        """The ids of the jobs that the provider took."""
        return [one.job_id for one in self.sandbox.purchases()]

    @property
    def charged(self) -> Decimal:
        """What the jobs cost, in the provider's unit."""
        return sum((one.cost or Decimal(0) for one in self.sandbox.purchases()), Decimal(0))
