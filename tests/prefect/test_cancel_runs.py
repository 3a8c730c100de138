"""Runs in processes of their own that are cancelled, stopped and killed; the sandbox is witness.

Starting a process is what takes long, so that all of them are started at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prefect_topaz import settle_upscales
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import (
    QUICK,
    SCRIPT,
    Scene,
    deletes,
    processes_of,
    scene,
    signal_run,
)
from tests.prefect.support import Process, program, until

SOON = 10.0  # seconds between a person's cancel and the end of the remote job, at most

# What is started, by a name: a deployment, or a script with no runner above it.
STARTED = {
    "cancelled in async code": "served-async",
    "cancelled in sync code": "served-sync",
    "evolink": "served-async",
    "ordered and left": "served-order",
    "succeeding": "served-async",
    "killed": "served-sync",
    "killed under a worker": "on-demand",
    "terminated in async code": "served-async",
    "terminated in sync code": "served-sync",
    "script set to Cancelled": "script",
    "served, set to Cancelled": "served-sync",
    "worker's, set to Cancelled": "on-demand",
    "script, SIGINT": "script",
    "script, SIGTERM": "script",
    "cancelled under a worker": "on-demand",
    "worker stopped": "on-demand",
}


@dataclass(frozen=True)
class Begun:
    """A run whose job is being awaited."""

    scene: Scene
    run_id: str | None
    process: Process | None

    def ready(self, *, looked: bool = True) -> tuple[Scene, str]:
        """Wait until the job is bought; give the scene and the run's id."""
        self.scene.await_purchase(looked=looked)
        return self.scene, self.run_id or self._own_run()

    def _own_run(self) -> str:
        """Find a script's run: nobody but the script knows it before."""
        mark = f"{self.scene.place}/"
        runs = self.scene.api.post("flow_runs/filter", sort="START_TIME_DESC", limit=50)
        return str(next(one["id"] for one in runs if one["parameters"]["destination"] == mark))


@pytest.fixture(scope="module")
def worker(deployed: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A worker of this module's own: a test stops it."""
    log = tmp_path_factory.mktemp("stopped") / "log"
    command = (program("prefect"), "worker", "start", "--pool", "topaz")
    with Process(*command, log=log, env=QUICK) as process:
        yield process


@pytest.fixture(scope="module")
def served(settings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("served") / "log"
    with Process(sys.executable, SCRIPT, "serve", log=log, env=QUICK) as process:
        until(lambda: "served-order" in process.said, "the deployments", 120)
        yield process


@pytest.fixture(scope="module")
def begun(
    served: Process, worker: Process, api: Any, clip: Path, tmp_path_factory: Any
) -> Iterator[dict[str, Begun]]:
    with ExitStack() as stack:

        def begin(name: str, how: str) -> Begun:
            sandbox = stack.enter_context(Sandbox(reads=2 if name == "succeeding" else None))
            if name == "succeeding":  # the request to cancel has no effect, and no look is due yet
                sandbox.fault("cancel", "5xx", times=4)
            else:
                sandbox.fault("job", "delay", seconds=60 if name == "evolink" else 600)
            provider = "evolink" if name == "evolink" else "oxen"
            folder = tmp_path_factory.mktemp("scene")
            it = scene(api, sandbox, provider, clip, folder / "out")
            if how != "script":
                return Begun(it, it.start(how), None)
            command = (sys.executable, SCRIPT, it.url, f"{it.place}/", it.block)
            return Begun(it, None, stack.enter_context(Process(*command, log=folder / "log")))

        yield {name: begin(name, how) for name, how in STARTED.items()}


@pytest.fixture(scope="module")
def succeeding(begun: dict[str, Begun]) -> Begun:
    """Cancel a run whose job ends before the next look at it, ten seconds from the first."""
    one = begun["succeeding"]
    it, run_id = one.ready()
    it.set_state(run_id, "CANCELLING")
    return one


@pytest.fixture(scope="module")
def set_to_cancelled(succeeding: Begun, begun: dict[str, Begun]) -> dict[str, Begun]:
    """Set runs to Cancelled early: their waits notice it within half a minute."""
    chosen = {name: one for name, one in begun.items() if name.endswith("set to Cancelled")}
    for one in chosen.values():
        it, run_id = one.ready()
        it.set_state(run_id, "CANCELLED", force=True)
    return chosen


def test_an_evolink_job_is_named_when_its_run_is_cancelled(begun, set_to_cancelled) -> None:
    it, run_id = begun["evolink"].ready()
    it.cancel(run_id)
    words = f"job {it.job_id} at evolink cannot be cancelled, it runs on"
    assert words in it.said(run_id, "flow run")
    assert it.status in ("queued", "processing")


@pytest.mark.parametrize("colour", ["async", "sync"])
def test_a_persons_cancel_stops_the_oxen_job_within_seconds(colour, begun) -> None:
    it, run_id = begun[f"cancelled in {colour} code"].ready()
    it.set_state(run_id, "CANCELLING")
    until(lambda: it.status == "cancelled", "the end of the job", SOON)
    assert it.api.ended(run_id)["state_type"] == "CANCELLED"
    assert f"{it.job_id} at oxen was cancelled; whether" in it.said(run_id, "flow run")
    # The hook comes after it, and finds nothing left to do.
    assert it.said(run_id, "no upscale of this run is running")
    assert len(deletes(it.sandbox)) == 1


def test_a_persons_cancel_reaches_a_workers_run_too(begun) -> None:
    it, run_id = begun["cancelled under a worker"].ready()
    it.set_state(run_id, "CANCELLING")
    until(lambda: it.status == "cancelled", "the end of the job", SOON)
    assert it.api.ended(run_id)["state_type"] == "CANCELLED"
    # The hook has a process of its own there.
    assert it.said(run_id, "no upscale of this run is running")
    assert len(deletes(it.sandbox)) == 1


def test_a_job_that_succeeds_in_spite_of_the_cancel_is_paid_and_settled(succeeding) -> None:
    it, run_id = succeeding.ready()
    assert it.api.ended(run_id)["state_type"] == "CANCELLED"
    assert f"{it.job_id} at oxen succeeded in spite of the cancel" in it.said(run_id, "flow run")
    report = settle_upscales(f"{it.place}/", it.upscaler)
    assert [one.job_id for one in report.stored] == [it.job_id]
    assert [one.job_id for one in it.sandbox.purchases()] == [it.job_id]


def test_the_hook_alone_cancels_what_no_wait_sees_to(begun) -> None:
    """It runs in the runner's process, and has the run's parameters and the journal only."""
    it, run_id = begun["ordered and left"].ready(looked=False)
    it.cancel(run_id)
    assert it.status == "cancelled"
    assert f"job {it.job_id} at oxen was cancelled" in it.said(run_id, "job ")


@pytest.mark.parametrize("how", ["killed", "killed under a worker"])
def test_a_killed_process_leaves_its_job_to_the_next_run_and_the_hook_says_so(how, begun) -> None:
    it, run_id = begun[how].ready()
    signal_run(run_id, signal.SIGKILL)
    assert it.api.ended(run_id)["state_type"] == "CRASHED"
    assert f"job {it.job_id} at oxen" in it.said(run_id, "job ")
    it.assert_kept()


@pytest.mark.parametrize("colour", ["async", "sync"])
def test_a_terminated_process_leaves_its_job_to_the_next_run(colour, begun) -> None:
    it, run_id = begun[f"terminated in {colour} code"].ready()
    signal_run(run_id, signal.SIGTERM)
    assert it.api.ended(run_id)["state_type"] == "CRASHED"
    # Its last words reach the server before the signal ends it.
    assert f"{it.job_id} at oxen is left to run" in it.said(run_id, "the wait was interrupted")
    it.assert_kept()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_script_leaves_the_job_to_the_next_run(number, begun) -> None:
    """Ctrl-C is an interrupt, and no wish about the paid job."""
    one = begun[f"script, {number.name}"]
    it, run_id = one.ready()
    one.process.process.send_signal(number)
    one.process.process.wait(30)
    assert it.api.ended(run_id)["state_type"] == "CRASHED"
    assert f"{it.job_id} at oxen is left to run" in it.said(run_id, "the wait was interrupted")
    it.assert_kept()


def test_a_stopped_worker_leaves_the_job_to_the_next_run(begun, worker) -> None:
    """Its runs are killed without a word, and stay Running: no handler and no hook is run."""
    it, run_id = begun["worker stopped"].ready()
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(30)
    it.assert_kept()
    assert it.api.run(run_id)["state_type"] == "RUNNING"


@pytest.mark.parametrize("who", ["script", "served,", "worker's,"])
def test_a_run_that_is_set_to_cancelled_notices_it(who, set_to_cancelled) -> None:
    """No signal comes, with or without a runner: the wait looks at its own run."""
    it, run_id = set_to_cancelled[f"{who} set to Cancelled"].ready()
    until(lambda: it.status == "cancelled", "the end of the job", 45)
    until(lambda: not processes_of(run_id), "the end of its process", 30)

    def told() -> bool:
        return f"job {it.job_id} at oxen was cancelled" in it.api.run(run_id)["state"]["message"]

    until(told, "the state's message", 30)
    assert it.api.run(run_id)["state_type"] == "CANCELLED"


def test_the_evolink_job_of_a_cancelled_run_is_settled(begun) -> None:
    it, _ = begun["evolink"].ready()
    until(lambda: it.status == "succeeded", "the end of the job", 90)
    report = settle_upscales(f"{it.place}/", it.upscaler)
    assert [one.job_id for one in report.stored] == [it.job_id]
    assert Path(report.stored[0].url).is_file()
