"""Tiny videos made with PyAV, so that no test needs a file that it did not make."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av

Paint = Callable[[int, int, int, int], bytes]
"""From a frame's number, the number of frames, width and height to its greys, row by row."""

# What a `tkhd` box holds for a turn by so many degrees counter-clockwise: a, b, c and d of the
# matrix that takes a stored point to a shown one.
_TURNS = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}
_SOUND_RATE = 48_000
_SOUND_FRAME = 1024


def moving(index: int, count: int, width: int, height: int) -> bytes:
    """Paint a gradient that moves."""
    del count
    return b"".join(
        bytes((4 * (x + y + 5 * index)) % 256 for x in range(width)) for y in range(height)
    )


def brightening(index: int, count: int, width: int, height: int) -> bytes:
    """Paint one grey that tells the time: from black at the start to white at the end."""
    return bytes([255 * index // max(1, count - 1)]) * (width * height)


def left_is_white(index: int, count: int, width: int, height: int) -> bytes:
    """Paint the left half white and the right half black."""
    del index, count
    half = width // 2
    return (b"\xff" * half + b"\x00" * (width - half)) * height


def make_clip(
    path: Path,
    *,
    seconds: float = 1.0,
    size: tuple[int, int] = (64, 36),
    fps: int = 24,
    audio: bool = True,
    rotation: int = 0,
    pixel_aspect: Fraction | None = None,
    times: Sequence[float] = (),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    muxer: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    paint: Paint = moving,
) -> Path:
    """Write a clip; its container follows the path's ending.

    Args:
        path: Where to.
        seconds: Length of the picture and the sound.
        size: Width and height in pixels, as stored.
        fps: Frames per second.
        audio: Whether it has sound (silence).
        rotation: Degrees counter-clockwise that a player turns it; MP4 only.
        pixel_aspect: Width of a pixel over its height.
        times: When each frame is shown, in seconds; replaces what `seconds` and `fps` say.
        codec: The encoder of the picture.
        pixels: The encoder's pixel format.
        muxer: Options of the muxer.
        metadata: Tags of the file.
        paint: Draws the frames.
    """
    stamps = list(times) or [index / fps for index in range(round(seconds * fps))]
    with av.open(str(path), "w", options=muxer or {}) as container:
        container.metadata.update(metadata or {})
        video = container.add_stream(codec, rate=fps)
        video.width, video.height = size
        video.pix_fmt, video.gop_size = pixels, 12
        video.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, fps)
        if pixel_aspect:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        sound = container.add_stream("aac", rate=_SOUND_RATE, layout="mono") if audio else None
        for index, stamp in enumerate(stamps):
            frame = _frame(paint(index, len(stamps), *size), size).reformat(format=pixels)
            frame.time_base = video.codec_context.time_base
            frame.pts = round(stamp / frame.time_base)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound is not None:
            _add_silence(container, sound, seconds)
    if rotation:
        _turn(path, rotation)
    return path


def make_sound(path: Path, seconds: float = 0.5) -> Path:
    """Write a file with sound and no picture."""
    with av.open(str(path), "w") as container:
        _add_silence(
            container, container.add_stream("aac", rate=_SOUND_RATE, layout="mono"), seconds
        )
    return path


def make_png(size: tuple[int, int] = (64, 36)) -> bytes:
    """Encode a still image."""
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = *size, "gray"
    codec.time_base = Fraction(1, 25)
    frame = _frame(moving(0, 1, *size), size)
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode()))


def _frame(greys: bytes, size: tuple[int, int]) -> av.VideoFrame:
    width, height = size
    frame = av.VideoFrame(width, height, "gray")
    padding = bytes(frame.planes[0].line_size - width)
    rows = (greys[row * width : (row + 1) * width] + padding for row in range(height))
    frame.planes[0].update(b"".join(rows))
    return frame


def _add_silence(
    container: av.container.OutputContainer, sound: av.AudioStream, seconds: float
) -> None:
    for index in range(round(seconds * _SOUND_RATE / _SOUND_FRAME)):
        frame = av.AudioFrame("fltp", "mono", _SOUND_FRAME)
        frame.sample_rate, frame.pts = _SOUND_RATE, index * _SOUND_FRAME
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        container.mux(sound.encode(frame))
    container.mux(sound.encode())


def _turn(path: Path, degrees: int) -> None:
    """Write the display matrix into the first track's header; PyAV does so from version 18 on."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    for slot, value in zip((0, 1, 3, 4), _TURNS[degrees], strict=True):
        at = start + 4 * slot
        data[at : at + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
