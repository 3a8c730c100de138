"""Public files: hosted sources under /media, and EvoLink's files API."""

import base64
import binascii
import functools
import mimetypes
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timezone
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from prefect_topaz.sandbox.backend import Backend, json_body
from prefect_topaz.sandbox.disk import CHUNK, NotFetched, StoredFile, read_chunks
from prefect_topaz.sandbox.ledger import Upload
from prefect_topaz.sandbox.serving import serve

_IMAGES = {"image/jpeg", "image/png", "image/gif", "image/webp"}  # [E3]
_MOST = 100  # files a page of the listing; the real number is [unknown]
_ROOM = 1 << 16  # multipart's own lines around the file


def files_error(status: int, message: str, code: int | None = None) -> Response:
    """Answer with the files API's error body.

    Args:
        status: HTTP status; 200 happens.
        message: What is wrong.
        code: The code in the body, by default the status.
    """
    body = {"success": False, "code": status if code is None else code, "msg": message}
    return JSONResponse(body, status)  # [E8][E9]


class _TooLarge(Exception):
    """The upload is over the limit."""


class FilesApi:
    """EvoLink's files endpoints and the hosted media, over a backend.

    Args:
        backend: What they act on.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._shown: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """Give every route of the files API, and those that serve files."""
        upload, base = "/api/v1/files/upload", "/api/v1/files"
        table = [
            ("POST", upload + "/stream", self.stream),
            ("POST", upload + "/url", self.from_url),
            ("POST", upload + "/base64", self.from_base64),
            ("GET", base + "/quota", self.quota),
        ]
        if self._backend.choices.files_delete:  # [E9] older pages only
            table += [
                ("GET", base + "/list", self.listing),
                ("DELETE", base + "/{id}", self.delete),
            ]
        return [
            *(Route(path, self._guarded(call), methods=[method]) for method, path, call in table),
            Route("/files/{id}/{name}", self.uploaded, methods=["GET"]),
            Route("/media/{name:path}", self.media, methods=["GET"]),
        ]

    async def stream(self, request: Request) -> Response:
        """POST upload/stream: a multipart file, written to disk as it comes."""
        bounded = _Bounded(request, self._backend.choices.upload_limit + _ROOM)
        try:
            async with Request(request.scope, bounded.receive).form() as form:
                return await self._keep_part(form)
        except HTTPException as error:
            if bounded.is_over:
                raise _TooLarge from error
            return files_error(400, error.detail)

    async def from_url(self, request: Request) -> Response:
        """POST upload/url: read a file from its URL."""
        body = await json_body(request) or {}
        url = body.get("file_url")
        if not isinstance(url, str) or urlsplit(url).scheme not in {"http", "https"}:
            return files_error(400, "file_url must be an http or https URL")
        path = self._backend.new_path()
        try:
            await run_in_threadpool(self._backend.fetcher.fetch, url, path)
        except NotFetched as error:
            return files_error(400, str(error))
        if path.stat().st_size > self._backend.choices.upload_limit:
            raise _TooLarge
        name = PurePosixPath(urlsplit(url).path).name or "file"
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return await self._keep(body, name, kind, read_chunks(path))

    async def from_base64(self, request: Request) -> Response:
        """POST upload/base64: a file in JSON, raw or as a data URL."""
        body = await json_body(request) or {}
        text = body.get("base64_data")
        if not isinstance(text, str) or not text:
            return files_error(400, "base64_data is required")
        head, _, data = text.rpartition(",")
        try:
            content = base64.b64decode(data, validate=True)
        except binascii.Error:
            return files_error(400, "base64_data is not base64")
        if len(content) > self._backend.choices.upload_limit:
            raise _TooLarge
        kind = head.removeprefix("data:").partition(";")[0] or "application/octet-stream"
        return await self._keep(body, "file", kind, [content])

    async def quota(self, _request: Request) -> Response:
        """GET quota: how many files the account may still hold."""
        used, most = len(self._kept()), self._backend.choices.max_files
        data = {"user_group": "default", "used_files": used, "max_files": most}
        data |= {"remain_files": max(most - used, 0), "is_custom": False, "quota_reason": ""}
        return JSONResponse({"success": True, "code": 200, "data": data})  # [E4]

    async def listing(self, request: Request) -> Response:
        """GET list: the files that have not expired, newest first; its fields are [unknown]."""
        page, size = (request.query_params.get(name, "") for name in ("page", "pageSize"))
        count = min(int(size) if size.isdecimal() else 20, _MOST)
        start = (max(int(page) if page.isdecimal() else 1, 1) - 1) * count
        kept = list(reversed(self._kept()))
        rows = [{"file_id": one, **self._shown[one]} for one in kept[start : start + count]]
        data = {"list": rows, "total": len(kept), "page": start // max(count, 1) + 1}
        return JSONResponse({"success": True, "code": 200, "data": data})

    async def delete(self, request: Request) -> Response:
        """DELETE {id}: remove a file at once [E9]."""
        file_id = request.path_params["id"]
        if file_id not in self._kept():
            return files_error(404, "File not found")
        del self._backend.uploads[file_id]
        self._backend.ledger.remove(file_id)
        return JSONResponse({"success": True, "code": 200, "msg": "File deleted"})

    def _kept(self) -> list[str]:
        now = self._backend.clock()
        return [one for one, (_, expires) in self._backend.uploads.items() if expires > now]

    async def uploaded(self, request: Request) -> Response:
        """Serve an uploaded file until it expires."""
        file, expires = self._backend.uploads.get(request.path_params["id"], (None, 0.0))
        if file is None or expires <= self._backend.clock():
            return PlainTextResponse("Not found", 404)
        return serve(request, file)

    async def media(self, request: Request) -> Response:
        """Serve a hosted source."""
        file = self._backend.media.get(request.path_params["name"])
        return serve(request, file) if file else PlainTextResponse("Not found", 404)

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if not self._backend.is_authorized(request):
                return files_error(401, "Invalid or expired token")
            try:
                return await endpoint(request)
            except _TooLarge:
                return files_error(413, "request_too_large")  # [E8]

        return guarded

    async def _keep_part(self, form: FormData) -> Response:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            return files_error(400, "file is required")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        kind = file.content_type or "application/octet-stream"
        chunks = iter(functools.partial(file.file.read, CHUNK), b"")
        return await self._keep(fields, file.filename or "file", kind, chunks)

    async def _keep(
        self, fields: dict[str, Any], name: str, kind: str, chunks: Iterable[bytes]
    ) -> Response:
        # [E3] images only, [E8][E9] video as well: the pages and the vendor's client disagree
        if kind not in _IMAGES and not self._backend.choices.upload_video:
            return files_error(400, f"Unsupported file type: {kind}")
        if len(self._kept()) >= self._backend.choices.max_files:
            return files_error(400, "File quota exceeded")  # its status and text are [unknown]
        file = await run_in_threadpool(self._backend.store, chunks, kind)
        if file.size > self._backend.choices.upload_limit:
            raise _TooLarge
        return JSONResponse(self._receipt(fields, name, file))

    def _receipt(self, fields: dict[str, Any], name: str, file: StoredFile) -> dict[str, Any]:
        shown = str(fields.get("file_name") or fields.get("fileName") or name)
        file_id, expires = uuid.uuid4().hex, file.modified + self._backend.choices.file_seconds
        self._backend.uploads[file_id] = (file, expires)
        url = f"{self._backend.base_url}/files/{file_id}/{quote(shown, safe='')}"
        data = {
            "file_id": file_id,
            "file_name": shown,
            "original_name": name,
            "file_size": file.size,
            "mime_type": file.media_type,
            "upload_path": str(fields.get("upload_path") or fields.get("uploadPath") or ""),
            "file_url": url,
            "download_url": url,
            "upload_time": _iso(file.modified),
            "expires_at": _iso(expires),
        }
        at = datetime.fromtimestamp(file.modified, timezone.utc)
        self._backend.ledger.store(Upload("evolink", file_id, file.size, at))
        self._shown[file_id] = data
        return {"success": True, "code": 200, "msg": "File uploaded", "data": data}  # [E3]


class _Bounded:
    """The body of a request, up to a limit.

    The parser closes its temporary files only for its own exception, so that one is raised.
    """

    def __init__(self, request: Request, limit: int) -> None:
        self._request, self._left = request, limit
        self.is_over = False

    async def receive(self) -> Message:
        """Give the next part of the body."""
        message = await self._request.receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.is_over = True
            raise MultiPartException("request_too_large")
        return message


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat()  # [E3] with an offset
