"""Oxen.ai's dialect: the queue, its listings, and the blocking endpoint.

Facts are from the vendor's page "Topaz Starlight Precise 2.5" (`seed`) and from the pages that
`docs/providers.md` lists: O1 queue, O2 overview, O4 model schema, O6 OpenAPI, O12 other models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from prefect_topaz.errors import InvalidRequest, RejectedParameters, TopazError, UnusableSource
from prefect_topaz.models import Cost, JobStatus, MediaFacts, Order, Phase
from prefect_topaz.providers._base import Candidate, Dialect, reject_reason
from prefect_topaz.providers._oxen_models import DEFAULT_MODEL, OxenOptions
from prefect_topaz.providers._reading import amount, links, number
from prefect_topaz.redaction import SignedUrl, redact
from prefect_topaz.wire import (
    Accepted,
    Call,
    Refused,
    Reply,
    SubmitVerdict,
    Unclear,
    Upload,
    Uploaded,
)

__all__ = ["OxenOptions", "Provider"]

_PHASES: dict[str, Phase] = {
    "queued": "queued",
    "processing": "processing",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
# Dollars per second [seed], of output as Oxen.ai's video models are priced in general [O2]; 2k and
# 4k are billed at the high-resolution rate.
_RATES = {"1080p": Decimal("0.0374"), "2k": Decimal("0.1494"), "4k": Decimal("0.1494")}
_RATES_DATE = "2026-05-12"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = 404
# Every change of a repository is a commit, and a commit has an author [O8].
_AUTHOR = {"name": "prefect-topaz", "email": "prefect-topaz@example.com"}
# The blocking endpoint takes "typically 5-15 minutes" [O4]; its limit is not documented.
_BLOCKING_SECONDS = 3600.0


@dataclass(frozen=True)
class Provider(Dialect):
    """Oxen.ai: Bearer key, JSON, USD. No idempotency key, no callbacks [O1].

    Args:
        staging_repo: The repository that takes copies of sources, as `namespace/name`; empty for
            none.
    """

    staging_repo: str = ""

    name: ClassVar[str] = "oxen"
    home: ClassVar[str] = "https://hub.oxen.ai"
    poll_seconds: ClassVar[float] = 10.0  # [seed]
    can_cancel: ClassVar[bool] = True
    key_for_results: ClassVar[bool] = True  # seen to want it [OX2], documented without [O1]
    # Whether the models can read a private repository is not documented.
    uploads_are_public: ClassVar[bool] = False
    upload_setting: ClassVar[str | None] = "staging_repo, a public repository of yours at Oxen.ai"

    def __post_init__(self) -> None:
        """Check the address and the repository's name."""
        super().__post_init__()
        if self.staging_repo and not _REPOSITORY.fullmatch(self.staging_repo):
            raise InvalidRequest(
                f"staging_repo {self.staging_repo!r} is not a repository: give namespace/name"
            )

    def check(self) -> Call:
        """Ask for the queue: free, and refused without a key [O1]."""
        return Call("GET", f"{self.base_url}/api/ai/queue")

    def submit(self, order: Order, source: SignedUrl, key: str) -> Call:
        """Enqueue, or generate and wait where the order is blocking [O1][seed]."""
        del key  # Oxen documents no idempotency key
        body: dict[str, Any] = {"model": order.model, "input_video": source.reveal()}
        body |= order.options
        if namespace := order.routing.get("target_namespace"):
            body["target_namespace"] = namespace
        if order.blocking:
            body["response_format"] = order.routing.get("response_format", "url")
            return Call(
                "POST",
                f"{self.base_url}/api/ai/videos/generate",
                repeatable=False,
                json=body,
                read_seconds=_BLOCKING_SECONDS,
                spool=True,
            )
        body["num_generations"] = order.generations
        return Call("POST", f"{self.base_url}/api/ai/queue", repeatable=False, json=body)

    def read_submit(self, order: Order, reply: Reply) -> SubmitVerdict:
        """Read the generation ids; a refusal needs a status that proves it."""
        if reply.ok:
            return self._read_blocking(reply) if order.blocking else self._read_enqueued(reply)
        if reject_reason(reply.status):
            return Refused(self.read_error(reply))
        code, message = self.error_of(reply)
        return Unclear(f"oxen answered {reply.status} {code}: {message}")

    def _read_enqueued(self, reply: Reply) -> SubmitVerdict:
        rows = reply.object().get("generations")
        ids = [_text(row, "generation_id") for row in rows] if isinstance(rows, list) else []
        if ids and all(ids):
            return Accepted(tuple(ids))
        # An empty list can come with an error object; no source says that nothing was taken.
        _, message = self.error_of(reply)
        return Unclear(f"oxen answered 200 without generation ids: {message}")

    def _read_blocking(self, reply: Reply) -> SubmitVerdict:
        if reply.spooled or self.inline_result(reply) or b'"b64_json"' in reply.body:
            return Accepted(())
        return Unclear("oxen answered 200 without a video")

    def inline_result(self, reply: Reply) -> SignedUrl | None:
        """Find the link in the shapes that the blocking endpoint was seen to use [seed][OX2]."""
        body = reply.object()
        videos = body.get("videos")
        first = videos[0] if isinstance(videos, list) and videos else body.get("video")
        found = links((_text(first, "url"), _text(body, "video_url")))
        return found[0] if found else None

    def status(self, job_id: str) -> Call:
        """Ask for the queue's row [O1]."""
        return Call("GET", f"{self.base_url}/api/ai/queue/{quote(job_id, safe='')}")

    def read_status(self, job_id: str, reply: Reply) -> JobStatus:
        """Read the flat row of the queue [O1]."""
        row = reply.object()
        if not reply.ok or "status" not in row or "generation_id" not in row:
            raise self.read_error(reply)
        return _job_status(job_id, row)

    def details(self, job_id: str) -> Call:
        """Ask for the history's row, which has the cost [O6]."""
        return Call("GET", f"{self.base_url}/api/ai/generations/{quote(job_id, safe='')}")

    def read_details(self, job_id: str, reply: Reply) -> JobStatus:
        """Read the wrapped row of the history [O6]."""
        row = reply.object().get("generation")
        if not reply.ok or not isinstance(row, dict):
            raise self.read_error(reply)
        return _job_status(job_id, row)

    def cancel(self, job_id: str) -> Call:
        """Delete the row's work: it stays, as cancelled; none on a terminal row [O1]."""
        return Call("DELETE", f"{self.base_url}/api/ai/queue/{quote(job_id, safe='')}")

    def lookup(self, order: Order) -> tuple[Call, ...]:
        """Ask both listings: whether the history has unfinished rows is not documented."""
        query = {"model": order.model}
        if namespace := order.routing.get("target_namespace"):
            query["namespace"] = str(namespace)
        active = f"{self.base_url}/api/ai/queue?{urlencode(query)}"
        history = f"{self.base_url}/api/ai/generations?{urlencode(query | {'page_size': '1000'})}"
        return Call("GET", active), Call("GET", history)

    def read_lookup(
        self, order: Order, source_digest: str, replies: Sequence[Reply]
    ) -> tuple[Candidate, ...]:
        """Take the rows that echo the whole request [O1]."""
        found: dict[str, Candidate] = {}
        for reply in replies:
            rows = reply.object().get("generations")
            if not reply.ok or not isinstance(rows, list):
                raise self.read_error(reply)
            for row in rows:
                job_id = _text(row, "generation_id")
                if job_id and _echoes(row, order, source_digest):
                    created = number(row.get("enqueued_at"))
                    found[job_id] = Candidate(job_id, created, exact=True)
        return tuple(found.values())

    def upload(self, upload: Upload) -> Call | None:
        """Put the file into the repository, as a commit on `main` [O8]."""
        reference = self.reference(upload)
        if reference is None:
            return None
        fields = {"message": f"Stage {upload.folder}", **_AUTHOR}
        sent = replace(upload, part="file", fields=fields)
        return Call("PUT", self._file(reference), upload=sent, read_seconds=600.0)

    def reference(self, upload: Upload) -> str | None:
        """Give the file's place: namespace, repository, branch and path."""
        if not self.staging_repo:
            return None
        return f"{self.staging_repo}/main/prefect-topaz/{upload.folder}/{upload.name}"

    def read_upload(self, upload: Upload, reply: Reply) -> Uploaded:
        """Take the path's own URL, once the commit is confirmed [O7]."""
        if reply.status == _NOT_FOUND:
            raise UnusableSource(
                f"Oxen.ai knows no repository {self.staging_repo} with a branch main: make it,"
                " public, or correct staging_repo"
            )
        reference = self.reference(upload)
        if not reply.ok or reference is None or _text(reply.object(), "status") == "error":
            raise self.read_error(reply)
        return Uploaded(SignedUrl(self._file(reference)), reference)

    def discard(self, reference: str) -> Call:
        """Delete the file from the newest state; the repository's history keeps it [O7]."""
        form = {"message": "Remove a staged copy", **_AUTHOR}
        return Call("DELETE", self._file(reference), form=form, read_seconds=60.0)

    def _file(self, reference: str) -> str:
        namespace, repository, branch, path = reference.split("/", 3)
        repo = f"{quote(namespace, safe='')}/{quote(repository, safe='')}"
        return f"{self.base_url}/api/repos/{repo}/file/{quote(branch, safe='')}/{quote(path)}"

    def estimate(self, order: Order, media: MediaFacts | None) -> Cost:
        """Multiply seconds, rate and generations [seed].

        Frame interpolation is "more expensive" by a number that no page gives [O4], and other
        models' prices are on none: both are unknown rather than guessed.
        """
        rate = _RATES.get(str(order.options.get("resolution")))
        known = order.model == DEFAULT_MODEL and not order.options.get("interpolate_frames")
        if not known or rate is None or media is None or media.duration is None:
            return Cost(basis="no published price applies")
        seconds = Decimal(str(media.duration))
        total = (seconds * rate * order.generations).quantize(Decimal("0.0001"))
        basis = f"{rate} USD per second, docs.oxen.ai of {_RATES_DATE}"
        return Cost(estimate=total, basis=basis)

    def error_of(self, reply: Reply) -> tuple[str, str]:
        """Read both documented shapes, and the bare strings seen in the wild [O2][OX1]."""
        body = reply.object()
        error = body.get("error")
        code = redact(_text(body, "status_message"))
        if isinstance(error, str):
            return code, redact(error)
        for name in ("detail", "message", "title"):
            if text := _text(error, name):
                return redact(_text(error, "type")) or code, redact(text)
        text = _text(body, "error_message") or code
        return code, redact(text) if text else super().error_of(reply)[1]

    def read_error(self, reply: Reply) -> TopazError:
        """Name the next step for a row that the model refused."""
        error = super().read_error(reply)
        if isinstance(error, RejectedParameters):
            error.message += "; check the block's options against the model's schema"
        return error


def _text(value: Any, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _job_status(job_id: str, row: dict[str, Any]) -> JobStatus:
    word = str(row.get("status"))
    message = _text(row, "error_message")
    charged = amount(row.get("cost"))
    return JobStatus(
        job_id=job_id,
        phase=_PHASES.get(word, "unknown"),
        word=word,
        results=links((row.get("result_url"),)),
        error=redact(message) if message else None,
        # Whether a failed or cancelled generation is charged is not documented.
        billed="yes" if word == "succeeded" else "maybe",
        cost=None if charged is None else Cost(charged=charged),
    )


def _echoes(row: dict[str, Any], order: Order, source_digest: str) -> bool:
    """Tell whether a row is exactly this request: parameters are merged into it as sent [O1]."""
    same_source = SignedUrl(_text(row, "input_video")).digest == source_digest
    same_model = _text(row, "model_name") == order.model
    return same_source and same_model and all(row.get(k) == v for k, v in order.options.items())
