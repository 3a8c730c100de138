"""What the benchmarks share: servers in processes of their own, fair turns, tables."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
MEBIBYTE = 2**20
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def parse_size(text: str) -> int:
    """Read a number of bytes, such as `64M`."""
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it as 64M or 1G")
    return int(number) * _UNITS[unit]


def show_size(size: int) -> str:
    """Write a number of bytes for people."""
    return f"{size / 2**30:g} GiB" if size >= 2**30 else f"{size / MEBIBYTE:g} MiB"


@contextlib.contextmanager
def running(script: str, *arguments: object) -> Iterator[str]:
    """Run a server that prints its port and ends with its input; gives its origin."""
    command = [sys.executable, "-W", "ignore", str(HERE / script), *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"{script} did not start")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stdin.close()


class Turns(NamedTuple):
    """Seconds of two ways to do the same, taken in turns.

    Args:
        ours: Seconds of each run.
        theirs: Seconds of the run beside it.
    """

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, run by run: both met the same machine."""
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)]


def take_turns(
    runs: int,
    ours: Callable[[], None],
    theirs: Callable[[], None],
    clean: Callable[[], None] = lambda: None,
) -> Turns:
    """Time two ways in turns, after one run of each that only warms up.

    Args:
        runs: How many of each count.
        ours: The one way.
        theirs: The other.
        clean: Removes what a run leaves; not timed.
    """
    ours()
    theirs()
    turns = Turns([], [])
    for number in range(runs):
        # Who goes first changes: what one leaves in the caches serves or burdens the next.
        pair = [(turns.ours, ours), (turns.theirs, theirs)]
        for times, work in pair if number % 2 else pair[::-1]:
            clean()
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
    return turns


def row(what: str, turns: Turns, limit: float) -> list[str]:
    """Make a table's row: medians, the ratio with its spread, that of the least times, the goal."""
    ratios = turns.ratios
    middle = statistics.median(ratios)
    return [
        what,
        f"{statistics.median(turns.ours):.2f} s",
        f"{statistics.median(turns.theirs):.2f} s",
        f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        # What else the machine does only ever adds time.
        f"{min(turns.ours) / min(turns.theirs):.2f}",
        f"≤ {limit:.2f}",
        "met" if middle <= limit else "missed",
    ]


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(cells)} |", flush=True)
