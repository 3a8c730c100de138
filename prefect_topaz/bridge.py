"""Two colours, one implementation: sync callers run the async code on a shared loop.

Sync callers in many threads so share one HTTP client. The run context crosses to that loop by
itself; cancellation does not, and is carried over here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, Final, TypeVar

from fsspec.asyn import get_loop

T = TypeVar("T")

_SLICE: Final = 0.5  # seconds; an exception from outside lands between two waits
_CLEAN_UP: Final = 50  # slices that an interrupted coroutine has to write down what it knows


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the shared loop and wait for it, interruptibly.

    Raises:
        RuntimeError: If called on the shared loop itself, which would wait for ever.
    """
    loop = get_loop()
    if _running_loop() is loop:
        work.close()
        raise RuntimeError("a sync call from async code of this package: use the a-prefixed name")
    outcome: Future[T] = Future()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        task = loop.create_task(work)
        tasks.append(task)
        task.add_done_callback(lambda done: _hand_over(done, outcome))

    def cancel() -> None:
        for task in tasks:
            task.cancel()
        if not tasks:  # the interrupt came before the start
            work.close()
            outcome.set_exception(asyncio.CancelledError())

    try:
        loop.call_soon_threadsafe(start)
        return _wait(outcome)
    except BaseException:
        if not outcome.done():
            loop.call_soon_threadsafe(cancel)
            with contextlib.suppress(BaseException):
                _wait(outcome, slices=_CLEAN_UP)
        raise


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _wait(outcome: Future[T], slices: int | None = None) -> T:
    while slices is None or slices > 0:
        try:
            return outcome.result(_SLICE)
        except (NotYet, TimeoutError):
            if outcome.done():  # at the last moment, or this is the coroutine's own time-out
                return outcome.result()
        slices = None if slices is None else slices - 1
    raise TimeoutError


def _hand_over(task: asyncio.Task[T], outcome: Future[T]) -> None:
    if task.cancelled():
        outcome.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())
