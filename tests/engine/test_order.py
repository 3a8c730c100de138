"""What is published comes in an order that a death at any point leaves readable."""

from pathlib import Path

import pytest

from prefect_topaz.errors import DeliveryFailed
from prefect_topaz.models import Place
from tests.engine.bench import PROVIDERS, Bench

# Bytes of a name with which the video can be written (255 with all that is added on the way), and
# its receipt, longer by ".json", cannot.
_TOO_LONG = 215


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_video_without_its_receipt_never_has_its_name(bench: Bench, provider):
    """Else nobody could tell the video of a writer that died from somebody else's file."""
    video = bench.folder / "out" / f"{'v' * (_TOO_LONG - 4)}.mp4"
    journal = Place(url=f"{bench.folder / 'journal'}/")
    with pytest.raises(DeliveryFailed, match="name too long"):
        await bench.deliver(provider, destination=Place(url=str(video)), journal=journal)
    assert not video.exists()
    (stored,) = await bench.deliver(provider, journal=journal)
    assert Path(stored.url).exists()
    assert bench.posts == 1
