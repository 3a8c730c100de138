"""Whose turn it is to buy: an owner that is slow is told from one that died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from prefect_topaz.engine.context import Context
from prefect_topaz.errors import ProviderUnavailable
from prefect_topaz.journal import Event, Journal, Record
from prefect_topaz.models import Order

# An owner that says nothing for so long counts as gone. It covers the longest way through one
# purchase: an order leaves in the first 120 s or not at all, and then there are 40 s to connect,
# 60 s to write and 60 s until the answer begins; what is left is for writing it down.
LEASE: Final = 300.0
BLOCKING_LEASE: Final = 3600.0 + LEASE  # that answer may take an hour
_SENDABLE: Final = 120.0
# What a second sending adds to all that: the first one's way of 160 s, and the pause between.
_SECOND: Final = 180.0
_SKEW: Final = 60.0  # seconds by which two machines' clocks may differ
_LOOK: Final = 2.0  # seconds between looks at somebody else's purchase


@dataclass(frozen=True)
class Turn:
    """The time in which an order may leave. Made before its intent is written.

    Args:
        context: Who buys.
        began: When the turn began, on the monotonic clock.
    """

    context: Context
    began: float

    def check(self, intent: Event, *, second: bool = False) -> None:
        """Refuse to send when others may soon count this owner as gone.

        A look-up by them would find nothing, and a person could rule that the work be bought again.

        Args:
            intent: What is about to be sent.
            second: Whether it was sent before; its lease is longer by what that may take.

        Raises:
            ProviderUnavailable: If the intent is too old. Nothing has been sent.
        """
        # The monotonic clock stands still while a laptop sleeps; the wall clock may be set back.
        watched = self.context.monotonic() - self.began
        age = max(watched, (self.context.client.now() - intent.at).total_seconds())
        if age > (_SENDABLE + _SECOND if second else _SENDABLE):
            raise ProviderUnavailable(
                f"the order was not sent: {age:.0f} s passed since its intent was written, and"
                " other runs may count this one as gone; run again"
            )


def lease_of(order: Order) -> float:
    """Give the seconds after which a silent owner of an order counts as gone."""
    if order.blocking:
        return BLOCKING_LEASE
    return LEASE + _SECOND if order.resend_unknown else LEASE


async def await_owner(
    context: Context, journal: Journal, record: Record, watched: tuple[int, float] | None
) -> tuple[int, float]:
    """Let the one who wrote the intent finish, or find that it is gone.

    Args:
        context: Who waits.
        journal: Where the record is.
        record: The record, whose last event is an intent.
        watched: How many events there were when this intent was first seen, and when that was.
    """
    if watched is None or watched[0] != len(record.events):
        context.log("this work is being bought by another run: waiting for its outcome")
        watched = (len(record.events), context.monotonic())
    # Either clock is enough: the wall clock may be skewed, the watch may have begun late.
    silent = context.monotonic() - watched[1] > (record.last.lease or LEASE)
    if silent or outlived(context, record):
        gone = context.event(
            "unknown",
            attempt=record.attempt,
            billed="maybe",
            reason=f"{record.last.by} wrote an intent and nothing after it",
        )
        await journal.append(record, gone)
    else:
        await context.client.sleep(_LOOK)
    return watched


def outlived(context: Context, record: Record) -> bool:
    """Tell whether an intent is older than its owner may be silent, by the wall clock."""
    age = context.client.now() - record.last.at
    return age > timedelta(seconds=(record.last.lease or LEASE) + _SKEW)
