"""Upscale a clip end to end against an embedded sandbox: no account, no key, no money.

`python -m prefect_topaz.demo --help` lists the options; `make demo` runs it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import cyclopts

from prefect_topaz.errors import TopazError
from prefect_topaz.media import NotAVideo, probe
from prefect_topaz.sandbox import Sandbox, SandboxClient, make_clip

if TYPE_CHECKING:
    from prefect_topaz.blocks import AnyUpscaler
    from prefect_topaz.models import StoredVideo

app = cyclopts.App(name="python -m prefect_topaz.demo", help=__doc__)


@app.default
def demo(
    *,
    source: Path | None = None,
    provider: Literal["oxen", "evolink"] = "oxen",
    destination: Path = Path("demo"),
    sandbox: str | None = None,
    api_key: str = "sandbox-key",
) -> None:
    """Upscale a clip and say what came of it.

    Args:
        source: A video of yours; without one, a clip with motion and sound is made.
        provider: Whose API to talk to.
        destination: Folder for the result.
        sandbox: Address of a sandbox that runs already; without one, one is started.
        api_key: The sandbox's key.
    """
    folder = destination.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _use_embedded_server(folder)
    clip = _checked(source.absolute()) if source else _own_clip(folder)
    say(f"Source      {clip}")
    running = Sandbox(api_key=api_key) if sandbox is None else nullcontext(SandboxClient(sandbox))
    with running as server:
        say(f"Sandbox     {server.url} stands in for {provider}: nothing is charged")
        try:
            video = _upscale(clip, folder, _upscaler(provider, server.url, api_key), server)
        except TopazError as error:
            sys.exit(f"The demo failed: {error}")
        _tell(video, len(server.purchases(provider)))
    _tell_ui(folder)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _use_embedded_server(folder: Path) -> None:
    """Keep the demo's runs apart from the user's own, before Prefect is imported."""
    assert "prefect" not in sys.modules
    os.environ["PREFECT_HOME"] = str(folder / ".prefect")
    os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
    os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        os.environ.pop(name, None)


def _checked(clip: Path) -> Path:
    """Refuse what is no video at once: a failing run would bury the reason in tracebacks."""
    try:
        probe(clip)
    except (OSError, NotAVideo) as error:
        sys.exit(f"The source {clip} cannot be used: {error}")
    return clip


def _own_clip(folder: Path) -> Path:
    clip = folder / "clip.mp4"
    return clip if clip.exists() else make_clip(clip)


def _upscaler(provider: str, url: str, key: str) -> AnyUpscaler:
    from prefect_topaz import EvoLinkCredentials, EvoLinkUpscaler, OxenCredentials, OxenUpscaler

    if provider == "oxen":
        return OxenUpscaler(credentials=OxenCredentials(api_key=key, base_url=url))
    return EvoLinkUpscaler(credentials=EvoLinkCredentials(api_key=key, base_url=url))


def _upscale(
    clip: Path, folder: Path, upscaler: AnyUpscaler, server: Sandbox | SandboxClient
) -> StoredVideo:
    from prefect_topaz import upscale_video

    # EvoLink takes uploads; Oxen.ai reads URLs only, so the sandbox serves the clip for it.
    source = str(clip) if "evolink" in upscaler.order().provider else server.host(clip, clip.name)
    state: Any = upscale_video(
        source,
        f"{folder}/",
        upscaler,
        source_version=_digest(clip),
        poll_seconds=1.0,
        return_state=True,
    )
    _let_the_server_finish(state.state_details.flow_run_id)
    video: StoredVideo = state.result()
    say(f"Run         ended as {state.name}")
    return video


def _digest(clip: Path) -> str:
    """Name the content: the sandbox serves it from another port each time."""
    digest = hashlib.sha256()
    with clip.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _let_the_server_finish(flow_run_id: UUID) -> None:
    """Wait until the embedded server has recorded the task runs: at exit it drops what it has not."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(100):
            runs = client.read_task_runs(flow_run_filter=this_run)
            if runs and all(run.state and run.state.is_final() for run in runs):
                return
            time.sleep(0.1)


def _tell(video: StoredVideo, purchases: int) -> None:
    from prefect_topaz.models import Receipt

    receipt = Receipt.model_validate_json(Path(video.receipt_url).read_bytes())
    media = receipt.source.media
    before = f"{media.width}x{media.height}" if media else "unknown"
    say(f"Upscaled    {video.url}")
    say(f"Frame size  {before} before, {video.width}x{video.height} after")
    cost = f"${video.cost.estimate}" if video.cost.estimate is not None else "unknown"
    say(f"Real cost   {cost} ({video.cost.basis})")
    say(f"Preview     {video.preview_url or 'none'} (before | after | difference)")
    say(f"Receipt     {video.receipt_url}")
    say(f"Bought      {purchases} in this sandbox's ledger" + (", now: 0" if video.cached else ""))
    for warning in video.warnings:
        say(f"Warning     {warning}")


def _tell_ui(folder: Path) -> None:
    say("See the run in the Prefect UI at http://127.0.0.1:4200 with:")
    prefect = Path(sys.executable).with_name("prefect")
    home = shlex.quote(str(folder / ".prefect"))
    say(f"            PREFECT_HOME={home} {shlex.quote(str(prefect))} server start")


if __name__ == "__main__":
    app()
