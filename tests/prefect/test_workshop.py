"""The tests' own server: apart from the user's Prefect, and gone without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from tests.prefect.support import HOME, Process, Server, group_lives


def test_nothing_touches_the_users_own_prefect(server: Server) -> None:
    code = """
import json
from prefect.settings import get_current_settings as now
print(json.dumps([str(now().home), now().api.url]))
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    here = get_current_settings()
    for home, url in (json.loads(child.stdout), (str(here.home), here.api.url)):
        assert (home, url) == (str(HOME), server.api_url)
    assert Path("~/.prefect").expanduser() != HOME
    assert "PREFECT_PROFILE" not in os.environ


def test_a_process_ends_with_its_test(tmp_path: Path) -> None:
    with Process("sleep", "60", log=tmp_path / "log") as quiet:
        quiet.assert_alive()
    assert not group_lives(quiet.process.pid)


def test_a_process_that_leaves_another_one_behind_is_found_out(tmp_path: Path) -> None:
    script = "sleep 60 & echo started; wait"
    process = Process("sh", "-c", f"trap 'exit 0' TERM; {script}", log=tmp_path / "log")
    process.__enter__()
    while "started" not in process.said:
        process.assert_alive()
    with pytest.raises(AssertionError, match="left processes behind"):
        process.__exit__()
    assert not group_lives(process.process.pid)
