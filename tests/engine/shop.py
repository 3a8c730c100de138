"""A tiny provider in memory that keeps a ledger, and loses, delays and refuses as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from tests.engine.virtual import Process

URL = "http://127.0.0.1:9"
Fate = Literal[
    "answered", "cut", "timeout", "502", "garbage", "502 not taken", "cut not taken", "busy",
    "refused", "unreachable",
]  # fmt: skip
TAKEN: tuple[Fate, ...] = ("answered", "cut", "timeout", "502", "garbage")
HARMLESS: tuple[Fate, ...] = ("busy", "refused", "unreachable")


@dataclass
class Post:
    """One paid request.

    Attributes:
        work: What it is for: the run's `again`.
        fate: What becomes of it.
        sender: Who sent it, and the idempotency key, if there is one.
        told: Whether its sender has the answer.
        job: The job that it bought, if it did, or that was bought with its key.
    """

    work: int
    fate: Fate
    sender: tuple[Process, str | None]
    told: bool = False
    job: Job | None = None

    @property
    def settled(self) -> bool:
        """Whether its sender knows that it costs nothing."""
        unbilled = self.job is not None and self.job.read and self.job.unbilled
        return (self.told and self.fate in HARMLESS) or unbilled


@dataclass
class Job:
    """One purchase."""

    job_id: str
    work: int
    body: dict[str, Any]
    created: float
    fails: bool
    unbilled: bool
    read: bool = False


class Shop:
    """The provider.

    Args:
        provider: Whose API it has.
        now: Its clock, in Unix seconds.
        posts: The fates of the paid requests in order, each with the seconds there and back; then
            all are answered.
        looks: The fates of the other requests alike.
        fails: Which jobs fail, in order.
        resends: Whether a sender may repeat its own order once, with its key, which is heeded.
    """

    def __init__(
        self,
        provider: str,
        now: Callable[[], float],
        posts: Iterator[tuple[Fate, float, float]],
        looks: Iterator[Fate],
        fails: Iterator[bool],
        *,
        resends: bool = False,
    ) -> None:
        self.oxen = provider == "oxen"
        self.now, self.fates, self.looks, self.fails = now, posts, looks, fails
        self.resends = resends
        self.keys: dict[str | None, Job] = {}
        self.posts: list[Post] = []
        self.jobs: dict[str, Job] = {}
        self.wrongs: list[str] = []
        self.works: dict[Process, int] = {}

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer as `httpx.MockTransport` asks; what is on its way arrives without its sender."""
        back: asyncio.Future[httpx.Response] = asyncio.get_running_loop().create_future()
        if request.method == "POST":
            self._leave(request, back)
        else:
            fate = next(self.looks, "answered")
            _later(1.0, back, _said(fate, self._look(request), request))
        return await back

    def _leave(self, request: httpx.Request, back: asyncio.Future[httpx.Response]) -> None:
        fate, there, home = next(self.fates, ("answered", 1.0, 1.0))
        process = Process.current.get()
        assert process is not None
        post = Post(self.works[process], fate, (process, request.headers.get("idempotency-key")))
        open_ones = [one for one in self.posts if one.work == post.work and not one.settled]
        repeats = self.resends and [one.sender for one in open_ones] == [post.sender]
        if open_ones and fate != "unreachable" and not repeats:
            self.wrongs.append(f"sent again after {[one.fate for one in open_ones]}")
        self.posts.append(post)
        loop = asyncio.get_running_loop()
        loop.call_later(there, self._arrive, post, request, back, home)

    def _arrive(
        self, post: Post, request: httpx.Request, back: asyncio.Future[httpx.Response], home: float
    ) -> None:
        key, headers = post.sender[1], {}
        if post.fate in TAKEN and self.resends and key in self.keys:
            post.job, headers = self.keys[key], {"idempotency-replayed": "true"}
            row: dict[str, Any] = {"id": post.job.job_id}
        elif post.fate in TAKEN:
            job_id, fails = f"job-{len(self.jobs) + 1}", next(self.fails, False)
            body = json.loads(request.content)
            unbilled = fails and not self.oxen
            post.job = Job(job_id, post.work, body, self.now(), fails, unbilled)
            self.jobs[job_id] = self.keys[key] = post.job
            row = {"id": job_id} if not self.oxen else {"generations": [{"generation_id": job_id}]}
        else:
            row = {"error": {"code": "no", "message": post.fate}}
        delay = 60.0 if post.fate == "timeout" else home
        _later(delay, back, _said(post.fate, row, request, headers), post)

    def _look(self, request: httpx.Request) -> dict[str, Any]:
        last = request.url.path.rpartition("/")[2]
        if last in self.jobs:
            self.jobs[last].read = True
            return self._row(self.jobs[last])
        rows = [self._row(one) for one in self.jobs.values()]
        return {"generations" if self.oxen else "data": rows}

    def _row(self, job: Job) -> dict[str, Any]:
        ended = self.now() - job.created > 30.0
        good = "succeeded" if self.oxen else "completed"
        word = "processing" if not ended else "failed" if job.fails else good
        links = f"{URL}/result/{job.job_id}" if word == good else None
        if not self.oxen:
            job.read = job.read and ended
            body = {"id": job.job_id, "model": job.body["model"], "created_at": job.created}
            return {**body, "status": word, "results": [links] if links else []}
        row = {**job.body, "model_name": job.body["model"], "enqueued_at": job.created}
        return {**row, "generation_id": job.job_id, "status": word, "result_url": links}


def _said(
    fate: Fate, row: dict[str, Any], request: httpx.Request, headers: dict[str, str] | None = None
) -> httpx.Response | Exception:
    if fate == "unreachable":
        return httpx.ConnectError("no route", request=request)
    if fate == "timeout":
        return httpx.ReadTimeout("no answer", request=request)
    if fate.startswith("cut"):
        return httpx.RemoteProtocolError("closed", request=request)
    if fate == "garbage":
        return httpx.Response(200, content=b"<html>")
    status = {"busy": 429, "refused": 402, "502": 502, "502 not taken": 502}.get(fate, 200)
    return httpx.Response(status, json=row, headers=headers)


def _later(
    delay: float,
    back: asyncio.Future[httpx.Response],
    said: httpx.Response | Exception,
    post: Post | None = None,
) -> None:
    """Tell the sender after a while, if it still listens."""

    def tell() -> None:
        if back.done():
            return
        if post is not None:
            post.told = True
        if isinstance(said, httpx.Response):
            back.set_result(said)
        else:
            back.set_exception(said)

    asyncio.get_running_loop().call_later(delay, tell)
