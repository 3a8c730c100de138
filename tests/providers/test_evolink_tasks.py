"""EvoLink's tasks, listings and files: what each answer means (docs/providers.md, 2.4 to 2.10)."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from prefect_topaz import errors
from prefect_topaz.providers.evolink import UPLOAD_LIMIT, EvoLinkOptions, Provider
from prefect_topaz.wire import Upload
from tests.providers.answers import reply
from tests.providers.live import shop_of
from tests.providers.samples import SOURCE
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
        evolink.read_upload(reply(200, body))


def test_an_upload_goes_to_the_files_host():
    call = evolink.upload(Upload(Path(__file__), "file", "clip.mp4", 1))
    assert call.url == "https://files-api.evolink.ai/api/v1/files/upload/stream"
    assert evolink.origins == {"https://api.evolink.ai", "https://files-api.evolink.ai"}
    body = {"success": True, "code": 200, "data": {"file_url": SOURCE}}
    assert evolink.read_upload(reply(200, body)) == SOURCE


def test_a_file_that_is_too_large_is_not_uploaded():
    large = Upload(Path("large.mp4"), "file", "large.mp4", UPLOAD_LIMIT + 1)
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
