"""The whole of a journal at a glance: every record, and whose each job is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from prefect_topaz.engine.together import side_by_side
from prefect_topaz.errors import JournalUnavailable
from prefect_topaz.journal import Journal, Record
from prefect_topaz.providers import Candidate

_AT_ONCE: Final = 16  # records that are read side by side
_KEY: Final = re.compile("[0-9a-f]{64}")


async def read_every(journal: Journal) -> list[Record | JournalUnavailable]:
    """Read all records, in the order of their keys; what else lies there is no work.

    Returns:
        Each record, or why it cannot be read.

    Raises:
        JournalUnavailable: If the journal cannot be listed.
    """

    async def one(key: str) -> Record | JournalUnavailable:
        try:
            return await journal.read(key)
        except JournalUnavailable as error:
            return error

    keys = [key for key in await journal.keys() if _KEY.fullmatch(key)]
    return await side_by_side(one, keys, _AT_ONCE)


def owners_of(records: Iterable[Record]) -> dict[str, set[tuple[str, int]]]:
    """Say whose each job is.

    Returns:
        By job id, the work keys that have it, each with the number of the purchase.
    """
    owners: dict[str, set[tuple[str, int]]] = {}
    for record in records:
        for event in record.events:
            for job_id in event.job_ids:
                owners.setdefault(job_id, set()).add((record.key, event.attempt))
    return owners


class Others:
    """The records of a journal, seen from one whose job is lost.

    Args:
        records: All of them.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._open = [one for one in records if one.state in ("intended", "unknown")]
        self._owners = owners_of(records)

    def adopted(self, key: str, job_ids: Sequence[str]) -> None:
        """Take note that a lost order has its jobs: no other one may have them too."""
        self._open = [one for one in self._open if one.key != key]
        for job_id in job_ids:
            self._owners.setdefault(job_id, set()).add((key, 0))

    def without_owner(self, record: Record, listed: Sequence[Candidate]) -> list[Candidate]:
        """Leave out the jobs of other records, and of this one's earlier purchases."""

        def is_free(job_id: str) -> bool:
            owners = self._owners.get(job_id, ())
            return all(key == record.key and number >= record.attempt for key, number in owners)

        return [one for one in listed if is_free(one.job_id)]

    def rivals(self, record: Record) -> list[str]:
        """List the works that may own a job that looks like the lost one.

        Their equal request is open: the same work `again`, or another content at the same URL.
        """
        others = (one for one in self._open if one.key != record.key)
        return [one.key for one in others if _looks_alike(one, record)]


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
