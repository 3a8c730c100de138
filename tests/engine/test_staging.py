"""Sources that no link leads to: copied for the provider, ordered once, and gone afterwards."""

from __future__ import annotations

import re
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from prefect_topaz import engine
from prefect_topaz.errors import (
    JobCancelled,
    JobFailed,
    ProviderRefused,
    ProviderUnavailable,
    UnusableDestination,
    UnusableSource,
)
from prefect_topaz.models import Place, StagedCopy, UpscaleJob
from prefect_topaz.providers import load
from prefect_topaz.providers._evolink_files import UPLOAD_LIMIT
from prefect_topaz.sandbox import Sandbox
from prefect_topaz.sandbox.choices import Choices
from prefect_topaz.sources import open_source
from tests.engine.bench import PROVIDERS, Bench
from tests.engine.shelf import Shelf, make_repo, shelf_of, uploads
from tests.fixtures_s3 import Bucket

# The way that goes well.


async def test_a_local_file_is_copied_read_and_gone_again(shelf: Shelf):
    job = await shelf.submit()
    assert len(shelf.left()) == 1
    await shelf.deliver()
    assert shelf.left() == []
    kinds = ["staging", "intent", "submitted", "finished", "unstaged", "stored"]
    assert await shelf.kinds() == kinds
    assert (shelf.bench.bought, shelf.bench.posts) == (list(job.job_ids), 1)


async def test_a_copy_has_a_name_of_its_own_and_the_sources_ending(shelf: Shelf):
    await shelf.submit()
    if shelf.name == "files":
        return  # this store makes its own names
    folder = r"staging|prefect-topaz"
    key = (await shelf.record()).key[:16]
    assert re.search(rf"/({folder})/{key}-[0-9a-f]{{16}}/clip\.mp4$", shelf.left()[0])


async def test_the_journal_knows_the_copy_and_no_secret(shelf: Shelf):
    await shelf.submit()
    record = await shelf.record()
    note, intent = record.latest("staging"), record.latest("intent")
    assert note.staged.name == intent.staged.name
    assert intent.staged.place or intent.staged.reference
    for file in Path(shelf.bench.folder).rglob("*.json"):
        text = file.read_text()
        assert "Signature" not in text
        assert '"secret"' not in text
        assert shelf.bench.sandbox.api_key not in text


async def test_the_expiry_is_recorded(bucket: Shelf, bench: Bench):
    await bucket.submit()
    ends = (await bucket.record()).latest("intent").staged.expires_at
    assert (ends - bench.clock.now()).total_seconds() > 6 * 3600
    files = shelf_of("files", bench, None)
    await files.submit()
    ends = (await files.record()).latest("intent").staged.expires_at
    assert abs((ends - bench.clock.now()).total_seconds() - 72 * 3600) < 60


async def test_a_source_with_a_link_is_not_copied(bucket: Shelf, s3: Bucket, bench: Bench):
    await bench.submit(staging=bucket.staging)
    assert bucket.left() == []
    assert await bench.kinds() == ["intent", "submitted"]
    s3.fs.put_file(str(bench.clip), f"{s3.url}/clip.mp4")
    storage = Place(url=s3.url, options=s3.options)
    source = await open_source("clip.mp4", load("oxen")(bench.sandbox.url), storage=storage)
    await engine.submit(bucket.context(), await bucket.purchase(source=source))
    assert len(bucket.left()) == 1
    assert len(bench.bought) == 2


async def test_a_file_on_a_store_that_signs_nothing_is_copied(shelf: Shelf, bench: Bench):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/sources/clip.mp4", bench.clip.read_bytes())
    try:
        await shelf.submit(url="memory://sources/clip.mp4")
        assert len(shelf.left()) == 1
        assert len(bench.bought) == 1
    finally:
        memory.rm("/sources", recursive=True)


# What cannot work is said before money is spent.


async def test_without_a_way_to_read_it_the_three_ways_out_are_named(bench: Bench):
    with pytest.raises(UnusableSource, match=r"http\(s\) URL.* staging= .*staging_repo"):
        await bench.submit("oxen", url=str(bench.clip))
    assert (bench.posts, await bench.kinds("oxen", url=str(bench.clip))) == (0, [])


async def test_a_private_repository_is_refused_and_tidied(bench: Bench):
    make_repo(bench, is_public=False)
    shelf = Shelf("repository", "oxen", bench, None, lambda: uploads(bench))
    with pytest.raises(UnusableSource, match=r"nobody can read it there without a key.*public"):
        await shelf.submit()
    assert (bench.posts, shelf.left()) == (0, [])
    assert await shelf.kinds() == ["staging", "unstaged"]


async def test_a_repository_may_send_its_readers_on(repository: Shelf):
    repository.bench.sandbox.fault("media", "redirect")
    await repository.deliver()
    assert (repository.left(), repository.bench.posts) == ([], 1)


async def test_a_missing_repository_is_named(bench: Bench):
    shelf = Shelf("repository", "oxen", bench, None, lambda: uploads(bench))
    with pytest.raises(UnusableSource, match="no repository me/clips"):
        await shelf.submit()
    assert bench.posts == 0


@pytest.mark.parametrize("url", ["nowhere://bucket/staging", "s3a+x://b"])
async def test_a_staging_folder_on_no_known_store_is_refused(bench: Bench, url):
    with pytest.raises(UnusableDestination, match="not a place that fsspec knows"):
        await bench.submit("evolink", url=str(bench.clip), staging=Place(url=url))
    assert bench.posts == 0


@pytest.mark.parametrize("kind", ["local", "memory"])
async def test_a_staging_folder_that_signs_nothing_is_refused(bench: Bench, kind):
    url = f"{bench.folder}/staging" if kind == "local" else "memory://staging"
    with pytest.raises(UnusableDestination, match="signs no links"):
        await bench.submit("evolink", url=str(bench.clip), staging=Place(url=url))
    assert (bench.posts, await bench.kinds("evolink", url=str(bench.clip))) == (0, [])


async def test_a_bucket_that_is_not_there_is_refused(bench: Bench, s3: Bucket):
    nowhere = Place(url=f"{s3.url}-nowhere/staging", options=s3.options)
    shelf = replace(shelf_of("bucket oxen", bench, s3), staging=nowhere)
    with pytest.raises(UnusableDestination, match="could not be copied to s3://") as caught:
        await shelf.submit()
    assert "moto" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert bench.posts == 0


async def test_a_store_that_the_provider_cannot_reach_is_refused(bench: Bench, s3: Bucket):
    """The links of this one lead to loopback."""
    purchase = await bench.purchase(url=str(bench.clip), staging=Place(url=s3.url))
    place = purchase.staging.model_copy(update={"options": s3.options})
    context = bench.context(dialect=load("oxen")())
    with pytest.raises(UnusableDestination, match="internal"):
        await engine.submit(context, replace(purchase, staging=place))
    assert bench.posts == 0


async def test_a_file_over_the_limit_is_refused_before_anything_is_sent(files: Shelf):
    purchase = await files.purchase()
    large = replace(purchase.source, size=UPLOAD_LIMIT + 1)
    with pytest.raises(UnusableSource, match=r"95 MiB.*staging="):
        await engine.submit(files.context(), replace(purchase, source=large))
    assert files.bench.asked("POST", "/") == []
    assert await files.kinds() == []


async def test_a_file_of_unknown_size_is_not_uploaded(files: Shelf):
    purchase = await files.purchase()
    endless = replace(purchase.source, size=None)
    with pytest.raises(UnusableSource, match="nobody says how large"):
        await engine.submit(files.context(), replace(purchase, source=endless))
    assert await files.kinds() == []


class Lying(MemoryFileSystem):
    """A store whose links lead nowhere."""

    protocol = "lying"

    def sign(self, path: str, expiration: int = 100, **options: object) -> str:
        return f"{self.storage_options['host']}/media/nothing.mp4"


async def test_a_copy_whose_link_leads_nowhere_is_refused_and_removed(bench: Bench):
    fsspec.register_implementation("lying", Lying, clobber=True)
    place = Place(url="lying://staging", options={"host": bench.sandbox.url})
    with pytest.raises(UnusableDestination, match=r"of no use: .* HTTP 404"):
        await bench.submit("oxen", url=str(bench.clip), staging=place)
    assert Lying(host=bench.sandbox.url).find("/staging") == []
    assert await bench.kinds("oxen", url=str(bench.clip)) == ["staging", "unstaged"]
    assert bench.posts == 0


async def test_a_full_store_says_so(clip, clock, tmp_path):
    with Sandbox(reads=1, clock=clock.unix, choices=Choices(max_files=0)) as sandbox:
        shelf = shelf_of("files", Bench(sandbox, clock, tmp_path, clip), None)
        with pytest.raises(UnusableSource, match="takes no more files"):
            await shelf.submit()
        assert (shelf.bench.posts, await shelf.kinds()) == (0, ["staging", "unstaged"])


# What goes wrong for a while.


async def test_an_upload_is_repeated_and_costs_nothing(files: Shelf):
    files.bench.sandbox.fault("upload", "5xx", times=2)
    await files.submit()
    assert len(files.bench.asked("POST", "/api/v1/files/upload/stream")) == 3
    assert (files.bench.posts, len(files.left())) == (1, 1)


async def test_a_quota_that_cannot_be_asked_for_stops_no_upload(files: Shelf):
    files.bench.sandbox.fault("quota", "refuse")
    files.bench.sandbox.fault("delete", "refuse")
    await files.deliver()
    assert files.bench.posts == 1


@pytest.mark.parametrize("name", ["files", "repository"])
@pytest.mark.parametrize("kind", ["refuse", "5xx"])
async def test_an_upload_that_fails_leaves_nothing_and_may_be_tried_again(bench, name, kind):
    shelf = shelf_of(name, bench, None)
    shelf.bench.sandbox.fault("upload", kind, times=4)
    with pytest.raises((ProviderUnavailable, ProviderRefused)) as caught:
        await shelf.submit()
    assert caught.value.billed == "no"
    assert await shelf.kinds() == ["staging", "unstaged"]
    await shelf.deliver()
    assert (shelf.left(), shelf.bench.posts) == ([], 1)


async def test_an_upload_may_be_refused_with_http_200(files: Shelf):
    files.bench.sandbox.fault("upload", "refused", status=200, code=5001, message="no videos")
    with pytest.raises(ProviderUnavailable, match="no videos"):
        await files.submit()
    assert files.bench.posts == 0


async def test_a_source_that_changes_while_it_is_copied_is_not_ordered(files: Shelf):
    purchase = await files.purchase()
    grown = replace(purchase.source, size=purchase.source.size - 1)
    with pytest.raises(ProviderUnavailable):
        await engine.submit(files.context(), replace(purchase, source=grown))
    assert (files.bench.posts, files.left()) == (0, [])


async def test_a_refused_order_leaves_no_copy_and_the_next_one_makes_another(shelf: Shelf):
    shelf.bench.sandbox.fault("submit", "refused", status=402)
    with pytest.raises(ProviderRefused):
        await shelf.submit()
    assert shelf.left() == []
    assert await shelf.kinds() == ["staging", "intent", "refused", "unstaged"]
    await shelf.deliver()
    assert (shelf.left(), len(shelf.bench.bought)) == ([], 1)


async def test_a_failed_job_leaves_no_copy(shelf: Shelf):
    shelf.bench.sandbox.fault("job", "fail")
    job = await shelf.submit()
    with pytest.raises(JobFailed):
        await engine.wait(shelf.context(), job)
    assert shelf.left() == []


async def test_a_cancelled_job_leaves_no_copy(repository: Shelf):
    repository.bench.sandbox.fault("job", "delay", seconds=60)
    job = await repository.submit()
    assert (await engine.cancel(repository.context(), job)).outcome == "cancelled"
    assert repository.left() == []
    with pytest.raises(JobCancelled):
        await engine.wait(repository.context(), job)


async def test_a_store_without_deletion_ends_no_job(clip, clock, tmp_path):
    with Sandbox(reads=1, clock=clock.unix, choices=Choices(files_delete=False)) as sandbox:
        shelf = shelf_of("files", Bench(sandbox, clock, tmp_path, clip), None)
        await shelf.deliver()
        assert (await shelf.kinds())[-2:] == ["unstaged", "stored"]
        assert len(shelf.bench.asked("DELETE", "/api/v1/files/")) == 1


async def test_a_store_whose_files_expire_is_asked_once_to_delete(files: Shelf):
    files.bench.sandbox.fault("delete", "5xx", times=9)
    await files.deliver()
    await files.settle()
    assert (await files.kinds())[-2:] == ["unstaged", "stored"]
    assert len(files.bench.asked("DELETE", "/api/v1/files/")) == 1


async def test_a_copy_that_cannot_be_removed_is_left_for_settle(repository: Shelf):
    repository.bench.sandbox.fault("delete", "5xx", times=2)
    await repository.deliver()
    assert len(repository.left()) == 1
    assert "unstaged" not in await repository.kinds()
    await repository.settle()
    await repository.settle()
    assert repository.left() == []
    assert (await repository.kinds()).count("unstaged") == 1


# Other processes.


async def test_another_process_opens_the_staging_folder_by_its_block(bucket: Shelf, s3: Bucket):
    await bucket.submit()
    asked: list[str] = []

    async def reload(known: Place) -> Place:
        asked.append(known.url)
        return known.model_copy(update={"options": s3.options})

    job = elsewhere(await bucket.submit())
    staged = (await bucket.record()).latest("intent").staged.place.url
    await engine.wait(bucket.context(reload=reload), job)
    assert asked == [staged]
    assert bucket.left() == []


async def test_a_staging_folder_is_opened_with_the_destinations_settings(bucket: Shelf, s3: Bucket):
    destination = Place(url=f"{s3.url}/out/", options=s3.options)
    journal = bucket.bench.place("journal")
    changes = {"destination": destination, "journal": journal}
    job = elsewhere(await bucket.submit(**changes))
    await engine.wait(
        bucket.context(), job.model_copy(update={"destination": destination, "journal": journal})
    )
    assert bucket.left() == []


def elsewhere(job: UpscaleJob) -> UpscaleJob:
    """Hand a job to another process, which has no settings but those of its own."""
    return UpscaleJob.model_validate_json(job.model_dump_json())


async def test_without_settings_the_copy_is_left_and_named(
    bucket: Shelf, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(bench.folder / "none"))
    job = elsewhere(await bucket.submit())
    (copy,) = bucket.left()
    await engine.wait(bucket.context(), job)
    assert bucket.left() == [copy]
    assert [line for line in bench.lines if copy in line and "settle_upscales" in line]


# Large files.


def padded(clip: Path, folder: Path, megabytes: int) -> Path:
    """Make a video of a certain size: players pass over a box that is free."""
    path = folder / "large.mp4"
    size = megabytes * 2**20
    with path.open("wb") as file:
        file.write(clip.read_bytes())
        file.write(struct.pack(">I", size) + b"free")
        file.truncate(file.tell() - 8 + size)
    return path


async def test_a_large_upload_takes_little_memory_and_tells_of_its_progress(
    files: Shelf, tmp_path: Path
):
    large = padded(files.bench.clip, tmp_path, 64)
    seconds = iter(range(0, 10_000, 4))
    context = files.context(monotonic=lambda: float(next(seconds)))
    purchase = await files.purchase(url=str(large))
    tracemalloc.start()
    try:
        await engine.submit(context, purchase)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * 2**20
    lines = [line for line in files.bench.lines if line.startswith("copied ")]
    assert 3 <= len(lines) <= 10
    assert all(line.endswith("of 64 MiB") for line in lines)
    assert files.bench.sandbox.uploads()[0].size == large.stat().st_size


async def test_a_small_upload_tells_of_no_progress(shelf: Shelf):
    await shelf.submit()
    assert [line for line in shelf.bench.lines if line.startswith("copied ")] == []
    assert len([line for line in shelf.bench.lines if "it is copied to" in line]) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_copy_survives_the_journal(provider):
    place = Place(url="s3://bucket/a", block="storage-location/x", options={"key": "SECRET"})
    copy = StagedCopy(name="n", place=place, provider=provider)
    text = copy.model_dump_json(exclude_defaults=True)
    assert "SECRET" not in text
    read = StagedCopy.model_validate_json(text)
    assert (read.name, read.provider, read.place.block) == ("n", provider, place.block)
