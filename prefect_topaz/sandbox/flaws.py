"""Pictures that are wrong on purpose: size, rate and length are right, what they show is not."""

import itertools
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

from prefect_topaz.sandbox.clip import pulled
from prefect_topaz.sandbox.shapes import Flaw

_EARLY = 1  # seconds by which a shifted result runs ahead of its source
_BLACK, _NO_COLOUR = 16, 128


def spoiled(
    pictures: Iterator[VideoFrame], flaw: Flaw | None, rate: Fraction, size: tuple[int, int]
) -> Iterator[VideoFrame]:
    """Give as many pictures at the same times, wrong ones if the flaw is about what they show.

    Args:
        pictures: The right ones, numbered from 0.
        flaw: What shall be wrong.
        rate: Pictures per second.
        size: Width and height in pixels.
    """
    match flaw:
        case "another":
            return _replaced(pictures, _another(rate, size))
        case "black":
            return _replaced(pictures, itertools.repeat(_black(size)))
        case "frozen":
            return _frozen(pictures)
        case "shifted":
            return _shifted(pictures, round(_EARLY * rate))
        case _:
            return pictures


def _replaced(pictures: Iterator[VideoFrame], others: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    for picture, other in zip(pictures, others, strict=False):
        other.pts, other.time_base = picture.pts, picture.time_base
        yield other


def _frozen(pictures: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    first = next(pictures, None)
    if first is not None:
        yield first
        yield from _replaced(pictures, itertools.repeat(first))


def _shifted(pictures: Iterator[VideoFrame], early: int) -> Iterator[VideoFrame]:
    """Leave the beginning out, and let the end stand still for as long instead."""
    shown: VideoFrame | None = None
    times: deque[int | None] = deque()
    for shown in pictures:
        times.append(shown.pts)
        if len(times) > early:
            shown.pts = times.popleft()
            yield shown
    for time in times:
        assert shown is not None
        shown.pts = time
        yield shown


def _another(rate: Fraction, size: tuple[int, int]) -> Iterator[VideoFrame]:
    graph = Graph()
    graph.link_nodes(
        # Small: it is drawn by calculating each pixel.
        graph.add("mandelbrot", f"size=160x90:rate={rate}"),
        graph.add("scale", f"{size[0]}:{size[1]}:flags=bilinear"),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    ).configure()
    return pulled(graph)


def _black(size: tuple[int, int]) -> VideoFrame:
    frame = VideoFrame(*size, "yuv420p")
    for plane, value in zip(frame.planes, (_BLACK, _NO_COLOUR, _NO_COLOUR), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame
