"""Upscale videos with hosted Topaz models from Prefect: bought once, never lost.

Names are imported on first use: every Prefect process that loads collections imports this package,
and must not pay for what it does not use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_topaz.batch import aupscale_videos, upscale_videos
    from prefect_topaz.blocks import (
        EvoLinkCredentials,
        EvoLinkUpscaler,
        OxenCredentials,
        OxenUpscaler,
        StorageLocation,
    )
    from prefect_topaz.errors import OutcomeUnknown, ResultMismatch, StillRunning, TopazError
    from prefect_topaz.flows import aupscale_video, upscale_video
    from prefect_topaz.hooks import cancel_upscales_on_cancellation, note_upscales_on_crash
    from prefect_topaz.models import FinishedUpscale, StoredVideo, UpscaleJob
    from prefect_topaz.outcomes import BatchReport, CancelOutcome, SettleReport
    from prefect_topaz.runs import UpscaleRun
    from prefect_topaz.settlement import asettle_upscales, settle_upscales
    from prefect_topaz.tasks import (
        acancel_upscale,
        astore_upscale,
        asubmit_upscale,
        await_for_upscale,
        cancel_upscale,
        store_upscale,
        submit_upscale,
        wait_for_upscale,
    )

__all__ = [
    "BatchReport",
    "CancelOutcome",
    "EvoLinkCredentials",
    "EvoLinkUpscaler",
    "FinishedUpscale",
    "OutcomeUnknown",
    "OxenCredentials",
    "OxenUpscaler",
    "ResultMismatch",
    "SettleReport",
    "StillRunning",
    "StorageLocation",
    "StoredVideo",
    "TopazError",
    "UpscaleJob",
    "UpscaleRun",
    "acancel_upscale",
    "asettle_upscales",
    "astore_upscale",
    "asubmit_upscale",
    "aupscale_video",
    "aupscale_videos",
    "await_for_upscale",
    "cancel_upscale",
    "cancel_upscales_on_cancellation",
    "note_upscales_on_crash",
    "settle_upscales",
    "store_upscale",
    "submit_upscale",
    "upscale_video",
    "upscale_videos",
    "wait_for_upscale",
]

_HOMES = {
    "blocks": (
        "EvoLinkCredentials",
        "EvoLinkUpscaler",
        "OxenCredentials",
        "OxenUpscaler",
        "StorageLocation",
    ),
    "errors": ("OutcomeUnknown", "ResultMismatch", "StillRunning", "TopazError"),
    "batch": ("aupscale_videos", "upscale_videos"),
    "flows": ("aupscale_video", "upscale_video"),
    "hooks": ("cancel_upscales_on_cancellation", "note_upscales_on_crash"),
    "models": ("FinishedUpscale", "StoredVideo", "UpscaleJob"),
    "outcomes": ("BatchReport", "CancelOutcome", "SettleReport"),
    "runs": ("UpscaleRun",),
    "settlement": ("asettle_upscales", "settle_upscales"),
    "tasks": (
        "acancel_upscale",
        "astore_upscale",
        "asubmit_upscale",
        "await_for_upscale",
        "cancel_upscale",
        "store_upscale",
        "submit_upscale",
        "wait_for_upscale",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, so that `prefect block register -m prefect_topaz` finds the blocks."""
    return sorted({*globals(), *__all__})
