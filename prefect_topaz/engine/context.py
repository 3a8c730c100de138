"""Who does the work, and with what clocks."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from prefect_topaz.client import Client
from prefect_topaz.errors import JournalUnavailable
from prefect_topaz.journal import Event, Journal, Kind, Record
from prefect_topaz.models import Place
from prefect_topaz.places import open_folder

_logger = logging.getLogger(__name__)
# Seconds between the tries to write down what was already bought.
_PERSISTENCE: Final = (1.0, 2.0, 4.0, 8.0, 15.0)


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


async def _as_it_is(place: Place) -> Place:
    return place


@dataclass(frozen=True)
class Context:
    """Everything that an engine step is given.

    Args:
        client: The provider.
        flow_run_id: The Prefect flow run that does the work, if any.
        log: Tells the user what happens, in few lines.
        monotonic: The clock for deadlines, in seconds.
        owner: Names this call in the journal.
        reload: Loads a store's settings again, where a place was read from a journal.
    """

    client: Client
    flow_run_id: str | None = None
    log: Callable[[str], None] = _logger.info
    monotonic: Callable[[], float] = time.monotonic
    owner: str = field(default_factory=_owner)
    reload: Callable[[Place], Awaitable[Place]] = _as_it_is

    def journal(self, place: Place) -> Journal:
        """Open the journal at a place."""
        return Journal(open_folder(place))

    def event(self, kind: Kind, **fields: Any) -> Event:
        """Make an event of now, by this owner."""
        return Event(
            kind=kind,
            at=self.client.now(),
            by=self.owner,
            flow_run_id=self.flow_run_id,
            **fields,
        )

    async def insist(
        self,
        journal: Journal,
        record: Record,
        event: Event,
        *,
        still: Callable[[Record], bool] = lambda _: True,
    ) -> Record:
        """Write down what has happened, whoever wrote in between and whatever it takes.

        Args:
            journal: Where the record is.
            record: The record as it was read last.
            event: What has happened.
            still: Whether the event still belongs after a record; once it does not, nothing is
                written and that record is returned.

        Raises:
            JournalUnavailable: If it cannot be written after all. It says what must not be lost.
        """
        written = await self._try(journal, record, event, still)
        for delay in _PERSISTENCE:
            if isinstance(written, Record):
                break
            await self.client.sleep(delay)
            written = await self._try(journal, record, event, still)
        if isinstance(written, Record):
            return written
        submitted = record.latest("submitted")
        ids = ", ".join(event.job_ids or (submitted.job_ids if submitted else ()))
        raise JournalUnavailable(
            f"{written.message}; what could not be written down: {event.kind}, job ids"
            f" {ids or 'none'}. Note them before you run again",
            job_id=ids or None,
            work_key=record.key,
            billed="yes" if event.kind in ("submitted", "finished") else event.billed,
        )

    @staticmethod
    async def _try(
        journal: Journal, record: Record, event: Event, still: Callable[[Record], bool]
    ) -> Record | JournalUnavailable:
        try:
            while still(record):
                if (written := await journal.append(record, event)) is not None:
                    return written
                record = await journal.read(record.key)
        except JournalUnavailable as error:
            return error
        return record
