"""Runs of the same work at once, by two real workers and by threads: one buys, the others say so."""

from __future__ import annotations

import contextvars
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.prefect.support import FAST, Api, Process, Server, program, until

RUNS = 4
POOL = "twins"
WAITING = "being bought by another run"


@pytest.fixture
def deployment(deployed: dict[str, Any], api: Api, server: Server) -> Iterator[str]:
    """The deployment for the run form, in a pool that no other test's worker serves."""
    template = api.get("work_pools/topaz")["base_job_template"]
    api.post("work_pools/", name=POOL, type="process", base_job_template=template)
    shipped = deployed["on-demand"]
    fields = ("flow_id", "entrypoint", "path", "pull_steps", "parameter_openapi_schema")
    copied = {name: shipped[name] for name in fields}
    made = (
        httpx.post(
            f"{server.api_url}/deployments/",
            json={"name": POOL, "work_pool_name": POOL, **copied},
            trust_env=False,
        )
        .raise_for_status()
        .json()
    )
    yield made["id"]
    for gone in (f"deployments/{made['id']}", f"work_pools/{POOL}"):
        httpx.delete(f"{server.api_url}/{gone}", trust_env=False).raise_for_status()


@pytest.fixture
def workers(deployment: str, tmp_path) -> Iterator[list[Process]]:
    """Two workers, neither of which can take all runs."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Process(
                    *(program("prefect"), "worker", "start", "--pool", POOL, "--name", name),
                    *("--limit", str(RUNS // 2)),
                    log=tmp_path / f"{name}.log",
                    # Seconds between its looks for work; ten by default.
                    env={"PREFECT_WORKER_QUERY_SECONDS": "1"},
                )
            )
            for name in ("castor", "pollux")
        ]


def lines_of(api: Api, run_id: str) -> list[str]:
    found = api.post("logs/filter", logs={"flow_run_id": {"any_": [run_id]}})
    return [line["message"] for line in found]


def outcome_of(api: Api, run_id: str) -> str:
    """Give the line by which a run says whether it bought."""

    def told() -> list[str]:
        return [
            line for line in lines_of(api, run_id) if line.startswith(("bought: ", "found job"))
        ]

    (line,) = until(told, "the line that says who bought")
    return line


def test_runs_of_two_workers_buy_once_and_all_deliver(  # noqa: PLR0917  # fixtures
    deployment, workers, sandbox, oxen, clip, tmp_path, api, server
) -> None:
    # So slow an answer that every run has started before it comes.
    sandbox.fault("submit", "delay", seconds=15)
    upscaler = {"$ref": str(oxen.save(f"twins-{uuid.uuid4().hex[:8]}"))}
    given = {
        "source": sandbox.host(clip),
        "destination": f"{tmp_path}/out/",
        "upscaler": upscaler,
    }
    form = f"{server.api_url}/deployments/{deployment}/create_flow_run"
    answers = [httpx.post(form, json={"parameters": given}, trust_env=False) for _ in range(RUNS)]
    started = [answer.raise_for_status().json()["id"] for answer in answers]
    ended = [api.ended(run_id) for run_id in started]

    for worker in workers:
        worker.assert_alive()
        assert worker.said.count("submitting flow run") >= 1, worker.said
        assert [run["state_type"] for run in ended] == ["COMPLETED"] * RUNS, worker.said
    (purchase,) = sandbox.purchases()
    told = [outcome_of(api, run_id) for run_id in started]
    job = f"job {purchase.job_id}"
    assert sorted(told) == [f"bought: oxen {job}"] + [
        f"found {job} in the journal: nothing is bought"
    ] * (RUNS - 1)
    # On a busy machine the last one may start after the answer, and then has nothing to wait for.
    waited = [one for run_id in started for one in lines_of(api, run_id) if WAITING in one]
    assert 1 <= len(waited) <= RUNS - 1
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        ".topaz", "clip-1080p.mp4", "clip-1080p.mp4.jpg", "clip-1080p.mp4.json",
    ]  # fmt: skip


def test_threads_that_call_the_sync_flow_buy_once_and_get_the_same_video(
    sandbox, evolink, clip, tmp_path
) -> None:
    from prefect_topaz import upscale_video

    sandbox.fault("submit", "delay", seconds=3)
    contexts = [contextvars.copy_context() for _ in range(RUNS)]
    source = sandbox.host(clip)

    def call(context: contextvars.Context) -> Any:
        return context.run(upscale_video, source, f"{tmp_path}/", evolink, **FAST)

    with ThreadPoolExecutor(RUNS) as pool:
        videos = list(pool.map(call, contexts))
    (purchase,) = sandbox.purchases()
    assert {(one.job_id, one.sha256, one.url) for one in videos} == {
        (purchase.job_id, videos[0].sha256, videos[0].url)
    }
    assert len([one for one in sandbox.requests() if one.path == "/v1/videos/generations"]) == 1
