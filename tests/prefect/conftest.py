"""One real Prefect server for the session, a sandbox for each test, and a block for each provider."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.prefect.support import (
    HOME,
    Api,
    Process,
    Server,
    free_port,
    prefect,
    program,
    shipped_deployments,
)

# Prefect makes its home when it is imported: it must not be the user's own.
for _name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[_name]
os.environ["PREFECT_HOME"] = str(HOME)
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

from prefect.events.worker import EventsWorker  # noqa: E402  # see above
from prefect.logging.handlers import APILogHandler  # noqa: E402  # see above
from prefect.settings import (  # noqa: E402  # see above
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW,
    temporary_settings,
)

from prefect_topaz import (  # noqa: E402  # see above
    EvoLinkCredentials,
    EvoLinkUpscaler,
    OxenCredentials,
    OxenUpscaler,
)
from prefect_topaz.sandbox import Sandbox, make_clip  # noqa: E402  # see above

# Prefect's sync client for its result storage is never closed; our own sockets are watched by the
# core's tests, which have no Prefect.
PREFECT_LEAK = (
    r"ignore:Exception ignored in. <socket\.socket:pytest.PytestUnraisableExceptionWarning"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.prefect)
            item.add_marker(pytest.mark.filterwarnings(PREFECT_LEAK))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server that knows nothing; it is slow to start, so there is one."""
    with Server(HOME, free_port()) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def settings(server: Server) -> Iterator[None]:
    """Point this process and its children at the server."""
    here = {
        PREFECT_HOME: HOME,
        PREFECT_API_URL: server.api_url,
        # Ending a sync flow joins the heartbeat thread, which sleeps a second at a time.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.1,
        # Prefect warns of every task that is called outside a flow, which is allowed.
        PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",
    }
    with pytest.MonkeyPatch.context() as patch, temporary_settings(here):
        patch.setenv("PREFECT_API_URL", server.api_url)
        yield
        # What is sent behind the scenes goes first: without its server it is tried for a minute.
        APILogHandler().flush()
        EventsWorker.drain_all()


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    with Api(server.api_url) as api:
        yield api


@pytest.fixture(scope="session")
def deployed(settings: None, api: Api) -> dict[str, dict[str, Any]]:
    """Make the deployments, with the commands that `prefect.yaml` names; give them by name."""
    prefect("work-pool", "create", "topaz", "--type", "process")
    prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    return shipped_deployments(api)


@pytest.fixture(scope="session")
def worker(deployed: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("worker") / "log"
    command = (program("prefect"), "worker", "start", "--pool", "topaz")
    # Seconds between its looks for work; ten by default.
    with Process(*command, log=log, env={"PREFECT_WORKER_QUERY_SECONDS": "1"}) as process:
        yield process


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=0.5, size=(64, 36))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox whose jobs show their end at the second look."""
    with Sandbox(reads=2) as running:
        yield running


@pytest.fixture
def oxen(sandbox: Sandbox) -> OxenUpscaler:
    credentials = OxenCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
    return OxenUpscaler(credentials=credentials, resolution="1080p")


@pytest.fixture
def evolink(sandbox: Sandbox) -> EvoLinkUpscaler:
    credentials = EvoLinkCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
    return EvoLinkUpscaler(credentials=credentials)
