"""What the tests of cancelling do to processes, and ask of the sandbox, the witness."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import get_client

from prefect_topaz import (
    EvoLinkCredentials,
    EvoLinkUpscaler,
    OxenCredentials,
    OxenUpscaler,
    submit_upscale,
)
from prefect_topaz.sandbox import Sandbox
from tests.prefect.support import ROOT, Api, until

SCRIPT = Path(__file__).with_name("cancel_flows.py")
# Runners ask for work every second, and not every ten or fifteen.
QUICK = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_WORKER_QUERY_SECONDS": "1"}


def deletes(sandbox: Sandbox) -> list[str]:
    """Give the paths by which somebody asked the provider to cancel."""
    return [one.path for one in sandbox.requests() if one.method == "DELETE"]


def reattaches(url: str, place: Path, upscaler: Any, sandbox: Sandbox) -> bool:
    """Tell whether the next run goes on with the job, and buys nothing."""
    job = submit_upscale.fn(url, upscaler, f"{place}/")
    return job.reattached and [one.job_id for one in sandbox.purchases()] == list(job.job_ids)


def processes_of(run_id: str) -> list[int]:
    """List the processes that run a flow run, as Prefect marks them."""
    mark = f"PREFECT__FLOW_RUN_ID={run_id}".encode()
    folders = Path("/proc").glob("[0-9]*")
    return sorted(int(one.name) for one in folders if mark in _environment(one))


def _environment(folder: Path) -> list[bytes]:
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:  # it ended meanwhile
        return []


def signal_run(run_id: str, number: int) -> None:
    """Send a signal to the process that runs a flow run."""
    for pid in processes_of(run_id):
        os.kill(pid, number)


def automate(*options: str) -> str:
    """Create the automations as an operator does, and give what the script says."""
    command = [sys.executable, "deployments/automations.py", "--settle", "settle/settle", *options]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def automations(api: Api) -> list[dict[str, Any]]:
    """List the automations of this package."""
    found = api.post("automations/filter")
    return [one for one in found if one["name"].startswith("topaz: ")]


def forget_automations(api: Api) -> None:
    """Delete the automations of this package: they watch by name, whatever test it is."""
    with get_client(sync_client=True) as client:
        for one in automations(api):
            client.delete_automation(one["id"])


@dataclass(frozen=True)
class Scene:
    """One work at one provider, which takes its time."""

    api: Api
    sandbox: Sandbox
    upscaler: Any
    reference: str
    block: str
    clip: Path
    place: Path

    @property
    def url(self) -> str:
        return self.sandbox.host(self.clip)

    @property
    def parameters(self) -> Mapping[str, Any]:
        block = {"$ref": self.reference}
        return {"source": self.url, "destination": f"{self.place}/", "upscaler": block}

    @property
    def job_id(self) -> str:
        (bought,) = self.sandbox.purchases()
        return bought.job_id

    @property
    def status(self) -> str:
        return self.sandbox.jobs[self.job_id].status

    def start(self, deployment: str, **options: Any) -> str:
        """Start a deployment's run, and give its id; see `await_purchase`."""
        (found,) = (one for one in self.api.post("deployments/filter") if one["name"] == deployment)
        path = f"deployments/{found['id']}/create_flow_run"
        return str(self.api.post(path, parameters=self.parameters, **options)["id"])

    def await_purchase(self, *, looked: bool = True) -> None:
        """Return once the job is bought, written down and, where somebody waits, looked at."""
        until(lambda: list(self.place.glob(".topaz/*/0002.json")), "the purchase", 120)
        if not looked:
            return
        path = f"/{self.job_id}"
        until(
            lambda: any(one.path.endswith(path) for one in self.sandbox.requests()),
            "a look at the job",
        )

    def cancel(self, run_id: str) -> float:
        """Cancel a run as the UI does, and give the seconds until it says Cancelled."""
        began = time.monotonic()
        self.set_state(run_id, "CANCELLING")
        ended = self.api.ended(run_id)
        assert ended["state_type"] == "CANCELLED", ended["state"]
        return time.monotonic() - began

    def set_state(self, run_id: str, kind: str, *, force: bool = False) -> None:
        self.api.post(f"flow_runs/{run_id}/set_state", state={"type": kind}, force=force)

    def said(self, run_id: str, start: str) -> str:
        """Give the run's log, once a line that starts so has come."""
        return "\n".join(one["message"] for one in self.api.logs(run_id, start))

    def assert_kept(self) -> None:
        """The job runs on, and the next run goes on with it."""
        assert not deletes(self.sandbox)
        assert self.status in ("queued", "processing")
        assert reattaches(self.url, self.place, self.upscaler, self.sandbox)


def scene(api: Api, sandbox: Sandbox, provider: str, clip: Path, place: Path) -> Scene:
    """Save a block for a sandbox, and set the scene."""
    credentials: Any = {"api_key": sandbox.api_key, "base_url": sandbox.url}
    upscaler: Any = (
        OxenUpscaler(credentials=OxenCredentials(**credentials), resolution="1080p")
        if provider == "oxen"
        else EvoLinkUpscaler(credentials=EvoLinkCredentials(**credentials))
    )
    name = f"{provider}-{uuid.uuid4().hex[:8]}"
    reference = str(upscaler.save(name))
    return Scene(api, sandbox, upscaler, reference, name, clip, place)
