"""What the tests of cancelling run in processes of its own: served, or as a plain script.

python cancel_flows.py serve             serve each flow
python cancel_flows.py serve NAME        serve one flow under that name
python cancel_flows.py runner NAME       the same with a runner that SIGUSR1 stops in its code
python cancel_flows.py SOURCE DESTINATION BLOCK
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from typing import Any

from prefect import flow, serve
from prefect.runner import Runner

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
    threading.Event().wait()


def serve_all() -> None:
    """Serve each flow; the names are the deployments'."""
    flows: dict[str, Any] = {
        "served-async": aupscale_video,
        "served-sync": upscale_video,
        "served-order": order_and_leave,
    }
    serve(*(one.to_deployment(name) for name, one in flows.items()), limit=10)


async def run_until_stopped(name: str) -> None:
    """Run a runner that is stopped by its program, as for a redeploy, and not by a signal."""
    runner = Runner(name=name)
    await runner.aadd_flow(aupscale_video, name)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stop.set)
    running = asyncio.create_task(runner.start())
    print(f"{name} is served", flush=True)  # noqa: T201  # whom it is told reads the output
    await stop.wait()
    await runner.astop()
    await running


def run(source: str, destination: str, block: str) -> None:
    """Upscale as a user's script does, with no runner above it."""
    kind = OxenUpscaler if block.startswith("oxen") else EvoLinkUpscaler
    upscale_video(source, destination, kind.load(block), poll_seconds=0.2)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve_all()
        case ["serve", name]:
            serve(aupscale_video.to_deployment(name))
        case ["flow.serve", name]:
            aupscale_video.serve(name)
        case ["runner", name]:
            asyncio.run(run_until_stopped(name))
        case arguments:
            run(*arguments)
