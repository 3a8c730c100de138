"""What users of Prefect and its peers paid for, as scenarios that end well; the ledger is witness.

Those that need no Prefect are in `tests/engine/test_complaints.py`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from prefect_topaz import (
    OxenUpscaler,
    StoredVideo,
    store_upscale,
    submit_upscale,
    upscale_video,
    wait_for_upscale,
)
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import QUICK, SCRIPT, Scene, deletes, scene, signal_run
from tests.prefect.support import FAST, Process, until

# The runs of this module by what becomes of them, and the deployment of each.
STARTED = {
    "cancelled": "served-async",
    "cancelled unwatched": "served-order",
    "terminated": "served-sync",
    "restarted": "served-async",
}


@pytest.fixture(scope="module")
def served(settings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("complaints") / "log"
    with Process(sys.executable, SCRIPT, "serve", log=log, env=QUICK) as process:
        until(lambda: "served-order" in process.said, "the deployments", 120)
        yield process


@pytest.fixture(scope="module")
def begun(
    served: Process, api: Any, clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Scene, str]]]:
    """Start every run at once: starting its process is what takes long."""
    with ExitStack() as stack:

        def begin(deployment: str) -> tuple[Scene, str]:
            sandbox = stack.enter_context(Sandbox())
            sandbox.fault("job", "delay", seconds=600)
            it = scene(api, sandbox, "oxen", clip, tmp_path_factory.mktemp("scene") / "out")
            return it, it.start(deployment)

        yield {name: begin(deployment) for name, deployment in STARTED.items()}


def test_a_wait_that_failed_in_a_flow_is_retried_without_a_purchase(
    oxen: OxenUpscaler, sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """Start and wait were one call, so that a retry of the failed wait started the job anew."""
    retried = upscale_video.with_options(retries=1, retry_delay_seconds=0)
    # One look fits into the deadline, and the job shows its end at the second.
    options = {"deadline_seconds": 0.01, "poll_seconds": 5}
    video = retried(sandbox.host(clip), f"{tmp_path}/", oxen, **options)
    assert [one.job_id for one in sandbox.purchases()] == [video.job_id]


def test_a_retry_by_default_settings_orphans_no_job_and_buys_no_other(
    oxen: OxenUpscaler, sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """A flow's retry bought a second job and forgot the first, unless one knew which option to set."""
    tries: list[str] = []

    @flow(retries=2, retry_delay_seconds=0)
    def pipeline() -> list[StoredVideo]:
        job = submit_upscale(sandbox.host(clip), oxen, f"{tmp_path}/")
        tries.append(job.job_ids[0])
        if len(tries) == 1:
            raise ConnectionError("something else of this flow failed")
        finished = wait_for_upscale(job, oxen, **FAST)
        if len(tries) == 2:
            raise ConnectionError("and failed again")
        return store_upscale(finished, oxen)

    (video,) = pipeline()
    assert tries == [video.job_id] * 3
    assert [one.job_id for one in sandbox.purchases()] == [video.job_id]


def test_a_worker_that_dies_and_starts_again_starts_no_second_job(
    api: Any, clip: Path, tmp_path: Path
) -> None:
    """The restarted worker ran the job once more from the start: 100 minutes, paid twice."""
    with Sandbox() as sandbox:
        sandbox.fault("job", "delay", seconds=15)
        it = scene(api, sandbox, "oxen", clip, tmp_path / "out")
        command = (sys.executable, SCRIPT, it.url, f"{it.place}/", it.block)
        with Process(*command, log=tmp_path / "first") as first:
            it.await_purchase()
            first.process.kill()
            assert first.process.wait(30) == -signal.SIGKILL
        with Process(*command, log=tmp_path / "second") as second:
            assert second.process.wait(120) == 0, second.said
        assert (it.place / "clip-1080p.mp4").is_file()
        assert [one.job_id for one in sandbox.purchases()] == [it.job_id]


def test_cancelling_a_flow_run_stops_its_remote_job(begun) -> None:
    """The run said Cancelled, and the remote job ran on to its end and its bill."""
    it, run_id = begun["cancelled"]
    it.await_purchase()
    it.cancel(run_id)
    assert it.status == "cancelled"
    assert len(deletes(it.sandbox)) == 1
    assert [one.charged for one in it.sandbox.purchases()] == [False]


def test_a_sigterm_kills_no_job_that_the_next_run_can_go_on_with(begun) -> None:
    """A drained node sent SIGTERM, and the job was deleted although reattaching was switched on."""
    it, run_id = begun["terminated"]
    it.await_purchase()
    signal_run(run_id, signal.SIGTERM)
    assert it.api.ended(run_id)["state_type"] == "CRASHED"
    it.assert_kept()


def test_a_cancel_stops_the_job_that_nobody_watches_and_a_restart_does_not(
    begun, served: Process
) -> None:
    """First a cancel left such a job to bill; mended, every restart of the watcher killed jobs."""
    left, run_id = begun["cancelled unwatched"]
    left.await_purchase(looked=False)
    left.cancel(run_id)
    assert left.status == "cancelled"

    kept, _ = begun["restarted"]
    kept.await_purchase()
    served.process.terminate()
    served.process.wait(60)
    kept.assert_kept()
