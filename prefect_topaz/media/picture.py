"""Show a video before and after in one picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

from prefect_topaz.media.reading import File, NotAVideo, opened, probe

_GAP = 4  # white pixels between the halves of a preview
_PREVIEW_WIDTH = 1600
_PREVIEW_BYTES = 100_000
# Degrees counter-clockwise, as PyAV tells them.
_TURNS = {
    90: (("transpose", "cclock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "clock"),),
}


def preview(
    before: str | Path | BinaryIO | None,
    after: str | Path | BinaryIO,
    *,
    at: float | None = None,
    height: int = 360,
) -> bytes:
    """Make one JPEG below 100 kB: before and after side by side, at the same moment.

    Args:
        before: The source; None leaves its half out.
        after: The result.
        at: Seconds from the start; None takes the middle of the result.
        height: Pixels of both halves; less where the picture would be wider than 1600.

    Raises:
        NotAVideo: One of them holds no video, or no picture of it can be decoded.
        OSError: One of them cannot be read at all.
    """
    moment = (probe(after).duration or 0) / 2 if at is None else max(at, 0)
    pictures = [_picture(file, moment) for file in (before, after) if file is not None]
    shapes = sum(picture.width / picture.height for picture in pictures)
    height = min(height, int((_PREVIEW_WIDTH - _GAP) / shapes))
    while True:
        joined = _side_by_side(pictures, _even(height))
        for quality in (3, 6, 10, 16, 24, 31):
            jpeg = _jpeg(joined, quality)
            if len(jpeg) < _PREVIEW_BYTES:
                return jpeg
        height //= 2


@dataclass(frozen=True)
class _Picture:
    """One frame, and its size in pixels as displayed."""

    frame: VideoFrame
    width: int
    height: int


def _picture(file: File, moment: float) -> _Picture:
    facts = probe(file)
    # Seeking goes by decoding times and may land behind the moment; then start further back.
    for lead in (0, 10, None):
        try:
            frame = _shown_at(file, moment, lead)
        except av.FFmpegError:
            continue
        if frame is not None:
            return _Picture(frame, facts.width, facts.height)
    raise NotAVideo("no picture of it can be decoded")


def _shown_at(file: File, moment: float, lead: float | None) -> VideoFrame | None:
    """Return the frame on display at a moment, after the end the last one; None if missed.

    Args:
        file: The video.
        moment: Seconds from the start.
        lead: Seconds before the moment where decoding starts; None decodes from the start.
    """
    with opened(file) as (container, video):
        video.thread_type = "AUTO"
        base, first = video.time_base or Fraction(1), video.start_time or 0
        if lead is not None:
            container.seek(first + round((moment - lead) / base), stream=video)
        shown = None
        for frame in container.decode(video):
            if (frame.pts or 0) > first + round(moment / base):
                return frame if shown is None and lead is None else shown
            shown = frame
        return shown


def _even(length: float) -> int:
    return max(2, int(length) // 2 * 2)


def _side_by_side(pictures: list[_Picture], height: int) -> VideoFrame:
    graph = Graph()
    join = sink = graph.add("buffersink")
    if len(pictures) > 1:
        join = graph.add("hstack", f"inputs={len(pictures)}")
        join.link_to(sink)
    sources = []
    for index, picture in enumerate(pictures):
        is_last = index == len(pictures) - 1
        half = _half(graph, picture, height, gap=0 if is_last else _GAP)
        half[-1].link_to(join, 0, index)
        sources.append(half[0])
    graph.configure()
    for source, picture in zip(sources, pictures, strict=True):
        picture.frame.pts = 0  # the halves are joined by time
        source.push(picture.frame)
        source.push(None)
    return graph.vpull()


def _half(graph: Graph, picture: _Picture, height: int, *, gap: int) -> list[FilterContext]:
    frame = picture.frame
    width = _even(min(height * picture.width / picture.height, _PREVIEW_WIDTH))
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    steps = [
        *_TURNS.get(frame.rotation % 360, ()),
        ("scale", f"{width}:{height}:flags=area"),
        ("setsar", "1"),
        ("format", "yuvj420p"),
        ("pad", f"iw+{gap}:ih:color=white"),
    ]
    chain = [source, *(graph.add(name, options) for name, options in steps)]
    graph.link_nodes(*chain)
    return chain


def _jpeg(frame: VideoFrame, quality: int) -> bytes:
    """Encode a frame; quality is 2 (best) to 31."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuvj420p"
    codec.time_base = Fraction(1, 25)
    codec.options = {"qmin": str(quality), "qmax": str(quality)}
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode()))
