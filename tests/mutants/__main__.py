"""Make the mistakes that would cost money: `python -m tests.mutants` ends with 1 if one lives."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.mutants.mutant import Mutant
from tests.mutants.mutants import MUTANTS
from tests.mutants.trial import Verdict, attempt, complaint, snapshot

_WIDTH = max(len(mutant.name) for mutant in MUTANTS)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name or file has this in it")
    parser.add_argument("--every", type=int, default=1, help="take each n-th mutant only")
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time")
    return parser.parse_args(words)


def _verdicts(mutants: Sequence[Mutant], folder: Path, workers: int) -> Iterator[Verdict]:
    with ThreadPoolExecutor(workers) as pool:
        whole = folder / "whole"
        trials = [
            pool.submit(attempt, mutant, whole, folder / str(number))
            for number, mutant in enumerate(mutants)
        ]
        for trial in as_completed(trials):
            yield trial.result()


def _line(verdict: Verdict) -> str:
    told = verdict.killer or verdict.problem
    return f"{verdict.mutant.name:<{_WIDTH}}  {verdict.seconds:>5.1f} s  {told}"


def main(words: Sequence[str] | None = None) -> int:
    """Try the mutants and print what killed each.

    Args:
        words: The command line's words; None for those of the process.
    """
    options = _arguments(words)
    chosen = [one for one in MUTANTS if options.only in f"{one.name} {one.file}"][:: options.every]
    start, alive = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name).resolve()
        try:
            wrong = complaint(snapshot(folder / "whole"), chosen)
        except subprocess.TimeoutExpired as error:
            wrong = f"without any mutant the tests take more than {error.timeout:g} s"
        if wrong is not None:
            _say(wrong)
            return 1
        _say(f"{'mutant':<{_WIDTH}}  {'time':>7}  killed by")
        for verdict in _verdicts(chosen, folder, options.workers):
            alive += verdict.killer is None
            _say(_line(verdict))
    _say(f"{len(chosen)} mutants, {alive} not killed, {time.monotonic() - start:.0f} s")
    return 1 if alive or not chosen else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
