"""Start the processes that die, and kill them when the sandbox has seen what it was asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import Self

_PATIENCE = 60.0  # seconds that one process may take


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
    """Runs orders in processes of their own, one at a time; use it in a `with` statement."""

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
        ended, over = Ended(), threading.Event()
        for line in self._process.stdout:
            kind, value = json.loads(line)
            if kind == "pid":
                threading.Thread(target=_watch, args=(value, when, over), daemon=True).start()
            elif kind == "effect":
                ended.effects.append(value)
            elif kind == "result":
                ended.result = value
            else:
                over.set()
                ended.status = value
                return ended
        raise RuntimeError("the program that starts the processes has ended")


def _watch(pid: int, when: Callable[[], bool] | None, over: threading.Event) -> None:
    """Kill a process at its moment, and one that hangs."""
    end = time.monotonic() + _PATIENCE
    while not over.wait(0.002 if when else 0.5):
        if (when and when()) or time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            return
