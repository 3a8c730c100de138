"""Give the provider something to read: the source's own link, or a copy that is there for a while.

The order of effects: a note that a copy is about to be made, the copy, the intent that names it; and
once no job reads it any more, the copy is removed and that is noted. So whatever a dead process
leaves is known by name, and `remove` takes it away, when the job ends or when somebody settles.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import anyio

from prefect_topaz.engine.context import Context
from prefect_topaz.engine.copies import OpenCopy, being_made, is_over, open_copies
from prefect_topaz.engine.copying import Copying, make, plan
from prefect_topaz.engine.intents import write_intent
from prefect_topaz.engine.removing import take_away
from prefect_topaz.errors import JournalUnavailable
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Place, StagedCopy
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sources import OpenSource

_LOOK: Final = 2.0  # seconds between looks at another run's copying
# What a run that copies gets before others copy too, and before its copy counts as abandoned.
_QUICK, _SLOW = 10 * 2**20, 256 * 2**10  # bytes a second
_PATIENCE, _LEASE = 60.0, 900.0  # seconds besides
_GRACE: Final = 20.0  # seconds that a run which leaves gets to tidy up


@dataclass(frozen=True)
class Wish:
    """What shall be made readable.

    Args:
        source: The source.
        link_seconds: How long a signed link must live; None for what covers queue and fetch.
        staging: The folder in which copies may be made; None for the provider's own store.
    """

    source: OpenSource
    link_seconds: float | None = None
    staging: Place | None = None


@dataclass(frozen=True)
class Readable:
    """What the provider reads.

    Args:
        record: The record as it was read last.
        url: The link.
        copy: The copy that it leads to; None if it leads to the source itself.
    """

    record: Record
    url: SignedUrl
    copy: StagedCopy | None = None


async def prepare(
    context: Context, journal: Journal, record: Record, wish: Wish
) -> Readable | None:
    """Find a link by which the provider can read the source, or make a copy that has one.

    Returns:
        The link, or None if the record is somebody else's to decide meanwhile.

    Raises:
        UnusableSource: If there is no way to make it readable. Nothing is bought.
        UnusableDestination: If the staging folder cannot be used. Nothing is bought.
        ProviderUnavailable: If the copy could not be made this time. Nothing is bought.
    """
    client, source = context.client, wish.source
    link = await source.link(client.dialect, wish.link_seconds, client.now(), context.log)
    if link is not None:
        return Readable(record, link)
    copying = await plan(context, source, wish.staging, wish.link_seconds, record.key)
    waited = await _others_first(context, journal, record, source.size or 0)
    if waited is None:
        return None
    left = await remove(context, journal, waited, *([wish.staging] if wish.staging else []))
    lease = _LEASE + (source.size or 0) / _SLOW
    note = context.event("staging", attempt=max(left.attempt, 1), staged=copying.copy, lease=lease)
    noted = await journal.append(left, note)
    return None if noted is None else await _made(context, journal, noted, copying)


async def _made(
    context: Context, journal: Journal, record: Record, copying: Copying
) -> Readable | None:
    context.log(
        f"the source has no link that {context.client.dialect.name} can read: it is copied to"
        f" {copying.where}, {copying.upload.size} bytes"
    )
    try:
        url, copy = await make(context, copying)
    except BaseException:
        await _give_up(context, journal, record, copying.copy)
        raise
    return Readable(record, url, copy)


async def intend(
    context: Context, journal: Journal, readable: Readable, intent: Event
) -> Record | None:
    """Write the intent, whatever notes were taken since; without a turn the copy is removed.

    Returns:
        The record with the intent, or None if somebody else decides, or has removed the copy.
    """
    record = readable.record
    while (written := await write_intent(context, journal, record, intent)) is None:
        found = await journal.read(record.key)
        if not _undisturbed(record, found, readable.copy):
            if readable.copy is not None:
                await _give_up(context, journal, found, readable.copy)
            return None
        record = found
    return written


def _undisturbed(before: Record, now: Record, copy: StagedCopy | None) -> bool:
    """Tell whether nothing was decided meanwhile, and nobody has taken the copy for abandoned."""
    since = now.events[len(before.events) :]
    touched = copy and any(one.staged and one.staged.name == copy.name for one in since)
    return _decision(before) == _decision(now) and not touched


def _decision(record: Record) -> str | None:
    return None if record.state == "new" else record.last.nonce


async def _others_first(
    context: Context, journal: Journal, record: Record, size: int
) -> Record | None:
    """Let another run that copies the same source finish, for a while: both need not.

    Returns:
        The record, or None if it is decided otherwise meanwhile.
    """
    began, patience = context.monotonic(), _PATIENCE + size / _QUICK
    found = record
    while (note := being_made(found)) is not None:
        age = (context.client.now() - note.at).total_seconds()
        if max(age, context.monotonic() - began) > patience:
            break
        if found is record:
            context.log("another run is copying this source: waiting for it")
        await context.client.sleep(_LOOK)
        found = await journal.read(record.key)
        if _decision(found) != _decision(record):
            return None
    return found


async def remove(context: Context, journal: Journal, record: Record, *near: Place) -> Record:
    """Remove the copies that no job reads any more; what fails is left for another time.

    Args:
        context: Who removes them; a provider's own store is asked only by its own client.
        journal: Where the record is.
        record: The record as it was read last.
        near: Places whose settings may open the copies' store.

    Returns:
        The record with what was noted.
    """
    try:
        for one in open_copies(record):
            if is_over(one, record, context.client.now()):
                record = await _remove(context, journal, record, one, near)
    except JournalUnavailable as error:
        context.log(f"a staged copy is left for settle_upscales to remove: {error.message}")
    return record


async def tidy(context: Context, journal: Journal, records: Iterable[Record], *near: Place) -> None:
    """Remove what the runs of many records left behind; see `remove`."""
    for record in records:
        if open_copies(record):
            with suppress(JournalUnavailable):  # who settles is told of it elsewhere
                await remove(context, journal, await journal.read(record.key), *near)


async def _remove(
    context: Context, journal: Journal, record: Record, one: OpenCopy, near: tuple[Place, ...]
) -> Record:
    if one.copy.provider not in (None, context.client.dialect.name):
        return record
    if one.intent is None and not one.is_taken:
        # Its maker may be slow, and about to order: of its intent and this note one wins.
        reason = "its maker has said nothing for too long"
        taken = context.event(
            "staging", attempt=max(record.attempt, 1), staged=one.copy, reason=reason
        )
        written = await journal.append(record, taken)
        if written is None:
            return record
        record = written
    if await take_away(context, one.copy, near):
        return await _note_gone(context, journal, record, one.copy)
    return record


async def _note_gone(
    context: Context, journal: Journal, record: Record, copy: StagedCopy
) -> Record:
    while any(one.copy.name == copy.name for one in open_copies(record)):
        event = context.event("unstaged", attempt=max(record.attempt, 1), staged=copy)
        written = await journal.append(record, event)
        record = written or await journal.read(record.key)
    return record


async def _give_up(context: Context, journal: Journal, record: Record, copy: StagedCopy) -> None:
    """Remove a copy of one's own that nothing will be ordered with, even when being cancelled."""
    with anyio.move_on_after(_GRACE, shield=True):
        if await take_away(context, copy, ()):
            try:
                await _note_gone(context, journal, record, copy)
            except JournalUnavailable as error:
                context.log(f"that a copy is removed cannot be noted: {error.message}")
