"""A Prefect server in a process of its own, and plain questions to its API."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from typing_extensions import Self

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
# Of Prefect, for this session.
HOME = Path(tempfile.mkdtemp(prefix="topaz-prefect-home-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
# How often to look at a job of the sandbox.
FAST = {"poll_seconds": 0.05}


def until(check: Callable[[], T], what: str, seconds: float = 120) -> T:
    """Ask until the answer is true: Prefect records much of a run a little after it."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return answer


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


def program(name: str) -> str:
    """Find a command beside this Python: tests run what is tested, not what PATH has."""
    return str(Path(sys.executable).with_name(name))


def prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Prefect command as a script would: nobody answers its questions."""
    command = [program("prefect"), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


class Process:
    """A command in a process group of its own, which ends with the `with` statement."""

    def __init__(
        self, *command: str | Path, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self.env = os.environ | (env or {})

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            orphans = group_lives(self.process.pid)
            if orphans:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                until(lambda: not group_lives(self.process.pid), "the end of its orphans")
        assert not orphans, f"{self.command} left processes behind"

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def assert_alive(self) -> None:
        assert self.process.poll() is None, self.said


def group_lives(group: int) -> bool:
    """Tell whether any process of a group runs; the dead whom nobody has buried do not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return True
    return False


class Server(Process):
    """`prefect server start`, up once the `with` statement is entered."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.api_url = f"{self.url}/api"
        super().__init__(
            *(program("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)),
            log=home / "server.log",
            env={
                "PREFECT_HOME": str(home),
                # Without its own address the bundled UI talks to port 4200.
                "PREFECT_SERVER_UI_API_URL": self.api_url,
                # Events show after that many seconds, and not after five.
                "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
            },
        )

    def __enter__(self) -> Self:
        super().__enter__()
        until(self._is_up, "the Prefect server's start", 120)
        return self

    def _is_up(self) -> bool:
        self.assert_alive()
        try:
            return httpx.get(f"{self.api_url}/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False


class Api:
    """Plain questions to the server, past Prefect's own client and its masking."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, **body: Any) -> Any:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        def answered() -> httpx.Response | None:
            # SQLite is locked for a moment now and then; Prefect's own client asks again too.
            answer = self._http.request(method, path, **options)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        return until(answered, f"an answer to {method} {path}").raise_for_status().json()

    def run(self, run_id: object) -> dict[str, Any]:
        return dict(self.get(f"flow_runs/{run_id}"))

    def ended(self, run_id: object, seconds: float = 300) -> dict[str, Any]:
        """Wait for the end of a run, and give it."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        until(lambda: self.run(run_id)["state_type"] in final, f"run {run_id}'s end", seconds)
        return self.run(run_id)

    def task_runs(self, run_id: object) -> dict[str, dict[str, Any]]:
        """Give the task runs of a flow run by their names, once all of them have ended."""

        def recorded() -> list[dict[str, Any]]:
            runs = self.post("task_runs/filter", flow_runs={"id": {"any_": [str(run_id)]}})
            ended = all(run["end_time"] for run in runs)
            return list(runs) if ended else []

        return {run["name"].rpartition("-")[0]: run for run in until(recorded, "the task runs")}

    def artifacts(self, run_id: object, kind: str | None = None) -> list[dict[str, Any]]:
        """Give the artifacts of a flow run, oldest first."""
        wish = {"flow_run_id": {"any_": [str(run_id)]}}
        if kind:
            wish["type"] = {"any_": [kind]}
        found = self.post("artifacts/filter", artifacts=wish)
        return sorted(found, key=lambda one: one["created"])

    def logs(self, run_id: object, last: str) -> list[dict[str, Any]]:
        """Give the log of a flow run, once a line that starts so has come."""

        def come() -> list[dict[str, Any]]:
            found = self.post("logs/filter", logs={"flow_run_id": {"any_": [str(run_id)]}})
            return found if any(one["message"].startswith(last) for one in found) else []

        return until(come, f"the log line {last!r}")


def shipped_deployments(api: Api) -> dict[str, dict[str, Any]]:
    """Give the deployments of `prefect.yaml` by name, as the server has them; others may be there."""
    wanted = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    names = [one["name"] for one in wanted]
    found = api.post("deployments/filter", deployments={"name": {"any_": names}})
    assert sorted(one["name"] for one in found) == sorted(names)
    return {one["name"]: one for one in found}
