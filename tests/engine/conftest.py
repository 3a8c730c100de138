"""A workbench for each test: its own sandbox, folder and clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_topaz.models import Place
from prefect_topaz.sandbox import Sandbox, make_clip
from tests.engine.bench import Bench, Clock
from tests.engine.shelf import Shelf, shelf_of
from tests.engine.watched import Watched
from tests.fixtures_s3 import Bucket


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


@pytest.fixture
def watched() -> Place:
    return Watched.reset()


@pytest.fixture(params=["bucket oxen", "bucket evolink", "files", "repository"])
def shelf(request: pytest.FixtureRequest, bench: Bench) -> Shelf:
    s3 = request.getfixturevalue("s3") if request.param.startswith("bucket") else None
    return shelf_of(request.param, bench, s3)


@pytest.fixture
def repository(bench: Bench) -> Shelf:
    return shelf_of("repository", bench, None)


@pytest.fixture
def files(bench: Bench) -> Shelf:
    return shelf_of("files", bench, None)


@pytest.fixture
def bucket(bench: Bench, s3: Bucket) -> Shelf:
    return shelf_of("bucket oxen", bench, s3)
