"""What the tests of cancelling run in processes of its own: served, or as a plain script."""

from __future__ import annotations

import sys
import time
from typing import Any

from prefect import flow, serve

from prefect_topaz import (
    EvoLinkUpscaler,
    OxenUpscaler,
    aupscale_video,
    cancel_upscales_on_cancellation,
    note_upscales_on_crash,
    submit_upscale,
    upscale_video,
)


@flow(
    on_cancellation=[cancel_upscales_on_cancellation],
    on_crashed=[note_upscales_on_crash],
)
def order_and_leave(
    source: str, destination: str, upscaler: OxenUpscaler | EvoLinkUpscaler
) -> None:
    """Order, and then do something else: no wait is there to be interrupted."""
    submit_upscale(source, upscaler, destination)
    time.sleep(600)


def serve_all() -> None:
    """Serve each flow; the names are the deployments'."""
    flows: dict[str, Any] = {
        "served-async": aupscale_video,
        "served-sync": upscale_video,
        "served-order": order_and_leave,
    }
    serve(*(one.to_deployment(name) for name, one in flows.items()), limit=10)


def run(source: str, destination: str, block: str) -> None:
    """Upscale as a user's script does, with no runner above it."""
    kind = OxenUpscaler if block.startswith("oxen") else EvoLinkUpscaler
    upscale_video(source, destination, kind.load(block), poll_seconds=0.2)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve_all()
    else:
        run(*sys.argv[1:])
