"""One job: what was asked, what the API tells about it, and what its work came to."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from prefect_topaz.sandbox.disk import StoredFile
from prefect_topaz.sandbox.ledger import Provider
from prefect_topaz.sandbox.shapes import Recipe

Status = Literal["queued", "processing", "succeeded", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = ("queued", "processing", "succeeded", "failed", "cancelled")
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Failure:
    """Why a job failed; only EvoLink tells a code."""

    message: str
    code: str = "service_error"


@dataclass(frozen=True)
class Order:
    """What a worker shall do.

    Attributes:
        url: Where the input is.
        recipe: What to make of it.
        failure: Fail with this instead.
        delay: Seconds to take on top.
        fetched: The input and its SHA-256, if it was read before.
    """

    url: str
    recipe: Recipe = field(default_factory=Recipe)
    failure: Failure | None = None
    delay: float = 0
    fetched: tuple[Path, str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What the work came to: a video of so many seconds, a failure, or a stop."""

    status: Literal["succeeded", "failed", "cancelled"]
    video: StoredFile | None = None
    seconds: float = 0
    failure: Failure | None = None


@dataclass
class Job:
    """One job; only `JobBook` changes it.

    Attributes:
        job_id: The provider's id.
        provider: Whose it is.
        model: The model's name.
        request: The body as received.
        order: What the worker does.
        created: When it was accepted, in Unix seconds.
        price: What is due for so many seconds of output.
        reserved: Credits set aside at create.
        input_seconds: Length of the input, where the provider probed it.
        blocking: Whether it came by the blocking endpoint.
        status: What the API tells.
        progress: Percent.
        frames: Pictures written so far.
        reads: Status reads so far.
        stopped: Whether a cancel stopped the work.
        forgotten: Where the API denies it.
        outcome: What the work came to, told or not.
        cost: What was charged.
    """

    job_id: str
    provider: Provider
    model: str
    request: dict[str, Any]
    order: Order
    created: float
    price: Callable[[float], Decimal]
    reserved: Decimal = Decimal(0)
    input_seconds: float = 0
    blocking: bool = False
    status: Status = "queued"
    started: float | None = None
    completed: float | None = None
    progress: int = 0
    frames: int = 0
    reads: int = 0
    stopped: bool = False
    forgotten: Literal["no", "queue", "everywhere"] = "no"
    outcome: Outcome | None = None
    cost: Decimal | None = None
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    finished: "Future[None]" = field(default_factory=Future, repr=False)

    @property
    def is_terminal(self) -> bool:
        """Whether the API tells an end."""
        return self.status in TERMINAL
