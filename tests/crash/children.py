"""Start the processes that die, and kill them when the sandbox has seen what it was asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import Self

_PATIENCE = 120.0  # seconds that one process may take


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        status: Its exit code; the negative number of the signal that killed it.
        effects: What it did, or was about to do when it died.
        result: What it came to; None if it was killed.
    """

    status: int = 0
    effects: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None

    @property
    def killed(self) -> bool:
        """Whether a signal ended it, with no chance to tidy up."""
        return self.status in (-signal.SIGKILL, -signal.SIGXFSZ)


class Children:
    """Runs orders in processes of their own, one at a time; use it in a `with` statement.

    Attributes:
        skips_time: Whether time passes as fast as the processes sleep.
    """

    skips_time = True

    def __enter__(self) -> Self:
        """Load what every process needs."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def run(self, job: dict[str, Any], when: Callable[[], bool] | None = None) -> Ended:
        """Run one order to its end, or to its death.

        Args:
            job: The order.
            when: Tells that the process shall be killed now.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return listen(self._process.stdout, when)


def listen(lines: Iterable[str], when: Callable[[], bool] | None, pid: int | None = None) -> Ended:
    """Follow one process by what it tells, and kill it at its moment.

    Args:
        lines: What it tells.
        when: Tells that it shall be killed now.
        pid: The process, if it does not tell that itself.
    """
    ended, over = Ended(), threading.Event()
    if pid is not None:
        _start_watch(pid, when, over)
    try:
        for line in lines:
            kind, value = json.loads(line)
            if kind == "pid":
                _start_watch(value, when, over)
            elif kind == "effect":
                ended.effects.append(value)
            elif kind == "result":
                ended.result = value
            else:
                ended.status = value
                break
    finally:
        over.set()
    return ended


def _start_watch(pid: int, when: Callable[[], bool] | None, over: threading.Event) -> None:
    threading.Thread(target=_watch, args=(pid, when, over), daemon=True).start()


def _watch(pid: int, when: Callable[[], bool] | None, over: threading.Event) -> None:
    """Kill a process at its moment, and one that hangs."""
    end = time.monotonic() + _PATIENCE
    while not over.wait(0.002 if when else 0.5):
        if (when and when()) or time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return
