"""The mutants fit the code as it is today; whether they are noticed is for `make mutants`."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.mutant import NotApplicable
from tests.mutants.mutants import MUTANTS

PACKAGE = Path(__file__).parents[2] / "prefect_topaz"


def copied(mutant, tmp_path):
    (tmp_path / mutant.file).parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(PACKAGE / mutant.file, tmp_path / mutant.file))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_code(mutant, tmp_path):
    file = copied(mutant, tmp_path)
    before = file.read_text()
    mutant.apply(tmp_path)
    assert file.read_text() != before


@pytest.mark.parametrize("old", ["text that nobody wrote", "def"])
def test_a_text_that_is_not_there_once_is_no_mutant(old, tmp_path):
    file = copied(MUTANTS[0], tmp_path)
    before = file.read_text()
    with pytest.raises(NotApplicable, match="times, not once"):
        replace(MUTANTS[0], edits=((old, "pass"),)).apply(tmp_path)
    assert file.read_text() == before


def test_a_mutant_that_is_no_python_is_no_mutant(tmp_path):
    copied(MUTANTS[0], tmp_path)
    (old, _), *_ = MUTANTS[0].edits
    with pytest.raises(NotApplicable, match="no Python"):
        replace(MUTANTS[0], edits=((old, "(("),)).apply(tmp_path)
