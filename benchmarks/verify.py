"""Measure what verification costs beside the rest of storing a result.

A clip in the size of a result and its smaller source are encoded once and kept in the temporary
folder; a few seconds are repeated up to the length asked for. The result is fetched from a local
server, verified and published to a local folder, as the engine does. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
from av.filter import Graph
from common import MEBIBYTE, running, show_table

from prefect_topaz.delivery import publish
from prefect_topaz.download import Fetched, fetch
from prefect_topaz.media import check_complete, compare_frames, join, probe
from prefect_topaz.models import Place
from prefect_topaz.places import open_folder
from prefect_topaz.redaction import SignedUrl

RATE = 30
T = TypeVar("T")


def clip(size: str, megabits: float, options: argparse.Namespace) -> Path:
    """Encode a clip with grain and a key frame every few seconds, or find it encoded."""
    name = f"topaz-bench-{size}-{megabits:g}-{options.seconds}-{options.keys}.mp4"
    path = Path(tempfile.gettempdir()) / name
    if not path.exists():
        part = path.with_suffix(".part.mp4")
        with av.open(str(part), "w") as target:
            stream = target.add_stream("libx264", rate=RATE)
            stream.width, stream.height = map(int, size.split("x"))
            stream.pix_fmt, stream.bit_rate = "yuv420p", int(megabits * 1e6)
            stream.options = {"preset": "ultrafast", "g": "9999", "sc_threshold": "0"}
            packets = [
                packet
                for frame in (*_frames(size, min(options.keys, options.seconds)), None)
                for packet in stream.encode(frame)
            ]
            _repeat(target, packets, options.seconds * RATE)
        part.rename(path)
    return path


def _frames(size: str, seconds: int) -> Iterator[av.VideoFrame]:
    graph = Graph()
    steps = [
        ("testsrc2", f"size={size}:rate={RATE}:duration={seconds}"),
        ("noise", "alls=12:allf=t"),
        ("format", "yuv420p"),
    ]
    graph.link_nodes(*(graph.add(*step) for step in steps), graph.add("buffersink")).configure()
    for _ in range(seconds * RATE):
        yield graph.vpull()


def _repeat(target: av.container.OutputContainer, packets: list[av.Packet], frames: int) -> None:
    """Write the packets again and again, each time later; they are in the order of display."""
    for number in range(frames):
        packet = packets[number % len(packets)]
        packet.time_base = Fraction(1, RATE)
        packet.pts = packet.dts = number
        packet.duration = 1
        target.mux(packet)


class Clock:
    """Seconds of each step, of several rounds."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def time(self, step: str, work: Callable[[], T]) -> T:
        """Do something, and take its time."""
        started = time.perf_counter()
        done = work()
        self.seconds.setdefault(step, []).append(time.perf_counter() - started)
        return done


async def _fetched(url: str, file: Path) -> Fetched:
    async def refresh() -> SignedUrl:
        raise RuntimeError("the local server's links do not expire")

    return await fetch(
        SignedUrl(url), file, refresh=refresh, headers_for=lambda _: {}, sleep=asyncio.sleep
    )


def store(clock: Clock, url: str, source: Path, folder: Path) -> None:
    """Do once what the engine does with a result."""
    file = folder / "result.mp4"
    clock.time("download and sha256", lambda: asyncio.run(_fetched(f"{url}/result.mp4", file)))
    facts = clock.time("read its facts", lambda: probe(file))
    missing = clock.time("complete to its end", lambda: check_complete(file))
    known = probe(source)
    compared = clock.time(
        "compare its frames",
        lambda: compare_frames(source, file, facts, known, verify="standard"),
    )
    rows = compared.rows
    if missing or compared.verdict.mismatches or not rows:
        raise RuntimeError(f"the clip is not what it should be: {missing} {compared.verdict}")
    clock.time("draw the preview", lambda: join(rows))
    place = open_folder(Place(url=f"{folder}/out/"))
    clock.time("publish", lambda: publish(file, place, "result.mp4"))


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60, help="of the clip (default 60)")
    parser.add_argument("--size", default="3840x2160", help="of the result (default 3840x2160)")
    parser.add_argument("--source", default="1920x1080", help="its source's (default 1920x1080)")
    parser.add_argument("--megabits", type=float, default=45, help="a second (default 45)")
    parser.add_argument("--keys", type=int, default=4, help="seconds between (default 4)")
    parser.add_argument("--rate", default="12M", help="bytes a second and connection, of eight")
    parser.add_argument("--runs", type=int, default=3, help="rounds (default 3)")
    options = parser.parse_args(arguments)
    result = clip(options.size, options.megabits, options)
    source = clip(options.source, options.megabits / 4, options)
    clock = Clock()
    with running("server.py", result, "--rate", options.rate) as url:
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                store(clock, url, source, Path(folder))
    report(clock, options, result)
    return 0


def report(clock: Clock, options: argparse.Namespace, result: Path) -> None:
    """Print the medians, and each step's share of the whole."""
    middle = {step: statistics.median(times) for step, times in clock.seconds.items()}
    whole = sum(middle.values())
    rest = {"download and sha256", "publish"}
    middle["verification in all"] = sum(
        seconds for step, seconds in middle.items() if step not in rest
    )
    size = result.stat().st_size / MEBIBYTE
    print(f"{options.seconds} s of {options.size}, {size:.0f} MiB, {options.rate}B/s x 8\n")
    rows = [[step, f"{took:.2f} s", f"{took / whole:.0%}"] for step, took in middle.items()]
    show_table(("step", "median", "share of storing"), rows)


if __name__ == "__main__":
    sys.exit(main())
