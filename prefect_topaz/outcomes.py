"""What came of a cancel, a batch and a settlement: values for people and for the flows' callers."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from prefect_topaz.errors import Billed
from prefect_topaz.models import Cost, Frozen, Phase, StoredVideo


class SettleItem(Frozen):
    """What became of one piece of work when its journal was settled.

    Attributes:
        work_key: The journal's name of it.
        source: What it was ordered for.
        state: `stored` (now), `running`, `undecided`, `failed`, `given_up`, `released` (the next
            run may buy again) or `trouble` (it could not be settled now).
        job_ids: The provider's ids, as far as they are known.
        billed: What it means for the money.
        cost: What is known of money.
        detail: What happened, and the exact next step where one is needed.
    """

    work_key: str
    source: str
    state: Literal["stored", "running", "undecided", "failed", "given_up", "released", "trouble"]
    job_ids: tuple[str, ...] = ()
    billed: Billed = "no"
    cost: Cost | None = None
    detail: str = ""


class SettleReport(Frozen):
    """What a journal held that no run had finished.

    Attributes:
        items: One a piece of work that was not stored before.
        stored: The videos that were stored now.
    """

    items: tuple[SettleItem, ...]
    stored: tuple[StoredVideo, ...] = ()

    @property
    def undecided(self) -> tuple[SettleItem, ...]:
        """The items that need a person's ruling."""
        return tuple(item for item in self.items if item.state == "undecided")

    @property
    def abandoned(self) -> tuple[SettleItem, ...]:
        """The items that may have been paid for, and of which nothing will come."""
        ended = ("failed", "given_up", "released")
        return tuple(one for one in self.items if one.state in ended and one.billed != "no")

    @property
    def abandoned_cost(self) -> str:
        """What the abandoned items cost at most, as far as it is known.

        >>> lost = SettleItem(work_key="k", source="s", state="failed", billed="maybe")
        >>> known = lost.model_copy(update={"cost": Cost(estimate=Decimal("1.25"))})
        >>> SettleReport(items=(known, known, lost)).abandoned_cost
        '$2.50 + 1 of unknown cost'
        """
        sums: dict[str, Decimal] = {}
        unknown = 0
        for item in self.abandoned:
            cost = item.cost or Cost()
            figures = (cost.charged, cost.reserved, cost.estimate)
            known = next((one for one in figures if one is not None), None)
            if known is None:
                unknown += 1
            else:
                sums[cost.unit] = sums.get(cost.unit, Decimal(0)) + known
        parts = [f"${one}" if unit == "USD" else f"{one} {unit}" for unit, one in sums.items()]
        parts += [f"{unknown} of unknown cost"] if unknown else []
        return " + ".join(parts) or "nothing"


class CancelOutcome(Frozen):
    """What became of a wish to cancel.

    Attributes:
        outcome: `cancelled`, `already_finished` (a success is still paid, and can be stored),
            `not_supported` (the provider has no such call; the job runs on) or `unknown`.
        job_id: The provider's id.
        phase: The job's phase when it was read back; None where it was not.
        reply: What the provider said, or why nothing was asked.
    """

    outcome: Literal["cancelled", "already_finished", "not_supported", "unknown"]
    job_id: str
    phase: Phase | None = None
    reply: str = ""


class BatchItem(Frozen):
    """How one video of a batch ended: exactly one of `video` and `error` is set."""

    source: str
    video: StoredVideo | None = None
    error: str | None = None
    billed: Billed = "no"


class BatchReport(Frozen):
    """How a batch ended.

    Attributes:
        items: One a source, in the order given.
    """

    items: tuple[BatchItem, ...]

    @property
    def stored(self) -> tuple[StoredVideo, ...]:
        """The videos that are there now, bought or found."""
        return tuple(item.video for item in self.items if item.video is not None)

    @property
    def billed(self) -> Billed:
        """What the failures mean for the money: the worst of them."""
        kinds = {item.billed for item in self.failed}
        return "yes" if "yes" in kinds else "maybe" if "maybe" in kinds else "no"

    @property
    def failed(self) -> tuple[BatchItem, ...]:
        """The items that ended with an error."""
        return tuple(item for item in self.items if item.error is not None)
