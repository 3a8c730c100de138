"""The verbs of a client against both stand-ins, in no time."""

import json
from datetime import datetime, timezone
from functools import partial

import pytest
from pydantic import SecretStr

from prefect_topaz.client import SUBMIT_PATIENCE, Client
from prefect_topaz.errors import (
    InvalidRequest,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    Unauthorized,
    UnusableSource,
)
from prefect_topaz.providers import load
from prefect_topaz.providers.evolink import EvoLinkOptions
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sandbox import Sandbox, make_clip
from prefect_topaz.transport import OutcomeLost
from prefect_topaz.wire import Accepted, Refused, Upload

Oxen, EvoLink = load("oxen"), load("evolink")
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
OXEN_ORDER = OxenOptions(resolution="1080p").order()
EVOLINK_ORDER = EvoLinkOptions(upscale_factor=2).order()
KEY = "sandbox-key"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny clip."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, seconds=0.5, size=(64, 36), fps=10, audio=False)


@pytest.fixture(scope="module")
def source(sandbox, clip):
    """The clip, where the stand-ins can read it."""
    return SignedUrl(sandbox.host(clip, "client.mp4") + "?X-Amz-Signature=S")


@pytest.fixture
def connect(naps):
    """Make clients that wait in no time."""

    def make(kind, url, key=KEY):
        return Client(kind(url), SecretStr(key), sleep=naps, now=lambda: NOON, jitter=lambda: 1.0)

    return make


async def bought(client, order, source):
    reply = await client.submit(order, source, "key-0123456789abcdef")
    verdict = client.dialect.read_submit(order, reply)
    assert isinstance(verdict, Accepted)
    return verdict.job_ids


async def ended(client, job_id):
    """Look until a job has ended; the stand-in really works meanwhile."""
    for _ in range(2000):
        if (await client.status(job_id)).is_final:
            return
    raise AssertionError("the job did not end")


def oxen_row(status, job_id="gen_1"):
    return {"generation_id": job_id, "status": status, "model_name": OXEN_ORDER.model}


@pytest.mark.parametrize("kind", [Oxen, EvoLink])
async def test_a_good_key_is_told_from_a_bad_one(kind, sandbox, connect):
    await connect(kind, sandbox.url).check()
    with pytest.raises(Unauthorized) as caught:
        await connect(kind, sandbox.url, "CANARY").check()
    assert caught.value.billed == "no"
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>Just a moment...</html>", b"", b"null"])
async def test_a_check_that_is_not_answered_in_json_proves_no_key(body, serving, connect):
    server = serving(lambda visit: visit.answer(200, body))
    with pytest.raises(ProviderUnavailable, match="unreadable"):
        await connect(Oxen, server.url).check()


@pytest.mark.parametrize(("kind", "order"), [(Oxen, OXEN_ORDER), (EvoLink, EVOLINK_ORDER)])
async def test_an_order_is_bought_once_and_looked_at(kind, order, sandbox, source, connect):
    client = connect(kind, sandbox.url)
    before = sandbox.ledger.submits
    (job_id,) = await bought(client, order, source)
    assert sandbox.ledger.submits == before + 1
    status = await client.status(job_id)
    assert status.job_id == job_id
    assert set(await client.statuses([job_id, "task-unknown"])) == {job_id}


async def test_a_lost_answer_of_a_purchase_is_not_asked_for_again(sandbox, source, connect, naps):
    sandbox.fault("submit", "cut", provider="oxen")
    before = sandbox.ledger.submits
    with pytest.raises(OutcomeLost):
        await connect(Oxen, sandbox.url).submit(OXEN_ORDER, source, "key-0123456789abcdef")
    assert sandbox.ledger.submits == before + 1
    assert naps.taken == []


async def test_a_busy_provider_is_waited_for_within_the_patience_of_a_purchase(
    sandbox, source, connect, naps
):
    sandbox.fault("submit", "429", times=3, retry_after=20, provider="oxen")
    client = connect(Oxen, sandbox.url)
    reply = await client.submit(OXEN_ORDER, source, "key-0123456789abcdef")
    verdict = client.dialect.read_submit(OXEN_ORDER, reply)
    assert isinstance(verdict, Refused)
    assert isinstance(verdict.error, RateLimited)
    assert naps.taken == [20.0, 20.0]
    assert sum(naps.taken) <= SUBMIT_PATIENCE


async def test_a_job_is_cancelled_and_read_back(sandbox, source, connect, clip):
    with Sandbox() as slow:
        client = connect(Oxen, slow.url)
        slow.fault("job", "delay", seconds=30)
        (job_id,) = await bought(client, OXEN_ORDER, SignedUrl(slow.host(clip)))
        outcome = await client.cancel(job_id)
    assert (outcome.outcome, outcome.phase, outcome.reply) == ("cancelled", "cancelled", "200 ok")
    assert outcome.job_id == job_id


async def test_a_job_that_has_ended_is_not_cancelled(sandbox, source, connect):
    client = connect(Oxen, sandbox.url)
    (job_id,) = await bought(client, OXEN_ORDER, source)
    await ended(client, job_id)
    outcome = await client.cancel(job_id)
    assert (outcome.outcome, outcome.phase) == ("already_finished", "succeeded")


async def test_evolink_has_no_call_to_cancel_and_says_so(sandbox, connect):
    before = len(sandbox.requests())
    outcome = await connect(EvoLink, sandbox.url).cancel("task-1")
    assert (outcome.outcome, outcome.phase) == ("not_supported", None)
    assert "runs on and is charged" in outcome.reply
    assert len(sandbox.requests()) == before


async def test_cancelling_is_read_back_until_the_job_has_ended(serving, connect, naps):
    words = iter(["processing", "processing", "cancelled"])

    def serve(visit):
        word = "processing" if visit.method == "DELETE" else next(words)
        visit.answer_json(oxen_row(word))

    outcome = await connect(Oxen, serving(serve).url).cancel("gen_1")
    assert outcome.outcome == "cancelled"
    assert naps.taken == [0.0, 1.0, 2.0]


async def test_a_job_that_will_not_end_leaves_the_outcome_unknown(serving, connect, naps):
    server = serving(lambda visit: visit.answer_json(oxen_row("processing")))
    outcome = await connect(Oxen, server.url).cancel("gen_1")
    assert (outcome.outcome, outcome.phase) == ("unknown", "processing")
    assert naps.taken == [0.0, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("answer", [(404, {"error": {"detail": "no"}}), (200, ["?"])])
async def test_a_cancel_that_is_not_understood_is_unknown_and_never_raises(
    answer, serving, connect
):
    status, body = answer
    server = serving(lambda visit: visit.answer_json(body, status))
    outcome = await connect(Oxen, server.url).cancel("gen_1")
    assert outcome.outcome == "unknown"
    assert outcome.reply


async def test_many_jobs_are_looked_at_fifty_a_call(serving, connect):
    def serve(visit):
        rows = [{"id": one, "status": "processing"} for one in json.loads(visit.body)["task_ids"]]
        visit.answer_json({"data": rows})

    server = serving(serve)
    ids = [f"task-{number}" for number in range(120)]
    assert set(await connect(EvoLink, server.url).statuses(ids)) == set(ids)
    assert [len(json.loads(visit.body)["task_ids"]) for visit in server.visits] == [50, 50, 20]


async def test_jobs_that_the_provider_does_not_know_are_absent(serving, connect):
    def serve(visit):
        job_id = visit.target.rpartition("/")[2]
        if job_id == "gen_1":
            visit.answer_json(oxen_row("processing"))
        else:
            visit.answer_json({"error": {"detail": "no"}}, 404)

    found = await connect(Oxen, serving(serve).url).statuses(["gen_1", "gen_2"])
    assert set(found) == {"gen_1"}


async def test_a_single_look_may_be_limited_to_one_attempt(serving, connect):
    server = serving(lambda visit: visit.answer_json({"error": "x"}, 503))
    with pytest.raises(ProviderUnavailable):
        await connect(Oxen, server.url).status("gen_1", attempts=1)
    assert len(server.visits) == 1


async def test_the_history_tells_the_cost_and_forgets_politely(sandbox, source, connect):
    client = connect(Oxen, sandbox.url)
    (job_id,) = await bought(client, OXEN_ORDER, source)
    await ended(client, job_id)
    details = await client.details(job_id)
    assert details.cost.charged is not None
    assert await client.details("gen_unknown") is None
    assert await connect(EvoLink, sandbox.url).details("task-1") is None


async def test_the_listings_show_what_was_bought(sandbox, source, connect):
    client = connect(Oxen, sandbox.url)
    (job_id,) = await bought(client, OXEN_ORDER, source)
    found = await client.lookup(OXEN_ORDER, source.digest)
    assert job_id in {one.job_id for one in found}
    assert all(one.exact for one in found)
    other = SignedUrl("https://host/another.mp4")
    assert await client.lookup(OXEN_ORDER, other.digest) == ()


async def test_a_listing_that_is_refused_is_no_empty_listing(sandbox, connect):
    with pytest.raises(Unauthorized):
        await connect(Oxen, sandbox.url, "wrong").lookup(OXEN_ORDER, "0")


async def test_a_file_is_uploaded_where_there_is_a_store_for_it(sandbox, clip, connect):
    upload = Upload(partial(clip.open, "rb"), "file", "clip.mp4", clip.stat().st_size)
    found = await connect(EvoLink, sandbox.url).upload(upload)
    assert found.url.reveal().startswith(sandbox.url)
    with pytest.raises(UnusableSource, match="oxen has no store of its own"):
        await connect(Oxen, sandbox.url).upload(upload)


async def test_the_key_is_for_results_on_the_providers_own_origin(sandbox, connect):
    oxen, evolink = connect(Oxen, sandbox.url), connect(EvoLink, sandbox.url)
    link = f"{sandbox.url}/files/a.mp4"
    assert oxen.result_headers(link) == {"Authorization": f"Bearer {KEY}"}
    assert oxen.result_headers("https://elsewhere.example/a.mp4") == {}
    assert evolink.result_headers(link) == {}


async def test_a_status_of_an_unknown_job_is_not_found(sandbox, connect):
    with pytest.raises(NotFound):
        await connect(Oxen, sandbox.url).status("gen_unknown")


async def test_a_pasted_key_loses_its_line_end(sandbox, connect):
    await connect(Oxen, sandbox.url, f" {KEY}\r\n").check()


@pytest.mark.parametrize(
    "key", ["", "  ", "CANARY\nX-Evil: 1", "CANARYé", "CANARY\x00", "\u200bCANARY"]
)
def test_a_key_that_no_header_can_carry_is_refused_before_any_order(key):
    """The HTTP library would refuse it in the middle of a purchase, and quote it."""
    with pytest.raises(InvalidRequest, match="copy it anew") as caught:
        Client(Oxen(), SecretStr(key))
    assert "CANARY" not in str(caught.value)


def test_a_client_never_shows_its_key():
    client = Client(Oxen(), SecretStr("CANARY"))
    assert "CANARY" not in f"{client!r} {client.transport!r} {vars(client)}"


async def test_a_check_at_evolink_asks_for_models_and_credits_and_buys_nothing(sandbox, connect):
    seen = len(sandbox.requests())
    await connect(EvoLink, sandbox.url).check()
    asked = [(one.method, one.path) for one in sandbox.requests()[seen:]]
    assert asked == [("GET", "/v1/models"), ("GET", "/v1/credits")]
