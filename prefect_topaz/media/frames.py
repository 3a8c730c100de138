"""Find the frames of a video by their time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from prefect_topaz.media.reading import File, NotAVideo, displayed_size, opened

# Seconds before the wanted moment where decoding starts. Seeking goes by decoding times and may
# land behind the moment; then it starts further back, and last at the very start.
_LEADS = (0.0, 10.0, None)


@dataclass(frozen=True)
class Timed:
    """A frame, and when it is shown: seconds from the start of the picture."""

    time: float
    frame: VideoFrame


@dataclass(frozen=True)
class Film:
    """An open video whose frames are looked up by time. Private to this folder.

    Args:
        file: What was opened, for those that cannot be sought in.
        container: The file, open.
        video: Its picture.
    """

    file: File
    container: InputContainer
    video: VideoStream

    @property
    def delay(self) -> float:
        """Seconds by which the picture starts after the file does, which may start with sound."""
        start = self.video.start_time
        if start is None or self.container.start_time is None:
            return 0.0
        return float(start * self._base) - self.container.start_time / av.time_base

    @property
    def rate(self) -> float | None:
        """Frames per second, if known."""
        return float(self.video.average_rate) if self.video.average_rate else None

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Return width and height of a frame as displayed."""
        return displayed_size(self.video, frame.rotation)

    def frames(self, since: float, until: float | None = None) -> Iterator[Timed]:
        """Give the frames in their order, from the one that is on display at a moment.

        Args:
            since: Seconds from the start.
            until: Start at the last key frame before this many seconds, if that is later: it is
                the first that can be decoded without decoding others.
        """
        target = since if until is None else until
        for lead in _LEADS:
            frames = self._from_key(None if lead is None else max(target - lead, 0))
            first = next(frames, None)
            if first is not None and (lead is None or first.time <= target):
                yield from _shown_since(since, first, frames)
                return

    def _from_key(self, moment: float | None) -> Iterator[Timed]:
        """Decode from the key frame before a moment; without one, from the start."""
        try:
            if moment is None:
                with _unmoved(self.file), film(self.file) as again:
                    yield from again._decoded()  # noqa: SLF001  # another one of this class
            else:
                self.container.seek(self._start + round(moment / self._base), stream=self.video)
                yield from self._decoded()
        except (av.FFmpegError, NotAVideo):
            return  # what is broken ends here; the caller sees that nothing came

    def _decoded(self) -> Iterator[Timed]:
        for frame in self.container.decode(self.video):
            ticks = frame.dts if frame.pts is None else frame.pts
            if ticks is not None:
                yield Timed(float((ticks - self._start) * self._base), frame)

    @property
    def _base(self) -> Fraction:
        return self.video.time_base or Fraction(1)

    @property
    def _start(self) -> int:
        return self.video.start_time or 0


@contextmanager
def film(file: File) -> Iterator[Film]:
    """Open a video to look up frames.

    Args:
        file: A local path, or a seekable binary file, which stays open.

    Raises:
        NotAVideo: It holds no video.
        OSError: It cannot be read at all.
    """
    with opened(file) as (container, video):
        video.thread_type = "AUTO"
        yield Film(file, container, video)


@contextmanager
def _unmoved(file: File) -> Iterator[None]:
    """Put a file back where libav believes that it is."""
    position = None if isinstance(file, str | Path) else file.tell()
    try:
        yield
    finally:
        if position is not None and not isinstance(file, str | Path):
            file.seek(position)


def _shown_since(since: float, first: Timed, rest: Iterator[Timed]) -> Iterator[Timed]:
    shown = first
    for following in rest:
        # A frame is on display until the next one is.
        if following.time > since:
            yield shown
        shown = following
    yield shown
