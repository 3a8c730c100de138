"""What a provider has to say, as pure functions on values."""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from prefect_topaz import errors
from prefect_topaz.models import Cost, JobStatus, MediaFacts, Order
from prefect_topaz.redaction import SignedUrl, redact
from prefect_topaz.wire import Call, Reply, SubmitVerdict, Upload, Uploaded

# Statuses by which a server says that it did not act on a request. 408, 409 and 425 are not here:
# a proxy may send them for a request that the origin took.
_REFUSED: dict[int, type[errors.ProviderRefused]] = {
    400: errors.RejectedParameters,
    401: errors.Unauthorized,
    402: errors.InsufficientCredits,
    403: errors.AccessDenied,
    404: errors.NotFound,
    405: errors.RejectedParameters,
    413: errors.RejectedParameters,
    415: errors.RejectedParameters,
    422: errors.RejectedParameters,
    429: errors.RateLimited,
}
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Candidate:
    """A job found in the provider's listing that may be a lost one.

    Args:
        job_id: The provider's id.
        created_at: When the provider took it, in Unix seconds; None if it does not say.
        exact: Whether it echoes the whole request, so that it proves itself.
    """

    job_id: str
    created_at: float | None
    exact: bool


@dataclass(frozen=True)
class Dialect(ABC):
    """One provider's way to say things: calls out of orders, verdicts out of replies. No I/O.

    Args:
        base_url: The API's origin. Plain http is for loopback only, where a sandbox listens.
    """

    base_url: str = ""

    name: ClassVar[str]
    home: ClassVar[str]
    poll_seconds: ClassVar[float]
    can_cancel: ClassVar[bool] = False
    # Whether a request with a known idempotency key is answered with the job of the first one.
    replays: ClassVar[bool] = False
    # Whether anybody can read what was uploaded; if not for certain, that is tried before an order.
    uploads_are_public: ClassVar[bool] = True
    # What a user may set so that the provider's own store takes files, for an error's text.
    upload_setting: ClassVar[str | None] = None
    # Whether links to results on the API's own origin may want the key; other hosts never get it.
    key_for_results: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse an address to which a key must not go."""
        object.__setattr__(self, "base_url", check_base_url(self.base_url or self.home))

    @property
    def origins(self) -> frozenset[str]:
        """The origins to which the key may go."""
        return frozenset({self.base_url})

    @property
    def is_loopback(self) -> bool:
        """Whether this talks to a server on this machine, such as the sandbox."""
        return is_loopback_host(urlsplit(self.base_url).hostname or "")

    @property
    def realm(self) -> str:
        """Tell servers apart in the work key: a sandbox's result is not a bought one."""
        if self.is_loopback:
            return "loopback"
        return "" if self.base_url == self.home else self.base_url

    @abstractmethod
    def check(self) -> Call:
        """Ask something free that needs the key."""

    def credits(self) -> Call | None:
        """Ask for the balance, free of charge; None where the provider has no such call."""
        return None

    @abstractmethod
    def submit(self, order: Order, source: SignedUrl, key: str) -> Call:
        """Buy: the only call that is not repeatable."""

    @abstractmethod
    def read_submit(self, order: Order, reply: Reply) -> SubmitVerdict:
        """Tell whether the order was taken."""

    @abstractmethod
    def status(self, job_id: str) -> Call:
        """Ask how a job is."""

    @abstractmethod
    def read_status(self, job_id: str, reply: Reply) -> JobStatus:
        """Read how a job is, or raise what `read_error` says."""

    @abstractmethod
    def lookup(self, order: Order) -> tuple[Call, ...]:
        """Ask for the listings in which a job whose answer was lost would appear."""

    @abstractmethod
    def read_lookup(
        self, order: Order, source_digest: str, replies: Sequence[Reply]
    ) -> tuple[Candidate, ...]:
        """Read the jobs that may be the lost one out of the listings."""

    @abstractmethod
    def estimate(self, order: Order, media: MediaFacts | None) -> Cost:
        """Price an order by the published table; `estimate` is None where no price is known."""

    def error_of(self, reply: Reply) -> tuple[str, str]:
        """Read the error code and message out of either body shape."""
        return "", redact(reply.body[:300].decode("utf-8", "replace"))

    def read_error(self, reply: Reply) -> errors.TopazError:
        """Make an answer that is not a success into a typed error; free calls only."""
        code, message = self.error_of(reply)
        text = f"{self.name} answered {reply.status} {code}: {message}".replace(" :", ":")
        kind = self.kind_of_code(code) or _REFUSED.get(reply.status)
        error = (kind or errors.ProviderUnavailable)(text)
        error.retry_after = reply.headers.get("retry-after")
        return error

    def kind_of_code(self, code: str) -> type[errors.ProviderRefused] | None:
        """Tell what a documented error code means, whatever status it came with."""
        del code
        return None

    def cancel(self, job_id: str) -> Call | None:
        """Ask to cancel a job; None where the provider has no such call."""
        del job_id
        return None

    def details(self, job_id: str) -> Call | None:
        """Ask the history about a job, for what it cost or when the queue forgot it."""
        del job_id
        return None

    def read_details(self, job_id: str, reply: Reply) -> JobStatus:
        """Read the history's answer."""
        return self.read_status(job_id, reply)

    def batch(self, job_ids: Sequence[str]) -> Call | None:
        """Ask how many jobs are in one call; None where the provider has no such call."""
        del job_ids
        return None

    def read_batch(self, reply: Reply) -> dict[str, JobStatus]:
        """Read the batch's answer; jobs that the provider does not know are absent."""
        del reply
        return {}

    def inline_result(self, reply: Reply) -> SignedUrl | None:
        """Give the link in the answer to a blocking submit; None: it is in `b64_json`."""
        del reply
        return None

    def check_source(self, url_or_path: str) -> None:
        """Refuse a source that the provider cannot read, by its name."""
        if not url_or_path.strip():
            raise errors.UnusableSource(
                "the source is empty: give an http(s) URL or the path of a video file"
            )

    def upload(self, upload: Upload) -> Call | None:
        """Upload a file to the provider's own store, free of charge; None where it has none.

        Raises:
            UnusableSource: If the store does not take such a file.
        """
        del upload
        return None

    def reference(self, upload: Upload) -> str | None:
        """Say by what the store will delete an upload; None where the store says that itself."""
        del upload
        return None

    def read_upload(self, upload: Upload, reply: Reply) -> Uploaded:
        """Read where an uploaded file is, or raise."""
        del upload
        raise self.read_error(reply)

    def discard(self, reference: str) -> Call | None:
        """Delete an uploaded file; None where files go by themselves."""
        del reference
        return None

    def quota(self) -> Call | None:
        """Ask whether the store has room; None where nobody can tell before."""
        return None

    def read_quota(self, reply: Reply) -> str | None:
        """Say why the store takes no more files; None if it does, or does not say."""
        del reply
        return None


def reject_reason(status: int) -> type[errors.ProviderRefused] | None:
    """Tell which refusal a status proves; None where it proves none.

    >>> reject_reason(402).__name__, reject_reason(502)
    ('InsufficientCredits', None)
    """
    return _REFUSED.get(status)


def is_loopback_host(host: str) -> bool:
    """Tell whether a host name is this machine's loopback.

    >>> is_loopback_host("127.0.0.1"), is_loopback_host("localhost"), is_loopback_host("oxen.ai")
    (True, True, False)
    """
    if host.lower() in ("localhost", "localhost.") or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(url: str) -> str:
    """Normalise an API address to its origin, refusing one that would expose the key."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:  # broken brackets, or a port that is no number
        parts, host, port = urlsplit(""), "", None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(host))
    if not host or not secure or parts.query or parts.path.strip("/") or "@" in parts.netloc:
        raise errors.InvalidRequest(
            f"base URL {redact(url)!r} is not usable: give an https origin such as"
            " https://api.example.com, or http on loopback for the sandbox"
        )
    netloc = parts.netloc.lower()
    if port in (None, _DEFAULT_PORTS[parts.scheme]):
        # One server must have one name: the work key and the key's origins go by it.
        netloc = netloc.removesuffix(f":{port}").removesuffix(":")
    return f"{parts.scheme}://{netloc}"
