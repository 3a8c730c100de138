"""The key and a signed query appear in no file, no log line, no value and no exception."""

import logging
import pickle
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from prefect_topaz import engine, http
from prefect_topaz.errors import InvalidRequest, TopazError
from prefect_topaz.models import Place
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.sandbox import Sandbox
from tests.engine.bench import PROVIDERS, Bench, Clock

KEY = "CANARY-KEY-5d1f0c"
SIGNED = "CANARY-SIGNATURE-77ab"
# Ours, the sandbox's on its result links, and what a bad quotation leaves of one.
SECRET = re.compile(f"{KEY}|{SIGNED}|ignature[=%]|expires=")
THEIRS = ("topaz-sandbox", "AnyIO worker thread")


@pytest.fixture
def bench(clip, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    clock = Clock()
    with Sandbox(api_key=KEY, reads=1, clock=clock.unix) as sandbox:
        temporary.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        bench = Bench(sandbox, clock, tmp_path, clip)
        bench.query = f"?X-Amz-Credential=me&X-Amz-Signature={SIGNED}&response=a%20b"
        yield bench


@pytest.fixture(autouse=True)
def nothing_shows(request, tmp_path) -> Iterator[None]:
    """Look at all that a test left behind, once it is over."""
    with listening() as lines:
        yield
    found = [line for line in lines if SECRET.search(line)]
    assert found == []
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".mp4":
            content = path.read_bytes().decode("utf-8", "replace")
            assert not SECRET.search(content), f"{path.name}: {content}"
            assert not SECRET.search(path.name)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what every logger of the client says, at the most talkative level."""
    lines: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # The sandbox lives in this process, and reads its inputs by their whole URL.
            if not (record.threadName or "").startswith(THEIRS):
                lines.append(f"{record.name} {self.format(record)} {record.args!r}")

    root, ear = logging.getLogger(), Ear(level=logging.DEBUG)
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(ear)
        root.setLevel(level)


def shows(value: Any) -> list[str]:
    """Give every way in which a value may come to light."""
    texts = [str(value), repr(value), pickle.dumps(value).decode("latin-1"), repr(vars(value))]
    if isinstance(value, BaseException):
        texts += traceback.format_exception(value)
        texts.append("".join(traceback.TracebackException.from_exception(value).format()))
    else:
        texts += [value.model_dump_json(), str(value.model_dump(mode="json"))]
    return texts


def check(value: Any) -> None:
    for text in shows(value):
        assert not SECRET.search(text), text


async def attempt(bench: Bench, provider: str, **changes: Any) -> BaseException | None:
    """Deliver from a signed URL, look at every value on the way, and at the error."""
    try:
        purchase = await bench.purchase(
            provider, url=bench.sandbox.host(bench.clip) + bench.query, **changes
        )
        check(purchase.source.facts)
        context = bench.context(provider)
        job = await engine.submit(context, purchase)
        check(job)
        finished = await engine.wait(context, job)
        check(finished)
        for video in await engine.store(context, finished, source=purchase.source):
            check(video)
    except TopazError as error:
        check(error)
        return error
    finally:
        for line in bench.lines:
            assert not SECRET.search(line), line
    return None


providers = pytest.mark.parametrize("provider", PROVIDERS)


@providers
async def test_a_delivery_shows_nothing(bench: Bench, provider):
    assert await attempt(bench, provider) is None
    assert any(SIGNED in str(one.request) for one in bench.sandbox.purchases())
    assert await attempt(bench, provider) is None


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
async def test_a_blocking_delivery_shows_nothing(bench: Bench, response_format, monkeypatch):
    monkeypatch.setattr(http, "MAX_BODY", 2000)
    options = OxenOptions(resolution="1080p", mode="sync", response_format=response_format)
    assert await attempt(bench, "oxen", order=options.order()) is None


def echo(bench: Bench) -> str:
    """What a provider may say, whole URL and all."""
    url = bench.sandbox.host(bench.clip) + bench.query
    return f"cannot read '{url}' (tried <{url}>, {url}); sent {url}"


# operation, kind, times, details; {echo} becomes a message that quotes the signed URL.
TROUBLES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "order refused": ("submit", "refused", 1, {"status": 400, "message": "{echo}"}),
    "order in trouble": ("submit", "refused", 1, {"status": 500, "message": "{echo}"}),
    "key refused": ("submit", "refused", 1, {"status": 401}),
    "order cut": ("submit", "cut", 1, {}),
    "order unread": ("submit", "garbage", 1, {}),
    "job failed": ("job", "fail", 1, {"message": "{echo}"}),
    "job forgotten": ("status", "forget", 1, {}),
    "look refused": ("status", "refused", 1, {"status": 403, "message": "{echo}"}),
    "look in trouble": ("status", "refused", 2, {"status": 500, "message": "{echo}"}),
    "result gone": ("result", "gone", 9, {}),
    "result expired": ("result", "expire", 9, {}),
    "result a page": ("result", "html", 9, {}),
    "result cut": ("result", "truncate", 2, {}),
    "result short": ("result", "short", 9, {"fraction": 0.001}),
    "result elsewhere": ("result", "redirect", 1, {}),
    "result in a loop": ("result", "redirect", 9, {}),
    "wrong result": ("job", "wrong_video", 1, {"what": "duration"}),
    "silent result": ("job", "wrong_video", 1, {"what": "silent"}),
    "source cut": ("media", "cut", 30, {}),
    "source gone": ("media", "gone", 30, {}),
    "source denied": ("media", "expire", 30, {}),
    "source a page": ("media", "html", 30, {}),
}


@providers
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_trouble_shows_nothing(bench: Bench, provider, trouble):
    operation, kind, times, details = TROUBLES[trouble]
    if "message" in details:
        details = {**details, "message": details["message"].format(echo=echo(bench))}
    bench.sandbox.fault(operation, kind, times=times, **details)
    await attempt(bench, provider)
    await attempt(bench, provider)


@providers
async def test_a_provider_that_is_away_shows_nothing(bench: Bench, provider):
    purchase = await bench.purchase(provider, url=bench.sandbox.host(bench.clip) + bench.query)
    bench.sandbox.stop()
    with pytest.raises(TopazError) as caught:
        await engine.submit(bench.context(provider), purchase)
    check(caught.value)


async def test_a_destination_that_fails_shows_nothing(bench: Bench):
    (bench.folder / "file").write_bytes(b"")
    place = Place(url=f"{bench.folder}/file/out/")
    assert await attempt(bench, "oxen", destination=place, journal=bench.place()) is not None


@providers
async def test_a_cancel_shows_nothing(bench: Bench, provider):
    url = bench.sandbox.host(bench.clip) + bench.query
    job = await bench.submit(provider, url=url)
    check(await engine.cancel(bench.context(provider), job))


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}\t", f"{KEY}\r\n"])
@providers
async def test_a_key_pasted_with_its_line_end_works(bench: Bench, provider, key):
    """httpx quotes a header that it cannot send, and an order would be on record as unknown."""
    await bench.submit(provider, bench.context(provider, key=key))
    assert len(bench.bought) == 1


@pytest.mark.parametrize(
    "key", ["", " ", f"{KEY}\n{KEY}", f"{KEY}\u00e9", f"{KEY}\u200b", f"{KEY}\0"]
)
def test_a_key_that_cannot_be_sent_is_refused_unseen(bench: Bench, key):
    with pytest.raises(InvalidRequest, match="copy it anew") as caught:
        bench.client(key=key)
    check(caught.value)


@providers
async def test_a_key_that_the_provider_quotes_is_dropped(bench: Bench, provider):
    message = f"Incorrect API key provided: {KEY}. Find it in your account."
    bench.sandbox.fault("submit", "refused", status=401, message=message)
    error = await attempt(bench, provider)
    assert "Incorrect API key provided: <API key>. Find it" in str(error)
    bench.sandbox.fault("submit", "refused", status=500, message=message)
    assert "<API key>" in str(await attempt(bench, provider))
