"""The whole application: both providers, files, control, and their errors."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from prefect_topaz.sandbox.backend import Backend
from prefect_topaz.sandbox.control import Control
from prefect_topaz.sandbox.evolink import EvoLinkApi
from prefect_topaz.sandbox.files import FilesApi
from prefect_topaz.sandbox.oxen import OxenApi
from prefect_topaz.sandbox.refusals import refusal
from prefect_topaz.sandbox.repos import ReposApi


def make_app(backend: Backend) -> Starlette:
    """Make the application.

    Args:
        backend: What it acts on.
    """
    parts = (
        *(OxenApi(backend), ReposApi(backend)),
        *(EvoLinkApi(backend), FilesApi(backend)),
        Control(backend),
    )
    routes = [route for part in parts for route in part.routes()]
    return Starlette(routes=routes, exception_handlers={HTTPException: _unrouted})


async def _unrouted(request: Request, error: Exception) -> Response:
    # How the vendors answer for paths that do not exist is [unknown]: their usual error body.
    assert isinstance(error, HTTPException)
    path = request.url.path
    code = "not_found" if path.startswith("/v1/") else None
    response = refusal(path, error.status_code, code, error.detail)
    response.headers.update(error.headers or {})
    return response
