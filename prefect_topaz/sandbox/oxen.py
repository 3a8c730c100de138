"""Oxen.ai's inference API: the queue, its history, the blocking endpoint, the models."""

import base64
import uuid
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_topaz.sandbox.backend import Backend, json_body
from prefect_topaz.sandbox.job import STATUSES, TERMINAL, Failure, Job, Order
from prefect_topaz.sandbox.oxen_models import MODELS, Model
from prefect_topaz.sandbox.oxen_rows import (
    is_wanted,
    message_error,
    priced,
    result_path,
    row,
    typed_error,
)
from prefect_topaz.sandbox.serving import denied, serve
from prefect_topaz.sandbox.shapes import Recipe


class OxenApi:
    """Oxen's endpoints over a backend.

    Args:
        backend: What they act on.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        """Give every route under /api/ai, and the one that serves results."""
        one, every = "/api/ai/queue/{id}", "/api/ai/generations"
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]], bool]] = [
            ("POST", "/api/ai/queue", self.enqueue, False),
            ("GET", "/api/ai/queue", self.active, False),
            ("GET", one, self.status, False),
            ("DELETE", one, self.cancel, False),
            ("GET", every, self.history, False),
            ("GET", every + "/{id}", self.detail, False),
            ("POST", "/api/ai/videos/generate", self.generate, False),
            ("GET", "/api/ai/models", self.models, True),
            ("GET", "/api/ai/models/search", self.models, True),
            ("GET", "/api/ai/models/{id}", self.model, True),
        ]
        routes = [
            Route(path, self._guarded(endpoint, is_open), methods=[method])
            for method, path, endpoint, is_open in table
        ]
        return [*routes, Route(result_path("{id}"), self.result, methods=["GET"])]

    async def enqueue(self, request: Request) -> Response:
        """POST /api/ai/queue: accept 1 to 4 generations; parameters are checked when they run."""
        body = await json_body(request) or {}
        refusal = _refusal(body)
        if refusal is not None:
            return refusal
        count = body.get("num_generations", 1)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 4:  # noqa: PLR2004 - [seed]
            text = "num_generations must be an integer between 1 and 4"  # [seed]
            return typed_error(400, "invalid_params", text)
        jobs = [self._job(body) for _ in range(count)]
        self._backend.accept(jobs)
        rows = [{"generation_id": job.job_id, "status": "queued"} for job in jobs]
        return JSONResponse({"generations": rows})  # [O1]

    async def active(self, request: Request) -> Response:
        """GET /api/ai/queue: active rows, or those of one status."""
        status = request.query_params.get("status")
        jobs = self._listed(request)
        if status is None:  # [O1] only active rows come back
            jobs = [job for job in jobs if not job.is_terminal]
        elif status not in STATUSES:
            return typed_error(400, "invalid_params", "Invalid status")
        rows = [self._row(job) for job in jobs if not job.blocking]
        return JSONResponse({"count": len(rows), "generations": rows})

    async def status(self, request: Request) -> Response:
        """GET /api/ai/queue/{id}: one row without an envelope."""
        job = self._backend.jobs.find(request.path_params["id"], "oxen")
        if job is None or job.blocking:
            return typed_error(404, "resource_not_found")
        await self._backend.jobs.read(job)
        return JSONResponse(self._row(job))

    async def cancel(self, request: Request) -> Response:
        """DELETE /api/ai/queue/{id}: stop a row that is not finished."""
        job = self._backend.jobs.find(request.path_params["id"], "oxen")
        if job is None or job.blocking:
            return typed_error(404, "resource_not_found")
        status = self._backend.choices.cancel_terminal_status
        # [O1] no effect on a finished row; the status of the answer is [unknown]
        if not self._backend.jobs.cancel(job) and status != 200:  # noqa: PLR2004 - HTTP
            return typed_error(status, "invalid_params", f"The generation is {job.status}")
        return JSONResponse({"status": "success", "generation_id": job.job_id})

    async def history(self, request: Request) -> Response:
        """GET /api/ai/generations: rows with their cost, paged."""
        try:
            page = int(request.query_params.get("page", 1))
            size = int(request.query_params.get("page_size", 50))
        except ValueError:
            return typed_error(400, "invalid_params", "page and page_size are integers")
        if page < 1 or not 1 <= size <= 1000:  # noqa: PLR2004 - [O6]
            return typed_error(400, "invalid_params", "page >= 1, 1 <= page_size <= 1000")
        jobs = self._listed(request, history=True)
        costs = [job.cost for job in jobs if job.cost is not None]
        rows = [priced(job, self._row(job)) for job in jobs[(page - 1) * size : page * size]]
        return JSONResponse(
            {
                "count": len(rows),
                "generations": rows,
                "page_number": page,
                "page_size": size,
                "total_pages": max(-(-len(jobs) // size), 1),
                "total_entries": len(jobs),
                "total_cost": str(sum(costs, Decimal(0))) if costs else None,
            }
        )

    async def detail(self, request: Request) -> Response:
        """GET /api/ai/generations/{id}: one row with its cost, in an envelope."""
        job = self._backend.jobs.find(request.path_params["id"], "oxen", history=True)
        if job is None or not self._in_history(job):
            return typed_error(404, "resource_not_found")
        await self._backend.jobs.read(job)
        # [O6] wrapped here, flat in the queue
        envelope = {"status": "success", "status_message": "resource_found"}
        return JSONResponse({**envelope, "generation": priced(job, self._row(job))})

    async def generate(self, request: Request) -> Response:
        """POST /api/ai/videos/generate: block until the video is there."""
        body = await json_body(request) or {}
        refusal = _refusal(body)
        if refusal is not None:
            return refusal
        wanted = body.get("response_format", "url")
        fault = MODELS[body["model"]].fault_in(body)
        if fault is not None or wanted not in {"url", "b64_json"}:
            return message_error(400, fault or "Invalid response_format")  # [O1] at once here
        job = self._job(body, blocking=True)
        self._backend.accept([job])
        await self._backend.jobs.wait(job)
        if job.outcome is None or job.outcome.video is None:
            failure = (job.outcome and job.outcome.failure) or Failure("Internal Server Error")
            return message_error(500, failure.message)
        video = {"url": self._link(job)}
        if wanted == "b64_json":
            content = await run_in_threadpool(job.outcome.video.path.read_bytes)
            video = {"b64_json": base64.b64encode(content).decode()}
        return JSONResponse({"created": int(job.created), "model": job.model, "videos": [video]})

    async def models(self, request: Request) -> Response:
        """GET /api/ai/models and /search: the models, filtered."""
        cards = [model.card() for model in MODELS.values()]
        for name in ("developer_name", "provider_name"):
            wanted = request.query_params.get(name)
            cards = [card for card in cards if wanted in {None, card[name]}]
        search = request.query_params.get("search", "")
        cards = [card for card in cards if search.lower() in card["id"]]
        return JSONResponse({"object": "list", "data": cards})  # [O5]

    async def model(self, request: Request) -> Response:
        """GET /api/ai/models/{id}: one model."""
        model = MODELS.get(request.path_params["id"])
        if model is None:
            return message_error(404, f"Model not found: {request.path_params['id']}")  # [O5]
        return JSONResponse(model.card())

    async def result(self, request: Request) -> Response:
        """Serve a result at its signed link, with or without a key."""
        if not self._backend.links.is_valid(request):
            return denied("The link has expired")
        return serve(request, self._backend.result(request.path_params["id"]))

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]], is_open: bool
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            is_free = is_open and self._backend.choices.open_models
            if is_free or self._backend.is_authorized(request):
                return await endpoint(request)
            return typed_error(401, "unauthenticated")  # [O2]

        return guarded

    def _job(self, body: dict[str, Any], *, blocking: bool = False) -> Job:
        model = MODELS[body["model"]]
        return Job(
            job_id=str(uuid.uuid4()),
            provider="oxen",
            model=model.name,
            request=body,
            order=self._backend.with_fault(self._order(model, body), "oxen"),
            created=self._backend.clock(),
            price=lambda seconds: _dollars(model.rate(body), seconds),
            blocking=blocking,
        )

    def _order(self, model: Model, body: dict[str, Any]) -> Order:
        text = model.fault_in(body)
        if text is not None:  # [O1] accepted now, failed later
            return Order("", failure=Failure(text))
        fps = body.get("target_fps", self._backend.choices.default_fps)
        # `interpolate_frames` makes no difference: whether `target_fps` needs it is [unknown].
        recipe = Recipe(resolution=model.resolution(body), fps=fps)
        return Order(str(body["input_video"]), recipe)

    def _listed(self, request: Request, *, history: bool = False) -> list[Job]:
        jobs = self._backend.jobs
        known = [j for j in jobs.all() if jobs.find(j, "oxen", history=history)]
        # Order is [unknown]: newest first.
        found = [jobs.all()[job_id] for job_id in reversed(known)]
        if history:
            found = [job for job in found if self._in_history(job)]
        return [job for job in found if is_wanted(job, request.query_params)]

    def _in_history(self, job: Job) -> bool:
        if job.blocking and not self._backend.choices.sync_in_history:
            return False
        return job.status in TERMINAL or self._backend.choices.history_shows_active

    def _row(self, job: Job) -> dict[str, Any]:
        return row(job, self._link(job) if job.status == "succeeded" else None)

    def _link(self, job: Job) -> str:
        return self._backend.result_link(job, result_path(job.job_id))


def _refusal(body: dict[str, Any]) -> Response | None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        return typed_error(400, "invalid_params", "model is required")
    if model not in MODELS:
        return message_error(404, f"Model not found: {model}")  # [O5][OX1]
    return None


def _dollars(rate: Decimal, seconds: float) -> Decimal:
    return (rate * Decimal(str(seconds))).quantize(Decimal("0.0001"))
