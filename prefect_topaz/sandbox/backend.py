"""What both providers' endpoints share: one account, its jobs, its files, its faults."""

import mimetypes
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from prefect_topaz.sandbox.choices import Choices
from prefect_topaz.sandbox.disk import Fetcher, StoredFile, read_chunks, write_chunks
from prefect_topaz.sandbox.faults import FaultBox
from prefect_topaz.sandbox.job import Failure, Job, Order
from prefect_topaz.sandbox.jobs import JobBook
from prefect_topaz.sandbox.ledger import Account, Ledger, Provider, Purchase
from prefect_topaz.sandbox.serving import LinkSigner
from prefect_topaz.sandbox.work import WorkPool


@dataclass(frozen=True)
class Settings:
    """How one sandbox was asked to be; see `Sandbox`."""

    api_key: str = "sandbox-key"
    reads: int | None = None
    link_seconds: float = 3600
    credits: float | None = None
    choices: Choices = field(default_factory=Choices)
    clock: Callable[[], float] = time.time


class Backend:
    """One running sandbox without its HTTP.

    Args:
        settings: How it shall behave.
        base_url: Where it is reached, without a slash at its end.
        directory: An empty directory that it may fill.
    """

    def __init__(self, settings: Settings, base_url: str, directory: Path) -> None:
        self.settings, self.base_url = settings, base_url
        self.choices, self.clock = settings.choices, settings.clock
        self.ledger, self.faults = Ledger(), FaultBox()
        self.account = Account(settings.credits)
        self.jobs = JobBook(
            settings.reads,
            self.clock,
            self._settle,
            charge_cancelled=self.choices.charge_cancelled,
        )
        self.links = LinkSigner(base_url, settings.link_seconds, self.clock)
        self.fetcher = Fetcher()
        self.media: dict[str, StoredFile] = {}
        self.uploads: dict[str, tuple[StoredFile, float]] = {}
        self._directory = directory
        self._pool = WorkPool(directory, self.jobs, self.fetcher)
        self._signed: dict[str, str] = {}

    def stop(self) -> None:
        """Stop all work and close every connection of its own."""
        self._pool.stop()
        self.fetcher.close()

    def is_authorized(self, request: Request) -> bool:
        """Say whether a request carries the API key as a Bearer token.

        Args:
            request: Any request.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and key.strip() == self.settings.api_key

    def accept(self, jobs: list[Job], idempotency_key: str | None = None) -> None:
        """Take new jobs in and start them; from here on they may cost money.

        Args:
            jobs: The jobs of one submit.
            idempotency_key: The key that came with it.
        """
        now = datetime.fromtimestamp(self.clock(), timezone.utc)
        self.ledger.accept(
            [
                Purchase(job.provider, job.job_id, job.request, None, False, idempotency_key, now)
                for job in jobs
            ]
        )
        for job in jobs:
            self.jobs.add(job)
            self._pool.start(job)

    def with_fault(self, order: Order, provider: Provider) -> Order:
        """Change an order by the next fault that is asked for jobs, if there is one.

        Args:
            order: What a new job would do.
            provider: Whose job it is.
        """
        fault = self.faults.take("job", provider)
        if fault is None:
            return order
        details = fault.details
        if fault.kind == "delay":
            return replace(order, delay=details["seconds"])
        if fault.kind == "wrong_video":
            return replace(order, recipe=replace(order.recipe, flaw=details["what"]))
        return replace(order, failure=Failure(details["message"], details["code"]))

    def store(self, chunks: Iterable[bytes], media_type: str = "video/mp4") -> StoredFile:
        """Keep a file.

        Args:
            chunks: Its content.
            media_type: Its MIME type.
        """
        path = self.new_path()
        sha256, size = write_chunks(chunks, path)
        return StoredFile(path, sha256, size, self.clock(), media_type)

    def host(self, path: Path, name: str) -> str:
        """Serve a copy of a file as a public source, and return its URL.

        Args:
            path: The file.
            name: Its name in the URL.
        """
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self.media[name] = self.store(read_chunks(path), kind)
        return f"{self.base_url}/media/{quote(name)}"

    def new_path(self) -> Path:
        """Give the path of a file that does not exist."""
        return self._directory / uuid.uuid4().hex

    def result_link(self, job: Job, path: str) -> str:
        """Sign the link of a job's result.

        Args:
            job: A job that succeeded.
            path: Where its provider shows the file.
        """
        if self.choices.resign_links or job.job_id not in self._signed:
            self._signed[job.job_id] = self.links.sign(path)
        return self._signed[job.job_id]

    def result(self, job_id: str) -> StoredFile:
        """Give the video of a job whose link was signed.

        Args:
            job_id: A job that succeeded: no other link is ever signed.
        """
        outcome = self.jobs.all()[job_id].outcome
        assert outcome is not None
        assert outcome.video is not None
        return outcome.video

    def _settle(self, job: Job) -> None:
        if job.reserved:
            self.account.settle(job.reserved, job.cost or Decimal(0))
        if job.cost is not None:
            self.ledger.charge(job.job_id, job.cost)


async def json_body(request: Request) -> dict[str, Any] | None:
    """Read a JSON object, or None for anything else.

    Args:
        request: A request with a body.
    """
    try:
        body = await request.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
