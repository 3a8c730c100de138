"""Does a video go on to the end that it announces?"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from prefect_topaz.media.comparison import frame_seconds
from prefect_topaz.media.reading import NotAVideo, Track, opened, walk

_SECONDS = 0.5


def check_complete(file: str | Path | BinaryIO) -> str | None:
    """Look whether a video goes on to the end that it announces.

    All packets are read without decoding them, and only the last group of pictures is decoded.
    An end that a container does not announce (MPEG-TS, an MP4 cut between two fragments) cannot
    be missed.

    Args:
        file: A local path, or a seekable binary file, which stays open.

    Returns:
        Why it is not complete; None if it is.

    Raises:
        OSError: It cannot be read at all.
    """
    try:
        # Edit lists hide packets; here all that the index counts must be there.
        with opened(file, ignore_editlist="1") as (container, video):
            tracks = walk(container, video)
            return _cut_short(container, video, tracks) or _end_missing(
                container, video, tracks[video.index]
            )
    except NotAVideo as error:
        return str(error)
    except av.FFmpegError:
        return "it cannot be decoded to its end"


def _cut_short(
    container: InputContainer, video: VideoStream, tracks: dict[int, Track]
) -> str | None:
    shown = tracks[video.index]
    if not shown.packets or any(track.broken for track in tracks.values()):
        return "it ends in the middle of its data"
    # Only the MP4 family counts its packets in an index; others estimate, or leave frames out.
    if "mp4" in container.format.name and shown.packets < video.frames:
        return f"it announces {video.frames} frames and has {shown.packets}"
    promises = []
    if len(tracks) == len(container.streams):  # else subtitles or such may go on for longer
        longest = max(track.seconds for track in tracks.values())
        promises.append(((container.duration or 0) / av.time_base, longest))
    for index, track in tracks.items():
        stream = container.streams[index]
        promises.append((float((stream.duration or 0) * (stream.time_base or 0)), track.seconds))
    slack = max(_SECONDS, 3 * frame_seconds(video.average_rate))
    for promised, seconds in promises:
        if seconds < promised - slack:
            return f"it announces {promised:.2f} s and has {seconds:.2f} s"
    return None


def _end_missing(container: InputContainer, video: VideoStream, track: Track) -> str | None:
    """Decode the last group of pictures; a file of the right length may hold no data there."""
    video.thread_type = "AUTO"
    container.seek(track.key, stream=video)
    shown = [frame.time for frame in container.decode(video) if frame.pts is not None]
    # Given rubbish, a decoder often says nothing and shows nothing.
    if not shown or max(shown) < track.last - 2 * frame_seconds(video.average_rate):
        return "its last frames cannot be decoded"
    return None
