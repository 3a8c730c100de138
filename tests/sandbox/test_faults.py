"""Every fault does what it says, once for each time it was asked, and the ledger knows."""

from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime, parsedate_to_datetime

import httpx
import pytest

from prefect_topaz.sandbox.__main__ import parse_fault
from prefect_topaz.sandbox.faults import API, FILES, RULES, FaultBox, make_fault

KEY = "run-0123456789abcdef"
CUT = (httpx.RemoteProtocolError, httpx.ReadError)


def calls(api):
    """One call of each operation, for both providers where both have it."""
    (job_id,), task_id = api.enqueue(), api.create().json()["id"]
    blocking = {"model": "topazlabs-video-upscale", "input_video": api.source}
    files = {"file": ("a.mp4", b"x", "video/mp4")}
    author = {"message": "m", "name": "n", "email": "e@example.com"}
    stored = "/api/repos/me/clips/file/main/a.mp4"
    api.post("/api/repos", {"namespace": "me", "name": "clips"})
    return [
        ("submit", lambda: api.post("/api/ai/queue", blocking)),
        ("submit", api.create),
        ("generate", lambda: api.post("/api/ai/videos/generate", blocking)),
        ("status", lambda: api.get(f"/api/ai/queue/{job_id}")),
        ("status", lambda: api.get(f"/v1/tasks/{task_id}")),
        ("cancel", lambda: api.http.delete(f"/api/ai/queue/{job_id}")),
        ("list", lambda: api.get("/api/ai/queue")),
        ("list", lambda: api.get("/api/ai/generations")),
        ("list", lambda: api.get(f"/api/ai/generations/{job_id}")),
        ("list", lambda: api.get("/v1/tasks")),
        ("batch", lambda: api.post("/v1/tasks/batch", {"task_ids": [task_id]})),
        ("models", lambda: api.get("/api/ai/models")),
        ("models", lambda: api.get("/v1/models")),
        ("credits", lambda: api.get("/v1/credits")),
        ("upload", lambda: api.http.post("/api/v1/files/upload/stream", files=files)),
        ("upload", lambda: api.http.put(stored, files=files, data=author)),
        ("quota", lambda: api.get("/api/v1/files/quota")),
        ("delete", lambda: removed(api)),
        ("media", lambda: api.http.get(api.source)),
    ]


def removed(api):
    """Delete a file, a fresh one each time."""
    files = {"file": ("a.mp4", b"x", "video/mp4")}
    made = api.http.post("/api/v1/files/upload/stream", files=files)
    return api.http.delete(f"/api/v1/files/{made.json()['data']['file_id']}")


def test_the_calls_of_this_module_cover_every_operation(api):
    assert {name for name, _ in calls(api)} | {"result"} == {*API, *FILES}


def test_a_refused_connection_never_accepts_anything(api):
    for operation, call in calls(api):
        before = api.sandbox.ledger.submits
        api.sandbox.fault(operation, "refuse")
        with pytest.raises(CUT):
            call()
        assert api.sandbox.ledger.submits == before, operation
        assert call().status_code == 200, operation


def test_a_cut_answer_was_accepted(api):
    for operation, call in calls(api):
        before = api.sandbox.ledger.submits
        api.sandbox.fault(operation, "cut")
        with pytest.raises(CUT):
            call()
        accepted = api.sandbox.ledger.submits - before
        assert accepted == (operation in {"submit", "generate"}), operation


def test_a_cut_submit_can_be_found_again(api):
    api.sandbox.fault("submit", "cut", times=2)
    with pytest.raises(CUT):
        api.enqueue()
    with pytest.raises(CUT):
        api.create(KEY)
    oxen, evolink = api.sandbox.purchases()
    (row,) = api.get("/api/ai/queue").json()["generations"]
    assert (row["generation_id"], row["input_video"]) == (oxen.job_id, api.source)
    again = api.create(KEY)
    assert again.json()["id"] == evolink.job_id
    assert again.headers["idempotency-replayed"] == "true"
    assert len(api.sandbox.purchases()) == 2


def test_too_many_requests_come_in_each_providers_words(api):
    for operation, call in calls(api):
        before = api.sandbox.ledger.submits
        api.sandbox.fault(operation, "429")
        reply = call()
        assert reply.status_code == 429, operation
        assert "retry-after" not in reply.headers
        assert api.sandbox.ledger.submits == before
    api.sandbox.fault("submit", "429", times=2)
    oxen, evolink = api.post("/api/ai/queue", {}).json(), api.create().json()
    assert oxen == {"error": {"message": "Rate limit exceeded"}}
    assert (evolink["error"]["code"], evolink["error"]["type"]) == (
        "rate_limit_exceeded",
        "rate_limit_error",
    )
    api.sandbox.fault("status", "429")
    assert api.evolink("task-unified-x")["error"]["type"] == "evo_api_error"
    api.sandbox.fault("credits", "429")
    credits_error = api.get("/v1/credits").json()["error"]
    assert (credits_error["code"], credits_error["fallback_suggestion"]) == (
        429,
        "retry after 60 seconds",
    )


def test_retry_after_is_a_number_or_a_date(api):
    date = format_datetime(parsedate_to_datetime("Fri, 20 Nov 2026 12:00:00 GMT"), usegmt=True)
    for asked, header in ((2, "2"), (0.5, "0.5"), (date, date)):
        api.sandbox.fault("status", "429", retry_after=asked)
        assert api.get("/v1/tasks/task-unified-x").headers["retry-after"] == header


@pytest.mark.parametrize("accepted", [False, True])
def test_a_server_error_comes_before_or_after_accepting(api, accepted):
    api.sandbox.fault("submit", "5xx", status=502, accepted=accepted, times=2)
    assert api.post("/api/ai/queue", {"model": "topazlabs-video-upscale"}).status_code == 502
    assert api.create(KEY).status_code == 502
    assert api.sandbox.ledger.submits == (2 if accepted else 0)
    assert ("idempotency-replayed" in api.create(KEY).headers) is accepted


def test_500_is_the_apis_own_error_and_the_others_are_a_gateways_page(api):
    for operation, call in calls(api):
        api.sandbox.fault(operation, "5xx")
        reply = call()
        assert (reply.status_code, reply.headers["content-type"]) == (
            503,
            "text/html; charset=utf-8",
        )
        api.sandbox.fault(operation, "5xx", status=500)
        reply = call()
        assert reply.status_code == 500
        is_json = reply.headers["content-type"] == "application/json"
        assert is_json is (operation not in FILES)


def test_garbage_was_accepted_and_is_not_json(api):
    api.sandbox.fault("submit", "garbage", times=2)
    for reply in (api.post("/api/ai/queue", {"model": "topazlabs-video-upscale"}), api.create()):
        assert reply.status_code == 200
        with pytest.raises(ValueError, match="Expecting value"):
            reply.json()
    assert api.sandbox.ledger.submits == 2


def test_a_delayed_answer_was_accepted_though_the_client_left(api):
    api.sandbox.fault("submit", "delay", seconds=30, times=2)
    api.http.timeout = httpx.Timeout(0.3)
    for submit in (api.enqueue, api.create):
        with pytest.raises(httpx.ReadTimeout):
            submit()
    assert api.sandbox.ledger.submits == 2


def test_a_delay_before_accepting_accepts_nothing_if_the_client_left(api):
    api.sandbox.fault("submit", "delay", seconds=0.2, accepted=False)
    with httpx.Client(timeout=0.05) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{api.sandbox.url}/api/ai/queue", json={})
    api.sandbox.fault("submit", "delay", seconds=0.01, accepted=False)
    api.enqueue()
    assert api.sandbox.ledger.submits == 1


def test_a_delay_ends_when_the_sandbox_stops(api):
    api.sandbox.fault("models", "delay", seconds=30)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(api.get, "/v1/models")
        while not api.sandbox.requests():
            pass
        api.sandbox.stop()
        assert late.result(timeout=5).status_code == 200


def test_an_empty_answer_is_oxens_alone(api):
    api.sandbox.fault("submit", "empty", message="no capacity")
    assert api.create().status_code == 200
    reply = api.post("/api/ai/queue", {"model": "topazlabs-video-upscale"})
    assert (reply.status_code, reply.json()) == (
        200,
        {"generations": [], "error": {"message": "no capacity"}},
    )
    assert api.sandbox.purchases("oxen") == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_parameter"),
        (401, "unauthorized"),
        (402, "insufficient_quota"),
        (403, "model_access_denied"),
        (429, "rate_limit_exceeded"),
        (500, "internal_error"),
        (502, "upstream_error"),
        (418, "unknown_error"),
    ],
)
def test_evolink_refusals_have_the_documented_code(api, status, code):
    api.sandbox.fault("submit", "refused", status=status)
    reply = api.create()
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("status", "code"),
    [(402, "quota_exceeded"), (403, "permission_denied"), (404, "task_not_found")],
)
def test_evolink_status_refusals_have_their_own_codes(api, status, code):
    api.sandbox.fault("status", "refused", status=status)
    reply = api.get("/v1/tasks/task-unified-x")
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_params"),
        (401, "unauthenticated"),
        (404, "resource_not_found"),
        (500, "unknown_error"),
    ],
)
def test_oxen_refusals_have_the_documented_type(api, status, kind):
    api.sandbox.fault("submit", "refused", status=status)
    answer = api.post("/api/ai/queue", {}).json()
    assert (answer["error"]["type"], answer["status_message"]) == (kind, kind)


def test_a_refusal_can_say_anything(api):
    api.sandbox.fault("submit", "refused", status=402, message="Insufficient credits", times=2)
    assert api.post("/api/ai/queue", {}).json() == {"error": {"message": "Insufficient credits"}}
    assert api.create().json()["error"] == {
        "code": "insufficient_quota",
        "message": "Insufficient credits",
        "type": "insufficient_quota",
    }
    api.sandbox.fault("submit", "refused", status=400, code="odd", message="why", times=2)
    assert api.post("/api/ai/queue", {}).json()["error"] == {
        "type": "odd",
        "title": "odd",
        "detail": "why",
    }
    assert api.create().json()["error"]["code"] == "odd"
    api.sandbox.fault("credits", "refused", status=503, message="down")
    assert api.get("/v1/credits").json()["error"]["code"] == 503


def test_an_upload_can_fail_with_http_200(api):
    api.sandbox.fault("upload", "refused", status=200, code=5001, message="storage is full")
    reply = api.post("/api/v1/files/upload/url", {"file_url": api.source})
    assert (reply.status_code, reply.json()) == (
        200,
        {"success": False, "code": 5001, "msg": "storage is full"},
    )


def test_a_forgotten_job_is_404_from_then_on(api):
    (job_id,), task_id = api.enqueue(), api.create().json()["id"]
    for path in (f"/api/ai/queue/{job_id}", f"/v1/tasks/{task_id}"):
        api.sandbox.fault("status", "forget")
        assert [api.get(path).status_code for _ in range(2)] == [404, 404]
    assert api.get("/api/ai/queue").json()["count"] == 0
    assert api.get(f"/api/ai/generations/{job_id}").status_code == 404
    assert api.get("/v1/tasks").json()["total"] == 0
    assert api.post("/v1/tasks/batch", {"task_ids": [task_id]}).json() == {"data": []}
    assert api.http.delete(f"/api/ai/queue/{job_id}").status_code == 404


def test_the_history_can_outlive_the_queue(api):
    (job_id,) = api.enqueue()
    api.sandbox.fault("status", "forget", history=True)
    assert api.get(f"/api/ai/queue/{job_id}").status_code == 404
    generation = api.get(f"/api/ai/generations/{job_id}").json()["generation"]
    assert generation["status"] == "succeeded"
    assert api.get("/api/ai/queue", status="succeeded").json()["count"] == 0


def test_an_unknown_status_comes_without_a_result_and_passes(api):
    (job_id,), task_id = api.enqueue(), api.create().json()["id"]
    api.sandbox.fault("status", "unknown_status", word="paused", times=2)
    row, task = api.oxen(job_id), api.evolink(task_id)
    assert (row["status"], row["result_url"]) == ("paused", None)
    assert task["status"] == "paused"
    assert "results" not in task
    assert api.oxen(job_id)["status"] == "succeeded"
    api.sandbox.fault("batch", "unknown_status", word="cancelled")
    (listed,) = api.post("/v1/tasks/batch", {"task_ids": [task_id]}).json()["data"]
    assert listed["status"] == "cancelled"
    assert "result_url" not in listed


def test_a_job_can_fail(api):
    api.sandbox.fault("job", "fail", message="Insufficient credits", provider="oxen")
    task_id = api.create().json()["id"]
    assert api.evolink(task_id)["status"] == "completed"
    row = api.oxen(api.enqueue()[0])
    assert (row["status"], row["error_message"]) == ("failed", "Insufficient credits")


@pytest.mark.parametrize("what", ["size", "duration", "silent", "fps"])
def test_a_job_can_make_the_wrong_video(api, probe, what):
    wanted = probe(api.http.get(api.evolink_link()).content)
    api.sandbox.fault("job", "wrong_video", what=what)
    found = probe(api.http.get(api.evolink_link()).content)
    changed = {
        "size": found.size == (64, 36),
        "duration": found.seconds == pytest.approx(wanted.seconds / 2, abs=0.05),
        "silent": found.sounds == [],
        "fps": found.fps == wanted.fps / 2,
    }
    assert changed[what]
    assert wanted.size == (128, 72)
    assert (found.size == wanted.size) is (what != "size")
    assert (found.sounds == wanted.sounds) is (what != "silent")
    assert (found.fps == wanted.fps) is (what != "fps")


def links(api):
    return [api.source, api.oxen_link(), api.evolink_link()]


def ask(api, link, kind, **details):
    operation = "media" if link == api.source else "result"
    api.sandbox.fault(operation, kind, **details)


def read_until_cut(link):
    got = b""
    with httpx.stream("GET", link) as reply:
        try:
            for chunk in reply.iter_raw():
                got += chunk
        except httpx.RemoteProtocolError:
            return int(reply.headers["content-length"]), got
    raise AssertionError("the download was not cut")


def test_a_truncated_download_announces_its_full_length(api):
    for link in links(api):
        whole = httpx.get(link).content
        ask(api, link, "truncate", fraction=0.25)
        announced, got = read_until_cut(link)
        assert announced == len(whole)
        assert got == whole[: len(whole) // 4]
        rest = httpx.get(link, headers={"Range": f"bytes={len(got)}-"})
        assert got + rest.content == whole


def test_a_short_download_is_complete_for_http(api):
    for link in links(api):
        whole = httpx.get(link).content
        ask(api, link, "short", fraction=0.5)
        reply = httpx.get(link, headers={"Range": "bytes=1-"})
        assert (reply.status_code, reply.content) == (200, whole[: len(whole) // 2])
        assert int(reply.headers["content-length"]) == len(reply.content)


def test_downloads_can_be_html_expired_or_gone(api):
    for link in links(api):
        for kind, status in (("html", 200), ("expire", 403), ("gone", 410)):
            ask(api, link, kind)
            reply = httpx.get(link)
            assert reply.status_code == status
            assert reply.headers["content-type"].startswith("text/")
        assert httpx.get(link).headers["content-type"] == "video/mp4"


def test_a_redirect_leads_to_another_host_with_the_same_link(api):
    for link in links(api):
        whole = httpx.get(link).content
        ask(api, link, "redirect", times=3)
        reply = httpx.get(link)
        assert reply.status_code == 302
        assert reply.headers["location"] == link.replace("127.0.0.1", "localhost")
        key = {"Authorization": "Bearer sandbox-key"}
        followed = httpx.get(link, headers=key, follow_redirects=True)
        assert followed.content == whole
        to_old, to_new = api.sandbox.requests()[-2:]
        assert (to_old.had_authorization, to_new.had_authorization) == (True, False)
        assert to_new.host.startswith("localhost:")
        assert httpx.get(link).status_code == 302  # the third was not spent on the target


def test_ranges_can_be_switched_off(api):
    for link in links(api):
        whole = httpx.get(link).content
        ask(api, link, "no_range")
        reply = httpx.get(link, headers={"Range": "bytes=5-"})
        assert (reply.status_code, reply.content) == (200, whole)
        assert "accept-ranges" not in reply.headers


def test_a_download_fault_waits_for_a_get_unless_told_otherwise(api):
    api.sandbox.fault("media", "gone")
    assert httpx.head(api.source).status_code == 200
    assert httpx.get(api.source).status_code == 410
    api.sandbox.fault("media", "gone", method="HEAD")
    assert httpx.get(api.source).status_code == 200
    assert httpx.head(api.source).status_code == 410


def test_a_fault_can_be_for_one_provider(api):
    api.sandbox.fault("submit", "429", provider="evolink", times=2)
    api.enqueue()
    assert [api.create().status_code for _ in range(3)] == [429, 429, 200]
    api.sandbox.fault("result", "gone", provider="oxen")
    assert httpx.get(api.evolink_link()).status_code == 200
    assert httpx.get(api.oxen_link()).status_code == 410


def test_faults_are_used_up_in_the_order_they_were_asked(api):
    api.sandbox.fault("models", "429")
    api.sandbox.fault("models", "5xx", times=2)
    statuses = [api.get("/v1/models").status_code for _ in range(4)]
    assert statuses == [429, 503, 503, 200]


@pytest.mark.parametrize(
    ("operation", "kind", "details", "message"),
    [
        ("sumbit", "cut", {}, "allowed: submit, generate, status"),
        ("submit", "explode", {}, "allowed: refuse, delay, 429, 5xx"),
        ("submit", "truncate", {}, "unknown kind of fault for 'submit'"),
        ("submit", "cut", {"seconds": 1}, "allowed: provider, method"),
        ("result", "truncate", {"fraction": 1}, "from 0 to below 1"),
        ("result", "truncate", {"fraction": True}, "must be int, float"),
        ("submit", "delay", {"seconds": -1}, "must not be negative"),
        ("submit", "5xx", {"status": 700}, "HTTP status of an error"),
        ("submit", "5xx", {"accepted": 1}, "must be bool"),
        ("job", "wrong_video", {"what": "sound"}, "allowed: size, duration, silent, fps, another"),
        ("submit", "cut", {"provider": "other"}, "allowed: oxen, evolink"),
    ],
)
def test_an_unknown_wish_is_refused_naming_what_is_allowed(api, operation, kind, details, message):
    with pytest.raises(ValueError, match=message):
        api.sandbox.fault(operation, kind, **details)
    api.create()
    assert len(api.sandbox.purchases()) == 1


@pytest.mark.parametrize("times", [0, -1, 1.0, True, "2"])
def test_times_is_a_positive_whole_number(times):
    with pytest.raises(ValueError, match="times must be a whole number"):
        FaultBox().add(make_fault("submit", "cut", {}), times)


def test_a_kind_may_be_given_as_a_number():
    assert make_fault("submit", 429, {}).kind == "429"


def test_every_kind_is_written_as_it_is_asked():
    for kind, rule in RULES.items():
        operation = rule.operations[0]
        assert make_fault(*parse_fault(f"{operation}:{kind}")).kind == kind


@pytest.mark.parametrize("what", ["another", "black", "frozen", "shifted"])
def test_a_job_can_show_something_else_in_a_video_of_the_right_shape(api, probe, what):
    right = api.http.get(api.evolink_link()).content
    api.sandbox.fault("job", "wrong_video", what=what)
    wrong = api.http.get(api.evolink_link()).content
    assert probe(wrong) == probe(right)
    assert wrong != right
