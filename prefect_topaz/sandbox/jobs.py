"""The book of jobs of both providers: who may change them, and the pace at which they show."""

import asyncio
import threading
from collections.abc import Callable

from prefect_topaz.sandbox.job import Job, Outcome
from prefect_topaz.sandbox.ledger import Provider


class JobBook:
    """Every job, and every change of one; safe to use from any thread.

    With `reads=N` the first status read tells "queued", later ones "processing", and the N-th
    waits for the work and tells the end. With `reads=None` the API tells what really happens.

    Args:
        reads: Status reads until the end is told, None for the real pace.
        clock: Gives Unix seconds.
        on_end: Called once for a job whose end became visible.
        charge_cancelled: Whether a job cancelled while processing is charged.
    """

    def __init__(
        self,
        reads: int | None,
        clock: Callable[[], float],
        on_end: Callable[[Job], None],
        *,
        charge_cancelled: bool,
    ) -> None:
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._reads, self._clock, self._on_end = reads, clock, on_end
        self._charge_cancelled = charge_cancelled

    def add(self, job: Job) -> None:
        """Take a job in.

        Args:
            job: A new job.
        """
        with self._lock:
            self._jobs[job.job_id] = job

    def all(self) -> dict[str, Job]:
        """Give every job by its id, oldest first."""
        with self._lock:
            return dict(self._jobs)

    def find(self, job_id: str, provider: Provider, *, history: bool = False) -> Job | None:
        """Find a job that its provider still knows.

        Args:
            job_id: Its id.
            provider: Whose it must be.
            history: Whether a job that only left the queue counts.
        """
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None or job.provider != provider:
            return None
        return job if job.forgotten in ({"no", "queue"} if history else {"no"}) else None

    def forget(self, job_id: str, *, history: bool) -> None:
        """Deny a job from now on.

        Args:
            job_id: Its id; an unknown one is denied anyway.
            history: Whether the history keeps it.
        """
        with self._lock:
            if job_id in self._jobs:
                self._jobs[job_id].forgotten = "queue" if history else "everywhere"

    async def read(self, job: Job) -> None:
        """Count a status read, and let the job show what is due at it.

        Args:
            job: The job that is asked about.
        """
        with self._lock:
            job.reads += 1
            count = job.reads
            if self._reads is None or job.is_terminal:
                return
            if 1 < count < self._reads:
                self._show_processing(job, (count - 1) / self._reads)
        if count >= self._reads:
            await self.wait(job)

    async def wait(self, job: Job) -> None:
        """Wait for the work to end, and tell its end.

        Args:
            job: The job to wait for.
        """
        await asyncio.wait({asyncio.wrap_future(job.finished)})
        with self._lock:
            self._tell(job)

    def begin(self, job: Job) -> bool:
        """Note that a worker starts on a job, and say whether it still should.

        Args:
            job: The job whose turn has come.
        """
        with self._lock:
            if job.is_terminal:
                job.stopped = True
            elif self._reads is None:
                self._show_processing(job, 0)
            return not job.is_terminal

    def advance(self, job: Job, frames: int, fraction: float) -> None:
        """Note how far the work is.

        Args:
            job: The job in work.
            frames: Pictures written so far.
            fraction: Finished part, 0 to 1.
        """
        with self._lock:
            job.frames = frames
            if self._reads is None and not job.is_terminal:
                self._show_processing(job, fraction)

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Note what the work came to.

        Args:
            job: The job whose work ended.
            outcome: How it ended.
        """
        with self._lock:
            job.outcome = outcome
            job.stopped = job.stopped or outcome.status == "cancelled"
            if self._reads is None:
                self._tell(job)
        if not job.finished.done():
            job.finished.set_result(None)

    def cancel(self, job: Job) -> bool:
        """Cancel a job, and say whether it was not finished before.

        Args:
            job: The job to stop.
        """
        with self._lock:
            if job.is_terminal:
                return False
            due = self._charge_cancelled and job.status == "processing"
            job.status, job.completed = "cancelled", self._clock()
            # How much of the work is billed is not documented: a second's worth stands for it.
            job.cost = job.price(1) if due else None
            # Work that ended before its end was told counts as stopped: the API said "processing".
            job.stopped = job.outcome is not None
            job.stop.set()
            self._on_end(job)
            return True

    def _show_processing(self, job: Job, fraction: float) -> None:
        if job.status == "queued":
            job.status, job.started = "processing", self._clock()
        job.progress = max(job.progress, min(int(fraction * 100), 99))

    def _tell(self, job: Job) -> None:
        if job.is_terminal or job.outcome is None:
            return
        job.started = job.started or self._clock()
        job.completed, job.status = self._clock(), job.outcome.status
        job.progress = 100 if job.status == "succeeded" else 0
        if job.status == "succeeded":
            job.cost = job.price(job.outcome.seconds)
        self._on_end(job)
