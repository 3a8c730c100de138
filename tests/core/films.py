"""Videos drawn and treated by libav's filters, for tests that look at what a video shows."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph

RATE = 24
Step = tuple[str, str]

UP: Step = ("scale", "iw*2:ih*2:flags=lanczos")
STILL: tuple[Step, ...] = (("loop", "loop=-1:size=1"), ("setpts", f"N/{RATE}/TB"))
PATTERN: Step = ("testsrc2", "size=160x90:rate=24")
ZOOM: Step = ("mandelbrot", "size=160x90:rate=24:start_scale=0.5:end_scale=0.01:end_pts=200")


def draw(path: Path, *chain: Step, seconds: float = 4, **how) -> Path:
    """Write what a chain of filters, beginning with a generator, draws; `how` as of `write`."""
    graph = Graph()
    steps = [*chain, ("trim", f"duration={seconds}"), ("format", "yuv420p")]
    graph.link_nodes(*(graph.add(*step) for step in steps), graph.add("buffersink")).configure()
    return write(path, _pulled(graph), **how)


def treat(source: Path, path: Path, *chain: Step, seconds: float = 4, **how) -> Path:
    """Write a video after a chain of filters; `how` as of `write`."""
    return write(path, _treated(source, chain, seconds), **how)


def write(
    path: Path,
    frames: Iterable[av.VideoFrame],
    *,
    rate: int | Fraction = RATE,
    keys: int = 250,
    start: float = 0,
    sound: bool = False,
    codec: str = "libx264",
) -> Path:
    """Write frames, one after the other.

    Args:
        path: Where to; its ending names the container.
        frames: What to show.
        rate: Frames per second.
        keys: Frames from one key frame to the next.
        start: Seconds before the first frame.
        sound: Whether there is silence from the very start.
        codec: The encoder.
    """
    options = {"preset": "ultrafast", "crf": "20"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options=options)
        video.pix_fmt, video.gop_size = "yuv420p", keys
        silence = container.add_stream("aac", rate=48_000, layout="mono") if sound else None
        for number, frame in enumerate(frames):
            if not number:
                video.width, video.height = frame.width, frame.height
            frame.pts, frame.time_base = number + round(start * rate), 1 / Fraction(rate)
            frame.pict_type = 0
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if silence is not None:
            note = av.AudioFrame("fltp", "mono", 1024)
            note.sample_rate, note.pts = 48_000, 0
            note.planes[0].update(bytes(note.planes[0].buffer_size))
            container.mux(silence.encode(note))
            container.mux(silence.encode())
    return path


def _treated(source: Path, chain: Iterable[Step], seconds: float) -> Iterator[av.VideoFrame]:
    graph = Graph()
    with av.open(str(source)) as container:
        video = container.streams.video[0]
        steps = [*chain, ("trim", f"duration={seconds}"), ("format", "yuv420p")]
        nodes = [graph.add_buffer(template=video), *(graph.add(*step) for step in steps)]
        graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        with suppress(av.EOFError):  # the graph has all that it wants
            for frame in container.decode(video):
                graph.push(frame)
                yield from _pulled(graph)
            graph.push(None)
        yield from _pulled(graph)


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    with suppress(av.EOFError, av.BlockingIOError):
        while True:
            yield graph.vpull()
