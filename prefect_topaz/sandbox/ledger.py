"""What was asked for, what was bought, and what it cost: the facts that tests assert on."""

import dataclasses
import threading
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

Provider = Literal["oxen", "evolink"]


@dataclass(frozen=True)
class Purchase:
    """One job that a provider accepted, and so may bill.

    Attributes:
        provider: Who accepted it.
        job_id: The generation id (Oxen) or task id (EvoLink).
        request: The JSON body as received.
        cost: What was charged: dollars at Oxen, credits at EvoLink; None until it is charged.
        charged: Whether it was charged.
        idempotency_key: The `Idempotency-Key` that came with it.
        at: When it was accepted, in UTC.
    """

    provider: Provider
    job_id: str
    request: dict[str, Any]
    cost: Decimal | None
    charged: bool
    idempotency_key: str | None
    at: datetime


@dataclass(frozen=True)
class Upload:
    """One file that a provider's own store took in.

    Attributes:
        provider: Whose store it is.
        reference: EvoLink's file id, or Oxen's namespace/repository/branch/path.
        size: Bytes.
        at: When it came, in UTC.
        deleted: Whether the client took it away again.
    """

    provider: Provider
    reference: str
    size: int
    at: datetime
    deleted: bool = False


class RecordedRequest(NamedTuple):
    """One request as it arrived; the value of its `Authorization` header is not kept."""

    method: str
    path: str
    headers: dict[str, str]
    had_authorization: bool
    host: str


class Ledger:
    """Purchases, accepted submits, uploads and requests; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._purchases: dict[str, Purchase] = {}
        self._uploads: dict[str, Upload] = {}
        self._requests: list[RecordedRequest] = []
        self._submits = 0

    @property
    def purchases(self) -> list[Purchase]:
        """Every accepted job, oldest first; four generations of one submit are four."""
        with self._lock:
            return list(self._purchases.values())

    @property
    def uploads(self) -> list[Upload]:
        """Every file that was taken in, oldest first, deleted ones too."""
        with self._lock:
            return list(self._uploads.values())

    @property
    def submits(self) -> int:
        """How many submits were accepted; an idempotent replay is not one."""
        with self._lock:
            return self._submits

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request from outside, oldest first; the sandbox's own fetches are left out."""
        with self._lock:
            return list(self._requests)

    def record(self, request: RecordedRequest) -> None:
        """Note a request.

        Args:
            request: What arrived.
        """
        with self._lock:
            self._requests.append(request)

    def accept(self, purchases: list[Purchase]) -> None:
        """Note one accepted submit.

        Args:
            purchases: The jobs that came of it.
        """
        with self._lock:
            self._submits += 1
            self._purchases.update({one.job_id: one for one in purchases})

    def store(self, upload: Upload) -> None:
        """Note a file that was taken in.

        Args:
            upload: The file; one of the same reference is replaced.
        """
        with self._lock:
            self._uploads[upload.reference] = upload

    def remove(self, reference: str) -> None:
        """Note that a file was deleted.

        Args:
            reference: A file that was taken in.
        """
        with self._lock:
            before = self._uploads[reference]
            self._uploads[reference] = dataclasses.replace(before, deleted=True)

    def charge(self, job_id: str, cost: Decimal) -> None:
        """Note what a job cost.

        Args:
            job_id: An accepted job.
            cost: Dollars at Oxen, credits at EvoLink.
        """
        with self._lock:
            before = self._purchases[job_id]
            self._purchases[job_id] = dataclasses.replace(before, cost=cost, charged=True)


class Account:
    """EvoLink's credits: reserved at create, charged or released at the end.

    Args:
        limit: What there is to spend, None for no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self._lock = threading.Lock()
        self.limit = None if limit is None else Decimal(str(limit))
        self.reserved = Decimal(0)
        self.used = Decimal(0)

    def reserve(self, amount: Decimal) -> bool:
        """Set an amount aside, and say whether there was enough.

        Args:
            amount: Credits.
        """
        with self._lock:
            if self.limit is not None and self.used + self.reserved + amount > self.limit:
                return False
            self.reserved += amount
            return True

    def settle(self, reserved: Decimal, charged: Decimal) -> None:
        """Release what was reserved, and charge what is due of it.

        Args:
            reserved: Credits set aside before.
            charged: Credits to take, 0 for a failed task.
        """
        with self._lock:
            self.reserved -= reserved
            self.used += charged

    def remaining(self) -> Decimal:
        """Give the credits that can still be reserved; an unlimited account shows a million."""
        with self._lock:
            limit = Decimal(1_000_000) if self.limit is None else self.limit
            return limit - self.used - self.reserved
