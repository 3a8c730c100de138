"""Go through a journal: claim what is paid and unclaimed, look up what is unknown, take rulings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prefect_topaz import errors
from prefect_topaz.delivery import sweep
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.lease import outlived
from prefect_topaz.engine.records import failure, ids_of, job_of
from prefect_topaz.engine.rulings import Rulings, check_rulings, ruled
from prefect_topaz.engine.staging import tidy
from prefect_topaz.engine.storing import store
from prefect_topaz.engine.survey import read_every
from prefect_topaz.engine.together import side_by_side
from prefect_topaz.engine.trials import sweep_trials
from prefect_topaz.engine.unknown import Found, adopt_all
from prefect_topaz.engine.waiting import look
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Cost, FinishedUpscale, Place, StoredVideo, Verify
from prefect_topaz.outcomes import SettleItem, SettleReport
from prefect_topaz.places import in_thread
from prefect_topaz.transport import describe

_AT_ONCE: Final = 8  # pieces of work that are looked at and stored side by side


@dataclass(frozen=True)
class _Round:
    """One pass over a journal. Private to this module."""

    context: Context
    journal: Journal
    place: Place
    destination: Place
    rulings: Rulings
    notes: Mapping[str, str]
    verify: Verify


@dataclass(frozen=True)
class _Settled:
    """What came of one record. Private to this module."""

    item: SettleItem | None = None
    videos: tuple[StoredVideo, ...] = ()


async def settle(
    context: Context,
    destination: Place,
    place: Place,
    rulings: Rulings | None = None,
    *,
    verify: Verify = "standard",
) -> SettleReport:
    """Settle every piece of work of this provider in a journal.

    Finished results are stored before their links expire, running jobs are left, lost answers are
    looked up, and what stays undecided waits for a ruling. Nothing is bought.

    Args:
        context: Who settles.
        destination: Where the results go; its settings open the places that were ordered to.
        place: The journal.
        rulings: What a person decided.
        verify: How strict results are compared with their orders.

    Raises:
        InvalidRequest: If a ruling cannot be meant; see `check_rulings`. Nothing was done then.
    """
    journal, rulings = context.journal(place), rulings or Rulings()
    every = await read_every(journal)
    readable = [one for one in every if isinstance(one, Record)]
    ours = [one for one in readable if _is_ours(context, one)]
    notes = await check_rulings(context, rulings, ours, readable)
    this = _Round(context, journal, place, destination, rulings, notes, verify)
    settled = await _settle_all(this, ours)
    await tidy(context, journal, readable, destination, place)
    await in_thread(sweep_trials, journal.folder, context.client.now().timestamp())
    items = [one.item for one in settled if one.item is not None]
    items += [_unreadable(one) for one in every if isinstance(one, errors.JournalUnavailable)]
    return SettleReport(
        items=tuple(sorted(items, key=lambda item: item.work_key)),
        stored=tuple(video for one in settled for video in one.videos),
    )


async def _settle_all(this: _Round, records: Sequence[Record]) -> list[_Settled]:
    """Rule, then look up what is lost together, and only then look at jobs and store results."""

    async def conclude(record: Record) -> tuple[str, Found]:
        return record.key, await _concluded(this, record)

    async def bring(record: Record) -> _Settled:
        return await _brought(this, record, found[record.key])

    found = dict(await side_by_side(conclude, records, _AT_ONCE))
    lost = [one for one in found.values() if isinstance(one, Record) and one.state == "unknown"]
    found |= await adopt_all(this.context, this.journal, lost)
    return await side_by_side(bring, records, _AT_ONCE)


def _is_ours(context: Context, record: Record) -> bool:
    intent = record.latest("intent")
    return bool(intent and intent.order and intent.order.provider == context.client.dialect.name)


def _unreadable(error: errors.JournalUnavailable) -> SettleItem:
    """Make an item of a record that cannot be read: it stops no other."""
    return SettleItem(
        work_key=error.work_key or "",
        source="unknown",
        state="trouble",
        billed="maybe",
        detail=error.message,
    )


async def _concluded(this: _Round, record: Record) -> Found:
    """Take the ruling on a record, or note that its owner is gone."""
    context, journal, key = this.context, this.journal, record.key
    try:
        if this.rulings.of(key) is not None:
            event = ruled(context, record, this.rulings, this.notes.get(key))
            # A run may have found the job since the record was read: a ruling must not undo that.
            return await context.insist(journal, record, event, still=_is_undecided)
        if record.state == "intended" and outlived(context, record):
            reason = f"{record.last.by} wrote an intent and nothing after it"
            gone = context.event("unknown", attempt=record.attempt, reason=reason, billed="maybe")
            return await context.insist(journal, record, gone, still=_is_intended)
    except errors.JournalUnavailable as error:
        return error
    return record


def _is_undecided(record: Record) -> bool:
    return record.state == "unknown"


def _is_intended(record: Record) -> bool:
    return record.state == "intended"


async def _brought(this: _Round, record: Record, found: Found) -> _Settled:
    """Bring one record as far as it can be brought now, whatever becomes of the others."""
    if not isinstance(found, Record):
        return _Settled(_item_of_error(record, found))
    try:
        try:
            return await _bring(this, found)
        except (errors.JobFailed, errors.JobCancelled) as error:
            # How it ended, which was written down just now, may tell what it cost.
            return _Settled(_item_of_error(await this.journal.read(record.key), error))
    except Exception as error:  # noqa: BLE001  # the links of the other results expire
        return _Settled(_item_of_error(found, error))


async def _bring(this: _Round, record: Record) -> _Settled:
    context = this.context
    if record.state == "stored":
        now = context.client.now().timestamp()
        await in_thread(sweep, this.journal.place(record.key), now, workspaces=True)
        return _Settled()
    if record.state == "intended":
        return _Settled(_item(record, "running", "a run is buying it at this moment"))
    if record.state in ("refused", "failed"):
        return _Settled(_ended(record))
    job = job_of(record, this.place)
    # The journal keeps no settings of stores, because keys live there.
    ordered_to = job.destination.model_copy(update={"options": this.destination.options})
    job = job.model_copy(update={"destination": ordered_to})
    finished = record.latest("finished")
    if finished is not None:
        done = FinishedUpscale(job=job, results=finished.results, finished_at=finished.at)
    elif (seen := await look(context, job)) is not None:
        done = seen
    else:
        detail = f"job {ids_of(record)} runs on"
        return _Settled(_item(record, "running", detail, billed="yes"))
    # On a schedule a rejected result would be fetched for ever; who takes it says verify="off".
    again = this.verify == "off"
    videos = tuple(await store(context, done, verify=this.verify, look_again=again))
    return _Settled(_item(record, "stored", videos[0].url, billed="yes"), videos)


def _ended(record: Record) -> SettleItem:
    if record.last.ruling == "give_up":
        return _item(record, "given_up", "given up by a ruling", billed="maybe")
    if record.last.ruling == "buy_again":
        detail = "the next run may buy it, by a ruling; a lost job may be charged all the same"
        return _item(record, "released", detail, billed="maybe")
    if record.may_buy:
        return _item(record, "released", f"the next run may buy it: {record.last.reason}")
    error = failure(record)
    return _item(record, "failed", error.message, billed=error.billed)


def _item_of_error(record: Record, error: Exception) -> SettleItem:
    if not isinstance(error, errors.TopazError):
        bought = _submitted(record) is not None
        detail = f"{describe(error)}: settle again, which buys nothing"
        return _item(record, "trouble", detail, billed="yes" if bought else "maybe")
    state = "undecided" if isinstance(error, errors.OutcomeUnknown) else "trouble"
    if isinstance(error, errors.JobFailed | errors.JobCancelled | errors.JobLost):
        state = "failed"
    return _item(record, state, error.message, billed=error.billed)


def _item(record: Record, state: str, detail: str, *, billed: errors.Billed = "no") -> SettleItem:
    intent, submitted = record.latest("intent"), _submitted(record)
    assert intent is not None
    assert intent.source is not None
    return SettleItem.model_validate(
        {
            "work_key": record.key,
            "source": intent.source.label,
            "state": state,
            "job_ids": submitted.job_ids if submitted else (),
            "billed": billed,
            "cost": _cost(record),
            "detail": detail,
        }
    )


def _submitted(record: Record) -> Event | None:
    """Find the answer to the latest purchase; an earlier one's is not it."""
    found = record.latest("submitted")
    return found if found and found.attempt == record.attempt else None


def _cost(record: Record) -> Cost | None:
    """Say what the latest purchase costs: by how it ended, else by the answer, else by estimate."""
    told = _submitted(record) or record.latest("intent")
    cost = told.cost if told else None
    ended = [
        one for event in record.events if event.attempt == record.attempt for one in event.results
    ]
    known = [one.cost for one in {one.job_id: one for one in ended}.values() if one.cost]
    charges = [one.charged for one in known if one.charged is not None]
    if not charges:
        return cost
    return (cost or Cost()).model_copy(update={"unit": known[0].unit, "charged": sum(charges)})
