"""Ways to make a local file readable for a provider, and another process that copies by steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx

from prefect_topaz import engine
from prefect_topaz.engine import staging
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.copying import make, plan
from prefect_topaz.journal import Journal, Record
from prefect_topaz.models import Place, UpscaleJob
from prefect_topaz.providers import load
from tests.engine.bench import Bench
from tests.fixtures_s3 import Bucket

REPO = "me/clips"


@dataclass
class Shelf:
    """One way to make a local file readable, and a look at what lies there."""

    name: str
    provider: str
    bench: Bench
    staging: Place | None
    left: Callable[[], list[str]]

    def context(self, **changes: Any) -> Context:
        """Make a context as a process of its own would."""
        kind, url = load(self.provider), self.bench.sandbox.url
        dialect = kind(url, REPO) if self.name == "repository" else kind(url)
        return replace(self.bench.context(self.provider, dialect=dialect), **changes)

    async def purchase(self, **changes: Any) -> engine.Purchase:
        url = changes.pop("url", str(self.bench.clip))
        return await self.bench.purchase(
            self.provider, url=url, **{"staging": self.staging, **changes}
        )

    async def submit(self, **changes: Any) -> UpscaleJob:
        context = changes.pop("context", None) or self.context()
        return await engine.submit(context, await self.purchase(**changes))

    async def deliver(self) -> None:
        context = self.context()
        finished = await engine.wait(context, await self.submit(context=context))
        await engine.store(context, finished)

    async def settle(self, **changes: Any) -> Any:
        place = self.bench.place()
        context = self.context(**changes)
        return await engine.settle(context, place, engine.journal_of(place))

    async def reload(self, place: Place) -> Place:
        """Load the settings again, as a saved block does."""
        options = self.staging.options if self.staging else {}
        return place.model_copy(update={"options": options})

    async def kinds(self) -> list[str]:
        return await self.bench.kinds(self.provider, url=str(self.bench.clip))

    async def record(self) -> Record:
        return await self.bench.record(self.provider, url=str(self.bench.clip))


def make_repo(bench: Bench, *, is_public: bool = True) -> None:
    namespace, name = REPO.split("/")
    httpx.post(
        f"{bench.sandbox.url}/api/repos",
        json={"namespace": namespace, "name": name, "is_public": is_public},
        headers={"Authorization": f"Bearer {bench.sandbox.api_key}"},
    ).raise_for_status()


def uploads(bench: Bench) -> list[str]:
    return [one.reference for one in bench.sandbox.uploads() if not one.deleted]


def in_bucket(s3: Bucket) -> Callable[[], list[str]]:
    def files() -> list[str]:
        s3.fs.invalidate_cache()
        return s3.fs.find(s3.url)

    return files


def shelf_of(name: str, bench: Bench, s3: Bucket | None) -> Shelf:
    if name.startswith("bucket"):
        place = Place(url=f"{s3.url}/staging", options=s3.options)
        return Shelf(name, name.partition(" ")[2], bench, place, in_bucket(s3))
    if name == "repository":
        make_repo(bench)
    provider = "oxen" if name == "repository" else "evolink"
    return Shelf(name, provider, bench, None, lambda: uploads(bench))


class Maker:
    """Another process that copies, step by step."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf, self.context = shelf, shelf.context(owner="somebody else")

    async def note(self) -> None:
        purchase = await self.shelf.purchase()
        place = engine.journal_of(purchase.destination)
        self.journal: Journal = self.context.journal(place)
        key = self.shelf.bench.key(self.context, purchase)
        record = await self.journal.read(key)
        self.copying = await plan(self.context, purchase.source, purchase.staging, None, key)
        note = self.context.event("staging", staged=self.copying.copy, lease=900.0)
        self.purchase, self.record = purchase, await self.journal.append(record, note)
        assert self.record is not None

    async def copy(self) -> None:
        url, copy = await make(self.context, self.copying)
        self.readable = staging.Readable(self.record, url, copy)

    async def intend(self) -> Record | None:
        event = self.context.event(
            "intent",
            order=self.purchase.order,
            source=self.purchase.source.facts,
            destination=self.purchase.destination,
            source_digest=self.readable.url.digest,
            staged=self.readable.copy,
            lease=300.0,
        )
        return await staging.intend(self.context, self.journal, self.readable, event)
