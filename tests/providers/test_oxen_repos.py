"""Oxen.ai's repositories as a store for copies of sources."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from prefect_topaz import errors
from prefect_topaz.providers.oxen import Provider
from prefect_topaz.wire import Upload
from tests.providers.answers import reply
from tests.providers.samples import UPLOAD

with_repo = Provider(staging_repo="me/clips")
# The shape of an answer to a change [O7].
COMMIT = {"id": "c0ffee", "message": "m", "author": "a", "email": "e", "parent_ids": []}
COMMITTED = {"status": "success", "status_message": "resource_created", "commit": COMMIT}


def test_without_a_repository_nothing_is_uploaded():
    assert Provider().upload(UPLOAD) is None
    assert Provider().reference(UPLOAD) is None


def test_a_file_is_put_under_its_own_name_as_a_commit():
    call = with_repo.upload(UPLOAD)
    assert call.method == "PUT"
    assert urlsplit(call.url).path == ("/api/repos/me/clips/file/main/prefect-topaz/copy/clip.mp4")
    assert call.upload.part == "file"
    assert set(call.upload.fields) == {"message", "name", "email"}
    assert call.repeatable


def test_what_is_known_before_is_what_is_deleted_after():
    reference = with_repo.reference(UPLOAD)
    found = with_repo.read_upload(UPLOAD, reply(200, COMMITTED))
    assert found.reference == reference
    assert found.expires_at is None
    call = Provider().discard(reference)
    assert (call.method, call.url) == ("DELETE", found.url.reveal())
    assert set(call.form) == {"message", "name", "email"}


@pytest.mark.parametrize("name", ["a b.mp4", "50%.mp4", "ü#1.mp4", "wh?t.mp4"])
def test_a_name_stays_one_piece_of_the_path(name):
    call = with_repo.upload(Upload(Path(__file__).open, "file", name, 1, folder="copy"))
    parts = urlsplit(call.url)
    assert (parts.query, parts.fragment) == ("", "")
    assert parts.path.startswith("/api/repos/me/clips/file/main/prefect-topaz/copy/")
    assert parts.path.count("/") == 9


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"status": "error", "status_message": "invalid_params"}),
        (400, {"error": {"type": "invalid_params", "title": "no"}, "status": "error"}),
        (401, {"status": "error", "status_message": "unauthenticated"}),
        (500, {}),
    ],
)
def test_a_refused_upload_is_a_typed_error_that_costs_nothing(status, body):
    with pytest.raises(errors.TopazError) as caught:
        with_repo.read_upload(UPLOAD, reply(status, body))
    assert caught.value.billed == "no"


def test_a_missing_repository_is_named():
    with pytest.raises(errors.UnusableSource, match=r"no repository me/clips .* public"):
        with_repo.read_upload(UPLOAD, reply(404, {}))


@pytest.mark.parametrize("name", ["clips", "me/clips/x", "me/", "/clips", "me/../x", "me/cl ips"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(errors.InvalidRequest, match="give namespace/name"):
        Provider(staging_repo=name)
