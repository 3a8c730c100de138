"""Runners that are stopped themselves, in each of the ways; the sandbox is the witness.

A redeploy stops every run, and no person means their jobs by it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import QUICK, SCRIPT, Scene, processes_of, scene
from tests.prefect.support import Process, group_lives, program, until


def one(number: signal.Signals) -> Callable[[int], None]:
    """Signal the runner alone, as a supervisor does."""
    return lambda pid: os.kill(pid, number)


def everybody(number: signal.Signals) -> Callable[[int], None]:
    """Signal the runner and what it started, as a terminal does at Ctrl-C."""
    return lambda pid: os.killpg(pid, number)


@dataclass(frozen=True)
class Stop:
    """What runs the run, how that is stopped, and the state that Prefect then leaves the run in."""

    command: tuple[str | Path, ...]
    by: Callable[[int], None]
    left: str
    grace: float = 40.0  # seconds before it is killed


WORKER = (program("prefect"), "worker", "start", "--pool", "topaz", "--work-queue")
SERVE = (sys.executable, SCRIPT, "serve")
STOPS = {
    "serve-sigterm": Stop(SERVE, one(signal.SIGTERM), "RUNNING"),
    "serve-sigint": Stop(SERVE, one(signal.SIGINT), "RUNNING"),
    "serve-ctrl-c": Stop(SERVE, everybody(signal.SIGINT), "RUNNING or CRASHED"),
    # It waits for its runs to end, for hours, and so it is killed with them.
    "flow-serve-sigterm": Stop(
        (sys.executable, SCRIPT, "flow.serve"), one(signal.SIGTERM), "RUNNING", grace=5.0
    ),
    "runner-in-code": Stop((sys.executable, SCRIPT, "runner"), one(signal.SIGUSR1), "CANCELLED"),
    "worker-ctrl-c": Stop(WORKER, everybody(signal.SIGINT), "RUNNING"),
}


@dataclass(frozen=True)
class Begun:
    """A run whose job is being awaited."""

    scene: Scene
    run_id: str
    runner: Process


@pytest.fixture(scope="module")
def runners(
    deployed: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Process]]:
    """Start all of them at once: starting is what takes long."""
    folder = tmp_path_factory.mktemp("runners")
    with ExitStack() as stack:
        processes = {
            name: Process(*stop.command, name, log=folder / name, env=QUICK)
            for name, stop in STOPS.items()
        }
        for process in processes.values():
            stack.enter_context(process)
        yield processes
        for process in processes.values():
            if process.process.poll() is None:  # its test was left out
                _end(process)


def _end(process: Process) -> None:
    everybody(signal.SIGKILL)(process.process.pid)
    process.process.wait(20)
    until(lambda: not group_lives(process.process.pid), "the end of what it started")


@pytest.fixture(scope="module")
def begun(
    runners: dict[str, Process], api: Any, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Begun]]:
    with ExitStack() as stack:

        def begin(name: str) -> Begun:
            runner = runners[name]
            until(lambda: "served" in runner.said or "started" in runner.said, "its start")
            sandbox = stack.enter_context(Sandbox())
            sandbox.fault("job", "delay", seconds=600)
            it = scene(api, sandbox, "oxen", clip, tmp_path_factory.mktemp("scene") / "out")
            if STOPS[name].command is WORKER:
                return Begun(it, it.start("on-demand", work_queue_name=name), runner)
            return Begun(it, it.start(name), runner)

        yield {name: begin(name) for name in STOPS}


@pytest.mark.parametrize("name", STOPS)
def test_a_stopped_runner_leaves_the_job_to_the_next_run(name, begun) -> None:
    stop, it, run_id = STOPS[name], begun[name].scene, begun[name].run_id
    it.await_purchase()
    runner = begun[name].runner.process
    stop.by(runner.pid)
    try:
        runner.wait(stop.grace)
    except subprocess.TimeoutExpired:
        everybody(signal.SIGKILL)(runner.pid)
    until(lambda: not processes_of(run_id), "the end of the run's process", 40)
    it.assert_kept()
    assert it.api.run(run_id)["state_type"] in stop.left.split(" or ")
