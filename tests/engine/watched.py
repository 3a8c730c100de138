"""A journal's store in memory that is watched: it counts, is full, or holds a writer up, as told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from prefect_topaz.models import Place


class Watched(MemoryFileSystem):
    """The memory store; what it is told is told to all of its kind, as fsspec makes many.

    Attributes:
        reads: How many files were read.
        full: A part of the names for which there is no room.
        gate: Writers of new files wait here.
        waiting: Whether one does.
        meeting: Those who look for a video wait here for each other, once.
    """

    protocol = "watched"
    cachable = False
    reads = 0
    full: str | None = None
    gate = threading.Event()
    waiting = threading.Event()
    meeting: threading.Barrier | None = None

    @classmethod
    def reset(cls) -> Place:
        """Empty the store, and give a folder in it."""
        fsspec.register_implementation("watched", cls, clobber=True)
        cls.store.clear()
        cls.reads, cls.full, cls.meeting = 0, None, None
        cls.gate.set()
        cls.waiting.clear()
        return Place(url="watched:///journal")

    @classmethod
    @contextmanager
    def shut(cls) -> Iterator[None]:
        """Hold writers up."""
        cls.gate.clear()
        try:
            yield
        finally:
            cls.gate.set()

    @classmethod
    def gather(cls, count: int) -> None:
        """Hold up so many who look for a video until all of them do."""
        cls.meeting = threading.Barrier(count, action=lambda: setattr(cls, "meeting", None))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("watched://", "memory://")))

    def exists(self, path: str, *given: Any, **named: Any) -> bool:
        if self.meeting is not None and path.endswith(".mp4"):
            self.meeting.wait(20)
        return bool(super().exists(path, *given, **named))

    def cat_file(self, path: str, *given: Any, **named: Any) -> bytes:
        Watched.reads += 1
        return super().cat_file(path, *given, **named)

    def pipe_file(self, path: str, *given: Any, **named: Any) -> None:
        if not self.gate.is_set():
            self.waiting.set()
            assert self.gate.wait(20)
        if self.full is not None and self.full in path:
            raise OSError(28, "No space left on device")
        super().pipe_file(path, *given, **named)
