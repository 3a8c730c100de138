"""Open a video without trusting it, and read its facts and its packets.

A file is judged by its content only, and nothing it refers to is opened: a downloaded playlist or
concatenation script must not make libav read other files or hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from prefect_topaz.models import MediaFacts

# Demuxers that read one file. Among libav's others are `hls` and `concat`, which open what the
# file names, and those of still images and plain text, which present themselves as videos.
_READING = {
    "format_whitelist": "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf",
    "protocol_whitelist": "none",
}
_IMAGE_BRANDS = {"avif", "heic", "heix", "mif1"}  # still images in the MP4 container
_SIDEWAYS = 90

File = str | Path | BinaryIO


class NotAVideo(ValueError):
    """The file holds no readable video; the message says why."""


def probe(file: str | Path | BinaryIO) -> MediaFacts:
    """Read the facts of a video from its headers and its first frame.

    Args:
        file: A local path, or a seekable binary file, which stays open.

    Raises:
        NotAVideo: It is empty, text, an image, only sound, or cut off before its index.
        OSError: It cannot be read at all.
    """
    with opened(file) as (container, video):
        width, height = displayed_size(video, _first_rotation(container, video))
        # libav derives the container's duration from its streams' where only these are announced.
        announced = max(container.duration or 0, 0) / av.time_base
        return MediaFacts(
            width=width,
            height=height,
            fps=float(video.average_rate) if video.average_rate else None,
            duration=announced or _measured_seconds(file),
            has_audio=bool(container.streams.audio),
            codec=video.codec.canonical_name,
            frames=video.frames or None,
        )


def displayed_size(video: VideoStream, rotation: int) -> tuple[int, int]:
    """Return width and height in pixels as a player shows them.

    Args:
        video: The picture.
        rotation: Degrees by which its frames are turned.
    """
    width, height = max(1, round(video.width * (video.sample_aspect_ratio or 1))), video.height
    return (height, width) if rotation % 180 == _SIDEWAYS else (width, height)


@contextmanager
def opened(file: File, **options: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and find its video; paths are opened here, so that none is taken for a URL."""
    with ExitStack() as stack:
        raw = stack.enter_context(Path(file).open("rb")) if isinstance(file, str | Path) else file
        raw.seek(0)
        if not raw.read(1):
            # A real file, unlike one in memory, refuses libav's seek to before its start.
            raise NotAVideo("it is empty")
        raw.seek(0)
        try:
            # `options` would reach the streams too, which crashes PyAV 15 and 16 on FLV. Metadata
            # in another encoding than UTF-8 would be an error.
            container = av.open(
                raw, "r", container_options=_READING | options, metadata_errors="replace"
            )
        except av.FFmpegError:
            raise NotAVideo(_reason(raw)) from None
        stack.enter_context(container)
        yield container, _video(container)


def _reason(raw: BinaryIO) -> str:
    raw.seek(0)
    head = raw.read(64)
    if head[4:8] == b"ftyp":
        return "its index is missing or broken: it was cut off, or is still being written"
    if head.isascii() and "".join(head.decode().split()).isprintable():
        return "it is text"
    return "it is in no video container that is read here (MP4, MOV, MKV, WebM, AVI, MPEG and such)"


def _video(container: InputContainer) -> VideoStream:
    if container.metadata.get("major_brand") in _IMAGE_BRANDS:
        raise NotAVideo("it is a still image")
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue  # the cover picture of a sound file
        if stream.codec_context is None:
            raise NotAVideo("its video is in a codec that is not known here")
        if stream.width and stream.height:
            return stream
    raise NotAVideo("it has no video that can be shown")


def _first_rotation(container: InputContainer, video: VideoStream) -> int:
    """Return degrees, which PyAV tells of frames only. A broken video counts as not turned."""
    try:
        return next((frame.rotation for frame in container.decode(video)), 0)
    except av.FFmpegError:
        return 0


def _measured_seconds(file: File) -> float | None:
    try:
        with opened(file) as (container, video):
            return round(walk(container, video)[video.index].seconds, 6) or None
    except av.FFmpegError:
        return None


@dataclass
class Track:
    """What the packets of one stream add up to; times in seconds, `key` in stream ticks."""

    packets: int = 0
    start: float = 0
    last: float = 0
    end: float = 0
    key: int = 0
    broken: bool = False

    @property
    def seconds(self) -> float:
        """From the first picture or sound to the end of the last."""
        return self.end - self.start

    def add(self, packet: Packet[Any]) -> None:
        """Take a packet in."""
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None:
            return  # the empty packet that ends each stream
        shown = float(ticks * packet.time_base)
        self.start = min(self.start, shown) if self.packets else shown
        self.last = max(self.last, shown)
        self.end = max(self.end, shown + float((packet.duration or 0) * packet.time_base))
        if packet.is_keyframe:
            self.key = ticks if packet.dts is None else packet.dts  # seeking goes by decoding times
        self.packets += 1
        self.broken = self.broken or packet.is_corrupt


def walk(container: InputContainer, video: VideoStream) -> dict[int, Track]:
    """Read all packets of the picture and the sound."""
    streams = (video, *container.streams.audio)
    tracks = {stream.index: Track() for stream in streams}
    for packet in container.demux(*streams):
        tracks[packet.stream_index].add(packet)
    return tracks
