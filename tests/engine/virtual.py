"""A machine room for tests: one event loop whose time is virtual, and processes that can die.

Nothing of asyncio is replaced but the clock: what would wait, jumps. Work for threads is done in
the loop itself after a pause that is drawn, so one seed gives one interleaving.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any

_PAUSES = (0.0, 0.01, 3.0)  # seconds that a store takes to do what it is told
_OFTEN = (70, 26, 4)
_MANY = 200_000  # steps after which somebody goes round in circles


class _Jumping(selectors.DefaultSelector):
    """Let the time pass at once instead of waiting for it."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everybody waits for something that will never come")
        self.passed += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual.

    Args:
        seed: Decides how long each access to a store takes.
    """

    def __init__(self, seed: int) -> None:
        self._jumping = _Jumping()
        self._random = random.Random(seed)
        super().__init__(self._jumping)
        self.set_task_factory(_in_its_process)

    def time(self) -> float:
        return self._jumping.passed

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Do the work after a pause; as a thread, it ends although nobody waits for it."""
        future = self.create_future()
        pause = self._random.choices(_PAUSES, _OFTEN)[0]
        self.call_later(pause, _do, future, func, args)
        return future


def _do(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result, problem = func(*args), None
    except Exception as error:  # noqa: BLE001  # it is handed on to who waits
        result, problem = None, error
    if future.done():
        return
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)


class Process:
    """Whatever runs in one process: its tasks live and die together.

    Args:
        life: Steps after which it is killed, between two of its awaits; None for never.
        cancel_at: Steps after which its main task is cancelled; None for never.
        nap: Steps after which it is frozen, and seconds for which it is; None for never.
    """

    current: ContextVar[Process | None] = ContextVar("process", default=None)

    def __init__(
        self,
        life: int | None = None,
        cancel_at: int | None = None,
        nap: tuple[int, float] | None = None,
    ) -> None:
        self.life, self.cancel_at, self.nap, self.steps = life, cancel_at, nap, 0
        self.dead, self.frozen_until = False, 0.0
        self.main: asyncio.Task[Any] | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run the main task of the process."""
        token = Process.current.set(self)
        self.main = asyncio.get_running_loop().create_task(work)
        self.main.add_done_callback(lambda _: self._end())
        Process.current.reset(token)

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def step(self) -> asyncio.Future[None] | None:
        """Count a step; give what holds it up, if the process is dead or frozen."""
        loop = asyncio.get_running_loop()
        self.steps += 1
        assert self.steps < _MANY, "a run goes round in circles"
        if self.nap is not None and self.steps == self.nap[0]:
            self.frozen_until = loop.time() + self.nap[1]
        if self.life is not None and self.steps > self.life and not self.dead:
            self.dead = True
            self._end()
        if self.steps == self.cancel_at and self.main is not None:
            loop.call_soon(self.main.cancel)
        return _hold(None if self.dead else self.frozen_until)

    async def bury(self) -> None:
        """Let the frozen tasks end, so that none is left when the loop is closed."""
        self.life, self.cancel_at, self.dead, self.frozen_until = None, None, False, 0.0
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class _Mortal(Coroutine[Any, Any, Any]):
    """A coroutine that goes on only while its process does: of a dead one not even its `finally`."""

    def __init__(self, work: Coroutine[Any, Any, Any], process: Process) -> None:
        self._work, self._process = work, process
        self._value: Any = None
        self._problem: tuple[Any, ...] | None = None

    def send(self, value: Any) -> Any:
        self._value = value if value is not None else self._value
        return self._process.step() or self._go_on()

    def throw(self, *problem: Any) -> Any:
        self._problem = problem
        return self._process.step() or self._go_on()

    def _go_on(self) -> Any:
        value, problem = self._value, self._problem
        self._value = self._problem = None
        return self._work.send(value) if problem is None else self._work.throw(*problem)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()


def _hold(until: float | None) -> asyncio.Future[None] | None:
    """Make what a task waits for until a time, or for ever; None if that time has come."""
    loop = asyncio.get_running_loop()
    if until is not None and until <= loop.time():
        return None
    future: asyncio.Future[None] = loop.create_future()
    if until is not None:
        loop.call_at(until, lambda: future.done() or future.set_result(None))
    future._asyncio_future_blocking = True  # type: ignore[attr-defined]  # as its own await does
    return future


def _in_its_process(
    loop: asyncio.AbstractEventLoop, work: Any, **options: Any
) -> asyncio.Task[Any]:
    process = Process.current.get()
    if process is None:
        return asyncio.Task(work, loop=loop, **options)
    task = asyncio.Task(_Mortal(work, process), loop=loop, **options)
    process.tasks.append(task)
    return task
