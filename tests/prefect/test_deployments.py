"""The deployments as shipped, on a fresh server, run by a real process worker."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.blocks.system import Secret
from pydantic import SecretStr

from prefect_topaz import EvoLinkCredentials, EvoLinkUpscaler, OxenCredentials, OxenUpscaler
from prefect_topaz.sandbox import Sandbox, make_clip
from tests.prefect.support import HOME, Api, Process, prefect, shipped_deployments


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(reads=1) as running:
        yield running


def saved(block: Any) -> dict[str, str]:
    """Save a block, and refer to it as the run form does."""
    return {"$ref": str(block.save(f"deployed-{uuid.uuid4().hex[:8]}"))}


@pytest.fixture(scope="module")
def oxen(sandbox) -> dict[str, str]:
    credentials = OxenCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
    return saved(OxenUpscaler(credentials=credentials, resolution="1080p"))


@pytest.fixture(scope="module")
def blocking(sandbox) -> dict[str, str]:
    """Oxen.ai's endpoint that answers with the result: the run need not look again."""
    credentials = OxenCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
    return saved(OxenUpscaler(credentials=credentials, resolution="1080p", mode="sync"))


@pytest.fixture(scope="module")
def evolink(sandbox) -> dict[str, str]:
    credentials = EvoLinkCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
    return saved(EvoLinkUpscaler(credentials=credentials))


def test_every_deployment_is_made_and_the_schedule_waits_for_its_parameters(deployed, api) -> None:
    assert {"on-demand", "nightly"} <= set(deployed)
    (schedule,) = deployed["nightly"]["schedules"]
    assert (schedule["active"], schedule["schedule"]["cron"]) == (False, "0 3 * * *")
    assert deployed["nightly"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert all(one["work_pool_name"] == "topaz" for one in deployed.values())


def test_a_second_deploy_is_accepted_and_changes_nothing(deployed, api) -> None:
    prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    again = {name: one["id"] for name, one in shipped_deployments(api).items()}
    assert again == {name: one["id"] for name, one in deployed.items()}


def test_the_run_forms_have_descriptions_and_bounds(deployed) -> None:
    for name, one in deployed.items():
        schema = one["parameter_openapi_schema"]
        for field, said in schema["properties"].items():
            assert said.get("description"), f"{name}: {field} has no description"
    form = deployed["on-demand"]["parameter_openapi_schema"]
    assert set(form["required"]) == {"source", "destination", "upscaler"}
    assert form["properties"]["again"]["minimum"] == 0
    assert {"exclusiveMinimum": 0, "type": "number"} in form["properties"]["max_cost"]["anyOf"]
    either = [one["$ref"] for one in form["properties"]["upscaler"]["anyOf"]]
    assert either == ["#/definitions/OxenUpscaler", "#/definitions/EvoLinkUpscaler"]
    nightly = deployed["nightly"]["parameter_openapi_schema"]["properties"]
    assert (nightly["max_in_flight"]["minimum"], nightly["max_in_flight"]["maximum"]) == (1, 100)


@pytest.mark.parametrize(
    "change",
    [
        {"again": -1},
        {"max_cost": 0},
        {"source": 5},
        {"upscaler": "mine"},
    ],
)
def test_a_wrong_parameter_is_refused_by_the_server(change, deployed, oxen, server) -> None:
    given = {"source": "https://h/clip.mp4", "destination": "/out/", "upscaler": oxen} | change
    deployment = deployed["on-demand"]["id"]
    url = f"{server.api_url}/deployments/{deployment}/create_flow_run"
    answer = httpx.post(url, json={"parameters": given}, trust_env=False)
    assert answer.status_code == 409
    assert next(iter(change)) in answer.text


def run(api: Api, worker: Process, deployment: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    """Start a deployment's run as the UI does, and wait for its end."""
    started = api.post(f"deployments/{deployment['id']}/create_flow_run", parameters=parameters)
    ended = api.ended(started["id"])
    worker.assert_alive()
    assert ended["state_type"] == "COMPLETED", worker.said
    return ended


def test_the_worker_upscales_on_demand_and_the_second_run_is_cached(  # noqa: PLR0917  # fixtures
    deployed, worker, sandbox, oxen, clip, tmp_path, api
) -> None:
    given = {"source": sandbox.host(clip), "destination": f"{tmp_path}/", "upscaler": oxen}
    first = run(api, worker, deployed["on-demand"], **given)
    assert first["state_name"] == "Completed"
    assert (tmp_path / "clip-1080p.mp4").stat().st_size > 0
    receipt = json.loads((tmp_path / "clip-1080p.mp4.json").read_text())
    assert receipt["flow_run_id"] == first["id"]
    second = run(api, worker, deployed["on-demand"], **given)
    assert second["state_name"] == "Cached"
    assert len(sandbox.purchases("oxen")) == 1
    kinds = {one["type"] for one in api.artifacts(second["id"])}
    assert kinds == {"markdown", "progress"}


def test_a_signed_url_in_a_secret_block_is_recorded_nowhere(  # noqa: PLR0917  # fixtures
    deployed, worker, sandbox, blocking, clip, tmp_path, api
) -> None:
    """What is typed into the form is recorded in clear, in its password field too."""
    canary = "canary-signature-e77a"
    url = f"{sandbox.host(clip, 'signed.mp4')}?X-Amz-Signature={canary}"
    given = {
        "source": saved(Secret(value=SecretStr(url))),
        "destination": f"{tmp_path}/",
        "upscaler": blocking,
    }
    ended = run(api, worker, deployed["on-demand"], **given)
    assert (tmp_path / "signed-1080p.mp4").stat().st_size > 0
    assert sandbox.purchases()[-1].request["input_video"] == url
    kept = [ended, api.artifacts(ended["id"]), api.task_runs(ended["id"])]
    assert canary not in json.dumps(kept) + worker.said
    files = [one for one in (*HOME.rglob("*"), *tmp_path.rglob("*")) if one.is_file()]
    assert not [one for one in files if canary.encode() in one.read_bytes()]


def test_the_worker_upscales_a_folder_and_buys_each_video_once(  # noqa: PLR0917  # fixtures
    deployed, worker, sandbox, evolink, tmp_path, api
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(2):
        make_clip(clips / f"{number}.mp4", seconds=0.5, size=(64 + 16 * number, 36))
    given = {"videos": f"{clips}/*.mp4", "destination": f"{tmp_path}/out/", "upscaler": evolink}
    ended = run(api, worker, deployed["nightly"], **given)
    made = sorted(one.name for one in Path(tmp_path / "out").glob("*.mp4"))
    assert made == ["0-2x.mp4", "1-2x.mp4"]
    assert len(sandbox.purchases("evolink")) == 2
    (table,) = api.artifacts(ended["id"], "table")
    assert [row["outcome"] for row in json.loads(table["data"])] == ["bought", "bought"]


def test_a_folder_with_a_bad_video_ends_as_failed_and_says_which(  # noqa: PLR0917  # fixtures
    deployed, worker, sandbox, evolink, tmp_path, api
) -> None:
    """A nightly run that lost one video must be seen."""
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    given = {"videos": f"{tmp_path}/*.mp4", "destination": f"{tmp_path}/out/", "upscaler": evolink}
    started = api.post(f"deployments/{deployed['nightly']['id']}/create_flow_run", parameters=given)
    ended = api.ended(started["id"])
    assert ended["state_type"] == "FAILED"
    assert "1 of 1 videos failed" in ended["state"]["message"]
    assert "bad.mp4" in ended["state"]["message"]


def test_a_block_of_another_kind_fails_before_any_request(
    deployed, worker, sandbox, tmp_path, api
) -> None:
    """The server does not look behind a reference."""
    wrong = saved(OxenCredentials(api_key=sandbox.api_key, base_url=sandbox.url))
    before = len(sandbox.requests())
    given = {"source": "https://h/clip.mp4", "destination": f"{tmp_path}/", "upscaler": wrong}
    started = api.post(
        f"deployments/{deployed['on-demand']['id']}/create_flow_run", parameters=given
    )
    ended = api.ended(started["id"])
    assert ended["state_type"] == "FAILED"
    assert "upscaler" in ended["state"]["message"]
    assert len(sandbox.requests()) == before
