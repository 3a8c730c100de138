"""EvoLink's tasks, listings and files: what each answer means (docs/providers.md, 2.4 to 2.10)."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from prefect_topaz import errors
from prefect_topaz.providers._evolink_files import UPLOAD_LIMIT
from prefect_topaz.providers.evolink import EvoLinkOptions, Provider
from tests.providers.answers import reply
from tests.providers.live import shop_of
from tests.providers.samples import SOURCE, UPLOAD
from tests.providers.test_evolink import LINK, TASK, evolink, task


def read(body: dict[str, Any]):
    return evolink.read_status(TASK, reply(200, body))


@pytest.mark.parametrize(
    "data",
    [
        *[{"video_url": LINK, "duration": 4}, [{"video_url": LINK}]],
        [{}, None, {"video_url": None}, {"video_url": LINK}],
    ],
)
@pytest.mark.parametrize("results", [None, [], [None], ["nonsense"]])
def test_a_result_may_lie_in_the_result_data(data, results):
    status = read(task("completed", results=results, result_data=data))
    assert [link.reveal() for link in status.results] == [LINK]


@pytest.mark.parametrize("changes", [{"results": []}, {"results": None}, {"results": "x"}])
def test_completed_without_a_result_is_no_end_yet(changes):
    status = read(task("completed", **changes))
    assert (status.phase, status.is_final) == ("succeeded", False)


def test_a_failure_may_come_without_its_reason():
    for body in (task("failed", error=None), task("failed", error="text")):
        status = read(body)
        assert (status.phase, status.error, status.code) == ("failed", None, None)
    status = read(task("failed"))
    assert (status.error, status.code) == ("about service_error", "service_error")


@pytest.mark.parametrize(
    ("word", "billing", "billed"),
    [
        ("failed", {}, "no"),
        ("failed", {"charge_status": "released"}, "no"),
        ("failed", {"charge_status": "charged", "charged_credits": 5}, "yes"),
        ("completed", {}, "yes"),
        ("cancelled", {}, "maybe"),
        ("cancelled", {"charge_status": "charged"}, "yes"),
        ("processing", {"charge_status": "reserved"}, "maybe"),
    ],
)
def test_what_a_task_costs_goes_by_its_billing(word, billing, billed):
    assert read(task(word, billing=billing)).billed == billed


@pytest.mark.parametrize(
    ("usage", "billing", "reserved", "charged"),
    [
        ({"credits_reserved": 28.8, "credits_used": 20}, {}, "28.8", "20"),
        ({}, {"reserved_credits": 3, "charge_status": "charged", "charged_credits": 2}, "3", "2"),
        ({"credits_reserved": 3}, {"charge_status": "reserved", "charged_credits": 0}, "3", None),
        ({"credits_reserved": 3}, {"charge_status": "released", "charged_credits": 0}, "3", "0"),
        ({"credits_reserved": "much"}, {}, None, None),
    ],
)
def test_credits_are_read_where_they_are(usage, billing, reserved, charged):
    cost = read(task("completed", usage=usage, billing=billing)).cost
    found = (None, None) if cost is None else (cost.reserved, cost.charged)
    assert found == tuple(value and Decimal(value) for value in (reserved, charged))


def test_a_listing_proves_nothing_about_its_tasks():
    rows = [{"id": TASK, "model": "topaz-video-upscale", "created_at": 1757169743}]
    rows += [{"id": "other", "model": "veo"}, {"model": "topaz-video-upscale"}, None]
    (found,) = evolink.read_lookup(EvoLinkOptions().order(), "x", [reply(200, {"data": rows})])
    assert (found.job_id, found.created_at, found.exact) == (TASK, 1757169743, False)


async def test_many_tasks_are_asked_for_fifty_at_a_time(sandbox, clip):
    client = shop_of(sandbox, clip).client(Provider(sandbox.url))
    assert await client.statuses([f"task-unified-{number}" for number in range(101)]) == {}
    batches = [one for one in sandbox.requests() if one.path == "/v1/tasks/batch"]
    assert len(batches) == 3


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "code": 500, "msg": "no video, please"},
        {"success": False, "code": 400, "msg": "x", "data": {"file_url": SOURCE}},
        {"success": True, "code": 200, "data": {}},
        {"success": True, "code": 200, "data": {"file_url": None}},
        {},
    ],
)
def test_an_upload_may_fail_with_http_200(body):
    with pytest.raises(errors.TopazError):
        evolink.read_upload(UPLOAD, reply(200, body))


def test_an_upload_goes_to_the_files_host():
    call = evolink.upload(UPLOAD)
    assert call.url == "https://files-api.evolink.ai/api/v1/files/upload/stream"
    assert evolink.origins == {"https://api.evolink.ai", "https://files-api.evolink.ai"}
    body = {"success": True, "code": 200, "data": {"file_url": SOURCE}}
    assert evolink.read_upload(UPLOAD, reply(200, body)).url.reveal() == SOURCE


def test_an_upload_tells_its_id_and_when_it_expires():
    data = {"file_url": SOURCE, "file_id": "f/1", "expires_at": "2026-03-04T12:00:00+08:00"}
    body = {"success": True, "code": 200, "data": data}
    found = evolink.read_upload(UPLOAD, reply(200, body))
    assert str(found.expires_at) == "2026-03-04 12:00:00+08:00"
    call = evolink.discard(found.reference)
    assert (call.method, call.url.rpartition("/")[2]) == ("DELETE", "f%2F1")


@pytest.mark.parametrize("said", [None, "", 7, "tomorrow", "2026-03-04T12:00:00"])
def test_an_expiry_that_cannot_be_read_is_none(said):
    body = {"success": True, "data": {"file_url": SOURCE, "file_id": 7, "expires_at": said}}
    found = evolink.read_upload(UPLOAD, reply(200, body))
    assert (found.reference, found.expires_at) == (None, None)


@pytest.mark.parametrize(
    ("status", "data", "full"),
    [
        (200, {"remain_files": 0, "max_files": 100, "quota_reason": "free plan"}, True),
        (200, {"remain_files": 0}, True),
        (200, {"remain_files": 1}, False),
        (200, {"remain_files": None}, False),
        (200, [], False),
        (500, {"remain_files": 0}, False),
    ],
)
def test_only_a_plain_no_room_says_that_the_store_is_full(status, data, full):
    assert (evolink.read_quota(reply(status, {"success": True, "data": data})) is not None) == full


def test_a_file_that_is_too_large_is_not_uploaded():
    large = replace(UPLOAD, size=UPLOAD_LIMIT + 1)
    with pytest.raises(errors.UnusableSource, match=r"larger than .* \(95 MiB\)"):
        evolink.upload(large)


def test_both_addresses_are_checked():
    assert Provider("http://127.0.0.1:8089").files_url == "http://127.0.0.1:8089"
    assert Provider("", "https://files.example.com").origins == {
        *("https://api.evolink.ai", "https://files.example.com")
    }
    with pytest.raises(errors.InvalidRequest):
        Provider("", "http://files.example.com")


def test_the_balance_can_be_asked_for():
    assert evolink.credits().url == "https://api.evolink.ai/v1/credits"


@pytest.mark.parametrize(
    "source", [SOURCE, "CLIP.MP4", "https://example.com/a.MP4?x=.mov", "/videos/a b.mp4"]
)
def test_mp4_sources_are_taken(source):
    evolink.check_source(source)
