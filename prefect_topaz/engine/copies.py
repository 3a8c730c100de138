"""What a record says of the copies that were made of its source: which are left, and for whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from prefect_topaz.journal import Event, Record
from prefect_topaz.models import StagedCopy

_SKEW: Final = timedelta(seconds=60)  # by which two machines' clocks may differ
_EXPIRED: Final = timedelta(hours=1)  # after that nobody is still reading by an expired link
_ENDED: Final = ("refused", "finished", "failed", "stored")


@dataclass(frozen=True)
class OpenCopy:
    """A copy that is not removed yet. Private to the engine.

    Args:
        copy: The copy, as it was noted last.
        note: The last note that it is being made.
        intent: The intent that orders with it; None if there is none.
    """

    copy: StagedCopy
    note: Event | None = None
    intent: Event | None = None

    @property
    def is_taken(self) -> bool:
        """Whether its maker was declared gone: it cannot order with it any more."""
        return self.note is not None and self.note.reason is not None


def open_copies(record: Record) -> list[OpenCopy]:
    """List the copies that are not removed yet, as far as the journal knows."""
    found: dict[str, OpenCopy] = {}
    for event in record.events:
        if (copy := event.staged) is None:
            continue
        known = found.get(copy.name, OpenCopy(copy))
        if event.kind == "unstaged":
            found.pop(copy.name, None)
        elif event.kind == "intent":
            found[copy.name] = replace(known, copy=copy, intent=event)
        else:
            found[copy.name] = replace(known, copy=copy, note=event)
    return list(found.values())


def being_made(record: Record) -> Event | None:
    """Find the note of a copy that somebody is making: its intent is still to come."""
    waiting = (one for one in open_copies(record) if one.intent is None and not one.is_taken)
    return next((one.note for one in waiting), None)


def is_over(one: OpenCopy, record: Record, now: datetime) -> bool:
    """Tell whether no job reads a copy any more, or ever will.

    Args:
        one: The copy.
        record: Its record.
        now: The time.
    """
    if one.copy.expires_at is not None and now > one.copy.expires_at + _EXPIRED:
        return True
    if one.intent is not None:
        # Of a job that runs, or of which nobody knows, the copy stays.
        return record.state in _ENDED or one.intent.attempt < record.attempt
    assert one.note is not None
    lease = timedelta(seconds=one.note.lease or 0.0)
    return one.is_taken or now > one.note.at + lease + _SKEW
