"""A source on a store is bought by a link that its store signs, and that the provider reads."""

from dataclasses import replace
from datetime import timedelta

import pytest

from prefect_topaz import engine
from prefect_topaz.errors import UnusableSource
from prefect_topaz.models import Place
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.sources import open_source
from tests.engine.bench import PROVIDERS


@pytest.fixture
def bucket(s3, clip):
    """Give the place of a bucket that holds the clip and only its owner may read."""
    s3.fs.put_file(str(clip), f"{s3.url}/in/take #1 ü.mp4")
    return Place(url=f"{s3.url}/in", options=s3.options)


async def purchase(bench, provider, bucket, **changes):
    context = bench.context(provider)
    source = await open_source("take #1 ü.mp4", context.client.dialect, storage=bucket)
    return context, await bench.purchase(provider, source=source, **changes)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_provider_reads_a_private_object_by_its_signed_link(bench, provider, bucket):
    context, wanted = await purchase(bench, provider, bucket)
    job = await engine.submit(context, wanted)
    finished = await engine.wait(context, job)
    (video,) = await engine.store(context, finished, source=wanted.source)
    assert video.url.startswith(str(bench.folder))
    assert "take #1 ü" in video.url
    assert (video.width, video.duration) != (0, None)
    assert len(bench.bought) == 1
    for file in bench.folder.rglob("*"):
        assert not file.is_file() or b"X-Amz-" not in file.read_bytes(), file


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_link_signed_anew_is_the_same_work(bench, provider, bucket):
    """Each run signs its own, here for another time; the content is one."""
    context, wanted = await purchase(bench, provider, bucket)
    first = await engine.submit(context, wanted)
    context, wanted = await purchase(bench, provider, bucket, link_seconds=1234.0)
    second = await engine.submit(context, wanted)
    assert second.reattached
    assert second.job_ids == first.job_ids
    assert len(bench.bought) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_link_that_is_about_to_end_is_refused_before_the_order(bench, provider):
    ends = int((bench.clock.now() + timedelta(minutes=5)).timestamp())
    url = f"{bench.sandbox.host(bench.clip)}?Expires={ends}&Signature=CANARY"
    with pytest.raises(UnusableSource, match="expires in 5 min") as caught:
        await bench.submit(provider, url=url)
    assert "CANARY" not in str(caught.value)
    assert bench.posts == 0
    assert await bench.kinds(provider, url=url) == []


async def test_what_is_bought_already_is_found_by_a_link_that_is_about_to_end(bench):
    url = bench.sandbox.host(bench.clip)
    first = await bench.submit(url=url)
    wanted = await bench.purchase(url=url)
    ends = int((bench.clock.now() + timedelta(minutes=5)).timestamp())
    ending = replace(wanted.source, url=SignedUrl(f"{url}?Expires={ends}&Signature=x"))
    again = await engine.submit(bench.context(), replace(wanted, source=ending))
    assert again.job_ids == first.job_ids
