"""`upscale_video.serve()`: Prefect hands a served flow to another process as a pickle."""

from __future__ import annotations

import subprocess
import sys

import cloudpickle
import pytest

from prefect_topaz import (
    OxenCredentials,
    OxenUpscaler,
    asettle_upscales,
    aupscale_video,
    aupscale_videos,
    settle_upscales,
    upscale_video,
    upscale_videos,
)

FLOWS = (
    upscale_video,
    aupscale_video,
    upscale_videos,
    aupscale_videos,
    settle_upscales,
    asettle_upscales,
)
CHILD = """
import sys, cloudpickle
for flow, parameters in cloudpickle.load(sys.stdin.buffer):
    flow.validate_parameters(parameters)
    print(flow.fn.__name__)
"""


@pytest.fixture(scope="module")
def validated() -> str:
    """Validate parameters in a process that has nothing but the pickles."""
    upscaler = OxenUpscaler(credentials=OxenCredentials(api_key="x"), resolution="1080p")
    given = {"source": "a.mp4", "sources": "a.mp4", "destination": "out/", "upscaler": upscaler}
    pickled = cloudpickle.dumps(
        [(one, {name: given[name] for name in one.parameters.required}) for one in FLOWS]
    )
    command = [sys.executable, "-c", CHILD]
    return subprocess.run(command, input=pickled, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("flow", FLOWS, ids=lambda one: one.fn.__name__)
def test_a_served_flow_knows_its_parameters_without_its_module(flow, validated) -> None:
    assert flow.fn.__name__ in validated.split()
