"""Oxen.ai keeps the contract, and its own wire facts (docs/providers.md, section 1)."""

import json
from decimal import Decimal
from typing import Any

import pytest

from prefect_topaz import errors
from prefect_topaz.providers._base import reject_reason
from prefect_topaz.providers.oxen import OxenOptions, Provider
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.wire import Accepted, Refused, Reply, Unclear
from tests.providers.answers import reply
from tests.providers.contract import ProviderContract
from tests.providers.live import Shop, shop_of
from tests.providers.samples import SIGNED, SOURCE, Samples

STARLIGHT = "topazlabs-upscale-starlight-2-5-video"
GENERATION = "bb8f5eb7-361e-4e13-ab73-67457bc8057e"
LINK = "https://hub.oxen.ai/api/repos/ns/repo/files/x/video.mp4?signature=1"
TYPED = {  # [O2]
    "error": {"type": "invalid_params", "title": "Invalid parameters", "detail": "Field required"},
    "status": "error",
    "status_message": "invalid_params",
}
MISSING = {  # [O1]
    "error": {"type": "resource_not_found", "title": "The requested resource could not be found"},
    "status": "error",
    "status_message": "resource_not_found",
}


def row(word: str, **changes: Any) -> dict[str, Any]:
    """A row of the queue [O1][O6]."""
    return {
        "generation_id": GENERATION,
        "model_name": STARLIGHT,
        "media_type": "video",
        "status": word,
        "result_url": LINK if word == "succeeded" else None,
        "error_message": "Insufficient credits" if word == "failed" else None,
        "enqueued_at": 1775091431,
        "started_at": None,
        "completed_at": None,
        "input_video": SOURCE,
        "resolution": "4k",
        **changes,
    }


class TestOxen(ProviderContract):
    samples = Samples(
        dialect=Provider,
        options=OxenOptions,
        orders=(
            {"resolution": "1080p"},
            {"resolution": "1080p", "mode": "sync"},
            {"mode": "sync", "response_format": "b64_json"},
            {},
            {"num_generations": 4, "target_namespace": "team", "target_fps": 29.97},
            {"model": "topazlabs-hyperion-2-video"},
        ),
        refused=(
            ({"target_fps": 0}, ("target_fps 0", "1 to 60")),
            ({"target_fps": 61}, ("target_fps 61", "1 to 60")),
            ({"target_fps": float("nan")}, ("target_fps nan", "1 to 60")),
            ({"target_fps": float("inf")}, ("target_fps inf", "1 to 60")),
            ({"resolution": "8k"}, ("resolution '8k'", "1080p, 2k, 4k")),
            ({"resolution": "720p"}, ("resolution '720p'", "1080p, 2k, 4k")),
            ({"num_generations": 0}, ("num_generations 0", "1 to 4")),
            ({"num_generations": 5}, ("num_generations 5", "1 to 4")),
            ({"num_generations": 2, "mode": "sync"}, ("num_generations 2", "1 with mode='sync'")),
            ({"response_format": "b64_json"}, ("'b64_json'", "'url' with mode='queue'")),
            ({"model": "topaz"}, ("model 'topaz'", STARLIGHT)),
            ({"model_params": {"input_video": SOURCE}}, ("'input_video'", "none with")),
        ),
        job_ids=(GENERATION,),
        accepted={"generations": [{"generation_id": GENERATION, "status": "queued"}]},
        words={word: word for word in ("queued", "processing", "succeeded", "failed", "cancelled")},
        status=row,
        faults=(
            (400, TYPED, errors.RejectedParameters),
            (401, {"status": "error", "status_message": "unauthenticated"}, errors.Unauthorized),
            (402, {"error": "Insufficient credits"}, errors.InsufficientCredits),
            (403, {"error": {"message": "Not yours"}}, errors.AccessDenied),
            (404, MISSING, errors.NotFound),
            (404, {"error": {"message": "Model not found: x"}}, errors.NotFound),
            (415, {"error": {"message": ":unsupported_media_type"}}, errors.RejectedParameters),
            (429, {"error": {"message": "Rate limit exceeded"}}, errors.RateLimited),
            (500, {"error": {"type": "unknown_error"}}, errors.ProviderUnavailable),
            (503, {"error_message": "busy"}, errors.ProviderUnavailable),
        ),
        proving=frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429}),
    )

    @pytest.fixture
    def shop(self, sandbox, clip) -> Shop:
        return shop_of(sandbox, clip)


oxen = Provider()


def submitted(**options: Any) -> dict[str, Any]:
    call = oxen.submit(OxenOptions(**options).order(), SignedUrl(SIGNED), "key")
    return dict(call.json)


def test_only_what_was_asked_for_is_sent():
    assert submitted() == {
        "model": STARLIGHT,
        "input_video": SIGNED,
        "resolution": "4k",
        "num_generations": 1,
    }


def test_whoever_pays_is_named_and_asked_for_in_the_listings():
    assert submitted(target_namespace="team")["target_namespace"] == "team"
    calls = oxen.lookup(OxenOptions(target_namespace="team & co").order())
    assert all("namespace=team+%26+co" in call.url for call in calls)
    assert not any("namespace" in call.url for call in oxen.lookup(OxenOptions().order()))


def test_the_blocking_call_waits_and_may_answer_with_a_whole_video():
    call = oxen.submit(OxenOptions(mode="sync").order(), SignedUrl(SOURCE), "key")
    assert call.url.endswith("/api/ai/videos/generate")
    assert (call.json["response_format"], "num_generations" in call.json) == ("url", False)
    assert call.spool
    assert call.read_seconds >= 15 * 60
    queued = oxen.submit(OxenOptions().order(), SignedUrl(SOURCE), "key")
    assert queued.url.endswith("/api/ai/queue")
    assert (queued.spool, queued.read_seconds) == (False, None)


@pytest.mark.parametrize(
    "body",
    [
        {"videos": [{"url": LINK}]},
        {"video": {"url": LINK}},
        {"video_url": LINK},
    ],
)
def test_a_blocking_answer_has_its_link_in_one_of_three_places(body):
    order = OxenOptions(mode="sync").order()
    assert oxen.inline_result(reply(200, body)).reveal() == LINK
    assert oxen.read_submit(order, reply(200, body)) == Accepted(())


def test_a_blocking_answer_may_hold_the_video_itself(tmp_path):
    order = OxenOptions(mode="sync", response_format="b64_json").order()
    for answer in (
        reply(200, {"videos": [{"b64_json": "aGVsbG8="}]}),
        Reply(200, {}, b"", tmp_path / "spooled"),
    ):
        assert oxen.inline_result(answer) is None
        assert oxen.read_submit(order, answer) == Accepted(())


@pytest.mark.parametrize("body", [b"", b"{}", b'{"videos": []}', b'{"videos": [{"url": "x"}]}'])
def test_a_blocking_answer_without_a_video_is_unclear(body):
    order = OxenOptions(mode="sync").order()
    assert isinstance(oxen.read_submit(order, Reply(200, {}, body)), Unclear)


def test_an_older_page_shows_another_first_word():
    answer = reply(200, {"generations": [{"generation_id": "a", "status": "processing"}]})
    assert oxen.read_submit(OxenOptions().order(), answer) == Accepted(("a",))


def test_generations_of_which_one_has_no_id_are_unclear():
    """Whoever took the ones with an id for all of them would lose a paid one."""
    answer = reply(200, {"generations": [{"generation_id": "a"}, {"status": "queued"}]})
    assert isinstance(oxen.read_submit(OxenOptions(num_generations=2).order(), answer), Unclear)


def test_an_empty_list_with_an_error_is_no_refusal():
    answer = reply(200, {"generations": [], "error": {"message": "No capacity"}})
    verdict = oxen.read_submit(OxenOptions().order(), answer)
    assert isinstance(verdict, Unclear)
    assert "No capacity" in verdict.reason


@pytest.mark.parametrize(
    ("cost", "charged"),
    [
        *[("0.0374", "0.0374"), ("89.64", "89.64"), ("0", "0"), (" 1.5 ", "1.5"), ("1E-7", "1E-7")],
        *[(None, None), ("", None), ("free", None), ("NaN", None), ("²", None), (True, None)],
    ],
)
def test_the_charge_is_a_decimal_in_a_string(cost, charged):
    """[O6]; a float would make 0.0374 something else."""
    answer = reply(200, {"status": "success", "generation": row("succeeded", cost=cost)})
    found = oxen.read_details(GENERATION, answer).cost
    assert (found and found.charged) == (charged and Decimal(charged))


def test_the_queue_is_flat_and_the_history_is_wrapped():
    wrapped = {"status": "success", "status_message": "resource_found", "generation": row("queued")}
    assert oxen.read_details(GENERATION, reply(200, wrapped)).phase == "queued"
    with pytest.raises(errors.ProviderUnavailable):
        oxen.read_status(GENERATION, reply(200, wrapped))
    with pytest.raises(errors.ProviderUnavailable):
        oxen.read_details(GENERATION, reply(200, row("queued")))


@pytest.mark.parametrize(
    "link", [None, "", "video.mp4", "ftp://hub.oxen.ai/x", "http://[bad", "https://h:port/x", 7]
)
def test_a_success_without_a_link_is_no_end_yet(link):
    status = oxen.read_status(GENERATION, reply(200, row("succeeded", result_url=link)))
    assert (status.phase, status.results, status.is_final) == ("succeeded", (), False)


def test_what_a_failure_costs_is_not_documented():
    for word, billed in (("succeeded", "yes"), ("failed", "maybe"), ("cancelled", "maybe")):
        assert oxen.read_status(GENERATION, reply(200, row(word))).billed == billed


def candidates(**changes: Any) -> list[str]:
    rows = {"count": 1, "generations": [row("queued", **changes), None, {}]}
    digest = SignedUrl(SOURCE).digest
    found = oxen.read_lookup(OxenOptions().order(), digest, [reply(200, rows)] * 2)
    assert all(one.exact for one in found)
    return [one.job_id for one in found]


def test_a_job_is_known_by_the_echo_of_the_whole_request():
    assert candidates() == [GENERATION]
    assert candidates(input_video=f"{SOURCE}?other") == []
    assert candidates(resolution="1080p") == []
    assert candidates(model_name="topazlabs-video-upscale") == []
    assert candidates(resolution=None) == []


def test_a_listing_that_is_an_error_is_no_empty_listing():
    order = OxenOptions().order()
    good = reply(200, {"generations": []})
    for bad in (reply(500, {}), reply(200, {}), Reply(200, {}, b"<html>"), reply(401, MISSING)):
        with pytest.raises(errors.TopazError):
            oxen.read_lookup(order, "digest", [good, bad])


def test_both_listings_are_asked():
    """Whether the history shows unfinished rows is not documented."""
    active, history = oxen.lookup(OxenOptions().order())
    assert active.url.endswith(f"/api/ai/queue?model={STARLIGHT}")
    assert history.url.endswith(f"/api/ai/generations?model={STARLIGHT}&page_size=1000")


def test_a_refusal_names_the_next_step_and_the_vendors_words():
    error = oxen.read_error(reply(400, TYPED))
    assert "400 invalid_params: Field required" in str(error)
    assert "check the block's options" in str(error)
    assert isinstance(oxen.read_submit(OxenOptions().order(), reply(400, TYPED)), Refused)


def test_only_documented_statuses_prove_a_refusal():
    proving = {status for status in range(100, 600) if reject_reason(status)}
    assert proving == set(TestOxen.samples.proving)


def test_there_is_no_batch():
    assert oxen.batch(["a"]) is None
    assert oxen.read_batch(reply(200, {})) == {}


async def test_the_sandbox_takes_every_order_and_its_parameters(sandbox, clip):
    """The sandbox was written from the same documents by somebody else."""
    shop = shop_of(sandbox, clip)
    client = shop.client(Provider(sandbox.url))
    for order in TestOxen.samples.all_orders():
        reply = await client.submit(order, SignedUrl(shop.source), "k")
        assert isinstance(client.dialect.read_submit(order, reply), Accepted), json.dumps(
            order.options
        )
