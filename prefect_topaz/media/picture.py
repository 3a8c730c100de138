"""Show moments of a video before and after, and what differs, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

from prefect_topaz.media.frames import Film, Timed, film
from prefect_topaz.media.reading import File, NotAVideo, probe

_HEIGHT = 360  # pixels of a part, unless asked for otherwise
_GAP = 4  # white pixels between the parts of a preview
_PREVIEW_WIDTH = 1600
_PREVIEW_BYTES = 72_000  # below 100 kB in base64: it travels with every list of artifacts
_AMPLIFIED = 4  # times; a good upscale differs by a few grey levels only
# Degrees counter-clockwise, as PyAV tells them.
_TURNS = {
    90: (("transpose", "cclock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "clock"),),
}


_End = tuple[FilterContext, int]  # a filter, and which of its outputs


@dataclass(frozen=True)
class Picture:
    """One frame, its size in pixels as displayed, and how it is turned until then."""

    frame: VideoFrame
    width: int
    height: int
    turn: int

    @classmethod
    def of(cls, source: Film, timed: Timed) -> Picture:
        """Take a frame of a film."""
        return cls(timed.frame, *source.size(timed.frame), timed.frame.rotation % 360)

    def small(self) -> Picture:
        """Make it no larger than a preview shows it: whole frames of 4K fill the memory."""
        graph = Graph()
        chain = _scaled(graph, self, _even(min(self.height, _HEIGHT)))
        chain[-1].link_to(graph.add("buffersink"))
        graph.configure()
        chain[0].push(self.frame)
        return replace(self, frame=graph.vpull(), turn=0)


def preview(
    before: str | Path | BinaryIO | None,
    after: str | Path | BinaryIO,
    *,
    at: float | None = None,
    height: int = _HEIGHT,
) -> bytes:
    """Make one JPEG below 72 kB: before, after and their difference, at the same moment.

    Args:
        before: The source; None leaves its part and the difference out.
        after: The result.
        at: Seconds from the start; None takes the middle of the result.
        height: Pixels of all parts; less where the picture would be wider than 1600.

    Raises:
        NotAVideo: One of them holds no video, or no picture of it can be decoded.
        OSError: One of them cannot be read at all.
    """
    moment = (probe(after).duration or 0) / 2 if at is None else max(at, 0)
    return join([[_picture(file, moment) for file in (before, after) if file is not None]], height)


def join(rows: Sequence[Sequence[Picture]], height: int = _HEIGHT) -> bytes:
    """Make one JPEG below 72 kB of some moments, one below the other.

    Args:
        rows: For each moment the result's picture, or the source's and the result's, which are
            followed by their difference. All are of the same videos.
        height: Pixels of all parts; less where the picture would be wider than 1600.
    """
    pictures = rows[0]
    shapes = [picture.width / picture.height for picture in (*pictures, *pictures[1:])]
    height = min(height, int((_PREVIEW_WIDTH - _GAP * (len(shapes) - 1)) / sum(shapes)))
    while True:
        joined = _drawn(rows, _even(height))
        for quality in (3, 6, 10, 16, 24, 31):
            jpeg = _jpeg(joined, quality)
            if len(jpeg) < _PREVIEW_BYTES:
                return jpeg
        height //= 2


def _picture(file: File, moment: float) -> Picture:
    with film(file) as source:
        shown = next(source.frames(moment), None)
        if shown is None:
            raise NotAVideo("no picture of it can be decoded")
        return Picture.of(source, shown)


def _even(length: float) -> int:
    return max(2, int(length) // 2 * 2)


def _drawn(rows: Sequence[Sequence[Picture]], height: int) -> VideoFrame:
    graph = Graph()
    fed: list[tuple[FilterContext, Picture]] = []
    lines: list[_End] = []
    for pictures in rows:
        chains = [_scaled(graph, picture, height) for picture in pictures]
        fed += [(chain[0], one) for chain, one in zip(chains, pictures, strict=True)]
        ends = [(chain[-1], 0) for chain in chains]
        if len(ends) > 1:
            ends = _with_difference(graph, ends, _width(pictures[-1], height), height)
        lines.append((_stacked(graph, ends, "hstack", f"iw+{_GAP}:ih"), 0))
    _stacked(graph, lines, "vstack", f"iw:ih+{_GAP}").link_to(graph.add("buffersink"))
    graph.configure()
    for source, picture in fed:
        picture.frame.pts = 0  # the parts are joined by time
        source.push(picture.frame)
        source.push(None)
    return graph.vpull()


def _width(picture: Picture, height: int) -> int:
    return _even(min(height * picture.width / picture.height, _PREVIEW_WIDTH))


def _scaled(graph: Graph, picture: Picture, height: int) -> list[FilterContext]:
    frame = picture.frame
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    steps = [
        *_TURNS.get(picture.turn, ()),
        ("scale", f"{_width(picture, height)}:{height}:flags=area"),
        ("setsar", "1"),
        ("format", "yuvj420p"),
    ]
    chain = [source, *(graph.add(name, options) for name, options in steps)]
    graph.link_nodes(*chain)
    return chain


def _with_difference(graph: Graph, ends: Sequence[_End], width: int, height: int) -> list[_End]:
    """Fork both pictures, and let the difference of their brightness follow them."""
    forks = [_linked(graph, end, ("split", "2")) for end in ends]
    blend = graph.add("blend", "all_mode=difference")
    for index, fork in enumerate(forks):
        alike = _linked(graph, (fork, 1), ("scale", f"{width}:{height}:flags=area"))
        alike.link_to(blend, 0, index)
    shown = _linked(graph, (blend, 0), ("lutyuv", f"y=val*{_AMPLIFIED}:u=128:v=128"))
    return [*((fork, 0) for fork in forks), (shown, 0)]


def _stacked(graph: Graph, ends: Sequence[_End], stack: str, padded: str) -> FilterContext:
    """Put parts beside or below each other, with white between them."""
    *firsts, last = ends
    parts = [(_linked(graph, end, ("pad", f"{padded}:color=white")), 0) for end in firsts]
    if not parts:
        return last[0]
    stacked = graph.add(stack, f"inputs={len(ends)}")
    for index, (end, output) in enumerate([*parts, last]):
        end.link_to(stacked, output, index)
    return stacked


def _linked(graph: Graph, end: _End, step: tuple[str, str]) -> FilterContext:
    following = graph.add(*step)
    end[0].link_to(following, end[1], 0)
    return following


def _jpeg(frame: VideoFrame, quality: int) -> bytes:
    """Encode a frame; quality is 2 (best) to 31."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuvj420p"
    codec.time_base = Fraction(1, 25)
    codec.options = {"qmin": str(quality), "qmax": str(quality)}
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode()))
