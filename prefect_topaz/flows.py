"""The flow that upscales one video; the folder `flows/` holds what one deploys."""

# Annotations stay objects: `upscale_video.serve()` pickles a flow without its module's names.

from prefect import flow

from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.bridge import run_blocking
from prefect_topaz.engine.waiting import DEADLINE
from prefect_topaz.models import StoredVideo, Verify
from prefect_topaz.steps import (
    HOOKS,
    Attempts,
    Count,
    Options,
    PlaceParameter,
    Positive,
    SourceParameter,
    upscale_one,
)


@flow(name="upscale-video", **HOOKS)
async def aupscale_video(
    source: SourceParameter,
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    *,
    again: Count = 0,
    attempts: Attempts = 1,
    source_version: str | None = None,
    journal: PlaceParameter | None = None,
    max_cost: Positive | None = None,
    deadline_seconds: Positive = DEADLINE,
    poll_seconds: Positive | None = None,
    cancel_on_timeout: bool = False,
    verify: Verify = "standard",
    overwrite: bool = False,
    source_storage: PlaceParameter | None = None,
    link_seconds: Positive | None = None,
    staging: PlaceParameter | None = None,
) -> StoredVideo:
    """Upscale one video: buy it once, wait for it, verify it and store it.

    Run it again after any failure, anywhere: it finds what was bought and goes on from there.

    Args:
        source: An http(s) URL, the path of a local file, the fsspec URL of a file on a store, or a
            path inside source_storage. A signed URL goes in as a secret: Prefect records plain
            parameters.
        destination: A folder (ending in /) or a file name, as an fsspec URL or path; or a
            StorageLocation or RemoteFileSystem block.
        upscaler: What is ordered, and who pays.
        again: A higher number buys the same work again, on purpose.
        attempts: How often it may be ordered in all, if a job fails and the provider charges
            nothing for that; any other failure ends the run at once.
        source_version: Your word for the content's version, instead of the store's.
        journal: Another place for the journal than .topaz at the destination.
        max_cost: US dollars that it may cost at most, by the published prices; an unknown price
            is refused then.
        deadline_seconds: Seconds to wait at most; the job runs on after that.
        poll_seconds: Seconds between looks to begin with; empty for what the provider advises.
        cancel_on_timeout: Whether a job is cancelled when that time, or Prefect's own time-out, has passed.
        verify: How strict the result is compared with the order.
        overwrite: Whether another file at the destination may be replaced.
        source_storage: Where the source is, if it is given as a path there: a folder as an fsspec
            URL or path, or a StorageLocation or RemoteFileSystem block.
        link_seconds: Seconds that a link signed for the provider must live; empty for 6 hours and
            a minute for each second of video, 7 days at most.
        staging: A folder on a store that signs links, such as s3://bucket/staging/: a source that
            has no link is copied there and removed when its job has ended; empty for the provider's
            own store.

    Returns:
        The stored video; the flow's state is named Cached if it was there already.

    Raises:
        TopazError: Its attribute `billed` says what it means for the money.
    """
    options = Options(
        again=again,
        attempts=attempts,
        source_version=source_version,
        journal=journal,
        max_cost=max_cost,
        deadline_seconds=deadline_seconds,
        poll_seconds=poll_seconds,
        cancel_on_timeout=cancel_on_timeout,
        verify=verify,
        overwrite=overwrite,
        source_storage=source_storage,
        link_seconds=link_seconds,
        staging=staging,
    )
    return await upscale_one(source, destination, upscaler, options)


@flow(name="upscale-video", **HOOKS)
def upscale_video(
    source: SourceParameter,
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    *,
    again: Count = 0,
    attempts: Attempts = 1,
    source_version: str | None = None,
    journal: PlaceParameter | None = None,
    max_cost: Positive | None = None,
    deadline_seconds: Positive = DEADLINE,
    poll_seconds: Positive | None = None,
    cancel_on_timeout: bool = False,
    verify: Verify = "standard",
    overwrite: bool = False,
    source_storage: PlaceParameter | None = None,
    link_seconds: Positive | None = None,
    staging: PlaceParameter | None = None,
) -> StoredVideo:
    """Upscale one video: buy it once, wait for it, verify it and store it.

    Run it again after any failure, anywhere: it finds what was bought and goes on from there.

    Args:
        source: An http(s) URL, the path of a local file, the fsspec URL of a file on a store, or a
            path inside source_storage. A signed URL goes in as a secret: Prefect records plain
            parameters.
        destination: A folder (ending in /) or a file name, as an fsspec URL or path; or a
            StorageLocation or RemoteFileSystem block.
        upscaler: What is ordered, and who pays.
        again: A higher number buys the same work again, on purpose.
        attempts: How often it may be ordered in all, if a job fails and the provider charges
            nothing for that; any other failure ends the run at once.
        source_version: Your word for the content's version, instead of the store's.
        journal: Another place for the journal than .topaz at the destination.
        max_cost: US dollars that it may cost at most, by the published prices; an unknown price
            is refused then.
        deadline_seconds: Seconds to wait at most; the job runs on after that.
        poll_seconds: Seconds between looks to begin with; empty for what the provider advises.
        cancel_on_timeout: Whether a job is cancelled when that time, or Prefect's own time-out, has passed.
        verify: How strict the result is compared with the order.
        overwrite: Whether another file at the destination may be replaced.
        source_storage: Where the source is, if it is given as a path there: a folder as an fsspec
            URL or path, or a StorageLocation or RemoteFileSystem block.
        link_seconds: Seconds that a link signed for the provider must live; empty for 6 hours and
            a minute for each second of video, 7 days at most.
        staging: A folder on a store that signs links, such as s3://bucket/staging/: a source that
            has no link is copied there and removed when its job has ended; empty for the provider's
            own store.

    Returns:
        The stored video; the flow's state is named Cached if it was there already.

    Raises:
        TopazError: Its attribute `billed` says what it means for the money.
    """
    options = Options(
        again=again,
        attempts=attempts,
        source_version=source_version,
        journal=journal,
        max_cost=max_cost,
        deadline_seconds=deadline_seconds,
        poll_seconds=poll_seconds,
        cancel_on_timeout=cancel_on_timeout,
        verify=verify,
        overwrite=overwrite,
        source_storage=source_storage,
        link_seconds=link_seconds,
        staging=staging,
    )
    return run_blocking(upscale_one(source, destination, upscaler, options))
