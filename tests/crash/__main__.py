"""Print the crash matrix: `python -m tests.crash`; it ends with 1 if the promise is broken."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence

from tests.crash.matrix import CASES, KINDS, Matrix, cells
from tests.crash.rows import RESTARTS, Row

_WIDTHS = (64, 20, 12, 9, 4)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", choices=names, help="only these purchases")
    parser.add_argument("--store", action="append", choices=["local", "s3"])
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these ways to die")
    parser.add_argument("--restart", action="append", choices=RESTARTS)
    parser.add_argument("--every", type=int, default=1, help="take each n-th row only")
    parser.add_argument("--at", type=int, default=0, help="which of each n rows, from 0")
    parser.add_argument("--workers", type=int, default=2, help="rows at a time")
    return parser.parse_args(words)


def _line(*fields: object) -> str:
    padded = [f"{field!s:<{width}}" for field, width in zip(fields, _WIDTHS, strict=False)]
    return "  ".join([*padded, *(str(field) for field in fields[len(padded) :])])


def _shown(row: Row) -> str:
    line = _line(row.point, row.case, row.restart, row.purchases, row.runs, row.outcome)
    notes = [f"  WRONG: {problem}" for problem in row.problems]
    return "\n".join([line, *notes])


def main(words: Sequence[str] | None = None) -> int:
    """Play the matrix and print it as it goes.

    Args:
        words: The command line's words; None for those of the process.
    """
    options = _arguments(words)
    start, rows = time.monotonic(), []
    chosen = [case for case in CASES if case.name in (options.case or [case.name])]
    stores, kinds = options.store or ["local", "s3"], options.kind or KINDS
    _say(_line("killed, or not told", "what", "restarted on", "purchases", "runs", "outcome"))
    with Matrix(options.workers) as matrix:
        every = cells(matrix, chosen, stores, kinds, options.restart or RESTARTS)
        for row in matrix.play(list(every)[options.at :: options.every]):
            rows.append(row)
            _say(_shown(row))
    wrong = sum(bool(row.problems) for row in rows)
    swept = sum(bool(row.leftovers) for row in rows)
    seconds = time.monotonic() - start
    _say(f"{len(rows)} rows, {wrong} wrong, {swept} left something to sweep, {seconds:.0f} s")
    return 1 if wrong or not rows else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
