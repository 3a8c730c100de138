"""The part of the contract that talks to a real server: the sandbox, or the provider's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_topaz import engine, errors
from prefect_topaz.client import Client
from prefect_topaz.models import JobStatus, Place, UpscaleJob
from prefect_topaz.providers import Dialect
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.sources import open_source
from prefect_topaz.wire import Accepted
from tests.engine.bench import Clock

IDEMPOTENCY = "topaz-0123456789abcdef"


@dataclass(frozen=True)
class Shop:
    """A running server of a provider.

    Args:
        url: Where it is.
        key: The key that it takes.
        source: URL of a clip that it can read.
        clock: The clock that it goes by.
        bought: Gives the ids of the jobs that it took.
        lose: Makes it take the next order and cut the connection instead of answering.
    """

    url: str
    key: str
    source: str
    clock: Clock
    bought: Callable[[], list[str]]
    lose: Callable[[], None]

    def client(self, dialect: Dialect, key: str | None = None) -> Client:
        secret = SecretStr(key or self.key)
        clock = self.clock
        return Client(dialect, secret, sleep=clock.sleep, now=clock.now, jitter=lambda: 1.0)

    def context(self, dialect: Dialect) -> engine.Context:
        return engine.Context(self.client(dialect), monotonic=self.clock.monotonic)

    async def purchase(self, dialect: Dialect, order: Any, folder: Path) -> engine.Purchase:
        source = await open_source(self.source, dialect)
        return engine.Purchase(source, order, Place(url=f"{folder}/"))


class LiveContract:
    """The promises that need a server; the fixture `shop` is the provider's."""

    samples: Any

    @pytest.fixture
    def shop(self) -> Shop:
        raise NotImplementedError

    @pytest.fixture
    def dialect(self, shop: Shop) -> Dialect:
        return self.samples.make(shop.url)

    @pytest.fixture
    def client(self, shop: Shop, dialect: Dialect) -> Client:
        return shop.client(dialect)

    async def order_one(self, client: Client, shop: Shop) -> str:
        order = self.samples.order()
        reply = await client.submit(order, SignedUrl(shop.source), IDEMPOTENCY)
        verdict = client.dialect.read_submit(order, reply)
        assert isinstance(verdict, Accepted)
        assert list(verdict.job_ids) == shop.bought()[-1:]
        return verdict.job_ids[0]

    async def ended(self, client: Client, job_id: str) -> JobStatus:
        for _ in range(10):
            status = await client.status(job_id)
            if status.is_final:
                return status
        raise AssertionError(f"not ended: {status!r}")

    async def test_a_good_key_passes_and_a_bad_one_does_not(self, shop, client):
        await client.check()
        with pytest.raises(errors.Unauthorized):
            await shop.client(client.dialect, "wrong").check()
        assert shop.bought() == []

    async def test_a_bad_key_buys_nothing(self, shop, dialect, tmp_path):
        purchase = await shop.purchase(dialect, self.samples.order(), tmp_path)
        bad = engine.Context(shop.client(dialect, "wrong"), monotonic=shop.clock.monotonic)
        with pytest.raises(errors.Unauthorized) as caught:
            await engine.submit(bad, purchase)
        assert caught.value.billed == "no"
        assert shop.bought() == []

    async def test_a_job_is_followed_to_its_end(self, shop, client):
        status = await self.ended(client, await self.order_one(client, shop))
        assert status.phase == "succeeded"
        assert len(status.results) == 1
        assert status.billed == "yes"

    async def test_many_jobs_are_asked_for_at_once_and_strangers_are_absent(self, shop, client):
        job_id = await self.order_one(client, shop)
        found = await client.statuses([job_id, f"{job_id[:-4]}none"])
        assert list(found) == [job_id]

    async def test_a_strangers_id_is_not_found(self, shop, client):
        job_id = await self.order_one(client, shop)
        with pytest.raises(errors.NotFound):
            await client.status(f"{job_id[:-4]}none")
        assert await client.details(f"{job_id[:-4]}none") is None

    async def test_the_history_knows_the_charge_if_there_is_one(self, shop, client):
        status = await self.ended(client, await self.order_one(client, shop))
        details = await client.details(status.job_id)
        if client.dialect.details(status.job_id) is None:
            assert details is None
        else:
            assert details is not None
            assert details.cost is not None
            assert details.cost.charged is not None

    async def test_a_lost_job_is_among_the_candidates(self, shop, client):
        job_id = await self.order_one(client, shop)
        digest = SignedUrl(shop.source).digest
        order = self.samples.order()
        (found,) = await client.lookup(order, digest)
        assert found.job_id == job_id
        assert found.created_at == pytest.approx(shop.clock.unix(), abs=1)
        other = await client.lookup(order, SignedUrl("https://example.com/other.mp4").digest)
        assert [one for one in other if one.exact] == []

    async def test_cancelling_ends_the_job_or_says_that_it_cannot(self, shop, client):
        job_id = await self.order_one(client, shop)
        outcome = await client.cancel(job_id)
        assert outcome.job_id == job_id
        if client.dialect.can_cancel:
            assert (outcome.outcome, outcome.phase) == ("cancelled", "cancelled")
        else:
            assert outcome.outcome == "not_supported"
            assert (await client.status(job_id)).phase != "cancelled"

    async def test_it_goes_through_the_engine_unchanged(self, shop, dialect, tmp_path):
        context = shop.context(dialect)
        for again in (False, True):
            purchase = await shop.purchase(dialect, self.samples.order(), tmp_path)
            job = await engine.submit(context, purchase)
            finished = await engine.wait(context, job)
            (video,) = await engine.store(context, finished, source=purchase.source)
            assert (job.reattached, video.cached) == (again, again)
            assert Path(video.url).stat().st_size == video.bytes
            assert video.width > 64
            assert video.provider == dialect.name
            assert shop.bought() == [video.job_id]

    async def test_a_lost_answer_is_adopted_or_asked_and_never_sent_again(
        self, shop, dialect, tmp_path
    ):
        shop.lose()
        for _ in range(2):
            purchase = await shop.purchase(dialect, self.samples.order(), tmp_path)
            found = await outcome(engine.submit(shop.context(dialect), purchase))
            if isinstance(found, errors.OutcomeUnknown):
                assert found.billed == "maybe"
                assert shop.bought()[0] in str(found)
            else:
                assert list(found.job_ids) == shop.bought()
        assert len(shop.bought()) == 1


async def outcome(work: Awaitable[UpscaleJob]) -> UpscaleJob | errors.OutcomeUnknown:
    try:
        return await work
    except errors.OutcomeUnknown as error:
        return error


def shop_of(sandbox: Sandbox, clip: Path) -> Shop:
    """Give the sandbox as a shop of either provider."""
    return Shop(
        url=sandbox.url,
        key=sandbox.api_key,
        source=sandbox.host(clip),
        clock=sandbox.test_clock,
        bought=lambda: [one.job_id for one in sandbox.purchases()],
        lose=lambda: sandbox.fault("submit", "cut"),
    )
