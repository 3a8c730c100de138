"""The sandbox starts, stops and leaves nothing; its ledger, remote client, fixture and command."""

import gc
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest

from prefect_topaz.sandbox import Sandbox, SandboxClient
from prefect_topaz.sandbox.__main__ import parse_fault, run

PACKAGE = Path(importlib.util.find_spec("prefect_topaz.sandbox").origin).parent


def topaz_threads():
    return [one.name for one in threading.enumerate() if "topaz" in one.name or "AnyIO" in one.name]


def test_stopping_leaves_no_thread_file_or_connection(api, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other sandboxes may be at work
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        api.sandbox.stop()
        with Sandbox(reads=1) as sandbox:
            client = httpx.Client(base_url=sandbox.url)
            key = {"Authorization": "Bearer sandbox-key"}
            body = {"model": "topaz-video-upscale", "video_urls": [sandbox.host(clip)]}
            task = client.post("/v1/videos/generations", json=body, headers=key).json()
            assert client.get(f"/v1/tasks/{task['id']}", headers=key).json()["progress"] == 100
            url = sandbox.url
        with pytest.raises(httpx.TransportError):
            client.get("/v1/models")
        client.close()
        gc.collect()
    assert [str(one.message) for one in caught] == []
    assert topaz_threads() == []
    assert [path.name for path in tmp_path.iterdir() if "results" not in path.name] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_the_ledger_outlives_the_server(clip):
    with Sandbox(reads=1) as sandbox:
        httpx.get(sandbox.host(clip))
    assert sandbox.purchases() == []
    assert len(sandbox.requests()) == 1
    sandbox.stop()  # a second stop does nothing


def test_stopping_does_not_wait_for_work_or_clients(start):
    api = start()
    api.sandbox.fault("job", "delay", seconds=60, times=4)
    api.enqueue(num_generations=3)
    body = {"model": "topazlabs-video-upscale", "input_video": api.source}
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(api.post, "/api/ai/videos/generate", body)
        while len(api.sandbox.jobs) < 4:
            pass
        api.sandbox.stop()
        assert blocked.result(timeout=5).status_code == 500
    assert not any(one.charged for one in api.sandbox.purchases())


def test_stopping_cuts_a_client_that_reads_no_further(start):
    api = start()
    url = api.sandbox.host(b"x" * 30_000_000, "big.mp4")
    with httpx.stream("GET", url) as reply:
        chunks = reply.iter_raw()
        next(chunks)
        api.sandbox.stop()
        assert topaz_threads() == []
        with pytest.raises(httpx.TransportError):
            list(chunks)


def test_a_stopped_sandbox_can_start_again():
    sandbox = Sandbox()
    with pytest.raises(RuntimeError, match="not started"):
        _ = sandbox.url
    for _ in range(2):
        with sandbox:
            assert httpx.get(sandbox.url).status_code == 404


def test_it_listens_on_loopback_only(api):
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", api.sandbox.url)
    port = int(api.sandbox.url.rpartition(":")[2])
    with socket.socket() as plug, pytest.raises(ConnectionRefusedError):
        plug.connect(("127.0.0.2", port))


def test_reads_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        Sandbox(reads=0)


def test_the_ledger_notes_every_request_without_the_key(api):
    api.enqueue()
    httpx.get(api.source, headers={"User-Agent": "mine"})
    submit, media = api.sandbox.requests()
    method, path, headers, had_authorization, host = submit
    assert (method, path, had_authorization) == ("POST", "/api/ai/queue", True)
    assert f"http://{host}" == api.sandbox.url
    assert headers["content-type"] == "application/json"
    assert "sandbox-key" not in str(api.sandbox.requests())
    assert (media.method, media.path, media.had_authorization) == ("GET", "/media/clip.mp4", False)
    assert media.headers["user-agent"] == "mine"


def test_a_purchase_tells_who_what_when(start, clock):
    api = start(reads=1, clock=clock)
    (job_id,) = api.enqueue(target_fps=30)
    (purchase,) = api.sandbox.purchases("oxen")
    assert (purchase.provider, purchase.job_id, purchase.charged) == ("oxen", job_id, False)
    assert purchase.request["target_fps"] == 30
    assert purchase.at == datetime.fromtimestamp(clock.now, timezone.utc)
    api.oxen(job_id)
    assert api.sandbox.purchases()[0].charged
    assert api.sandbox.purchases("evolink") == []
    assert api.sandbox.ledger.purchases == api.sandbox.purchases()


def test_the_client_does_the_same_from_another_process(api, clip):
    remote = SandboxClient(api.sandbox.url + "/")
    for source in (clip, str(clip), clip.read_bytes()):
        assert httpx.get(remote.host(source, "far.mp4")).content == clip.read_bytes()
    remote.fault("submit", "refused", status=402, times=2, provider="evolink")
    assert [api.create().status_code for _ in range(3)] == [402, 402, 200]
    (job_id,) = api.enqueue()
    api.oxen(job_id)
    assert remote.purchases() == api.sandbox.purchases()
    assert [one.provider for one in remote.purchases("oxen")] == ["oxen"]
    assert remote.requests() == api.sandbox.requests()
    assert remote.submits() == 2
    assert remote.jobs()[job_id]["status"] == "succeeded"
    with pytest.raises(ValueError, match="allowed: submit"):
        remote.fault("nothing", "cut")
    with pytest.raises(ValueError, match="times must be"):
        remote.fault("submit", "cut", times=0)


def test_the_fixture_serves_users_tests(tmp_path):
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["prefect_topaz.sandbox.pytest_plugin"]\n'
    )
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(topaz_sandbox):\n"
        "    assert topaz_sandbox.url.startswith('http://127.0.0.1:')\n"
        "    assert topaz_sandbox.purchases() == []\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def environment():
    return {**os.environ, "PYTHONPATH": str(PACKAGE.parent.parent)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_interrupted(number):
    command = [sys.executable, "-m", "prefect_topaz.sandbox", "--port", "0", "--api-key", "mine"]
    command += ["--fault", "models:429,retry_after=2", "--fault", "submit:cut"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        told = [process.stdout.readline() for _ in range(6)]
        url = re.search(r"http://127\.0\.0\.1:\d+", told[0])[0]
        assert f'OxenCredentials(api_key="mine", base_url="{url}")' in told[2]
        assert f'EvoLinkCredentials(api_key="mine", base_url="{url}", files_url="{url}")' in told[3]
        key = {"Authorization": "Bearer mine"}
        replies = [httpx.get(f"{url}/v1/models", headers=key) for _ in range(2)]
        assert [reply.status_code for reply in replies] == [429, 200]
        assert replies[0].headers["retry-after"] == "2"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert "stopped" in out


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("submit:cut", ("submit", "cut", {})),
        ("status:429,retry_after=2,times=3", ("status", "429", {"retry_after": 2, "times": 3})),
        (
            "status:429,retry_after=Fri, 20 Nov 2026 12:00:00 GMT,times=1",
            ("status", "429", {"retry_after": "Fri, 20 Nov 2026 12:00:00 GMT", "times": 1}),
        ),
        ("submit:5xx,accepted=true", ("submit", "5xx", {"accepted": True})),
        ("result:truncate,fraction=0.25", ("result", "truncate", {"fraction": 0.25})),
        ("status:429,retry_after=none", ("status", "429", {"retry_after": None})),
    ],
)
def test_faults_are_read_from_the_command_line(text, parsed):
    assert parse_fault(text) == parsed


def test_the_command_says_what_is_wrong_and_starts_nothing(api, capsys):
    taken = int(api.sandbox.url.rpartition(":")[2])
    for options in (
        {"port": taken},
        {"port": 0, "fault": ["submit"]},
        {"fault": ["x:y"], "port": 0},
    ):
        assert run(**options) == 1
        assert "The sandbox did not start" in capsys.readouterr().err


def test_the_sandbox_shares_nothing_with_the_client():
    script = (
        "import sys, prefect_topaz\n"
        "before = set(sys.modules)\n"
        "import prefect_topaz.sandbox\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(m for m in new if m.startswith(('prefect', 'cyclopts', 'pytest'))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    loaded = set(re.findall(r"'([^']+)'", done.stdout))
    assert loaded
    assert all(name.startswith("prefect_topaz.sandbox") for name in loaded)
