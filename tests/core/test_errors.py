"""The tree of errors: drawn, real, and the same after a pickle."""

import copy
import inspect
import pickle
import re

import cloudpickle
import pytest

from prefect_topaz import errors
from prefect_topaz.errors import InvalidRequest, JobFailed, StillRunning, TopazError

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TopazError) and kind.__module__ == errors.__name__
]
LINE = re.compile(r"^ {4}(?P<lines>[ │├└─]*)(?P<name>\w+) +(?P<billed>no|maybe|yes)\b")


def drawn():
    """Read the tree out of the module's docstring: name -> (parent, billed)."""
    tree, path = {}, []
    for text in errors.__doc__.splitlines():
        if found := LINE.match(text):
            depth = len(found["lines"]) // 4
            path[depth:] = [found["name"]]
            tree[found["name"]] = (path[depth - 1] if depth else None, found["billed"])
    return tree


def real():
    return {
        kind.__name__: (
            None if kind is TopazError else kind.__bases__[0].__name__,
            kind.billed,
        )
        for kind in KINDS
    }


def filled(kind):
    error = kind("it went wrong", job_id="job-1", work_key="abc", billed="maybe")
    error.retry_after = "7"
    return error


def test_the_drawn_tree_is_the_real_tree():
    assert drawn() == real()
    assert len(KINDS) > 20


def test_only_a_wrong_order_is_also_a_value_error():
    assert all(issubclass(kind, ValueError) == issubclass(kind, InvalidRequest) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_every_error_survives_pickling_with_all_it_knows(kind, pickler):
    error = filled(kind)
    read = pickler.loads(pickler.dumps(error))
    assert type(read) is kind
    assert str(read) == str(error)
    assert vars(read) == vars(error)
    assert read.args == error.args
    assert read.retry_after == "7"


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_copying(kind):
    assert vars(copy.copy(filled(kind))) == vars(filled(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_ends_with_what_it_means_for_the_money(kind):
    assert str(kind("it went wrong")) == f"it went wrong [billed: {kind.billed}]"


def test_a_case_may_know_the_money_better_than_its_kind():
    known = JobFailed("it ended", billed="no")
    assert (known.billed, JobFailed.billed) == ("no", "maybe")
    assert str(known).endswith("[billed: no]")


def test_a_pickle_does_not_freeze_the_money_of_the_kind():
    """What a later version of the class says must hold for an old pickle, unless it was told."""
    assert "billed" not in vars(pickle.loads(pickle.dumps(StillRunning("it runs"))))
