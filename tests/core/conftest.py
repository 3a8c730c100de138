"""What the tests of the core share: real servers, and waits that take no time."""

from collections.abc import Iterator

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from prefect_topaz.sandbox import Sandbox
from tests.core.servers import Serve, Server


class Naps:
    """A sleep that takes no time and remembers what was asked for."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@pytest.fixture
def naps() -> Naps:
    """Give a sleep that takes no time."""
    return Naps()


@pytest.fixture
def serving(request: pytest.FixtureRequest) -> Iterator[object]:
    """Start servers: `serving(serve)` gives a running one, stopped after the test."""
    running: list[Server] = []

    def start(serve: Serve | None = None, *, mute: bool = False) -> Server:
        server = Server(serve, mute=mute)
        server.__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """Give the memory store, empty before and after."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Give a sandbox whose jobs show their end at the first status read."""
    with Sandbox(reads=1) as running:
        yield running
