"""One upscale from Prefect's side: the steps that blocks and tasks share, and the job run."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from prefect import runtime
from prefect.blocks.abstract import JobRun
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from pydantic import SecretStr

from prefect_topaz import cancellation, engine
from prefect_topaz.bridge import run_blocking
from prefect_topaz.client import Client
from prefect_topaz.engine.waiting import DEADLINE
from prefect_topaz.errors import InvalidRequest
from prefect_topaz.http import connections
from prefect_topaz.locations import Destination, place_of, with_settings
from prefect_topaz.models import (
    FinishedUpscale,
    JobStatus,
    Order,
    Place,
    StoredVideo,
    UpscaleJob,
    Verify,
)
from prefect_topaz.outcomes import CancelOutcome, SettleReport
from prefect_topaz.sources import OpenSource, open_source

SourceLike = str | Path | SecretStr
_BY_STORE = re.compile(r"#[^#]+#\d+$")  # tag or date, and size: the end of what a store says


class Upscales(Protocol):
    """What the steps need of an upscaler block."""

    def get_client(self) -> Client:
        """Give the provider's client."""

    def order(self) -> Order:
        """Give the order that the block stands for."""


async def _prepared(job: UpscaleJob) -> UpscaleJob:
    places = {
        "journal": await with_settings(job.journal),
        "destination": await with_settings(job.destination),
        "staging": None if job.staging is None else await with_settings(job.staging),
    }
    return job.model_copy(update=places)


def _context(upscaler: Upscales) -> engine.Context:
    try:
        logger: Any = get_run_logger()
    except MissingContextError:
        logger = get_logger("prefect_topaz")
    return engine.Context(
        client=upscaler.get_client(),
        flow_run_id=runtime.flow_run.id,
        log=logger.info,
        reload=with_settings,
    )


def _plain(source: SourceLike) -> str:
    if isinstance(source, SecretStr):
        return source.get_secret_value()
    if not isinstance(source, str | Path):
        raise InvalidRequest(
            f"exactly one source is taken: a URL or a path, and not {type(source).__name__};"
            " for many use upscale_videos"
        )
    return str(source)


async def _storage(storage: Destination | None) -> Place | None:
    return None if storage is None else await with_settings(place_of(storage))


async def submit(
    source: SourceLike,
    upscaler: Upscales,
    destination: Destination,
    *,
    again: int = 0,
    source_version: str | None = None,
    journal: Destination | None = None,
    max_cost: float | None = None,
    overwrite: bool = False,
    source_storage: Destination | None = None,
    link_seconds: float | None = None,
    staging: Destination | None = None,
) -> UpscaleJob:
    """Buy an upscale, or find that it is bought; see `submit_upscale`."""
    context = _context(upscaler)
    async with connections():
        opened = await open_source(
            _plain(source),
            context.client.dialect,
            source_version,
            storage=await _storage(source_storage),
        )
        purchase = engine.Purchase(
            source=opened,
            order=upscaler.order(),
            destination=await with_settings(place_of(destination)),
            journal=None if journal is None else await with_settings(place_of(journal)),
            again=again,
            max_cost=None if max_cost is None else Decimal(str(max_cost)),
            overwrite=overwrite,
            link_seconds=link_seconds,
            staging=await _storage(staging),
        )
        job = await engine.submit(context, purchase)
        # The same content may have been bought under another name: this one names its result.
        return job.model_copy(update={"source": opened.facts})


async def wait(
    job: UpscaleJob,
    upscaler: Upscales,
    *,
    deadline_seconds: float = DEADLINE,
    poll_seconds: float | None = None,
    cancel_on_timeout: bool = False,
    on_look: Callable[[JobStatus], Awaitable[None]] | None = None,
) -> FinishedUpscale:
    """Wait for a bought upscale; see `wait_for_upscale`."""
    async with connections():
        return await cancellation.wait(
            _context(upscaler),
            await _prepared(job),
            deadline=deadline_seconds,
            pace=poll_seconds,
            on_look=on_look,
            cancel_on_timeout=cancel_on_timeout,
        )


async def store(
    finished: FinishedUpscale,
    upscaler: Upscales,
    destination: Destination | None = None,
    *,
    source: SourceLike | None = None,
    source_storage: Destination | None = None,
    verify: Verify = "standard",
    overwrite: bool = False,
) -> list[StoredVideo]:
    """Store the results of an upscale; see `store_upscale`."""
    context = _context(upscaler)
    job = await _prepared(finished.job)
    async with connections():
        return await engine.store(
            context,
            finished.model_copy(update={"job": job}),
            None if destination is None else await with_settings(place_of(destination)),
            verify=verify,
            overwrite=overwrite,
            source=await _source_again(context.client, job, source, source_storage),
        )


async def _source_again(
    client: Client, job: UpscaleJob, source: SourceLike | None, storage: Destination | None
) -> OpenSource | None:
    """Open the source once more, to compare the result with; None if it is gone."""
    text, known = job.source.label if source is None else _plain(source), job.source.identity
    # Asked again where that is cheap: of the store, or of a local file, whose digest is remembered.
    # Naming the known identity spares reading the whole content for it.
    asks = _is_cheap(known, text)
    try:
        place = await _storage(storage)
        return await open_source(text, client.dialect, None if asks else known, storage=place)
    except Exception:  # noqa: BLE001  # whatever is wrong with it: the video is paid for
        return None


def _is_cheap(identity: str, source: str) -> bool:
    local = identity.startswith("sha256:") and "://" not in source
    return local or _BY_STORE.search(identity) is not None


async def cancel(job: UpscaleJob, upscaler: Upscales) -> CancelOutcome:
    """Cancel a bought upscale; see `cancel_upscale`."""
    async with connections():
        return await engine.cancel(_context(upscaler), await _prepared(job))


async def settle(
    destination: Destination,
    upscaler: Upscales,
    journal: Destination | None,
    rulings: engine.Rulings,
    *,
    verify: Verify = "standard",
) -> SettleReport:
    """Settle the journal of a destination; see `settle_upscales`."""
    place = await with_settings(place_of(destination))
    records = None if journal is None else await with_settings(place_of(journal))
    async with connections():
        return await engine.settle(
            _context(upscaler),
            place,
            engine.journal_of(place, records),
            rulings,
            verify=verify,
        )


@dataclass
class UpscaleRun(JobRun[StoredVideo]):
    """A bought upscale in Prefect's vocabulary: what `upscaler.trigger(...)` returns.

    Args:
        job: The job; keep it to find the run again, it is free of secrets.
        upscaler: The block that bought it.
        source: The source, to compare the pictures with.
        overwrite: Whether another file at the destination may be replaced.
        source_storage: Where the source is, if it was given as a path there.
    """

    job: UpscaleJob
    upscaler: Upscales
    source: SourceLike | None = field(default=None, repr=False)
    overwrite: bool = False
    source_storage: Destination | None = field(default=None, repr=False)

    async def await_for_completion(
        self, deadline_seconds: float = DEADLINE, poll_seconds: float | None = None
    ) -> FinishedUpscale:
        """Wait until the job has ended; see `prefect_topaz.wait_for_upscale`."""
        return await wait(
            self.job,
            self.upscaler,
            deadline_seconds=deadline_seconds,
            poll_seconds=poll_seconds,
        )

    def wait_for_completion(  # type: ignore[override]  # Prefect's integrations offer both colours
        self, deadline_seconds: float = DEADLINE, poll_seconds: float | None = None
    ) -> FinishedUpscale:
        """Wait until the job has ended; see `prefect_topaz.wait_for_upscale`."""
        return run_blocking(self.await_for_completion(deadline_seconds, poll_seconds))

    async def afetch_result(
        self, verify: Verify = "standard", *, overwrite: bool | None = None
    ) -> StoredVideo:
        """Verify and store the result; see `prefect_topaz.store_upscale`.

        Args:
            verify: How strict the result is compared with the order.
            overwrite: Whether another file may be replaced; None for what was said at the order.
        """
        finished = await self.await_for_completion()
        replace = self.overwrite if overwrite is None else overwrite
        videos = await store(
            finished,
            self.upscaler,
            source=self.source,
            source_storage=self.source_storage,
            verify=verify,
            overwrite=replace,
        )
        return as_one(videos)

    def fetch_result(  # type: ignore[override]  # as above
        self, verify: Verify = "standard", *, overwrite: bool | None = None
    ) -> StoredVideo:
        """Verify and store the result; see `afetch_result`."""
        return run_blocking(self.afetch_result(verify, overwrite=overwrite))

    async def acancel(self) -> CancelOutcome:
        """Cancel the job; see `prefect_topaz.cancel_upscale`."""
        return await cancel(self.job, self.upscaler)

    def cancel(self) -> CancelOutcome:
        """Cancel the job; see `prefect_topaz.cancel_upscale`."""
        return run_blocking(self.acancel())


def as_one(videos: list[StoredVideo]) -> StoredVideo:
    """Give the first result, with the further ones in `others`."""
    first, *others = videos
    return first.model_copy(update={"others": tuple(others)})
