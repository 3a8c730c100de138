"""Send an order: one POST, and one more with the same key only where the order asks for that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from prefect_topaz.engine.context import Context
from prefect_topaz.engine.lease import Turn
from prefect_topaz.errors import ProviderUnavailable
from prefect_topaz.journal import Event
from prefect_topaz.models import Order
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.transport import ATTEMPTS, OutcomeLost
from prefect_topaz.wire import Accepted, Refused, Reply, SubmitVerdict, Unclear

# Seconds before the second sending: the first one may still be on its way through the gateway.
_PAUSE: Final = 5.0


@dataclass(frozen=True)
class Sending:
    """An order on its way out. Private to the engine.

    Args:
        order: What to buy.
        source: For what.
        key: Names the purchase for the provider.
        intent: The event that says so.
        turn: The time in which it may leave.
    """

    order: Order
    source: SignedUrl
    key: str
    intent: Event
    turn: Turn


@dataclass(frozen=True)
class Answer:
    """What the provider said to an order.

    Args:
        reply: Its words.
        verdict: What they mean.
        reason: What is to be known of a purchase besides, for the journal.
        warnings: What is doubtful about it, for the receipt.
    """

    reply: Reply
    verdict: SubmitVerdict
    reason: str | None = None
    warnings: tuple[str, ...] = ()


async def send(context: Context, sending: Sending) -> Answer:
    """Buy: send the order, once more if its outcome is unknown and it says `resend_unknown`.

    The second sending has the same key and body, leaves within this owner's lease, and is the last.

    Raises:
        OutcomeLost: If it left, and no sending brought an answer that tells what came of it.
        ProviderUnavailable: If it never left.
    """
    order = sending.order
    # All must agree: without a replay the second request is a second purchase for certain.
    may_repeat = order.resend_unknown and context.client.dialect.replays and not order.blocking
    try:
        answer = await _once(context, sending)
    except OutcomeLost as error:
        if not may_repeat:
            raise
        return await _again(context, sending, str(error))
    if may_repeat and isinstance(answer.verdict, Unclear):
        return await _again(context, sending, answer.verdict.reason)
    return answer


async def _once(context: Context, sending: Sending, *, second: bool = False) -> Answer:
    order = sending.order
    reply = await context.client.submit(
        order,
        sending.source,
        sending.key,
        before=lambda: sending.turn.check(sending.intent, second=second),
        attempts=1 if second else ATTEMPTS,
    )
    verdict = context.client.dialect.read_submit(order, reply)
    replayed = isinstance(verdict, Accepted) and verdict.replayed
    reason = "the provider answered for an earlier, equal request" if replayed else None
    return Answer(reply, verdict, reason)


async def _again(context: Context, sending: Sending, lost: str) -> Answer:
    """Send the same request with the same key, and take nothing but a job for an answer.

    A refusal of this one tells nothing of the first: that one's job may be what holds the credits
    that are missing now, and a conflict says no more than that the key is known.
    """
    context.log(f"{lost}; the order is sent once more with the same key, as it asks for")
    await context.client.sleep(_PAUSE)
    twice = f"{lost}; sent once more with the same key"
    try:
        answer = await _once(context, sending, second=True)
    except OutcomeLost as error:
        raise OutcomeLost(f"{twice}: {error}") from None
    except ProviderUnavailable as error:
        raise OutcomeLost(f"{twice}: {error.message}") from None
    verdict = answer.verdict
    if isinstance(verdict, Refused):
        raise OutcomeLost(f"{twice}: {verdict.error.message}")
    if isinstance(verdict, Unclear):
        raise OutcomeLost(f"{twice}: {verdict.reason}")
    if verdict.replayed:
        return replace(answer, reason=f"{twice}: the provider answered for the first sending")
    doubt = _doubt(sending.intent, verdict)
    context.log(doubt)
    return replace(answer, reason=f"{twice}: no word of a replay", warnings=(doubt,))


def _doubt(intent: Event, verdict: Accepted) -> str:
    return (
        f"the order of {intent.at:%Y-%m-%d %H:%M:%S} UTC was sent twice with one key, because its"
        " first answer was lost, and the provider did not say whether"
        f" {', '.join(verdict.job_ids)} is the job of both: look at your account for a second one"
        " of that time, which nobody waits for and which may be charged too"
    )
