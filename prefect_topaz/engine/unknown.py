"""What to do when a paid POST left and its answer did not arrive: look, adopt, or ask."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from prefect_topaz.engine.context import Context
from prefect_topaz.engine.holding import held_by_the_dead
from prefect_topaz.errors import JournalUnavailable, OutcomeUnknown, TopazError
from prefect_topaz.journal import Journal, Record
from prefect_topaz.providers import Candidate

# Seconds before each look at the provider's listings: a new row may take a moment to show.
_LOOKS: Final = (0.0, 5.0, 15.0)
_WINDOW: Final = timedelta(minutes=5)  # by which the provider's clock may differ from ours


async def adopt(context: Context, journal: Journal, record: Record) -> Record:
    """Find the job of an order whose answer was lost, and write it down as bought.

    A job is adopted only if it echoes the whole request, was created at that time, belongs to no
    other record, there are exactly as many as were ordered, and no other work's equal request is
    open, whose job it may be. Nothing is ever sent again.

    Raises:
        OutcomeUnknown: If that cannot be decided.
    """
    intent = record.latest("intent")
    assert intent is not None
    assert intent.order is not None
    if intent.order.blocking and (held := await held_by_the_dead(journal, record)):
        return await _write_down(context, journal, record, held=held)
    free: list[Candidate] = []
    for delay in _LOOKS:
        await context.client.sleep(delay)
        try:
            listed = await context.client.lookup(intent.order, intent.source_digest or "")
        except TopazError as error:
            reason = f"the provider's listing gave no answer ({error.message})"
            raise _undecided(record, reason) from None
        try:
            # After the listing: whoever bought what it shows had written an intent by then.
            claimed, rivals = await _others(journal, record)
        except JournalUnavailable as error:
            reason = f"which jobs belong to other work cannot be read ({error.message})"
            raise _undecided(record, reason) from None
        free = [one for one in listed if _in_window(record, one) and one.job_id not in claimed]
        proven = [one.job_id for one in free if one.exact]
        if len(proven) == intent.order.generations and not rivals:
            return await _write_down(context, journal, record, proven)
        if len(proven) > intent.order.generations and not rivals:
            break
    ids = ", ".join(one.job_id for one in free)
    reason = f"jobs that may be it: {ids}" if ids else "no job of that time is listed"
    if ids and rivals:
        reason += f", or that of the equal order {', '.join(rivals)}, whose outcome is open too"
    raise _undecided(record, reason)


def _in_window(record: Record, one: Candidate) -> bool:
    intent = record.latest("intent")
    assert intent is not None
    if one.created_at is None:
        return True
    # A lost order cannot be younger than its owner's lease, however late it is looked for.
    latest = min(record.last.at, intent.at + timedelta(seconds=intent.lease or 0))
    first, last = intent.at - _WINDOW, latest + _WINDOW
    return first.timestamp() <= one.created_at <= last.timestamp()


async def _others(journal: Journal, record: Record) -> tuple[set[str], list[str]]:
    """List the jobs that are not the lost one, and the works that may own one that looks like it.

    Returns:
        The jobs of other records, and of this one's earlier purchases; and the keys of the records
        whose equal request is open: the same work `again`, or another content at the same URL.
    """
    earlier = (event for event in record.events if event.attempt < record.attempt)
    claimed = {job_id for event in earlier for job_id in event.job_ids}
    rivals: list[str] = []
    for key in await journal.keys():
        if key != record.key:
            other = await journal.read(key)
            claimed |= {job_id for event in other.events for job_id in event.job_ids}
            if other.state in ("intended", "unknown") and _looks_alike(other, record):
                rivals.append(key)
    return claimed, rivals


def _looks_alike(other: Record, record: Record) -> bool:
    """Tell whether the job of another record would echo the request of this one."""
    theirs, ours = other.latest("intent"), record.latest("intent")
    if not (theirs and theirs.order and ours and ours.order):
        return False
    same = (theirs.order.provider, theirs.order.model, theirs.source_digest) == (
        ours.order.provider,
        ours.order.model,
        ours.source_digest,
    )
    # The echo may hold more than was asked for: so may an order whose job would answer to ours.
    told = theirs.order.options
    return same and all(told.get(name) == value for name, value in ours.order.options.items())


async def _write_down(
    context: Context,
    journal: Journal,
    record: Record,
    job_ids: Sequence[str] = (),
    held: tuple[str, ...] = (),
) -> Record:
    intent = record.latest("intent")
    proof = "its result lies beside" if held else "the provider's listing echoes the whole request"
    event = context.event(
        "submitted",
        attempt=record.attempt,
        job_ids=tuple(sorted(job_ids)),
        held=held,
        reason=f"adopted: {proof}",
        cost=intent.cost if intent else None,
    )
    context.log(f"the answer was lost, the job was found: {', '.join(job_ids or held)}")
    return await context.insist(journal, record, event)


def _undecided(record: Record, reason: str) -> OutcomeUnknown:
    intent = record.latest("intent")
    at = f"{intent.at:%Y-%m-%d %H:%M:%S} UTC" if intent else "an unknown time"
    key = record.key
    return OutcomeUnknown(
        f"the order of {at} was sent and its outcome is not known ({record.last.reason}); {reason}."
        " Nothing is sent again by itself. Look at your account for a job of that time, then rule:"
        f" settle_upscales(destination, upscaler, adopt={{'{key}': '<job id>'}}) if it is there,"
        f" buy_again=['{key}'] or give_up=['{key}'] if not",
        work_key=key,
        billed="yes" if record.last.billed == "yes" else None,
    )
