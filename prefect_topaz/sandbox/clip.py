"""Make short test clips: a moving test pattern and a tone, H.264 and AAC in MP4."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame

SAMPLE_RATE = 44_100


def make_clip(
    path: str | Path,
    *,
    seconds: float = 2.0,
    size: tuple[int, int] = (320, 180),
    fps: float = 24,
    audio: bool = True,
) -> Path:
    """Write a clip with motion and, if asked, sound, and return its path.

    Args:
        path: Where to write; an existing file is replaced.
        seconds: Length of the clip.
        size: Width and height in pixels; H.264 in 4:2:0 needs even numbers.
        fps: Frames per second; 23.976 and the like become exact NTSC fractions.
        audio: Whether the clip has a tone.

    Raises:
        ValueError: If a side is odd or not positive, or the clip would have no frame.
    """
    if any(side <= 0 or side % 2 for side in size):
        raise ValueError(f"size must be two positive even numbers, got {size[0]}x{size[1]}")
    if fps <= 0 or seconds * fps < 1:
        raise ValueError(f"{seconds} s at {fps} frames per second is less than one frame")
    path = Path(path)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as clip:
        _write(clip, seconds, size, frame_rate(fps), audio=audio)
    return path


def frame_rate(fps: float) -> Fraction:
    """Give the exact rate for a decimal one: 23.976 is 24000/1001.

    Args:
        fps: Frames per second.
    """
    ntsc = Fraction(round(fps) * 1000, 1001)
    # 23.976 is written for 23.97602...; half a thousandth tells it from 24 and from 23.98.
    if fps != round(fps) and abs(float(ntsc) - fps) < 0.005:  # noqa: PLR2004 - see above
        return ntsc
    return Fraction(fps).limit_denominator(1001)


def _write(
    clip: OutputContainer, seconds: float, size: tuple[int, int], rate: Fraction, *, audio: bool
) -> None:
    video = clip.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "20"})
    video.width, video.height = size
    video.pix_fmt = "yuv420p"
    sound = clip.add_stream("aac", rate=SAMPLE_RATE) if audio else None
    for picture in _pictures(seconds, size, rate):
        clip.mux(video.encode(picture))
    clip.mux(video.encode(None))
    if sound is None:
        return
    for tone in _tones(seconds):
        clip.mux(sound.encode(tone))
    clip.mux(sound.encode(None))


def pulled(graph: Graph) -> Iterator[Any]:
    """Give every frame that a filter graph has ready.

    Args:
        graph: A configured graph with one sink.
    """
    with suppress(av.EOFError, av.BlockingIOError):
        while True:
            yield graph.pull()


def _pictures(seconds: float, size: tuple[int, int], rate: Fraction) -> Iterator[VideoFrame]:
    graph = Graph()
    options = f"size={size[0]}x{size[1]}:rate={rate}:duration={seconds}"
    graph.link_nodes(
        graph.add("testsrc2", options),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ).configure()
    return pulled(graph)


def _tones(seconds: float) -> Iterator[AudioFrame]:
    graph = Graph()
    graph.link_nodes(
        graph.add("sine", f"frequency=440:sample_rate={SAMPLE_RATE}:duration={seconds}"),
        graph.add("aformat", "sample_fmts=fltp:channel_layouts=stereo"),
        graph.add("abuffersink"),
    ).configure()
    return pulled(graph)
