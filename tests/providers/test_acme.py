"""A provider that exists only here: the proof that a new one is one file and one test file."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import pytest

from prefect_topaz import errors
from prefect_topaz.models import Cost, Frozen, JobStatus, MediaFacts, Order, Phase
from prefect_topaz.providers import Candidate, Dialect
from prefect_topaz.providers._base import reject_reason
from prefect_topaz.providers._reading import links, number
from prefect_topaz.redaction import SignedUrl, redact
from prefect_topaz.sandbox.shapes import Recipe
from prefect_topaz.sandbox.upscale import upscale
from prefect_topaz.wire import Accepted, Call, Refused, Reply, SubmitVerdict, Unclear
from tests.engine.bench import Clock
from tests.providers.contract import ProviderContract
from tests.providers.live import Shop
from tests.providers.samples import Samples

# The provider's file.

_PHASES: dict[str, Phase] = {
    "waiting": "queued",
    "brushing": "processing",
    "done": "succeeded",
    "broken": "failed",
    "stopped": "cancelled",
}


class AcmeOptions(Frozen):
    """What a user orders from Acme."""

    scale: int = 2

    def order(self) -> Order:
        if self.scale not in (2, 3):
            raise errors.InvalidRequest(f"scale {self.scale!r} is not allowed; allowed: 2, 3")
        options = {"scale": self.scale}
        return Order(provider="acme", model="brush", options=options, label="x2", factor=self.scale)


@dataclass(frozen=True)
class Provider(Dialect):
    """Acme: a wire of its own words."""

    name: ClassVar[str] = "acme"
    home: ClassVar[str] = "https://acme.example"
    poll_seconds: ClassVar[float] = 5.0
    can_cancel: ClassVar[bool] = True

    def check(self) -> Call:
        return Call("GET", f"{self.base_url}/me")

    def submit(self, order: Order, source: SignedUrl, key: str) -> Call:
        body = {"film": source.reveal(), **order.options, "note": key}
        return Call("POST", f"{self.base_url}/films", repeatable=False, json=body)

    def read_submit(self, order: Order, reply: Reply) -> SubmitVerdict:
        ref = reply.object().get("ref")
        if reply.ok and isinstance(ref, str) and ref:
            return Accepted((ref,), expected_seconds=number(reply.object().get("eta")))
        if reject_reason(reply.status):
            return Refused(self.read_error(reply))
        return Unclear(f"acme answered {reply.status}: {self.error_of(reply)[1]}")

    def status(self, job_id: str) -> Call:
        return Call("GET", f"{self.base_url}/films/{quote(job_id, safe='')}")

    def read_status(self, job_id: str, reply: Reply) -> JobStatus:
        film = reply.object()
        if not reply.ok or "mood" not in film:
            raise self.read_error(reply)
        phase = _PHASES.get(str(film["mood"]), "unknown")
        return JobStatus(
            job_id=job_id,
            phase=phase,
            word=str(film["mood"]),
            results=links((film.get("reel"),)),
            billed="yes" if phase == "succeeded" else "maybe",
        )

    def cancel(self, job_id: str) -> Call:
        return Call("POST", f"{self.base_url}/films/{quote(job_id, safe='')}/stop")

    def lookup(self, order: Order) -> tuple[Call, ...]:
        return (Call("GET", f"{self.base_url}/films?{urlencode(order.options)}"),)

    def read_lookup(
        self, order: Order, source_digest: str, replies: Sequence[Reply]
    ) -> tuple[Candidate, ...]:
        films = replies[0].object().get("films")
        if not replies[0].ok or not isinstance(films, list):
            raise self.read_error(replies[0])
        known = (film for film in films if isinstance(film, dict))
        return tuple(
            Candidate(film["ref"], number(film.get("at")), exact=True)
            for film in known
            if isinstance(film.get("ref"), str)
            and SignedUrl(str(film.get("film"))).digest == source_digest
        )

    def estimate(self, order: Order, media: MediaFacts | None) -> Cost:
        if media is None or media.duration is None:
            return Cost(basis="the length is not known")
        return Cost(estimate=Decimal(str(media.duration)) / 100, basis="acme.example of 2026")

    def error_of(self, reply: Reply) -> tuple[str, str]:
        oops = reply.object().get("oops")
        return ("", redact(oops)) if isinstance(oops, str) else super().error_of(reply)


# Its server, and its test file.


class Films(ThreadingHTTPServer):
    """Acme's server: it takes films, and brushes one between two questions."""

    daemon_threads = True

    def __init__(self, clip: Path, brushed: Path, clock: Clock) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/clip.mp4": clip.read_bytes(), "/brushed.mp4": brushed.read_bytes()}
        self.films: dict[str, dict[str, Any]] = {}
        self.clock, self.cuts = clock, 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def take(self, order: dict[str, Any]) -> dict[str, Any]:
        ref = f"film-{len(self.films) + 1:08d}"
        self.films[ref] = {**order, "ref": ref, "at": self.clock.unix(), "mood": "waiting"}
        return {"ref": ref, "eta": 1}

    def show(self, film: dict[str, Any]) -> dict[str, Any]:
        shown = dict(film)
        if film["mood"] == "waiting":
            film |= {"mood": "done", "reel": f"{self.url}/brushed.mp4"}
        return shown


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Films

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        if path in self.server.files:
            self.answer(200, self.server.files[path], "video/mp4")
        elif self.headers["Authorization"] != "Bearer acme-key":
            self.say(401, {"oops": "who are you?"})
        elif path == "/me":
            self.say(200, {"name": "you"})
        elif path == "/films":
            self.say(200, {"films": list(self.server.films.values())})
        elif (film := self.server.films.get(path.rpartition("/")[2])) is not None:
            self.say(200, self.server.show(film))
        else:
            self.say(404, {"oops": "no such film"})

    do_HEAD = do_GET  # noqa: N815  # the base class's form

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers["Authorization"] != "Bearer acme-key":
            self.say(401, {"oops": "who are you?"})
        elif self.path == "/films":
            taken = self.server.take(json.loads(body))
            if self.server.cuts:
                self.server.cuts -= 1
                return  # an HTTP/1.0 server closes without a word
            self.say(201, taken)
        else:
            self.server.films[self.path.split("/")[2]]["mood"] = "stopped"
            self.say(200, {})

    def say(self, status: int, body: dict[str, Any]) -> None:
        self.answer(status, json.dumps(body).encode(), "application/json")

    def answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def film(mood: str) -> dict[str, Any]:
    reel = {"reel": "https://acme.example/r.mp4?sig=1"} if mood == "done" else {}
    return {"ref": "film-00000001", "mood": mood, **reel}


class TestAcme(ProviderContract):
    samples = Samples(
        dialect=Provider,
        options=AcmeOptions,
        orders=({"scale": 2}, {"scale": 3}),
        refused=(({"scale": 5}, ("scale 5", "2, 3")),),
        job_ids=("film-00000001",),
        accepted={"ref": "film-00000001", "eta": 1},
        words=_PHASES,
        status=film,
        faults=(
            (401, {"oops": "who are you?"}, errors.Unauthorized),
            (404, {"oops": "no such film"}, errors.NotFound),
            (500, {"oops": "the brush broke"}, errors.ProviderUnavailable),
        ),
        proving=frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429}),
    )

    @pytest.fixture
    def server(self, clip: Path, tmp_path: Path) -> Iterator[Films]:
        brushed, twice = tmp_path / "brushed.mp4", Recipe(factor=2)
        upscale(clip, brushed, twice, on_progress=lambda *_: None, stopped=lambda: False)
        with Films(clip, brushed, Clock()) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield server
            server.shutdown()
            thread.join()

    @pytest.fixture
    def shop(self, server: Films) -> Shop:
        def lose() -> None:
            server.cuts += 1

        source = f"{server.url}/clip.mp4"
        return Shop(server.url, "acme-key", source, server.clock, lambda: [*server.films], lose)
