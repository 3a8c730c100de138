"""The workers: two threads that fetch inputs and upscale them."""

import atexit
import functools
import hashlib
import shutil
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from prefect_topaz.sandbox.disk import Fetcher, NotFetched, StoredFile, link_or_copy, read_chunks
from prefect_topaz.sandbox.job import Failure, Job, Outcome
from prefect_topaz.sandbox.jobs import JobBook
from prefect_topaz.sandbox.shapes import NotReadable, Recipe
from prefect_topaz.sandbox.upscale import Stopped, upscale

THREADS = 2


@dataclass(frozen=True)
class Finished:
    """One upscaled file of this process, and what is known about it."""

    path: Path
    sha256: str
    seconds: float


class Results:
    """Finished outputs of this process, so that the same order twice costs nothing."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._found: dict[tuple[str, Recipe], Finished] = {}

    def find(self, key: tuple[str, Recipe], target: Path) -> Finished | None:
        """Link a finished output to `target`, if there is one."""
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                link_or_copy(found.path, target)
            return found

    def keep(self, key: tuple[str, Recipe], made: Path, seconds: float) -> Finished:
        """Take an output in, and drop the oldest when there are many."""
        digest = hashlib.sha256()
        for chunk in read_chunks(made):
            digest.update(chunk)
        path = _results_directory() / f"{uuid.uuid4().hex}.mp4"
        link_or_copy(made, path)
        finished = Finished(path, digest.hexdigest(), seconds)
        with self._lock:
            self._found[key] = finished
            while len(self._found) > self._most:
                self._found.pop(next(iter(self._found))).path.unlink(missing_ok=True)
        return finished


@functools.cache
def _results_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="topaz-sandbox-results-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


_RESULTS = Results(most=64)


class WorkPool:
    """Runs jobs on a bounded number of threads.

    Args:
        directory: Where inputs and results go.
        jobs: The book that is told about every step.
        fetcher: Reads inputs.
    """

    def __init__(self, directory: Path, jobs: JobBook, fetcher: Fetcher) -> None:
        self._directory, self._jobs, self._fetcher = directory, jobs, fetcher
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="topaz-sandbox-work")

    def start(self, job: Job) -> None:
        """Put a job in the queue.

        Args:
            job: A job that is in the book.
        """
        try:
            self._threads.submit(self._run, job)
        except RuntimeError:  # the pool has stopped
            self._jobs.finish(job, Outcome("cancelled"))

    def stop(self) -> None:
        """Stop all work between two frames, and wake everybody who waits for it."""
        jobs = self._jobs.all().values()
        for job in jobs:
            job.stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for job in jobs:
            if not job.finished.done():
                self._jobs.finish(job, Outcome("cancelled"))

    def _run(self, job: Job) -> None:
        outcome = Outcome("cancelled")
        try:
            if self._jobs.begin(job):
                outcome = self._outcome(job)
        except Stopped:
            pass
        except (NotFetched, NotReadable) as error:
            if not job.stop.is_set():
                outcome = Outcome("failed", failure=Failure(str(error), "invalid_parameters"))
        except Exception as error:  # noqa: BLE001 - a waiting request must not hang on a bug here
            outcome = Outcome("failed", failure=Failure(f"sandbox error: {error!r}"))
        self._jobs.finish(job, outcome)

    def _outcome(self, job: Job) -> Outcome:
        if job.stop.wait(job.order.delay):
            raise Stopped
        if job.order.failure is not None:
            return Outcome("failed", failure=job.order.failure)
        source, digest = job.order.fetched or self._fetch(job)
        target = self._directory / f"{uuid.uuid4().hex}.mp4"
        key = (digest, job.order.recipe)
        done = _RESULTS.find(key, target) or self._make(job, source, target, key)
        size = target.stat().st_size
        stored = StoredFile(target, done.sha256, size, target.stat().st_mtime)
        return Outcome("succeeded", stored, done.seconds)

    def _fetch(self, job: Job) -> tuple[Path, str]:
        target = self._directory / f"{uuid.uuid4().hex}.input"
        return target, self._fetcher.fetch(job.order.url, target, job.stop.is_set)

    def _make(self, job: Job, source: Path, target: Path, key: tuple[str, Recipe]) -> Finished:
        shape = upscale(
            source,
            target,
            job.order.recipe,
            on_progress=functools.partial(self._jobs.advance, job),
            stopped=job.stop.is_set,
        )
        return _RESULTS.keep(key, target, shape.seconds)
