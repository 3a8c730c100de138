"""The operator's page: its examples and commands run as they stand, in the sandbox's world."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client

from prefect_topaz import (
    EvoLinkUpscaler,
    OutcomeUnknown,
    TopazError,
    errors,
    settle_upscales,
    upscale_video,
)
from prefect_topaz.sandbox import Sandbox, make_clip
from tests.prefect.documents import examples, run_bash, run_python, save_blocks
from tests.prefect.support import FAST, ROOT, Api, Process

PAGE = "docs/operations.md"
EXAMPLES = examples(PAGE)


@pytest.fixture
def lost(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lose the answers to three orders, and give their work keys."""
    monkeypatch.chdir(tmp_path)
    save_blocks(sandbox)
    # A listing that answers is asked three times in 20 seconds, which is not what is tested here.
    sandbox.fault("list", "refused", status=403, provider="evolink", times=100)
    keys = []
    for number in range(1, 4):
        source = make_clip(tmp_path / f"{number}.mp4", seconds=number / 5, size=(64, 36))
        sandbox.fault("submit", "cut")
        with pytest.raises(OutcomeUnknown) as caught:
            upscale_video(source, "upscaled/", EvoLinkUpscaler.load("twice"), **FAST)
        keys.append(str(caught.value.work_key))
    return keys


@pytest.fixture
def begin(
    deployed: dict[str, Any], api: Api, tmp_path: Path, sandbox: Sandbox
) -> Callable[[dict[str, Any]], str]:
    """Make runs of the settle deployment in a state of their own; give their ids."""
    block = {"$ref": {"block_document_id": save_blocks(sandbox)}}
    given = {"destination": f"{tmp_path}/upscaled/", "upscaler": block}
    path = f"deployments/{deployed['settle']['id']}/create_flow_run"
    return lambda state: str(api.post(path, parameters=given, state=state)["id"])


@pytest.fixture
def world(
    lost: list[str], begin: Callable[..., str], sandbox: Sandbox, clip: Path, tmp_path: Path
) -> dict[str, str]:
    """Make what the page takes for granted, and say what stands for what."""
    shutil.copy(clip, "clip.mp4")
    # Due tomorrow, so that no worker takes it before it is cancelled.
    due = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
    return {
        "https://example.com/clip.mp4": sandbox.host(clip),
        "/data/upscaled/": f"{tmp_path}/upscaled/",
        "deadline_seconds=1800": "deadline_seconds=0.01",
        "<block id>": save_blocks(sandbox),
        "<id of the ended run>": begin({"type": "CRASHED"}),
        "<flow run id>": begin({"type": "SCHEDULED", "state_details": {"scheduled_time": due}}),
        "<work key>": lost[0],
        "<job id>": sandbox.purchases()[0].job_id,
        "<second work key>": lost[1],
        "<third work key>": lost[2],
    }


@pytest.fixture
def no_automations_left(settings: None) -> Iterator[None]:
    """Other tests' runs are not to be run again by a server that is told to."""
    yield
    with get_client(sync_client=True) as client:
        for one in client.read_automations():
            if one.name.startswith("topaz: "):
                client.delete_automation(one.id)


@pytest.fixture
def printed(  # noqa: PLR0917  # fixtures
    world: dict[str, str],
    worker: Process,
    no_automations_left: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: dict[str, Any],
) -> list[str]:
    """Run every example in the order of the page, and give what each printed."""
    outputs = []
    for language, example in EXAMPLES:
        if language == "python":
            run_python(example, world, names)
            outputs.append(capsys.readouterr().out)
        else:
            folder = ROOT if "deployments/" in example else tmp_path
            outputs.append(run_bash(example, world, folder))
    return outputs


@pytest.fixture
def names() -> dict[str, Any]:
    """What the examples of the page have named by its end."""
    return {}


def test_the_examples_run_in_the_order_in_which_they_are_read(
    printed: list[str], names: dict[str, Any], lost: list[str], sandbox: Sandbox, api: Api
) -> None:
    said = {example: output for (_, example), output in zip(EXAMPLES, printed, strict=True)}

    def of(words: str) -> str:
        return next(output for example, output in said.items() if words in example)

    assert "runs on: the same call goes on with it" in of("StillRunning")
    undecided = [line.split()[:3] for line in of("for item in report.items").splitlines()]
    assert undecided == [["undecided", "maybe", key] for key in sorted(lost)]
    events = of("fs.glob").splitlines()
    assert {line.split()[0] for line in events} >= set(lost)
    assert of("automations.py").count("created: ") == 3
    upscaler = EvoLinkUpscaler.load("twice")
    report = settle_upscales("upscaled/", upscaler, journal="journals/upscaled/")
    ruled = {item.work_key: item.state for item in report.items}
    # The adopted job had ended: the settling that was told of it stored it, and none names it since.
    assert [ruled.get(key, "stored") for key in lost] == ["stored", "released", "given_up"]
    assert names["video"].cached
    oxen = sandbox.purchases("oxen")
    assert (len(oxen), len(sandbox.purchases("evolink"))) == (1, 4)


def test_the_page_names_every_error_with_what_it_means_for_the_money() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?) \| (.*?) \|", (ROOT / PAGE).read_text(), re.MULTILINE)
    told = {
        name: billed
        for cell, billed in rows
        for name in re.findall(r"`(\w+)`", cell)
        if hasattr(errors, name)
    }
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, TopazError)
    }
    assert set(told) == set(kinds) - {"TopazError", "Bought"}
    for name, billed in told.items():
        assert kinds[name].billed in billed
