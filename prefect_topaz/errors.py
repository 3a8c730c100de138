"""Every way an upscale can end badly, and what each means for the money.

`billed` says whether the remote job was, may have been, or was not paid for:

    TopazError                      no
    ├── InvalidRequest              no     refused here, before any request (also a ValueError)
    │   ├── UnusableSource          no
    │   ├── UnusableDestination     no
    │   └── CostRefused             no
    ├── ProviderRefused             no     the provider said no before it charged
    │   ├── Unauthorized            no
    │   ├── AccessDenied            no
    │   ├── InsufficientCredits     no
    │   ├── RejectedParameters      no
    │   ├── NotFound                no
    │   └── RateLimited             no
    ├── ProviderUnavailable         no     it did not answer, and nothing was bought
    ├── JournalUnavailable          no     the journal's place cannot be read or written
    ├── OutcomeUnknown              maybe  the paid POST left, its answer did not arrive
    ├── JobFailed                   maybe  the provider ended the job without a result
    ├── JobCancelled                maybe  the remote job was cancelled
    ├── JobLost                     maybe  the provider no longer knows the job
    └── Bought                      yes    a paid job that has not been delivered yet
        ├── StillRunning            yes
        ├── AccessLost              yes
        ├── ResultUnavailable       yes
        ├── ResultMismatch          yes
        └── DeliveryFailed          yes
"""

from __future__ import annotations

from typing import Literal

Billed = Literal["no", "maybe", "yes"]


class TopazError(Exception):
    """The base of all errors of this package.

    Args:
        message: What happened, to which job, and the next step.
        job_id: The provider's id of the remote job, where one is known.
        work_key: The journal's name of the work, where one is known.
        billed: What this case means for the money, where it is better known than by the class.
    """

    billed: Billed = "no"

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        work_key: str | None = None,
        billed: Billed | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.job_id = job_id
        self.work_key = work_key
        # The server's own word, as it came; only errors made from an answer have one.
        self.retry_after: str | None = None
        if billed is not None:
            self.billed = billed

    def __str__(self) -> str:
        """Give the message with what it means for the money."""
        return f"{self.message} [billed: {self.billed}]"

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: Prefect persists exceptions with failed states."""
        return type(self), (self.message,), dict(self.__dict__)


class InvalidRequest(TopazError, ValueError):
    """The order is wrong and was refused here: nothing was sent."""


class UnusableSource(InvalidRequest):
    """The source cannot be read, is not a video, or cannot reach the provider."""


class UnusableDestination(InvalidRequest):
    """The destination is taken by another file or cannot be written."""


class CostRefused(InvalidRequest):
    """The estimated cost is above the cap, or unknown while a cap is set."""


class ProviderRefused(TopazError):
    """The provider refused the request before it charged for it."""


class Unauthorized(ProviderRefused):
    """The API key is wrong, expired or disabled (HTTP 401)."""


class AccessDenied(ProviderRefused):
    """The key has no access to this model or this call (HTTP 403)."""


class InsufficientCredits(ProviderRefused):
    """The account or the key has not enough credits (HTTP 402)."""


class RejectedParameters(ProviderRefused):
    """The provider refused the parameters or could not read the input (HTTP 400, 413, 422)."""


class NotFound(ProviderRefused):
    """The provider does not know the model or the id (HTTP 404)."""


class RateLimited(ProviderRefused):
    """The provider asked to slow down, and still did after the repeats (HTTP 429)."""


class ProviderUnavailable(TopazError):
    """No usable answer, and certainly nothing was bought: the call may simply be made again."""


class JournalUnavailable(TopazError):
    """The journal cannot be read or written: nothing is bought without it."""


class OutcomeUnknown(TopazError):
    """The paid request left and its outcome is not known: it is never sent again by itself."""

    billed = "maybe"


class JobFailed(TopazError):
    """The provider ended the job without a result."""

    billed: Billed = "maybe"


class JobCancelled(TopazError):
    """The remote job was cancelled."""

    billed = "maybe"


class JobLost(TopazError):
    """The provider no longer knows a job that it accepted."""

    billed = "maybe"


class Bought(TopazError):
    """A job that is paid for and not delivered yet: run again to go on, which buys nothing."""

    billed = "yes"


class StillRunning(Bought):
    """The deadline passed while the remote job was running: it was not cancelled."""


class AccessLost(Bought):
    """The provider refused the key while the job was awaited: the job is kept."""


class ResultUnavailable(Bought):
    """The result cannot be downloaded, neither by its link nor by a fresh one."""


class ResultMismatch(Bought):
    """The result is not what was ordered: it is kept aside, not published, not bought again."""


class DeliveryFailed(Bought):
    """The result could not be written to the destination."""
