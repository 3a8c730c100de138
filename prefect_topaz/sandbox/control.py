"""The sandbox's own endpoints, for those who run it in another process: loopback, no key."""

import dataclasses
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_topaz.sandbox.backend import Backend, json_body
from prefect_topaz.sandbox.faults import make_fault
from prefect_topaz.sandbox.job import Job
from prefect_topaz.sandbox.ledger import Purchase, Upload


class Control:
    """Ledger, faults, media and jobs over HTTP.

    Args:
        backend: What they show.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """Give every route under /_sandbox."""
        return [
            Route("/_sandbox/ledger", self.ledger, methods=["GET"]),
            Route("/_sandbox/jobs", self.jobs, methods=["GET"]),
            Route("/_sandbox/faults", self.fault, methods=["POST"]),
            Route("/_sandbox/media", self.media, methods=["POST"]),
        ]

    async def ledger(self, _request: Request) -> Response:
        """GET ledger: purchases, accepted submits, uploads, requests."""
        ledger = self._backend.ledger
        return JSONResponse(
            {
                "purchases": [purchase_to_json(one) for one in ledger.purchases],
                "submits": ledger.submits,
                "uploads": [upload_to_json(one) for one in ledger.uploads],
                "requests": [list(request) for request in ledger.requests],
            }
        )

    async def jobs(self, _request: Request) -> Response:
        """GET jobs: the state of every job by its id."""
        jobs = self._backend.jobs.all()
        return JSONResponse({job_id: _job_to_json(job) for job_id, job in jobs.items()})

    async def fault(self, request: Request) -> Response:
        """POST faults: ask for a fault."""
        wish = await json_body(request) or {}
        operation, kind = str(wish.pop("operation", "")), wish.pop("kind", "")
        try:
            times = wish.pop("times", 1)
            self._backend.faults.add(make_fault(operation, kind, wish), times)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"status": "asked"})

    async def media(self, request: Request) -> Response:
        """POST media?name=...: host the body as a public source."""
        name, path = request.query_params.get("name", "clip.mp4"), self._backend.new_path()
        async with await anyio.open_file(path, "wb") as file:
            async for chunk in request.stream():
                await file.write(chunk)
        return JSONResponse({"url": self._backend.host(path, name)})


def purchase_to_json(purchase: Purchase) -> dict[str, Any]:
    """Give a purchase as JSON; money as text.

    Args:
        purchase: A purchase of the ledger.
    """
    return {
        "provider": purchase.provider,
        "job_id": purchase.job_id,
        "request": purchase.request,
        "cost": None if purchase.cost is None else str(purchase.cost),
        "charged": purchase.charged,
        "idempotency_key": purchase.idempotency_key,
        "at": purchase.at.isoformat(),
    }


def upload_to_json(upload: Upload) -> dict[str, Any]:
    """Give an upload as JSON.

    Args:
        upload: An upload of the ledger.
    """
    return {**dataclasses.asdict(upload), "at": upload.at.isoformat()}


def _job_to_json(job: Job) -> dict[str, Any]:
    return {
        "provider": job.provider,
        "model": job.model,
        "status": job.status,
        "progress": job.progress,
        "frames": job.frames,
        "reads": job.reads,
        "stopped": job.stopped,
    }
