"""One call over real sockets: what arrives, how often, and with what."""

import asyncio
import contextlib
import logging
import math
import socket
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from prefect_topaz import http
from prefect_topaz.errors import ProviderUnavailable
from prefect_topaz.transport import OutcomeLost, Transport
from prefect_topaz.wire import Call, Upload
from tests.core.servers import Server

KEY = "CANARY-KEY"
SIGNED = "?X-Amz-Signature=CANARY-SIGNATURE"


@pytest.fixture
def transport(naps):
    def make(*servers, origins=None):
        own = frozenset(server.url for server in servers) if origins is None else origins
        return Transport(SecretStr(KEY), own, sleep=naps, jitter=lambda: 1.0)

    return make


def paid(url, **options):
    return Call("POST", f"{url}/buy", repeatable=False, json={"a": 1}, **options)


def free(url, path="/look", **options):
    return Call("GET", f"{url}{path}", **options)


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as plug:
        return f"http://127.0.0.1:{plug.getsockname()[1]}"


def half(visit):
    visit.answer(200, b'{"id": "jo', announced=100)


def half_head(visit):
    visit.handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    visit.hang_up()


def not_http(visit):
    visit.handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")
    visit.hang_up()


FAULTS = {
    "hang up": lambda visit: visit.hang_up(),
    "reset": lambda visit: visit.reset(),
    "half an answer": half,
    "half a head": half_head,
    "not HTTP": not_http,
    "silence": lambda visit: visit.wait(),
    "broken gzip": lambda visit: visit.answer(200, b"no gzip", content_encoding="gzip"),
    "a location that is none": lambda visit: visit.answer(302, location="javascript:x?y"),
    "too large": lambda visit: visit.answer(200, b"x" * (http.MAX_BODY + 1)),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_paid_call_whose_answer_is_lost_arrives_exactly_once(
    fault, serving, transport, naps
):
    server = serving(FAULTS[fault])
    with pytest.raises(OutcomeLost, match="left, but no answer came"):
        await transport(server).send(paid(server.url, read_seconds=0.2))
    assert [visit.method for visit in server.visits] == ["POST"]
    assert naps.taken == []


@pytest.mark.parametrize("fault", ["hang up", "reset", "half an answer", "silence", "not HTTP"])
async def test_a_free_call_is_sent_again_with_growing_waits(fault, serving, transport, naps):
    server = serving(FAULTS[fault])
    with pytest.raises(ProviderUnavailable, match="failed 4 times"):
        await transport(server).send(free(server.url, read_seconds=0.1))
    assert len(server.visits) == 4
    assert naps.taken == [1.0, 2.0, 4.0]


async def test_a_server_that_accepts_and_closes_gets_a_paid_call_once(serving, transport, naps):
    server = serving(mute=True)
    with pytest.raises(OutcomeLost):
        await transport(server).send(paid(server.url))
    assert server.connections == 1
    assert naps.taken == []


@pytest.mark.parametrize("call", [paid, free])
@pytest.mark.parametrize("where", [closed_port, lambda: "http://nonexistent.invalid"])
async def test_what_never_left_is_repeated_and_bought_nothing(call, where, transport, naps):
    with pytest.raises(ProviderUnavailable) as caught:
        await transport(origins=frozenset()).send(call(where()))
    assert caught.value.billed == "no"
    assert "failed 4 times: ConnectError" in str(caught.value)
    assert naps.taken == [1.0, 2.0, 4.0]


async def test_a_paid_call_that_never_left_arrives_once_when_the_server_is_up():
    url = closed_port()
    with contextlib.ExitStack() as stack:
        server = Server(port=urlsplit(url).port)

        async def start(_seconds):
            stack.enter_context(server)

        sender = Transport(SecretStr(KEY), frozenset(), sleep=start, jitter=lambda: 1.0)
        reply = await sender.send(paid(url))
    assert (reply.status, server.count("POST")) == (200, 1)


async def test_a_paid_call_repeats_429_and_takes_any_other_answer(serving, transport, naps):
    def busy_twice(visit):
        visit.answer(429 if visit.number < 3 else 502, b"x", retry_after="7")

    server = serving(busy_twice)
    reply = await transport(server).send(paid(server.url))
    assert (reply.status, server.count("POST")) == (502, 3)
    assert naps.taken == [7.0, 7.0]


async def test_a_busy_provider_is_answered_after_the_last_attempt(serving, transport):
    server = serving(lambda visit: visit.answer(429, b'{"error": "slow down"}'))
    reply = await transport(server).send(paid(server.url), attempts=2)
    assert (reply.status, reply.object()) == (429, {"error": "slow down"})
    assert server.count("POST") == 2


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_free_call_goes_on_when_the_server_has_recovered(status, serving, transport, naps):
    def recover(visit):
        visit.answer(status if visit.number < 3 else 200, b"{}")

    server = serving(recover)
    reply = await transport(server).send(free(server.url))
    assert (reply.status, len(server.visits), naps.taken) == (200, 3, [1.0, 2.0])


async def test_a_wait_beyond_the_callers_patience_ends_the_attempts(serving, transport, naps):
    server = serving(lambda visit: visit.answer(429, retry_after="30"))
    reply = await transport(server).send(paid(server.url), patience=45)
    assert (reply.status, server.count("POST"), naps.taken) == (429, 2, [30.0])


async def test_patience_ends_a_call_that_never_left(transport, naps):
    with pytest.raises(ProviderUnavailable, match="failed 2 times"):
        await transport(origins=frozenset()).send(paid(closed_port()), patience=2)
    assert naps.taken == [1.0]


async def test_delays_are_stretched_by_the_jitter(serving, naps):
    server = serving(lambda visit: visit.answer(503 if visit.number == 1 else 200))
    own = frozenset({server.url})
    await Transport(SecretStr(KEY), own, sleep=naps, jitter=lambda: 1.2).send(free(server.url))
    assert naps.taken == [1.2]
    assert math.isinf(Transport.send.__kwdefaults__["patience"])


async def test_the_key_goes_to_its_own_origin_only(serving, transport):
    server = serving()
    sender = transport(server)
    await sender.send(free(server.url))
    await sender.send(free(server.other_url))
    own, other = server.visits
    assert own.headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in other.headers
    assert KEY not in str(other.headers)


@pytest.mark.parametrize(
    ("status", "body"), [(401, b"wrong key: <API key>"), (200, b"wrong key: CANARY-KEY")]
)
async def test_a_refusal_that_quotes_the_key_is_read_without_it(status, body, serving, transport):
    """What the provider did must stay as it said it; why it refused goes into messages."""
    server = serving(lambda visit: visit.answer(status, b"wrong key: CANARY-KEY"))
    assert (await transport(server).send(paid(server.url))).body == body


async def test_an_answer_is_not_searched_for_a_key_that_is_a_mere_word(serving, naps):
    server = serving(lambda visit: visit.answer(400, b"no such model"))
    sender = Transport(SecretStr("model"), frozenset(), sleep=naps)
    assert (await sender.send(paid(server.url))).body == b"no such model"


async def test_no_redirect_is_followed_by_a_call(serving, transport):
    server = serving(lambda visit: visit.answer(307, location=f"{server.other_url}/elsewhere"))
    sender = transport(server)
    assert (await sender.send(paid(server.url))).status == 307
    assert (await sender.send(free(server.url))).status == 307
    assert [visit.target for visit in server.visits] == ["/buy", "/look"]


async def test_every_request_names_this_package(serving, transport):
    server = serving()
    await transport(server).send(free(server.url, headers={"Idempotency-Key": "k"}))
    headers = server.visits[0].headers
    assert headers["user-agent"] == http.USER_AGENT
    assert headers["user-agent"].startswith("prefect-topaz/")
    assert headers["idempotency-key"] == "k"


async def test_paid_calls_take_a_fresh_connection_and_polls_share_one(serving, transport):
    server = serving(lambda visit: visit.answer(200, b"{}"))
    sender = transport(server)
    async with http.connections():
        for _ in range(3):
            await sender.send(free(server.url))
        polls = {visit.connection for visit in server.visits}
        for _ in range(3):
            await sender.send(paid(server.url))
    buys = [visit.connection for visit in server.visits if visit.method == "POST"]
    assert len(polls) == 1
    assert len({*buys, *polls}) == 4


async def test_no_cookie_ties_one_account_to_another(serving, transport):
    server = serving(lambda visit: visit.answer(200, b"{}", set_cookie="session=one; Path=/"))
    sender = transport(server)
    async with http.connections():
        for _ in range(2):
            await sender.send(free(server.url))
            await sender.send(paid(server.url))
    assert len(server.visits) == 4
    assert not [visit for visit in server.visits if "cookie" in visit.headers]


async def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    serving, transport, monkeypatch
):
    server = serving()
    monkeypatch.setenv("HTTP_PROXY", closed_port())
    monkeypatch.setenv("ALL_PROXY", closed_port())
    monkeypatch.delenv("NO_PROXY", raising=False)
    sender = transport(server)
    assert (await sender.send(paid(server.url), attempts=1)).status == 200
    assert (await sender.send(free(server.other_url), attempts=1)).status == 200


async def test_an_upload_sends_the_whole_file_again_when_repeated(serving, transport, tmp_path):
    server = serving(lambda visit: visit.answer(503 if visit.number == 1 else 200, b"{}"))
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"video" * 50_000)
    content = partial(file.open, "rb")
    size = file.stat().st_size
    upload = Upload(content, part="file", name="clip é.mp4", size=size, fields={"folder": "x"})
    await transport(server).send(Call("POST", server.url, upload=upload))
    first, second = server.visits
    for visit in (first, second):
        assert visit.headers["content-type"].startswith("multipart/form-data")
        assert b"video" * 50_000 in visit.body
        assert b'name="folder"' in visit.body


@pytest.mark.parametrize("size", [0, 10, http.MAX_BODY])
async def test_a_spooled_answer_that_is_small_stays_in_memory(size, serving, transport, spool):
    server = serving(lambda visit: visit.answer(200, b"x" * size))
    reply = await transport(server).send(paid(server.url, spool=True))
    assert (len(reply.body), reply.spooled) == (size, None)
    assert list(spool.iterdir()) == []


async def test_a_spooled_answer_that_is_large_goes_to_a_file(serving, transport, spool):
    body = b"xy" * http.MAX_BODY
    server = serving(lambda visit: visit.answer(200, body))
    reply = await transport(server).send(paid(server.url, spool=True))
    assert reply.body == b""
    assert reply.spooled.read_bytes() == body
    assert list(spool.iterdir()) == [reply.spooled]


async def test_a_spooled_answer_that_is_cut_leaves_no_file(serving, transport, spool):
    cut = b"x" * (2 * http.MAX_BODY)
    server = serving(lambda visit: visit.answer(200, cut, announced=len(cut) + 1))
    with pytest.raises(OutcomeLost):
        await transport(server).send(paid(server.url, spool=True))
    assert list(spool.iterdir()) == []


async def test_a_cancelled_call_leaves_no_file(serving, transport, spool):
    server = serving(stall)
    task = asyncio.ensure_future(transport(server).send(paid(server.url, spool=True)))
    while not list(spool.iterdir()):  # noqa: ASYNC110  # a file raises no event
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(spool.iterdir()) == []


def stall(visit):
    visit.handler.send_response(200)
    visit.handler.send_header("Content-Length", "100")
    visit.handler.end_headers()
    visit.handler.wfile.write(b"x")
    visit.wait()


@pytest.fixture
def spool(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


async def test_a_large_answer_to_a_free_call_is_an_error(serving, transport):
    server = serving(lambda visit: visit.answer(200, b"x" * (http.MAX_BODY + 1)))
    with pytest.raises(ProviderUnavailable, match="too large"):
        await transport(server).send(free(server.url), attempts=1)


def shown(caplog):
    formatter = logging.Formatter("%(name)s %(message)s")
    return "\n".join(formatter.format(record) for record in caplog.records)


REDIRECTS = ["{other}/x" + SIGNED, "/x" + SIGNED, "//me:CANARY@host/x" + SIGNED]


@pytest.mark.parametrize("location", REDIRECTS)
async def test_no_log_line_of_ours_shows_a_signature_or_the_key(
    location, serving, transport, caplog
):
    caplog.set_level(logging.DEBUG)

    def serve(visit):
        target = location.format(other=server.other_url)
        visit.answer(302, location=target, set_cookie="session=CANARY", echo=KEY)

    server = serving(serve)
    sender = transport(server)
    await sender.send(free(server.url, f"/files/a.mp4{SIGNED}"))
    await sender.send(Call("POST", f"{server.url}/{SIGNED}", repeatable=False))
    with pytest.raises(ProviderUnavailable):
        await transport(origins=frozenset()).send(free(closed_port(), f"/x{SIGNED}"))
    assert "CANARY" not in shown(caplog)
    names = {record.name for record in caplog.records}
    assert {"httpx", "httpcore.http11", "httpcore.connection"} <= names
    assert f"{server.url}/files/a.mp4" in shown(caplog)


async def test_other_peoples_requests_log_as_usual(serving, transport, caplog):
    caplog.set_level(logging.DEBUG)
    server = serving(lambda visit: visit.answer(200, location="/x?theirs=1"))
    async with httpx.AsyncClient() as client:
        await asyncio.gather(
            client.get(f"{server.url}/theirs?a=b"),
            transport(server).send(free(server.url, f"/ours{SIGNED}")),
        )
        await client.get(f"{server.url}/later?c=d")
    text = shown(caplog)
    assert f"{server.url}/theirs?a=b" in text
    assert f"{server.url}/later?c=d" in text
    assert "/x?theirs=1" in text
    assert "CANARY" not in text
