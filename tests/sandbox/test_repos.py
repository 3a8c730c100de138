"""Oxen's repositories: files under a path, each change a commit, public or not."""

from datetime import datetime

import httpx
import pytest

from prefect_topaz.sandbox import SandboxClient
from prefect_topaz.sandbox.choices import Choices

AUTHOR = {"message": "m", "name": "Me", "email": "me@example.com"}
WHERE = "/api/repos/me/clips/file/main/a/b.mp4"


def create(api, **fields):
    return api.post("/api/repos", {"namespace": "me", "name": "clips", **fields})


def put(api, path=WHERE, content=b"video", part="file", **changes):
    files = {part: ("b.mp4", content, "video/mp4")}
    return api.http.put(path, files=files, data=AUTHOR | changes)


def delete(api, path=WHERE, fields=AUTHOR):
    return api.http.request("DELETE", path, files={k: (None, v) for k, v in fields.items()})


def stranger(api, path=WHERE):
    return httpx.get(f"{api.sandbox.url}{path}")


def test_a_repository_is_made_once(api):
    made = create(api, is_public=True).json()
    assert made["status_message"] == "resource_created"
    assert made["repository"] == {"namespace": "me", "name": "clips", "is_public": True}
    assert create(api).status_code == 409
    for wrong in ({"name": ""}, {"namespace": "a/b"}, {"name": None}):
        assert create(api, **wrong).status_code == 400


def test_a_file_is_put_as_a_commit_and_read_by_anybody(api):
    create(api, is_public=True)
    first, second = put(api).json(), put(api, content=b"other").json()
    assert first["status"] == "success"
    commit = second["commit"]
    assert (commit["message"], commit["author"], commit["email"]) == (
        *("m", "Me", "me@example.com"),
    )
    assert commit["parent_ids"] == [first["commit"]["id"]]
    assert datetime.fromisoformat(commit["timestamp"]).tzinfo
    reply = stranger(api)
    assert (reply.content, reply.headers["content-type"]) == (b"other", "video/mp4")
    ranged = httpx.get(f"{api.sandbox.url}{WHERE}", headers={"Range": "bytes=0-0"})
    assert (ranged.status_code, ranged.content) == (206, b"o")


def test_the_newer_part_name_takes_the_path_for_a_folder(api):
    create(api, is_public=True)
    assert put(api, "/api/repos/me/clips/file/main/a", part="files[]").status_code == 200
    assert stranger(api).content == b"video"
    assert put(api, part="other").status_code == 400


def test_a_change_needs_an_author_unless_told_otherwise(api, start):
    create(api)
    assert api.http.put(WHERE, files={"file": b"x"}).status_code == 400
    put(api)
    assert api.http.delete(WHERE).status_code == 400
    lax = start(choices=Choices(commit_fields=False))
    create(lax)
    assert lax.http.put(WHERE, files={"file": b"x"}).status_code == 200
    assert lax.http.delete(WHERE).status_code == 200


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_private_file_is_for_its_owner(start, status):
    api = start(choices=Choices(private_status=status))
    create(api)
    put(api)
    assert stranger(api).status_code == status
    assert api.get(WHERE).content == b"video"


def test_an_input_is_read_from_a_private_repository_only_if_that_is_chosen(start, clip):
    seen = []
    for chosen in (False, True):
        api = start(reads=1, choices=Choices(private_inputs=chosen))
        create(api)
        put(api, content=clip.read_bytes())
        (job_id,) = api.enqueue(input_video=f"{api.sandbox.url}{WHERE}")
        seen.append(api.oxen(job_id)["status"])
    assert seen == ["failed", "succeeded"]


def test_what_is_not_there_is_404(api):
    assert put(api).status_code == 404
    create(api)
    assert put(api, WHERE.replace("main", "side")).status_code == 404
    assert api.get(WHERE).status_code == delete(api).status_code == 404


def test_a_broken_form_is_refused(api):
    create(api)
    kind = {"Content-Type": "multipart/form-data"}
    assert api.http.put(WHERE, content=b"broken", headers=kind).status_code == 400


def test_changes_need_the_key(api):
    create(api, is_public=True)
    put(api)
    for method, path in (("POST", "/api/repos"), ("PUT", WHERE), ("DELETE", WHERE)):
        reply = httpx.request(method, f"{api.sandbox.url}{path}")
        assert (reply.status_code, reply.json()["status_message"]) == (401, "unauthenticated")


def test_the_ledger_knows_uploads_and_deletions(api):
    create(api)
    put(api)
    put(api, WHERE.replace("b.mp4", "c.mp4"), content=b"four")
    assert delete(api).json()["status"] == "success"
    assert delete(api).status_code == 404
    told = [(one.provider, one.reference, one.size, one.deleted) for one in api.sandbox.uploads()]
    assert told == [
        ("oxen", "me/clips/main/a/b.mp4", 5, True),
        ("oxen", "me/clips/main/a/c.mp4", 4, False),
    ]
    assert SandboxClient(api.sandbox.url).uploads() == api.sandbox.uploads()


def test_results_are_no_files_of_a_repository(api):
    """Faults and refusals tell them apart by their path."""
    create(api, is_public=True)
    put(api)
    api.sandbox.fault("result", "gone")
    assert stranger(api).status_code == 200
    assert httpx.get(api.oxen_link()).status_code == 410
    api.sandbox.fault("media", "gone")
    assert stranger(api).status_code == 410
