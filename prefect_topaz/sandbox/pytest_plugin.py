"""A pytest fixture: `pytest_plugins = ["prefect_topaz.sandbox.pytest_plugin"]`."""

from collections.abc import Iterator

import pytest

from prefect_topaz.sandbox.server import Sandbox


@pytest.fixture
def topaz_sandbox() -> Iterator[Sandbox]:
    """Give a running sandbox whose jobs show their end at the first status read."""
    with Sandbox(reads=1) as sandbox:
        yield sandbox
