"""The Oxen side keeps the contract: queue, history, blocking endpoint, models, errors."""

import base64
import uuid
from decimal import Decimal

import pytest

from prefect_topaz.sandbox import Choices

STARLIGHT = "topazlabs-upscale-starlight-2-5-video"
UNAUTHENTICATED = {
    "error": {"type": "unauthenticated", "title": "Authentication is required"},
    "status": "error",
    "status_message": "unauthenticated",
}
NOT_FOUND = {
    "error": {
        "type": "resource_not_found",
        "title": "The requested resource could not be found",
    },
    "status": "error",
    "status_message": "resource_not_found",
}


@pytest.mark.parametrize("key", ["", "Bearer wrong", "sandbox-key", "Basic sandbox-key"])
def test_every_call_without_the_key_is_401(api, key):
    headers = {"Authorization": key}
    calls = [
        ("POST", "/api/ai/queue"),
        ("GET", "/api/ai/queue"),
        ("GET", "/api/ai/queue/x"),
        ("DELETE", "/api/ai/queue/x"),
        ("GET", "/api/ai/generations"),
        ("GET", "/api/ai/generations/x"),
        ("POST", "/api/ai/videos/generate"),
        ("GET", "/api/ai/models"),
        ("GET", f"/api/ai/models/{STARLIGHT}"),
    ]
    for method, path in calls:
        reply = api.http.request(method, path, headers=headers)
        assert (reply.status_code, reply.json()) == (401, UNAUTHENTICATED)
    assert api.sandbox.ledger.submits == 0


def test_enqueue_answers_ids_and_status_only(api):
    body = {"model": STARLIGHT, "input_video": api.source, "resolution": "1080p"}
    reply = api.post("/api/ai/queue", body)
    (row,) = reply.json()["generations"]
    assert reply.json() == {
        "generations": [{"generation_id": row["generation_id"], "status": "queued"}]
    }
    assert str(uuid.UUID(row["generation_id"])) == row["generation_id"]


def test_a_row_echoes_the_request_and_has_no_envelope(api):
    (job_id,) = api.enqueue(target_fps=30, unheard_of="kept", status="overridden")
    row = api.oxen(job_id)
    link = row.pop("result_url")
    assert link.startswith(f"{api.sandbox.url}/api/repos/sandbox/results/files/{job_id}/video.mp4?")
    assert row.pop("enqueued_at") <= row.pop("started_at") <= row.pop("completed_at")
    assert row == {
        "generation_id": job_id,
        "model_name": STARLIGHT,
        "media_type": "video",
        "status": "succeeded",
        "error_message": None,
        "input_video": api.source,
        "resolution": "1080p",
        "target_fps": 30,
        "unheard_of": "kept",
        "target_namespace": None,
        "target_repo": None,
        "target_directory": None,
    }


def test_reads_pace_a_job_deterministically(start):
    api = start(reads=4)
    (job_id,) = api.enqueue()
    rows = [api.oxen(job_id) for _ in range(5)]
    assert [row["status"] for row in rows] == [
        "queued",
        "processing",
        "processing",
        "succeeded",
        "succeeded",
    ]
    assert [row["result_url"] is None for row in rows] == [True, True, True, False, False]
    assert [row["started_at"] is None for row in rows] == [True, False, False, False, False]
    assert [row["completed_at"] is None for row in rows] == [True, True, True, False, False]


def test_without_reads_the_state_follows_the_work(start):
    api = start()
    api.sandbox.fault("job", "delay", seconds=30)
    api.sandbox.fault("job", "delay", seconds=30)
    slow = api.enqueue(num_generations=2)
    (waiting,) = api.enqueue()
    while [api.oxen(job_id)["status"] for job_id in slow] != ["processing", "processing"]:
        pass
    assert api.oxen(waiting)["status"] == "queued"  # two workers, both busy
    api.http.delete(f"/api/ai/queue/{slow[0]}")
    while (status := api.oxen(waiting)["status"]) != "succeeded":
        assert status in {"queued", "processing"}


@pytest.mark.parametrize("count", [0, 5, -1, 1.0, "2", True, None])
def test_num_generations_outside_1_to_4_is_400_at_once(api, count):
    body = {"model": STARLIGHT, "input_video": api.source, "num_generations": count}
    reply = api.post("/api/ai/queue", body)
    assert reply.status_code == 400
    text = "num_generations must be an integer between 1 and 4"
    assert reply.json()["error"]["detail"] == text
    assert api.sandbox.purchases() == []


def test_four_generations_are_one_submit_and_four_purchases(api):
    ids = api.enqueue(num_generations=4)
    assert len(set(ids)) == 4
    assert api.sandbox.ledger.submits == 1
    assert [one.job_id for one in api.sandbox.purchases("oxen")] == ids
    assert {api.oxen(job_id)["status"] for job_id in ids} == {"succeeded"}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"input_video": None}, "Field required"),
        ({"input_video": ""}, "Field required"),
        ({"resolution": "8k"}, "Invalid resolution"),
        ({"resolution": "720p"}, "Invalid resolution"),
        ({"target_fps": 0}, "target_fps must be between 1 and 60"),
        ({"target_fps": 61}, "target_fps must be between 1 and 60"),
        ({"target_fps": "30"}, "target_fps must be between 1 and 60"),
        ({"target_fps": True}, "target_fps must be between 1 and 60"),
        ({"interpolate_frames": "yes"}, "Invalid interpolate_frames"),
    ],
)
def test_bad_parameters_fail_later_in_the_queue_and_at_once_when_blocking(api, parameters, text):
    row = api.oxen(api.enqueue(**parameters)[0])
    assert (row["status"], row["error_message"], row["result_url"]) == ("failed", text, None)
    body = {"model": STARLIGHT, "input_video": api.source} | parameters
    reply = api.post("/api/ai/videos/generate", body)
    assert (reply.status_code, reply.json()) == (400, {"error": {"message": text}})
    assert [(one.charged, one.cost) for one in api.sandbox.purchases()] == [(False, None)]


@pytest.mark.parametrize(
    ("model", "parameters", "text"),
    [
        ("topazlabs-video-upscale", {"target_resolution": "2k"}, "Invalid resolution"),
        ("topazlabs-video-upscale", {"target_fps": 31}, "target_fps must be between 1 and 60"),
        ("topazlabs-proteus-video", {"noise": 2}, "noise must be between -1 and 1"),
        ("topazlabs-rhea-video", {"grain": 0.2}, "grain must be between 0 and 0.1"),
        ("topazlabs-iris-mq-video", {"grain_type": "blue"}, "Invalid grain_type"),
        ("topazlabs-astra-2-video", {}, "Field required"),
        (
            "topazlabs-hyperion-hdr-video",
            {"transfer_function": "srgb"},
            "Invalid transfer_function",
        ),
        ("topazlabs-hyperion-2-video", {"output_encoder": "AV1"}, "Invalid output_encoder"),
    ],
)
def test_each_model_checks_its_own_parameters(api, model, parameters, text):
    (job_id,) = api.enqueue(model=model, **parameters)
    assert api.oxen(job_id)["error_message"] == text


@pytest.mark.parametrize(
    ("model", "parameters", "size"),
    [
        ("topazlabs-video-upscale", {"target_resolution": "720p"}, (1280, 720)),
        ("topazlabs-proteus-video", {"resolution": "720p", "noise": -0.5}, (1280, 720)),
        ("topazlabs-astra-2-video", {"creativity": 0, "resolution": "1080p"}, (1920, 1080)),
        ("topazlabs-hyperion-2-video", {"output_encoder": "H265"}, (64, 36)),
    ],
)
def test_other_models_upscale_too(api, probe, model, parameters, size):
    link = api.oxen_link(model=model, **parameters)
    assert probe(api.http.get(link).content).size == size


def test_an_unknown_model_is_404_with_the_other_error_body(api):
    for path in ("/api/ai/queue", "/api/ai/videos/generate"):
        reply = api.post(path, {"model": "nope"})
        assert (reply.status_code, reply.json()) == (
            404,
            {"error": {"message": "Model not found: nope"}},
        )


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b'{"input_video": "x"}', b"\xff"])
def test_a_body_that_is_no_order_is_400(api, content):
    for path in ("/api/ai/queue", "/api/ai/videos/generate"):
        reply = api.http.post(path, content=content)
        assert reply.status_code == 400
        assert reply.json()["status_message"] == "invalid_params"


def test_an_input_that_cannot_be_read_fails_the_row(api):
    for bad in ("data:video/mp4;base64,AAAA", f"{api.sandbox.url}/media/none.mp4", "http://"):
        row = api.oxen(api.enqueue(input_video=bad)[0])
        assert row["status"] == "failed"
        assert "input" in row["error_message"]
    text = api.sandbox.host(b"not a video", "text.mp4")
    assert "not a readable video" in api.oxen(api.enqueue(input_video=text)[0])["error_message"]


def test_an_unknown_id_is_404_everywhere(api):
    missing = str(uuid.uuid4())
    replies = [
        api.get(f"/api/ai/queue/{missing}"),
        api.http.delete(f"/api/ai/queue/{missing}"),
        api.get(f"/api/ai/generations/{missing}"),
    ]
    for reply in replies:
        assert (reply.status_code, reply.json()) == (404, NOT_FOUND)


def test_evolink_tasks_are_unknown_to_oxen(api):
    task = api.create().json()["id"]
    assert api.get(f"/api/ai/queue/{task}").status_code == 404
    assert api.get("/api/ai/generations").json()["generations"] == []


def test_the_queue_lists_active_rows_unless_a_status_is_asked(api):
    done, active = api.enqueue()[0], api.enqueue()[0]
    api.oxen(done)
    listed = api.get("/api/ai/queue").json()
    assert listed["count"] == 1
    assert [row["generation_id"] for row in listed["generations"]] == [active]
    assert "cost" not in listed["generations"][0]
    succeeded = api.get("/api/ai/queue", status="succeeded").json()["generations"]
    assert [row["generation_id"] for row in succeeded] == [done]
    assert api.get("/api/ai/queue", status="odd").status_code == 400


def test_listings_filter_by_model_namespace_repo_and_folder(api):
    (plain,) = api.enqueue()
    (team,) = api.enqueue(target_namespace="team", target_repo="films", target_directory="a/b")
    (other,) = api.enqueue(model="topazlabs-video-upscale")

    def ids(**query):
        rows = api.get("/api/ai/queue", **query).json()["generations"]
        return [row["generation_id"] for row in rows]

    assert ids() == [other, plain]  # the caller's own namespace, newest first
    assert ids(model=STARLIGHT) == [plain]
    assert ids(namespace="team") == [team]
    assert ids(namespace="team", repo="films", folder="a/b") == [team]
    assert ids(namespace="team", repo="none") == []
    assert ids(media_type="image") == []


def test_the_history_has_the_cost_as_text_and_pages(api):
    ids = [api.enqueue(resolution=name)[0] for name in ("1080p", "2k", "4k")]
    for job_id in ids:
        api.oxen(job_id)
    first = api.get("/api/ai/generations", page_size=2).json()
    assert [row["cost"] for row in first["generations"]] == ["0.0747", "0.0747"]
    rest = {name: first[name] for name in first if name != "generations"}
    assert rest == {
        "count": 2,
        "page_number": 1,
        "page_size": 2,
        "total_pages": 2,
        "total_entries": 3,
        "total_cost": "0.1681",
    }
    (last,) = api.get("/api/ai/generations", page=2, page_size=2).json()["generations"]
    assert (last["generation_id"], last["cost"]) == (ids[0], "0.0187")
    assert {"user_id", "username", "user_image", "input_video"} <= set(last)


@pytest.mark.parametrize(
    "query", [{"page": 0}, {"page_size": 0}, {"page_size": 1001}, {"page": "x"}]
)
def test_a_bad_page_is_400(api, query):
    assert api.get("/api/ai/generations", **query).status_code == 400


def test_one_generation_of_the_history_comes_in_an_envelope(api):
    (job_id,) = api.enqueue()
    answer = api.get(f"/api/ai/generations/{job_id}").json()
    generation = answer.pop("generation")
    assert answer == {"status": "success", "status_message": "resource_found"}
    assert (generation["status"], generation["cost"]) == ("succeeded", "0.0187")


def test_an_empty_history_costs_null(api):
    answer = api.get("/api/ai/generations").json()
    assert (answer["total_cost"], answer["total_entries"], answer["total_pages"]) == (None, 0, 1)


def test_cancel_keeps_the_row_as_cancelled_and_uncharged(start):
    api = start(reads=5)
    (job_id,) = api.enqueue()
    reply = api.http.delete(f"/api/ai/queue/{job_id}")
    assert (reply.status_code, reply.json()) == (
        200,
        {"status": "success", "generation_id": job_id},
    )
    row = api.oxen(job_id)
    assert (row["status"], row["result_url"]) == ("cancelled", None)
    assert row["completed_at"] is not None
    assert not api.sandbox.purchases()[0].charged
    assert api.get(f"/api/ai/generations/{job_id}").json()["generation"]["cost"] is None


def test_cancel_on_a_finished_row_has_no_effect(api):
    (job_id,) = api.enqueue()
    api.oxen(job_id)
    reply = api.http.delete(f"/api/ai/queue/{job_id}")
    assert (reply.status_code, reply.json()) == (
        200,
        {"status": "success", "generation_id": job_id},
    )
    assert api.oxen(job_id)["status"] == "succeeded"


def test_what_is_unknown_about_cancel_can_be_chosen(start):
    choices = Choices(cancel_terminal_status=409, charge_cancelled=True)
    api = start(reads=3, choices=choices)
    (job_id,) = api.enqueue()
    assert [api.oxen(job_id)["status"] for _ in range(2)] == ["queued", "processing"]
    assert api.http.delete(f"/api/ai/queue/{job_id}").status_code == 200
    assert api.http.delete(f"/api/ai/queue/{job_id}").status_code == 409
    assert api.sandbox.purchases()[0].charged


def test_the_blocking_endpoint_answers_a_link(api, probe):
    body = {"model": STARLIGHT, "input_video": api.source, "resolution": "1080p"}
    reply = api.post("/api/ai/videos/generate", body)
    answer = reply.json()
    assert reply.status_code == 200
    assert set(answer) == {"created", "model", "videos"}
    assert list(answer["videos"][0]) == ["url"]
    assert probe(api.http.get(answer["videos"][0]["url"]).content).size == (1920, 1080)
    assert api.sandbox.purchases()[0].cost == Decimal("0.0187")


def test_the_blocking_endpoint_answers_base64(api, probe):
    body = {"model": STARLIGHT, "input_video": api.source, "resolution": "1080p"}
    reply = api.post("/api/ai/videos/generate", body | {"response_format": "b64_json"})
    (video,) = reply.json()["videos"]
    assert list(video) == ["b64_json"]
    assert probe(base64.b64decode(video["b64_json"], validate=True)).size == (1920, 1080)
    assert api.post("/api/ai/videos/generate", body | {"response_format": "x"}).status_code == 400


def test_a_blocking_generation_that_fails_is_500_and_free(api):
    api.sandbox.fault("job", "fail", message="Getting model response error: 422 - no")
    body = {"model": STARLIGHT, "input_video": api.source}
    reply = api.post("/api/ai/videos/generate", body)
    assert reply.status_code == 500
    assert reply.json() == {"error": {"message": "Getting model response error: 422 - no"}}
    assert not api.sandbox.purchases()[0].charged


def test_a_blocking_generation_is_in_the_history_and_not_in_the_queue(start):
    body = {"model": STARLIGHT, "resolution": "1080p"}
    api = start(reads=1)
    api.post("/api/ai/videos/generate", body | {"input_video": api.source})
    (job_id,) = api.sandbox.jobs
    assert api.get(f"/api/ai/queue/{job_id}").status_code == 404
    assert api.get("/api/ai/generations").json()["count"] == 1
    hidden = start(reads=1, choices=Choices(sync_in_history=False))
    hidden.post("/api/ai/videos/generate", body | {"input_video": hidden.source})
    assert hidden.get("/api/ai/generations").json()["count"] == 0


def test_whether_the_history_shows_active_rows_can_be_chosen(start):
    for shown in (True, False):
        api = start(reads=2, choices=Choices(history_shows_active=shown))
        (job_id,) = api.enqueue()
        assert api.get("/api/ai/generations").json()["count"] == int(shown)
        assert [api.oxen(job_id)["status"] for _ in range(2)][1] == "succeeded"
        assert api.get("/api/ai/generations").json()["count"] == 1


def test_models_tell_price_and_schema(api):
    listed = api.get("/api/ai/models").json()
    assert listed["object"] == "list"
    assert len(listed["data"]) == 8
    card = api.get(f"/api/ai/models/{STARLIGHT}").json()
    assert card["pricing"] == {
        "method": "per_video_output_second",
        "cost_per_second": 0.0374,
        "cost_per_second_high_res": 0.1494,
    }
    schema = card["request_schema"]
    assert schema["required"] == ["input_video"]
    assert schema["properties"]["resolution"]["enum"] == ["1080p", "2k", "4k"]
    found = api.get("/api/ai/models/search", search="Starlight").json()["data"]
    assert [model["id"] for model in found] == [STARLIGHT]
    assert api.get("/api/ai/models", developer_name="nobody").json()["data"] == []
    missing = api.get("/api/ai/models/nope")
    assert missing.json() == {"error": {"message": "Model not found: nope"}}
    assert missing.status_code == 404


def test_models_can_answer_without_a_key(start):
    api = start(choices=Choices(open_models=True))
    reply = api.http.get("/api/ai/models", headers={"Authorization": "Bearer wrong"})
    assert reply.status_code == 200
    assert api.http.get("/api/ai/queue", headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize(("method", "status"), [("PUT", 405), ("GET", 404)])
def test_what_does_not_exist_is_answered_in_oxens_shape(api, method, status):
    path = "/api/ai/queue" if method == "PUT" else "/api/ai/nothing"
    reply = api.http.request(method, path)
    assert reply.status_code == status
    assert "error" in reply.json()
