"""Results and sources over HTTP: ranges, validators, signed links, uploads."""

import base64
import hashlib
from datetime import datetime

import httpx
import pytest

from prefect_topaz.sandbox import Choices


@pytest.fixture
def source(api, clip):
    return api.source, clip.read_bytes()


def fetch(url, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(url, headers=named)


def test_a_whole_file_has_length_and_a_strong_content_etag(source):
    url, content = source
    reply = fetch(url)
    assert (reply.status_code, reply.content) == (200, content)
    assert reply.headers["content-length"] == str(len(content))
    assert reply.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.headers["last-modified"].endswith("GMT")


def test_head_tells_the_same_without_a_body(source):
    url, _ = source
    head, get = httpx.head(url), fetch(url)
    assert head.content == b""
    for name in ("content-length", "etag", "last-modified", "content-type"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-99", 0, 99), ("100-", 100, None), ("-50", -50, None), ("10-10", 10, 10)],
)
def test_one_range_is_206(source, asked, first, last):
    url, content = source
    reply = fetch(url, Range=f"bytes={asked}")
    wanted = content[first : None if last is None else last + 1]
    start = len(content) - len(wanted) if first < 0 else first
    assert (reply.status_code, reply.content) == (206, wanted)
    end = start + len(wanted) - 1
    assert reply.headers["content-range"] == f"bytes {start}-{end}/{len(content)}"
    assert reply.headers["content-length"] == str(len(wanted))


def test_a_range_past_the_end_is_cut_or_416(source):
    url, content = source
    size = len(content)
    assert fetch(url, Range=f"bytes=5-{size + 9}").content == content[5:]
    for asked in (f"bytes={size}-", "bytes=-0"):
        reply = fetch(url, Range=asked)
        assert (reply.status_code, reply.content) == (416, b"")
        assert reply.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=0-1", "bytes=x-1", "bytes=9-3", "bytes"])
def test_a_range_that_is_not_understood_is_ignored(source, asked):
    url, content = source
    assert fetch(url, Range=asked).content == content


def test_if_range_guards_against_another_version(source):
    url, content = source
    now = fetch(url).headers
    for current in (now["etag"], now["last-modified"]):
        assert fetch(url, Range="bytes=0-9", If_Range=current).status_code == 206
    for old in ('"other"', f"W/{now['etag']}", "Mon, 01 Jan 2024 00:00:00 GMT", "nonsense"):
        reply = fetch(url, Range="bytes=0-9", If_Range=old)
        assert (reply.status_code, reply.content) == (200, content)


def test_media_under_a_taken_name_gets_the_new_content(api):
    first = api.sandbox.host(b"one", "folder/a b.mp4")
    before = httpx.head(first).headers["etag"]
    assert api.sandbox.host(b"two", "folder/a b.mp4") == first
    assert httpx.get(first).content == b"two"
    assert httpx.head(first).headers["etag"] != before
    assert httpx.get(f"{api.sandbox.url}/media/none.mp4").status_code == 404


def test_result_links_need_no_key_and_take_one(api):
    for link in (api.oxen_link(), api.evolink_link()):
        plain, keyed = fetch(link), fetch(link, Authorization="Bearer sandbox-key")
        assert plain.status_code == keyed.status_code == 200
        assert plain.content == keyed.content
        assert fetch(link, Range="bytes=0-9").status_code == 206
        digest = hashlib.sha256(plain.content).hexdigest()
        assert httpx.head(link).headers["etag"] == f'"{digest}"'


def test_a_link_works_until_it_expires_and_a_read_signs_a_fresh_one(start, clock):
    api = start(reads=1, link_seconds=60, clock=clock)
    (job_id,), task_id = api.enqueue(), api.create().json()["id"]
    links = [api.oxen(job_id)["result_url"], api.evolink(task_id)["results"][0]]
    assert [fetch(link).status_code for link in links] == [200, 200]
    clock.now += 60
    assert [fetch(link).status_code for link in links] == [403, 403]
    fresh = [api.oxen(job_id)["result_url"], api.evolink(task_id)["results"][0]]
    assert [fetch(link).status_code for link in fresh] == [200, 200]


def test_links_can_stay_as_they_were_signed_first(start, clock):
    api = start(reads=1, clock=clock, choices=Choices(resign_links=False))
    (job_id,) = api.enqueue()
    first = api.oxen(job_id)["result_url"]
    clock.now += 10
    assert api.oxen(job_id)["result_url"] == first


def test_a_link_that_was_tampered_with_is_403(api):
    for link in (api.oxen_link(), api.evolink_link()):
        path, _, query = link.partition("?")
        expires = query.rpartition("=")[2]
        later = query.replace(expires, str(int(expires) + 1))
        for bad in (path, f"{path}?{later}", f"{link}0", f"{path}?expires=x&signature=y"):
            assert fetch(bad).status_code == 403
    other = api.evolink_link()
    assert fetch(f"{path}?{other.partition('?')[2]}").status_code == 403


def test_evolinks_media_host_turns_pythons_default_agent_away(api):
    link = api.evolink_link()
    reply = fetch(link, User_Agent="Python-urllib/3.11")
    assert (reply.status_code, reply.text) == (403, "error code: 1010")
    assert fetch(api.oxen_link(), User_Agent="Python-urllib/3.11").status_code == 200


def test_a_streamed_upload_is_served_in_public(api, clip):
    content = clip.read_bytes()
    reply = api.http.post(
        "/api/v1/files/upload/stream",
        files={"file": ("holiday clip.mp4", content, "video/mp4")},
        data={"upload_path": "a/b"},
    )
    answer = reply.json()
    data = answer["data"]
    assert (reply.status_code, answer["success"], answer["code"]) == (200, True, 200)
    assert (data["file_name"], data["original_name"]) == ("holiday clip.mp4",) * 2
    assert (data["file_size"], data["mime_type"]) == (len(content), "video/mp4")
    assert data["upload_path"] == "a/b"
    assert data["file_url"] == data["download_url"]
    kept = datetime.fromisoformat(data["expires_at"]) - datetime.fromisoformat(data["upload_time"])
    assert kept.total_seconds() == 72 * 3600
    assert httpx.get(data["file_url"]).content == content
    assert api.create(video_urls=[data["file_url"]]).status_code == 200


def test_uploads_by_url_and_base64_do_the_same(api, clip):
    content = clip.read_bytes()
    encoded = base64.b64encode(content).decode()
    bodies = {
        "url": {"file_url": api.source, "fileName": "x.mp4", "uploadPath": "p"},
        "base64": {"base64_data": f"data:video/mp4;base64,{encoded}", "file_name": "x.mp4"},
    }
    for way, body in bodies.items():
        data = api.post(f"/api/v1/files/upload/{way}", body).json()["data"]
        assert (data["file_name"], data["mime_type"]) == ("x.mp4", "video/mp4")
        assert httpx.get(data["file_url"]).content == content
    raw = api.post("/api/v1/files/upload/base64", {"base64_data": encoded}).json()["data"]
    assert raw["mime_type"] == "application/octet-stream"
    quota = api.get("/api/v1/files/quota").json()["data"]
    assert (quota["used_files"], quota["max_files"], quota["remain_files"]) == (3, 2000, 1997)


def test_an_upload_expires(start, clock):
    api = start(clock=clock)
    files = {"file": ("a.mp4", b"x", "video/mp4")}
    url = api.http.post("/api/v1/files/upload/stream", files=files).json()["data"]["file_url"]
    assert httpx.get(url).status_code == 200
    clock.now += 72 * 3600
    assert httpx.get(url).status_code == 404


def upload(api, name="a.mp4"):
    files = {"file": (name, b"x", "video/mp4")}
    return api.http.post("/api/v1/files/upload/stream", files=files)


def test_an_uploaded_file_can_be_listed_and_deleted(api):
    first, second = (upload(api, name).json()["data"] for name in ("a.mp4", "b.mp4"))
    listed = api.get("/api/v1/files/list").json()["data"]
    assert [one["file_id"] for one in listed["list"]] == [second["file_id"], first["file_id"]]
    assert api.get("/api/v1/files/list", page=2, pageSize=1).json()["data"]["list"] == [first]
    where = f"/api/v1/files/{first['file_id']}"
    assert api.http.delete(where).json()["success"]
    assert api.http.delete(where).status_code == 404
    assert httpx.get(first["file_url"]).status_code == 404
    assert httpx.get(second["file_url"]).status_code == 200
    assert [one.deleted for one in api.sandbox.uploads()] == [True, False]
    assert api.get("/api/v1/files/quota").json()["data"]["used_files"] == 1


def test_the_files_api_may_know_no_deleting(start):
    api = start(choices=Choices(files_delete=False))
    file_id = upload(api).json()["data"]["file_id"]
    assert api.http.delete(f"/api/v1/files/{file_id}").status_code == 404
    assert api.get("/api/v1/files/list").status_code == 404


def test_a_full_store_takes_a_file_when_another_expires(start, clock):
    api = start(clock=clock, choices=Choices(max_files=1))
    assert upload(api).status_code == 200
    full = upload(api)
    assert (full.status_code, full.json()["success"]) == (400, False)
    assert api.get("/api/v1/files/quota").json()["data"]["remain_files"] == 0
    clock.now += 72 * 3600
    assert upload(api).status_code == 200


def test_bad_uploads_are_refused_in_the_files_shape(api):
    base = "/api/v1/files/upload"
    replies = [
        api.http.post(f"{base}/stream", data={"file_name": "x"}),
        api.http.post(f"{base}/stream", files={"other": b"x"}),
        api.http.post(
            f"{base}/stream", content=b"broken", headers={"Content-Type": "multipart/form-data"}
        ),
        api.post(f"{base}/url", {"file_url": "file:///etc/hosts"}),
        api.post(f"{base}/url", {"file_url": f"{api.sandbox.url}/media/none"}),
        api.http.post(f"{base}/url", content=b"x"),
        api.post(f"{base}/base64", {}),
        api.post(f"{base}/base64", {"base64_data": "***"}),
    ]
    for reply in replies:
        answer = reply.json()
        assert (reply.status_code, answer["success"], answer["code"]) == (400, False, 400)
        assert set(answer) == {"success", "code", "msg"}
    keyless = api.http.get("/api/v1/files/quota", headers={"Authorization": ""})
    assert (keyless.status_code, keyless.json()["success"]) == (401, False)
    assert api.sandbox.ledger.submits == 0


def test_an_upload_over_the_limit_is_413_before_it_is_read_whole(start):
    api = start(choices=Choices(upload_limit=1000))
    base, big = "/api/v1/files/upload", b"x" * 1001
    far = b"x" * 400_000

    def chunked():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield far
        yield b"\r\n--b--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    replies = [
        api.http.post(f"{base}/stream", files={"file": ("a.mp4", big, "video/mp4")}),
        api.http.post(f"{base}/stream", content=chunked(), headers=kind),
        api.post(f"{base}/base64", {"base64_data": base64.b64encode(big).decode()}),
        api.post(f"{base}/url", {"file_url": api.sandbox.host(big, "big.bin")}),
    ]
    for reply in replies:
        assert (reply.status_code, reply.json()["msg"]) == (413, "request_too_large")
    assert api.get("/api/v1/files/quota").json()["data"]["used_files"] == 0


def test_the_files_api_can_take_images_only(start):
    api = start(choices=Choices(upload_video=False))

    def upload(kind):
        files = {"file": ("a", b"x", kind)}
        return api.http.post("/api/v1/files/upload/stream", files=files).status_code

    assert (upload("video/mp4"), upload("image/png")) == (400, 200)
