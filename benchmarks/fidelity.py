"""Measure how like their sources good upscales and wrong results are, and what is made of it.

Short clips are drawn by libav (and taken from `--clip`), treated as upscalers and as mishaps treat
them, encoded, and compared as a stored result is. Prints two tables in Markdown; exits with 1 if a
good upscale is called a mismatch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from prefect_topaz.media import Comparison, compare_frames, probe
from prefect_topaz.media.fidelity import judge
from prefect_topaz.models import Verify

RATE = 24
LEVELS: tuple[Verify, ...] = ("standard", "strict")
Chain = Sequence[tuple[str, str]]

_ZOOM = (("mandelbrot", "start_scale=0.5:end_scale=0.01:end_pts=200"),)
_STILL = (("loop", "loop=-1:size=1"), ("setpts", f"N/{RATE}/TB"))
# Each begins with a generator, which is told the size and the rate.
CONTENTS: dict[str, Chain] = {
    "test pattern": (("testsrc2", ""),),
    "zoom": _ZOOM,
    "cells": (("life", "mold=20:ratio=0.2:death_color=gray"), ("gblur", "sigma=4")),
    "slide": (("testsrc2", ""), *_STILL),
    "scrolling rows": (("cellauto", "rule=110:random_fill_ratio=0.4"), ("gblur", "sigma=2")),
    "still with grain": (("testsrc2", ""), *_STILL, ("noise", "alls=30:allf=t")),
    "dark zoom": (*_ZOOM, ("lutyuv", "y=16+(val-16)*0.2")),
    "fades": (("testsrc2", ""), ("fade", "t=in:d=1"), ("fade", "t=out:st=2:d=1")),
    "colour gradient": (("gradients", "speed=0.05"),),
    "black": (("color", "color=black"),),
    "noise": (("color", "color=gray"), ("noise", "alls=80:allf=t")),
}


@dataclass(frozen=True)
class Treatment:
    """What becomes of a clip on its way to a result."""

    chain: Chain
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "veryfast", "crf": "22"})
    rate: int = RATE
    other: bool = False


def _up(factor: int = 2, scaler: str = "lanczos") -> tuple[str, str]:
    return "scale", f"iw*{factor}:ih*{factor}:flags={scaler}"


def _early(seconds: float) -> Chain:
    start = ("trim", f"start={seconds}"), ("setpts", "PTS-STARTPTS")
    return _up(), *start, ("tpad", f"stop_mode=clone:stop_duration={seconds}")


def _late(seconds: float) -> Chain:
    # The filter counts in frames, and takes their rate from the one before it.
    return _up(), ("fps", f"{RATE}"), ("tpad", f"start_mode=clone:start_duration={seconds}")


def _curve(power: float, gain: float, lift: float) -> tuple[str, str]:
    return "lutyuv", f"y=16+219*pow(clip((val-16)/219\\,0\\,1)\\,{power})*{gain}+{lift}"


_QUIET = {"preset": "ultrafast", "crf": "35", "x265-params": "log-level=none"}
_FAST = {"deadline": "realtime", "cpu-used": "8", "b:v": "150k"}
_BLOCKS = (("scale", "iw/8:ih/8"), ("scale", "iw*16:ih*16:flags=neighbor"))
_RUBBISH = (("drawbox", "color=gray:t=fill"), ("noise", "alls=100:allf=t"))
GOOD: dict[str, Treatment] = {
    "lanczos x2": Treatment((_up(),)),
    "bicubic x4": Treatment((_up(4, "bicubic"),), options={"preset": "ultrafast", "crf": "24"}),
    "bilinear x2, crf 40": Treatment(
        (_up(2, "bilinear"),), options={"preset": "veryfast", "crf": "40"}
    ),
    "x2, HEVC crf 35": Treatment((_up(),), "libx265", _QUIET),
    "x2, VP9 at 150 kbit/s": Treatment((_up(),), "libvpx-vp9", _FAST),
    "sharpened": Treatment((_up(), ("unsharp", "7:7:2.5:7:7:0"))),
    "denoised": Treatment((("bilateral", "sigmaS=3:sigmaR=0.15"), _up())),
    "blurred": Treatment((("gblur", "sigma=2"), _up())),
    "grain added": Treatment((_up(), ("noise", "alls=25:allf=t"))),
    "30 frames per second": Treatment((_up(), ("fps", "30")), rate=30),
    "60, blended": Treatment((("minterpolate", "fps=60:mi_mode=blend"), _up()), rate=60),
    "cropped by 2 %": Treatment((("crop", "iw*0.98:ih*0.98"), ("scale", "iw*2:ih*2"))),
    "BT.601 as BT.709": Treatment(
        (("scale", "iw*2:ih*2:in_color_matrix=bt601:out_color_matrix=bt709"),)
    ),
    "full range": Treatment((("scale", "iw*2:ih*2:in_range=tv:out_range=pc"),)),
    "brighter": Treatment((_up(), _curve(0.85, 1.1, 12))),
    "darker": Treatment((_up(), _curve(1.25, 0.85, -4))),
    "two frames late": Treatment(_late(2 / RATE)),
    "0.2 s early": Treatment(_early(0.2)),
}
WRONG: dict[str, Treatment] = {
    "another video": Treatment((_up(),), other=True),
    "black": Treatment((_up(), ("drawbox", "color=black:t=fill"))),
    "green": Treatment((_up(), ("drawbox", "color=green:t=fill"))),
    "frozen": Treatment((_up(), *_STILL)),
    "0.5 s early": Treatment(_early(0.5)),
    "0.5 s late": Treatment(_late(0.5)),
    "1 s early": Treatment(_early(1)),
    "1 s late": Treatment(_late(1)),
    "reversed": Treatment((_up(), ("reverse", ""))),
    "mirrored": Treatment((_up(), ("hflip", ""))),
    "upside down": Treatment((_up(), ("vflip", ""))),
    "cropped by 30 %": Treatment((("crop", "iw*0.7:ih*0.7"), ("scale", "iw*2:ih*2"))),
    "rubbish blocks": Treatment((*_RUBBISH, *_BLOCKS)),
}


def pulled(graph: Graph) -> Iterator[VideoFrame]:
    """Give the frames that a graph has ready."""
    with suppress(av.EOFError, av.BlockingIOError):
        while True:
            yield graph.vpull()


def drawn(chain: Chain, seconds: float, size: str) -> Iterator[VideoFrame]:
    """Give the frames of a generated clip."""
    (name, options), *rest = chain
    graph = Graph()
    told = f"size={size}:rate={RATE}" + (f":{options}" if options else "")
    steps = [(name, told), *rest, ("trim", f"duration={seconds}"), ("format", "yuv420p")]
    graph.link_nodes(*(graph.add(*step) for step in steps), graph.add("buffersink")).configure()
    return pulled(graph)


def filtered(file: Path, chain: Chain, seconds: float) -> Iterator[VideoFrame]:
    """Give the frames of a clip, treated."""
    graph = Graph()
    with av.open(str(file)) as clip:
        video = clip.streams.video[0]
        steps = [*chain, ("trim", f"duration={seconds}"), ("format", "yuv420p")]
        nodes = [graph.add_buffer(template=video), *(graph.add(*step) for step in steps)]
        graph.link_nodes(*nodes, graph.add("buffersink")).configure()
        with suppress(av.EOFError):  # the graph has all that it wants
            for frame in clip.decode(video):
                graph.push(frame)
                yield from pulled(graph)
            graph.push(None)
        yield from pulled(graph)


def encoded(frames: Iterable[VideoFrame], file: Path, rate: int, how: Treatment) -> Path:
    """Write frames, one after the other."""
    with av.open(str(file), "w") as target:
        stream = target.add_stream(how.codec, rate=rate, options=how.options)
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            if not number:
                stream.width, stream.height = frame.width // 2 * 2, frame.height // 2 * 2
            fitting = frame.reformat(stream.width, stream.height)
            fitting.pts, fitting.time_base = number, Fraction(1, rate)
            fitting.pict_type = 0
            target.mux(stream.encode(fitting))
        target.mux(stream.encode())
    return file


def sources(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Draw the clips, and take the given ones in."""
    plain = Treatment(())
    found = {
        name: encoded(
            drawn(chain, options.seconds, options.size), folder / f"{name}.mp4", RATE, plain
        )
        for name, chain in list(CONTENTS.items())[: options.drawn]
    }
    for clip in options.clip:
        small = ("scale", "trunc(min(iw\\,640)/2)*2:-2"), ("fps", f"{RATE}")
        frames = filtered(clip, small, options.seconds)
        found[clip.stem] = encoded(frames, folder / f"{clip.stem}.mp4", RATE, plain)
    return found


def compared(before: Path, shown: Path, how: Treatment, options: argparse.Namespace) -> Comparison:
    """Treat a clip and compare it with what it should show."""
    frames = filtered(shown, how.chain, options.seconds)
    result = encoded(frames, before.parent / "result.mkv", how.rate, how)
    return compare_frames(before, result, probe(result), probe(before), verify="standard")


def row(
    name: str, how: Treatment, clips: dict[str, Path], options: argparse.Namespace
) -> tuple[str, int]:
    """Measure one treatment of all clips; returns a line of the table and the mismatches."""
    others = [*list(clips.values())[1:], *list(clips.values())[:1]]
    likenesses: list[float] = []
    found: Counter[str] = Counter()
    for before, other in zip(clips.values(), others, strict=True):
        comparison = compared(before, other if how.other else before, how, options)
        moments = [one.likeness for one in comparison.moments if one.clear]
        likenesses += moments
        found["clear"] += bool(moments)
        for level in LEVELS:
            verdict = judge(comparison.moments, level)
            found[level] += bool(verdict.mismatches)
            if options.verbose:
                print(f"{name}, {before.stem}, {level}: {verdict}", file=sys.stderr, flush=True)
    parts = [min(likenesses), statistics.median(likenesses), max(likenesses)]
    columns = [name, *(f"{part:.2f}" for part in parts)]
    columns += [f"{found[level]} of {found['clear']}" for level in LEVELS]
    return f"| {' | '.join(columns)} |", found["standard"]


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return 1 if a good upscale is called a mismatch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=3, help="of each clip (default 3)")
    parser.add_argument("--size", default="320x180", help="of the drawn clips (default 320x180)")
    parser.add_argument("--drawn", type=int, default=len(CONTENTS), help="drawn clips (all)")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a video to add")
    parser.add_argument("--verbose", action="store_true", help="tell every verdict")
    options = parser.parse_args(arguments)
    false = 0
    with tempfile.TemporaryDirectory() as folder:
        clips = sources(Path(folder), options)
        for title, treatments in (("Good upscales", GOOD), ("Wrong results", WRONG)):
            print(f"| {title} | least | median | most | standard | strict |")
            print("| --- | --- | --- | --- | --- | --- |")
            for name, how in treatments.items():
                line, mismatches = row(name, how, clips, options)
                false += mismatches if treatments is GOOD else 0
                print(line, flush=True)
            print()
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main())
