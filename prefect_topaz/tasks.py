"""The steps as Prefect tasks, each in two colours: real `Task` objects both.

Any of them may be retried, by Prefect or by hand: each reads the journal first. Prefect's own
result cache stays off, because its key changes with every edit of the task and its store is the
worker's disk: the journal is the only truth.
"""

from __future__ import annotations

from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from prefect_topaz import errors, reports, runs
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.bridge import run_blocking
from prefect_topaz.engine.waiting import DEADLINE
from prefect_topaz.locations import Destination
from prefect_topaz.models import FinishedUpscale, StoredVideo, UpscaleJob, Verify
from prefect_topaz.outcomes import CancelOutcome
from prefect_topaz.runs import SourceLike

# Verdicts: trying again cannot change them.
_FINAL = (
    errors.InvalidRequest,
    errors.ProviderRefused,
    errors.OutcomeUnknown,
    errors.JobFailed,
    errors.JobCancelled,
    errors.JobLost,
    errors.StillRunning,
    errors.AccessLost,
    errors.ResultMismatch,
)


async def retry_unless_final(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry what a repeat may mend; all of it is safe, since a repeat reattaches."""
    del task, task_run
    try:
        await state.aresult()
    except errors.RateLimited:
        return True
    except _FINAL:
        return False
    except Exception:  # noqa: BLE001  # the question is only whether it is one of the above
        return True
    return False


# Both colours of a step have one name, so that the UI shows the step.
_RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=10),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retry_unless_final,
    "cache_policy": NO_CACHE,
}


@task(name="submit_upscale", **_RETRIES)
async def asubmit_upscale(
    source: SourceLike,
    upscaler: AnyUpscaler,
    destination: Destination,
    *,
    again: int = 0,
    source_version: str | None = None,
    journal: Destination | None = None,
    max_cost: float | None = None,
    overwrite: bool = False,
    source_storage: Destination | None = None,
    link_seconds: float | None = None,
    staging: Destination | None = None,
) -> UpscaleJob:
    """Buy an upscale, or find that it is bought.

    Args:
        source: An http(s) URL, the path of a local file, the fsspec URL of a file on a store, or a
            path inside `source_storage`. Pass a signed URL as `SecretStr`: Prefect records
            parameters.
        upscaler: What is ordered, and who pays.
        destination: Where the result will go: a folder or a file name as an fsspec URL or path, or
            a `StorageLocation` or `RemoteFileSystem` block. The journal is there too.
        again: A higher number buys the same work again, on purpose.
        source_version: Your word for the content's version, instead of the store's.
        journal: Another place for the journal.
        max_cost: US dollars that it may cost at most, by the published prices.
        overwrite: Whether another file at the destination may be replaced.
        source_storage: The folder in which the source is a path, as `destination` takes it.
        link_seconds: Seconds that a link signed for the provider must live; None for what covers
            queue and fetch.
        staging: A folder on a store that signs links: a source that has no link is copied there, and
            removed when its job has ended; None for the provider's own store.

    Returns:
        The job, free of secrets; `reattached` if this call bought nothing.

    Raises:
        InvalidRequest: The order is refused here. Billed: no.
        ProviderRefused: The provider refused it before any charge. Billed: no.
        OutcomeUnknown: It was sent and no answer came; it is not sent again. Billed: maybe.
    """
    return await runs.submit(
        source,
        upscaler,
        destination,
        again=again,
        source_version=source_version,
        journal=journal,
        max_cost=max_cost,
        overwrite=overwrite,
        source_storage=source_storage,
        link_seconds=link_seconds,
        staging=staging,
    )


@task(name="submit_upscale", **_RETRIES)
def submit_upscale(
    source: SourceLike,
    upscaler: AnyUpscaler,
    destination: Destination,
    *,
    again: int = 0,
    source_version: str | None = None,
    journal: Destination | None = None,
    max_cost: float | None = None,
    overwrite: bool = False,
    source_storage: Destination | None = None,
    link_seconds: float | None = None,
    staging: Destination | None = None,
) -> UpscaleJob:
    """Buy an upscale, or find that it is bought: the sync colour of `asubmit_upscale`."""
    return run_blocking(
        runs.submit(
            source,
            upscaler,
            destination,
            again=again,
            source_version=source_version,
            journal=journal,
            max_cost=max_cost,
            overwrite=overwrite,
            source_storage=source_storage,
            link_seconds=link_seconds,
            staging=staging,
        )
    )


async def _wait(
    job: UpscaleJob,
    upscaler: AnyUpscaler,
    deadline_seconds: float,
    poll_seconds: float | None,
    cancel_on_timeout: bool,
) -> FinishedUpscale:
    async with reports.progress(job) as on_look:
        return await runs.wait(
            job,
            upscaler,
            deadline_seconds=deadline_seconds,
            poll_seconds=poll_seconds,
            cancel_on_timeout=cancel_on_timeout,
            on_look=on_look,
        )


@task(name="wait_for_upscale", **_RETRIES)
async def await_for_upscale(
    job: UpscaleJob,
    upscaler: AnyUpscaler,
    *,
    deadline_seconds: float = DEADLINE,
    poll_seconds: float | None = None,
    cancel_on_timeout: bool = False,
) -> FinishedUpscale:
    """Wait until a bought upscale has ended.

    No failure to look ends the wait, except a refused key. Nothing that ends the wait ends the job,
    except a person who cancels the flow run.

    Args:
        job: The job.
        upscaler: The block that bought it, for its key.
        deadline_seconds: Seconds to wait at most.
        poll_seconds: Seconds between looks to begin with; None for what the provider advises.
        cancel_on_timeout: Whether the job is cancelled when the deadline, or Prefect's own time-out, passes.

    Raises:
        StillRunning: The deadline passed; the job runs on. Billed: yes.
        AccessLost: The provider refuses the key; the job is kept. Billed: yes.
        JobFailed: No generation succeeded. Billed: no at EvoLink, maybe at Oxen.ai.
        JobCancelled: It was cancelled. Billed: maybe.
        JobLost: The provider no longer knows it. Billed: maybe.
    """
    return await _wait(job, upscaler, deadline_seconds, poll_seconds, cancel_on_timeout)


@task(name="wait_for_upscale", **_RETRIES)
def wait_for_upscale(
    job: UpscaleJob,
    upscaler: AnyUpscaler,
    *,
    deadline_seconds: float = DEADLINE,
    poll_seconds: float | None = None,
    cancel_on_timeout: bool = False,
) -> FinishedUpscale:
    """Wait until a bought upscale has ended: the sync colour of `await_for_upscale`."""
    return run_blocking(_wait(job, upscaler, deadline_seconds, poll_seconds, cancel_on_timeout))


@task(name="store_upscale", **_RETRIES)
async def astore_upscale(
    finished: FinishedUpscale,
    upscaler: AnyUpscaler,
    destination: Destination | None = None,
    *,
    source: SourceLike | None = None,
    source_storage: Destination | None = None,
    verify: Verify = "standard",
    overwrite: bool = False,
) -> list[StoredVideo]:
    """Verify the results of an upscale and publish them.

    Args:
        finished: The finished job.
        upscaler: The block that bought it, for its key.
        destination: Where the result goes; None for where it was ordered to.
        source: The source, to compare the pictures with; None to try its recorded place.
        source_storage: The folder in which the source is a path.
        verify: `standard`; `strict`, where missing sound or another frame rate is a mismatch too;
            or `off`.
        overwrite: Whether another file at the destination may be replaced.

    Returns:
        One video a generation that succeeded.

    Raises:
        ResultMismatch: A result is not what was ordered; it is kept aside. Billed: yes.
        ResultUnavailable: A result cannot be downloaded. Billed: yes.
        DeliveryFailed: The destination cannot be written. Billed: yes.
    """
    return await runs.store(
        finished,
        upscaler,
        destination,
        source=source,
        source_storage=source_storage,
        verify=verify,
        overwrite=overwrite,
    )


@task(name="store_upscale", **_RETRIES)
def store_upscale(
    finished: FinishedUpscale,
    upscaler: AnyUpscaler,
    destination: Destination | None = None,
    *,
    source: SourceLike | None = None,
    source_storage: Destination | None = None,
    verify: Verify = "standard",
    overwrite: bool = False,
) -> list[StoredVideo]:
    """Verify the results of an upscale and publish them: the sync colour of `astore_upscale`."""
    return run_blocking(
        runs.store(
            finished,
            upscaler,
            destination,
            source=source,
            source_storage=source_storage,
            verify=verify,
            overwrite=overwrite,
        )
    )


@task(name="cancel_upscale", **_RETRIES)
async def acancel_upscale(job: UpscaleJob, upscaler: AnyUpscaler) -> CancelOutcome:
    """Cancel a bought upscale, and read back what became of it.

    Args:
        job: The job.
        upscaler: The block that bought it, for its key.

    Returns:
        The outcome. EvoLink has no call to cancel; whether Oxen.ai charges for a cancelled job is
        not documented; a job that succeeded meanwhile is paid, and can still be stored.
    """
    return await runs.cancel(job, upscaler)


@task(name="cancel_upscale", **_RETRIES)
def cancel_upscale(job: UpscaleJob, upscaler: AnyUpscaler) -> CancelOutcome:
    """Cancel a bought upscale: the sync colour of `acancel_upscale`."""
    return run_blocking(runs.cancel(job, upscaler))
