"""Publishing: whole or not at all, never over somebody else's file, and healed by a repeat."""

import resource
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from prefect_topaz import engine
from prefect_topaz.errors import DeliveryFailed, UnusableDestination
from prefect_topaz.models import Place
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.redaction import SignedUrl
from tests.engine.bench import PROVIDERS, Bench

providers = pytest.mark.parametrize("provider", PROVIDERS)
FOREIGN = b"somebody else's"


def plant(bench: Bench, name: str = "clip-1080p.mp4") -> Path:
    path = bench.folder / "out" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(FOREIGN)
    return path


async def test_a_name_that_is_taken_is_refused_before_any_order(bench: Bench):
    path = plant(bench)
    with pytest.raises(UnusableDestination, match="pass overwrite=True") as caught:
        await bench.deliver()
    assert caught.value.billed == "no"
    assert bench.posts == 0
    assert path.read_bytes() == FOREIGN
    assert await bench.kinds() == []


async def test_any_taken_name_of_several_is_refused(bench: Bench):
    plant(bench, "clip-1080p-2.mp4")
    order = OxenOptions(resolution="1080p", num_generations=2).order()
    with pytest.raises(UnusableDestination):
        await bench.deliver(order=order)
    assert bench.posts == 0


async def test_overwriting_is_possible_on_purpose(bench: Bench):
    path = plant(bench)
    (video,) = await bench.deliver(overwrite=True, store={"overwrite": True})
    assert path.stat().st_size == video.bytes > len(FOREIGN)


async def test_a_name_taken_while_the_job_ran_fails_the_delivery_alone(bench: Bench):
    finished = await bench.finish()
    path = plant(bench)
    with pytest.raises(DeliveryFailed, match="no longer, the result of this order") as caught:
        await engine.store(bench.context(), finished)
    assert caught.value.billed == "yes"
    assert path.read_bytes() == FOREIGN
    path.unlink()
    (video,) = await bench.deliver()
    assert not video.cached
    assert bench.posts == 1


async def test_the_result_of_another_order_is_somebody_elses_file(bench: Bench):
    place = Place(url=str(bench.folder / "out" / "one.mp4"))
    await bench.deliver(destination=place)
    with pytest.raises(UnusableDestination):
        await bench.deliver("evolink", destination=place)
    assert bench.posts == 1


async def test_a_destination_that_cannot_be_written_costs_no_second_purchase(bench: Bench):
    """A file lies where a folder would have to be; even root cannot write there."""
    blocker = bench.folder / "file"
    blocker.write_bytes(b"")
    place, journal = Place(url=f"{blocker}/out/"), bench.place("journal")
    with pytest.raises(UnusableDestination, match="cannot be written") as early:
        await bench.deliver(destination=place, journal=journal)
    assert (early.value.billed, bench.posts) == ("no", 0)
    blocker.unlink()
    finished = await bench.finish(destination=place, journal=journal)
    (blocker / "out").rmdir()
    blocker.rmdir()
    blocker.write_bytes(b"")
    with pytest.raises(DeliveryFailed, match="run again, which buys nothing") as caught:
        await engine.store(bench.context(), finished)
    assert caught.value.billed == "yes"
    blocker.unlink()
    (video,) = await bench.deliver(destination=place, journal=journal)
    assert Path(video.url).exists()
    assert bench.posts == 1


async def test_a_bucket_that_goes_away_costs_no_second_purchase(bench: Bench, s3):
    """The upload fails while the result arrives, which arrives all the same."""
    bucket = f"{s3.url.removeprefix('s3://')}-late"
    place, journal = Place(url=f"s3://{bucket}/out/", options=s3.options), bench.place("journal")
    s3.fs.mkdir(bucket)
    finished = await bench.finish(destination=place, journal=journal)
    s3.fs.rmdir(bucket)
    with pytest.raises(DeliveryFailed, match="run again, which buys nothing") as caught:
        await engine.store(bench.context(), finished)
    assert caught.value.billed == "yes"
    s3.fs.mkdir(bucket)
    (video,) = await bench.deliver(destination=place, journal=journal)
    assert s3.fs.size(video.url) == video.bytes
    assert s3.fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", []) == []
    assert bench.posts == 1


@contextmanager
def full_disk(room: int):
    """Let no file of this process grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@providers
async def test_a_full_disk_costs_no_second_purchase(bench: Bench, provider):
    finished = await bench.finish(provider)
    with full_disk(4096), pytest.raises(DeliveryFailed) as caught:
        await engine.store(bench.context(provider), finished)
    assert caught.value.billed == "yes"
    assert {path.name for path in (bench.folder / "out").iterdir()} == {".topaz"}
    assert not list(bench.folder.glob("out/.topaz/*/part-*"))
    (video,) = await bench.deliver(provider)
    assert Path(video.url).stat().st_size == video.bytes
    assert bench.posts == 1


@providers
async def test_a_writer_that_died_before_the_last_event_is_healed(bench: Bench, provider):
    (first,) = await bench.deliver(provider)
    record = bench.folder / "out/.topaz" / first.work_key
    (record / "0004.json").unlink()
    asked = len(bench.sandbox.requests())
    (second,) = await bench.deliver(provider)
    assert second.cached
    assert second.sha256 == first.sha256
    asked_since = bench.sandbox.requests()[asked:]
    assert [one.path for one in asked_since if not one.path.startswith("/media/")] == []
    assert (record / "0004.json").exists()


@providers
async def test_a_writer_that_died_between_receipt_and_video_is_healed(bench: Bench, provider):
    (first,) = await bench.deliver(provider)
    (bench.folder / "out/.topaz" / first.work_key / "0004.json").unlink()
    Path(first.url).unlink()
    (second,) = await bench.deliver(provider)
    assert not second.cached
    assert Path(second.url).stat().st_size == first.bytes
    assert bench.posts == 1


async def test_somebodys_edit_of_a_result_is_replaced_only_on_request(bench: Bench):
    (first,) = await bench.deliver()
    Path(first.url).write_bytes(b"an edit")
    with pytest.raises(DeliveryFailed, match="overwrite=True"):
        await bench.deliver()
    assert Path(first.url).read_bytes() == b"an edit"
    (second,) = await bench.deliver(store={"overwrite": True})
    assert not second.cached
    assert Path(second.url).stat().st_size == first.bytes
    assert bench.posts == 1


async def test_a_receipt_that_is_unreadable_is_no_proof(bench: Bench):
    finished = await bench.finish()
    path = plant(bench)
    path.with_name(f"{path.name}.json").write_bytes(b"{")
    with pytest.raises(DeliveryFailed):
        await engine.store(bench.context(), finished)
    assert path.read_bytes() == FOREIGN


async def test_a_preview_without_its_source_shows_the_result_alone(bench: Bench):
    (video,) = await engine.store(bench.context(), await bench.finish())
    assert Path(video.preview_url).stat().st_size > 0


async def test_a_source_that_is_gone_costs_no_video(bench: Bench):
    finished = await bench.finish()
    source = (await bench.purchase()).source
    dead = replace(source, url=SignedUrl(f"{bench.sandbox.url}/media/gone.mp4?sig=CANARY"))
    (video,) = await engine.store(bench.context(), finished, source=dead)
    (warning,) = video.warnings
    assert warning.startswith("the pictures were not compared with the source: ")
    assert "CANARY" not in Path(video.receipt_url).read_text()
    assert Path(video.preview_url).stat().st_size > 0


async def test_a_preview_that_fails_costs_no_video(bench: Bench):
    (bench.folder / "out/clip-1080p.mp4.jpg").mkdir(parents=True)
    (video,) = await bench.deliver()
    assert video.preview_url is None
    assert Path(video.url).exists()
    assert [line for line in bench.lines if "no preview" in line]


async def test_not_knowing_the_charge_costs_no_video(bench: Bench):
    finished = await bench.finish()
    bench.sandbox.fault("list", "5xx", times=4)
    (video,) = await engine.store(bench.context(), finished)
    assert video.cost.charged is None
    assert video.cost.estimate is not None


@providers
async def test_a_redirected_result_takes_no_key_to_another_host(bench: Bench, provider):
    bench.sandbox.fault("result", "redirect")
    (video,) = await bench.deliver(provider)
    assert not video.warnings
    downloads = bench.asked("GET", "/results/", "/api/repos/")
    by_host = {one.host.partition(":")[0]: one.had_authorization for one in downloads}
    assert by_host == {"127.0.0.1": provider == "oxen", "localhost": False}
