"""One provider's API in verbs: a dialect that says it, a transport that sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pydantic import SecretStr

from prefect_topaz.errors import (
    InvalidRequest,
    NotFound,
    ProviderUnavailable,
    TopazError,
    UnusableSource,
)
from prefect_topaz.models import JobStatus, Order
from prefect_topaz.outcomes import CancelOutcome
from prefect_topaz.providers import Candidate, Dialect
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.transport import ATTEMPTS, Now, Sleep, Transport, spread, utc_now
from prefect_topaz.wire import Call, Refused, Reply, Upload, Uploaded

# Seconds of waiting for a busy provider within one purchase; the journal's lease covers them.
SUBMIT_PATIENCE: Final = 45.0
_BATCH: Final = 50  # ids a call [E8]
_GONE: Final = (404, 410)
# A cancel is read back until the job has ended: seconds between the reads.
_READ_BACK: Final = (0.0, 1.0, 2.0, 4.0, 8.0)


class Client:
    """Talk to one provider with one key.

    Args:
        dialect: What the provider says and hears.
        api_key: The key; it goes to the dialect's own origins only.
        sleep: Waits; tests pass their own.
        now: Reads the wall clock; tests pass their own.
        jitter: A factor of at least 1 on delays; tests pass their own.
    """

    def __init__(
        self,
        dialect: Dialect,
        api_key: SecretStr,
        *,
        sleep: Sleep = asyncio.sleep,
        now: Now = utc_now,
        jitter: Callable[[], float] = spread,
    ) -> None:
        self.dialect = dialect
        self.sleep = sleep
        self.now = now
        self.jitter = jitter
        self.transport = Transport(_sendable(api_key), dialect.origins, sleep, now, jitter)

    async def check(self) -> None:
        """Check the key with calls that cost nothing: the models, and the balance if there is one.

        Raises:
            Unauthorized: If the provider refuses the key.
            ProviderUnavailable: If it does not answer.
        """
        await self._free(self.dialect.check())
        if call := self.dialect.credits():
            await self._free(call)

    async def submit(
        self,
        order: Order,
        source: SignedUrl,
        key: str,
        *,
        before: Callable[[], None] = lambda: None,
        attempts: int = ATTEMPTS,
    ) -> Reply:
        """Buy: send the one call that is not repeatable, and hand its answer on.

        Args:
            order: What to buy.
            source: For what.
            key: Names the purchase for the provider.
            before: Is asked before each attempt, and may raise instead.
            attempts: How many times at most, as long as it never left or was refused for certain.

        Raises:
            OutcomeLost: If it left and no answer came.
            ProviderUnavailable: If it never left.
        """
        call = self.dialect.submit(order, source, key)
        return await self.transport.send(
            call,
            attempts=attempts,
            patience=SUBMIT_PATIENCE,
            before=before,
            refuses=lambda reply: isinstance(self.dialect.read_submit(order, reply), Refused),
        )

    async def status(self, job_id: str, *, attempts: int = ATTEMPTS) -> JobStatus:
        """Ask how a job is."""
        reply = await self.transport.send(self.dialect.status(job_id), attempts=attempts)
        return self.dialect.read_status(job_id, reply)

    async def statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus]:
        """Ask how many jobs are, in as few calls as the provider allows.

        Returns:
            The jobs by id; those that the provider does not know are absent.
        """
        found: dict[str, JobStatus] = {}
        for start in range(0, len(job_ids), _BATCH):
            part = job_ids[start : start + _BATCH]
            if call := self.dialect.batch(part):
                found |= self.dialect.read_batch(await self._free(call))
            else:
                looks = [status for job_id in part if (status := await self._known(job_id))]
                found |= {status.job_id: status for status in looks}
        return found

    async def _known(self, job_id: str) -> JobStatus | None:
        try:
            return await self.status(job_id)
        except NotFound:
            return None

    async def details(self, job_id: str, *, attempts: int = ATTEMPTS) -> JobStatus | None:
        """Ask the history about a job; None where the provider keeps none, or forgot it."""
        call = self.dialect.details(job_id)
        if call is None:
            return None
        try:
            reply = await self.transport.send(call, attempts=attempts)
            return self.dialect.read_details(job_id, reply)
        except NotFound:
            return None

    def result_headers(self, url: str) -> dict[str, str]:
        """Give the key's header for a result on the provider's own origin, if it may want it."""
        return self.transport.key_for(url) if self.dialect.key_for_results else {}

    async def lookup(
        self, order: Order, source_digest: str, listings: dict[str, Reply] | None = None
    ) -> tuple[Candidate, ...]:
        """List the jobs that may be one whose answer was lost.

        Args:
            order: What was ordered.
            source_digest: The sha256 of the URL that was sent.
            listings: What was read for other orders a moment ago, by URL; what is read is added.
        """
        listings = {} if listings is None else listings
        calls = self.dialect.lookup(order)
        for call in calls:
            if call.url not in listings:
                listings[call.url] = await self._free(call)
        replies = [listings[call.url] for call in calls]
        return self.dialect.read_lookup(order, source_digest, replies)

    async def upload(self, upload: Upload) -> Uploaded:
        """Put a file into the provider's own store, which costs nothing.

        Raises:
            UnusableSource: If there is no such store, or it does not take the file.
            TopazError: If it refuses, or does not answer.
        """
        call = self.dialect.upload(upload)
        if call is None:
            raise UnusableSource(f"{self.dialect.name} has no store of its own for {upload.name}")
        if why := await self._is_full():
            raise UnusableSource(
                f"{self.dialect.name}'s store takes no more files: {why}; wait until some expire,"
                " or give a link or staging="
            )
        return self.dialect.read_upload(upload, await self.transport.send(call))

    async def _is_full(self) -> str | None:
        call = self.dialect.quota()
        try:
            reply = None if call is None else await self.transport.send(call, attempts=1)
        except ProviderUnavailable:
            return None  # the upload itself will tell
        return None if reply is None else self.dialect.read_quota(reply)

    async def discard(self, reference: str) -> bool:
        """Ask the provider's store once to delete a file.

        Returns:
            Whether the file is gone for certain. Files that stay expire, or cost nothing.
        """
        call = self.dialect.discard(reference)
        try:
            reply = None if call is None else await self.transport.send(call, attempts=1)
        except ProviderUnavailable:
            return False
        return reply is not None and (reply.ok or reply.status in _GONE)

    async def cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a job, and read it back until it has ended.

        Returns:
            What became of it. Whether a cancelled job is charged, no provider documents.
        """
        call = self.dialect.cancel(job_id)
        if call is None:
            reply = f"{self.dialect.name} has no call to cancel: the job runs on and is charged"
            return CancelOutcome(outcome="not_supported", job_id=job_id, reply=reply)
        try:
            answer = await self.transport.send(call)
            said = f"{answer.status} {self.dialect.error_of(answer)[1] if not answer.ok else 'ok'}"
            return await self._read_back(job_id, said)
        except TopazError as error:
            return CancelOutcome(outcome="unknown", job_id=job_id, reply=error.message)

    async def _read_back(self, job_id: str, reply: str) -> CancelOutcome:
        for delay in _READ_BACK:
            await self.sleep(delay)
            status = await self.status(job_id)
            if status.phase == "cancelled":
                return CancelOutcome(
                    outcome="cancelled", job_id=job_id, phase=status.phase, reply=reply
                )
            if status.phase in ("succeeded", "failed"):
                return CancelOutcome(
                    outcome="already_finished", job_id=job_id, phase=status.phase, reply=reply
                )
        return CancelOutcome(outcome="unknown", job_id=job_id, phase=status.phase, reply=reply)

    async def _free(self, call: Call) -> Reply:
        reply = await self.transport.send(call)
        if not reply.ok:
            raise self.dialect.read_error(reply)
        if reply.json() is None:
            raise ProviderUnavailable(f"{self.dialect.name} gave an unreadable answer")
        return reply


def _sendable(api_key: SecretStr) -> SecretStr:
    """Take the line end off a pasted key, and refuse one that no HTTP header can carry.

    The HTTP library would refuse it too, but quote it, and only when the order is on record.
    """
    key = api_key.get_secret_value().strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise InvalidRequest(
            "the API key is empty, or holds characters that no HTTP header takes: copy it anew"
        )
    return SecretStr(key)
