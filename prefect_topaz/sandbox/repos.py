"""Oxen.ai's repositories: files under a path, each change a commit."""

import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from prefect_topaz.sandbox.backend import Backend, json_body
from prefect_topaz.sandbox.disk import CHUNK, WORKER_AGENT, StoredFile
from prefect_topaz.sandbox.ledger import Upload
from prefect_topaz.sandbox.oxen_rows import USER, typed_error
from prefect_topaz.sandbox.serving import serve

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BRANCH = "main"
_FIELDS = ("message", "name", "email")
_FILE = "/api/repos/{namespace}/{repo}/file/{branch}/{path:path}"


@dataclass
class _Repository:
    """One repository's newest state. Private to this module."""

    is_public: bool
    files: dict[str, StoredFile] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class ReposApi:
    """Oxen's repository endpoints over a backend.

    Args:
        backend: What they act on.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._repositories: dict[str, _Repository] = {}

    def routes(self) -> list[Route]:
        """Give every route under /api/repos, but for the results' own."""
        return [
            Route("/api/repos", self._guarded(self.create), methods=["POST"]),
            Route(_FILE, self._guarded(self.put), methods=["PUT"]),
            Route(_FILE, self._guarded(self.delete), methods=["DELETE"]),
            Route(_FILE, self.get, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """POST /api/repos: make an empty repository."""
        body = await json_body(request) or {}
        names = [body.get("namespace"), body.get("name")]
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
            return typed_error(400, "invalid_params", "namespace and name are required")
        where = "/".join(map(str, names))
        if where in self._repositories:
            return typed_error(409, "resource_already_exists", f"{where} exists")
        # What a repository is when `is_public` is left out is [unknown]: private is the safe side.
        is_public = body.get("is_public") is True
        self._repositories[where] = _Repository(is_public)
        shown = {"namespace": names[0], "name": names[1], "is_public": is_public}
        answer = {"status": "success", "status_message": "resource_created", "repository": shown}
        return JSONResponse(answer)  # [O7]

    async def put(self, request: Request) -> Response:
        """PUT file: write one file, as one commit."""
        repository = self._find(request)
        if repository is None:
            return typed_error(404, "resource_not_found")
        try:
            async with request.form() as form:
                return await self._put(request, repository, form)
        except HTTPException as error:
            return typed_error(400, "invalid_params", error.detail)

    async def _put(self, request: Request, repository: _Repository, form: FormData) -> Response:
        file, path = form.get("file"), request.path_params["path"]
        if not isinstance(file, UploadFile):  # [O7] the newer name, whose path is a folder
            file = form.get("files[]")
            if not isinstance(file, UploadFile):
                return typed_error(400, "invalid_params", "file is required")
            path = f"{path.rstrip('/')}/{PurePosixPath(file.filename or 'file').name}"
        refusal = self._lack(form)
        if refusal is not None:
            return refusal
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        chunks = iter(partial(file.file.read, CHUNK), b"")
        stored = await run_in_threadpool(self._backend.store, chunks, kind)
        repository.files[path] = stored
        reference = _reference(request, path)
        at = datetime.fromtimestamp(self._backend.clock(), timezone.utc)
        self._backend.ledger.store(Upload("oxen", reference, stored.size, at))
        return self._committed(repository, form)

    async def delete(self, request: Request) -> Response:
        """DELETE file: take one file out of the newest state, as one commit."""
        repository, path = self._find(request), request.path_params["path"]
        if repository is None or path not in repository.files:
            return typed_error(404, "resource_not_found")
        async with request.form() as form:
            refusal = self._lack(form)
            if refusal is not None:
                return refusal
            del repository.files[path]
            self._backend.ledger.remove(_reference(request, path))
            return self._committed(repository, form)

    async def get(self, request: Request) -> Response:
        """GET file: the content, for anybody if the repository is public."""
        repository = self._find(request)
        file = repository.files.get(request.path_params["path"]) if repository else None
        if repository is None or file is None:
            return typed_error(404, "resource_not_found")
        if repository.is_public or self._backend.is_authorized(request) or self._is_input(request):
            return serve(request, file)
        status = self._backend.choices.private_status
        kinds = {401: "unauthenticated", 403: "unauthorized", 404: "resource_not_found"}
        return typed_error(status, kinds.get(status, "unknown_error"))

    def _is_input(self, request: Request) -> bool:
        """Tell Oxen's own reading of an input, if that sees private files."""
        is_worker = request.headers.get("user-agent") == WORKER_AGENT
        return is_worker and self._backend.choices.private_inputs

    def _find(self, request: Request) -> _Repository | None:
        parameters = request.path_params
        if parameters["branch"] != _BRANCH:
            return None
        return self._repositories.get(f"{parameters['namespace']}/{parameters['repo']}")

    def _lack(self, form: FormData) -> Response | None:
        # [O8] required, [O7] nullable: the stricter reading unless told otherwise
        missing = [name for name in _FIELDS if not isinstance(form.get(name), str)]
        if not missing or not self._backend.choices.commit_fields:
            return None
        return typed_error(400, "invalid_params", f"{', '.join(missing)} is required")

    def _committed(self, repository: _Repository, form: FormData) -> Response:
        told = {name: form.get(name) for name in _FIELDS}
        count = len(repository.commits)
        commit_id = hashlib.sha256(f"{count}{told}{self._backend.clock()}".encode()).hexdigest()
        parents = repository.commits[-1:]
        repository.commits.append(commit_id)
        moment = datetime.fromtimestamp(self._backend.clock(), timezone.utc).isoformat()
        author = {"author": told["name"] or USER, "email": told["email"] or ""}
        commit: dict[str, Any] = {"id": commit_id, "message": told["message"] or "", **author}
        commit |= {"parent_ids": parents, "timestamp": moment}
        status = {"status": "success", "status_message": "resource_created"}
        return JSONResponse({**status, "commit": commit})  # [O7]

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if self._backend.is_authorized(request):
                return await endpoint(request)
            return typed_error(401, "unauthenticated")  # [O2]

        return guarded


def _reference(request: Request, path: str) -> str:
    parameters: dict[str, Any] = request.path_params
    return f"{parameters['namespace']}/{parameters['repo']}/{parameters['branch']}/{path}"
