"""The demo as a person runs it: a process of its own, with its own embedded Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from prefect_topaz.sandbox import Sandbox
from tests.prefect.support import Api

PROVIDERS = ["oxen", "evolink"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: the embedded server's database is made once."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(reads=2) as running:
        yield running


def run(
    sandbox: Sandbox, folder: Path, provider: str, source: Path | None
) -> subprocess.CompletedProcess[str]:
    options = ["--sandbox", sandbox.url, "--destination", str(folder), "--provider", provider]
    own = [] if source is None else ["--source", str(source)]
    return subprocess.run(
        [sys.executable, "-m", "prefect_topaz.demo", *options, *own],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def demo(sandbox: Sandbox, folder: Path, provider: str, source: Path | None = None) -> str:
    """Run the demo, and give what it said; none of it may frighten anybody."""
    done = run(sandbox, folder, provider, source)
    assert done.returncode == 0, done.stdout
    for trouble in ("Traceback", "ERROR", "Error logging", "never awaited", "Warning  "):
        assert trouble not in done.stdout, done.stdout
    return done.stdout


def told(output: str, name: str) -> str:
    """Give the value that the demo printed behind a name."""
    (line,) = (one for one in output.splitlines() if one.startswith(f"{name}  "))
    return line.removeprefix(name).strip()


def size_of(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        return stream.width, stream.height


def assert_made(output: str, before: tuple[int, int], after: tuple[int, int]) -> None:
    """See that what the demo says is there."""
    video = Path(told(output, "Upscaled"))
    assert size_of(video) == after
    said = f"{before[0]}x{before[1]} before, {after[0]}x{after[1]} after"
    assert told(output, "Frame size") == said
    receipt = json.loads(Path(told(output, "Receipt")).read_text())
    assert (receipt["url"], receipt["bytes"]) == (str(video), video.stat().st_size)
    preview = Path(told(output, "Preview").removesuffix(" (before | after | difference)"))
    assert preview.read_bytes().startswith(b"\xff\xd8")
    assert "prefect server start" in output


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_demo_buys_once_and_finds_it_the_second_time(
    provider, sandbox, folder, api: Api
) -> None:
    before = len(api.post("flow_runs/filter"))
    first = demo(sandbox, folder, provider)
    assert told(first, "Run") == "ended as Completed"
    after = (3840, 2160) if provider == "oxen" else (640, 360)
    assert_made(first, (320, 180), after)
    cost = told(first, "Real cost")
    assert cost.startswith("$0.2988" if provider == "oxen" else "unknown")
    second = demo(sandbox, folder, provider)
    assert told(second, "Run") == "ended as Cached"
    assert_made(second, (320, 180), after)
    assert told(second, "Bought").endswith("now: 0")
    assert len(sandbox.purchases(provider)) == 1
    # It kept to its own server, although this environment names another one.
    assert os.environ["PREFECT_API_URL"]
    assert len(api.post("flow_runs/filter")) == before


def disc(x: int, y: int, number: int) -> int:
    """Give the brightness of a pixel of a picture in which something can be told."""
    return 200 if (x - 30 - 2 * number) ** 2 + (y - 20) ** 2 < 200 else 60


def odd_clip(path: Path) -> Path:
    """Write a clip with an odd frame size and without sound, as people have them."""
    with av.open(str(path), "w") as clip:
        stream = clip.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 97, 55, "yuv444p"
        for number in range(12):
            frame = av.VideoFrame(97, 55, "yuv444p")
            for plane in frame.planes:
                plane.update(
                    bytes(
                        disc(i % plane.line_size, i // plane.line_size, number)
                        for i in range(plane.buffer_size)
                    )
                )
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode(None))
    return path


def test_the_demo_takes_a_clip_of_the_users_own(sandbox, folder, tmp_path) -> None:
    clip = odd_clip(tmp_path / "mine (odd).mp4")
    output = demo(sandbox, folder, "evolink", clip)
    assert told(output, "Run") == "ended as Completed"
    # Encoders round odd sizes to even ones.
    assert_made(output, (97, 55), (194, 110))
    assert Path(told(output, "Upscaled")).name == "mine (odd)-2x.mp4"


@pytest.mark.parametrize(("provider", "after"), [("oxen", (3840, 2160)), ("evolink", (2560, 1440))])
def test_the_demo_upscales_a_real_clip(provider, after, sandbox, folder) -> None:
    path = os.environ.get("TOPAZ_REAL_CLIP")
    if not path:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("TOPAZ_REAL_CLIP names no clip; .ci/run downloads one and sets it")
    before = len(sandbox.purchases())
    output = demo(sandbox, folder, provider, Path(path))
    assert told(output, "Run") == "ended as Completed"
    assert_made(output, (1280, 720), after)
    assert len(sandbox.purchases()) == before + 1


@pytest.mark.parametrize(
    ("content", "said"), [(b"no video", "it is text"), (None, "No such file or directory")]
)
def test_a_source_that_cannot_be_used_is_refused_in_one_line(
    content, said, sandbox, folder, tmp_path
) -> None:
    notes = tmp_path / "notes.mp4"
    if content is not None:
        notes.write_bytes(content)
    done = run(sandbox, folder, "evolink", notes)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"The source {notes} cannot be used: ")
    assert said in line
