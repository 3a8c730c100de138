"""What every folder of tests may use. Free of Prefect, so that the core's tests stay light."""

pytest_plugins = ["tests.fixtures_s3"]
