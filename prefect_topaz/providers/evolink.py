"""EvoLink's dialect: one create call, tasks, and the files API.

Facts are from the vendor's page "Topaz Video Upscale" (`seed`) and from the pages that
`docs/providers.md` lists: E1 task, E2 error codes, E3 uploads, E8 EvoLink's own client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, urlencode, urlsplit

from prefect_topaz import errors
from prefect_topaz.models import Cost, JobStatus, MediaFacts, Order, Phase
from prefect_topaz.providers import _evolink_files as files
from prefect_topaz.providers._base import Candidate, Dialect, check_base_url
from prefect_topaz.providers._evolink_options import EvoLinkOptions, check_factor
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

__all__ = ["EvoLinkOptions", "Provider", "check_factor"]

_PHASES: dict[str, Phase] = {
    "pending": "queued",
    "processing": "processing",
    "completed": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",  # not in the task's own page, but in callbacks and clients [E8]
}
# Codes that prove a refusal before any charge: those documented for the create call [seed][E1], and
# those that EvoLink's own client takes as verified [E8]. A bare 400, 404 or 422 proves nothing.
_REFUSALS: dict[str, type[errors.ProviderRefused]] = {
    "invalid_parameter": errors.RejectedParameters,
    "invalid_request": errors.RejectedParameters,
    "missing_required_params": errors.RejectedParameters,
    "missing_video_urls": errors.RejectedParameters,
    "video_probe_failed": errors.RejectedParameters,
    "insufficient_quota": errors.InsufficientCredits,
    "insufficient_user_quota": errors.InsufficientCredits,
    "quota_not_enough": errors.InsufficientCredits,
    "account_balance_insufficient": errors.InsufficientCredits,
    "key_quota_exhausted": errors.InsufficientCredits,
    "insufficient_token_quota": errors.InsufficientCredits,
    "token_daily_quota_exceeded": errors.InsufficientCredits,
    "key_daily_quota_exhausted": errors.InsufficientCredits,
    "unauthorized": errors.Unauthorized,
    "key_disabled": errors.Unauthorized,
    "key_expired": errors.Unauthorized,
    "model_access_denied": errors.AccessDenied,
    "key_model_not_allowed": errors.AccessDenied,
    "user_disabled": errors.AccessDenied,
    "rate_limit_exceeded": errors.RateLimited,
}
_REFUSING_STATUSES = (401, 402, 403, 413, 429)
# A task may exist behind these, whatever status they come with [E8].
_UNCLEAR_CODES = ("idempotency_conflict", "paid_outcome_unknown")


@dataclass(frozen=True)
class Provider(Dialect):
    """EvoLink: Bearer key, JSON, credits. Idempotency key always sent; nothing cancels [E8].

    Args:
        files_url: Origin of the files API; loopback APIs serve their own.
    """

    files_url: str = ""

    name: ClassVar[str] = "evolink"
    home: ClassVar[str] = "https://api.evolink.ai"
    poll_seconds: ClassVar[float] = 8.0  # every read makes the gateway ask upstream [E8]
    replays: ClassVar[bool] = True  # in EvoLink's own client; for plain keys nobody says [E8]
    files_home: ClassVar[str] = "https://files-api.evolink.ai"

    def __post_init__(self) -> None:
        """Check both addresses."""
        super().__post_init__()
        files = self.files_url or (self.base_url if self.is_loopback else self.files_home)
        object.__setattr__(self, "files_url", check_base_url(files))

    @property
    def origins(self) -> frozenset[str]:
        """Both hosts take the same key [E3]."""
        return frozenset({self.base_url, self.files_url})

    def check(self) -> Call:
        """Ask for the models: free, and refused without a key [E7]."""
        return Call("GET", f"{self.base_url}/v1/models")

    def credits(self) -> Call:
        """Ask for the balance of key and account: free [E5]."""
        return Call("GET", f"{self.base_url}/v1/credits")

    def submit(self, order: Order, source: SignedUrl, key: str) -> Call:
        """Create the task, always with the idempotency key [seed][E8]."""
        body: dict[str, Any] = {
            "model": order.model,
            "video_urls": [source.reveal()],
            "model_params": dict(order.options),
        }
        if order.callback_url is not None:
            body["callback_url"] = order.callback_url.reveal()
        return Call(
            "POST",
            f"{self.base_url}/v1/videos/generations",
            repeatable=False,
            json=body,
            headers={"Idempotency-Key": key},
        )

    def read_submit(self, order: Order, reply: Reply) -> SubmitVerdict:
        """Read the task id; refusals need a status or a code that proves them."""
        del order
        body = reply.object()
        job_id = body.get("id")
        if reply.ok and isinstance(job_id, str) and job_id:
            return Accepted(
                (job_id,),
                cost=_cost(body),
                expected_seconds=number(_mapping(body.get("task_info")).get("estimated_time")),
                replayed=reply.headers.get("idempotency-replayed", "").lower() == "true",
            )
        code, message = self.error_of(reply)
        proven = self.kind_of_code(code) or reply.status in _REFUSING_STATUSES
        if proven and not reply.ok and code.lower() not in _UNCLEAR_CODES:
            return Refused(self.read_error(reply))
        return Unclear(f"evolink answered {reply.status} {code}: {message}")

    def status(self, job_id: str) -> Call:
        """Ask for the task [E1]."""
        return Call("GET", f"{self.base_url}/v1/tasks/{quote(job_id, safe='')}")

    def read_status(self, job_id: str, reply: Reply) -> JobStatus:
        """Read the task [E1]."""
        body = reply.object()
        if not reply.ok or "status" not in body:
            raise self.read_error(reply)
        return _job_status(job_id, body)

    def batch(self, job_ids: Sequence[str]) -> Call:
        """Ask for up to 50 tasks at once: a read, though it is a POST [E8]."""
        return Call("POST", f"{self.base_url}/v1/tasks/batch", json={"task_ids": list(job_ids)})

    def read_batch(self, reply: Reply) -> dict[str, JobStatus]:
        """Read the tasks; unknown ids are simply absent [E8]."""
        rows = reply.object().get("data")
        if not reply.ok or not isinstance(rows, list):
            raise self.read_error(reply)
        tasks = (row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str))
        return {row["id"]: _job_status(row["id"], row) for row in tasks}

    def lookup(self, order: Order) -> tuple[Call, ...]:
        """Ask for the account's newest tasks; the client of EvoLink caps a page at 50 [E8]."""
        query = urlencode({"model": order.model, "page": 1, "page_size": 50})
        return (Call("GET", f"{self.base_url}/v1/tasks?{query}"),)

    def read_lookup(
        self, order: Order, source_digest: str, replies: Sequence[Reply]
    ) -> tuple[Candidate, ...]:
        """List what was created: the rows do not show the input, so none proves itself [E8]."""
        del source_digest
        found: list[Candidate] = []
        for reply in replies:
            rows = reply.object().get("data")
            if not reply.ok or not isinstance(rows, list):
                raise self.read_error(reply)
            found += [
                Candidate(row["id"], number(row.get("created_at")), exact=False)
                for row in map(_mapping, rows)
                if isinstance(row.get("id"), str) and row.get("model") == order.model
            ]
        return tuple(found)

    def estimate(self, order: Order, media: MediaFacts | None) -> Cost:
        """Say that no official page gives a price: the reservation at submit is the first figure."""
        del order, media
        return Cost(unit="credits", basis="EvoLink publishes no price for this model")

    def error_of(self, reply: Reply) -> tuple[str, str]:
        """Read the error object; codes may be text or numbers, the files API has its own shape."""
        body = reply.object()
        error = body.get("error")
        if isinstance(error, dict):
            return _said(error.get("code")), _said(error.get("message"))
        if "msg" in body:
            return _said(body.get("code")), _said(body["msg"])
        return super().error_of(reply)

    def kind_of_code(self, code: str) -> type[errors.ProviderRefused] | None:
        """Tell a refusal before any charge by its code."""
        return _REFUSALS.get(code.lower())  # both cases occur [E8]

    def check_source(self, url_or_path: str) -> None:
        """Take `.mp4` only [seed]."""
        super().check_source(url_or_path)
        if not _path(url_or_path).lower().endswith(".mp4"):
            raise errors.UnusableSource(
                f"EvoLink reads .mp4 only, and the source is {redact(url_or_path)!r}:"
                " convert it, or use Oxen.ai"
            )

    def upload(self, upload: Upload) -> Call:
        """Upload a file as a stream; the public link lives 72 hours [E3]."""
        return files.stream(self.files_url, upload)

    def read_upload(self, upload: Upload, reply: Reply) -> Uploaded:
        """Read the public link."""
        del upload
        if (found := files.read_stream(reply)) is None:
            raise self.read_error(reply)
        return found

    def discard(self, reference: str) -> Call:
        """Delete a file as older pages have it; it expires by itself too [E9]."""
        return files.delete(self.files_url, reference)

    def quota(self) -> Call:
        """Ask how many files the account may still hold [E4]."""
        return files.quota(self.files_url)

    def read_quota(self, reply: Reply) -> str | None:
        """Say that the account holds as many files as it may [E4]."""
        return files.read_quota(reply)


def _said(value: Any) -> str:
    return redact(str(value)) if value else ""


def _path(url_or_path: str) -> str:
    if "://" not in url_or_path:
        return url_or_path  # whose name may hold "?" or "#"
    try:
        return urlsplit(url_or_path).path
    except ValueError:  # "https://[bad" looks like a URL and is none
        return ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _cost(body: Mapping[str, Any]) -> Cost | None:
    usage, billing = _mapping(body.get("usage")), _mapping(body.get("billing"))
    reserved = amount(usage.get("credits_reserved", billing.get("reserved_credits")))
    charged = amount(usage.get("credits_used"))
    if charged is None and billing.get("charge_status") in ("charged", "released"):
        charged = amount(billing.get("charged_credits"))
    if reserved is None and charged is None:
        return None
    return Cost(unit="credits", reserved=reserved, charged=charged)


def _links(body: Mapping[str, Any]) -> tuple[SignedUrl, ...]:
    listed = body.get("results")
    if found := links(listed if isinstance(listed, list) else ()):
        return found
    data = body.get("result_data")
    rows = data if isinstance(data, list) else [data]
    return links(_mapping(row).get("video_url") for row in rows)


def _job_status(job_id: str, body: Mapping[str, Any]) -> JobStatus:
    word = str(body.get("status"))
    error = _mapping(body.get("error"))
    charged = _mapping(body.get("billing")).get("charge_status") == "charged"
    billed: errors.Billed = "yes" if charged or word == "completed" else "maybe"
    if word == "failed" and not charged:
        billed = "no"  # reserved credits return by themselves [E7][E8]
    return JobStatus(
        job_id=job_id,
        phase=_PHASES.get(word, "unknown"),
        word=word,
        progress=number(body.get("progress")),
        results=_links(body),
        error=_said(error.get("message")) or None,
        code=_said(error.get("code")) or None,
        billed=billed,
        cost=_cost(body),
    )
