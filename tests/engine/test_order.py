"""What is published comes in an order that a death at any point leaves readable."""

from pathlib import Path

import pytest

from prefect_topaz.errors import DeliveryFailed
from tests.engine.bench import PROVIDERS, Bench


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_video_without_its_receipt_never_has_its_name(bench: Bench, provider):
    """Else nobody could tell the video of a writer that died from somebody else's file."""
    job = await bench.submit(provider)
    name = f"{job.source.name}-{job.order.label}.mp4"
    in_the_way = bench.folder / "out" / f"{name}.json"
    (in_the_way / "a folder").mkdir(parents=True)
    with pytest.raises(DeliveryFailed):
        await bench.deliver(provider)
    assert not Path(bench.folder / "out" / name).exists()
    (in_the_way / "a folder").rmdir()
    in_the_way.rmdir()
    (video,) = await bench.deliver(provider)
    assert Path(video.url) == bench.folder / "out" / name
    assert bench.posts == 1
