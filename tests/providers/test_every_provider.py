"""A provider is one file and one test file, found by their names."""

import importlib
import inspect

import pytest

from prefect_topaz.providers import Dialect, load, names
from tests.providers.contract import ProviderContract


def test_the_providers_are_the_files():
    assert names() == ("evolink", "oxen")


@pytest.mark.parametrize("name", names())
def test_every_provider_file_has_a_test_file_that_keeps_the_contract(name):
    module = importlib.import_module(f"tests.providers.test_{name}")
    suites = [
        one
        for _, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, ProviderContract) and one is not ProviderContract
    ]
    assert [suite.samples.dialect for suite in suites] == [load(name)]
    assert all(suite.__name__.startswith("Test") for suite in suites)


@pytest.mark.parametrize("name", names())
def test_a_provider_is_loaded_by_its_name(name):
    dialect = load(name)
    assert issubclass(dialect, Dialect)
    assert dialect.name == name
    assert dialect.poll_seconds > 0


@pytest.mark.parametrize("name", ["acme", "", "_base", "oxen.evil", "../oxen"])
def test_an_unknown_provider_is_named_with_those_that_there_are(name):
    with pytest.raises(ValueError, match="there are evolink, oxen"):
        load(name)
