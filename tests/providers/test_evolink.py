"""EvoLink keeps the contract, and its own wire facts (docs/providers.md, section 2)."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from prefect_topaz import errors
from prefect_topaz.engine.purchase import idempotency_key
from prefect_topaz.providers.evolink import EvoLinkOptions, Provider
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.wire import Refused, Reply, Unclear
from tests.engine.bench import Bench
from tests.providers.answers import reply
from tests.providers.contract import ProviderContract
from tests.providers.live import Shop, shop_of
from tests.providers.samples import SIGNED, SOURCE, Samples

TASK = "task-unified-1757169743-7cvnl5zw"
LINK = "https://media.evolink.ai/x.mp4?sig=1"
CREATED = {  # [seed]
    "created": 1757169743,
    "id": TASK,
    "model": "topaz-video-upscale",
    "object": "video.generation.task",
    "progress": 0,
    "status": "pending",
    "task_info": {"can_cancel": True, "estimated_time": 600, "video_duration": 0},
    "type": "video",
    "usage": {"billing_rule": "per_second", "credits_reserved": 28.8, "user_group": "default"},
}


def error(code: Any, kind: str = "invalid_request_error") -> dict[str, Any]:
    """The body of an error [seed]."""
    return {"error": {"code": code, "message": f"about {code}", "type": kind}}


def task(word: str, **changes: Any) -> dict[str, Any]:
    """A task as it is read [E1]."""
    body = {**CREATED, "status": word, "task_info": {"can_cancel": False}}
    if word == "completed":
        body |= {"progress": 100, "results": [LINK]}
    if word == "failed":
        body |= error("service_error", "task_error")
    return {**body, **changes}


CREDITS = {  # [E5]
    "error": {"code": 401, "message": "no", "type": "x", "fallback_suggestion": "check the key"}
}


class TestEvoLink(ProviderContract):
    samples = Samples(
        dialect=Provider,
        options=EvoLinkOptions,
        orders=(
            {},
            {"upscale_factor": "4"},
            {"upscale_factor": 1, "callback_url": "https://example.com/hook?token=CANARY"},
        ),
        refused=(
            *(
                ({"upscale_factor": factor}, (f"upscale_factor {factor!r}", "1, 2, 4"))
                for factor in (3, "3", 0, -1, 1.5, 4.0000001, "2.0", "2x", "", " 2", 8, "true")
            ),
            *(
                ({"callback_url": url}, ("callback_url", "https URL of at most 2048 characters"))
                for url in ("http://example.com/", "https://10.0.0.1/", "https://127.0.0.1/")
            ),
        ),
        job_ids=(TASK,),
        accepted=CREATED,
        words={
            "pending": "queued",
            "processing": "processing",
            "completed": "succeeded",
            "failed": "failed",
            "cancelled": "cancelled",
        },
        status=task,
        faults=(
            (400, error("invalid_parameter"), errors.RejectedParameters),
            (400, error("video_probe_failed"), errors.RejectedParameters),
            (400, error("invalid_task_id"), errors.RejectedParameters),
            (401, error("unauthorized"), errors.Unauthorized),
            (401, CREDITS, errors.Unauthorized),
            (402, error("insufficient_quota"), errors.InsufficientCredits),
            (402, error("quota_exceeded"), errors.InsufficientCredits),
            (403, error("model_access_denied"), errors.AccessDenied),
            (403, error("permission_denied"), errors.AccessDenied),
            (404, error("task_not_found"), errors.NotFound),
            (413, {"success": False, "code": 413, "msg": "too large"}, errors.RejectedParameters),
            (429, error("rate_limit_exceeded", "evo_api_error"), errors.RateLimited),
            (500, error("internal_error"), errors.ProviderUnavailable),
            (502, error("upstream_error"), errors.ProviderUnavailable),
            (503, {"error": {"code": 503, "message": "busy"}}, errors.ProviderUnavailable),
        ),
        proving=frozenset({401, 402, 403, 413, 429}),
        codes=frozenset(
            {
                *("invalid_parameter", "invalid_request", "missing_required_params"),
                *("missing_video_urls", "video_probe_failed", "insufficient_quota"),
                *("insufficient_user_quota", "quota_not_enough", "account_balance_insufficient"),
                *("key_quota_exhausted", "insufficient_token_quota", "token_daily_quota_exceeded"),
                *("key_daily_quota_exhausted", "unauthorized", "key_disabled", "key_expired"),
                *("model_access_denied", "key_model_not_allowed", "user_disabled"),
                "rate_limit_exceeded",
            }
        ),
        coded=error,
        unreadable=(
            *("", " ", "clip.mov", "https://example.com/clip.mov?X-Amz-Signature=CANARY"),
            *("https://example.com/clip?name=x.mp4&sig=CANARY", "https://[bad.mp4?sig=CANARY"),
        ),
    )

    @pytest.fixture
    def shop(self, sandbox, clip) -> Shop:
        return shop_of(sandbox, clip)


evolink = Provider()


def test_only_what_was_asked_for_is_sent():
    call = evolink.submit(EvoLinkOptions().order(), SignedUrl(SIGNED), "the-idempotency-key")
    assert call.url == "https://api.evolink.ai/v1/videos/generations"
    assert call.json == {
        "model": "topaz-video-upscale",
        "video_urls": [SIGNED],
        "model_params": {"upscale_factor": "2"},
    }
    assert call.headers == {"Idempotency-Key": "the-idempotency-key"}


def test_a_callback_is_sent_whole_and_shown_without_its_query():
    order = EvoLinkOptions(callback_url="https://example.com/hook?token=CANARY").order()
    call = evolink.submit(order, SignedUrl(SOURCE), "key")
    assert call.json["callback_url"] == "https://example.com/hook?token=CANARY"
    assert "CANARY" not in order.model_dump_json() + repr(order) + repr(call)


async def test_every_order_carries_a_key_of_the_allowed_form(sandbox, clip, tmp_path):
    """[E8] 16 to 96 characters; the same for the same work, another for another purchase."""
    bench = Bench(sandbox, sandbox.test_clock, tmp_path, clip)
    for again in (0, 0, 1):
        await bench.submit("evolink", again=again)
    first, second = (one.idempotency_key for one in sandbox.purchases())
    assert first != second
    intent = (await bench.record("evolink")).latest("intent")
    late = intent.model_copy(update={"attempt": 999})
    key = (await bench.record("evolink")).key
    for text in (first, second, idempotency_key(key, late)):
        assert re.fullmatch(r"[A-Za-z0-9._-]{16,96}", text)
    assert idempotency_key(key, intent) == first != idempotency_key(key, late)


async def test_two_journals_that_order_the_same_work_get_one_task(sandbox, clip, tmp_path):
    """The key is made of the work, so EvoLink hands the first task out again [E8]."""
    bench = Bench(sandbox, sandbox.test_clock, tmp_path, clip)
    jobs = [
        await bench.submit("evolink", destination=bench.place(name)) for name in ("here", "there")
    ]
    assert len({job.job_ids for job in jobs}) == len(sandbox.purchases()) == 1


def test_a_replay_says_so():
    for value, replayed in (("true", True), ("True", True), ("false", False), ("", False)):
        answer = Reply(200, {"idempotency-replayed": value}, json.dumps(CREATED).encode())
        assert evolink.read_submit(EvoLinkOptions().order(), answer).replayed is replayed


def test_the_answer_says_what_is_reserved_and_how_long_it_takes():
    verdict = evolink.read_submit(EvoLinkOptions().order(), reply(200, CREATED))
    assert verdict.expected_seconds == 600
    assert (verdict.cost.unit, verdict.cost.reserved) == ("credits", Decimal("28.8"))


@pytest.mark.parametrize("code", ["idempotency_conflict", "paid_outcome_unknown"])
@pytest.mark.parametrize("status", [400, 402, 403, 409, 429, 500])
def test_a_task_may_exist_behind_an_idempotency_error(status, code):
    for word in (code, code.upper()):
        verdict = evolink.read_submit(EvoLinkOptions().order(), reply(status, error(word)))
        assert isinstance(verdict, Unclear)


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422])
def test_a_bare_status_that_no_document_explains_proves_nothing(status):
    for body in ({}, error("something_new"), error(status)):
        verdict = evolink.read_submit(EvoLinkOptions().order(), reply(status, body))
        assert isinstance(verdict, Unclear)


def test_no_result_is_in_the_answer_to_an_order():
    assert evolink.inline_result(reply(200, {**CREATED, "results": [LINK]})) is None


def test_codes_may_be_numbers():
    verdict = evolink.read_submit(EvoLinkOptions().order(), reply(402, error(402)))
    assert isinstance(verdict, Refused)
    assert "402 402: about 402" in str(verdict.error)
