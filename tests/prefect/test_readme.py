"""The README's examples run as they stand; only the addresses of the world are the sandbox's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from prefect_topaz import EvoLinkUpscaler, OxenUpscaler, StoredVideo
from prefect_topaz.sandbox import Sandbox
from tests.fixtures_s3 import Bucket
from tests.prefect.documents import examples, run_python, save_blocks

EXAMPLES = [text for language, text in examples("README.md") if language == "python"]
TESTING = next(text for text in EXAMPLES if "pytest_plugins" in text)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(reads=1) as running:
        yield running


@pytest.fixture
def world(
    sandbox: Sandbox, clip: Path, s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Make what the README takes for granted, and say what stands for what."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "clip.mp4")
    Path("clips").mkdir()
    shutil.copy(clip, "clips/one.mp4")
    monkeypatch.setenv("OXEN_API_KEY", sandbox.api_key)
    monkeypatch.setenv("EVOLINK_API_KEY", sandbox.api_key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.options["secret"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.options["client_kwargs"]["endpoint_url"])
    S3FileSystem.clear_instance_cache()  # one made without these would still be handed out
    s3.fs.put_file(str(clip), f"{s3.url}/raw/clips/2026/clip.mp4")
    return {
        "https://example.com/clip.mp4": sandbox.host(clip),
        "s3://bucket": s3.url,
        "s3://raw": f"{s3.url}/raw",
        '"key": "..."': f'"key": "{s3.options["key"]}"',
        '"secret": "..."': f'"secret": "{s3.options["secret"]}"',
    }


def test_the_examples_run_in_the_order_in_which_they_are_read(
    world: dict[str, str], sandbox: Sandbox, s3: Bucket
) -> None:
    saving, *using = [text for text in EXAMPLES if text is not TESTING]
    names: dict[str, object] = {}
    exec(saving, names)
    assert OxenUpscaler.load("to-4k").resolution == "4k"
    assert EvoLinkUpscaler.load("twice").credentials.api_key.get_secret_value() == sandbox.api_key
    save_blocks(sandbox)  # with the sandbox's address, which the README does not speak of yet
    for example in using:
        run_python(example, world, names)
        if "upscale_videos" in example:
            assert names["report"].failed == ()

    assert names["report"].undecided == ()
    (video,) = names["videos"]
    assert isinstance(video, StoredVideo)
    assert Path("upscaled/clip-large.mp4").exists()
    assert Path("upscaled/raw/clip-2x.mp4").exists()
    assert s3.fs.exists(f"{s3.url}/upscaled/clip-2x.mp4.json")


def test_the_readers_own_test_passes_in_a_project_of_its_own(tmp_path: Path) -> None:
    conftest, _, test = TESTING.partition("# test_my_flow.py")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_my_flow.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
