"""Whether a call may be sent again (a pure function), and the one place that sends."""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Literal
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from prefect_topaz.errors import ProviderUnavailable
from prefect_topaz.http import exchange
from prefect_topaz.redaction import redact, redact_url
from prefect_topaz.wire import Call, Reply

ATTEMPTS = 4
RETRY_AFTER_CAP = 300.0  # seconds; a server cannot park a run for longer than that
_TELLING = 8  # characters; a shorter key is a test's, and may be a part of any word

Sleep = Callable[[float], Awaitable[None]]
Now = Callable[[], datetime]
Problem = Literal["never_left", "unknown"]


def utc_now() -> datetime:
    """Read the wall clock."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Decision:
    """What to do after one attempt.

    Args:
        action: `answer` hands the reply on, `repeat` sends again, `give_up` says that nothing was
            bought, `unknown` says that nobody knows.
        delay: Seconds before the repeat.
    """

    action: Literal["answer", "repeat", "give_up", "unknown"]
    delay: float = 0.0


def decide(
    *,
    repeatable: bool,
    problem: Problem | None,
    status: int | None,
    retry_after: float | None,
    attempt: int,
    attempts: int,
) -> Decision:
    """Decide what one attempt means: the whole retry policy, and nothing else.

    A call that is not repeatable goes out again in two cases only: it certainly never left, or it
    was certainly refused (429). Everything else is an answer, or an unknown outcome.

    Args:
        repeatable: What the dialect declared.
        problem: Why there is no answer; None if there is one.
        status: The answer's status; None if there is none.
        retry_after: Seconds that the server asked for.
        attempt: How many times the call has been sent, counting from 1.
        attempts: How many times it may be sent.
    """
    last = attempt >= attempts
    again = Decision("repeat", 2.0 ** (attempt - 1) if retry_after is None else retry_after)
    if problem == "unknown" and not repeatable:
        return Decision("unknown")
    if problem is not None:
        return Decision("give_up") if last else again
    refused = status == httpx.codes.TOO_MANY_REQUESTS
    faulty = status == httpx.codes.REQUEST_TIMEOUT or httpx.codes.is_server_error(status or 0)
    if not last and (refused or (faulty and repeatable)):
        return again
    return Decision("answer")


# Raised before a byte of the request can have been written: httpx's own tree is the proof.
_NEVER_LEFT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def problem_of(error: httpx.RequestError) -> Problem:
    """Tell whether a failed request can have reached the server."""
    return "never_left" if isinstance(error, _NEVER_LEFT) else "unknown"


def read_retry_after(value: str | None, now: datetime) -> float | None:
    """Read `Retry-After`, seconds or HTTP date, capped; None if absent or unreadable.

    >>> read_retry_after("2.5", datetime(2026, 1, 1, tzinfo=timezone.utc))
    2.5
    >>> read_retry_after("Thu, 01 Jan 2026 00:00:07 GMT", datetime(2026, 1, 1, tzinfo=timezone.utc))
    7.0
    """
    seconds = math.nan
    try:
        seconds = float(value or "")
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value or "")
        except (ValueError, OverflowError):  # the latter for a year or zone of absurd size
            return None
        # A date without a zone is GMT in HTTP.
        seconds = (moment.replace(tzinfo=moment.tzinfo or timezone.utc) - now).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), RETRY_AFTER_CAP)


class OutcomeLost(Exception):
    """A call that is not repeatable left, and no answer came back.

    Private to the package: the engine looks the job up, and else raises `OutcomeUnknown`.
    """


def origin_of(url: str) -> str:
    """Give a URL's origin: keys are bound to it.

    >>> origin_of("https://Hub.oxen.ai/api/ai/queue?x=1")
    'https://hub.oxen.ai'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def spread() -> float:
    """Give a random factor for delays, so that many jobs do not look at the same moment."""
    return random.uniform(1.0, 1.25)  # noqa: S311  # spreads load, guards nothing


@dataclass(frozen=True)
class Transport:
    """Sends calls: adds the key for its own origins, repeats what may be repeated.

    Args:
        api_key: The provider's key.
        origins: Where the key may go. No redirect is followed, so it goes nowhere else.
        sleep: Waits between repeats.
        now: The wall clock, for `Retry-After` dates.
        jitter: A factor of at least 1 on every delay.
    """

    api_key: SecretStr = field(repr=False)
    origins: frozenset[str]
    sleep: Sleep = asyncio.sleep
    now: Now = utc_now
    jitter: Callable[[], float] = spread

    async def send(
        self,
        call: Call,
        *,
        attempts: int = ATTEMPTS,
        patience: float = math.inf,
        before: Callable[[], None] = lambda: None,
        refuses: Callable[[Reply], bool] = lambda _: True,
    ) -> Reply:
        """Send a call until there is an answer, within the policy of `decide`.

        Args:
            call: What to send.
            attempts: How many times at most.
            patience: Seconds of waiting between attempts, in all; a longer wait that the server
                asks for ends the attempts instead.
            before: Is asked before each attempt, and may raise instead.
            refuses: Whether an answer proves that a call which is not repeatable was not acted
                on; asked of a 429 before it is sent again.

        Raises:
            OutcomeLost: If a call that is not repeatable left without an answer.
            ProviderUnavailable: If there is no answer and certainly nothing was bought.
        """
        where = f"{call.method} {redact_url(call.url)}"
        for attempt in range(1, attempts + 1):
            before()
            reply, error = await self._attempt(call)
            decision = self._decide(call, reply, error, attempt, attempts)
            if reply is not None and not call.repeatable and not refuses(reply):
                return self._without_key(reply)
            patience -= decision.delay
            if decision.action == "repeat" and patience >= 0:
                await self.sleep(decision.delay * self.jitter())
            elif reply is not None:
                return self._without_key(reply)
            elif decision.action == "unknown":
                raise OutcomeLost(f"{where} left, but no answer came: {describe(error)}")
            elif decision.action == "repeat":
                break
        raise ProviderUnavailable(f"{where} failed {attempt} times: {describe(error)}")

    def key_for(self, url: str) -> dict[str, str]:
        """Give the key's header for the provider's own origins, and nothing for any other."""
        if origin_of(url) not in self.origins:
            return {}
        return {"Authorization": f"Bearer {self.api_key.get_secret_value()}"}

    def _without_key(self, reply: Reply) -> Reply:
        """Drop the key from an error that quotes it, as "incorrect API key: ..." does."""
        key = self.api_key.get_secret_value().encode()
        if reply.ok or len(key) < _TELLING or key not in reply.body:
            return reply
        return replace(reply, body=reply.body.replace(key, b"<API key>"))

    async def _attempt(self, call: Call) -> tuple[Reply | None, httpx.RequestError | None]:
        try:
            return await exchange(call, {**call.headers, **self.key_for(call.url)}), None
        except httpx.RequestError as error:
            return None, error

    def _decide(
        self,
        call: Call,
        reply: Reply | None,
        error: httpx.RequestError | None,
        attempt: int,
        attempts: int,
    ) -> Decision:
        asked = reply.headers.get("retry-after") if reply else None
        return decide(
            repeatable=call.repeatable,
            problem=problem_of(error) if error else None,
            status=reply.status if reply else None,
            retry_after=read_retry_after(asked, self.now()),
            attempt=attempt,
            attempts=attempts,
        )


def describe(error: BaseException | None) -> str:
    """Name an error without the URL that its text may hold.

    >>> describe(httpx.ReadTimeout("no answer from https://host/x?sig=1"))
    'ReadTimeout: no answer from https://host/x'
    """
    text = redact(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
