"""Errors in each provider's own words, for faults and for paths that do not exist."""

import re

from starlette.responses import HTMLResponse, PlainTextResponse, Response

from prefect_topaz.sandbox.evolink_bodies import credits_error, evolink_error
from prefect_topaz.sandbox.evolink_order import MODEL
from prefect_topaz.sandbox.files import files_error
from prefect_topaz.sandbox.oxen_rows import message_error, typed_error

# A file that somebody put into a repository; results are links on the same host.
_IN_REPOSITORY = re.compile(r"/api/repos(/[^/]+/[^/]+/file/.+)?$")
# [O2] the types; a status without one gets the other body
_OXEN = {
    400: "invalid_params",
    401: "unauthenticated",
    404: "resource_not_found",
    500: "unknown_error",
}
_OXEN_TEXTS = {429: "Rate limit exceeded"}  # [O11]
# [seed] the answers to a create
_EVOLINK = {
    400: ("invalid_parameter", f"video_urls is required and must not be empty for {MODEL}"),
    401: ("unauthorized", "Invalid or expired token"),
    402: ("insufficient_quota", "Insufficient quota. Please top up your account."),
    403: ("model_access_denied", f"Token does not have access to model: {MODEL}"),
    404: ("task_not_found", "Task not found"),
    413: ("request_too_large", "The request is too large"),
    429: ("rate_limit_exceeded", "Too many requests, please try again later"),
    500: ("internal_error", "Internal server error"),
    502: ("upstream_error", "Upstream error"),
}
# [E1] reading a task says some things differently
_EVOLINK_TASKS = {
    402: ("quota_exceeded", "Quota exceeded"),
    403: ("permission_denied", "Permission denied"),
}


def provider_of(path: str) -> str | None:
    """Say whose API a path belongs to, None for results and media.

    Args:
        path: The path of a request.
    """
    if path.startswith("/api/ai"):
        return "oxen"
    if path.startswith(("/v1/", "/api/v1/")):
        return "evolink"
    # Result links are told apart by their form, so that a fault can pick one provider's.
    if path.startswith("/api/repos/"):
        return "oxen"
    return "evolink" if path.startswith("/results/") else None


def refusal(
    path: str, status: int, code: str | int | None = None, message: str | None = None
) -> Response:
    """Answer a path with an error as its provider writes it.

    Args:
        path: The path of the request.
        status: HTTP status.
        code: The error's code or type; by default the documented one.
        message: What is wrong; by default the documented text.
    """
    if path.startswith("/api/ai") or _IN_REPOSITORY.match(path):
        return _oxen(status, code, message)
    if path.startswith("/api/v1/files"):
        number = code if isinstance(code, int) else None
        return files_error(status, message or str(code or "Upload failed"), number)
    if path == "/v1/credits" and not isinstance(code, str):
        return credits_error(status, message or _EVOLINK.get(status, ("", "Error"))[1])
    if path.startswith("/v1/"):
        return _evolink(path, status, code, message)
    return PlainTextResponse(message or f"Error {status}", status)


def server_error(path: str, status: int) -> Response:
    """Answer with a server error: the API's own for 500, a gateway's page for the others.

    Args:
        path: The path of the request.
        status: HTTP status from 500 on.
    """
    if status == 500:  # noqa: PLR2004 - HTTP
        return refusal(path, status)
    return HTMLResponse(f"<html><body><h1>{status}</h1></body></html>", status)


def _oxen(status: int, code: str | int | None, message: str | None) -> Response:
    if code is None and message is None and status in _OXEN:
        code = _OXEN[status]
    if code is not None:
        return typed_error(status, str(code), message)
    return message_error(status, message or _OXEN_TEXTS.get(status, f"Error {status}"))


def _evolink(path: str, status: int, code: str | int | None, message: str | None) -> Response:
    is_task = path.startswith("/v1/tasks")
    known = {**_EVOLINK, **_EVOLINK_TASKS} if is_task else _EVOLINK
    usual, text = known.get(status, ("unknown_error", f"Error {status}"))
    kind = "evo_api_error" if is_task and status == 429 else None  # noqa: PLR2004 - [E1]
    return evolink_error(status, str(code or usual), message or text, kind=kind)
