"""Keep a folder upscaled, on a schedule: each new or changed video is bought once.

Copy it and set your own schedule and folders in `deployments/prefect.yaml`.
"""

from typing import Annotated

from prefect import flow
from prefect.filesystems import RemoteFileSystem
from pydantic import Field

from prefect_topaz import (
    BatchReport,
    EvoLinkUpscaler,
    OxenUpscaler,
    StorageLocation,
    TopazError,
    aupscale_videos,
    cancel_upscales_on_cancellation,
    note_upscales_on_crash,
)
from prefect_topaz.outcomes import BatchItem


# The hooks see to paid jobs when the run's process could not; they read the parameters
# `destination` and `upscaler` by these names.
@flow(
    name="upscale-folder",
    on_cancellation=[cancel_upscales_on_cancellation],
    on_crashed=[note_upscales_on_crash],
)
async def upscale_folder(
    videos: str,
    destination: str | RemoteFileSystem | StorageLocation,
    upscaler: OxenUpscaler | EvoLinkUpscaler,
    max_cost_per_video: Annotated[float, Field(gt=0)] | None = None,
    max_in_flight: Annotated[int, Field(ge=1, le=100)] = 8,
    *,
    source_storage: str | RemoteFileSystem | StorageLocation | None = None,
) -> BatchReport:
    """Upscale every video of a folder that is not upscaled yet.

    The others go on when one fails; the run fails at its end then, so that somebody looks. The
    next run goes on with what was bought.

    Args:
        videos: A glob, such as /data/clips/*.mp4 or s3://bucket/clips/*.mp4.
        destination: The folder for the results, as an fsspec URL or path.
        upscaler: What is ordered, and who pays.
        max_cost_per_video: US dollars that each video may cost at most.
        max_in_flight: How many videos are worked on at once.
        source_storage: Where the videos are, if they are given as paths there.
    """
    # The body without a flow run of its own: its tasks and its table are this run's.
    report = await aupscale_videos.fn(
        videos,
        destination,
        upscaler,
        max_cost=max_cost_per_video,
        max_in_flight=max_in_flight,
        source_storage=source_storage,
    )
    # A run that was set to Cancelled ends in that state, which stands here in the report's place.
    failed: tuple[BatchItem, ...] = getattr(report, "failed", ())
    if failed:
        reasons = "; ".join(f"{item.source}: {item.error}" for item in failed)
        raise TopazError(f"{len(failed)} of {len(report.items)} videos failed: {reasons}")
    return report
