"""Sync callers get what the async code gives, and their interrupts reach it."""

import asyncio
import concurrent.futures
import contextvars
import ctypes
import os
import signal
import threading
import time

import pytest
from fsspec.asyn import get_loop

from prefect_topaz import bridge
from prefect_topaz.bridge import run_blocking
from prefect_topaz.errors import StillRunning


class Stop(BaseException):
    """What a task runner raises in a thread that shall end."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look twenty times as often for an interrupt."""
    monkeypatch.setattr(bridge, "_SLICE", 0.025)


async def give(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


def test_a_result_is_handed_on():
    assert run_blocking(give(7)) == 7


def test_a_result_that_takes_many_slices_is_handed_on():
    async def late():
        await asyncio.sleep(0.1)
        return 7

    assert run_blocking(late()) == 7


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        StillRunning("it runs", job_id="1"),
        TimeoutError("the coroutine's own"),
        asyncio.TimeoutError(),
        concurrent.futures.TimeoutError(),
    ],
)
def test_an_error_is_handed_on_as_it_is(error):
    with pytest.raises(type(error)) as caught:
        run_blocking(fail(error))
    assert caught.value is error


def test_a_cancelled_coroutine_ends_the_wait():
    async def cancelled():
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        run_blocking(cancelled())


def test_many_threads_share_one_loop():
    async def where():
        return id(asyncio.get_running_loop())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        loops = set(pool.map(lambda _: run_blocking(where()), range(40)))
    assert loops == {id(get_loop())}


def test_the_callers_context_crosses():
    """Prefect's run context is such a variable: logs find their run by it."""
    variable = contextvars.ContextVar("variable")
    variable.set("mine")

    async def read():
        before = variable.get()
        variable.set("theirs")
        return before

    assert run_blocking(read()) == "mine"
    assert variable.get() == "mine"


def test_a_call_from_the_shared_loop_is_refused_and_not_waited_for():
    async def outer():
        run_blocking(give(1))

    with pytest.raises(RuntimeError, match="use the a-prefixed name"):
        run_blocking(outer())


async def test_a_call_from_another_loop_works():
    assert run_blocking(give(7)) == 7


class Work:
    """A coroutine that waits for ever, and writes down what it knows when it is cancelled."""

    def __init__(self, cleanup=0.0):
        self.started, self.events, self.cleanup = threading.Event(), [], cleanup

    async def run(self):
        self.started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(self.cleanup)
            self.events.append("written down")
            raise


def interrupted(work, kind, *, at_once=False):
    """Run work in a thread, raise `kind` in it from outside, and give what came out."""
    caught, running = [], threading.Event()

    def target():
        running.set()
        try:
            run_blocking(work.run())
        except BaseException as error:  # noqa: BLE001  # what is raised is looked at
            caught.append(type(error))

    thread = threading.Thread(target=target)
    thread.start()
    assert (running if at_once else work.started).wait(5)
    if at_once:
        time.sleep(0.1)  # into the wait
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind))
    thread.join(10)
    assert not thread.is_alive()
    return caught


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Stop, SystemExit])
def test_an_interrupt_cancels_the_work_and_waits_for_its_cleanup(kind):
    work = Work(cleanup=0.1)
    assert interrupted(work, kind) == [kind]
    assert work.events == ["written down"]


def test_an_interrupt_before_the_first_step_means_that_the_work_never_runs():
    """The POST of a cancelled run must not go out behind its back."""
    busy, work = threading.Event(), Work()
    get_loop().call_soon_threadsafe(busy.wait, 5)
    threading.Timer(0.4, busy.set).start()
    assert interrupted(work, Stop, at_once=True) == [Stop]
    assert not work.started.is_set()


def test_an_interrupt_while_the_work_is_handed_over_does_not_wait_for_it(monkeypatch):
    loop = get_loop()

    class Interrupting:
        """The shared loop, with an interrupt in the middle of the first hand-over."""

        def __init__(self):
            self.first = True

        def call_soon_threadsafe(self, *callback):
            if self.first:
                self.first = False
                raise Stop
            loop.call_soon_threadsafe(*callback)

    interrupting = Interrupting()
    monkeypatch.setattr(bridge, "get_loop", lambda: interrupting)
    monkeypatch.setattr(bridge, "_CLEAN_UP", 400)
    work = Work()
    started = time.monotonic()
    with pytest.raises(Stop):
        run_blocking(work.run())
    assert time.monotonic() - started < 5
    assert not work.started.is_set()


@pytest.fixture
def ctrl_c():
    """Let Ctrl-C interrupt; the processes of pytest-xdist ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_the_work_and_waits_for_its_cleanup():
    work = Work(cleanup=0.1)

    def press():
        work.started.wait(5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        run_blocking(work.run())
    assert work.events == ["written down"]


def test_cleanup_that_does_not_end_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(bridge, "_CLEAN_UP", 3)
    work = Work(cleanup=8)
    started = time.monotonic()
    assert interrupted(work, Stop) == [Stop]
    assert time.monotonic() - started < 6
    assert work.events == []


def test_an_interrupt_wins_over_what_the_work_says_to_it():
    class Stubborn(Work):
        async def run(self):
            try:
                await super().run()
            except asyncio.CancelledError:
                raise ValueError("not now") from None

    assert interrupted(Stubborn(), Stop) == [Stop]


def test_work_that_is_done_at_the_last_moment_of_a_wait_is_not_lost():
    """The wait runs out, and the result arrives before that is noticed: it is the result."""

    class Late(concurrent.futures.Future):
        def result(self, timeout=None):
            if timeout is not None and not self.done():
                self.set_result("bought")
                raise concurrent.futures.TimeoutError
            return super().result(timeout)

    assert bridge._wait(Late()) == "bought"
