"""Fetch a result into a file: in parts side by side, with the key for nobody else."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from prefect_topaz.download.arrival import Arrival, Follower, Part
from prefect_topaz.download.bulk import Answer, Broken, Connections
from prefect_topaz.download.ranges import Again, Anew, Expired, Told, Wanted, read_answer
from prefect_topaz.download.route import HeadersFor, Refresh, Route, unavailable
from prefect_topaz.redaction import SignedUrl
from prefect_topaz.transport import Sleep

P = ParamSpec("P")
T = TypeVar("T")
_CONNECTIONS: Final = 8
_STEP: Final = 0.05  # seconds after which another connection may join
_FAST: Final = 128 * 2**20  # bytes a second; a connection above that is slowed down by company
_TRIES: Final = 6  # in a row without a new byte


@dataclass(frozen=True)
class Fetched:
    """A file that arrived whole.

    Args:
        path: Where it is.
        size: Bytes.
        sha256: Hex digest.
    """

    path: Path
    size: int
    sha256: str


async def fetch(
    link: SignedUrl,
    path: Path,
    *,
    refresh: Refresh,
    headers_for: HeadersFor,
    sleep: Sleep,
    follower: Follower | None = None,
) -> Fetched:
    """Download a result, whatever happens on the way.

    Args:
        link: The result's link.
        path: The file to write; memory stays bounded.
        refresh: Gives a fresh link when this one has expired.
        headers_for: Gives the key's header for the provider's own origin, and nothing for others.
        sleep: Waits between tries.
        follower: Is given the bytes in order while they arrive.

    Raises:
        ResultUnavailable: If it cannot be had, by this link or a fresh one. It is paid for: run
            again while the provider keeps it.
        OSError: If the file cannot be written.
    """
    route = Route(link, refresh, headers_for)
    tries = most = changes = 0
    plain = False
    while True:
        version = _Version(path, route, sleep, follower, plain=plain)
        try:
            return await version.fetch()
        except Anew as error:
            received = version.arrival.received
            # New is what no version has brought before: a server that starts anew each time, and
            # always cuts, must come to an end too.
            tries, most = (1, received) if received > most else (tries + 1, most)
            if tries == _TRIES:
                raise unavailable(route.link, error) from None
            changes += 1
            if error.plain and not plain:
                plain = True
                continue
            # Servers behind one name may tell one file by tags of their own.
            plain = plain or changes > 1
            await sleep(_pause(tries))


def _pause(tries: int) -> float:
    return min(2.0**tries, 30.0)


class _Version:
    """One version of the file on its way. Private to this module."""

    def __init__(
        self,
        path: Path,
        route: Route,
        sleep: Sleep,
        follower: Follower | None,
        *,
        plain: bool,
    ) -> None:
        # A name of its own: a thread that hangs must not write into a later version.
        self.arrival = Arrival(path.with_name(f"{uuid.uuid4().hex}.part"))
        self._path, self._route, self._sleep, self._follower = path, route, sleep, follower
        self._plain = plain
        self._connections = Connections()
        self._threads = ThreadPoolExecutor(_CONNECTIONS + 1, thread_name_prefix="download")
        self._loop = asyncio.get_running_loop()
        self._planned = asyncio.Event()
        self._all_taken = asyncio.Event()
        self._active = 1

    async def fetch(self) -> Fetched:
        following = self._in_thread(self.arrival.follow, self._follower)
        workers = [asyncio.ensure_future(self._lead())]
        joining = (number * _STEP for number in range(1, _CONNECTIONS))
        workers += [asyncio.ensure_future(self._join(delay)) for delay in joining]
        try:
            await asyncio.gather(*workers)
            sha256 = await following
            self.arrival.path.replace(self._path)
        except Anew:
            self.arrival.end()
            await asyncio.wait((following,))  # it must not feed this version after the next
            raise
        finally:
            self.arrival.end()
            self._connections.end()
            for worker in workers:
                worker.cancel()
            following.cancel()
            self._threads.shutdown(wait=False, cancel_futures=True)
            await asyncio.gather(*workers, following, return_exceptions=True)
            self.arrival.path.unlink(missing_ok=True)
        assert sha256 is not None
        assert self.arrival.size is not None
        return Fetched(self._path, self.arrival.size, sha256)

    def _in_thread(
        self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        context = contextvars.copy_context()
        return self._loop.run_in_executor(self._threads, lambda: context.run(work, *args, **kwargs))

    async def _lead(self) -> None:
        await self._bring(self.arrival.first)
        await self._help()

    async def _join(self, delay: float) -> None:
        """Help from when the connections that there are turn out to be slow."""
        await self._planned.wait()
        began = self._loop.time()
        while not await self._all_taken_within(delay):
            rate = self.arrival.received / (self._loop.time() - began)
            if rate < self._active * _FAST:
                self._active += 1
                await self._help()
                return
            delay = _STEP

    async def _all_taken_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._all_taken.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    async def _help(self) -> None:
        while (part := self.arrival.take()) is not None:
            await self._bring(part)
        self._all_taken.set()

    async def _bring(self, part: Part) -> None:
        """Bring a part, whatever happens on the way."""
        tries, seen = 0, -1
        while not part.is_whole:
            if self._cannot_join(part):
                raise Anew("only a part of the file came", plain=True)
            turn = self._route.turn
            try:
                await self._in_thread(self._try, part, turn)
            except Expired as error:
                await self._route.renew(turn, error, self.arrival.received)
            except (Again, Broken) as error:
                if self._cannot_join(part):
                    raise Anew(str(error)) from None
                # While anything arrives anywhere, the next try is worth it.
                received = self.arrival.received
                tries, seen = (1, received) if received > seen else (tries + 1, seen)
                if tries == _TRIES:
                    raise unavailable(self._route.link, error) from None
                await self._sleep(_pause(tries))

    def _cannot_join(self, part: Part) -> bool:
        return part.offset > 0 and self.arrival.version is None

    def _try(self, part: Part, turn: int) -> None:
        """Ask once for what is missing of a part; in a thread."""
        size, version = self.arrival.joined
        ranged = part.offset > 0 or not self._plain
        wanted = Wanted(part.offset, part.stop if ranged else None, ranged, size, version)
        with (
            self._route.opened(self._connections, wanted, turn) as answer,
            self.arrival.path.open("r+b") as file,
        ):
            told = read_answer(answer.status, answer.header, answer.length, wanted)
            if version is None:
                self._plan(told, wanted)
            file.seek(part.offset)
            self._receive(answer, told.count, part, file)

    def _plan(self, told: Told, wanted: Wanted) -> None:
        parts = told.ranged and wanted.ranged
        if parts and told.count != told.size and None in (told.size, told.version):
            raise Anew("the parts of the file cannot be joined", plain=True)
        self.arrival.expect(told.size, told.version, ranges=parts)
        self._loop.call_soon_threadsafe(self._planned.set)

    def _receive(self, answer: Answer, count: int | None, part: Part, file: Any) -> None:
        got = 0
        while piece := answer.read():
            if count is not None and got + len(piece) > count:
                raise Again(f"more than {count} bytes")
            file.write(piece)
            file.flush()  # the follower reads behind
            got += len(piece)
            if not self.arrival.note(part, len(piece)):
                return
        if count is not None and got != count:
            raise Again(f"{got} of {count} bytes")
        if self.arrival.size is None:
            self.arrival.close(part)
