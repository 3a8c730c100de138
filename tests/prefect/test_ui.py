"""What a person sees in the Prefect UI, and a run that starts there: a real browser looks."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, Route, async_playwright, expect

from prefect_topaz import aupscale_video
from tests.prefect.support import FAST, ROOT, Api, until

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SECONDS = 30_000  # milliseconds: the interface is a large application on a small machine


@pytest.fixture
def chromium() -> str:
    if CHROMIUM is None:
        # In CI the browser is part of the promise.
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("Chromium is not installed: apt-get install chromium")
    return str(CHROMIUM)


async def only_here(route: Route) -> None:
    """Let the browser reach this machine only; the logo is served as it is shipped."""
    url = route.request.url
    if urlsplit(url).hostname == "127.0.0.1":
        await route.continue_()
    elif url.endswith("/docs/logo.png"):
        await route.fulfill(path=ROOT / "docs" / "logo.png")
    else:
        await route.abort()


@pytest.fixture
async def page(chromium: str) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = await browser.new_page(viewport={"width": 1400, "height": 1400})
        page.set_default_timeout(SECONDS)
        await page.route("**/*", only_here)
        yield page
        await browser.close()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where the pictures go: TOPAZ_SCREENSHOTS, for those who want to look at them."""
    folder = Path(os.environ.get("TOPAZ_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def natural_width(page: Page, alt: str) -> int:
    """Wait for a picture, and give its width in pixels: 0 if the browser cannot show it."""
    picture = page.get_by_alt_text(alt)
    await expect(picture).to_be_visible(timeout=SECONDS)
    return int(await picture.evaluate("one => one.decode().then(() => one.naturalWidth, () => 0)"))


async def test_the_summary_shows_picture_cost_and_job(  # noqa: PLR0917  # fixtures
    page, server, oxen, sandbox, clip, tmp_path, api, screenshots
) -> None:
    state = await aupscale_video(sandbox.host(clip), tmp_path, oxen, **FAST, return_state=True)
    video = await state.aresult()
    run_id = state.state_details.flow_run_id
    summary = next(one for one in api.artifacts(run_id, "markdown") if "Cost" in one["data"])
    await page.goto(f"{server.url}/v2/artifacts/artifact/{summary['id']}")
    assert await natural_width(page, "before | after | difference") > 100
    for text in (video.job_id, "$0.0187 (charged)", "1920x1080", "(64x36)", video.sha256):
        await expect(page.get_by_text(text).first).to_be_visible(timeout=SECONDS)
    await page.screenshot(path=screenshots / "summary.png", full_page=True)


async def test_a_cached_run_says_so(  # noqa: PLR0917  # fixtures
    page, server, evolink, clip, tmp_path, screenshots
) -> None:
    await aupscale_video(clip, tmp_path, evolink, **FAST)
    state = await aupscale_video(clip, tmp_path, evolink, **FAST, return_state=True)
    await page.goto(f"{server.url}/v2/runs/flow-run/{state.state_details.flow_run_id}")
    await expect(page.get_by_text("Cached").first).to_be_visible(timeout=SECONDS)
    await page.screenshot(path=screenshots / "cached-run.png", full_page=True)


async def open_form(page: Page, url: str, deployment: dict[str, Any]) -> None:
    await page.goto(f"{url}/v2/deployments/deployment/{deployment['id']}/run")
    await expect(page.get_by_role("button", name="Submit")).to_be_visible(timeout=SECONDS)
    await expect(page.get_by_role("tab", name="OxenUpscaler")).to_be_visible(timeout=SECONDS)


@pytest.mark.parametrize("name", ["on-demand", "nightly"])
async def test_the_run_form_explains_itself(  # noqa: PLR0917  # fixtures
    name, page, server, deployed, oxen, evolink, screenshots
) -> None:
    await open_form(page, server.url, deployed[name])
    for field, schema in deployed[name]["parameter_openapi_schema"]["properties"].items():
        await expect(page.get_by_text(schema["description"])).to_be_visible(timeout=SECONDS)
        assert await page.get_by_text(field).count()
    assert await natural_width(page, "Oxen.ai Topaz Upscaler") == 200
    await page.screenshot(path=screenshots / f"form-{name}.png", full_page=True)
    await page.get_by_role("tab", name="EvoLinkUpscaler").click()
    await expect(page.get_by_text("A saved preset of an upscale at EvoLink.")).to_be_visible()
    assert await natural_width(page, "EvoLink Topaz Upscaler") == 200


def started(api: Api, name: str) -> str:
    """Wait for a run of that name, and give its id."""
    named = {"name": {"any_": [name]}}
    (run,) = until(lambda: api.post("flow_runs/filter", flow_runs=named), f"the run {name}")
    return str(run["id"])


async def test_a_run_started_from_the_form_completes_through_the_worker(  # noqa: PLR0917  # fixtures
    page, server, deployed, worker, evolink, sandbox, clip, tmp_path, api, screenshots
) -> None:
    name = f"from-form-{uuid.uuid4().hex[:8]}"
    await evolink.asave(name)
    await open_form(page, server.url, deployed["on-demand"])
    await page.get_by_label("Run Name").fill(name)
    source, destination = await page.locator("form textarea").all()
    await source.fill(str(clip))
    await destination.fill(f"{tmp_path}/out/")
    await page.get_by_role("tab", name="EvoLinkUpscaler").click()
    await page.get_by_role("button", name="Select a block").click()
    await page.get_by_role("option", name=name).click()
    await page.screenshot(path=screenshots / "form-filled.png", full_page=True)
    await page.get_by_role("button", name="Submit").click()

    ended = await asyncio.to_thread(api.ended, await asyncio.to_thread(started, api, name))
    assert ended["state_name"] == "Completed", worker.said
    assert (tmp_path / "out" / "clip-2x.mp4").stat().st_size > 0
    assert len(sandbox.purchases()) == 1
    await page.goto(f"{server.url}/v2/runs/flow-run/{ended['id']}?tab=Artifacts")
    await expect(page.get_by_text(f"Upscaled video {tmp_path}").first).to_be_visible(
        timeout=SECONDS
    )
    await page.screenshot(path=screenshots / "finished-run.png", full_page=True)
