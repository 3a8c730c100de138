"""What to do for the paid jobs of a flow run whose process is gone.

The hooks run in another process than the flow, with nothing in memory: the journal's place and the
key come from the run's own parameters `destination`, `journal` and `upscaler`, and the jobs from
the journal. Set them on your own flows that have these parameters:

    @flow(on_cancellation=[cancel_upscales_on_cancellation], on_crashed=[note_upscales_on_crash])
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from prefect_topaz import engine
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.bridge import run_blocking
from prefect_topaz.cancellation import aftermath, cancel_job
from prefect_topaz.engine.records import ids_of, job_of
from prefect_topaz.engine.unknown import adopt
from prefect_topaz.errors import InvalidRequest, TopazError
from prefect_topaz.http import connections
from prefect_topaz.journal import Journal, Record
from prefect_topaz.locations import place_of, with_settings
from prefect_topaz.lookout import by_a_person
from prefect_topaz.models import Place
from prefect_topaz.outcomes import CancelOutcome
from prefect_topaz.places import in_thread, open_folder
from prefect_topaz.settings import TopazSettings
from prefect_topaz.transport import describe

Log = Callable[[str], None]
_AT_ONCE: Final = 8  # jobs that are cancelled side by side
_PATIENCE: Final = 60.0  # seconds for each: no signal is coming any more


def cancel_upscales_on_cancellation(
    flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]
) -> None:
    """Cancel the jobs of a flow run that a person cancelled; for a flow's `on_cancellation`.

    It may come after the wait has cancelled them already: then it finds nothing to do. A runner
    that is stopped cancels its runs too, and no person means their jobs: those are only noted.

    Args:
        flow: The flow.
        flow_run: Its run, with parameters `destination`, `upscaler` and perhaps `journal`.
        state: The state that it is in.
    """
    _run(_cancel_all if by_a_person(state) else _note_all, flow, flow_run)


def note_upscales_on_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Log which paid jobs of a crashed flow run wait for the next one; for `on_crashed`.

    It never cancels: a run of the same work goes on with them, and buys nothing.

    Args:
        flow: The flow.
        flow_run: Its run, with parameters `destination` and perhaps `journal`.
        state: The state that it is in.
    """
    del state
    _run(_note_all, flow, flow_run)


def _run(work: Callable[[FlowRun, Log], Any], flow: Flow[..., Any], flow_run: FlowRun) -> None:
    logger = flow_run_logger(flow_run, flow)
    try:
        run_blocking(work(flow_run, logger.info))
    except Exception as error:  # noqa: BLE001  # a hook's failure must say what it leaves behind
        logger.warning(
            "the upscales of this run could not be looked up (%s); settle_upscales on its"
            " destination tells which of them are paid",
            describe(error),
        )


async def _cancel_all(flow_run: FlowRun, log: Log) -> None:
    place = await _journal(flow_run.parameters)
    records = await _records(flow_run, place)
    if not records:
        log("no upscale of this run is running")
        return
    upscaler = await _upscaler(flow_run.parameters, records)
    context = engine.Context(
        client=upscaler.get_client(), flow_run_id=str(flow_run.id), log=log, reload=with_settings
    )
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(record: Record) -> None:
        async with slots:
            try:
                log(await _cancel(context, place, record))
            except TopazError as error:
                log(f"{_name(record)}: {error}")

    async with connections():
        await asyncio.gather(*(one(record) for record in records))


async def _cancel(context: engine.Context, place: Place, record: Record) -> str:
    """Cancel the job of one record, and say what became of it."""
    provider = context.client.dialect.name
    if provider != _provider(record):
        return f"{_name(record)} is not cancelled: the run's upscaler is one of {provider}"
    if record.state == "intended":
        # Its owner may be another live process of this run: only the lease tells.
        return f"{_name(record)} was being ordered: settle_upscales tells what became of it"
    if record.state == "unknown":
        record = await adopt(context, context.journal(place), record)
    job = job_of(record, place)
    if record.state == "submitted":
        return aftermath(job, await cancel_job(context, job, _PATIENCE))
    ids = ", ".join(job.job_ids)
    done = CancelOutcome(outcome="already_finished", job_id=ids, phase="succeeded")
    return aftermath(job, done)


async def _note_all(flow_run: FlowRun, log: Log) -> None:
    for record in await _records(flow_run, await _journal(flow_run.parameters)):
        if record.state in ("intended", "unknown"):
            log(f"{_name(record)} was being ordered: the next run looks up what became of it")
        else:
            log(f"{_name(record)} is paid: the next run goes on with it, which buys nothing")


async def _records(flow_run: FlowRun, place: Place) -> list[Record]:
    """Find what the run ordered and nobody has stored yet."""
    journal: Journal = await in_thread(lambda: Journal(open_folder(place)))
    records = await journal.of_run(*await _family(flow_run))
    waiting = ("intended", "unknown", "submitted", "finished")
    return [one for one in records if one.state in waiting and not _is_verdict(one)]


def _is_verdict(record: Record) -> bool:
    """Tell a result that was kept aside: there is nothing to go on with."""
    return record.last.kind == "mismatch"


async def _family(flow_run: FlowRun) -> list[str]:
    """List the run and the runs of flows that it called."""
    family = [flow_run.id]
    async with get_client() as client:
        parents = family
        while parents:
            children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=parents))
            parents = [run.id for run in await client.read_flow_runs(flow_run_filter=children)]
            family = [*family, *parents]
    return [str(one) for one in family]


async def _journal(parameters: Mapping[str, Any]) -> Place:
    """Find the journal of a run from its parameters."""
    given = {name: await _resolved(parameters.get(name)) for name in ("destination", "journal")}
    destination = place_of(given["destination"] or TopazSettings().destination)
    journal = None if given["journal"] is None else place_of(given["journal"])
    return await in_thread(engine.journal_of, destination, journal)


async def _upscaler(parameters: Mapping[str, Any], records: list[Record]) -> AnyUpscaler:
    upscaler = await _resolved(parameters.get("upscaler"))
    if not isinstance(upscaler, AnyUpscaler):
        names = "; ".join(_name(record) for record in records)
        raise InvalidRequest(
            "the run's parameter `upscaler` refers to no saved block, so there is no key to cancel"
            f" with: {names}"
        )
    return upscaler


async def _resolved(value: Any) -> Any:
    """Load the block that a parameter refers to; other values are what they are.

    Parameters from the API are raw: a form refers to a block, a call in code recorded its fields.
    """
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref") or value.get("_block_document_id")
    return value if reference is None else await Block.aload_from_ref(reference)


def _provider(record: Record) -> str:
    intent = record.latest("intent")
    return intent.order.provider if intent and intent.order else "an unknown provider"


def _name(record: Record) -> str:
    return f"job {ids_of(record)} at {_provider(record)} (work {record.key[:12]})"
