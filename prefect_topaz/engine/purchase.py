"""Buy once: intent before the POST, record after it, look-up where the answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import anyio

from prefect_topaz import errors
from prefect_topaz.engine import staging
from prefect_topaz.engine.attaching import attach
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.destinations import check_destination, journal_of
from prefect_topaz.engine.holding import hold
from prefect_topaz.engine.lease import Turn, await_owner, lease_of
from prefect_topaz.engine.records import failure, ids_of, job_of
from prefect_topaz.engine.sending import Answer, Sending, send
from prefect_topaz.engine.unknown import adopt
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Cost, Order, Place, UpscaleJob, work_key
from prefect_topaz.naming import values_of
from prefect_topaz.places import in_thread
from prefect_topaz.sources import OpenSource
from prefect_topaz.transport import OutcomeLost, describe
from prefect_topaz.wire import Accepted, Refused, Unclear

T = TypeVar("T")

_GRACE: Final = 20.0  # seconds that a cancelled purchase may take to be written down


@dataclass(frozen=True)
class Purchase:
    """What to buy, for what, and where it goes.

    Args:
        source: The source, found readable.
        order: What to do with it.
        destination: A folder or the name of the first result.
        journal: Where the record goes; None for `.topaz` at the destination.
        again: 0, or a higher number to buy the same work again on purpose.
        max_cost: Dollars that it may cost at most; None for no cap.
        overwrite: Whether another file at the destination may be replaced.
        link_seconds: How long a signed link to the source must live; None for what covers queue
            and fetch.
        staging: A folder for a copy of a source that has no link; None for the provider's own
            store.
    """

    source: OpenSource
    order: Order
    destination: Place
    journal: Place | None = None
    again: int = 0
    max_cost: Decimal | None = None
    overwrite: bool = False
    link_seconds: float | None = None
    staging: Place | None = None


async def submit(context: Context, purchase: Purchase) -> UpscaleJob:
    """Buy the work, or find that it is bought.

    Returns:
        The job; `reattached` if this call bought nothing.

    Raises:
        InvalidRequest: If the order, its cost or its destination is refused here.
        ProviderRefused: If the provider refused it before any charge.
        OutcomeUnknown: If it was sent and nobody knows what came of it; it is not sent again.
        JobFailed: If it was bought before, failed, and may have been charged.
    """
    place = await in_thread(journal_of, purchase.destination, purchase.journal)
    journal = await in_thread(context.journal, place)
    key = work_key(
        purchase.source.facts.identity,
        purchase.order,
        realm=context.client.dialect.realm,
        again=purchase.again,
    )
    watched: tuple[int, float] | None = None
    while True:
        record = await journal.read(key)
        if record.may_buy:
            bought = await _buy(context, journal, record, purchase)
            if bought is not None:
                job = job_of(bought, place, purchase.destination, reattached=False)
                return job.model_copy(update={"staging": purchase.staging})
        elif record.state == "intended":
            watched = await await_owner(context, journal, record, watched)
        elif record.state == "unknown":
            await adopt(context, journal, record)
        elif record.state == "failed":
            raise failure(record)
        else:
            context.log(f"found job {ids_of(record)} in the journal: nothing is bought")
            await attach(context, journal, record)
            job = job_of(record, place, purchase.destination)
            return job.model_copy(update={"staging": purchase.staging})


async def _buy(
    context: Context, journal: Journal, record: Record, purchase: Purchase
) -> Record | None:
    """Check, write the intent, and send; None if the record is somebody else's to decide."""
    order, source = purchase.order, purchase.source
    cost = context.client.dialect.estimate(order, source.facts.media)
    _check_cost(cost, purchase.max_cost)
    await in_thread(_check_destination, purchase, record.key, context.client.now())
    await journal.check()
    wish = staging.Wish(source, purchase.link_seconds, purchase.staging)
    readable = await staging.prepare(context, journal, record, wish)
    if readable is None:
        return None
    url = readable.url
    turn = Turn(context, context.monotonic())
    intent = context.event(
        "intent",
        attempt=record.attempt + 1 if record.state == "failed" else max(record.attempt, 1),
        order=order,
        source=source.facts,
        destination=purchase.destination,
        source_digest=url.digest,
        staged=readable.copy,
        lease=lease_of(order),
        cost=cost,
    )
    intended = await staging.intend(context, journal, readable, intent)
    if intended is None:
        return None
    sending = Sending(order, url, idempotency_key(record.key, intent), intent, turn)

    answered = asyncio.Event()

    async def post() -> Record:
        try:
            answer = await send(context, sending)
        except OutcomeLost as error:
            return await _unknown(context, journal, intended, str(error))
        except errors.ProviderUnavailable as error:
            return await _refused(context, journal, intended, error)
        except Exception as error:  # noqa: BLE001  # a full disk, say: the request may have left
            return await _unknown(context, journal, intended, f"interrupted by {describe(error)}")
        except BaseException as error:
            await _unknown(context, journal, intended, f"interrupted by {describe(error)}")
            raise
        answered.set()
        try:
            return await _conclude(context, journal, intended, order, answer)
        finally:
            if answer.reply.spooled is not None:
                answer.reply.spooled.unlink(missing_ok=True)

    bought = await _uninterrupted(post(), answered)
    if bought.state == "unknown":
        return await adopt(context, journal, bought)
    # Given up for gone and overtaken, this owner has no say any more: the record is read again.
    return bought if bought.state in ("submitted", "finished", "stored") else None


def idempotency_key(key: str, intent: Event) -> str:
    """Name a purchase for the provider: the same for the same work and the same request.

    What the work key leaves out of the request is in it, because a key that comes with another
    request is refused as a conflict [E8]: an uploaded file has a new URL each time, and a callback
    may change. 16 to 96 characters of [A-Za-z0-9._-].
    """
    request = (intent.source_digest or "")[:16]
    if intent.order is not None and intent.order.callback_url is not None:
        request += f"-{intent.order.callback_url.digest[:8]}"
    return f"topaz-{key[:40]}-{request}" + (f"-{intent.attempt}" if intent.attempt > 1 else "")


async def _conclude(
    context: Context, journal: Journal, record: Record, order: Order, answer: Answer
) -> Record:
    """Write down what the answer to the POST says, before anything else is done."""
    verdict = answer.verdict
    estimate = record.last.cost or Cost()
    if isinstance(verdict, Refused):
        return await _refused(context, journal, record, verdict.error)
    if isinstance(verdict, Unclear):
        return await _unknown(context, journal, record, verdict.reason)
    held = await hold(context, journal, record, answer.reply) if order.blocking else ()
    cost = _with_reservation(estimate, verdict)
    submitted = context.event(
        "submitted",
        attempt=record.attempt,
        job_ids=verdict.job_ids,
        expected_seconds=verdict.expected_seconds,
        held=held,
        cost=cost,
        reason=answer.reason,
        warnings=answer.warnings,
    )
    context.log(f"bought: {order.provider} job {', '.join(verdict.job_ids) or 'answered at once'}")
    return await context.insist(journal, record, submitted)


def _with_reservation(estimate: Cost, verdict: Accepted) -> Cost:
    if verdict.cost is None:
        return estimate
    return verdict.cost.model_copy(
        update={"estimate": estimate.estimate, "basis": estimate.basis or verdict.cost.basis}
    )


async def _refused(
    context: Context, journal: Journal, record: Record, error: errors.TopazError
) -> Record:
    event = context.event("refused", attempt=record.attempt, reason=error.message)
    refused = await context.insist(journal, record, event, still=_is_open(record))
    await staging.remove(context, journal, refused)
    error.work_key = record.key
    raise error


async def _unknown(context: Context, journal: Journal, record: Record, reason: str) -> Record:
    event = context.event("unknown", attempt=record.attempt, reason=reason, billed="maybe")
    return await context.insist(journal, record, event, still=_is_open(record))


def _is_open(mine: Record) -> Callable[[Record], bool]:
    """Tell whether nobody has found the job, or begins anew: a slow owner must not undo that."""

    def is_open(record: Record) -> bool:
        return record.state in ("intended", "unknown") and _intent_of(record) == _intent_of(mine)

    return is_open


def _intent_of(record: Record) -> str | None:
    intent = record.latest("intent")
    return intent.nonce if intent else None


def _check_cost(cost: Cost, cap: Decimal | None) -> None:
    if cap is None:
        return
    if cost.estimate is None or cost.unit != "USD":
        raise errors.CostRefused(
            f"max_cost is {cap} USD, and the price is not known ({cost.basis}): leave max_cost out"
            " to buy without a cap"
        )
    if cost.estimate > cap:
        raise errors.CostRefused(
            f"the estimate is {cost.estimate} USD ({cost.basis}), above max_cost of {cap} USD:"
            " raise max_cost, or order a lower resolution"
        )


def _check_destination(purchase: Purchase, key: str, now: datetime) -> None:
    order = purchase.order
    check_destination(
        purchase.destination,
        values_of(purchase.source.facts, order, key, now),
        order.generations,
        overwrite=purchase.overwrite,
        has_journal=purchase.journal is None,
    )


async def _uninterrupted(work: Coroutine[Any, Any, T], answered: asyncio.Event) -> T:
    """Let a purchase be written down although its caller is being cancelled.

    Its answer is given a while to come; once it is there, what it says is kept whatever that takes.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # Prefect's time-outs cancel every await again and again; a shield holds them off.
        with anyio.CancelScope(shield=True):
            await asyncio.wait({task}, timeout=_GRACE)
            if not answered.is_set():
                task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # seen; what matters is in the journal
        raise
