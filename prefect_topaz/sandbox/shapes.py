"""What a video is, and what size an order makes of it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.container import InputContainer

Flaw = Literal["size", "duration", "silent", "fps", "another", "black", "frozen", "shifted"]

# A 16:9 source gets exactly these; the vendors document the names only, 2k is [unknown].
_SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "2k": (2560, 1440), "4k": (3840, 2160)}
_WIDE = Fraction(16, 9)


class NotReadable(ValueError):
    """The input is not a video that can be read."""


@dataclass(frozen=True)
class Recipe:
    """What to make of a source: one of `factor` and `resolution`, or neither to keep the size."""

    factor: int | None = None
    resolution: str | None = None
    fps: float | None = None
    flaw: Flaw | None = None


@dataclass(frozen=True)
class Shape:
    """What a video is, as displayed: pixels, seconds, exact frame rate."""

    width: int
    height: int
    seconds: float
    rate: Fraction
    has_audio: bool


def shape_of(path: Path) -> Shape:
    """Read frame size, length and rate of a video.

    Args:
        path: A local video file.

    Raises:
        NotReadable: If there is no video in it, or its length is unknown.
    """
    try:
        with av.open(str(path)) as source:
            return _shape(source)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise NotReadable(f"not a readable video: {error}") from error


def target_size(shape: Shape, recipe: Recipe) -> tuple[int, int]:
    """Give the frame size (even width, even height) that a recipe makes of a source.

    Args:
        shape: The source.
        recipe: What was ordered.
    """
    width, height = shape.width, shape.height
    if recipe.factor is not None:
        size = (_even(width * recipe.factor), _even(height * recipe.factor))
    elif recipe.resolution is not None:
        size = _named_size(width, height, recipe.resolution)
    else:
        size = (_even(width), _even(height))
    if recipe.flaw == "size":
        return _even(size[0] / 2), _even(size[1] / 2)
    return size


def _shape(source: InputContainer) -> Shape:
    video = source.streams.video[0]
    first = next(source.decode(video), None)
    if first is None:
        raise ValueError("no picture in it")
    width, height = video.codec_context.width, video.codec_context.height
    width = _even(width * video.sample_aspect_ratio) if video.sample_aspect_ratio else width
    if abs(first.rotation) in {90, 270}:
        width, height = height, width
    if source.duration is None:
        raise ValueError("its length is unknown")
    rate = video.average_rate or video.base_rate or Fraction(25)
    return Shape(width, height, source.duration / av.time_base, rate, bool(source.streams.audio))


def _named_size(width: int, height: int, resolution: str) -> tuple[int, int]:
    aspect = Fraction(width, height)
    named = _SIZES[resolution]
    # One hundredth covers 854x480 and the like, which are meant as 16:9.
    if abs(aspect / _WIDE - 1) < Fraction(1, 100):
        return named
    if abs(aspect * _WIDE - 1) < Fraction(1, 100):
        return named[1], named[0]
    if aspect >= 1:
        return _even(named[1] * aspect), named[1]
    return named[1], _even(named[1] / aspect)


def _even(side: float | Fraction) -> int:
    return max(2 * round(side / 2), 2)
