"""Compare the facts of a result with what was ordered; pure."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

from prefect_topaz.models import Expected, Frozen, MediaFacts, Verify

# Frame sizes meant by a name, for a 16:9 source. Oxen does not say which of the sizes sold as 2K
# it delivers; 2048x1080 and 4096x2160 are the cinema (DCI) sizes.
_NAMED = {
    "720p": ((1280, 720),),
    "1080p": ((1920, 1080),),
    "2k": ((2560, 1440), (2048, 1152), (2048, 1080)),
    "4k": ((3840, 2160),),
}
_DCI = {"4k": ((4096, 2160),)}
# Pixels. 4:2:0 video has even sides: one pixel up or down, and one for the rounding of a pixel
# aspect. Padding to macroblocks is cropped by decoders, so it never shows and is no excuse.
_ROUNDING = 2
# Pixels. Where somebody must choose a side freely, it may be a multiple of 16: every encoder has
# to change an odd side, and no vendor documents the sizes for sources that are not 16:9.
_CHOSEN = 15
_SHAPE = 0.02
_OFF_16_9 = 0.01
_RATE = 0.005  # 29.97 is delivered for 30, and 23.976 for 24
_SECONDS = 0.5

_Size = tuple[int, int]
_Finding = tuple[Literal["wrong", "differs", "unknown"], str]


class Verdict(Frozen):
    """How a result compares with its order.

    Attributes:
        mismatches: Why it is not what was ordered, a sentence each.
        warnings: What differs or is unknown and leaves the result useful, a sentence each.
    """

    mismatches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def compare(found: MediaFacts, expected: Expected, *, verify: Verify) -> Verdict:
    """Compare the facts of a result with what was ordered.

    Args:
        found: The result's facts.
        expected: The order.
        verify: `strict` takes missing sound and another frame rate for mismatches, `standard`
            for warnings; `off` compares nothing.
    """
    if verify == "off":
        return Verdict()
    checks = (_compare_size, _compare_duration, _compare_sound, _compare_rate)
    findings = [finding for check in checks for finding in check(found, expected)]
    if expected.source is None:
        findings.append(("unknown", _not_compared(expected)))
    fatal = {"wrong", "differs"} if verify == "strict" else {"wrong"}
    return Verdict(
        mismatches=tuple(text for grade, text in findings if grade in fatal),
        warnings=tuple(text for grade, text in findings if grade not in fatal),
    )


def frame_seconds(rate: Fraction | float | None) -> float:
    """Return how long one frame stays, 0 if that is not known."""
    return float(1 / rate) if rate else 0.0


def _compare_size(found: MediaFacts, expected: Expected) -> Iterator[_Finding]:
    name = expected.resolution or ""
    fits, ordered = _judge_size((found.width, found.height), expected, _NAMED.get(name, ()))
    if not fits:
        yield "wrong", f"frame size is {found.width}x{found.height}, ordered {ordered}"
    if name and name not in _NAMED:
        yield "unknown", f"frame size was not compared: it is not known what {name} means"


def _judge_size(size: _Size, expected: Expected, frames: tuple[_Size, ...]) -> tuple[bool, str]:
    name, source = expected.resolution or "", expected.source
    if source is None:
        return not frames or _has_named_side(size, size, frames), name
    was = source.width, source.height
    if expected.factor:
        frame = was[0] * expected.factor, was[1] * expected.factor
        return _is_scaled(size, frame, was, expected.factor), _text(frame)
    if frames and _off_16_9(was) <= _OFF_16_9:
        # A source a little off 16:9 may be fitted or stretched: it is off by that little.
        slack = _ROUNDING + _off_16_9(was) * frames[0][0]
        fits = any(_is_near(size, frame, (slack, slack)) for frame in frames)
        return fits, " or ".join(map(_text, frames))
    fits = not frames or _has_named_side(size, was, (*frames, *_DCI.get(name, ())))
    return fits and _same_shape(size, was), f"{name or 'a frame'} in the shape of {_text(was)}"


def _text(size: _Size) -> str:
    return f"{size[0]}x{size[1]}"


def _off_16_9(size: _Size) -> float:
    width, height = size
    return abs(width * 9 / (height * 16) - 1) if height else 1.0


def _is_near(size: _Size, frame: _Size, slack: tuple[float, float]) -> bool:
    return all(abs(a - b) <= room for a, b, room in zip(size, frame, slack, strict=True))


def _same_shape(size: _Size, source: _Size) -> bool:
    # Products instead of ratios, so that no size divides by zero.
    ours, theirs = size[0] * source[1], size[1] * source[0]
    return abs(ours - theirs) <= max(_SHAPE * theirs, _ROUNDING * max(source))


def _is_scaled(size: _Size, frame: _Size, source: _Size, factor: int) -> bool:
    # An odd side is made even before it is scaled, or a multiple of 16 after it.
    across, down = (
        max(factor + _ROUNDING, min(_CHOSEN, _SHAPE * side)) if was % 2 else _ROUNDING
        for side, was in zip(frame, source, strict=True)
    )
    return _is_near(size, frame, (across, down))


def _has_named_side(size: _Size, source: _Size, frames: tuple[_Size, ...]) -> bool:
    """Tell whether a result fits into or covers a named frame, standing or lying.

    It must also not be smaller than both the source and the smallest frame of that name.
    """
    named = {side for frame in frames for side in frame}
    floors = zip(sorted(size), sorted(source), sorted(min(frames)), strict=True)
    return any(abs(side - length) <= _CHOSEN for side in size for length in named) and any(
        side >= min(was, least) - _CHOSEN for side, was, least in floors
    )


def _compare_duration(found: MediaFacts, expected: Expected) -> Iterator[_Finding]:
    if expected.source is None:
        return
    ours, theirs = found.duration, expected.source.duration
    if ours is None or theirs is None:
        yield "unknown", "duration was not compared: it is not known of both videos"
        return
    frame = max(frame_seconds(found.fps), frame_seconds(expected.source.fps))
    if not abs(ours - theirs) <= max(_SECONDS, 0.01 * theirs, 2 * frame):
        yield "wrong", f"duration is {ours:.2f} s, the source's is {theirs:.2f} s"


def _compare_sound(found: MediaFacts, expected: Expected) -> Iterator[_Finding]:
    if expected.source and expected.source.has_audio and not found.has_audio:
        yield "differs", "there is no sound, the source has some"


def _compare_rate(found: MediaFacts, expected: Expected) -> Iterator[_Finding]:
    theirs = expected.source.fps if expected.source else None
    wanted, whose = (expected.fps, "ordered") if expected.fps else (theirs, "the source's is")
    if not wanted and expected.source is None:
        return
    if not wanted or found.fps is None:
        yield "unknown", "frame rate was not compared: it is not known"
    elif not abs(found.fps - wanted) <= _RATE * wanted:
        yield "differs", f"frame rate is {found.fps:.5g}, {whose} {wanted:.5g}"


def _not_compared(expected: Expected) -> str:
    what = ["duration", "sound"]
    if not expected.fps:
        what.insert(0, "frame rate")
    what.insert(0, "the frame's shape" if expected.resolution in _NAMED else "frame size")
    return f"the source could not be read, so these were not compared: {', '.join(what)}"
