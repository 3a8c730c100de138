"""What a frame looks like from afar, and how alike two of them are; numbers only.

A frame is made 48x27 pixels of grey, whatever its shape, so that detail, grain and sharpening, in
which an upscaled video shall differ, are gone. What is left of the pattern is compared by its
normalised cross-correlation, which is the structure term of SSIM over the whole frame: other
brightness, contrast and colours make no difference to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import mul

from av.video.frame import VideoFrame

WIDTH, HEIGHT = 48, 27
_BLOCK = 3  # pixels; what is wider than a block is shading, which many pictures share
_QUARTER = 90


@dataclass(frozen=True)
class Look:
    """What one frame looks like.

    Args:
        time: Seconds from the start of its video.
        level: Mean grey, 0 to 255.
        contrast: Grey levels by which its pattern deviates (root mean square).
        pattern: The pattern, row by row, as a vector of length 1.
    """

    time: float
    level: float
    contrast: float
    pattern: Sequence[float] = field(repr=False)


def look(frame: VideoFrame, time: float) -> Look:
    """Make a frame small and take its pattern.

    Args:
        frame: A decoded frame.
        time: Seconds from the start of its video.
    """
    turns = frame.rotation // _QUARTER % 4
    width, height = (HEIGHT, WIDTH) if turns % 2 else (WIDTH, HEIGHT)
    small = frame.reformat(width=width, height=height, format="gray", interpolation="AREA")
    plane = small.planes[0]
    grey = bytes(plane)
    starts = range(0, height * plane.line_size, plane.line_size)
    rows = _turned([list(grey[start : start + width]) for start in starts], turns)
    return look_of(rows, time)


def look_of(rows: Sequence[Sequence[float]], time: float) -> Look:
    """Take the pattern of 27 rows of 48 greys."""
    level = sum(map(sum, rows)) / (WIDTH * HEIGHT)
    # The means of rows and columns go too: else the bars of two letterboxed films look alike.
    flat = _without_means(_without_means(_without_blocks(rows)), across=True)
    values = [value for row in flat for value in row]
    length = math.sqrt(sum(map(mul, values, values)))
    return Look(
        time=time,
        level=level,
        contrast=length / math.sqrt(len(values)),
        pattern=[value / length for value in values] if length else values,
    )


def likeness(one: Look, other: Look) -> float:
    """Correlate two patterns: 1 is the same, 0 is nothing in common (or nothing to be seen)."""
    return math.fsum(map(mul, one.pattern, other.pattern))


def _turned(rows: list[list[int]], turns: int) -> list[list[int]]:
    """Turn counter-clockwise by quarters."""
    for _ in range(turns):
        rows = [list(column) for column in zip(*rows, strict=True)][::-1]
    return rows


def _without_blocks(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    flat: list[list[float]] = []
    for top in range(0, HEIGHT, _BLOCK):
        band = rows[top : top + _BLOCK]
        sums = [sum(column) for column in zip(*band, strict=True)]
        means = [sum(sums[left : left + _BLOCK]) / _BLOCK**2 for left in range(0, WIDTH, _BLOCK)]
        flat += [[value - means[at // _BLOCK] for at, value in enumerate(row)] for row in band]
    return flat


def _without_means(rows: Iterable[Sequence[float]], *, across: bool = False) -> list[list[float]]:
    lines = list(zip(*rows, strict=True)) if across else list(rows)
    flat = [[value - sum(line) / len(line) for value in line] for line in lines]
    return [list(line) for line in zip(*flat, strict=True)] if across else flat
