"""Run the examples of a document as they stand, in a world that is the sandbox's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_topaz import EvoLinkCredentials, EvoLinkUpscaler, OxenCredentials, OxenUpscaler
from prefect_topaz.sandbox import Sandbox
from tests.prefect.support import ROOT

_FENCE = re.compile(r"```(python|bash)\n(.*?)```", re.DOTALL)


def examples(name: str) -> list[tuple[str, str]]:
    """Give the examples of a document in order, each with its language."""
    return [(found[1], found[2]) for found in _FENCE.finditer((ROOT / name).read_text())]


def translated(example: str, world: Mapping[str, str]) -> str:
    """Put what the world has in the place of what the document says."""
    shown = re.compile("|".join(map(re.escape, world)))
    return shown.sub(lambda found: world[found.group()], example)


def run_python(example: str, world: Mapping[str, str], names: dict[str, Any]) -> None:
    exec(translated(example, world), names)


def run_bash(example: str, world: Mapping[str, str], folder: Path) -> str:
    """Run commands with this Python's programs, in a folder; give what they printed."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", translated(example, world)],
        cwd=folder,
        env=os.environ | {"PATH": programs},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def save_blocks(sandbox: Sandbox) -> str:
    """Save the blocks that the documents load, with the sandbox's address; give one's id."""
    oxen = OxenCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
    OxenUpscaler(credentials=oxen, resolution="1080p").save("to-4k", overwrite=True)
    evolink = EvoLinkCredentials(api_key=sandbox.api_key, base_url=sandbox.url)
    return str(EvoLinkUpscaler(credentials=evolink).save("twice", overwrite=True))
