"""A running sandbox, a tiny clip, and a caller that speaks plain HTTP to it."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import httpx
import pytest

from prefect_topaz.sandbox import Sandbox, make_clip

STARLIGHT = "topazlabs-upscale-starlight-2-5-video"
TOPAZ = "topaz-video-upscale"


class Caller:
    """Calls a sandbox as a client would, with the key unless told otherwise."""

    def __init__(self, sandbox: Sandbox, source: str) -> None:
        self.sandbox, self.source = sandbox, source
        self.http = httpx.Client(
            base_url=sandbox.url,
            headers={"Authorization": f"Bearer {sandbox.api_key}"},
            timeout=20,
        )

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query or None)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, json=body, headers=named)

    def enqueue(self, **parameters: Any) -> list[str]:
        order = {"model": STARLIGHT, "input_video": self.source, "resolution": "1080p"}
        reply = self.post("/api/ai/queue", order | parameters)
        assert reply.status_code == 200, reply.text
        return [row["generation_id"] for row in reply.json()["generations"]]

    def create(self, key: str | None = None, **parameters: Any) -> httpx.Response:
        body = {"model": TOPAZ, "video_urls": [self.source]} | parameters
        headers = {} if key is None else {"Idempotency_Key": key}
        return self.post("/v1/videos/generations", body, **headers)

    def oxen(self, job_id: str) -> dict[str, Any]:
        return self.get(f"/api/ai/queue/{job_id}").json()

    def evolink(self, job_id: str) -> dict[str, Any]:
        return self.get(f"/v1/tasks/{job_id}").json()

    def oxen_link(self, **parameters: Any) -> str:
        return self.oxen(self.enqueue(**parameters)[0])["result_url"]

    def evolink_link(self, **parameters: Any) -> str:
        return self.evolink(self.create(**parameters).json()["id"])["results"][0]


class Probed(NamedTuple):
    """What PyAV finds in a video."""

    size: tuple[int, int]
    fps: Fraction
    seconds: float
    sounds: list[str]
    frames: int


def probed(content: bytes) -> Probed:
    with av.open(io.BytesIO(content)) as video:
        stream = video.streams.video[0]
        sounds = [one.codec_context.name for one in video.streams.audio]
        frames = sum(1 for _ in video.decode(stream))
        size = (stream.codec_context.width, stream.codec_context.height)
        return Probed(size, stream.average_rate, video.duration / av.time_base, sounds, frames)


@pytest.fixture
def probe():
    return probed


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, seconds=0.5, size=(64, 36))


@pytest.fixture
def start(clip) -> Iterator[Any]:
    """Start sandboxes with settings of the test's own."""
    callers: list[Caller] = []

    def starter(**settings: Any) -> Caller:
        sandbox = Sandbox(**settings)
        sandbox.start()
        callers.append(Caller(sandbox, sandbox.host(clip)))
        return callers[-1]

    yield starter
    for caller in callers:
        caller.http.close()
        caller.sandbox.stop()


@pytest.fixture
def api(start) -> Caller:
    """A sandbox whose jobs show their end at the first read."""
    return start(reads=1)


class Clock:
    """Unix seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
