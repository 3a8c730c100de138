"""What to do when a paid POST left and its answer did not arrive: look, adopt, or ask."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from prefect_topaz.engine.context import Context
from prefect_topaz.engine.holding import held_by_the_dead
from prefect_topaz.engine.rulings import next_step
from prefect_topaz.engine.survey import Others, read_every
from prefect_topaz.errors import JournalUnavailable, OutcomeUnknown, TopazError
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Order
from prefect_topaz.providers import Candidate
from prefect_topaz.wire import Reply

# Seconds before each look at the provider's listings: a new row may take a moment to show.
_LOOKS: Final = (0.0, 5.0, 15.0)
_WINDOW: Final = timedelta(minutes=5)  # by which the provider's clock may differ from ours
_LAG: Final = timedelta(minutes=5)  # the age from which an order shows in a listing, or never will

Found = Record | TopazError


async def adopt(context: Context, journal: Journal, record: Record) -> Record:
    """Find the job of one order whose answer was lost; see `adopt_all`.

    Raises:
        OutcomeUnknown: If that cannot be decided.
    """
    found = (await adopt_all(context, journal, [record]))[record.key]
    if isinstance(found, TopazError):
        raise found
    return found


async def adopt_all(
    context: Context, journal: Journal, records: Sequence[Record]
) -> dict[str, Found]:
    """Find the jobs of orders whose answers were lost, and write them down as bought.

    A job is adopted only if it echoes the whole request, was created at that time, belongs to no
    other record, there are exactly as many as were ordered, and no other work's equal request is
    open, whose job it may be. Nothing is ever sent again. Listings and journal are read once a
    look, for all orders; an old order is looked for once, a young one several times.

    Args:
        context: Who looks.
        journal: Where the records are.
        records: The undecided records; all of the context's provider.

    Returns:
        By work key, the record with its jobs; or why it has none, which is `OutcomeUnknown` where
        that cannot be decided.
    """
    found: dict[str, Found] = {}
    for record in records:
        if _order(record).blocking and (held := await held_by_the_dead(journal, record)):
            found[record.key] = await _written(context, journal, record, held=held)
    lost = [record for record in records if record.key not in found]
    for delay in _LOOKS:
        if lost:
            await context.client.sleep(delay)
            seen, lost = await _look(context, journal, lost)
            found |= seen
    return found


async def _look(
    context: Context, journal: Journal, lost: Sequence[Record]
) -> tuple[dict[str, Found], list[Record]]:
    """Look once at the listings and at the journal, for all lost orders.

    Returns:
        What came of it by work key, and the records that a later look may decide.
    """
    listed, found = await _list(context, journal, lost)
    try:
        # After the listings: whoever bought what they show had written an intent by then.
        others = Others(await _read_all(journal) if any(listed.values()) else ())
    except JournalUnavailable as error:
        reason = f"which jobs belong to other work cannot be read ({error.message})"
        return found | {one.key: _undecided(one, journal, reason) for one in lost}, []
    later: list[Record] = []
    for record in lost:
        if record.key in found:
            continue
        free, rivals = others.without_owner(record, listed[record.key]), others.rivals(record)
        proven = [one.job_id for one in free if one.exact]
        if len(proven) == _order(record).generations and not rivals:
            found[record.key] = await _written(context, journal, record, proven)
            others.adopted(record.key, proven)
            continue
        found[record.key] = _undecided(record, journal, _doubt(free, rivals))
        if len(proven) <= _order(record).generations and _may_show(context, record):
            later.append(record)
    return found, later


async def _list(
    context: Context, journal: Journal, lost: Sequence[Record]
) -> tuple[dict[str, list[Candidate]], dict[str, Found]]:
    """Read the provider's listings, each once.

    Returns:
        By work key the jobs of that time that may be it; or why there is no answer.
    """
    replies: dict[str, Reply] = {}
    listed: dict[str, list[Candidate]] = {}
    failed: dict[str, Found] = {}
    silent: dict[tuple[str, ...], TopazError] = {}
    for record in lost:
        order, digest = _order(record), _intent(record).source_digest or ""
        listings = tuple(call.url for call in context.client.dialect.lookup(order))
        try:
            if listings in silent:
                raise silent[listings]
            rows = await context.client.lookup(order, digest, replies)
            listed[record.key] = [one for one in rows if _in_window(record, one)]
        except TopazError as error:
            silent[listings] = error
            reason = f"the provider's listing gave no answer ({error.message})"
            failed[record.key] = _undecided(record, journal, reason)
    return listed, failed


async def _read_all(journal: Journal) -> list[Record]:
    """Read all records; one that cannot be read may own any job."""
    records: list[Record] = []
    for one in await read_every(journal):
        if isinstance(one, JournalUnavailable):
            raise one
        records.append(one)
    return records


def _intent(record: Record) -> Event:
    intent = record.latest("intent")
    assert intent is not None
    return intent


def _order(record: Record) -> Order:
    order = _intent(record).order
    assert order is not None
    return order


def _sent_by(record: Record) -> datetime:
    """Say until when a lost order may have left, however late it is looked for."""
    intent = _intent(record)
    return min(record.last.at, intent.at + timedelta(seconds=intent.lease or 0))


def _in_window(record: Record, one: Candidate) -> bool:
    if one.created_at is None:
        return True
    first, last = _intent(record).at - _WINDOW, _sent_by(record) + _WINDOW
    return first.timestamp() <= one.created_at <= last.timestamp()


def _may_show(context: Context, record: Record) -> bool:
    """Tell whether a job of this order may be in no listing yet."""
    return context.client.now() - _sent_by(record) < _LAG


async def _written(
    context: Context,
    journal: Journal,
    record: Record,
    job_ids: Sequence[str] = (),
    held: tuple[str, ...] = (),
) -> Found:
    """Write down what was found; that it cannot be is no reason to leave the others out."""
    proof = "its result lies beside" if held else "the provider's listing echoes the whole request"
    event = context.event(
        "submitted",
        attempt=record.attempt,
        job_ids=tuple(sorted(job_ids)),
        held=held,
        reason=f"adopted: {proof}",
        cost=_intent(record).cost,
    )
    context.log(f"the answer was lost, the job was found: {', '.join(job_ids or held)}")
    try:
        return await context.insist(journal, record, event)
    except JournalUnavailable as error:
        return error


def _doubt(free: Sequence[Candidate], rivals: Sequence[str]) -> str:
    ids = ", ".join(one.job_id for one in free)
    reason = f"jobs that may be it: {ids}" if ids else "no job of that time is listed"
    if ids and rivals:
        reason += f", or that of the equal order {', '.join(rivals)}, whose outcome is open too"
    return reason


def _undecided(record: Record, journal: Journal, reason: str) -> OutcomeUnknown:
    at = f"{_intent(record).at:%Y-%m-%d %H:%M:%S} UTC"
    return OutcomeUnknown(
        f"the order of {at} was sent and its outcome is not known ({record.last.reason}); {reason}."
        " Nothing is sent again by itself. Look at your account for a job of that time, then rule."
        f" {next_step(record, journal)}",
        work_key=record.key,
        billed="yes" if record.last.billed == "yes" else None,
    )
