"""What the tests of cancelling ask of the sandbox, the witness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect_topaz import submit_upscale
from prefect_topaz.sandbox import Sandbox


def deletes(sandbox: Sandbox) -> list[str]:
    """Give the jobs that somebody asked the provider to cancel."""
    return [one.path for one in sandbox.requests() if one.method == "DELETE"]


def reattaches(url: str, place: Path, upscaler: Any, sandbox: Sandbox) -> bool:
    """Tell whether the next run goes on with the job, and buys nothing."""
    job = submit_upscale.fn(url, upscaler, f"{place}/")
    return job.reattached and [one.job_id for one in sandbox.purchases()] == list(job.job_ids)
