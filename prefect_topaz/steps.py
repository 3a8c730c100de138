"""What the flows share: their parameters, the three steps as task runs, the state they end in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

from prefect.client.schemas.objects import State
from prefect.filesystems import RemoteFileSystem
from prefect.states import Cancelled, Completed
from pydantic import BeforeValidator, Field, SecretStr

from prefect_topaz import errors, reports
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.cancellation import is_persons_cancel
from prefect_topaz.engine.waiting import DEADLINE
from prefect_topaz.hooks import cancel_upscales_on_cancellation, note_upscales_on_crash
from prefect_topaz.http import connections
from prefect_topaz.models import Frozen, StoredVideo, Verify
from prefect_topaz.runs import as_one, place_of
from prefect_topaz.tasks import astore_upscale, asubmit_upscale, await_for_upscale


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


SourceParameter = Annotated[str | SecretStr, BeforeValidator(_text)]
PlaceParameter = Annotated[str | RemoteFileSystem, BeforeValidator(_text)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
HOOKS: dict[str, Any] = {
    "on_cancellation": [cancel_upscales_on_cancellation],
    "on_crashed": [note_upscales_on_crash],
}


class Options(Frozen):
    """What both colours of a flow hand on."""

    again: int = 0
    source_version: str | None = None
    journal: Any = None
    max_cost: float | None = None
    deadline_seconds: float = DEADLINE
    poll_seconds: float | None = None
    cancel_on_timeout: bool = False
    verify: Verify = "standard"
    overwrite: bool = False


async def upscale(
    source: str | SecretStr,
    destination: str | RemoteFileSystem,
    upscaler: AnyUpscaler,
    options: Options,
) -> StoredVideo:
    """Run the three steps as task runs, and show the result."""
    async with connections():
        job = await asubmit_upscale(
            source,
            upscaler,
            destination,
            again=options.again,
            source_version=options.source_version,
            journal=options.journal,
            max_cost=options.max_cost,
            overwrite=options.overwrite,
        )
        finished = await await_for_upscale(
            job,
            upscaler,
            deadline_seconds=options.deadline_seconds,
            poll_seconds=options.poll_seconds,
            cancel_on_timeout=options.cancel_on_timeout,
        )
        videos = await astore_upscale(
            finished,
            upscaler,
            destination,
            source=source,
            verify=options.verify,
            overwrite=options.overwrite,
        )
        # A repeated store finds what its first try has stored; this run bought it all the same.
        found = job.reattached and all(one.cached for one in videos)
        video = as_one([one.model_copy(update={"cached": found}) for one in videos])
        await reports.report_video(video, place_of(destination))
        return video


async def upscale_one(
    source: str | SecretStr,
    destination: str | RemoteFileSystem,
    upscaler: AnyUpscaler,
    options: Options,
) -> StoredVideo:
    """Upscale one video, and end the flow in the state that says what happened."""
    try:
        return _as_cached(await upscale(source, destination, upscaler, options))
    except errors.TopazError as error:
        return cast("StoredVideo", as_cancelled(error))


def as_cancelled(error: errors.TopazError) -> State[Any]:
    """End in the state that a person gave the run: an error would make it Failed."""
    if is_persons_cancel(error):
        return Cancelled(message=str(error))
    raise error


def _as_cached(video: StoredVideo) -> StoredVideo:
    """End in a state named `Cached` if nothing was bought; callers get the video all the same."""
    if not video.cached:
        return video
    state: State[StoredVideo] = Completed(
        name="Cached", message=f"{video.url} was there already", data=video
    )
    return cast("StoredVideo", state)  # a flow's returned state is unwrapped for its caller
