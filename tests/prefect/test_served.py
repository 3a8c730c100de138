"""`upscale_video.serve()`: Prefect hands a served flow to another process as a pickle."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import cloudpickle
import pytest
from prefect import Flow

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
from tests.prefect.support import ROOT

# For the scripts, which import this module.
PATHS = {"PYTHONPATH": str(ROOT)}
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


# A script that serves its own flow: that flow has no module that the other process could import.
SCRIPT = """
if __name__ == "__main__":
    import sys
    from tests.prefect.test_served import pickled
    sys.stdout.buffer.write(pickled({}))
"""
UPSCALER = OxenUpscaler(credentials=OxenCredentials(api_key="x"), resolution="1080p")
GIVEN = {
    "source": "a.mp4",
    "sources": "a.mp4",
    "videos": "in/",
    "destination": "out/",
    "upscaler": UPSCALER,
}


def pickled(*flows: Flow[..., Any]) -> bytes:
    """Pickle flows as a runner does, each with the parameters that it requires."""
    given = [(one, {name: GIVEN[name] for name in one.parameters.required}) for one in flows]
    return cloudpickle.dumps(given)


def validate(pickles: bytes) -> list[str]:
    """Validate parameters in a process that has nothing but the pickles; name the flows."""
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, input=pickles, capture_output=True, check=True)
    return done.stdout.decode().split()


@pytest.fixture(scope="module")
def validated() -> list[str]:
    return validate(pickled(*FLOWS))


@pytest.mark.parametrize("flow", FLOWS, ids=lambda one: one.fn.__name__)
def test_a_served_flow_knows_its_parameters_without_its_module(flow, validated) -> None:
    assert flow.fn.__name__ in validated


@pytest.mark.parametrize("name", ["settle", "upscale", "upscale_folder"])
def test_a_copied_flow_can_be_served_from_its_own_script(name, tmp_path) -> None:
    script = tmp_path / "mine.py"
    script.write_text((ROOT / "flows" / f"{name}.py").read_text() + SCRIPT.format(name))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, check=True, env=os.environ | PATHS
    )
    assert validate(done.stdout) == [name]
