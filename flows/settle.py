"""Claim paid results that no run is waiting for, on a schedule and after cancels and crashes.

Copy it and set your own schedule in `deployments/prefect.yaml`; `deployments/automations.py` makes
it run when a run was cancelled or crashed.
"""

from prefect import flow
from prefect.filesystems import RemoteFileSystem

from prefect_topaz import (
    EvoLinkUpscaler,
    OxenUpscaler,
    SettleReport,
    StorageLocation,
    asettle_upscales,
)


@flow(name="settle")
async def settle(
    destination: str | RemoteFileSystem | StorageLocation,
    upscaler: OxenUpscaler | EvoLinkUpscaler,
    *,
    journal: str | RemoteFileSystem | StorageLocation | None = None,
    adopt: dict[str, str | list[str]] | None = None,
    buy_again: list[str] | None = None,
    give_up: list[str] | None = None,
) -> SettleReport:
    """Store what is paid and finished, before its links expire. It buys nothing.

    What nobody can decide without you is in the run's table, each with its exact next step.

    Args:
        destination: Where the upscales go, as it was given to them.
        upscaler: A block with the key that bought them; only its provider's work is settled.
        journal: The journal, if it is not at the destination.
        adopt: Job ids by work key: that job is the one whose answer was lost; a list of ids where
            several generations were ordered.
        buy_again: Work keys that the next run may buy again; a lost job may then cost twice.
        give_up: Work keys that shall be left alone.
    """
    # The body without a flow run of its own: its table is this run's.
    return await asettle_upscales.fn(
        destination, upscaler, journal=journal, adopt=adopt, buy_again=buy_again, give_up=give_up
    )
