"""Note which other flow runs wait for a job, so that it is found by their ids as well."""

from __future__ import annotations

from prefect_topaz.engine.context import Context
from prefect_topaz.errors import JournalUnavailable
from prefect_topaz.journal import Journal, Record


async def attach(context: Context, journal: Journal, record: Record) -> None:
    """Write down, once, that this flow run waits for a job that another one bought.

    The hooks look jobs up by flow run in a process that knows nothing else. A note that cannot be
    written costs the run nothing but that.
    """
    run = context.flow_run_id
    try:
        found = record
        while run is not None and run not in found.buyers:
            if found.state not in ("submitted", "finished"):
                return
            note = context.event("attached", attempt=found.attempt)
            if await journal.append(found, note) is not None:
                return
            found = await journal.read(record.key)
    except JournalUnavailable as error:
        context.log(f"that this run waits for the job could not be noted: {error.message}")
