"""Runs that are started again by their own id, on a real worker, with all the automations there."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import (
    Scene,
    automate,
    forget_automations,
    processes_of,
    scene,
    signal_run,
)
from tests.prefect.support import until

FLOW = "upscale"  # the name of the flow in `flows/upscale.py`


@pytest.fixture(scope="module")
def begun(
    deployed: object, worker: object, api: Any, clip: Path, tmp_path_factory: Any
) -> Iterator[dict[str, tuple[Scene, str]]]:
    """Start both runs at once: starting is what takes long."""
    automate("--flow", FLOW, "--attempts", "2")
    with ExitStack() as stack:

        def begin() -> tuple[Scene, str]:
            sandbox = stack.enter_context(Sandbox())
            sandbox.fault("job", "delay", seconds=25)
            it = scene(api, sandbox, "oxen", clip, tmp_path_factory.mktemp("scene") / "out")
            return it, it.start("on-demand")

        runs = {name: begin() for name in ("crashed", "alive")}
        crash(*runs["crashed"])
        double(*runs["alive"])
        yield runs
    forget_automations(api)


def crash(it: Scene, run_id: str) -> None:
    """Kill the process of a run."""
    it.await_purchase(looked=False)
    signal_run(run_id, signal.SIGKILL)


def double(it: Scene, run_id: str) -> None:
    """Start a run again while it lives, as by a heartbeat that was late."""
    it.await_purchase(looked=False)
    first = processes_of(run_id)
    state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
    it.api.post(f"flow_runs/{run_id}/set_state", state=state)
    until(lambda: set(processes_of(run_id)) > set(first), "a second process")


def completed(it: Scene, run_id: str) -> None:
    until(lambda: it.api.run(run_id)["state_type"] == "COMPLETED", "the run's end", 120)
    # A worker reports one crash twice, before and after the hook, and the second report may hit the
    # run that was started again already: then it is started once more.
    assert it.api.run(run_id)["run_count"] >= 2
    assert len(it.sandbox.purchases()) == 1
    assert (it.place / "clip-1080p.mp4").is_file()


def test_a_run_that_crashed_is_finished_by_a_worker_with_what_it_bought(begun) -> None:
    """Nobody does anything: the process is killed, and one purchase becomes one video."""
    completed(*begun["crashed"])


def test_two_live_processes_of_one_run_buy_once(begun) -> None:
    """Prefect stops none of them: only the journal keeps the purchase single."""
    completed(*begun["alive"])
