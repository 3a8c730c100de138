"""The sandbox as a context manager: a real HTTP server on loopback in a thread of its own."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from prefect_topaz.sandbox.backend import Backend, Settings
from prefect_topaz.sandbox.choices import Choices
from prefect_topaz.sandbox.faults import make_fault
from prefect_topaz.sandbox.job import Job
from prefect_topaz.sandbox.ledger import Ledger, Purchase, RecordedRequest, Upload
from prefect_topaz.sandbox.listener import HOST, Listener, listen


class Sandbox:
    """A stand-in for both hosted APIs, with real jobs, faults to ask for and a ledger.

    Use it as a context manager, or call `start` and `stop`.

    Args:
        api_key: The key that both APIs want.
        port: Where to listen on loopback, 0 for any free port.
        reads: Status reads until a job shows its end; None for the real pace.
        link_seconds: How long a result link works.
        credits: EvoLink's account, None for no limit.
        choices: Behaviour where the contracts are silent.
        clock: Gives Unix seconds; links, uploads and time stamps follow it.
    """

    def __init__(
        self,
        api_key: str = "sandbox-key",
        port: int = 0,
        reads: int | None = None,
        link_seconds: float = 3600,
        credits: float | None = None,  # noqa: A002 - the vendor's word
        *,
        choices: Choices | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if reads is not None and reads < 1:
            raise ValueError(f"reads must be None or at least 1, got {reads}")
        choices = choices or Choices()
        self._settings = Settings(api_key, reads, link_seconds, credits, choices, clock)
        self._port = port
        self._server: Listener | None = None
        self._backend: Backend | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def url(self) -> str:
        """The base URL of Oxen, of EvoLink and of EvoLink's files API alike."""
        return self._running.base_url

    @property
    def api_key(self) -> str:
        """The key that both APIs want."""
        return self._settings.api_key

    @property
    def ledger(self) -> Ledger:
        """Purchases, accepted submits, uploads and requests."""
        return self._running.ledger

    @property
    def jobs(self) -> dict[str, Job]:
        """Every job by its id, oldest first; the jobs are live."""
        return self._running.jobs.all()

    def start(self) -> None:
        """Listen and serve; returns when the first request can come.

        Raises:
            OSError: If the port is taken.
        """
        plug = listen(self._port)
        self._directory = tempfile.TemporaryDirectory(prefix="topaz-sandbox-")
        url = f"http://{HOST}:{plug.getsockname()[1]}"
        self._backend = Backend(self._settings, url, Path(self._directory.name))
        self._server = Listener(self._backend, plug)
        self._server.start()

    def stop(self) -> None:
        """Stop all work, close every connection and remove every file."""
        if self._server is None or self._backend is None or self._directory is None:
            return
        # Delays first: a worker may be waiting for a delayed input.
        self._server.wake()
        self._backend.stop()
        self._server.stop()
        self._directory.cleanup()
        self._server = None

    def host(self, source: str | Path | bytes, name: str = "clip.mp4") -> str:
        """Serve a file as a public source, and return its URL.

        Args:
            source: A path, or the content.
            name: Its name in the URL; a name that is taken gets the new content.
        """
        if isinstance(source, bytes):
            path = self._running.new_path()
            path.write_bytes(source)
            source = path
        return self._running.host(Path(source), name)

    def fault(self, operation: str, kind: str, *, times: int = 1, **details: Any) -> None:
        """Ask for a fault; see `prefect_topaz.sandbox.faults.RULES` for what there is.

        Args:
            operation: Which calls are hit: submit, status, result, job, ...
            kind: What happens to them: cut, delay, 429, 5xx, ...
            times: How many of them.
            details: The kind's own details, and `provider` and `method` to pick requests.

        Raises:
            ValueError: If anything is unknown; the message names what is allowed.
        """
        self._running.faults.add(make_fault(operation, kind, details), times)

    def purchases(self, provider: str | None = None) -> list[Purchase]:
        """Give the accepted jobs, oldest first.

        Args:
            provider: `oxen` or `evolink`; None for both.
        """
        every = self.ledger.purchases
        return [one for one in every if provider in {None, one.provider}]

    def uploads(self) -> list[Upload]:
        """Give the files that the providers' own stores took in, oldest first."""
        return self.ledger.uploads

    def requests(self) -> list[RecordedRequest]:
        """Give every request from outside, oldest first."""
        return self.ledger.requests

    @property
    def _running(self) -> Backend:
        if self._backend is None:
            raise RuntimeError("the sandbox was not started: use it in a `with` statement")
        return self._backend
