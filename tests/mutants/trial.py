"""Put a mutant into a copy of the project, run its tests there, and see whether they notice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant, NotApplicable

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 180.0  # seconds that the tests of one mutant may take
_FAILED: Final = re.compile(r"^FAILED (\S+?::.+?)(?: - .*)?$", re.MULTILINE)
_PASSED, _KILLED = 0, 1  # pytest's exit codes; any other is no verdict
_WHERE: Final = "import prefect_topaz; print(prefect_topaz.__file__)"


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Args:
        mutant: The mistake.
        killer: The test that noticed it; None if none did.
        seconds: How long that took.
        problem: Why there is no killer.
    """

    mutant: Mutant
    killer: str | None
    seconds: float
    problem: str = ""


def snapshot(target: Path) -> Path:
    """Copy what the tests need, once: the tree may change while the mutants run."""
    for name in ("prefect_topaz", "tests"):
        shutil.copytree(_ROOT / name, target / name)
    shutil.copy(_ROOT / "pyproject.toml", target)
    return target


def complaint(project: Path, mutants: Sequence[Mutant]) -> str | None:
    """Say why a copy proves nothing as it is; None if its own package passes all these tests."""
    where = _run(project, "-c", _WHERE).stdout.strip()
    if not Path(where).is_relative_to(project):
        return f"the tests would import {where or 'nothing'}, and not the copy in {project}"
    names = sorted({name for mutant in mutants for name in mutant.tests})
    code, output = _test(project, names)
    return None if code == _PASSED else f"without any mutant these tests do not pass:\n{output}"


def attempt(mutant: Mutant, project: Path, target: Path) -> Verdict:
    """Try one mutant in a copy of its own.

    Args:
        mutant: The mistake.
        project: The copy without it.
        target: Where to put the copy with it.
    """
    start = time.monotonic()
    shutil.copytree(project, target)
    killer, problem = None, ""
    try:
        mutant.apply(target / "prefect_topaz")
        code, output = _test(target, mutant.tests)
        failed = _FAILED.search(output)
        if code == _KILLED and failed:
            killer = failed[1].removeprefix("tests/")
        else:
            problem = "SURVIVED" if code == _PASSED else f"no verdict (pytest: {code})\n{output}"
    except NotApplicable as error:
        problem = f"no longer applies: {error}"
    except subprocess.TimeoutExpired:
        problem = f"no verdict within {_PATIENCE:g} s"
    shutil.rmtree(target)
    return Verdict(mutant, killer, time.monotonic() - start, problem)


def _test(project: Path, names: Sequence[str]) -> tuple[int, str]:
    options = ("-q", "-x", "-rf", "--tb=no", "-p", "no:cacheprovider")
    done = _run(project, "-m", "pytest", *options, *names)
    return done.returncode, done.stdout + done.stderr


def _run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # The path comes before an installed package's, and children of the tests inherit it; without
    # a width, pytest cuts the names that it prints.
    environment = os.environ | {"PYTHONPATH": str(project), "COLUMNS": "400"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
