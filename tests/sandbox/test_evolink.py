"""The EvoLink side keeps the contract: create, replay, status, batch, listing, credits."""

import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from prefect_topaz.sandbox import Choices

KEY = "run-0123456789abcdef"


def error_of(reply):
    return reply.status_code, reply.json()["error"]


def test_every_call_without_the_key_is_401(api):
    calls = [
        ("POST", "/v1/videos/generations"),
        ("POST", "/v1/tasks/batch"),
        ("GET", "/v1/tasks"),
        ("GET", "/v1/tasks/task-unified-1"),
        ("GET", "/v1/models"),
    ]
    for method, path in calls:
        reply = api.http.request(method, path, headers={"Authorization": "Bearer wrong"})
        assert error_of(reply) == (
            401,
            {
                "code": "unauthorized",
                "message": "Invalid or expired token",
                "type": "authentication_error",
            },
        )
    assert api.sandbox.ledger.submits == 0


def test_create_answers_a_pending_task_with_reserved_credits(api):
    reply = api.create()
    task = reply.json()
    assert reply.status_code == 200
    assert re.fullmatch(r"task-unified-\d{10}-[a-z0-9]{8}", task.pop("id"))
    assert isinstance(task.pop("created"), int)
    assert task == {
        "model": "topaz-video-upscale",
        "object": "video.generation.task",
        "progress": 0,
        "status": "pending",
        "type": "video",
        "task_info": {"can_cancel": True, "estimated_time": 1, "video_duration": 1},
        "usage": {
            "billing_rule": "per_second",
            "credits_reserved": 1.87,
            "user_group": "default",
        },
    }
    assert reply.headers["x-request-id"]


def test_a_task_goes_from_pending_over_rising_progress_to_completed(start):
    api = start(reads=4)
    task_id = api.create().json()["id"]
    tasks = [api.evolink(task_id) for _ in range(4)]
    assert [task["status"] for task in tasks] == [
        "pending",
        "processing",
        "processing",
        "completed",
    ]
    assert [task["progress"] for task in tasks] == [0, 25, 50, 100]
    assert ["results" in task for task in tasks] == [False, False, False, True]
    assert [task["task_info"]["can_cancel"] for task in tasks] == [True, True, True, False]
    assert tasks[-1]["billing"] == {
        "refund_scope": "account_balance",
        "charge_status": "charged",
        "refund_status": "not_required",
        "reserved_credits": 1.87,
        "charged_credits": 1.87,
        "refunded_credits": 0.0,
        "refunded_at": None,
    }
    assert tasks[-1]["usage"]["credits_used"] == 1.87


@pytest.mark.parametrize(
    ("wanted", "size", "credits_due"),
    [
        ("1", (64, 36), "1.87"),
        ("2", (128, 72), "1.87"),
        ("4", (256, 144), "3.27"),
        (1, (64, 36), "1.87"),
        (4, (256, 144), "3.27"),
        (4.0, (256, 144), "3.27"),
        (3, (128, 72), "1.87"),
        ("8", (128, 72), "1.87"),
        (True, (128, 72), "1.87"),
        (None, (128, 72), "1.87"),
        ([4], (128, 72), "1.87"),
    ],
)
def test_an_invalid_factor_silently_becomes_two(api, probe, wanted, size, credits_due):
    link = api.evolink_link(model_params={"upscale_factor": wanted})
    assert probe(api.http.get(link).content).size == size
    assert api.sandbox.purchases()[0].cost == Decimal(credits_due)


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"video_urls": []}, 400, "invalid_parameter"),
        ({"video_urls": "https://example.com/a.mp4"}, 400, "invalid_parameter"),
        ({"video_urls": ["https://example.com/a.mp4"] * 2}, 400, "invalid_parameter"),
        ({"video_urls": ["https://example.com/a.mov"]}, 400, "invalid_parameter"),
        ({"video_urls": ["ftp://example.com/a.mp4"]}, 400, "invalid_parameter"),
        ({"video_urls": [1]}, 400, "invalid_parameter"),
        ({"model": None}, 400, "invalid_parameter"),
        ({"model": "other"}, 403, "model_access_denied"),
        ({"callback_url": "http://example.com/hook"}, 400, "invalid_parameter"),
        ({"callback_url": "https://" + "a" * 2048 + ".com"}, 400, "invalid_parameter"),
        ({"callback_url": "https://localhost/hook"}, 400, "invalid_parameter"),
        ({"callback_url": "https://10.0.0.1/hook"}, 400, "invalid_parameter"),
        ({"callback_url": "https://127.0.0.1/hook"}, 400, "invalid_parameter"),
        ({"callback_url": "https://172.20.0.1/hook"}, 400, "invalid_parameter"),
        ({"callback_url": "https://192.168.1.1/hook"}, 400, "invalid_parameter"),
        ({"callback_url": "https://[::1]/hook"}, 400, "invalid_parameter"),
        ({"callback_url": 7}, 400, "invalid_parameter"),
    ],
)
def test_a_bad_create_is_refused_and_free(api, parameters, status, code):
    found, error = error_of(api.create(**parameters))
    assert (found, error["code"], error["type"]) == (status, code, "invalid_request_error")
    assert api.sandbox.purchases() == []


def test_a_public_callback_is_accepted(api):
    assert api.create(callback_url="https://example.com/hook").status_code == 200


def test_the_documented_text_comes_for_no_video(api):
    _, error = error_of(api.create(video_urls=None))
    text = "video_urls is required and must not be empty for topaz-video-upscale"
    assert error["message"] == text


def test_a_query_does_not_hide_the_ending(api):
    assert api.create(video_urls=[f"{api.source}?token=1"]).status_code == 200


def test_an_input_that_cannot_be_probed_is_refused_at_create(api):
    text = api.sandbox.host(b"not a video", "text.mp4")
    for bad in (text, f"{api.sandbox.url}/media/none.mp4"):
        assert error_of(api.create(video_urls=[bad])) == (
            400,
            {
                "code": "video_probe_failed",
                "message": "Failed to detect video duration, please check video URL accessibility",
                "type": "invalid_request_error",
            },
        )
    assert api.sandbox.purchases() == []


@pytest.mark.parametrize("content", [b"", b"no json", b"[]"])
def test_a_body_that_is_no_object_is_400(api, content):
    reply = api.http.post("/v1/videos/generations", content=content)
    assert error_of(reply)[0] == 400


def test_the_same_key_and_body_replay_the_original_task(api):
    first, second = api.create(KEY), api.create(KEY)
    assert second.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert api.sandbox.ledger.submits == 1
    assert [one.idempotency_key for one in api.sandbox.purchases()] == [KEY]


def test_the_same_key_with_another_body_is_a_conflict(start):
    for chosen in (409, 422):
        api = start(reads=1, choices=Choices(conflict_status=chosen))
        api.create(KEY)
        status, error = error_of(api.create(KEY, model_params={"upscale_factor": "4"}))
        assert (status, error["code"]) == (chosen, "idempotency_conflict")
        assert len(api.sandbox.purchases()) == 1


def test_a_refused_create_leaves_its_key_free(api):
    assert api.create(KEY, video_urls=[f"{api.sandbox.url}/media/none.mp4"]).status_code == 400
    assert api.create(KEY).status_code == 200


def test_the_same_key_while_the_first_is_in_progress_is_unknown(start):
    api = start(reads=1)
    api.sandbox.fault("media", "delay", seconds=0.5)  # holds the probe of the first create
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.create, KEY)
        while not api.sandbox.requests():
            pass
        status, error = error_of(api.create(KEY))
        assert (status, error["code"]) == (409, "paid_outcome_unknown")
        assert first.result().status_code == 200
    assert len(api.sandbox.purchases()) == 1


@pytest.mark.parametrize("key", ["short", "a" * 97, "spaces are not allowed"])
def test_a_malformed_key_is_refused(api, key):
    assert error_of(api.create(key))[0] == 400


def test_keys_can_be_ignored_as_they_may_be_for_plain_api_keys(start):
    api = start(reads=1, choices=Choices(idempotency=False))
    assert api.create(KEY).json()["id"] != api.create(KEY).json()["id"]


def test_ids_of_another_form_are_400_and_unknown_ones_404(api):
    status, error = error_of(api.get("/v1/tasks/other"))
    assert (status, error["code"], error["param"]) == (400, "invalid_task_id", "task_id")
    status, error = error_of(api.get("/v1/tasks/task-unified-1-missing"))
    assert (status, error["code"]) == (404, "task_not_found")


def test_a_batch_leaves_out_what_is_unknown(api):
    ids = [api.create().json()["id"] for _ in range(2)]
    reply = api.post("/v1/tasks/batch", {"task_ids": [*ids, "task-unified-1-missing", 7]})
    assert [task["id"] for task in reply.json()["data"]] == ids
    assert {task["status"] for task in reply.json()["data"]} == {"completed"}


@pytest.mark.parametrize("ids", [[], ["task-unified-1"] * 51, "task-unified-1", None])
def test_a_batch_takes_1_to_50_ids(api, ids):
    assert api.post("/v1/tasks/batch", {"task_ids": ids}).status_code == 400
    assert api.http.post("/v1/tasks/batch", content=b"x").status_code == 400


def test_the_listing_is_newest_first_and_has_no_links(api):
    done, active = api.create().json()["id"], api.create().json()["id"]
    api.evolink(done)
    answer = api.get("/v1/tasks", page_size=50).json()
    assert {name: answer[name] for name in ("total", "page", "page_size")} == {
        "total": 2,
        "page": 1,
        "page_size": 50,
    }
    newest, oldest = answer["data"]
    assert newest.pop("created_at") >= oldest.pop("created_at")
    common = {"model": "topaz-video-upscale", "type": "video", "has_error": False}
    pending = {"id": active, "status": "pending", "progress": 0, "has_results": False}
    completed = {"id": done, "status": "completed", "progress": 100, "has_results": True}
    assert newest == {**common, **pending, "credits_used": 0.0}
    assert oldest == {**common, **completed, "credits_used": 1.87}


def test_the_listing_filters_and_pages(api):
    done, active = api.create().json()["id"], api.create().json()["id"]
    api.evolink(done)

    def ids(**query):
        return [task["id"] for task in api.get("/v1/tasks", **query).json()["data"]]

    assert ids(status="completed") == [done]
    assert ids(status="processing") == [active]  # includes what is queued
    assert ids(status="failed") == []
    assert ids(type="image") == []
    assert ids(model="other") == []
    assert ids(page=2, page_size=1) == [done]
    assert api.get("/v1/tasks", page_size=500).json()["page_size"] == 50
    for bad in ({"status": "odd"}, {"page": 0}, {"page_size": "x"}, {"page": -1}):
        assert api.get("/v1/tasks", **bad).status_code == 400


def test_there_is_no_way_to_cancel(api):
    task_id = api.create().json()["id"]
    assert api.http.delete(f"/v1/tasks/{task_id}").status_code == 405
    assert api.post(f"/v1/tasks/{task_id}/cancel", {}).status_code == 404
    assert api.evolink(task_id)["status"] == "completed"


def test_credits_are_reserved_then_charged(start):
    api = start(reads=2, credits=10)

    def counts():
        return api.get("/v1/credits").json()["data"]["user"]

    task_id = api.create().json()["id"]
    assert counts() == {"remaining_credits": 8.13, "used_credits": 0.0}
    assert [api.evolink(task_id)["status"] for _ in range(2)] == ["pending", "completed"]
    assert counts() == {"remaining_credits": 8.13, "used_credits": 1.87}
    assert api.get("/v1/credits").json()["data"]["token"]["unlimited_credits"] is False


def test_a_failed_task_releases_its_credits(start):
    api = start(reads=1, credits=10)
    api.sandbox.fault("job", "fail", message="no", code="content_policy_violation")
    task = api.evolink(api.create().json()["id"])
    assert (task["status"], task["progress"]) == ("failed", 0)
    assert task["error"] == {
        "code": "content_policy_violation",
        "message": "no",
        "type": "task_error",
    }
    assert task["billing"]["charge_status"] == "released"
    assert task["billing"]["refunded_credits"] == 1.87
    assert api.get("/v1/credits").json()["data"]["user"]["remaining_credits"] == 10
    (purchase,) = api.sandbox.purchases("evolink")
    assert (purchase.charged, purchase.cost) == (False, None)


def test_too_few_credits_are_402(start):
    api = start(reads=1, credits=2)
    assert api.create().status_code == 200
    assert error_of(api.create()) == (
        402,
        {
            "code": "insufficient_quota",
            "message": "Insufficient quota. Please top up your account.",
            "type": "insufficient_quota",
        },
    )
    assert len(api.sandbox.purchases()) == 1


def test_a_denied_model_is_403_and_not_listed(start):
    api = start(choices=Choices(denied_models=frozenset({"topaz-video-upscale"})))
    status, error = error_of(api.create())
    text = "Token does not have access to model: topaz-video-upscale"
    assert (status, error["code"], error["message"]) == (403, "model_access_denied", text)
    assert api.get("/v1/models").json()["data"] == []


def test_models_are_a_free_check_of_the_key(api):
    assert [one["id"] for one in api.get("/v1/models").json()["data"]] == ["topaz-video-upscale"]


def test_credits_errors_have_a_number_as_code(api):
    reply = api.http.get("/v1/credits", headers={"Authorization": ""})
    status, error = error_of(reply)
    assert (status, error["code"]) == (401, 401)
    assert "fallback_suggestion" in error


def test_prices_are_open_and_say_nothing_of_topaz(api):
    reply = api.http.get("/v1/catalog/pricing-rules", headers={"Authorization": ""})
    assert reply.status_code == 200
    assert "topaz" not in reply.text


def test_oxen_rows_are_unknown_to_evolink(api):
    api.enqueue()
    assert api.get("/v1/tasks").json()["total"] == 0
