"""Local files for providers that read links: copied to a block's folder or a repository, and gone."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from prefect_topaz import (
    OxenCredentials,
    OxenUpscaler,
    StorageLocation,
    UpscaleJob,
    settle_upscales,
    submit_upscale,
    upscale_video,
    wait_for_upscale,
)
from tests.prefect.support import FAST

SECRET = "canary-store-secret-51f7"


@pytest.fixture
def shelf(s3) -> StorageLocation:
    name = f"shelf-{uuid.uuid4().hex[:8]}"
    options = {**s3.options, "secret": SECRET}
    StorageLocation(url=f"{s3.url}/staging", options=options).save(name)
    return StorageLocation.load(name)


@pytest.fixture
def repository(sandbox) -> OxenUpscaler:
    httpx.post(
        f"{sandbox.url}/api/repos",
        json={"namespace": "me", "name": "clips", "is_public": True},
        headers={"Authorization": f"Bearer {sandbox.api_key}"},
    ).raise_for_status()
    credentials = OxenCredentials(
        api_key=sandbox.api_key, base_url=sandbox.url, staging_repo="me/clips"
    )
    return OxenUpscaler(credentials=credentials, resolution="1080p")


def left(s3: Any) -> list[str]:
    s3.fs.invalidate_cache()
    return s3.fs.find(s3.url)


def test_a_local_file_goes_by_a_saved_folder(oxen, shelf, *, clip, s3, tmp_path, sandbox, api):
    given = {"staging": shelf, **FAST}
    state = upscale_video(str(clip), tmp_path, oxen, **given, return_state=True)
    assert state.result().job_id == sandbox.purchases()[0].job_id
    assert left(s3) == []
    run = api.run(state.state_details.flow_run_id)
    journal = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "storage-location/shelf-" in journal
    for text in (json.dumps(run), journal):
        assert SECRET not in text
        assert "Signature=" not in text


def test_a_folder_that_was_never_saved_works_within_the_run(oxen, clip, s3, tmp_path):
    shelf = StorageLocation(url=f"{s3.url}/staging", options=s3.options)
    upscale_video(str(clip), tmp_path, oxen, staging=shelf, **FAST)
    assert left(s3) == []


def test_another_process_removes_the_copy_by_the_saved_block(oxen, shelf, clip, s3, tmp_path):
    job = submit_upscale(str(clip), oxen, tmp_path, staging=shelf)
    assert len(left(s3)) == 1
    persisted = job.model_dump_json()
    assert SECRET not in persisted
    elsewhere = UpscaleJob.model_validate_json(persisted).model_copy(update={"staging": None})
    wait_for_upscale(elsewhere, oxen, poll_seconds=0.05)
    assert left(s3) == []


def test_settling_removes_the_copy_of_a_job_that_nobody_waited_for(oxen, shelf, clip, s3, tmp_path):
    submit_upscale(str(clip), oxen, tmp_path, staging=shelf)
    for _ in range(3):
        settle_upscales(tmp_path, oxen)
    assert left(s3) == []


def test_a_local_file_goes_by_a_repository_that_the_credentials_name(
    repository, clip, tmp_path, sandbox
):
    upscale_video(str(clip), tmp_path, repository, **FAST)
    (upload,) = sandbox.uploads()
    assert upload.reference.startswith("me/clips/main/prefect-topaz/")
    assert upload.deleted
    assert len(sandbox.purchases()) == 1


def test_a_repository_is_named_by_two_words():
    with pytest.raises(ValueError, match="give namespace/name"):
        OxenCredentials(api_key="k", staging_repo="clips")
