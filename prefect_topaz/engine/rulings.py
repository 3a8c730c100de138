"""What a person decides about orders whose outcome nobody can look up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefect_topaz import errors
from prefect_topaz.engine.context import Context
from prefect_topaz.engine.survey import owners_of
from prefect_topaz.journal import Event, Journal, Record, Ruling


@dataclass(frozen=True)
class Rulings:
    """What a person decides about outcomes that nobody can look up.

    Args:
        adopt: Job ids by work key, one a generation: those jobs are the ones that were ordered.
        buy_again: Work keys that the next run may buy again; a lost job may then cost twice.
        give_up: Work keys that shall be left alone.
        by: Who decides, for the journal; None if nobody knows.
    """

    adopt: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    buy_again: tuple[str, ...] = ()
    give_up: tuple[str, ...] = ()
    by: str | None = None

    def of(self, key: str) -> Ruling | None:
        """Give the ruling on a piece of work."""
        if key in self.adopt:
            return "adopt"
        if key in self.buy_again:
            return "buy_again"
        return "give_up" if key in self.give_up else None

    def ids(self, key: str) -> tuple[str, ...]:
        """List the jobs that are adopted for a piece of work."""
        given = self.adopt.get(key, ())
        return tuple(one.strip() for one in ([given] if isinstance(given, str) else given))

    def keys(self) -> list[str]:
        """List the pieces of work that are ruled on, as often as they are."""
        return [*self.adopt, *self.buy_again, *self.give_up]


async def check_rulings(
    context: Context, rulings: Rulings, ours: Sequence[Record], every: Sequence[Record]
) -> dict[str, str]:
    """Refuse rulings that cannot be meant, before anything is done.

    Args:
        context: Who settles.
        rulings: What was decided.
        ours: The records of the context's provider.
        every: All records that can be read.

    Returns:
        By work key what could not be checked about its jobs.

    Raises:
        InvalidRequest: If a ruling is about work that is not undecided, contradicts another one,
            or adopts jobs that are none, too many, unknown to the provider or another work's.
    """
    undecided = {one.key: one for one in ours if one.state == "unknown"}
    if wrong := sorted(set(rulings.keys()) - undecided.keys()):
        raise errors.InvalidRequest(
            f"no undecided work has the key {', '.join(wrong)}; undecided:"
            f" {', '.join(sorted(undecided)) or 'none'}"
        )
    if twice := _repeated(rulings.keys()):
        raise errors.InvalidRequest(
            f"there are two rulings on {twice[0]}: name it once, in adopt, buy_again or give_up"
        )
    if twice := _repeated([job_id for key in rulings.adopt for job_id in rulings.ids(key)]):
        raise errors.InvalidRequest(f"job {twice[0]} is adopted twice: a job belongs to one work")
    for key in rulings.adopt:
        _check_jobs(rulings.ids(key), undecided[key], every)
    notes = {key: await _unchecked(context, rulings.ids(key)) for key in rulings.adopt}
    return {key: note for key, note in notes.items() if note}


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _check_jobs(job_ids: Sequence[str], record: Record, every: Sequence[Record]) -> None:
    intent = record.latest("intent")
    ordered = intent.order.generations if intent and intent.order else 1
    if not 1 <= len(job_ids) <= ordered or not all(job_ids):
        raise errors.InvalidRequest(
            f"{len(job_ids)} job ids are adopted for work {record.key}, which ordered {ordered}:"
            f" give {'one id' if ordered == 1 else f'a list of 1 to {ordered} ids'}"
        )
    owners = owners_of(every)
    for job_id in job_ids:
        # The jobs of earlier purchases of this work have ended and are not the lost one either.
        theirs = sorted(key for key, _ in owners.get(job_id, ()))
        if theirs:
            raise errors.InvalidRequest(
                f"job {job_id} is in the journal already, as that of work {', '.join(theirs)}: it"
                f" cannot be the lost one of {record.key}; compare the ids on the provider's page"
            )


async def _unchecked(context: Context, job_ids: Sequence[str]) -> str:
    """Ask the provider whether it knows the jobs, and say which question got no answer."""
    notes = [note for one in job_ids if (note := await _ask(context, one))]
    return "; ".join(notes)


async def _ask(context: Context, job_id: str) -> str | None:
    try:
        try:
            await context.client.status(job_id)
        except (errors.NotFound, errors.RejectedParameters):
            # The queue may have forgotten what the history still knows.
            if await context.client.details(job_id) is None:
                raise errors.NotFound(job_id) from None
    except (errors.NotFound, errors.RejectedParameters):
        raise errors.InvalidRequest(
            f"{context.client.dialect.name} knows no job {job_id}: copy the id from its own page;"
            " nothing was done"
        ) from None
    except errors.TopazError as error:
        name = context.client.dialect.name
        return f"whether {name} knows job {job_id} could not be asked ({error.message})"
    return None


def ruled(context: Context, record: Record, rulings: Rulings, note: str | None = None) -> Event:
    """Make the event of the ruling on a record, with who decided.

    Args:
        context: Who writes it.
        record: The undecided record.
        rulings: What was decided.
        note: What could not be checked about it.
    """
    ruling = rulings.of(record.key)
    if ruling == "adopt":
        intent = record.latest("intent")
        return context.event(
            "submitted",
            attempt=record.attempt,
            job_ids=rulings.ids(record.key),
            ruling=ruling,
            ruled_by=rulings.by,
            reason=note,
            cost=intent.cost if intent else None,
        )
    # Released work may be bought: for the journal that is a failure which nobody was charged for.
    return context.event(
        "failed",
        attempt=record.attempt,
        reason=f"ruled: {ruling}",
        ruling=ruling,
        ruled_by=rulings.by,
        billed="no" if ruling == "buy_again" else "maybe",
    )


def next_step(record: Record, journal: Journal) -> str:
    """Say how to rule on a record, as calls that can be copied."""
    intent = record.latest("intent")
    assert intent is not None
    assert intent.order is not None
    assert intent.destination is not None
    place, key = intent.destination, record.key
    # A saved block's settings are nowhere in the journal: pass it as it was passed to the order.
    call = f"settle_upscales({'destination' if place.block else repr(place.url)}, upscaler, "
    beside = {place.url.rstrip("/"), place.url.rpartition("/")[0]}
    if journal.folder.url not in {f"{one}/.topaz" for one in beside}:
        call += f"journal={journal.folder.url!r}, "
    ids = "'<job id>'" if intent.order.generations == 1 else "['<job id>', '<job id>']"
    return (
        f"If it is there: {call}adopt={{{key!r}: {ids}}}); if not, and the next run shall buy it:"
        f" {call}buy_again=[{key!r}]); to leave it for good: {call}give_up=[{key!r}])"
    )
