"""Go through a journal: claim what is paid and unclaimed, look up what is unknown, take rulings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prefect_topaz import errors
from prefect_topaz.delivery import sweep
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.lease import outlived
from prefect_topaz.engine.records import failure, ids_of, job_of
from prefect_topaz.engine.storing import store
from prefect_topaz.engine.unknown import adopt
from prefect_topaz.engine.waiting import look
from prefect_topaz.journal import Event, Journal, Record, Ruling
from prefect_topaz.models import FinishedUpscale, Place, StoredVideo, Verify
from prefect_topaz.outcomes import SettleItem, SettleReport
from prefect_topaz.places import in_thread

_KEY_LENGTH: Final = 64


@dataclass(frozen=True)
class Rulings:
    """What a person decides about outcomes that nobody can look up.

    Args:
        adopt: Job ids by work key: that job is the one that was ordered.
        buy_again: Work keys that the next run may buy again; a lost job may then cost twice.
        give_up: Work keys that shall be left alone.
    """

    adopt: Mapping[str, str] = field(default_factory=dict)
    buy_again: tuple[str, ...] = ()
    give_up: tuple[str, ...] = ()

    def of(self, key: str) -> Ruling | None:
        """Give the ruling on a piece of work."""
        if key in self.adopt:
            return "adopt"
        if key in self.buy_again:
            return "buy_again"
        return "give_up" if key in self.give_up else None

    def keys(self) -> set[str]:
        """List the pieces of work that are ruled on."""
        return {*self.adopt, *self.buy_again, *self.give_up}


@dataclass(frozen=True)
class _Round:
    """One pass over a journal. Private to this module."""

    context: Context
    journal: Journal
    place: Place
    destination: Place
    rulings: Rulings
    verify: Verify


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
        InvalidRequest: If a ruling is about work that is not undecided. Nothing was done then.
    """
    journal = context.journal(place)
    this = _Round(context, journal, place, destination, rulings or Rulings(), verify)
    keys = [key for key in await journal.keys() if len(key) == _KEY_LENGTH]
    records, items = await _read_all(journal, keys)
    ours = [record for record in records if _is_ours(context, record)]
    _check_rulings(this.rulings, ours)
    stored: list[StoredVideo] = []
    for record in ours:
        if record.state == "stored":
            now = context.client.now().timestamp()
            await in_thread(sweep, journal.place(record.key), now, workspaces=True)
            continue
        try:
            settled = await _settle(this, record)
        except errors.TopazError as error:
            settled = _item_of_error(record, error)
        if isinstance(settled, SettleItem):
            items.append(settled)
        else:
            stored += settled
            items.append(_item(record, "stored", settled[0].url, billed="yes"))
    return SettleReport(items=tuple(items), stored=tuple(stored))


async def _read_all(journal: Journal, keys: Sequence[str]) -> tuple[list[Record], list[SettleItem]]:
    """Read the records; one that cannot be read is an item of its own, and stops no other."""
    found = [await _read_one(journal, key) for key in keys]
    records = [one for one in found if isinstance(one, Record)]
    return records, [one for one in found if isinstance(one, SettleItem)]


async def _read_one(journal: Journal, key: str) -> Record | SettleItem:
    try:
        return await journal.read(key)
    except errors.JournalUnavailable as error:
        return SettleItem(
            work_key=key, source="unknown", state="trouble", billed="maybe", detail=error.message
        )


def _is_ours(context: Context, record: Record) -> bool:
    intent = record.latest("intent")
    return bool(intent and intent.order and intent.order.provider == context.client.dialect.name)


def _check_rulings(rulings: Rulings, records: list[Record]) -> None:
    open_keys = {one.key for one in records if one.state == "unknown"}
    if wrong := sorted(rulings.keys() - open_keys):
        raise errors.InvalidRequest(
            f"no undecided work has the key {', '.join(wrong)}; undecided:"
            f" {', '.join(sorted(open_keys)) or 'none'}"
        )


async def _settle(this: _Round, record: Record) -> SettleItem | list[StoredVideo]:
    """Bring one record as far as it can be brought now."""
    context, journal = this.context, this.journal
    if this.rulings.of(record.key) is not None:
        ruled = _ruled(context, record, this.rulings)
        # A run may have found the job since the record was read: a ruling must not undo that.
        record = await context.insist(journal, record, ruled, still=_is_undecided)
    if record.state == "intended":
        if not outlived(context, record):
            return _item(record, "running", "a run is buying it at this moment")
        reason = f"{record.last.by} wrote an intent and nothing after it"
        gone = context.event("unknown", attempt=record.attempt, reason=reason, billed="maybe")
        record = await context.insist(journal, record, gone, still=_is_intended)
    if record.state == "unknown":
        record = await adopt(context, journal, record)
    if record.state in ("refused", "failed"):
        return _ended(record)
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
        return _item(record, "running", f"job {ids_of(record)} runs on", billed="yes")
    return await store(context, done, verify=this.verify)


def _is_undecided(record: Record) -> bool:
    return record.state == "unknown"


def _is_intended(record: Record) -> bool:
    return record.state == "intended"


def _ruled(context: Context, record: Record, rulings: Rulings) -> Event:
    ruling = rulings.of(record.key)
    if ruling == "adopt":
        ids = (rulings.adopt[record.key],)
        intent = record.latest("intent")
        cost = intent.cost if intent else None
        return context.event(
            "submitted", attempt=record.attempt, job_ids=ids, ruling=ruling, cost=cost
        )
    # Released work may be bought: for the journal that is a failure which nobody was charged for.
    return context.event(
        "failed",
        attempt=record.attempt,
        reason=f"ruled: {ruling}",
        ruling=ruling,
        billed="no" if ruling == "buy_again" else "maybe",
    )


def _ended(record: Record) -> SettleItem:
    if record.last.ruling == "give_up":
        return _item(record, "given_up", "given up by a ruling", billed="maybe")
    if record.may_buy:
        return _item(record, "released", f"the next run may buy it: {record.last.reason}")
    error = failure(record)
    return _item(record, "failed", error.message, billed=error.billed)


def _item_of_error(record: Record, error: errors.TopazError) -> SettleItem:
    state = "undecided" if isinstance(error, errors.OutcomeUnknown) else "trouble"
    if isinstance(error, errors.JobFailed | errors.JobCancelled | errors.JobLost):
        state = "failed"
    return _item(record, state, error.message, billed=error.billed)


def _item(record: Record, state: str, detail: str, *, billed: errors.Billed = "no") -> SettleItem:
    intent, submitted = record.latest("intent"), record.latest("submitted")
    assert intent is not None
    assert intent.source is not None
    return SettleItem.model_validate(
        {
            "work_key": record.key,
            "source": intent.source.label,
            "state": state,
            "job_ids": submitted.job_ids if submitted else (),
            "billed": billed,
            "cost": (submitted or intent).cost,
            "detail": detail,
        }
    )
