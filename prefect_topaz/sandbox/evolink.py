"""EvoLink's API: video tasks, their listing, models, credits."""

import secrets
import string
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from prefect_topaz.sandbox import evolink_order as rules
from prefect_topaz.sandbox.backend import Backend, json_body
from prefect_topaz.sandbox.disk import NotFetched
from prefect_topaz.sandbox.evolink_bodies import created, credits_error, evolink_error, item, task
from prefect_topaz.sandbox.evolink_order import MODEL, Refused
from prefect_topaz.sandbox.job import Job, Order
from prefect_topaz.sandbox.serving import denied, serve
from prefect_topaz.sandbox.shapes import NotReadable, Recipe, shape_of

Endpoint = Callable[[Request], Awaitable[Response]]

_PREFIX = "task-unified-"  # [E1]
_ALPHABET = string.ascii_lowercase + string.digits
_FILTERS = {
    "processing": {"queued", "processing"},  # [E8] includes queued ones
    "completed": {"succeeded"},
    "failed": {"failed"},
    "cancelled": {"cancelled"},
}
_MOST = 50  # [E8] ids in a batch, and its client's page size


class EvoLinkApi:
    """EvoLink's endpoints over a backend.

    Args:
        backend: What they act on.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # Keys in use: the body, and the first answer once there is one.
        self._keys: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}

    def routes(self) -> list[Route]:
        """Give every route under /v1, and the one that serves results.

        There is no cancel endpoint (2.6): DELETE on a task is 405.
        """
        table: list[tuple[str, str, Endpoint]] = [
            ("POST", "/v1/videos/generations", self.create),
            ("POST", "/v1/tasks/batch", self.batch),
            ("GET", "/v1/tasks", self.listing),
            ("GET", "/v1/tasks/{id}", self.status),
            ("GET", "/v1/models", self.models),
            ("GET", "/v1/credits", self.credits),
        ]
        return [
            *(Route(path, self._guarded(call), methods=[method]) for method, path, call in table),
            Route("/v1/catalog/pricing-rules", self.prices, methods=["GET"]),
            Route("/results/{id}.mp4", self.result, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """POST /v1/videos/generations: probe the input, reserve credits, accept a task."""
        body = await json_body(request)
        if body is None:
            raise Refused(400, "invalid_request", "The body is not a JSON object")
        self._check(body)
        key = rules.idempotency_key(request) if self._backend.choices.idempotency else None
        if key is None:
            return JSONResponse(await self._accept(body, None))
        if key in self._keys:
            return self._replay(key, body)
        self._keys[key] = (body, None)
        try:
            answer = await self._accept(body, key)
        except BaseException:
            del self._keys[key]
            raise
        self._keys[key] = (body, answer)
        return JSONResponse(answer)

    async def status(self, request: Request) -> Response:
        """GET /v1/tasks/{id}: one task."""
        task_id = request.path_params["id"]
        if not task_id.startswith(_PREFIX):  # [E1]
            text = f"Invalid task id: {task_id}"
            return evolink_error(400, "invalid_task_id", text, param="task_id")
        job = self._backend.jobs.find(task_id, "evolink")
        if job is None:
            return evolink_error(404, "task_not_found", f"Task not found: {task_id}")
        await self._backend.jobs.read(job)
        return JSONResponse(self._task(job))

    async def batch(self, request: Request) -> Response:
        """POST /v1/tasks/batch: up to 50 tasks; unknown ids are simply absent."""
        body = await json_body(request)
        ids = body.get("task_ids") if body else None
        if not isinstance(ids, list) or not 1 <= len(ids) <= _MOST:
            raise Refused(400, "invalid_parameter", "task_ids must list 1 to 50 ids")
        found = [self._backend.jobs.find(str(task_id), "evolink") for task_id in ids]
        jobs = [job for job in found if job is not None]
        for job in jobs:
            await self._backend.jobs.read(job)
        return JSONResponse({"data": [self._task(job) for job in jobs]})  # [E8]

    async def listing(self, request: Request) -> Response:
        """GET /v1/tasks: the whole account, newest first, without links."""
        query = request.query_params
        status, page, size = query.get("status"), query.get("page", "1"), query.get("page_size")
        if status is not None and status not in _FILTERS:
            raise Refused(400, "invalid_parameter", f"Unknown status: {status}")
        if not page.isdecimal() or not (size or "20").isdecimal() or "0" in {page, size}:
            raise Refused(400, "invalid_parameter", "page and page_size are positive integers")
        known = self._backend.jobs.all().values()
        jobs = [job for job in reversed(known) if job.provider == "evolink"]
        jobs = [job for job in jobs if job.forgotten == "no"]
        jobs = [job for job in jobs if status is None or job.status in _FILTERS[status]]
        jobs = [job for job in jobs if query.get("model", MODEL) == job.model]
        jobs = jobs if query.get("type", "video") == "video" else []
        count = min(int(size or 20), _MOST)  # a larger page than 50 is [unknown]
        start = (int(page) - 1) * count
        items = [item(job) for job in jobs[start : start + count]]
        sheet = {"total": len(jobs), "page": int(page), "page_size": count}
        return JSONResponse({"data": items, **sheet})

    async def models(self, _request: Request) -> Response:
        """GET /v1/models: what the key may use."""
        denied_models = self._backend.choices.denied_models
        data = [{"id": MODEL, "object": "model"}] if MODEL not in denied_models else []
        return JSONResponse({"object": "list", "data": data})  # [E7]

    async def credits(self, _request: Request) -> Response:
        """GET /v1/credits: what the key and the account have left."""
        account = self._backend.account
        left, used = float(account.remaining()), float(account.used)
        counts = {"remaining_credits": left, "used_credits": used}
        token = {**counts, "unlimited_credits": account.limit is None}
        data = {"token": token, "user": counts}
        return JSONResponse({"success": True, "message": "", "data": data})  # [E5]

    async def prices(self, _request: Request) -> Response:
        """GET /v1/catalog/pricing-rules: open to all, and without an entry for our model."""
        rule = {"model": "tencent-video-upscale", "unit": "output_second"}  # [E16]
        return JSONResponse({"data": [rule]})

    async def result(self, request: Request) -> Response:
        """Serve a result at its signed link."""
        # [E8] the real media host turns Python's default User-Agent away
        if request.headers.get("user-agent", "").startswith("Python-urllib"):
            return PlainTextResponse("error code: 1010", 403)
        if not self._backend.links.is_valid(request):
            return denied("The link has expired")
        return serve(request, self._backend.result(request.path_params["id"]))

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Response:
            if self._backend.is_authorized(request):
                try:
                    reply = await endpoint(request)
                except Refused as refusal:
                    reply = evolink_error(refusal.status, refusal.code, refusal.message)
            elif request.url.path == "/v1/credits":
                reply = credits_error(401, "Invalid or expired token")  # [E5] a number as code
            else:
                reply = evolink_error(401, "unauthorized", "Invalid or expired token")  # [seed]
            reply.headers["x-request-id"] = secrets.token_hex(8)  # [E8]
            return reply

        return guarded

    def _check(self, body: dict[str, Any]) -> None:
        model = body.get("model")
        if not isinstance(model, str):
            raise Refused(400, "invalid_parameter", "model is required")
        if model != MODEL or model in self._backend.choices.denied_models:  # [seed]
            text = f"Token does not have access to model: {model}"
            raise Refused(403, "model_access_denied", text)
        rules.video_url(body)
        rules.check_callback(body)

    def _replay(self, key: str, body: dict[str, Any]) -> Response:
        # [E8] the codes; their HTTP statuses are [unknown]
        status = self._backend.choices.conflict_status
        first, answer = self._keys[key]
        if first != body:
            text = "Idempotency-Key was used with another request"
            raise Refused(status, "idempotency_conflict", text)
        if answer is None:
            raise Refused(status, "paid_outcome_unknown", "The first request is in progress")
        return JSONResponse(answer, headers={"idempotency-replayed": "true"})

    async def _accept(self, body: dict[str, Any], key: str | None) -> dict[str, Any]:
        order, seconds = await run_in_threadpool(self._probe, body)
        due = rules.credits_for(seconds, order.recipe.factor or 2)
        if not self._backend.account.reserve(due):  # [seed]
            text = "Insufficient quota. Please top up your account."
            raise Refused(402, "insufficient_quota", text)
        now = self._backend.clock()
        mark = "".join(secrets.choice(_ALPHABET) for _ in range(8))
        job = Job(
            job_id=f"{_PREFIX}{int(now)}-{mark}",
            provider="evolink",
            model=MODEL,
            request=body,
            order=self._backend.with_fault(order, "evolink"),
            created=now,
            price=lambda _seconds: due,
            reserved=due,
            input_seconds=seconds,
        )
        answer = created(job)
        self._backend.accept([job], key)
        return answer

    def _probe(self, body: dict[str, Any]) -> tuple[Order, float]:
        url, path = rules.video_url(body), self._backend.new_path()
        try:
            digest = self._backend.fetcher.fetch(url, path)
            seconds = shape_of(path).seconds
        except (NotFetched, NotReadable) as error:  # [seed] the probe happens at create
            text = "Failed to detect video duration, please check video URL accessibility"
            raise Refused(400, "video_probe_failed", text) from error
        return Order(url, Recipe(factor=rules.factor(body)), fetched=(path, digest)), seconds

    def _task(self, job: Job) -> dict[str, Any]:
        if job.status != "succeeded":
            return task(job, None)
        return task(job, self._backend.result_link(job, f"/results/{job.job_id}.mp4"))
