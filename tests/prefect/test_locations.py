"""`StorageLocation`: a store's settings kept secret, taken wherever a place or a source is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from typing import Any

import pytest
from prefect.filesystems import RemoteFileSystem
from prefect.logging.handlers import APILogHandler
from prefect.utilities.callables import parameter_schema

from prefect_topaz import (
    StorageLocation,
    UpscaleJob,
    asettle_upscales,
    aupscale_video,
    aupscale_videos,
    settle_upscales,
    submit_upscale,
    upscale_video,
    upscale_videos,
)
from prefect_topaz.errors import UnusableSource
from prefect_topaz.locations import place_of, with_settings
from prefect_topaz.models import Place
from tests.prefect.support import FAST, HOME
from tests.prefect.test_secrets import assert_unseen, assert_unseen_by_prefect

SECRET = "canary-store-secret-82c4"
FORMS = [aupscale_video, upscale_video, aupscale_videos, upscale_videos]


def saved(block: Any) -> Any:
    """Save a block under a new name, and load it as a run would."""
    name = f"place-{uuid.uuid4().hex[:8]}"
    block.save(name)
    return type(block).load(name)


@pytest.fixture
def secret_options(s3) -> dict[str, Any]:
    return {**s3.options, "secret": SECRET}


@pytest.fixture
def location(s3, secret_options) -> StorageLocation:
    return saved(StorageLocation(url=s3.url, options=secret_options))


def test_its_settings_are_seen_by_nobody(location, secret_options, api) -> None:
    assert location.options.get_secret_value() == secret_options
    documents = json.dumps(api.post("block_documents/filter", block_documents={}))
    assert location._block_document_name in documents
    shown = (documents, repr(location), str(location), location.model_dump_json())
    assert SECRET not in "".join(shown)


def test_a_mistake_in_it_is_refused_without_showing_it() -> None:
    for url in ("", "  ", f"sftp://me:{SECRET}@host/videos"):
        with pytest.raises(ValueError, match=r"StorageLocation|password") as caught:
            StorageLocation(url=url, options={"secret": SECRET})
        assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="settings; it has options, url"):
        StorageLocation(url="s3://bucket", settings={"secret": SECRET})
    with pytest.raises(ValueError, match="options") as wrong:
        StorageLocation(url="s3://bucket", options=f"secret={SECRET}")
    assert SECRET not in str(wrong.value)


def test_a_place_remembers_which_block_has_its_settings(location, secret_options, s3) -> None:
    other = saved(RemoteFileSystem(basepath=s3.url, settings=s3.options))
    for block, slug, options in (
        (location, "storage-location", secret_options),
        (other, "remote-file-system", s3.options),
    ):
        place = place_of(block)
        assert place.block == f"{slug}/{block._block_document_name}"
        assert (place.url, place.options) == (f"{s3.url}/", options)
        persisted = Place.model_validate_json(place.model_dump_json())
        assert persisted.options == {}
        assert asyncio.run(with_settings(persisted)) == place


def test_a_plain_block_name_of_an_older_journal_is_a_remote_file_system(s3) -> None:
    block = saved(RemoteFileSystem(basepath=s3.url, settings=s3.options))
    place = Place(url=s3.url, block=block._block_document_name)
    assert asyncio.run(with_settings(place)).options == s3.options


def test_a_block_that_was_never_saved_works_within_the_process(oxen, sandbox, clip) -> None:
    folder = uuid.uuid4().hex
    place = StorageLocation(url=f"memory://{folder}")
    assert place_of(place) == Place(url=f"memory://{folder}/")
    video = upscale_video(sandbox.host(clip), place, oxen, **FAST)
    assert video.url.endswith(f"/{folder}/clip-1080p.mp4")


def test_a_relative_folder_means_this_processs(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of(StorageLocation(url="videos")).url == f"{tmp_path}/videos/"


@pytest.mark.parametrize("provider", ["oxen", "evolink"])
def test_one_private_bucket_is_source_destination_and_journal(
    provider, request, location, *, sandbox, clip, s3, api
) -> None:
    upscaler = request.getfixturevalue(provider)
    s3.fs.put_file(str(clip), f"{s3.url}/in/take #1.mp4")
    given = {"source_storage": location, "link_seconds": 3600, **FAST}
    state = upscale_video("in/take #1.mp4", location, upscaler, **given, return_state=True)
    video = state.result()
    assert video.url.startswith(f"{s3.url}/take #1-")
    assert s3.fs.exists(video.preview_url)
    assert len(sandbox.purchases()) == 1
    assert upscale_video("in/take #1.mp4", location, upscaler, **given).cached
    APILogHandler().flush()
    canaries = (SECRET, "X-Amz-Signature")
    assert_unseen_by_prefect(api, state.state_details.flow_run_id)
    run = api.run(state.state_details.flow_run_id)
    assert_unseen("flow run", json.dumps(run), canaries)
    assert run["parameters"]["destination"]["options"] != location.options.get_secret_value()
    for path in s3.fs.find(f"{s3.url}/"):
        assert_unseen(path, s3.fs.cat_file(path), canaries)
    for path in (HOME / "storage").glob("*"):
        assert_unseen(str(path), path.read_bytes(), canaries)


def test_a_form_refers_to_it_in_every_place(location, evolink, *, sandbox, clip, s3, api) -> None:
    """As the UI starts a run: parameters refer to saved blocks."""
    s3.fs.put_file(str(clip), f"{s3.url}/in/clip.mp4")
    reference = {"$ref": {"block_document_id": str(location._block_document_id)}}
    preset = saved(evolink)
    parameters = {
        "source": "in/clip.mp4",
        "destination": reference,
        "journal": reference,
        "source_storage": reference,
        "upscaler": {"$ref": {"block_document_id": str(preset._block_document_id)}},
        **FAST,
    }
    resolved = aupscale_video.validate_parameters(_with_blocks(parameters))
    video = upscale_video(**resolved)
    assert s3.fs.exists(video.url)
    assert s3.fs.exists(f"{s3.url}/{video.work_key}/0001.json")
    assert len(sandbox.purchases()) == 1


def _with_blocks(parameters: dict[str, Any]) -> dict[str, Any]:
    from prefect.blocks.core import Block

    return {
        name: Block.load_from_ref(value["$ref"]) if isinstance(value, dict) else value
        for name, value in parameters.items()
    }


@pytest.mark.parametrize("flow", [*FORMS, asettle_upscales, settle_upscales])
def test_every_form_offers_it_where_it_offers_a_place(flow) -> None:
    schema = parameter_schema(flow.fn)
    names = {"destination", "journal", "source_storage"} & set(schema.properties)
    assert names >= ({"destination", "journal"} if flow not in FORMS else names)
    assert ("source_storage" in names) == (flow in FORMS)
    for name in names:
        offered = {
            one.get("$ref", "").rpartition("/")[2] for one in schema.properties[name]["anyOf"]
        }
        assert {"StorageLocation", "RemoteFileSystem"} <= offered, name
    assert schema.definitions["StorageLocation"]["block_type_slug"] == "storage-location"
    assert schema.definitions["StorageLocation"]["secret_fields"] == ["options.*"]


def test_a_batch_finds_and_reads_its_sources_with_its_settings(
    location, oxen, sandbox, clip, s3
) -> None:
    for name in ("a.mp4", "b.mp4"):
        data = clip.read_bytes() + len(name).to_bytes(4, "big") + b"free"
        s3.fs.pipe_file(f"{s3.url}/in/{name}", data + name.encode())
    s3.fs.pipe_file(f"{s3.url}/in/c.txt", b"x")
    out = StorageLocation(url=f"{s3.url}/out", options=location.options.get_secret_value())
    report = upscale_videos("in/*.mp4", out, oxen, source_storage=location, **FAST)
    assert [item.source for item in report.items] == [f"{s3.url}/in/{n}.mp4" for n in "ab"]
    assert not report.failed
    assert len(sandbox.purchases()) == 2
    given = ["in/a.mp4", f"{s3.url}/in/b.mp4", "../x.mp4"]
    report = upscale_videos(given, out, oxen, source_storage=location, **FAST)
    assert [item.video is not None for item in report.items] == [True, True, False]
    assert "is not inside source_storage" in report.items[2].error
    assert len(sandbox.purchases()) == 2


def test_a_job_goes_on_in_another_process_with_its_settings(
    location, oxen, sandbox, clip, s3
) -> None:
    s3.fs.put_file(str(clip), f"{s3.url}/in/clip.mp4")
    preset = saved(oxen)
    job = submit_upscale("in/clip.mp4", preset, location, source_storage=location)
    text = job.model_dump_json()
    assert_unseen("job", text, (SECRET,))
    code = f"""
import sys
from prefect_topaz import OxenUpscaler, UpscaleJob, store_upscale, wait_for_upscale
upscaler = OxenUpscaler.load({preset._block_document_name!r})
job = UpscaleJob.model_validate_json(sys.stdin.read())
(video,) = store_upscale(wait_for_upscale(job, upscaler, poll_seconds=0.05), upscaler)
print(video.url)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{s3.url}/clip-1080p.mp4" in done.stdout
    assert UpscaleJob.model_validate_json(text).destination.block == place_of(location).block


def test_a_run_of_a_block_reads_its_source_there_too(location, evolink, clip, s3) -> None:
    s3.fs.put_file(str(clip), f"{s3.url}/in/clip.mp4")
    run = evolink.trigger("in/clip.mp4", location, source_storage=location, link_seconds=3600)
    run.wait_for_completion(poll_seconds=0.05)
    video = run.fetch_result()
    assert s3.fs.exists(video.preview_url)
    assert SECRET not in repr(run)


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.mp4", b"text " * 500), ("empty.mp4", b""), ("missing.mp4", None), ("in", None)],
)
def test_an_unusable_source_costs_nothing(name, content, location, *, oxen, sandbox, s3) -> None:
    s3.fs.pipe_file(f"{s3.url}/in/x.txt", b"x")
    if content is not None:
        s3.fs.pipe_file(f"{s3.url}/{name}", content)
    with pytest.raises(UnusableSource) as caught:
        upscale_video(name, location, oxen, source_storage=location, **FAST)
    assert SECRET not in str(caught.value)
    assert not [one for one in sandbox.ledger.requests if one.method == "POST"]
