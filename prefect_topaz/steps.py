"""What the flows share: their parameters, the three steps as task runs, the state they end in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, cast

from prefect import Task, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.filesystems import RemoteFileSystem
from prefect.states import Cancelled, Completed
from pydantic import BeforeValidator, Field, SecretStr
from typing_extensions import ParamSpec

from prefect_topaz import errors, reports
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.cancellation import is_persons_cancel
from prefect_topaz.engine.waiting import DEADLINE
from prefect_topaz.hooks import cancel_upscales_on_cancellation, note_upscales_on_crash
from prefect_topaz.http import connections
from prefect_topaz.locations import StorageLocation, place_of
from prefect_topaz.lookout import ask
from prefect_topaz.models import FinishedUpscale, Frozen, StoredVideo, Verify
from prefect_topaz.runs import as_one
from prefect_topaz.tasks import astore_upscale, asubmit_upscale, await_for_upscale

P = ParamSpec("P")
R = TypeVar("R")


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


SourceParameter = Annotated[str | SecretStr, BeforeValidator(_text)]
PlaceParameter = Annotated[str | RemoteFileSystem | StorageLocation, BeforeValidator(_text)]
Count = Annotated[int, Field(ge=0)]
Attempts = Annotated[int, Field(ge=1, le=10)]
Positive = Annotated[float, Field(gt=0)]
# Seconds before the second attempt, and so many more before each further one: EvoLink asks for 30
# to 60 when its servers failed, and for minutes when they are full [E2].
_PAUSE: Final = 30.0
HOOKS: dict[str, Any] = {
    "on_cancellation": [cancel_upscales_on_cancellation],
    "on_crashed": [note_upscales_on_crash],
}


class Options(Frozen):
    """What both colours of a flow hand on."""

    again: int = 0
    attempts: int = 1
    source_version: str | None = None
    journal: Any = None
    max_cost: float | None = None
    deadline_seconds: float = DEADLINE
    poll_seconds: float | None = None
    cancel_on_timeout: bool = False
    verify: Verify = "standard"
    overwrite: bool = False
    source_storage: Any = None
    link_seconds: float | None = None
    staging: Any = None


async def upscale(
    source: str | SecretStr,
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    options: Options,
) -> StoredVideo:
    """Run the three steps as task runs, and show the result."""
    async with connections():
        finished = await _buy(source, destination, upscaler, options)
        videos = await astore_upscale(
            finished,
            upscaler,
            destination,
            source=source,
            source_storage=options.source_storage,
            verify=options.verify,
            overwrite=options.overwrite,
        )
        # A repeated store finds what its first try has stored; this run bought it all the same.
        found = finished.job.reattached and all(one.cached for one in videos)
        video = as_one([one.model_copy(update={"cached": found}) for one in videos])
        await reports.report_video(video, place_of(destination))
        return video


async def _buy(
    source: str | SecretStr,
    destination: PlaceParameter,
    upscaler: AnyUpscaler,
    options: Options,
) -> FinishedUpscale:
    """Buy and wait; anew after a failure that was not billed, up to `attempts` times in all."""
    attempt = 1
    while True:
        job = await _named(asubmit_upscale, attempt, options)(
            source,
            upscaler,
            destination,
            again=options.again,
            source_version=options.source_version,
            journal=options.journal,
            max_cost=options.max_cost,
            overwrite=options.overwrite,
            source_storage=options.source_storage,
            link_seconds=options.link_seconds,
            staging=options.staging,
        )
        try:
            return await _named(await_for_upscale, attempt, options)(
                job,
                upscaler,
                deadline_seconds=options.deadline_seconds,
                poll_seconds=options.poll_seconds,
                cancel_on_timeout=options.cancel_on_timeout,
            )
        except errors.JobFailed as error:
            if error.billed != "no" or attempt >= options.attempts:
                raise
            await _pause(error, attempt, options)
        attempt += 1


def _named(task: Task[P, R], attempt: int, options: Options) -> Task[P, R]:
    """Tell the task runs of a further attempt from those of the first, by their names."""
    if attempt == 1:
        return task
    return task.with_options(task_run_name=f"{task.name}, attempt {attempt} of {options.attempts}")


async def _pause(error: errors.JobFailed, attempt: int, options: Options) -> None:
    """Wait before buying anew, and do not buy if a person has cancelled the flow run meanwhile."""
    get_run_logger().info(
        "attempt %d of %d in %g s: %s",
        *(attempt + 1, options.attempts, attempt * _PAUSE, error.message),
    )
    await asyncio.sleep(attempt * _PAUSE)
    reason = await ask(runtime.flow_run.id)
    if reason.cancelled:
        raise error from CancelledRun(reason.said)


async def upscale_one(
    source: str | SecretStr,
    destination: PlaceParameter,
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
