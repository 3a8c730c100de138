"""Upscale a video with libswscale: the right frame size and rate, sound kept, length kept.

A plain scaler stands in for the vendors' models: what a client can check about a result (frame
size, rate, length, sound) is right, the added detail is not there.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from prefect_topaz.sandbox.clip import frame_rate, pulled
from prefect_topaz.sandbox.flaws import spoiled
from prefect_topaz.sandbox.shapes import NotReadable, Recipe, Shape, shape_of, target_size

_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus"}


class Stopped(Exception):
    """The work was stopped between two frames."""


def upscale(
    source: Path,
    target: Path,
    recipe: Recipe,
    *,
    on_progress: Callable[[int, float], None],
    stopped: Callable[[], bool],
) -> Shape:
    """Write the upscaled video and return what it is.

    Args:
        source: A local video file.
        target: Where to write the MP4.
        recipe: What was ordered.
        on_progress: Told the frames written so far and the finished fraction, 0 to 1.
        stopped: Asked before each frame whether to give up.

    Raises:
        NotReadable: If the source cannot be decoded.
        Stopped: If `stopped` said so.
    """
    shape = shape_of(source)
    try:
        with av.open(str(source)) as reader, _writer(target) as writer:
            work = _Work(reader, writer, shape, recipe)
            for written in work.frames():
                on_progress(written, min(written / work.expected, 1.0))
                if stopped():
                    raise Stopped
    except av.FFmpegError as error:
        raise NotReadable(f"not a readable video: {error}") from error
    return shape_of(target)


def _writer(target: Path) -> OutputContainer:
    return av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"})


class _Work:
    """One source on its way to one target; used by `upscale` alone."""

    def __init__(
        self, reader: InputContainer, writer: OutputContainer, shape: Shape, recipe: Recipe
    ) -> None:
        self.reader, self.writer, self.recipe = reader, writer, recipe
        self.pictures = reader.streams.video[0]
        self.pictures.thread_type = "AUTO"
        rate = shape.rate if recipe.fps is None else frame_rate(recipe.fps)
        self.rate = rate / 2 if recipe.flaw == "fps" else rate
        self.size = target_size(shape, recipe)
        self.seconds = shape.seconds / 2 if recipe.flaw == "duration" else shape.seconds
        self.expected = max(float(self.seconds * self.rate), 1.0)
        self.graph: Graph | None = None
        self.video = self._video_stream()
        sound = reader.streams.audio[0] if reader.streams.audio else None
        self.sound = None if sound is None or recipe.flaw == "silent" else _Sound(sound, writer)

    def frames(self) -> Iterator[int]:
        """Transcode everything, and give the number of pictures written after each of them."""
        pictures = spoiled(self._pictures(), self.recipe.flaw, self.rate, self.size)
        for written, picture in enumerate(pictures, 1):
            # The decoder's picture types would force key frames where they do not belong.
            picture.pict_type = 0
            self.writer.mux(self.video.encode(picture))
            yield written
        self.writer.mux(self.video.encode(None))
        if self.sound is not None:
            self.sound.flush()

    def _pictures(self) -> Iterator[VideoFrame]:
        """Give the scaled pictures, and pass the sound on that lies between them."""
        wanted = [s for s in (self.pictures, self.sound and self.sound.source) if s is not None]
        for packet in self.reader.demux(wanted):
            if self._is_late(packet):
                continue
            if self.sound is not None and packet.stream is self.sound.source:
                self.sound.pass_on(packet)
                continue
            for picture in cast("list[VideoFrame]", packet.decode()):
                yield from self._scaled(picture)
        yield from self._scaled(None)

    def _is_late(self, packet: "Packet[Any]") -> bool:
        # Only a result that shall be too short leaves packets out.
        if self.recipe.flaw != "duration" or packet.pts is None or packet.time_base is None:
            return False
        return float(packet.pts * packet.time_base) >= self.seconds

    def _video_stream(self) -> VideoStream:
        options = {"preset": "ultrafast", "crf": "23", "threads": "2"}
        stream = self.writer.add_stream("libx264", rate=self.rate, options=options)
        stream.width, stream.height = self.size
        stream.pix_fmt = "yuv420p"
        return stream

    def _scaled(self, picture: VideoFrame | None) -> Iterator[VideoFrame]:
        if self.graph is None:
            if picture is None:
                return
            self.graph = self._build(picture)
        self.graph.push(picture)
        yield from pulled(self.graph)

    def _build(self, first: VideoFrame) -> Graph:
        graph = Graph()
        nodes = [graph.add_buffer(template=self.pictures)]
        # Phones store portrait clips on their side and a matrix that turns them upright.
        turn = {90: "cclock", -90: "clock", 270: "clock", -270: "cclock"}.get(first.rotation)
        if turn is not None:
            nodes.append(graph.add("transpose", turn))
        elif abs(first.rotation) == 180:  # noqa: PLR2004 - degrees
            nodes += [graph.add("hflip"), graph.add("vflip")]
        nodes.append(graph.add("scale", f"{self.size[0]}:{self.size[1]}:flags=bilinear"))
        nodes += [graph.add("setsar", "1"), graph.add("format", "pix_fmts=yuv420p")]
        # `fps` repeats or drops pictures, so that the length stays whatever the rate.
        nodes.append(graph.add("fps", f"fps={self.rate}"))
        graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        return graph


class _Sound:
    """The sound of one source: copied as it is where MP4 can hold it, else encoded as AAC."""

    def __init__(self, source: AudioStream, writer: OutputContainer) -> None:
        self.source, self.writer = source, writer
        self.resampler: AudioResampler | None = None
        if source.codec_context.name in _COPIED_AUDIO:
            self.target = writer.add_stream_from_template(source)
        else:
            self.target = writer.add_stream("aac", rate=source.codec_context.sample_rate)
            self.resampler = AudioResampler(
                "fltp", source.codec_context.layout.name, source.codec_context.sample_rate
            )

    def pass_on(self, packet: "Packet[Any]") -> None:
        """Copy or encode one packet of sound."""
        if self.resampler is not None:
            self._encode(self.resampler, cast("list[AudioFrame]", packet.decode()))
        elif packet.dts is not None:
            packet.stream = self.target
            self.writer.mux(packet)

    def flush(self) -> None:
        """Write what the encoder still holds."""
        if self.resampler is not None:
            self._encode(self.resampler, [None])
            self.writer.mux(self.target.encode(None))

    def _encode(self, resampler: AudioResampler, frames: "list[AudioFrame] | list[None]") -> None:
        for frame in frames:
            for sound in resampler.resample(frame):
                self.writer.mux(self.target.encode(sound))
