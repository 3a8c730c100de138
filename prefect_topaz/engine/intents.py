"""The intent that stands in the journal before an order is sent, and is taken back if it is not."""

from __future__ import annotations

import asyncio
from typing import Final

import anyio

from prefect_topaz.engine.context import Context
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.transport import describe

_GRACE: Final = 20.0  # seconds that a caller who leaves waits for the intent to be taken back


async def write_intent(
    context: Context, journal: Journal, record: Record, intent: Event
) -> Record | None:
    """Write the intent; if the caller is cancelled meanwhile, take it back: nothing was sent.

    An intent that nothing follows is an order whose outcome nobody knows, after its lease.

    Returns:
        The record with the intent, or None if somebody else wrote first.

    Raises:
        JournalUnavailable: If it cannot be written.
    """
    writing = asyncio.ensure_future(journal.append(record, intent))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        # The thread that writes cannot be stopped: what it comes to is waited for.
        taking_back = asyncio.ensure_future(_take_back(context, journal, writing, intent))
        with anyio.CancelScope(shield=True):
            await asyncio.wait({taking_back}, timeout=_GRACE)
        raise


async def _take_back(
    context: Context, journal: Journal, writing: asyncio.Future[Record | None], intent: Event
) -> None:
    def stands(record: Record) -> bool:
        found = record.latest("intent")
        mine = found is not None and found.nonce == intent.nonce
        return mine and record.state in ("intended", "unknown")

    try:
        intended = await writing
        if intended is not None:
            event = context.event(
                "refused", attempt=intent.attempt, reason="cancelled before it was sent"
            )
            await context.insist(journal, intended, event, still=stands)
    except Exception as error:  # noqa: BLE001  # the caller leaves; settle tells of the intent
        context.log(f"an order that was not sent could not be taken back: {describe(error)}")
