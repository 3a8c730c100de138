"""Measure what importing prefect_topaz adds to importing Prefect.

Every Prefect process imports the package, so the package itself must cost next to nothing. One
fresh interpreter imports Prefect, then the package, then its blocks, and times each step. All
figures thus come from the same process under the same load, and the least of several processes
is the one that the machine disturbed least.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import NamedTuple

STEPS = ("prefect", "prefect_topaz", "prefect_topaz.blocks")

CHILD = """
import json, sys, time
seconds = []
for name in json.loads(sys.argv[1]):
    # A module that is loaded already would look free of charge.
    assert name not in sys.modules, name + " was imported by the step before"
    started = time.perf_counter()
    __import__(name)
    seconds.append(time.perf_counter() - started)
print(json.dumps(seconds))
"""


class Cost(NamedTuple):
    """Seconds to import Prefect, then the package, then its blocks."""

    prefect: float
    package: float
    blocks: float


def measure_once() -> Cost:
    """Time the three imports in one fresh interpreter.

    Raises:
        subprocess.CalledProcessError: if an import fails, or a step imports the next one.
    """
    command = [sys.executable, "-c", CHILD, json.dumps(STEPS)]
    # Prefect makes its home when it is imported, and reads the user's profile there.
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "PREFECT_HOME": home}
        answer = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
    return Cost(*json.loads(answer.stdout))


def measure(runs: int) -> Cost:
    """Return the least time of each step over several interpreters.

    Args:
        runs: how many interpreters to start, after one that only fills the bytecode cache.
    """
    measure_once()
    costs = [measure_once() for _ in range(runs)]
    return Cost(*(min(column) for column in zip(*costs, strict=True)))


def main(arguments: list[str] | None = None) -> int:
    """Print the cost of each import; return 1 when the package adds more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=7, help="interpreters to start (default 7)")
    parser.add_argument("--limit", type=float, default=10.0, help="percent allowed (default 10)")
    options = parser.parse_args(arguments)
    cost = measure(options.runs)
    added = 100 * cost.package / cost.prefect
    with_blocks = 100 * (cost.package + cost.blocks) / cost.prefect
    print(f"import prefect                {cost.prefect:7.3f} s")
    print(f"  + prefect_topaz             {cost.package:7.3f} s  adds {added:.1f} %")
    print(f"  + prefect_topaz.blocks      {cost.blocks:7.3f} s  adds {with_blocks:.1f} % in all")
    # Collections are loaded by the module of the blocks, so that is what every process pays.
    verdict = "within" if with_blocks <= options.limit else "OVER"
    print(f"both together are {verdict} the limit of {options.limit:g} % of import prefect")
    return 0 if with_blocks <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
