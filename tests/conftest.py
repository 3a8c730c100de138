"""What every folder of tests may use. Free of Prefect, so that the core's tests stay light."""

import pytest

pytest_plugins = ["tests.fixtures_s3"]


@pytest.fixture(autouse=True)
def cache_of_its_own(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Keep what tests remember of files out of the user's cache; browsers are found in there."""
    if request.node.get_closest_marker("browser") is None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
