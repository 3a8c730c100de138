"""A few rows of the matrix through the real flow, with a Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.crash.children import Children, Ended, listen
from tests.prefect.support import HOME, Server, free_port


class FlowChildren(Children):
    """Runs the flow, in a new Python each time.

    Args:
        api_url: The Prefect server's API.
    """

    skips_time = False

    def __init__(self, api_url: str) -> None:
        kept = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        self._env = kept | {"PREFECT_API_URL": api_url, "PREFECT_SERVER_ANALYTICS_ENABLED": "0"}

    def run(self, job: dict[str, object], when: Callable[[], bool] | None = None) -> Ended:
        """Run the flow to its end, or to its death."""
        with subprocess.Popen(
            [sys.executable, "-m", "tests.crash.flow_child", json.dumps(job)],
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            ended = listen(process.stdout, when, process.pid)
            ended.status = process.wait()
        return ended


@contextmanager
def flow_children() -> Iterator[FlowChildren]:
    """Run a Prefect server for the flows."""
    with Server(HOME, free_port()) as server:
        yield FlowChildren(server.api_url)
