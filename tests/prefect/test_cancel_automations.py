"""The automations of `deployments/`, on the real server: what no process is left to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.events import emit_event

from prefect_topaz import submit_upscale
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import Scene, automate, automations, forget_automations, scene
from tests.prefect.support import Api, until

OWN = "ends-without-a-process"  # a flow that no worker runs: only the server acts on its runs


@pytest.fixture(scope="module")
def automated(deployed: dict[str, Any], api: Api) -> Iterator[dict[str, Any]]:
    """Watch one flow, with two attempts and ten seconds of silence; give its deployment."""
    flow_id = api.post("flows/", name=OWN)["id"]
    deployment = api.post("deployments/", name="own", flow_id=flow_id)
    options = ("--flow", OWN, "--attempts", "2", "--silence", "10")
    automate(*options)
    assert automate(*options).count("created") == 3
    yield deployment
    forget_automations(api)


@pytest.fixture
def it(api: Api, clip: Path, tmp_path: Path) -> Iterator[Scene]:
    with Sandbox(reads=1) as sandbox:
        yield scene(api, sandbox, "oxen", clip, tmp_path)


def begin(api: Api, deployment: dict[str, Any], **parameters: Any) -> str:
    """Make a run that is Running, with no process at all."""
    path = f"deployments/{deployment['id']}/create_flow_run"
    run_id = str(api.post(path, parameters=parameters)["id"])
    set_state(api, run_id, "RUNNING")
    return run_id


def set_state(api: Api, run_id: str, kind: str) -> None:
    api.post(f"flow_runs/{run_id}/set_state", state={"type": kind}, force=True)


def await_answers(api: Api, deployment: dict[str, Any]) -> None:
    """Return once a crash of now is answered: earlier ones have been, or never will be."""
    run_id = begin(api, deployment)
    set_state(api, run_id, "CRASHED")
    until(lambda: api.run(run_id)["state_name"] == "AwaitingRetry", "the answer to a crash")


def test_a_second_run_of_the_script_replaces_the_automations(automated, api) -> None:
    assert len(automations(api)) == 3
    assert all(one["enabled"] for one in automations(api))


@pytest.mark.parametrize("journal", [None, "journal"])
def test_a_run_cancelled_without_a_process_is_settled_once(
    automated, deployed, worker, it, journal
) -> None:
    """No hook runs for it: the paid result would stay at the provider until its link expires."""
    named = {"journal": f"{it.place}/{journal}"} if journal else {}
    job = submit_upscale.fn(it.url, it.upscaler, f"{it.place}/", **named)
    run_id = begin(it.api, automated, **it.parameters, **named)
    set_state(it.api, run_id, "CANCELLED")
    settles = {"deployments": {"id": {"any_": [deployed["settle"]["id"]]}}}

    def settling_here() -> list[Any]:
        found = it.api.post("flow_runs/filter", **settles)
        return [one for one in found if one["parameters"]["destination"] == f"{it.place}/"]

    (settling,) = until(settling_here, "the settle run")
    ended = it.api.ended(settling["id"])
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert (it.place / "clip-1080p.mp4").is_file()
    assert [one.job_id for one in it.sandbox.purchases()] == list(job.job_ids)
    assert len(settling_here()) == 1


def test_a_run_without_a_heartbeat_is_run_again_a_bounded_number_of_times(automated, api) -> None:
    run_id = begin(api, automated)
    run = {"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.name": "x"}
    flow = {
        "prefect.resource.id": f"prefect.flow.{automated['flow_id']}",
        "prefect.resource.role": "flow",
        "prefect.resource.name": OWN,
    }
    emit_event("prefect.flow-run.heartbeat", resource=run, related=[flow])
    until(lambda: api.run(run_id)["state_name"] == "AwaitingRetry", "the second attempt", 90)
    kinds = [one["type"] for one in api.get(f"flow_run_states/?flow_run_id={run_id}")]
    assert "CRASHED" in kinds
    await_answers(api, automated)  # a busy server may answer the first crash twice
    set_state(api, run_id, "RUNNING")
    assert api.run(run_id)["run_count"] == 2
    set_state(api, run_id, "CRASHED")
    await_answers(api, automated)
    states = api.get(f"flow_run_states/?flow_run_id={run_id}")
    history = "\n".join(f"{one['timestamp']} {one['name']}: {one['message']}" for one in states)
    assert api.run(run_id)["state_type"] == "CRASHED", history
