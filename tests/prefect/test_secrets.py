"""Canaries: a key and a signature that must never be seen, wherever a run leaves something."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.filesystems import RemoteFileSystem
from prefect.logging.handlers import APILogHandler
from pydantic import SecretStr

from prefect_topaz import (
    EvoLinkCredentials,
    EvoLinkUpscaler,
    OxenCredentials,
    OxenUpscaler,
    aupscale_video,
    submit_upscale,
    upscale_video,
    upscale_videos,
)
from prefect_topaz.sandbox import SandboxClient
from tests.prefect.support import FAST, HOME, Api, Process, free_port, until

KEY = "sk-canary-key-7f3b"
SIGNATURE = "canary-signature-91d2"
# The sandbox signs its result links with this name; what it signs is another each time.
LINK = "signature="
CANARIES = (KEY, SIGNATURE, LINK)


class Everything(logging.Handler):
    """Keeps every log line of the process, down to DEBUG, as a console would show it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[Everything]:
    handler = Everything()
    root = logging.getLogger()
    known = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    kept = [(one, one.level) for one in (root, *known)]
    for one, _ in kept:
        one.setLevel(logging.DEBUG)
    # Prefect's loggers do not hand on to the root.
    ends = [root, *(one for one in known if not one.propagate)]
    for one in ends:
        one.addHandler(handler)
    yield handler
    for one in ends:
        one.removeHandler(handler)
    for one, level in kept:
        one.setLevel(level)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory) -> Iterator[SandboxClient]:
    """A sandbox in another process: what the provider logs is not ours."""
    port = free_port()
    command = ("-m", "prefect_topaz.sandbox", "--port", port, "--api-key", KEY, "--reads", "2")
    log = tmp_path_factory.mktemp("sandbox") / "log"
    with Process(sys.executable, *command, log=log) as process:
        client = SandboxClient(f"http://127.0.0.1:{port}")
        until(lambda: "Ctrl-C stops it" in process.said, "the sandbox's start")
        yield client


@pytest.fixture(params=["oxen", "evolink"])
def upscaler(request, sandbox) -> Any:
    """A saved preset, loaded as a run would load it."""
    name = f"canary-{uuid.uuid4().hex[:8]}"
    if request.param == "oxen":
        block: Any = OxenUpscaler(
            credentials=OxenCredentials(api_key=KEY, base_url=sandbox.url), resolution="1080p"
        )
    else:
        block = EvoLinkUpscaler(
            credentials=EvoLinkCredentials(api_key=KEY, base_url=sandbox.url),
            callback_url="https://example.com/done",
        )
    block.save(name)
    return type(block).load(name)


@pytest.fixture
def signed(sandbox, clip) -> SecretStr:
    """A signed URL, another one for each test: the provider knows none of them yet."""
    return SecretStr(f"{sandbox.host(clip)}?X-Amz-Signature={SIGNATURE}&test={uuid.uuid4().hex}")


def assert_unseen(where: str, text: str | bytes, canaries: tuple[str, ...] = CANARIES) -> None:
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    for canary in canaries:
        found = text.find(canary)
        assert found < 0, f"{where}: ...{text[max(found - 300, 0) : found + 100]}"


def assert_unseen_by_prefect(api: Api, run_id: object) -> None:
    """Ask the API for all that it keeps of a run, and read what lies on disk."""
    APILogHandler().flush()
    wish = {"any_": [str(run_id)]}
    kept = {
        "flow run": [api.run(run_id)],
        "task runs": list(api.task_runs(run_id).values()),
        "states": api.get(f"flow_run_states/?flow_run_id={run_id}"),
        "logs": api.post("logs/filter", logs={"flow_run_id": wish}),
        "events": until(lambda: events_of(api, run_id), "the run's events"),
    }
    for where, found in kept.items():
        assert found, f"no {where}: nothing would be checked"
        assert_unseen(where, json.dumps(found))
    assert_unseen("artifacts", json.dumps(api.artifacts(run_id)))
    assert_unseen("block documents", json.dumps(api.post("block_documents/filter")))


def events_of(api: Api, run_id: object) -> list[Any]:
    """Give the events of a run once its end is among them."""
    resource = {"id": [f"prefect.flow-run.{run_id}"]}
    found = api.post("events/filter", filter={"any_resource": resource})["events"]
    ends = ("prefect.flow-run.Completed", "prefect.flow-run.Failed", "prefect.flow-run.Cached")
    return list(found) if any(one["event"] in ends for one in found) else []


def assert_unseen_in_files(folder: Path, canaries: tuple[str, ...] = CANARIES) -> None:
    files = [one for one in folder.rglob("*") if one.is_file()]
    assert files, f"nothing in {folder}: nothing would be checked"
    for file in files:
        assert_unseen(str(file), file.read_bytes(), canaries)


def test_the_canaries_would_be_found(tmp_path, log) -> None:
    """The checks below can fail."""
    logging.getLogger("httpx").debug("GET /?x=%s", SIGNATURE)
    with pytest.raises(AssertionError, match=SIGNATURE):
        assert_unseen("log", "\n".join(log.lines))
    (tmp_path / "file").write_text(KEY)
    with pytest.raises(AssertionError, match=KEY):
        assert_unseen_in_files(tmp_path)


def test_a_run_shows_neither_key_nor_signature(  # noqa: PLR0917  # fixtures
    upscaler, signed, sandbox, tmp_path, api, log, capfd
) -> None:
    run = upscale_video.with_options(persist_result=True)
    for _ in range(2):
        state = run(signed, f"{tmp_path}/", upscaler, **FAST, return_state=True)
        assert_unseen("result", repr(state.result()))
        assert_unseen_by_prefect(api, state.state_details.flow_run_id)
    # The provider was sent the whole URL.
    assert url_of(signed) in json.dumps(sandbox.purchases()[-1].request)
    storage = HOME / "storage"
    assert_unseen_in_files(storage)
    # The database keeps the block's key encrypted.
    assert_unseen_in_files(HOME, (KEY, SIGNATURE))
    assert_unseen_in_files(tmp_path)
    assert any("fsspec" in line for line in log.lines)
    assert_unseen("debug log", "\n".join(log.lines))
    assert_unseen("console", "".join(capfd.readouterr()))


FAILURES: list[tuple[str, dict[str, Any]]] = [
    ("submit", {"kind": "refused", "status": 401}),
    ("submit", {"kind": "refused", "status": 400, "message": "cannot read {url}"}),
    ("job", {"kind": "fail", "message": "cannot read {url}"}),
    ("source", {}),
    ("submit", {"kind": "garbage"}),
]


@pytest.mark.parametrize(("operation", "fault"), FAILURES)
def test_a_failing_run_shows_neither_key_nor_signature(  # noqa: PLR0917  # fixtures
    operation, fault, upscaler, signed, sandbox, tmp_path, api, log, capfd
) -> None:
    url = signed.get_secret_value()
    if operation == "source":
        signed = SecretStr(url.replace("/clip.mp4", "/none.mp4"))
    else:
        text = {"message": fault["message"].format(url=url)} if "message" in fault else {}
        sandbox.fault(operation, **fault | text)
    if fault.get("kind") == "garbage":
        sandbox.fault("list", "refused", status=403, message=f"{url} is not listed")
    state = upscale_video(signed, f"{tmp_path}/", upscaler, **FAST, return_state=True)
    with pytest.raises(Exception, match="billed") as caught:
        state.result()
    error = caught.value
    assert_unseen("exception", f"{error!r} {error} {vars(error)}")
    assert_unseen("traceback", "".join(traceback.format_exception(error)))
    assert_unseen_by_prefect(api, state.state_details.flow_run_id)
    assert_unseen_in_files(HOME, (KEY, SIGNATURE))
    assert_unseen("debug log", "\n".join(log.lines))
    assert_unseen("console", "".join(capfd.readouterr()))
    for file in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert_unseen(str(file), file.read_bytes())


def url_of(signed: SecretStr) -> str:
    return signed.get_secret_value()


def test_a_wrong_key_is_never_shown(sandbox, clip, tmp_path, api, log) -> None:
    wrong = "sk-canary-wrong-c04e"
    block = OxenUpscaler(credentials=OxenCredentials(api_key=wrong, base_url=sandbox.url))
    state = upscale_video(sandbox.host(clip), f"{tmp_path}/", block, **FAST, return_state=True)
    with pytest.raises(Exception, match="401") as caught:
        state.result()
    seen = [repr(caught.value), *log.lines, json.dumps(api.run(state.state_details.flow_run_id))]
    assert_unseen("a wrong key", "\n".join(seen), (wrong,))


async def test_the_async_colour_shows_neither(upscaler, signed, tmp_path, api, log) -> None:
    state = await aupscale_video(signed, tmp_path, upscaler, **FAST, return_state=True)
    assert (await state.aresult()).bytes
    await asyncio.to_thread(assert_unseen_by_prefect, api, state.state_details.flow_run_id)
    assert_unseen("debug log", "\n".join(log.lines))


def test_a_batch_shows_no_signature_beyond_its_parameters(
    upscaler, signed, tmp_path, api, log
) -> None:
    """Prefect records what is passed as plain text; nothing else may repeat it."""
    broken = f"{url_of(signed)}&gone".replace("/clip.mp4", "/none.mp4")
    state = upscale_videos([url_of(signed), broken], tmp_path, upscaler, **FAST, return_state=True)
    report = state.result()
    assert (len(report.stored), len(report.failed)) == (1, 1)
    run_id = state.state_details.flow_run_id
    APILogHandler().flush()
    assert_unseen("report", report.model_dump_json())
    assert_unseen("artifacts", json.dumps(api.artifacts(run_id)))
    assert_unseen("task runs", json.dumps(api.task_runs(run_id)))
    found = api.post("logs/filter", logs={"flow_run_id": {"any_": [str(run_id)]}})
    assert_unseen("logs", json.dumps(found))
    assert_unseen("debug log", "\n".join(log.lines))


def test_a_persisted_job_holds_no_key_of_its_store(upscaler, signed, s3) -> None:
    """Prefect pickles results; the store's settings hold keys, and travel in memory only."""
    secret = "canary-store-secret-5d1a"
    settings = {**s3.options, "secret": secret}
    place = RemoteFileSystem(basepath=f"{s3.url}/out", settings=settings)

    @flow(persist_result=True)
    def submitting() -> Any:
        return submit_upscale(signed, upscaler, place)

    before = set((HOME / "storage").glob("*"))
    job = submitting()
    assert job.destination.options == settings
    (file,) = set((HOME / "storage").glob("*")) - before
    assert_unseen("persisted job", file.read_bytes(), (secret, *CANARIES))
    assert_unseen("job", f"{job!r} {job.model_dump()} {job.model_dump_json()}", (secret, *CANARIES))
    for path in s3.fs.find(f"{s3.url}/out"):
        assert_unseen(path, s3.fs.cat_file(path), (secret, *CANARIES))
