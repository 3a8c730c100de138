"""The way of one video, from the order to the file with its receipt."""

from decimal import Decimal
from pathlib import Path

import av
import pytest

from prefect_topaz import engine
from prefect_topaz.errors import JobFailed
from prefect_topaz.models import Cost, JobStatus, Place, Receipt
from prefect_topaz.providers.oxen import OxenOptions
from prefect_topaz.providers.oxen import Provider as Oxen
from prefect_topaz.sources import open_source
from prefect_topaz.wire import Reply
from tests.engine.bench import PROVIDERS, Bench

SIZES = {"oxen": (1920, 1080), "evolink": (128, 72)}
NAMES = {"oxen": "clip-1080p.mp4", "evolink": "clip-2x.mp4"}


def size_of(path: str | Path) -> tuple[int, int]:
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        return stream.width, stream.height


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_order_becomes_a_verified_file_and_one_purchase(bench: Bench, provider):
    (video,) = await bench.deliver(provider)
    assert Path(video.url).name == NAMES[provider]
    assert size_of(video.url) == (video.width, video.height) == SIZES[provider]
    assert Path(video.url).stat().st_size == video.bytes
    assert (video.job_id,) == tuple(bench.bought)
    assert video.has_audio
    assert not video.cached
    assert not video.warnings
    assert bench.sandbox.ledger.submits == bench.posts == 1
    assert await bench.kinds(provider) == ["intent", "submitted", "finished", "stored"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_receipt_reads_back_as_the_stored_video(bench: Bench, provider):
    (video,) = await bench.deliver(provider)
    receipt = Receipt.model_validate_json(Path(video.receipt_url).read_bytes())
    assert receipt.model_dump(include=set(type(video).model_fields)) == video.model_dump()
    assert receipt.order.label in NAMES[provider]
    assert receipt.source.media.width == 64


async def test_the_preview_shows_before_after_and_difference(bench: Bench):
    (video,) = await bench.deliver("evolink")
    # Three 16:9 pictures beside each other for each of three moments, and the gaps between them.
    width, height = size_of(video.preview_url)
    assert 5.2 < 3 * width / height < 5.5


async def test_the_charge_is_in_the_receipt(bench: Bench):
    (oxen,) = await bench.deliver("oxen")
    assert (oxen.cost.unit, oxen.cost.charged) == ("USD", bench.charged)
    (evolink,) = await bench.deliver("evolink")
    (charge,) = [one.cost for one in bench.sandbox.purchases("evolink")]
    assert (evolink.cost.unit, evolink.cost.charged) == ("credits", charge)


class Generous(Oxen):
    """Oxen.ai on a day when it charges nothing."""

    def read_details(self, job_id: str, reply: Reply) -> JobStatus:
        status = super().read_details(job_id, reply)
        return status.model_copy(update={"cost": Cost(charged=Decimal(0))})


async def test_a_free_job_says_that_it_was_free(bench: Bench):
    context = bench.context(dialect=Generous(bench.sandbox.url))
    (video,) = await bench.deliver(context=context)
    assert video.cost.charged == 0
    assert str(video.cost) == "$0 (charged)"


async def test_nothing_else_is_left_at_the_destination(bench: Bench):
    (video,) = await bench.deliver()
    names = {path.name for path in Path(video.url).parent.iterdir()}
    assert names == {"clip-1080p.mp4", "clip-1080p.mp4.json", "clip-1080p.mp4.jpg", ".topaz"}
    events = {path.name for path in (bench.folder / "out/.topaz" / video.work_key).iterdir()}
    assert events == {"0001.json", "0002.json", "0003.json", "0004.json"}


async def test_a_local_file_reaches_evolink_through_its_files_api(bench: Bench):
    client = bench.client("evolink")
    source = await open_source(str(bench.clip), client.dialect)
    (video,) = await bench.deliver("evolink", source=source)
    assert video.width == 128
    (purchase,) = bench.sandbox.purchases()
    assert "/files/" in purchase.request["video_urls"][0]


async def test_a_result_can_go_to_a_store_that_is_no_disk(bench: Bench):
    place = Place(url=f"memory://{bench.folder.name}/out/")
    (video,) = await bench.deliver(destination=place)
    assert video.url == f"memory:///{bench.folder.name}/out/clip-1080p.mp4"
    (again,) = await bench.deliver(destination=place)
    assert again.cached
    assert bench.posts == 1


async def test_the_ordered_frame_rate_is_delivered(bench: Bench):
    order = OxenOptions(resolution="1080p", target_fps=24).order()
    (video,) = await bench.deliver(order=order)
    assert video.fps == pytest.approx(24)
    assert not video.warnings


async def test_three_generations_are_three_files(bench: Bench):
    videos = await bench.deliver(order=three().order())
    names = [Path(video.url).name for video in videos]
    assert names == ["clip-1080p.mp4", "clip-1080p-2.mp4", "clip-1080p-3.mp4"]
    assert [video.job_id for video in videos] == bench.bought
    assert bench.posts == 1


async def test_a_generation_that_failed_is_a_warning_on_the_others(bench: Bench):
    bench.sandbox.fault("job", "fail", message="GPU on fire")
    videos = await bench.deliver(order=three().order())
    assert [video.job_id for video in videos] == bench.bought[1:]
    assert [Path(video.url).name for video in videos] == ["clip-1080p.mp4", "clip-1080p-2.mp4"]
    for video in videos:
        assert video.warnings == (f"generation {bench.bought[0]} failed: GPU on fire",)


async def test_all_generations_failing_is_a_failed_job(bench: Bench):
    bench.sandbox.fault("job", "fail", times=3, message="GPU on fire")
    with pytest.raises(JobFailed, match="GPU on fire") as caught:
        await bench.deliver(order=three().order())
    assert caught.value.billed == "maybe"
    assert caught.value.job_id == ", ".join(bench.bought)


async def test_more_results_than_ordered_are_all_kept(bench: Bench):
    """Whoever answers with more jobs than were ordered may bill all of them."""
    job = await bench.submit(order=three().order())
    short = job.model_copy(update={"order": job.order.model_copy(update={"generations": 1})})
    context = bench.context()
    videos = await engine.store(context, await engine.wait(context, short))
    assert [video.job_id for video in videos] == bench.bought


def three() -> OxenOptions:
    return OxenOptions(resolution="1080p", num_generations=3)
