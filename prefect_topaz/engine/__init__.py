"""THE ORDER OF EFFECTS: intent, one POST, record; wait; fetch, verify, publish, record.

Every step reads the journal first, so that each may be repeated, by anybody and anywhere: a repeat
finds what was bought and goes on from there.
"""

from __future__ import annotations

from prefect_topaz.engine.context import Context
from prefect_topaz.engine.destinations import journal_of
from prefect_topaz.engine.purchase import Purchase, submit
from prefect_topaz.engine.rulings import Rulings
from prefect_topaz.engine.settling import settle
from prefect_topaz.engine.storing import store
from prefect_topaz.engine.waiting import cancel, wait

__all__ = [
    "Context",
    "Purchase",
    "Rulings",
    "cancel",
    "journal_of",
    "settle",
    "store",
    "submit",
    "wait",
]
