"""A file that arrives in parts, in any order, and is read behind them in order."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

PART: Final = 8 * 2**20  # bytes of a range
# A large file comes by fewer requests, and no more than this is late at its end.
_LARGEST: Final = 4 * PART
_PIECE: Final = 2**18  # bytes read behind at a time: they are still in the processor's cache


class Follower(Protocol):
    """Who is given a file's bytes in order, while it arrives. It raises nothing."""

    def begin(self, size: int | None) -> None:
        """Start a file of so many bytes, if that is known; all that was fed before is void."""

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes; the memory is used again afterwards."""


@dataclass(eq=False)
class Part:
    """A range of the file.

    Args:
        start: Its first byte.
        stop: The byte after its last; None while nobody knows where the file ends.
        got: How many bytes of it have arrived.
    """

    start: int
    stop: int | None
    got: int = 0

    @property
    def offset(self) -> int:
        """The next byte that is wanted."""
        return self.start + self.got

    @property
    def is_whole(self) -> bool:
        """Whether all of it has arrived."""
        return self.offset == self.stop


class Arrival:
    """One version of a file on its way to the local disk; used by many threads.

    Args:
        path: The file; it is emptied.

    Attributes:
        size: Bytes of the whole file, once that is known.
        version: What the server tells this version by, to be joined with; None if by nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = Part(0, PART)
        self.size: int | None = None
        self.version: str | None = None
        self._parts = [self.first]
        self._taken = 1
        self._over = False
        self._changed = threading.Condition()
        path.open("wb").close()

    def expect(self, size: int | None, version: str | None, *, ranges: bool) -> None:
        """Say what the first answer told of the file.

        Args:
            size: Bytes; None if it was not told.
            version: What this version is told by.
            ranges: Whether the file may be asked for in parts.
        """
        with self._changed:
            self.size, self.version = size, version
            self.first.stop = size if size is None or not ranges else min(PART, size)
            if ranges and size:
                step = min(max(PART, size // 64), _LARGEST)
                starts = range(PART, size, step)
                self._parts += [Part(at, min(at + step, size)) for at in starts]
            self._changed.notify_all()

    @property
    def joined(self) -> tuple[int | None, str | None]:
        """The size and version that a further part must be of; unknown while any will do."""
        some = self.received or len(self._parts) > 1
        return (self.size, self.version) if some else (None, None)

    def take(self) -> Part | None:
        """Give the next part that nobody brings yet; they are taken in order."""
        with self._changed:
            if self._taken == len(self._parts):
                return None
            self._taken += 1
            return self._parts[self._taken - 1]

    def note(self, part: Part, count: int) -> bool:
        """Note that more bytes of a part are in the file; False if nobody wants more."""
        with self._changed:
            part.got += count
            self._changed.notify_all()
            return not self._over

    def close(self, part: Part) -> None:
        """Note that the file ends where this part has got to."""
        with self._changed:
            self.size = part.stop = part.offset
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait for bytes any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    @property
    def received(self) -> int:
        """How many bytes have arrived, in whatever order."""
        return sum(part.got for part in self._parts)

    def follow(self, follower: Follower | None) -> str | None:
        """Read the file behind its arrival: hash it, and feed the follower.

        Returns:
            The sha256 as hex digest; None if the arrival ended before the file was whole.
        """
        digest, memory = hashlib.sha256(), memoryview(bytearray(_PIECE))
        with self._changed:
            self._changed.wait_for(lambda: self._over or self.first.got or self.first.is_whole)
        if follower is not None:
            follower.begin(self.size)
        with self.path.open("rb", buffering=0) as file:
            for part in self._in_order():
                position = part.start
                while (end := self._reached(part, position)) > position:
                    position += self._read(file, memory[: end - position], digest, follower)
                if not part.is_whole or position != part.stop:
                    return None
        return digest.hexdigest()

    def _in_order(self) -> Iterator[Part]:
        at = 0
        while at < len(self._parts):  # the list grows when the first answer has come
            yield self._parts[at]
            at += 1

    def _reached(self, part: Part, position: int) -> int:
        """Wait until more of a part has arrived; give how far it got, or no further at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or part.is_whole or part.offset > position)
            return position if self._over else part.offset

    @staticmethod
    def _read(file: Any, memory: memoryview, digest: Any, follower: Follower | None) -> int:
        count: int = file.readinto(memory)
        if not count:
            raise OSError("the file that arrives was cut by somebody else")
        digest.update(memory[:count])
        if follower is not None:
            follower.feed(memory[:count])
        return count
