"""One sandbox, one destination, two machines: where a row of the matrix takes place."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import fsspec
from typing_extensions import Self

from prefect_topaz.sandbox import Sandbox
from tests.crash.children import Children, Ended

PAYING = ("/api/ai/queue", "/api/ai/videos/generate", "/v1/videos/generations")


@dataclass(frozen=True)
class Case:
    """What is bought, and from whom.

    Attributes:
        name: Its name in the table.
        provider: `oxen` or `evolink`.
        options: Fields of the provider's options.
        generations: How many videos come of it.
        upload: Whether the source is a local file, uploaded before the purchase.
        lookup: Whether the provider's listing can prove that a job is the one that was ordered.
    """

    name: str
    provider: str
    options: dict[str, Any] = field(default_factory=dict)
    generations: int = 1
    upload: bool = False
    lookup: bool = True


class Machine:
    """A computer with its own home and temporary folder.

    Args:
        root: A folder of its own.
        offset: Seconds by which its clock is ahead.
    """

    def __init__(self, root: Path, offset: float = 0.0) -> None:
        self.home, self.temporary, self.offset = root / "home", root / "temporary", offset
        for folder in (self.home, self.temporary):
            folder.mkdir(parents=True)


class World:
    """A provider that outlives every client, and a destination; use it in a `with` statement.

    Args:
        case: What is bought.
        clip: The source.
        children: Runs the processes.
        store: An fsspec URL of an empty folder and its settings; None for a local folder.
    """

    def __init__(
        self,
        case: Case,
        clip: Path,
        children: Children,
        store: tuple[str, dict[str, Any]] | None = None,
    ) -> None:
        self.case, self._clip, self.children, self._store = case, clip, children, store

    def __enter__(self) -> Self:
        """Start the sandbox."""
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True)
            root = Path(stack.enter_context(folder))
            self.sandbox = stack.enter_context(Sandbox(reads=1))
            self.source = str(self._clip) if self.case.upload else self.sandbox.host(self._clip)
            self.machine = Machine(root / "first")
            self.other = Machine(root / "second", offset=7200.0)
            self.url, self.storage = self._store or (f"{root / 'destination'}/", {})
            self.fs, self.path = fsspec.core.url_to_fs(self.url, **self.storage)
            self.path = self.path.rstrip("/")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it and remove everything."""
        self._stack.close()

    def run(
        self,
        machine: Machine,
        *,
        action: str = "deliver",
        fatal: int | str | None = None,
        torn: bool = False,
        when: Callable[[Sandbox], bool] | None = None,
        **changes: Any,
    ) -> Ended:
        """Run the client in a process on a machine.

        Args:
            machine: Where.
            action: `deliver` or `settle`.
            fatal: The effect before which it dies, by its number or its name.
            torn: Whether it dies in the first write after that effect instead.
            when: Tells by the sandbox that the process shall be killed.
            changes: Further fields of the order.
        """
        job: dict[str, Any] = {"action": action, "fatal": fatal, "torn": torn}
        job |= {"provider": self.case.provider, "options": self.case.options}
        job |= {"url": self.sandbox.url, "key": self.sandbox.api_key, "source": self.source}
        job |= {"destination": self.url, "storage": self.storage, "offset": machine.offset}
        job |= {"home": str(machine.home), "temporary": str(machine.temporary)}
        job |= {"adopt": {}, "buy_again": []}
        watch = None if when is None else lambda: when(self.sandbox)
        return self.children.run(job | changes, watch)

    def files(self) -> dict[str, bytes]:
        """Read everything at the destination, by its path below it."""
        self.fs.invalidate_cache()
        found = self.fs.find(self.path)
        return {path[len(self.path) + 1 :]: self.fs.cat_file(path) for path in found}

    def events(self) -> list[str]:
        """List what the journal says has happened, read without the code that is tested."""
        files = sorted(self.files().items())
        return [json.loads(data)["kind"] for path, data in files if is_event(path)]

    @property
    def purchases(self) -> list[str]:
        """The ids of the jobs that the provider took."""
        return [one.job_id for one in self.sandbox.purchases()]

    @property
    def posts(self) -> int:
        """How many requests that could cost money arrived, taken or not."""
        every = self.sandbox.requests()
        return sum(one.method == "POST" and one.path in PAYING for one in every)


def is_event(path: str) -> bool:
    """Tell whether a file at the destination is an event of the journal."""
    folder, _, name = path.rpartition("/")
    return folder.startswith(".topaz/") and len(name) == len("0001.json") and name[:4].isdigit()


@lru_cache(maxsize=256)
def is_whole(data: bytes) -> bool:
    """Tell whether a video can be decoded to its announced end."""
    try:
        with av.open(io.BytesIO(data), "r") as container:
            stream = container.streams.video[0]
            return bool(sum(1 for _ in container.decode(stream)) == stream.frames > 0)
    except (av.FFmpegError, IndexError):
        return False
