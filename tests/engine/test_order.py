"""What is published comes in an order that a death at any point leaves readable."""

from pathlib import Path

import pytest

from prefect_topaz.errors import DeliveryFailed
from prefect_topaz.models import JobStatus
from prefect_topaz.providers.oxen import Provider as Oxen
from prefect_topaz.wire import Reply
from tests.engine.bench import Bench


class Meddler(Oxen):
    """Oxen.ai, and somebody who takes the receipt's name while the cost is asked for.

    Attributes:
        taken: The receipt's path.
    """

    taken: Path

    def read_details(self, job_id: str, reply: Reply) -> JobStatus:
        self.taken.mkdir(exist_ok=True)
        return super().read_details(job_id, reply)


async def test_a_video_without_its_receipt_never_has_its_name(bench: Bench):
    """Else nobody could tell the video of a writer that died from somebody else's file."""
    dialect = Meddler(bench.sandbox.url)
    dialect.taken = bench.folder / "out" / "clip-1080p.mp4.json"
    with pytest.raises(DeliveryFailed, match=r"\.json cannot be written"):
        await bench.deliver(context=bench.context(dialect=dialect))
    assert not dialect.taken.with_suffix("").exists()
    dialect.taken.rmdir()
    (stored,) = await bench.deliver()
    assert Path(stored.url) == dialect.taken.with_suffix("")
    assert bench.posts == 1
