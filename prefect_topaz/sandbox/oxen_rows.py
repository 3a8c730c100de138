"""Oxen.ai's bodies: its two kinds of error, and the rows of queue and history."""

from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response

from prefect_topaz.sandbox.job import Job

USER = "sandbox"
_PLACES = ("target_namespace", "target_repo", "target_directory")
_TITLES = {
    "invalid_params": "Invalid parameters supplied",
    "resource_not_found": "The requested resource could not be found",
    "unauthenticated": "Authentication is required",
    "unknown_error": "An unknown error occurred",
}


def typed_error(status: int, kind: str, detail: str | None = None) -> Response:
    """Answer with the first of Oxen's two error bodies.

    Args:
        status: HTTP status.
        kind: `invalid_params`, `resource_not_found`, `unauthenticated`, `unknown_error`, ...
        detail: What exactly is wrong.
    """
    # [O1] 404 body, [O2] the same shape with `detail`
    error = {"type": kind, "title": _TITLES.get(kind, kind)}
    if detail is not None:
        error["detail"] = detail
    return JSONResponse({"error": error, "status": "error", "status_message": kind}, status)


def message_error(status: int, message: str) -> Response:
    """Answer with the second of Oxen's two error bodies.

    Args:
        status: HTTP status.
        message: What is wrong.
    """
    return JSONResponse({"error": {"message": message}}, status)  # [O2]


def result_path(job_id: str) -> str:
    """Give the path of a result.

    Args:
        job_id: The generation.
    """
    return f"/api/repos/{USER}/results/files/{job_id}/video.mp4"  # [seed] form of the URL


def row(job: Job, result_url: str | None) -> dict[str, Any]:
    """Give a row as the queue shows it.

    Args:
        job: The generation.
        result_url: The link of its result, if it has one.
    """
    failure = job.outcome.failure if job.outcome and job.status == "failed" else None
    own = {k: v for k, v in job.request.items() if k not in {"model", "num_generations"}}
    return {
        **dict.fromkeys(_PLACES),
        **own,  # [O1] the request's parameters, merged at top level
        "generation_id": job.job_id,
        "model_name": job.model,
        "media_type": "video",
        "status": job.status,
        "result_url": result_url,
        "error_message": failure.message if failure else None,
        "enqueued_at": int(job.created),
        "started_at": int(job.started) if job.started else None,
        "completed_at": int(job.completed) if job.completed else None,
    }


def priced(job: Job, shown: dict[str, Any]) -> dict[str, Any]:
    """Give a row as the history shows it.

    Args:
        job: The generation.
        shown: Its row in the queue.
    """
    # [O6] the cost is a decimal in a string, and in the history alone
    cost = None if job.cost is None else str(job.cost)
    return {**shown, "cost": cost, "user_id": "1", "username": USER, "user_image": None}


def is_wanted(job: Job, query: QueryParams) -> bool:
    """Say whether a listing's filters let a row through.

    Args:
        job: The generation.
        query: The filters; without `namespace` the caller's own is meant.
    """
    facts: dict[str, Any] = {
        "model": job.model,
        "status": job.status,
        "media_type": "video",
        "namespace": job.request.get("target_namespace") or USER,
        "repo": job.request.get("target_repo"),
        "folder": job.request.get("target_directory"),
    }
    wanted = {"namespace": USER, **query}
    return all(facts[name] == wanted[name] for name in facts if name in wanted)
