"""The flow that settles a journal: paid results that nobody waits for, and unknown outcomes."""

# Annotations stay objects: `upscale_video.serve()` pickles a flow without its module's names.

import getpass
from typing import Any

from prefect import flow, get_run_logger
from prefect.context import FlowRunContext

from prefect_topaz import reports, runs
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.bridge import run_blocking
from prefect_topaz.engine import Rulings
from prefect_topaz.models import Verify
from prefect_topaz.outcomes import SettleReport
from prefect_topaz.steps import PlaceParameter


def person() -> str | None:
    """Say who rules, by this flow run: its creator if Prefect tells, else this process's account.

    Prefect's own server tells of automations and schedules, Prefect Cloud of people too.
    """
    context = FlowRunContext.get()
    creator = context.flow_run.created_by if context and context.flow_run else None
    if creator is not None and creator.display_value:
        kind = (creator.type or "user").lower()
        return str(creator.display_value) if kind == "user" else f"{kind} {creator.display_value}"
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's account may have no name
        return None


async def _settle(
    destination: Any, upscaler: AnyUpscaler, journal: Any, rulings: Rulings, verify: Verify
) -> SettleReport:
    report = await runs.settle(destination, upscaler, journal, rulings, verify=verify)
    await reports.report_settlement(report, "topaz-settlement")
    logger = get_run_logger()
    logger.info("%d videos stored, %d undecided", len(report.stored), len(report.undecided))
    return report


@flow(name="settle-upscales")
async def asettle_upscales(
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    *,
    journal: PlaceParameter | None = None,
    adopt: dict[str, str | list[str]] | None = None,
    buy_again: list[str] | None = None,
    give_up: list[str] | None = None,
    verify: Verify = "standard",
) -> SettleReport:
    """Claim paid results that no run is waiting for, and rule on unknown outcomes.

    Run it on a schedule: it buys nothing, and stores finished results before their links expire.

    Args:
        destination: Where the upscales go, as it was given to them.
        upscaler: A block with the key that bought them; only its provider's work is settled.
        journal: The journal, if it is not at the destination.
        adopt: Job ids by work key: that job is the one whose answer was lost; a list of ids where
            several generations were ordered.
        buy_again: Work keys that the next run may buy again; a lost job may then cost twice.
        give_up: Work keys that shall be left alone.
        verify: How strict results are compared with their orders.

    Returns:
        What became of each piece of work that was not stored; a table artifact shows the same.
    """
    rulings = Rulings(adopt or {}, tuple(buy_again or ()), tuple(give_up or ()), by=person())
    return await _settle(destination, upscaler, journal, rulings, verify)


@flow(name="settle-upscales")
def settle_upscales(
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    *,
    journal: PlaceParameter | None = None,
    adopt: dict[str, str | list[str]] | None = None,
    buy_again: list[str] | None = None,
    give_up: list[str] | None = None,
    verify: Verify = "standard",
) -> SettleReport:
    """Claim paid results that no run is waiting for, and rule on unknown outcomes.

    Run it on a schedule: it buys nothing, and stores finished results before their links expire.

    Args:
        destination: Where the upscales go, as it was given to them.
        upscaler: A block with the key that bought them; only its provider's work is settled.
        journal: The journal, if it is not at the destination.
        adopt: Job ids by work key: that job is the one whose answer was lost; a list of ids where
            several generations were ordered.
        buy_again: Work keys that the next run may buy again; a lost job may then cost twice.
        give_up: Work keys that shall be left alone.
        verify: How strict results are compared with their orders.

    Returns:
        What became of each piece of work that was not stored; a table artifact shows the same.
    """
    rulings = Rulings(adopt or {}, tuple(buy_again or ()), tuple(give_up or ()), by=person())
    return run_blocking(_settle(destination, upscaler, journal, rulings, verify))
