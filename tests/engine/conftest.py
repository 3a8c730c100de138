"""A workbench for each test: its own sandbox, folder and clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_topaz.sandbox import Sandbox, make_clip
from tests.engine.bench import Bench, Clock


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, seconds=0.5, size=(64, 36), fps=10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(reads=2, clock=clock.unix) as sandbox:
        yield sandbox


@pytest.fixture
def bench(sandbox: Sandbox, clock: Clock, clip: Path, tmp_path: Path) -> Bench:
    return Bench(sandbox, clock, tmp_path, clip)
