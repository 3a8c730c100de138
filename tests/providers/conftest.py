"""The sandbox as a shop of either provider."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_topaz.sandbox import Sandbox, make_clip
from tests.engine.bench import Clock

for name in ("contract", "live", "reading"):
    pytest.register_assert_rewrite(f"tests.providers.{name}")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, seconds=0.5, size=(64, 36), fps=10)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    clock = Clock()
    with Sandbox(reads=2, clock=clock.unix) as sandbox:
        sandbox.test_clock = clock
        yield sandbox
