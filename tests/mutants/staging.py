"""The mistakes around copies of sources, each with the tests that must notice it."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant


def _one(name: str, file: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(name, file, ((old, new),), (test,))


_COPIES: Final = "tests/engine/test_staged_copies.py::test_{}".format
_STAGING: Final = "tests/engine/test_staging.py::test_{}".format

STAGING: Final = (
    _one(
        "ordered with a copy that was given up for abandoned",
        "engine/staging.py",
        "return _decision(before) == _decision(now) and not touched",
        "return _decision(before) == _decision(now)",
        _COPIES("a_maker_that_was_given_up_for_gone_orders_nothing[repository]"),
    ),
    _one(
        "ordered although somebody else has ordered meanwhile",
        "engine/staging.py",
        "return _decision(before) == _decision(now) and not touched",
        "return not touched",
        _COPIES("the_loser_of_two_that_copied_removes_its_copy[repository]"),
    ),
    _one(
        "the copy of a running job is removed",
        "engine/copies.py",
        "return record.state in _ENDED or one.intent.attempt < record.attempt",
        "return True",
        _COPIES("the_copy_of_a_running_job_is_never_removed[repository]"),
    ),
    _one(
        "a private repository is ordered from",
        "engine/copying.py",
        "if not client.dialect.uploads_are_public and",
        "if client.dialect.uploads_are_public and",
        _STAGING("a_private_repository_is_refused_and_tidied"),
    ),
)
