"""The examples in the core's docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import prefect_topaz

EDGE = {
    "blocks",
    "batch",
    "bridge",
    "cancellation",
    "demo",
    "flows",
    "hooks",
    "lookout",
    "reports",
    "runs",
    "steps",
}
EDGE |= {"settings", "settlement", "tasks"}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(prefect_topaz.__path__, "prefect_topaz.")
    if module.name.split(".")[1] not in EDGE and not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples_at_all() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) >= 10
