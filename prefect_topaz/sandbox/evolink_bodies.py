"""EvoLink's bodies: its errors, tasks as created and as read, and rows of the listing."""

import math
from typing import Any

from starlette.responses import JSONResponse, Response

from prefect_topaz.sandbox.job import Job

# [seed] the error types of each status
_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    429: "rate_limit_error",
    500: "api_error",
}


_WORDS = {"queued": "pending", "succeeded": "completed"}


def evolink_error(
    status: int, code: str, message: str, *, kind: str | None = None, param: str | None = None
) -> Response:
    """Answer with EvoLink's error body.

    Args:
        status: HTTP status.
        code: The error's code.
        message: What is wrong.
        kind: The error's type; by default the documented one of the status.
        param: The parameter at fault.
    """
    kind = kind or _TYPES.get(status, "invalid_request_error")  # [seed]
    error = {"code": code, "message": message, "type": kind}
    if param is not None:
        error["param"] = param  # [E1]
    return JSONResponse({"error": error}, status)


def credits_error(status: int, message: str) -> Response:
    """Answer with the error body of the credits endpoint, whose code is a number.

    Args:
        status: HTTP status.
        message: What is wrong.
    """
    advice = {429: "retry after 60 seconds", 503: "retry after 30 seconds"}  # [E5]
    error = {
        "code": status,
        "message": message,
        "type": _TYPES.get(status, "invalid_request_error"),
        "fallback_suggestion": advice.get(status, "check the request"),
    }
    return JSONResponse({"error": error}, status)


def created(job: Job) -> dict[str, Any]:
    """Give the answer to a create request.

    Args:
        job: The new task.
    """
    seconds = math.ceil(job.input_seconds)
    # [seed] names the fields; a video takes about its own length here.
    info = {"estimated_time": seconds, "video_duration": seconds}
    return {**_head(job), "task_info": {"can_cancel": True, **info}, "usage": _usage(job)}


def task(job: Job, link: str | None) -> dict[str, Any]:
    """Give a task as a status read shows it.

    Args:
        job: The task.
        link: The link of its result, if it has one.
    """
    body = {**_head(job), "task_info": {"can_cancel": not job.is_terminal}}  # [E1]
    body |= {"usage": _usage(job), "billing": _billing(job)}
    if link is not None:
        body["results"] = [link]
    elif job.status == "failed" and job.outcome and job.outcome.failure:
        failure = job.outcome.failure
        error = {"code": failure.code, "message": failure.message, "type": "task_error"}
        body["error"] = error  # [E1]
    return body


def item(job: Job) -> dict[str, Any]:
    """Give a task as the listing shows it: neither links nor input.

    Args:
        job: The task.
    """
    head = _head(job)
    return {  # [E8]
        **{name: head[name] for name in ("id", "status", "model", "type", "progress")},
        "created_at": head["created"],
        "has_results": job.status == "succeeded",
        "has_error": job.status == "failed",
        "credits_used": float(job.cost or 0),
    }


def _head(job: Job) -> dict[str, Any]:
    return {
        "created": int(job.created),
        "id": job.job_id,
        "model": job.model,
        "object": "video.generation.task",
        "progress": job.progress,
        "status": _WORDS.get(job.status, job.status),
        "type": "video",
    }


def _usage(job: Job) -> dict[str, Any]:
    usage: dict[str, Any] = {"billing_rule": "per_second", "user_group": "default"}
    usage["credits_reserved"] = float(job.reserved)
    if job.is_terminal:  # [E8]
        usage["credits_used"] = float(job.cost or 0)
    return usage


def _billing(job: Job) -> dict[str, Any]:
    # [E8] newer gateways; a failed task returns what was reserved [E7]
    charge = "charged" if job.cost is not None else "reserved"
    released = job.is_terminal and job.cost is None
    return {
        "refund_scope": "account_balance",
        "charge_status": "released" if released else charge,
        "refund_status": "completed" if released else "not_required",
        "reserved_credits": float(job.reserved),
        "charged_credits": float(job.cost or 0),
        "refunded_credits": float(job.reserved) if released else 0.0,
        "refunded_at": int(job.completed) if released and job.completed else None,
    }
