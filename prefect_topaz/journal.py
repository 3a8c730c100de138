"""What was intended, bought, finished and stored: small immutable events on fsspec.

One folder a work key, one numbered file an event. An event is created exclusively at the number
after the last one that its writer has read, so every step is decided on the state it follows: of
two writers one wins, and the other reads again. The state is a fold over the events.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime
from typing import Literal

from pydantic import Field

from prefect_topaz.errors import Billed, JournalUnavailable, UnusableDestination
from prefect_topaz.models import (
    Cost,
    Frozen,
    JobStatus,
    Order,
    Place,
    Source,
    StagedCopy,
    StoredVideo,
)
from prefect_topaz.places import Folder, check_exclusive, create, in_thread, read
from prefect_topaz.transport import describe

Kind = Literal[
    "intent", "submitted", "refused", "unknown", "finished", "failed", "cancelled", "mismatch",
    "stored", "staging", "unstaged", "attached",
]  # fmt: skip
# What is written down beside the purchase, and changes nothing about it.
_NOTES: frozenset[Kind] = frozenset({"staging", "unstaged", "attached"})
State = Literal[
    "new", "intended", "refused", "unknown", "submitted", "finished", "failed", "stored"
]
Ruling = Literal["adopt", "buy_again", "give_up"]
_STATES: dict[Kind, State] = {
    "intent": "intended",
    "submitted": "submitted",
    "refused": "refused",
    "unknown": "unknown",
    "finished": "finished",
    "failed": "failed",
    "cancelled": "failed",
    "mismatch": "finished",
    "stored": "stored",
}


class Event(Frozen):
    """One thing that happened to a piece of work.

    Attributes:
        kind: What happened. `staging` (a copy of the source is about to be made), `unstaged` (it
            is gone) and `attached` (another flow run waits for the job) are notes: they do not
            change the record's state.
        at: When, by the writer's clock.
        by: Who wrote it: one name a process and call.
        nonce: Tells the writer its own event, when a store repeats a create by itself.
        flow_run_id: The Prefect flow run, if any.
        attempt: Which purchase of this work, from 1; above 1 only after an unbilled failure.
        order: What is ordered (`intent`).
        source: For what (`intent`).
        destination: Where the result shall go (`intent`).
        source_digest: The sha256 of the URL that is sent (`intent`).
        staged: The copy of the source that was made for the provider (`staging`, `intent`,
            `unstaged`).
        lease: Seconds after which a silent owner counts as gone (`intent`, `staging`).
        job_ids: The provider's ids (`submitted`).
        expected_seconds: How long the provider said that it takes (`submitted`).
        results: How each generation ended (`finished`, `failed`).
        held: Names of files beside the events that hold results, or rejected ones.
        reason: Why, redacted.
        warnings: What is doubtful about the purchase, for the receipt (`submitted`).
        ruling: What a person decided about an unknown outcome, if it was one.
        ruled_by: Who decided that, as far as it is known.
        billed: What it means for the money.
        cost: What is known of money.
        stored: What was published (`stored`).
    """

    kind: Kind
    at: datetime
    by: str
    nonce: str = Field(default_factory=lambda: uuid.uuid4().hex)
    flow_run_id: str | None = None
    attempt: int = 1
    order: Order | None = None
    source: Source | None = None
    destination: Place | None = None
    source_digest: str | None = None
    staged: StagedCopy | None = None
    lease: float | None = None
    job_ids: tuple[str, ...] = ()
    expected_seconds: float | None = None
    results: tuple[JobStatus, ...] = ()
    held: tuple[str, ...] = ()
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    ruling: Ruling | None = None
    ruled_by: str | None = None
    billed: Billed = "no"
    cost: Cost | None = None
    stored: tuple[StoredVideo, ...] = ()


class Record(Frozen):
    """The state of a piece of work: its events, folded.

    Attributes:
        key: The work key.
        events: All that happened, in order.
    """

    key: str
    events: tuple[Event, ...] = ()

    @property
    def state(self) -> State:
        """What the last event left behind; notes leave nothing."""
        kind = next((one.kind for one in reversed(self.events) if one.kind not in _NOTES), None)
        return "new" if kind is None else _STATES[kind]

    @property
    def last(self) -> Event:
        """The last event that is no note; there is one in every state but `new`."""
        return next(one for one in reversed(self.events) if one.kind not in _NOTES)

    def latest(self, kind: Kind) -> Event | None:
        """Find the last event of a kind, of the newest purchase that has one.

        A slow owner may write down its purchase after a newer one was made by a ruling.
        """
        found = [event for event in self.events if event.kind == kind]
        return max(reversed(found), key=lambda event: event.attempt, default=None)

    @property
    def attempt(self) -> int:
        """Which purchase this is, from 1; 0 before the first."""
        attempts = (event.attempt for event in self.events if event.kind not in _NOTES)
        return max(attempts, default=0)

    @property
    def buyers(self) -> frozenset[str]:
        """The flow runs that wrote the latest purchase, or wait for it: intent, job, attached."""
        events = (one for one in self.events if one.kind in ("intent", "submitted", "attached"))
        ids = (one.flow_run_id for one in events if one.attempt == self.attempt)
        return frozenset(one for one in ids if one is not None)

    @property
    def may_buy(self) -> bool:
        """Whether nothing is bought, as far as is known for certain."""
        unbilled = self.state == "failed" and self.last.billed == "no"
        return self.state in ("new", "refused") or unbilled


class Journal:
    """The records of one folder.

    Args:
        folder: Where the records are.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def place(self, key: str) -> Folder:
        """Give the folder of a piece of work."""
        return self.folder.folder(key)

    async def check(self) -> None:
        """Find out whether of two writers one wins here.

        Raises:
            UnusableDestination: If both may: then nothing may be bought.
            JournalUnavailable: If nothing can be written.
        """
        try:
            await in_thread(check_exclusive, self.folder)
        except UnusableDestination:
            raise
        except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
            raise JournalUnavailable(
                f"the journal {self.folder.url} cannot be written ({describe(error)}): nothing is"
                " bought without it"
            ) from None

    async def read(self, key: str) -> Record:
        """Read what happened to a piece of work.

        Raises:
            JournalUnavailable: If it cannot be read: then nothing may be bought.
        """
        return await in_thread(self._read, key)

    def _read(self, key: str) -> Record:
        events: list[Event] = []
        place = self.place(key)
        while True:
            path = place.file(_name(len(events) + 1))
            try:
                data = read(place.fs, path)
                if data is None:
                    return Record(key=key, events=tuple(events))
                events.append(Event.model_validate_json(data))
            except Exception as error:  # noqa: BLE001  # every store raises kinds of its own
                raise JournalUnavailable(
                    f"journal entry {path} cannot be read ({describe(error)}): nothing is bought"
                    " without it; mend or restore the file",
                    work_key=key,
                ) from None

    async def append(self, record: Record, event: Event) -> Record | None:
        """Write the event after a record.

        Returns:
            The record with the event, or None if somebody else wrote first: read again.

        Raises:
            JournalUnavailable: If it cannot be written.
        """
        return await in_thread(self._append, record, event)

    def _append(self, record: Record, event: Event) -> Record | None:
        place = self.place(record.key)
        path = place.file(_name(len(record.events) + 1))
        try:
            create(place.fs, path, event.model_dump_json(exclude_defaults=True).encode())
        except FileExistsError:
            # Some stores repeat a create whose answer got lost, and then refuse their own file.
            found = self._read(record.key)
            number = len(record.events)
            mine = len(found.events) > number and found.events[number].nonce == event.nonce
            return found if mine else None
        except Exception as error:  # noqa: BLE001  # as above
            raise JournalUnavailable(
                f"journal entry {path} cannot be written ({describe(error)})", work_key=record.key
            ) from None
        return record.model_copy(update={"events": (*record.events, event)})

    async def keys(self) -> tuple[str, ...]:
        """List the pieces of work that have a record."""
        return await in_thread(self._keys)

    def _keys(self) -> tuple[str, ...]:
        self.folder.fs.invalidate_cache()
        try:
            found = self.folder.fs.ls(self.folder.path, detail=False)
        except FileNotFoundError:
            return ()
        except Exception as error:  # noqa: BLE001  # as above
            raise JournalUnavailable(
                f"the journal {self.folder.url} cannot be listed ({describe(error)})"
            ) from None
        return tuple(sorted(path.rstrip("/").rpartition("/")[2] for path in found))

    async def of_run(self, *flow_run_ids: str) -> tuple[Record, ...]:
        """Find the work that flow runs bought, or are buying, by the flow runs' ids.

        A record that cannot be read is left out: it is no reason to miss the others.
        """
        found = await asyncio.gather(
            *(self.read(key) for key in await self.keys()), return_exceptions=True
        )
        records = [one for one in found if isinstance(one, Record)]
        return tuple(one for one in records if not one.buyers.isdisjoint(flow_run_ids))


def _name(number: int) -> str:
    return f"{number:04d}.json"
